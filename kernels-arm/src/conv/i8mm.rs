//! int8 convolution with SMMLA: 2 x 8 by 8 x 2 products an instruction, twice SDOT's.
//!
//! Weights are packed for SDOT, 4 channels of 4 positions a vector. Zipping the words of two neighbouring units makes
//! SMMLA's operand, and joining 8 bytes of two pixels makes the other:
//!
//! ```text
//! unit u      c0:k0..3  c1:k0..3  c2:k0..3  c3:k0..3      zip1 -> c0:k0..7  c1:k0..7
//! unit u+1    c0:k4..7  c1:k4..7  c2:k4..7  c3:k4..7      zip2 -> c2:k0..7  c3:k0..7
//! pixels p, q p:k0..7 p:k8..15, q:k0..7 q:k8..15          zip1 -> p:k0..7   q:k0..7
//! sums        p:c0  p:c1  q:c0  q:c1
//! ```
//!
//! Zips take the same pipes as products, so weights are zipped once a unit, into a buffer on the stack that stays in L1, and
//! a tile is many pixels, which use them two pairs at a time: their 16 vectors of sums leave registers for the operands, and
//! 8 products of each of 4 pixels by 16 channels take 16 SMMLA and 2 zips, where SDOT takes 32. (With three pairs the compiler
//! keeps sums in memory.) The last pixels of a tile, if they are no such group, are one with some before them, once more, or go
//! one at a time to SDOT, as a tile of one pixel does. Sums stay in SMMLA's order until they are bytes. Pixels at one distance
//! are one tile, however many, without addresses: [`Line`].
//!
//! Kept units of a sparse block are paired too, and three pairs of pixels share them, since they leave fewer registers
//! occupied. Two that lie within 16 bytes are *near*: one table look-up joins those of two pixels. What is left over is
//! paired as it comes, *far*, and gathered word by word; one that is left over alone is near itself. A tap's near pairs come
//! first. Seven pixels at the end are four and four, not six and one: one alone does without SMMLA.

use super::joined;
use super::number::{I8Dot, Shared, is_quick, prepare_i8, shared_i8, slow_i8};
use super::{LINE_TAPS, few, lone};
use crate::finish::{Range, Requant};
use crate::simd::{again, load_words, own, smmla};
use core::arch::aarch64::*;
use core::mem::MaybeUninit;
use sparrow_kernels::Call;
use sparrow_kernels::conv::{Input, Line, Micro, Tile, weight_shape};

/// Pixels of a tile, or a few less: divides pictures of 14, 28, 56, .. pixels a side, or nearly.
const MOST: usize = 112;
/// Pairs of units there is room for: 40 KiB.
const ROOM: usize = 256;

/// The weights of a pair of units, zipped, and where a sparse block's pair lies in a run.
#[derive(Clone, Copy)]
#[repr(C)]
struct Pair {
    weights: [int32x4_t; 8],
    /// What takes the units of two pixels out of their 16 bytes, if they are near.
    table: uint8x16_t,
    /// Bytes from the start of the run to each unit; or, if they are near, to the 16 bytes.
    at: [usize; 2],
}

/// The pairs of a panel or block.
struct Pairs {
    pairs: [MaybeUninit<Pair>; ROOM],
    /// How many of each tap's are near.
    near: [MaybeUninit<u16>; ROOM],
}

impl Pairs {
    #[inline(always)]
    fn new() -> Self {
        Self { pairs: [const { MaybeUninit::uninit() }; ROOM], near: [const { MaybeUninit::uninit() }; ROOM] }
    }
}

/// Whether the zipped weights of sixteen channels fit the room.
pub fn fits(call: &Call) -> bool {
    let shape = weight_shape(call.op, call.params());
    shape.taps * shape.kc.div_ceil(8) <= ROOM
}

/// The tile of one panel or block, dense or sparse, the sums of `PAIRS` pairs of pixels at a time in registers.
pub struct Matrix<const PAIRS: usize, const SPARSE: bool>;

impl<const PAIRS: usize, const SPARSE: bool> Micro for Matrix<PAIRS, SPARSE> {
    const ROWS: usize = MOST / (2 * PAIRS) * (2 * PAIRS);
    const PANELS: usize = 1;
    const STEP: usize = 2;

    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { prepare_i8(tile, 4) }
    }

    fn takes_lines(tile: &Tile) -> bool {
        tile.rows > 1 && tile.taps <= LINE_TAPS && is_quick(tile)
    }

    #[inline(always)]
    unsafe fn lines(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Line>) {
        let mut pairs = Pairs::new();
        let mut first = next(tile);
        let Some(line) = first else { return };
        let joined = !SPARSE && joined::takes(tile, &line);
        let mut next = |tile: &mut Tile| first.take().or_else(|| next(tile));
        // SAFETY: the caller's promise; `fits` has accepted the call.
        unsafe {
            Self::zip(tile, &mut pairs, joined);
            if joined {
                let mut next = |tile: &mut Tile| next(tile).map(|line| Places::joined(line));
                Self::pixels::<true>(tile, &pairs, Kind::Joined, &mut next);
            } else {
                Self::pixels::<false>(tile, &pairs, Kind::Line, &mut |tile| next(tile).map(Places::new));
            }
        }
    }

    #[inline(always)]
    unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
        let (mut pairs, mut zipped) = (Pairs::new(), false);
        while next(tile).is_some() {
            // SAFETY: the caller's promise; `fits` has accepted the call.
            unsafe {
                match tile.rows {
                    1 => lone::<I8Dot, 4, SPARSE>(tile, Self::ROWS),
                    _ => {
                        if !core::mem::replace(&mut zipped, true) {
                            Self::zip(tile, &mut pairs, false);
                        }
                        let mut listed = Some(Places::new(Line::NONE));
                        Self::pixels::<false>(tile, &pairs, Kind::Listed, &mut |_| listed.take());
                    }
                }
            }
        }
    }
}

impl<const PAIRS: usize, const SPARSE: bool> Matrix<PAIRS, SPARSE> {
    /// Zips the weights of a unit.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the weights fit the room.
    #[inline(always)]
    unsafe fn zip(tile: &Tile, pairs: &mut Pairs, joined: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match (SPARSE, joined) {
                (true, _) => zip_kept(tile, pairs),
                (false, true) => {
                    zip_units(joined::weights(tile).as_ptr().cast(), joined::UNITS, pairs.pairs.as_mut_ptr().cast());
                }
                (false, false) => zip_all(tile, pairs),
            }
        }
    }

    /// The pixels of tiles, or of lines: `next` says where they are.
    ///
    /// # Safety
    /// As [`Micro::tile`]; `pairs` are the unit's.
    #[inline(never)]
    unsafe fn pixels<const JOINED: bool>(
        tile: &mut Tile,
        pairs: &Pairs,
        kind: Kind,
        next: &mut dyn FnMut(&mut Tile) -> Option<Places>,
    ) {
        // Joined lines have a copy of their own.
        let kind = match (JOINED, kind) {
            (true, _) => Kind::Joined,
            (false, Kind::Listed) => Kind::Listed,
            (false, _) => Kind::Line,
        };
        // Its own: what is behind a reference the compiler would keep in registers, and sums in memory.
        // SAFETY: the unit is prepared.
        let last = unsafe { Last::new(tile) };
        // SAFETY: it is what `last` is. One register has its address, not several those of its parts.
        let last = unsafe { &*own(core::ptr::from_ref(&last).cast()).cast::<Last>() };
        let range = last.plain.then_some(last.range);
        while let Some(Places { line, tables }) = next(tile) {
            let mut places = Places { line: Line { ..line }, tables };
            let mut first = 0;
            macro_rules! pixels {
                ($pairs:expr) => {
                    // SAFETY: the caller's promise. An odd number of rows is one more, which repeats the last.
                    unsafe {
                        let sums =
                            sums::<{ $pairs }, SPARSE>(tile, pairs, Self::ROWS, kind, first, &last.begin, &places);
                        last.finish(tile, range, kind, first, sums, &places);
                    }
                    first += 2 * $pairs;
                    places.line.step(2 * $pairs);
                };
            }
            // The last pixels of a tile are some of those before and they, unless a residual may lie where they are written.
            let again = tile.residual.is_null();
            loop {
                let left = tile.rows - first;
                if PAIRS > 2 && left == 2 * PAIRS + 1 && again {
                    break;
                }
                if left < 2 * PAIRS {
                    if !again || tile.rows < 2 * PAIRS || left < 2 * PAIRS - if SPARSE { 1 } else { 2 } {
                        break;
                    }
                    first -= 2 * PAIRS - left;
                    places.line.back(2 * PAIRS - left);
                }
                pixels!(PAIRS);
            }
            while PAIRS > 2 {
                let left = tile.rows - first;
                if left < 4 && (left < 2 || tile.rows < 4 || !again) {
                    break;
                }
                first -= 4_usize.saturating_sub(left);
                places.line.back(4_usize.saturating_sub(left));
                pixels!(2);
            }
            if first < tile.rows {
                // SAFETY: the caller's promise.
                unsafe { Self::rest(tile, kind, first, &Line { ..places.line }) };
            }
        }
    }

    /// Pixels from `first` on, one at a time. The line begins there.
    ///
    /// # Safety
    /// As [`Micro::tile`].
    #[inline(never)]
    unsafe fn rest(tile: &Tile, kind: Kind, first: usize, line: &Line) {
        // SAFETY: the caller's promise.
        unsafe {
            if kind != Kind::Listed {
                return few::<I8Dot, 4, SPARSE>(&Tile { rows: tile.rows - first, ..*tile }, line);
            }
            for r in first..tile.rows {
                let residual = if tile.residual.is_null() { tile.residual } else { tile.residual.add(r) };
                let one = Tile { runs: tile.runs.add(r), y: tile.y.add(r), residual, rows: 1, ..*tile };
                lone::<I8Dot, 4, SPARSE>(&one, Self::ROWS);
            }
        }
    }
}

/// Where pixels are. One kind for all: with a copy of the code for each it would be several times as long, and what a group
/// of pixels costs hides the choice.
struct Places {
    /// Pixels at one distance.
    line: Line,
    /// For each step of a joined line, where its bytes are in those of one tap or two.
    tables: [uint8x16_t; 4],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// As the tile's addresses say.
    Listed,
    /// At one distance.
    Line,
    /// A line that [`joined`] takes.
    Joined,
}

/// Where it is called, the compiler takes the other way for the usual one.
#[cold]
#[inline(always)]
fn cold() {}

impl Places {
    #[inline(always)]
    fn new(line: Line) -> Self {
        // SAFETY: NEON is part of every 64-bit Arm.
        Self { line, tables: [unsafe { vdupq_n_u8(0) }; 4] }
    }

    /// # Safety
    /// [`joined`] takes the line.
    #[inline(always)]
    unsafe fn joined(line: Line) -> Self {
        // As the weights are joined; what is past the last run meets zeros.
        const FIRST: [u64; 4] =
            [0x0706_0504_0302_0100, 0x1615_1413_1211_1008, 0x1514_1312_1110_0807, 0x0000_0000_0008_0706];
        let step = line.x_step as u64 * 0x0101_0101_0101_0101;
        // SAFETY: NEON is part of every 64-bit Arm.
        let table =
            |first| unsafe { vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(first), vcreate_u64(first + step))) };
        Self { line, tables: FIRST.map(table) }
    }

    /// The inputs of step `k` of the next pixels of a joined line, of taps `A` and `B`.
    ///
    /// # Safety
    /// As [`Self::runs`].
    #[inline(always)]
    unsafe fn inputs<const PAIRS: usize, const A: usize, const B: usize>(&self, k: usize) -> [int64x2_t; PAIRS] {
        let x = self.line.x;
        core::array::from_fn(|p| {
            // SAFETY: the 16 bytes are those of two runs.
            unsafe {
                let load = |tap: usize| vld1q_u8(x.add(tap * self.line.x_tap + 2 * p * self.line.x_step));
                vreinterpretq_s64_u8(if A == B {
                    vqtbl1q_u8(load(A), self.tables[k])
                } else {
                    vqtbl2q_u8(uint8x16x2_t(load(A), load(B)), self.tables[k])
                })
            }
        })
    }

    /// The runs of pixels `first..first + 2 * PAIRS` for a tap. A tap has `rows` addresses.
    ///
    /// # Safety
    /// They are the tile's.
    #[inline(always)]
    unsafe fn runs<const PAIRS: usize>(
        &self,
        tile: &Tile,
        rows: usize,
        kind: Kind,
        tap: usize,
        first: usize,
        x: *const u8,
    ) -> [[*const u8; 2]; PAIRS] {
        if kind == Kind::Listed {
            cold();
            // SAFETY: a tap has `rows` entries, an even number.
            return unsafe { tile.runs.add(tap * rows + first).cast::<[[_; 2]; PAIRS]>().read() };
        }
        core::array::from_fn(|p| [2 * p, 2 * p + 1].map(|r| x.wrapping_add(r * self.line.x_step)))
    }

    /// Where they go.
    ///
    /// # Safety
    /// As [`Self::runs`].
    #[inline(always)]
    unsafe fn outputs<const PAIRS: usize>(&self, tile: &Tile, kind: Kind, first: usize) -> [[*mut u8; 2]; PAIRS] {
        if kind == Kind::Listed {
            cold();
            // SAFETY: `rows` entries.
            return unsafe { tile.y.add(first).cast::<[[_; 2]; PAIRS]>().read() };
        }
        core::array::from_fn(|p| [2 * p, 2 * p + 1].map(|r| self.line.y.wrapping_add(r * self.line.y_step)))
    }
}

/// Sums of pairs of pixels by eight pairs of channels.
type Sums<const PAIRS: usize> = [[int32x4_t; 8]; PAIRS];

/// Units of a tap.
///
/// # Safety
/// The tap exists.
#[inline(always)]
unsafe fn units<const SPARSE: bool>(tile: &Tile, tap: usize) -> usize {
    // SAFETY: a sparse tile has a count a tap.
    if SPARSE { usize::from(unsafe { *tile.counts.add(tap) }) } else { tile.kc.div_ceil(4) }
}

/// The zipped weights of a pair; one without a neighbour has zeros for a second.
///
/// # Safety
/// A unit has 64 bytes of weights.
#[inline(always)]
unsafe fn zip(even: *const i32, odd: Option<*const i32>) -> [int32x4_t; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [vdupq_n_s32(0); 8];
        for v in 0..4 {
            let even = vld1q_s32(even.add(4 * v));
            let odd = odd.map_or(vdupq_n_s32(0), |odd| vld1q_s32(odd.add(4 * v)));
            (weights[2 * v], weights[2 * v + 1]) = (vzip1q_s32(even, odd), vzip2q_s32(even, odd));
        }
        weights
    }
}

/// Zips the weights of a dense panel.
///
/// # Safety
/// The tile's weights are valid and there is room for the pairs.
unsafe fn zip_all(tile: &Tile, pairs: &mut Pairs) {
    let (units, mut to) = (tile.kc.div_ceil(4), pairs.pairs.as_mut_ptr().cast::<Pair>());
    for tap in 0..tile.taps {
        // SAFETY: the caller's promise.
        unsafe {
            zip_units(tile.weights.cast::<i32>().add(16 * tap * units), units, to);
            to = to.add(units.div_ceil(2));
        }
    }
}

/// Zips the weights of some units.
///
/// # Safety
/// They are valid and there is room for the pairs.
#[inline(always)]
unsafe fn zip_units(mut from: *const i32, units: usize, mut to: *mut Pair) {
    // SAFETY: the caller's promise.
    unsafe {
        for _ in 0..units / 2 {
            (*to).weights = zip(from, Some(from.add(16)));
            (from, to) = (from.add(32), to.add(1));
        }
        if units % 2 == 1 {
            (*to).weights = zip(from, None);
        }
    }
}

/// Zips the weights of a sparse block.
///
/// # Safety
/// The tile's weights and positions are valid and there is room for the pairs.
unsafe fn zip_kept(tile: &Tile, pairs: &mut Pairs) {
    let (mut from, mut positions) = (tile.weights.cast::<i32>(), tile.positions);
    let mut to = pairs.pairs.as_mut_ptr().cast::<Pair>();
    // A run may be read to the end of its last unit.
    let window = (4 * tile.kc.div_ceil(4)).checked_sub(16);
    // SAFETY: a unit has 64 bytes of weights and a position.
    unsafe {
        for tap in 0..tile.taps {
            let units = units::<true>(tile, tap);
            let (mut near, mut far) = (to, to.add(units.div_ceil(2)));
            let at = |n: usize| 4 * usize::from(*positions.add(n));
            // A unit that had no near one.
            let mut left = None;
            let mut n = 0;
            while n < units {
                let (even, weights) = (at(n), from.add(16 * n));
                match window {
                    Some(most) if n + 1 < units && at(n + 1) - even <= 12 => {
                        let start = even.min(most);
                        (*near).weights = zip(weights, Some(weights.add(16)));
                        (*near).at = [start; 2];
                        (*near).table = table(even - start, at(n + 1) - start);
                        near = near.add(1);
                        n += 2;
                        continue;
                    }
                    _ => {}
                }
                left = match left {
                    None => Some(n),
                    Some(before) => {
                        far = far.sub(1);
                        (*far).weights = zip(from.add(16 * before), Some(weights));
                        (*far).at = [at(before), even];
                        None
                    }
                };
                n += 1;
            }
            if let Some(n) = left {
                // Alone, it takes the place between near and far ones.
                let start = window.map_or(at(n), |most| at(n).min(most));
                (*near).weights = zip(from.add(16 * n), None);
                (*near).at = [start; 2];
                (*near).table = table(at(n) - start, at(n) - start);
                near = near.add(usize::from(window.is_some()));
            }
            pairs.near[tap].write(near.offset_from(to) as u16);
            (from, positions, to) = (from.add(16 * units), positions.add(units), to.add(units.div_ceil(2)));
        }
    }
}

/// What takes units `even` and `odd` bytes into 16 bytes out of those of two pixels.
#[inline(always)]
fn table(even: usize, odd: usize) -> uint8x16_t {
    let word = |at: usize| 0x0302_0100 + 0x0101_0101 * at as u64;
    let pixel = word(even) | word(odd) << 32;
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe { vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(pixel), vcreate_u64(pixel + 0x1010_1010_1010_1010))) }
}

/// The sums of pixels `first..first + 2 * PAIRS`.
///
/// # Safety
/// As [`Micro::tile`]; `pairs` are of its weights.
#[inline(always)]
unsafe fn sums<const PAIRS: usize, const SPARSE: bool>(
    tile: &Tile,
    all: &Pairs,
    rows: usize,
    kind: Kind,
    first: usize,
    begin: &[int32x4_t; 8],
    places: &Places,
) -> Sums<PAIRS> {
    // Loaded for each pair: copies would take a pipe of the products.
    let mut sums = [*begin; PAIRS];
    for pair in &mut sums {
        for v in 0..8 {
            pair[v] = again(&begin[v]);
        }
    }
    let mut pairs = all.pairs.as_ptr().cast::<Pair>();
    if !SPARSE && kind == Kind::Joined {
        // SAFETY: the caller's promise.
        unsafe {
            step(&mut sums, pairs, &places.inputs::<PAIRS, 0, 0>(0));
            step(&mut sums, pairs.add(1), &places.inputs::<PAIRS, 0, 1>(1));
            step(&mut sums, pairs.add(2), &places.inputs::<PAIRS, 1, 2>(2));
            step(&mut sums, pairs.add(3), &places.inputs::<PAIRS, 2, 2>(3));
        }
        return sums;
    }
    // SAFETY: runs are as the tile says: a tap has `units` units.
    unsafe {
        let mut line = places.line.x;
        for tap in 0..tile.taps {
            let mut x = places.runs::<PAIRS>(tile, rows, kind, tap, first, line);
            line = line.wrapping_add(places.line.x_tap);
            let units = units::<SPARSE>(tile, tap);
            if SPARSE {
                let near = usize::from(all.near[tap].assume_init());
                for _ in 0..near {
                    let (start, table) = ((*pairs).at[0], (*pairs).table);
                    step(&mut sums, pairs, &x.map(|pixels| pick(pixels, start, table)));
                    pairs = pairs.add(1);
                }
                for _ in near..units.div_ceil(2) {
                    let [even, odd] = (*pairs).at;
                    step(&mut sums, pairs, &x.map(|pixels| gather(pixels, even, odd)));
                    pairs = pairs.add(1);
                }
                continue;
            }
            for _ in 0..units / 4 {
                let inputs = x.map(|[p, q]| [vld1q_s64(p.cast()), vld1q_s64(q.cast())]);
                step(&mut sums, pairs, &inputs.map(|[p, q]| vzip1q_s64(p, q)));
                step(&mut sums, pairs.add(1), &inputs.map(|[p, q]| vzip2q_s64(p, q)));
                x = x.map(|[p, q]| [p.add(16), q.add(16)]);
                pairs = pairs.add(2);
            }
            if units % 4 >= 2 {
                step(&mut sums, pairs, &x.map(|[p, q]| vcombine_s64(vld1_s64(p.cast()), vld1_s64(q.cast()))));
                x = x.map(|[p, q]| [p.add(8), q.add(8)]);
                pairs = pairs.add(1);
            }
            if units % 2 == 1 {
                step(&mut sums, pairs, &x.map(|[p, q]| vcombine_s64(vcreate_s64(word(p)), vcreate_s64(word(q)))));
                pairs = pairs.add(1);
            }
        }
    }
    sums
}

/// Four bytes.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn word(x: *const u8) -> u64 {
    // SAFETY: the caller's promise.
    u64::from(unsafe { x.cast::<u32>().read_unaligned() })
}

/// Two near units of two pixels.
///
/// # Safety
/// The 16 bytes are readable.
#[inline(always)]
unsafe fn pick(pixels: [*const u8; 2], start: usize, table: uint8x16_t) -> int64x2_t {
    let [p, q] = pixels;
    // SAFETY: the caller's promise.
    unsafe {
        let both = uint8x16x2_t(vld1q_u8(p.add(start)), vld1q_u8(q.add(start)));
        vreinterpretq_s64_u8(vqtbl2q_u8(both, table))
    }
}

/// Two units of two pixels: of one pixel joined in vector registers, of the other in general ones, so that neither has too
/// much to do.
///
/// # Safety
/// The units are readable.
#[inline(always)]
unsafe fn gather([p, q]: [*const u8; 2], even: usize, odd: usize) -> int64x2_t {
    // SAFETY: the caller's promise.
    unsafe { vsetq_lane_s64::<1>((word(q.add(even)) | word(q.add(odd)) << 32) as i64, load_words(p, even, odd)) }
}

/// Eight positions.
///
/// # Safety
/// The pair is there; the CPU has i8mm.
#[inline(always)]
unsafe fn step<const PAIRS: usize>(sums: &mut Sums<PAIRS>, pair: *const Pair, inputs: &[int64x2_t; PAIRS]) {
    for v in 0..8 {
        // SAFETY: the caller's promise. Rows of the first operand are pixels, of the second channels.
        unsafe {
            let w = vreinterpretq_s8_s32((*pair).weights[v]);
            for (sums, input) in sums.iter_mut().zip(inputs) {
                sums[v] = smmla(sums[v], vreinterpretq_s8_s64(*input), w);
            }
        }
    }
}

/// The last step of a unit's tiles, with the per-channel vectors in the order of the sums.
struct Last {
    /// What the sums begin with.
    begin: [int32x4_t; 8],
    range: Range,
    /// Whether the sums are finished in registers.
    plain: bool,
    /// The factors and [`Factor::less`](crate::finish::Factor::less) of them.
    factors: [[[float32x4_t; 2]; 4]; 2],
}

impl Last {
    /// # Safety
    /// As [`Micro::tile`].
    #[inline(always)]
    unsafe fn new(tile: &Tile) -> Self {
        // SAFETY: the unit is prepared.
        let Shared { begin, by, less } = unsafe { shared_i8(tile) };
        // SAFETY: NEON is part of every 64-bit Arm.
        let zero = unsafe { (vdupq_n_s32(0), vdupq_n_f32(0.0)) };
        let mut last = Self {
            begin: [zero.0; 8],
            range: Range::from_hint(tile.hint),
            plain: is_quick(tile),
            factors: [[[zero.1; 2]; 4]; 2],
        };
        for v in 0..4 {
            [last.begin[2 * v], last.begin[2 * v + 1]] = twice(begin[v]);
            for (to, from) in last.factors.iter_mut().zip([by, less]) {
                // SAFETY: NEON is part of every 64-bit Arm.
                let [low, high] = unsafe { twice(vreinterpretq_s32_f32(from[v])) };
                // SAFETY: as above.
                to[v] = unsafe { [vreinterpretq_f32_s32(low), vreinterpretq_f32_s32(high)] };
            }
        }
        last
    }

    /// Stores pixels `first..first + 2 * PAIRS`.
    ///
    /// # Safety
    /// The pixels exist, or repeat the last one.
    #[inline(always)]
    unsafe fn finish<const PAIRS: usize>(
        &self,
        tile: &Tile,
        range: Option<Range>,
        kind: Kind,
        first: usize,
        sums: Sums<PAIRS>,
        places: &Places,
    ) {
        // SAFETY: the caller's promise.
        let y = || unsafe { places.outputs::<PAIRS>(tile, kind, first) };
        // SAFETY: the caller's promise. Each range is a copy of the code with its choices made.
        unsafe {
            match range {
                Some(Range::Whole) => store(tile, y(), sums, &self.factors, Range::Whole),
                Some(Range::Tiny) => store(tile, y(), sums, &self.factors, Range::Tiny),
                Some(Range::Relu) => store(tile, y(), sums, &self.factors, Range::Relu),
                _ => {
                    for (p, pair) in sums.into_iter().enumerate() {
                        let wide = pair.map(|sum| vreinterpretq_s64_s32(self.range.plain(sum)));
                        let rows: [[_; 4]; 2] = [
                            core::array::from_fn(|v| vzip1q_s64(wide[2 * v], wide[2 * v + 1])),
                            core::array::from_fn(|v| vzip2q_s64(wide[2 * v], wide[2 * v + 1])),
                        ];
                        slow_i8(tile, first + 2 * p..first + 2 * p + 2, rows.as_ptr().cast(), 16);
                    }
                }
            }
        }
    }
}

/// Stores pixels whose last step is a plain one.
///
/// # Safety
/// As [`Last::finish`]; there are sixteen channels.
#[inline(always)]
unsafe fn store<const PAIRS: usize>(
    tile: &Tile,
    y: [[*mut u8; 2]; PAIRS],
    sums: Sums<PAIRS>,
    [by, less]: &[[[float32x4_t; 2]; 4]; 2],
    range: Range,
) {
    let requant = Requant::new(&tile.epilogue, range);
    // SAFETY: NEON is part of every 64-bit Arm.
    let mut codes = [[unsafe { vdup_n_s8(0) }; 4]; PAIRS];
    // Four channels of all pixels, then the next four: their factors are loaded once.
    for v in 0..4 {
        let by = [again(&by[v][0]), again(&by[v][1])];
        for p in 0..PAIRS {
            codes[p][v] = requant.eight([sums[p][2 * v], sums[p][2 * v + 1]], by, &less[v]);
        }
    }
    for (y, [a, b, c, d]) in y.into_iter().zip(codes) {
        // SAFETY: y has these pixels, of sixteen channels.
        unsafe {
            // Eight channels of both pixels each, two of one and two of the other in turns.
            let [low, high] = [requant.clamp16(a, b), requant.clamp16(c, d)].map(|codes| vreinterpretq_s16_s8(codes));
            vst1q_s8(y[0].cast(), vreinterpretq_s8_s16(vuzp1q_s16(low, high)));
            vst1q_s8(y[1].cast(), vreinterpretq_s8_s16(vuzp2q_s16(low, high)));
        }
    }
}

/// Per-channel words in the order of the sums: each pair twice.
#[inline(always)]
fn twice(words: int32x4_t) -> [int32x4_t; 2] {
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe {
        let pairs = vreinterpretq_s64_s32(words);
        [vzip1q_s64(pairs, pairs), vzip2q_s64(pairs, pairs)].map(|pairs| vreinterpretq_s32_s64(pairs))
    }
}
