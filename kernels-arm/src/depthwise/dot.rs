//! Depthwise convolution of int8 with the dot product.
//!
//! Eight channels at a time. Each input column under the output row is turned once: its rows, four at a time, are zipped
//! into words of one channel, kept in a small buffer on the stack, and used by every output that covers the column.
//!
//! ```text
//! rows        r0: a b c d ..   r1: a b c d ..   r2: a b c d ..   r3 (or zeros)
//! column      a:r0..3 b:r0..3 c:r0..3 d:r0..3 | e:r0..3 f:.. g:.. h:..        one dot product a tap column and half
//! weights     the same turn of the kernel's rows, once a row and 8 channels
//! ```
//!
//! The 3x3 kernel with neighbouring columns, where eight channels exist and the last step is a plain one, needs no
//! buffer: the three columns of an output stay in registers, and the next output turns but one (or two, of stride 2) of
//! them. With stride 1, two output rows share columns of four rows, with weights r0 r1 r2 - and - r0 r1 r2: half the turns.
//!
//! Columns outside the picture are the turned pad, so borders are no special case. Dropped taps are zero weights: there
//! is no saving from them here, since the dot product takes a whole column of the kernel.

use crate::finish::{Factor, Range, Requant, Slow, is_plain};
use crate::simd::*;
use core::arch::aarch64::*;
use sparrow_kernels::depthwise::{InputRow, Row, RowMicro};
use sparrow_kernels::{Call, ConvParams, DType};

/// Most rows of a kernel, in groups of four.
const GROUPS: usize = 2;
/// Most columns of a kernel.
const WIDTH: usize = 8;
/// Turned columns, of up to four rows, there is room for.
const COLUMNS: usize = 64;
/// Outputs made at once.
const OUTS: usize = 4;

/// A turned column of four rows: channels 0 to 3 and 4 to 7.
type Turned = [int8x16_t; 2];

/// Nothing, turned.
// SAFETY: sixteen zero bytes are a vector.
const ZERO: Turned = unsafe { core::mem::transmute([0u8; 32]) };
// SAFETY: as above.
const ZERO_ROW: int8x8_t = unsafe { core::mem::transmute([0u8; 8]) };

/// Whether the kernel is small enough.
pub fn fits(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    let reach = (p.kw as usize - 1) * p.dil_w as usize + 1;
    p.kh as usize <= 4 * GROUPS && p.kw as usize <= WIDTH && reach <= COLUMNS / GROUPS
}

/// The kernel, dense or with dropped taps.
pub struct Dot<const SPARSE: bool>;

impl<const SPARSE: bool> RowMicro for Dot<SPARSE> {
    unsafe fn prepare(row: &Row) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { Range::new(row.bias.cast(), row.scale, row.channels, row.kh * row.kw, &row.epilogue) as u32 }
    }

    const ROWS: usize = 2;

    unsafe fn row(row: &Row) {
        // SAFETY: the caller's promise.
        unsafe { if SPARSE { sparse(row) } else { dense(row) } }
    }
}

/// Whether the last step is a plain one and the kernel one that [`Sliding::pair`] and [`Sliding::slide`] make.
fn slides(row: &Row) -> bool {
    is_plain(&row.epilogue, DType::I8, !row.residual.is_null())
        && (row.kh, row.kw, row.dil_w) == (3, 3, 1)
        && row.stride_w <= 2
        && Range::from_hint(row.hint) != Range::Any
}

/// # Safety
/// As [`RowMicro::row`].
unsafe fn dense(row: &Row) {
    // SAFETY: the caller's promise.
    unsafe {
        if slides(row) && row.stride_w == 1 {
            return channels(row, 0);
        }
        (0..row.rows).for_each(|n| channels(&row.one(n), 0));
    }
}

/// Channels `first..`, a multiple of eight.
///
/// # Safety
/// As [`RowMicro::row`]; it is one row, or one whose pairs [`Sliding::pair`] makes.
#[inline(never)]
unsafe fn channels(row: &Row, mut first: usize) {
    // SAFETY: the caller's promise. Each range is a copy of the code with its choices made.
    unsafe {
        if slides(row) {
            let whole = row.channels - row.channels % 8;
            match (row.stride_w, Range::from_hint(row.hint)) {
                (1, Range::Relu) => eights::<true>(row, first..whole, Range::Relu),
                (1, Range::Whole) => eights::<true>(row, first..whole, Range::Whole),
                (1, _) => eights::<true>(row, first..whole, Range::Tiny),
                (_, Range::Relu) => eights::<false>(row, first..whole, Range::Relu),
                (_, Range::Whole) => eights::<false>(row, first..whole, Range::Whole),
                (_, _) => eights::<false>(row, first..whole, Range::Tiny),
            }
            first = whole;
        }
        // The last few channels go row by row.
        if first < row.channels {
            (0..row.rows).for_each(|n| windows(&row.one(n), first));
        }
    }
}

/// Channels of a row that [slides], a multiple of eight of them.
///
/// # Safety
/// As [`channels`].
#[inline(always)]
unsafe fn eights<const PAIR: bool>(row: &Row, channels: core::ops::Range<usize>, range: Range) {
    for channel in channels.step_by(8) {
        let sliding = Sliding { row, channel, weights: weights(row, channel) };
        // SAFETY: the caller's promise; eight channels exist.
        unsafe { if PAIR { sliding.pair(range) } else { sliding.slide(range) } }
    }
}

/// Channels `first..`, a multiple of eight, of any row.
///
/// # Safety
/// As [`RowMicro::row`]; it is one row.
#[inline(never)]
unsafe fn windows(row: &Row, first: usize) {
    let mut room = Room { kernel: [[ZERO; GROUPS]; WIDTH], columns: [ZERO; COLUMNS] };
    for channel in (first..row.channels).step_by(8) {
        // SAFETY: the channel and its weights exist.
        unsafe { Eight { row, channel, weights: weights(row, channel), room: &mut room }.run() };
    }
}

/// The weights of a channel, a multiple of eight: all taps, 16 bytes from one to the next.
#[inline(always)]
fn weights(row: &Row, channel: usize) -> *const u8 {
    row.weights.wrapping_add(channel / 16 * row.kh * row.kw * 16 + channel % 16)
}

/// The row, a block of 16 channels after the other as a dense one, since dropped taps save nothing.
///
/// # Safety
/// As [`RowMicro::row`].
unsafe fn sparse(row: &Row) {
    let (mut weights, mut positions) = (row.weights, row.positions);
    for channel in (0..row.channels).step_by(16) {
        let mut taps = [[0i8; 16]; 4 * GROUPS * WIDTH];
        // SAFETY: the block exists, with its count, positions, weights, and vectors padded to 16 channels.
        unsafe {
            let kept = usize::from(*row.counts.add(channel / 16));
            for &tap in core::slice::from_raw_parts(positions, kept) {
                taps[usize::from(tap)] = weights.cast::<[i8; 16]>().read();
                weights = weights.add(16);
            }
            positions = positions.add(kept);
            let inputs: [InputRow; Dot::<true>::ROWS * 4 * GROUPS] = core::array::from_fn(|i| {
                let input = *row.inputs.add(i.min(row.rows * row.kh - 1));
                InputRow { start: input.start.add(channel), ..input }
            });
            let size = DType::ALL[row.epilogue.output as usize].size();
            let vector = |from: *const f32| if from.is_null() { from } else { from.add(channel) };
            dense(&Row {
                inputs: inputs.as_ptr(),
                pad: row.pad.add(channel),
                y: row.y.add(channel * size),
                residual: if row.residual.is_null() { row.residual } else { row.residual.add(channel * size) },
                weights: taps.as_ptr().cast(),
                bias: row.bias.add(4 * channel),
                scale: vector(row.scale),
                slopes: vector(row.slopes),
                channels: (row.channels - channel).min(16),
                ..*row
            });
        }
    }
}

/// Room for eight channels of a row.
struct Room {
    /// The turned weights: `[kx][group]`.
    kernel: [[Turned; GROUPS]; WIDTH],
    /// The turned columns: `[column][groups of the kernel]`.
    columns: [Turned; COLUMNS],
}

/// Turns four rows.
#[inline(always)]
fn turn(rows: [int8x8_t; 4]) -> Turned {
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe {
        let wide = rows.map(|row| vcombine_s8(row, vdup_n_s8(0)));
        let (even, odd) = (vzip1q_s8(wide[0], wide[1]), vzip1q_s8(wide[2], wide[3]));
        let (even, odd) = (vreinterpretq_s16_s8(even), vreinterpretq_s16_s8(odd));
        [vreinterpretq_s8_s16(vzip1q_s16(even, odd)), vreinterpretq_s8_s16(vzip2q_s16(even, odd))]
    }
}

/// Turns the first `count` channels of four rows, the columns of each some bytes apart, into every `groups`th place of `to`.
///
/// # Safety
/// The columns have these channels.
#[inline(never)]
unsafe fn turn_few(rows: [(*const u8, usize); 4], count: usize, to: &mut [Turned], groups: usize) {
    for (i, to) in to.iter_mut().step_by(groups).enumerate() {
        // SAFETY: the caller's promise.
        let load = |(x, step): (*const u8, usize)| unsafe { vget_low_u8(load_bytes(x.add(i * step), count)) };
        // SAFETY: NEON is part of every 64-bit Arm.
        *to = turn(rows.map(|row| unsafe { vreinterpret_s8_u8(load(row)) }));
    }
}

/// Eight channels of a row that [`slides`].
struct Sliding<'a> {
    row: &'a Row,
    channel: usize,
    /// Of these channels.
    weights: *const u8,
}

impl Sliding<'_> {
    /// The turned weights of each column.
    #[inline(always)]
    fn weights(&self) -> [Turned; 3] {
        // SAFETY: there are nine taps.
        let tap = |tap: usize| unsafe { vld1_s8(self.weights.add(16 * tap).cast()) };
        core::array::from_fn(|kx| turn([tap(kx), tap(3 + kx), tap(6 + kx), ZERO_ROW]))
    }

    /// The row of a 3x3 kernel with stride 1, or two rows. Columns stay where they are, and their names take turns.
    ///
    /// # Safety
    /// As [`RowMicro::row`]; eight channels exist and the row [`slides`].
    #[inline(always)]
    unsafe fn pair(&self, range: Range) {
        let row = self.row;
        // SAFETY: NEON is part of every 64-bit Arm. One row on.
        let next = |v: int8x16_t| unsafe { vreinterpretq_s8_s32(vshlq_n_s32::<8>(vreinterpretq_s32_s8(v))) };
        let [left, middle, right] = self.weights();
        let both = |[low, high]: Turned| [[low, high], [next(low), next(high)]];
        let weights = [both(left), both(middle), both(right)];
        // SAFETY: there are three input rows for each output row; columns below `in_w` and the outputs exist, with eight
        // channels.
        unsafe {
            let last = Last::new(row, self.channel, range);
            let inputs = core::array::from_fn(|ky| *row.inputs.add(if ky < 3 { ky } else { row.rows * 3 - 1 }));
            let mut input = Columns::<4>::new(row, inputs, self.channel);
            let (mut a, mut b) = (input.next::<false>(), input.next::<false>());
            // A row without a neighbour is one for itself, which is stored first.
            let (mut y, next) = (row.y.add(self.channel), (row.rows - 1) * row.y_row);
            macro_rules! output {
                ($a:expr, $b:expr, $c:expr) => {
                    let mut sums = [last.begin(), last.begin()];
                    for (weights, column) in weights.iter().zip([$a, $b, $c]) {
                        for (sums, weights) in sums.iter_mut().zip(weights) {
                            *sums = [sdot(sums[0], weights[0], column[0]), sdot(sums[1], weights[1], column[1])];
                        }
                    }
                    let codes = [last.codes(sums[0]), last.codes(sums[1])];
                    vst1_s8(y.wrapping_add(next).cast(), codes[1]);
                    vst1_s8(y.cast(), codes[0]);
                    y = y.wrapping_add(row.y_step);
                };
            }
            // A pad wider than the kernel: outputs whose last column is left of the picture.
            let before = usize::try_from(-input.at).unwrap_or(0).min(row.out_w);
            for _ in 0..before {
                let c = input.next::<false>();
                output!(a, b, c);
                (a, b) = (b, c);
            }
            // Then those whose last column is in the picture.
            let inside = usize::try_from(row.in_w as isize - input.at).unwrap_or(0).min(row.out_w - before);
            if inside > 0 {
                let mut left = inside;
                (a, b) = loop {
                    let c = input.next::<true>();
                    output!(a, b, c);
                    if left == 1 {
                        break (b, c);
                    }
                    a = input.next::<true>();
                    output!(b, c, a);
                    if left == 2 {
                        break (c, a);
                    }
                    b = input.next::<true>();
                    output!(c, a, b);
                    if left == 3 {
                        break (a, b);
                    }
                    left -= 3;
                };
            }
            for _ in before + inside..row.out_w {
                let c = input.next::<false>();
                output!(a, b, c);
                (a, b) = (b, c);
            }
        }
    }

    /// The row of a 3x3 kernel with stride 2, two outputs at a time, so that their instructions need not wait for one another.
    ///
    /// # Safety
    /// As [`Self::pair`]; it is one row.
    #[inline(always)]
    unsafe fn slide(&self, range: Range) {
        let (row, weights) = (self.row, self.weights());
        // SAFETY: as in `pair`.
        unsafe {
            let last = Last::new(row, self.channel, range);
            let inputs = core::array::from_fn(|ky| *row.inputs.add(ky));
            let mut input = Columns::<3>::new(row, inputs, self.channel);
            let mut columns = [ZERO; 5];
            columns[4] = input.next::<false>();
            let (mut y, mut left) = (row.y.add(self.channel), row.out_w);
            loop {
                // Two outputs take five columns, the next two begin with the last of them.
                columns[0] = columns[4];
                macro_rules! two {
                    ($inside:literal) => {
                        for column in &mut columns[1..] {
                            *column = input.next::<$inside>();
                        }
                    };
                }
                if input.inside(4) {
                    two!(true);
                } else {
                    two!(false);
                }
                let mut sums = [last.begin(), last.begin()];
                for (kx, weights) in weights.iter().enumerate() {
                    for (out, sums) in sums.iter_mut().enumerate() {
                        let column = columns[2 * out + kx];
                        *sums = [sdot(sums[0], weights[0], column[0]), sdot(sums[1], weights[1], column[1])];
                    }
                }
                let codes = [last.codes(sums[0]), last.codes(sums[1])];
                // The second of an odd number goes where the first will.
                vst1_s8(y.wrapping_add(usize::from(left > 1) * row.y_step).cast(), codes[1]);
                vst1_s8(y.cast(), codes[0]);
                if left <= 2 {
                    return;
                }
                y = y.wrapping_add(2 * row.y_step);
                left -= 2;
            }
        }
    }
}

/// Eight channels (or the last few) of a row.
struct Eight<'a> {
    row: &'a Row,
    channel: usize,
    /// Of these channels, as [`weights`] says.
    weights: *const u8,
    room: &'a mut Room,
}

/// The columns of `R` rows, eight channels of them.
struct Columns<const R: usize> {
    /// The next column.
    x: [*const u8; R],
    step: [usize; R],
    pad: *const u8,
    /// Its place in the picture.
    at: isize,
    in_w: usize,
}

impl<const R: usize> Columns<R> {
    /// From the first window's first.
    ///
    /// # Safety
    /// The channel exists.
    #[inline(always)]
    unsafe fn new(row: &Row, inputs: [InputRow; R], channel: usize) -> Self {
        let at = row.pad_left.wrapping_neg();
        Self {
            x: inputs.map(|row| row.start.wrapping_add(channel).wrapping_offset(at.wrapping_mul(row.step as isize))),
            step: inputs.map(|row| row.step),
            pad: row.pad.wrapping_add(channel),
            at,
            in_w: row.in_w,
        }
    }

    /// Whether the next `count` columns are in the picture.
    #[inline(always)]
    fn inside(&self, count: usize) -> bool {
        self.at >= 0 && self.at as usize + count <= self.in_w
    }

    /// The next column, turned; the pad outside the picture. `INSIDE`: it is in the picture.
    ///
    /// # Safety
    /// Columns below `in_w` have eight channels from this one on, and so has the pad.
    #[inline(always)]
    unsafe fn next<const INSIDE: bool>(&mut self) -> Turned {
        let inside = INSIDE || (self.at as usize) < self.in_w;
        let mut rows = [ZERO_ROW; 4];
        for ky in 0..R {
            // SAFETY: the caller's promise.
            rows[ky] = unsafe { vld1_s8((if inside { self.x[ky] } else { self.pad }).cast()) };
            self.x[ky] = self.x[ky].wrapping_add(self.step[ky]);
        }
        self.at += 1;
        turn(rows)
    }
}

/// The last step of eight channels.
struct Last {
    bias: [int32x4_t; 2],
    by: [float32x4_t; 2],
    less: [float32x4_t; 2],
    requant: Requant,
}

impl Last {
    /// # Safety
    /// The channel exists: per-channel vectors are padded to 16 channels.
    #[inline(always)]
    unsafe fn new(row: &Row, channel: usize, range: Range) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (bias, scale) = (row.bias.cast::<i32>().add(channel), row.scale.add(channel));
            let by = [vld1q_f32(scale), vld1q_f32(scale.add(4))];
            Self {
                bias: [range.begin(vld1q_s32(bias)), range.begin(vld1q_s32(bias.add(4)))],
                by,
                less: by.map(Factor::less),
                requant: Requant::new(&row.epilogue, range),
            }
        }
    }

    /// What the sums of an output begin with.
    #[inline(always)]
    fn begin(&self) -> [int32x4_t; 2] {
        [again(&self.bias[0]), again(&self.bias[1])]
    }

    /// Its codes.
    #[inline(always)]
    fn codes(&self, sums: [int32x4_t; 2]) -> int8x8_t {
        let factor = |v: usize| Factor { by: self.by[v], less: again(&self.less[v]) };
        self.requant.codes8(sums, [factor(0), factor(1)])
    }
}

/// Height, width and column distance of a kernel: constants if `K` is its side, else the row's.
#[inline(always)]
fn kernel_size<const K: usize>(row: &Row) -> (usize, usize, usize) {
    if K == 0 { (row.kh, row.kw, row.dil_w) } else { (K, K, 1) }
}

impl Eight<'_> {
    /// These channels of the row.
    ///
    /// # Safety
    /// As [`RowMicro::row`]; the channel exists and the weights are its, padded to 16 channels.
    #[inline(always)]
    unsafe fn run(self) {
        let weights = self.weights;
        // SAFETY: the caller's promise.
        let tap = |tap: usize| unsafe { vld1_s8(weights.add(16 * tap).cast()) };
        let row = self.row;
        match (row.kh, row.kw, row.dil_w) {
            (3, 3, 1) => self.windows::<3>(tap),
            (5, 5, 1) => self.windows::<5>(tap),
            _ => self.windows::<0>(tap),
        }
    }

    /// The row, as many outputs at a time as the room has columns for.
    #[inline(always)]
    fn windows<const K: usize>(mut self, tap: impl Fn(usize) -> int8x8_t) {
        let row = self.row;
        let (kh, kw, dil) = kernel_size::<K>(row);
        let groups = kh.div_ceil(4);
        for (kx, column) in self.room.kernel.iter_mut().enumerate().take(kw) {
            for (group, turned) in column.iter_mut().enumerate().take(groups) {
                let at = |i: usize| if 4 * group + i < kh { tap((4 * group + i) * kw + kx) } else { ZERO_ROW };
                *turned = turn([at(0), at(1), at(2), at(3)]);
            }
        }
        let reach = (kw - 1) * dil + 1;
        let most = (COLUMNS / groups - reach) / row.stride_w + 1;
        let mut first = 0;
        while first < row.out_w {
            let outs = most.min(row.out_w - first);
            let start = (first * row.stride_w) as isize - row.pad_left;
            // SAFETY: the channels and the outputs exist; the room holds the columns of `outs` outputs.
            unsafe {
                self.turn_columns::<K>(start, (outs - 1) * row.stride_w + reach);
                self.outputs::<K>(first, outs);
            }
            first += outs;
        }
    }

    /// Turns `count` columns from `start` on.
    ///
    /// # Safety
    /// There is room for them.
    #[inline(always)]
    unsafe fn turn_columns<const K: usize>(&mut self, start: isize, count: usize) {
        let groups = kernel_size::<K>(self.row).0.div_ceil(4);
        // Columns left of the picture, inside it, and right of it.
        let left = usize::try_from(-start).unwrap_or(0).min(count);
        let inside = usize::try_from(self.row.in_w as isize - start).unwrap_or(0).clamp(left, count);
        // SAFETY: the pad has as many channels, rounded up to 16; pixels below `in_w` exist.
        unsafe {
            let pad = turn([vld1_s8(self.row.pad.add(self.channel).cast()); 4]);
            let columns = self.room.columns.as_mut_ptr();
            (0..left * groups).chain(inside * groups..count * groups).for_each(|i| *columns.add(i) = pad);
            for group in 0..groups {
                let first = start.wrapping_add(left as isize) as usize;
                self.turn_group::<K>(
                    group,
                    first,
                    core::slice::from_raw_parts_mut(columns.add(left * groups), (inside - left) * groups),
                );
            }
        }
    }

    /// Turns rows `4 * group..` of the columns from picture column `first` on into every `groups`th place of `to`.
    ///
    /// # Safety
    /// The columns exist.
    #[inline(always)]
    unsafe fn turn_group<const K: usize>(&self, group: usize, first: usize, to: &mut [Turned]) {
        let row = self.row;
        let kh = kernel_size::<K>(row).0;
        let groups = kh.div_ceil(4);
        // A row past the kernel meets zero weights: the group's first one stands in.
        let rows: [_; 4] = core::array::from_fn(|i| {
            let ky = if 4 * group + i < kh { 4 * group + i } else { 4 * group };
            // SAFETY: the kernel row exists.
            let input = unsafe { *row.inputs.add(ky) };
            (input.start.wrapping_add(first * input.step + self.channel), input.step)
        });
        let count = (row.channels - self.channel).min(8);
        let to = to.get_mut(group..).unwrap_or(&mut []);
        if count < 8 {
            // SAFETY: pixel and channels exist.
            return unsafe { turn_few(rows, count, to, groups) };
        }
        let mut x = rows;
        for to in to.iter_mut().step_by(groups) {
            // SAFETY: pixel and channels exist.
            *to = turn(x.map(|(x, _)| unsafe { vld1_s8(x.cast()) }));
            x = x.map(|(x, step)| (x.wrapping_add(step), step));
        }
    }

    /// Makes `count` outputs from `first` on, whose columns are in the room from the first on.
    ///
    /// # Safety
    /// The outputs exist.
    #[inline(always)]
    unsafe fn outputs<const K: usize>(&self, first: usize, count: usize) {
        let row = self.row;
        let plain = is_plain(&row.epilogue, DType::I8, !row.residual.is_null()) && row.channels - self.channel >= 8;
        // SAFETY: the caller's promise. Each range is a copy of the code with its choices made.
        unsafe {
            match (plain, Range::from_hint(row.hint)) {
                (true, Range::Relu) => self.store::<K>(first, count, Range::Relu),
                (true, Range::Tiny | Range::Whole) => self.store::<K>(first, count, Range::Tiny),
                (true, _) => self.store::<K>(first, count, Range::Any),
                (false, _) => self.store_slow::<K>(first, count),
            }
        }
    }

    /// The sums of `OUTS` outputs from the `at`th in the room on.
    ///
    /// # Safety
    /// Their columns are in the room; the CPU has dotprod.
    #[inline(always)]
    unsafe fn sums<const K: usize, const OUTS: usize>(
        &self,
        bias: [int32x4_t; 2],
        at: usize,
    ) -> [[int32x4_t; 2]; OUTS] {
        let (kh, kw, dil) = kernel_size::<K>(self.row);
        let groups = kh.div_ceil(4);
        let mut sums = [bias; OUTS];
        for kx in 0..kw {
            for group in 0..groups {
                // SAFETY: column and weights are there.
                unsafe {
                    let weights = *self.room.kernel.get_unchecked(kx).get_unchecked(group);
                    for (out, sums) in sums.iter_mut().enumerate() {
                        let column = *self
                            .room
                            .columns
                            .get_unchecked(((at + out) * self.row.stride_w + kx * dil) * groups + group);
                        *sums = [sdot(sums[0], weights[0], column[0]), sdot(sums[1], weights[1], column[1])];
                    }
                }
            }
        }
        sums
    }

    /// # Safety
    /// As [`Eight::outputs`]; there are eight channels.
    #[inline(always)]
    unsafe fn store<const K: usize>(&self, first: usize, count: usize, range: Range) {
        let row = self.row;
        let requant = Requant::new(&row.epilogue, range);
        // SAFETY: bias and factors are padded to 16 channels; the outputs have 8 channels.
        unsafe {
            let (bias, scale) = (row.bias.cast::<i32>().add(self.channel), row.scale.add(self.channel));
            let bias = [range.begin(vld1q_s32(bias)), range.begin(vld1q_s32(bias.add(4)))];
            let factors = [vld1q_f32(scale), vld1q_f32(scale.add(4))].map(|by| Factor { by, less: Factor::less(by) });
            let y = row.y.add(first * row.y_step + self.channel);
            let put = |i: usize, sums| vst1_s8(y.add(i * row.y_step).cast(), requant.codes8(sums, factors));
            for i in (0..count / OUTS * OUTS).step_by(OUTS) {
                for (out, sums) in self.sums::<K, OUTS>(bias, i).into_iter().enumerate() {
                    put(i + out, sums);
                }
            }
            for i in count / OUTS * OUTS..count {
                put(i, self.sums::<K, 1>(bias, i)[0]);
            }
        }
    }

    /// # Safety
    /// As [`Eight::outputs`].
    #[inline(never)]
    unsafe fn store_slow<const K: usize>(&self, first: usize, count: usize) {
        // SAFETY: the bias is padded to 16 channels; pixels and channels exist.
        unsafe {
            let bias = self.row.bias.cast::<i32>().add(self.channel);
            let bias = [vld1q_s32(bias), vld1q_s32(bias.add(4))];
            for i in 0..count {
                put_slow(self.row, self.channel, first + i, &self.sums::<K, 1>(bias, i)[0]);
            }
        }
    }
}

/// Finishes up to eight channels of an output that is no plain one.
///
/// # Safety
/// Pixel and channel exist.
pub unsafe fn put_slow(row: &Row, channel: usize, ox: usize, sums: &[int32x4_t; 2]) {
    let size = DType::ALL[row.epilogue.output as usize].size();
    let vector = |values: *const f32| if values.is_null() { values } else { values.wrapping_add(channel) };
    let residual = if row.residual.is_null() {
        row.residual
    } else {
        row.residual.wrapping_add(ox * row.residual_step + channel * size)
    };
    let slow = Slow { epilogue: &row.epilogue, slopes: vector(row.slopes), channels: (row.channels - channel).min(8) };
    // SAFETY: the caller's promise.
    unsafe {
        slow.pixel_i32(sums.as_ptr().cast(), vector(row.scale), residual, row.y.add(ox * row.y_step + channel * size))
    };
}
