//! Depthwise convolutions of any size, stride, dilation, and with dropped taps.
//!
//! A few channels of a few neighbouring outputs are computed at a time. Where each tap's input starts and how far it
//! moves from an output pixel to the next is written down once a row, so the inner loop is a walk over taps that loads
//! one vector of weights and one input an output. Dense kernels of 3 and 5 columns with a stride of 1 or 2 go row by row
//! instead and load each input column once for all the outputs it serves:
//!
//! ```text
//! stride 1, 3 columns:   columns  0 1 2 3 4 5      outputs 0: 0 1 2   1: 1 2 3   2: 2 3 4   3: 3 4 5
//! ```
//!
//! int8 takes taps in pairs, one above the other where there are rows for it: the bytes of both are interleaved and
//! widened, and one product of 16-bit pairs sums them.
//!
//! Dense f32 goes along the channels first, since pixels are often a power of two apart and a walk along the row would
//! keep evicting its own cache lines. int8 goes along the row first, so that weights are interleaved and widened once a
//! row; sparse kernels too, since their taps differ from one block of channels to the next.

use crate::epilogue::{Common, Last};
use crate::half;
use crate::simd::{load, multiply_add, store};
use crate::{ISA, isa};
use core::arch::wasm32::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use sparrow_kernels::conv::MAX_TAPS;
use sparrow_kernels::depthwise::{Row, RowMicro, accepts, drive, units};
use sparrow_kernels::{DType, Features, Kernel, Layout, Op};

/// How taps are multiplied and added, `CHANNELS` at a time.
trait Arithmetic {
    /// Bytes of an input element and of a weight.
    const ELEMENT: usize;
    /// Taps of a step, 1 or 2.
    const TAPS: usize;
    /// Channels walked together, 4 or 8.
    const CHANNELS: usize;
    /// Bytes from a step's weights to the next's.
    const STEP: usize;
    /// Sums are i32.
    const INTEGER: bool;
    /// `CHANNELS` sums, or weights, or inputs.
    type Vector: Copy;
    /// `CHANNELS` sums or inputs in memory.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn sums(p: *const u8) -> Self::Vector;
    /// The weights of a step.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn weights(p: *const u8) -> Self::Vector;
    /// `CHANNELS` elements at the places of a step's taps.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn inputs(p: [*const u8; 2]) -> Self::Vector;
    /// `sum + w * x`, summed over the taps.
    fn step(sum: Self::Vector, w: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// The sums, 4 a vector.
    fn quads(sums: &Self::Vector) -> &[v128];
}

struct Float;

impl Arithmetic for Float {
    const ELEMENT: usize = 4;
    const TAPS: usize = 1;
    const CHANNELS: usize = 4;
    const STEP: usize = 64;
    const INTEGER: bool = false;
    type Vector = v128;
    #[inline(always)]
    unsafe fn sums(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p) }
    }
    #[inline(always)]
    unsafe fn inputs(p: [*const u8; 2]) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p[0]) }
    }
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        multiply_add(w, x, sum)
    }
    #[inline(always)]
    fn quads(sums: &v128) -> &[v128] {
        core::slice::from_ref(sums)
    }
}

struct Half;

impl Arithmetic for Half {
    const ELEMENT: usize = 2;
    const TAPS: usize = 1;
    const CHANNELS: usize = 4;
    const STEP: usize = 32;
    const INTEGER: bool = false;
    type Vector = v128;
    #[inline(always)]
    unsafe fn sums(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p) }
    }
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { half::load4(p) }
    }
    #[inline(always)]
    unsafe fn inputs(p: [*const u8; 2]) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { half::load4(p[0]) }
    }
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        multiply_add(w, x, sum)
    }
    #[inline(always)]
    fn quads(sums: &v128) -> &[v128] {
        core::slice::from_ref(sums)
    }
}

struct Int8;

impl Arithmetic for Int8 {
    const ELEMENT: usize = 1;
    const TAPS: usize = 2;
    const CHANNELS: usize = 8;
    const STEP: usize = 32;
    const INTEGER: bool = true;
    type Vector = [v128; 2];
    #[inline(always)]
    unsafe fn sums(p: *const u8) -> [v128; 2] {
        // SAFETY: the caller's promise.
        unsafe { [load(p), load(p.add(16))] }
    }
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> [v128; 2] {
        // SAFETY: the caller's promise.
        unsafe { [load(p), load(p.add(16))] }
    }
    #[inline(always)]
    unsafe fn inputs(p: [*const u8; 2]) -> [v128; 2] {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (v128_load64_zero(p[0].cast()), v128_load64_zero(p[1].cast())) };
        let pairs = i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
        [i16x8_extend_low_i8x16(pairs), i16x8_extend_high_i8x16(pairs)]
    }
    #[inline(always)]
    fn step(sum: [v128; 2], w: [v128; 2], x: [v128; 2]) -> [v128; 2] {
        [i32x4_add(sum[0], i32x4_dot_i16x8(w[0], x[0])), i32x4_add(sum[1], i32x4_dot_i16x8(w[1], x[1]))]
    }
    #[inline(always)]
    fn quads(sums: &[v128; 2]) -> &[v128] {
        sums
    }
}

/// Where a tap reads for output pixel 0, which may lie outside the picture.
#[derive(Clone, Copy)]
struct Tap {
    start: *const u8,
    /// Bytes from an output pixel to the next.
    advance: usize,
    /// Input pixel.
    left: isize,
}

/// One or two taps, and which of the packed taps their weights are.
#[derive(Clone, Copy)]
struct Step {
    taps: [Tap; 2],
    first: usize,
    /// `None`: the second tap is the first again, with weights of zero.
    second: Option<usize>,
}

/// The steps of a row, `0..len`.
struct Steps {
    steps: [MaybeUninit<Step>; MAX_TAPS],
    len: usize,
}

impl Steps {
    fn push(&mut self, row: &Row, (first, a): (usize, usize), second: Option<(usize, usize)>) {
        let taps = [Self::tap(row, a), Self::tap(row, second.map_or(a, |(_, b)| b))];
        self.steps[self.len].write(Step { taps, first, second: second.map(|(n, _)| n) });
        self.len += 1;
    }

    /// Where tap number `tap` of the kernel reads.
    fn tap(row: &Row, tap: usize) -> Tap {
        let (ky, kx) = (tap / row.kw, tap % row.kw);
        // SAFETY: the row has `kh` inputs.
        let input = unsafe { *row.inputs.add(ky) };
        let left = (kx * row.dil_w) as isize - row.pad_left;
        let start = input.start.wrapping_offset(left * input.step as isize);
        Tap { start, advance: row.stride_w * input.step, left }
    }

    /// All taps; pairs lie one above the other.
    fn dense<A: Arithmetic>(&mut self, row: &Row) {
        self.len = 0;
        for ky in (0..row.kh).step_by(A::TAPS) {
            for tap in ky * row.kw..(ky + 1) * row.kw {
                let below = (A::TAPS == 2 && ky + 1 < row.kh).then_some((tap + row.kw, tap + row.kw));
                self.push(row, (tap, tap), below);
            }
        }
    }

    /// The kept taps; pairs as they come.
    ///
    /// # Safety
    /// `positions` has `kept` taps of the row.
    unsafe fn kept<A: Arithmetic>(&mut self, row: &Row, positions: *const u16, kept: usize) {
        self.len = 0;
        // SAFETY: below `kept`.
        let tap = |n: usize| (n, usize::from(unsafe { *positions.add(n) }));
        for n in (0..kept).step_by(A::TAPS) {
            self.push(row, tap(n), (A::TAPS == 2 && n + 1 < kept).then(|| tap(n + 1)));
        }
    }

    fn all(&self) -> &[Step] {
        // SAFETY: the first `len` are written.
        unsafe { &*(&raw const self.steps[..self.len] as *const [Step]) }
    }
}

/// Interleaved and widened weights of `len` steps for 8 channels, as `Int8::inputs` would load them.
///
/// # Safety
/// `weights` has the steps' taps; `packed` room for all.
unsafe fn widen(steps: &[Step], weights: *const u8, packed: *mut u8) {
    for (n, step) in steps.iter().enumerate() {
        // SAFETY: each tap has 16 weights, of which these are 8.
        unsafe {
            let second = step.second.map_or((&raw const ZERO).cast(), |tap| weights.add(tap * 16));
            let [low, high] = Int8::inputs([weights.add(step.first * 16), second]);
            store(packed.add(n * Int8::STEP), low);
            store(packed.add(n * Int8::STEP + 16), high);
        }
    }
}

/// Weights of a second tap that is not there.
static ZERO: [u8; 8] = [0; 8];

/// Where the steps of single outputs read, at channel 0, `len` entries an output.
struct Places {
    places: [MaybeUninit<[*const u8; 2]>; PLACES],
    len: usize,
}

/// Room for these: 4 outputs of the greatest kernel.
const PLACES: usize = 4 * MAX_TAPS;

impl Places {
    /// Writes down where output `ox` reads, as entry number `slot`.
    fn fill(&mut self, row: &Row, steps: &[Step], ox: usize, slot: usize) {
        self.len = steps.len();
        for (place, step) in self.places[slot * self.len..].iter_mut().zip(steps) {
            place.write(step.taps.map(|tap| {
                let outside = (ox * row.stride_w).wrapping_add_signed(tap.left) >= row.in_w;
                if outside { row.pad } else { tap.start.wrapping_add(ox * tap.advance) }
            }));
        }
    }

    /// Entry number `slot`.
    fn of(&self, slot: usize) -> *const [*const u8; 2] {
        self.places[slot * self.len..].as_ptr().cast()
    }
}

/// The kernel; `SPARSE` walks kept taps.
struct Depthwise<A, const SPARSE: bool>(PhantomData<A>);

impl<A: Arithmetic, const SPARSE: bool> RowMicro for Depthwise<A, SPARSE> {
    unsafe fn row(row: &Row) {
        let mut steps = Steps { steps: [MaybeUninit::uninit(); MAX_TAPS], len: 0 };
        let mut places = Places { places: [MaybeUninit::uninit(); PLACES], len: 0 };
        if !SPARSE {
            steps.dense::<A>(row);
        }
        let common = if A::INTEGER { Common::new::<true>(&row.epilogue) } else { Common::new::<false>(&row.epilogue) };
        let pieces = Pieces::new::<A, SPARSE>(row);
        // SAFETY: as this function's; the parts are the row's.
        unsafe {
            if A::INTEGER || SPARSE {
                Self::along_row(row, &common, &pieces, &mut steps, &mut places);
            } else {
                Self::along_channels(row, &common, &pieces, steps.all(), &mut places);
            }
        }
    }
}

/// How a row is cut.
struct Pieces {
    /// Outputs of a full piece.
    outputs: usize,
    /// Outputs in full pieces: all their taps lie inside the picture.
    full: Range<usize>,
    out_w: usize,
}

impl Pieces {
    fn new<A: Arithmetic, const SPARSE: bool>(row: &Row) -> Self {
        let columns = !SPARSE && row.dil_w == 1 && [3, 5].contains(&row.kw) && row.stride_w <= 2;
        let outputs = if columns && (A::INTEGER || row.kw + row.stride_w == 7) { 2 } else { 4 };
        let interior = row.interior();
        let end = interior.start + interior.len() / outputs * outputs;
        Self { outputs, full: interior.start..end, out_w: row.out_w }
    }

    /// The outputs that are computed one by one.
    fn singles(&self) -> impl Iterator<Item = usize> {
        (0..self.full.start).chain(self.full.end..self.out_w)
    }

    /// The first outputs of the full pieces.
    fn fulls(&self) -> impl Iterator<Item = usize> {
        self.full.clone().step_by(self.outputs)
    }
}

impl<A: Arithmetic, const SPARSE: bool> Depthwise<A, SPARSE> {
    /// All outputs of a few channels, then of the next.
    ///
    /// # Safety
    /// As [`RowMicro::row`].
    unsafe fn along_row(row: &Row, common: &Option<Common>, pieces: &Pieces, steps: &mut Steps, places: &mut Places) {
        let mut widened = MaybeUninit::<[[u8; 32]; MAX_TAPS]>::uninit();
        let (mut weights, mut positions) = (row.weights, row.positions);
        for block in 0..row.channels.div_ceil(16) {
            let mut kept = row.kh * row.kw;
            if SPARSE {
                // SAFETY: sparse rows have a count per block, and as many positions.
                unsafe {
                    kept = usize::from(*row.counts.add(block));
                    steps.kept::<A>(row, positions, kept);
                    positions = positions.add(kept);
                }
            }
            let cached = pieces.singles().count() * steps.len <= PLACES;
            if cached && (SPARSE || block == 0) {
                pieces.singles().enumerate().for_each(|(slot, ox)| places.fill(row, steps.all(), ox, slot));
            }
            for c0 in (block * 16..row.channels.min(block * 16 + 16)).step_by(A::CHANNELS) {
                // SAFETY: weights are padded to 16 channels; there is room for every step's widened weights.
                let channels = unsafe {
                    let mut first = weights.add((c0 - block * 16) * A::ELEMENT);
                    if A::INTEGER {
                        widen(steps.all(), first, widened.as_mut_ptr().cast());
                        first = widened.as_ptr().cast();
                    }
                    Channels::<A>::new(row, steps.all(), c0, first, common)
                };
                for (slot, ox) in pieces.singles().enumerate() {
                    if !cached {
                        places.fill(row, steps.all(), ox, 0);
                    }
                    // SAFETY: the output and its places exist.
                    unsafe { channels.single(ox, places.of(if cached { slot } else { 0 })) };
                }
                // SAFETY: the pieces are the row's.
                unsafe { channels.fulls::<SPARSE>(pieces, places) };
            }
            // SAFETY: one block on.
            weights = unsafe { weights.add(kept * 16 * A::ELEMENT) };
        }
    }

    /// All channels of a piece, then of the next.
    ///
    /// # Safety
    /// As [`RowMicro::row`].
    unsafe fn along_channels(row: &Row, common: &Option<Common>, pieces: &Pieces, steps: &[Step], places: &mut Places) {
        let taps = row.kh * row.kw;
        let channels = |c0: usize| {
            let weights = row.weights.wrapping_add((c0 / 16 * taps * 16 + c0 % 16) * A::ELEMENT);
            // SAFETY: the channels exist.
            unsafe { Channels::<A>::new(row, steps, c0, weights, common) }
        };
        for ox in pieces.singles() {
            places.fill(row, steps, ox, 0);
            for c0 in (0..row.channels).step_by(A::CHANNELS) {
                // SAFETY: the output and its places exist.
                unsafe { channels(c0).single(ox, places.of(0)) };
            }
        }
        for ox in pieces.fulls() {
            let piece = Pieces { full: ox..ox + pieces.outputs, ..*pieces };
            for c0 in (0..row.channels).step_by(A::CHANNELS) {
                // SAFETY: the piece is the row's.
                unsafe { channels(c0).fulls::<SPARSE>(&piece, places) };
            }
        }
    }
}

/// What is the same for a few channels all along the row.
struct Channels<'a, A: Arithmetic> {
    row: &'a Row,
    steps: &'a [Step],
    /// First channel.
    c0: usize,
    /// Channels that exist, 1..=A::CHANNELS.
    count: usize,
    /// Weights of these channels' first step; `A::STEP` bytes to the next.
    weights: *const u8,
    bias: A::Vector,
    /// Bytes of an output element.
    element: usize,
    /// The last step, if it is the common one and all channels exist.
    common: Option<&'a Common>,
}

impl<'a, A: Arithmetic> Channels<'a, A> {
    /// # Safety
    /// The row has channel `c0`; `weights` are of the steps from there.
    #[inline(always)]
    unsafe fn new(row: &'a Row, steps: &'a [Step], c0: usize, weights: *const u8, common: &'a Option<Common>) -> Self {
        let count = (row.channels - c0).min(A::CHANNELS);
        let element = DType::ALL[row.epilogue.output as usize].size();
        // SAFETY: the bias is padded to 16 channels.
        let bias = unsafe { A::sums(row.bias.add(c0 * 4)) };
        let common = if count == A::CHANNELS { common.as_ref() } else { None };
        Self { row, steps, c0, count, weights, bias, element, common }
    }

    /// Outputs in full pieces.
    ///
    /// # Safety
    /// The pieces are the row's.
    #[inline(always)]
    unsafe fn fulls<const SPARSE: bool>(&self, pieces: &Pieces, places: &mut Places) {
        let row = self.row;
        if self.count < A::CHANNELS {
            for ox in pieces.full.clone() {
                places.fill(row, self.steps, ox, 0);
                // SAFETY: the output exists.
                unsafe { self.single(ox, places.of(0)) };
            }
            return;
        }
        let (from, to) = (pieces.full.start, pieces.full.end);
        // SAFETY: full pieces lie in the interior, and are as long as `Pieces` says.
        unsafe {
            match (SPARSE || row.dil_w != 1, row.kw, row.stride_w, A::INTEGER) {
                (false, 3, 1, true) => self.columns::<3, 1, 2, 4>(from, to),
                (false, 3, 2, true) => self.columns::<3, 2, 2, 5>(from, to),
                (false, 5, 1, true) => self.columns::<5, 1, 2, 6>(from, to),
                (false, 5, 2, _) => self.columns::<5, 2, 2, 7>(from, to),
                (false, 3, 1, false) => self.columns::<3, 1, 4, 6>(from, to),
                (false, 3, 2, false) => self.columns::<3, 2, 4, 9>(from, to),
                (false, 5, 1, false) => self.columns::<5, 1, 4, 8>(from, to),
                _ => (from..to).step_by(4).for_each(|ox| self.outputs(ox)),
            }
        }
    }

    /// Where a tap inside the picture reads for an output.
    #[inline(always)]
    fn address(&self, tap: &Tap, ox: usize) -> *const u8 {
        tap.start.wrapping_add(ox * tap.advance + self.c0 * A::ELEMENT)
    }

    /// 4 neighbouring outputs from `ox`, step by step.
    ///
    /// # Safety
    /// The outputs lie in the interior; all channels exist.
    #[inline(always)]
    unsafe fn outputs(&self, ox: usize) {
        let mut sums = [self.bias; 4];
        let mut weights = self.weights;
        for step in self.steps {
            let [a, b] = &step.taps;
            let mut p = [self.address(a, ox), self.address(b, ox)];
            // SAFETY: the taps lie inside the picture.
            unsafe {
                let w = A::weights(weights);
                for sum in &mut sums {
                    *sum = A::step(*sum, w, A::inputs(p));
                    p = [p[0].wrapping_add(a.advance), p[1].wrapping_add(b.advance)];
                }
                weights = weights.add(A::STEP);
            }
        }
        // SAFETY: the outputs exist.
        unsafe { self.finish(ox, &sums) };
    }

    /// Output `ox`, whose steps read at `places`.
    ///
    /// # Safety
    /// The output exists; `places` has an entry for each step.
    #[inline(always)]
    unsafe fn single(&self, ox: usize, mut places: *const [*const u8; 2]) {
        let mut sums = self.bias;
        let mut weights = self.weights;
        for _ in 0..self.steps.len() {
            // SAFETY: the caller's promise.
            unsafe {
                let p = (*places).map(|place| place.add(self.c0 * A::ELEMENT));
                let x = if self.count < A::CHANNELS { self.part(p) } else { A::inputs(p) };
                sums = A::step(sums, A::weights(weights), x);
                weights = weights.add(A::STEP);
                places = places.add(1);
            }
        }
        // SAFETY: the output exists.
        unsafe { self.output(ox, sums) };
    }

    /// Loads the channels that exist.
    #[cold]
    unsafe fn part(&self, p: [*const u8; 2]) -> A::Vector {
        let mut elements = [[0u8; 16]; 2];
        for (to, from) in elements.iter_mut().zip(p) {
            // SAFETY: these channels are readable.
            unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), self.count * A::ELEMENT) };
        }
        // SAFETY: 16 bytes each.
        unsafe { A::inputs([elements[0].as_ptr(), elements[1].as_ptr()]) }
    }

    /// Outputs `from..to`, `O` at a time, row by row of the kernel; `COLUMNS = (O - 1) * STRIDE + KW`.
    ///
    /// # Safety
    /// The outputs lie in the interior and are a multiple of `O`; the kernel is dense, has `KW` columns, this stride and no dilation; all channels
    /// exist.
    #[inline(always)]
    unsafe fn columns<const KW: usize, const STRIDE: usize, const O: usize, const COLUMNS: usize>(
        &self,
        from: usize,
        to: usize,
    ) {
        for ox in (from..to).step_by(O) {
            let mut sums = [self.bias; O];
            let mut weights = self.weights;
            let mut first = 0;
            while first < self.steps.len() {
                // SAFETY: the kernel's rows have `KW` steps each; the columns lie inside the picture.
                unsafe {
                    let [a, b] = &self.steps.get_unchecked(first).taps;
                    let mut p = [self.address(a, ox), self.address(b, ox)];
                    let w: [A::Vector; KW] = core::array::from_fn(|kx| A::weights(weights.add(kx * A::STEP)));
                    for column in 0..COLUMNS {
                        let x = A::inputs(p);
                        p = [p[0].wrapping_add(a.advance / STRIDE), p[1].wrapping_add(b.advance / STRIDE)];
                        for (o, sum) in sums.iter_mut().enumerate() {
                            if column >= o * STRIDE && column - o * STRIDE < KW {
                                *sum = A::step(*sum, w[column - o * STRIDE], x);
                            }
                        }
                    }
                    weights = weights.add(KW * A::STEP);
                }
                first += KW;
            }
            // SAFETY: the outputs exist.
            unsafe { self.finish(ox, &sums) };
        }
    }

    /// Ends and writes outputs.
    #[inline(always)]
    unsafe fn finish<const O: usize>(&self, ox: usize, sums: &[A::Vector; O]) {
        // Written out: of a loop, the compiler keeps the sums in memory.
        // SAFETY: the outputs exist.
        unsafe {
            self.output(ox, sums[0]);
            if O > 1 {
                self.output(ox + 1, sums[1 % O]);
            }
            if O > 2 {
                self.output(ox + 2, sums[2 % O]);
                self.output(ox + 3, sums[3 % O]);
            }
        }
    }

    /// Ends and writes one output.
    ///
    /// # Safety
    /// Output pixel and channels exist.
    #[inline(always)]
    unsafe fn output(&self, ox: usize, sums: A::Vector) {
        let (row, c0) = (self.row, self.c0);
        let (scale, slopes) = (row.scale.wrapping_add(c0), row.slopes.wrapping_add(c0));
        let y = row.y.wrapping_add(ox * row.y_step + c0 * self.element);
        let mut residual = row.residual;
        if !residual.is_null() {
            residual = residual.wrapping_add(ox * row.residual_step + c0 * self.element);
        }
        // SAFETY: output pixel and channels exist.
        unsafe {
            match (self.common, A::INTEGER) {
                (Some(common), true) => common.row::<true>(A::quads(&sums), scale, residual, y),
                (Some(common), false) => common.row::<false>(A::quads(&sums), scale, residual, y),
                (None, integer) => {
                    // A copy, or the compiler would keep the sums themselves in memory.
                    let copy = sums;
                    let last = Last { scale, slopes, residual, y, channels: self.count, integer };
                    last.row(A::quads(&copy), &row.epilogue);
                }
            }
        }
    }
}

macro_rules! kernel {
    ($name:expr, $requires:expr, $layout:ident, $arithmetic:ty, $sparse:literal) => {
        Kernel {
            name: $name,
            op: Op::Depthwise,
            requires: $requires,
            accepts: |call| accepts(call, Layout::$layout),
            units,
            run: drive::<Depthwise<$arithmetic, $sparse>>,
        }
    };
}

/// The depthwise convolutions of this module.
pub const CATALOGUE: &[Kernel] = &[
    kernel!(isa!("depthwise_f32"), ISA, DepthwiseF32, Float, false),
    kernel!(isa!("spdepthwise_f32"), ISA, SparseDepthwiseF32, Float, true),
    kernel!(isa!("depthwise_f16"), ISA, DepthwiseF16, Half, false),
    kernel!(isa!("spdepthwise_f16"), ISA, SparseDepthwiseF16, Half, true),
    kernel!("depthwise_i8_simd128", Features::SIMD128, DepthwiseI8, Int8, false),
    kernel!("spdepthwise_i8_simd128", Features::SIMD128, SparseDepthwiseI8, Int8, true),
];
