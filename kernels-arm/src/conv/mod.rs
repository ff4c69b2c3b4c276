//! Convolutions: one tile loop for all kinds of numbers, dense and sparse.
//!
//! A tile of `R` pixels by `W` vectors of channels is kept in registers; a step takes one index unit of the reduction
//! axis (one element, or four int8), multiplies its `W` vectors of weights by that unit of each pixel, broadcast from a
//! lane of a register ("by element"), and adds. 5 pixels by 4 vectors is 20 sums, which with 4 weights and 5 inputs
//! leaves 3 of 32 registers: 20 multiply-adds for 4 loads of weights, so that two vector pipes stay busy.
//!
//! ```text
//! dense    x: one 16-byte load a pixel for a block of 4 (f32, int8) or 8 (f16) steps, then lanes 0, 1, 2, ..
//! sparse   x: for each kept unit a load of just its 2 or 4 bytes: no vector slot, as `ld1r` would take
//! w        [unit][16 channels]: W consecutive vectors (two panels for f16)
//! ```
//!
//! The tile is inlined into the loop nest: a call and the registers it saves cost as much as 16 int8 products a sum.
//!
//! Kinds of numbers are [`Number`]s: [`F32`], [`F16`] (sums in half precision, as fast f16 must), [`I8Dot`]. int8 without
//! dot product and with SMMLA differ too much and have tiles of their own.

mod i8;
mod i8mm;
mod joined;
mod number;
#[cfg(sparrow_sve)]
mod sve;

use crate::simd::{in_order, own};
use joined::Joined;
use number::{F16, F16x4, F32, I8Dot, Number};
use sparrow_kernels::conv::{Input, Line, Micro, Tile, accepts, drive, units};
use sparrow_kernels::{Features, Kernel, Layout, Op};

/// Sums of a tile.
pub type Sums<N, const R: usize, const W: usize> = [[<N as Number>::Sum; W]; R];

/// How tiles and lines of a kind of numbers that has lines go to [`walk`].
macro_rules! walks {
    ($sparse:literal) => {
        #[inline(always)]
        unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
            // SAFETY: the caller's promise.
            unsafe {
                if const { has_lines::<N, W>() } {
                    return walk::<N, R, W, $sparse>(tile, &mut |tile| next(tile).map(|_| Line::NONE));
                }
                while next(tile).is_some() {
                    Self::tile(tile);
                }
            }
        }

        fn takes_lines(tile: &Tile) -> bool {
            has_lines::<N, W>() && tile.rows > 1 && tile.taps <= LINE_TAPS && number::is_quick(tile)
        }

        #[inline(always)]
        unsafe fn lines(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Line>) {
            if const { has_lines::<N, W>() } {
                // SAFETY: the caller's promise.
                unsafe { walk::<N, R, W, $sparse>(tile, &mut next) }
            }
        }
    };
}

/// The dense tile: `R` pixels by `W` vectors, `V` of them to a panel.
struct Dense<N, const R: usize, const W: usize, const V: usize>(N);

impl<N: Number, const R: usize, const W: usize, const V: usize> Micro for Dense<N, R, W, V> {
    const ROWS: usize = R;
    const PANELS: usize = W / V;

    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { N::prepare::<W>(tile) }
    }

    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        let narrow = W > V && tile.channels <= V * N::CHANNELS;
        // SAFETY: the caller's promise. With one pixel the others are its copies; with few channels there is one panel.
        unsafe {
            match (tile.rows, narrow) {
                (1, true) => single::<N, V, V>(tile, R),
                (1, false) => single::<N, W, V>(tile, R),
                (_, true) => N::finish(tile, dense::<N, R, V, V>(tile, &Places::listed(R))),
                (_, false) => N::finish(tile, dense::<N, R, W, V>(tile, &Places::listed(R))),
            }
        }
    }

    walks!(false);
}

/// Most taps of a line.
const LINE_TAPS: usize = 16;

/// Whether lines go to tiles of this kind of numbers, of `W` vectors of channels. Others have too little to gain for the code.
const fn has_lines<N: Number, const W: usize>() -> bool {
    N::LINES && W == 4
}

/// The tiles, or the lines, of a unit: `next` gives a line, or [`Line::NONE`] for a tile that has addresses. One function for
/// both, since a tile is long, and what it costs hides the choice.
///
/// # Safety
/// As [`Micro::tiles`] and [`Micro::lines`].
#[inline(never)]
unsafe fn walk<N: Number, const R: usize, const W: usize, const SPARSE: bool>(
    tile: &mut Tile,
    next: &mut dyn FnMut(&mut Tile) -> Option<Line>,
) {
    let mut weights = None;
    while let Some(line) = next(tile) {
        let mut line = Line { ..line };
        let listed = line.x.is_null();
        let mut left = tile.rows;
        // SAFETY: the caller's promise.
        unsafe {
            if listed && left == 1 {
                lone::<N, W, SPARSE>(tile, R);
                continue;
            }
            if !listed && left < R {
                few::<N, W, SPARSE>(tile, &line);
                continue;
            }
            let joined = (!SPARSE && !listed && joined::takes(tile, &line)).then(|| Joined::new(&line));
            loop {
                let places = Places { listed, rows: R, line };
                let sums: Sums<N, R, W> = if let Some(joined) = &joined {
                    N::joined(tile, joined, &line, weights.get_or_insert_with(|| joined::weights(tile)))
                } else if SPARSE {
                    sparse::<N, R, W>(tile, &places)
                } else {
                    dense::<N, R, W, W>(tile, &places)
                };
                let y = if listed {
                    core::array::from_fn(|r| *tile.y.add(r))
                } else {
                    core::array::from_fn(|r| line.y.wrapping_add(r * line.y_step))
                };
                N::finish_at(tile, y, sums);
                if listed || left == R {
                    break;
                }
                left -= R;
                line.step(R);
                if left == 1 {
                    tile.rows = 1;
                    few::<N, W, SPARSE>(tile, &line);
                    break;
                }
                if left < R {
                    // The last tile begins with pixels of the one before, once more.
                    line.back(R - left);
                    left = R;
                }
            }
        }
    }
}

/// Some pixels of a line, less than a tile.
///
/// # Safety
/// As [`Micro::lines`]; the lines are taken.
#[inline(never)]
unsafe fn few<N: Number, const W: usize, const SPARSE: bool>(tile: &Tile, line: &Line) {
    for row in 0..tile.rows {
        let mut runs = [line.x.wrapping_add(row * line.x_step); LINE_TAPS];
        for (tap, run) in runs.iter_mut().enumerate().take(tile.taps) {
            *run = run.wrapping_add(tap * line.x_tap);
        }
        let y = line.y.wrapping_add(row * line.y_step);
        // SAFETY: the caller's promise.
        unsafe { lone::<N, W, SPARSE>(&Tile { runs: runs.as_ptr(), y: &raw const y, rows: 1, ..*tile }, 1) };
    }
}

/// One pixel, the first of `rows` addresses to a tap.
///
/// # Safety
/// As [`Micro::tile`].
#[inline(always)]
unsafe fn lone<N: Number, const W: usize, const SPARSE: bool>(tile: &Tile, rows: usize) {
    // SAFETY: the caller's promise.
    unsafe { if SPARSE { sparse_single::<N, W>(tile, rows) } else { single::<N, W, W>(tile, rows) } }
}

/// Where the pixels of a whole tile are.
struct Places {
    /// As the tile's addresses say, `rows` to a tap.
    listed: bool,
    rows: usize,
    /// Or at one distance.
    line: Line,
}

impl Places {
    fn listed(rows: usize) -> Self {
        Self { listed: true, rows, line: Line::NONE }
    }

    /// The runs of a tap.
    ///
    /// # Safety
    /// The tap is the tile's, and `x` the line's first run of it.
    #[inline(always)]
    unsafe fn runs<const R: usize>(&self, tile: &Tile, tap: usize, x: *const u8) -> [*const u8; R] {
        if self.listed {
            // SAFETY: the caller's promise.
            core::array::from_fn(|r| unsafe { *tile.runs.add(tap * self.rows + r) })
        } else {
            core::array::from_fn(|r| own(x.wrapping_add(r * self.line.x_step)))
        }
    }
}

/// # Safety
/// As [`Micro::tile`]; the places are its.
#[inline(always)]
unsafe fn dense<N: Number, const R: usize, const W: usize, const V: usize>(
    tile: &Tile,
    places: &Places,
) -> Sums<N, R, W> {
    // SAFETY: bias, weights and runs are as the tile says: a tap has `units` units, padded by `check`'s promise.
    unsafe {
        let mut sums: Sums<N, R, W> = N::begin(tile);
        let units = tile.kc.div_ceil(N::UNIT / N::SIZE);
        let (mut weights, mut line) = (tile.weights, places.line.x);
        for tap in 0..tile.taps {
            let mut x: [*const u8; R] = places.runs(tile, tap, line);
            let blocks = units / N::LANES;
            if blocks > 0 {
                let mut feed =
                    Feed { weights: load::<N, W, V>(weights, tile.panel_stride), inputs: x.map(|x| N::load_lanes(x)) };
                for left in (0..blocks).rev() {
                    // What is loaded ahead of the last block is the last block again.
                    let next = if left > 0 { (16, N::LANES * V * N::VECTOR) } else { (0, 0) };
                    x = x.map(|x| x.add(next.0));
                    let ahead = Ahead {
                        lane: weights,
                        weights: weights.add(next.1),
                        panel_stride: tile.panel_stride,
                        inputs: x,
                    };
                    N::steps::<R, W, V>(&mut sums, &mut feed, &ahead);
                    weights = ahead.weights;
                }
                weights = weights.add(N::LANES * V * N::VECTOR);
            }
            if units % N::LANES == 0 {
                line = line.wrapping_add(places.line.x_tap);
                continue;
            }
            x = places.runs::<R>(tile, tap, line).map(|x| x.add(16 * blocks));
            for _ in 0..units % N::LANES {
                let mut feed =
                    Feed { weights: load::<N, W, V>(weights, tile.panel_stride), inputs: x.map(|x| N::load_unit(x)) };
                let ahead = Ahead { lane: weights, weights, panel_stride: tile.panel_stride, inputs: x };
                step::<N, R, W, V, 0, true, true>(&mut sums, &mut feed, &ahead);
                x = x.map(|x| x.add(N::UNIT));
                weights = weights.add(V * N::VECTOR);
            }
            line = line.wrapping_add(places.line.x_tap);
        }
        sums
    }
}

/// The operands of the next step, in registers.
pub struct Feed<N: Number, const R: usize, const W: usize> {
    weights: [N::Weights; W],
    inputs: [N::Input; R],
}

/// Where the operands of the steps after the next are.
pub struct Ahead<const R: usize> {
    /// Weights of lane 0 of this block.
    lane: *const u8,
    /// Weights of the next block.
    weights: *const u8,
    panel_stride: usize,
    /// Inputs of the next block.
    inputs: [*const u8; R],
}

/// The `W` vectors of weights of one unit, `V` to a panel.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub unsafe fn load<N: Number, const W: usize, const V: usize>(
    weights: *const u8,
    panel_stride: usize,
) -> [N::Weights; W] {
    // SAFETY: the caller's promise.
    core::array::from_fn(|v| unsafe { N::load_weights(weights.add(v / V * panel_stride + v % V * N::VECTOR)) })
}

/// One unit of the reduction axis: lane `L` of the inputs. Each register, once read for the last time, is loaded for the
/// step after this, or the block after this one: the order an in-order core needs, with no register to spare for it.
/// `LAST`: of a block; `SINGLE`: blocks are single units.
///
/// # Safety
/// What lies ahead is readable; the kernel's features are there.
#[inline(always)]
pub unsafe fn step<
    N: Number,
    const R: usize,
    const W: usize,
    const V: usize,
    const L: i32,
    const LAST: bool,
    const SINGLE: bool,
>(
    sums: &mut Sums<N, R, W>,
    feed: &mut Feed<N, R, W>,
    ahead: &Ahead<R>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let next = if LAST { ahead.weights } else { ahead.lane.add((L as usize + 1) * V * N::VECTOR) };
        for v in 0..W {
            for r in 0..R {
                sums[r][v] = N::multiply_add::<L>(sums[r][v], feed.weights[v], feed.inputs[r]);
                if LAST && v == W - 1 {
                    feed.inputs[r] =
                        if SINGLE { N::load_unit(ahead.inputs[r]) } else { N::load_lanes(ahead.inputs[r]) };
                }
            }
            feed.weights[v] = N::load_weights(next.add(v / V * ahead.panel_stride + v % V * N::VECTOR));
            if LAST {
                in_order();
            }
        }
    }
}

/// One unit of one pixel.
///
/// # Safety
/// The kernel's features are there.
#[inline(always)]
pub unsafe fn turn<N: Number, const W: usize, const L: i32>(
    sums: &mut [N::Sum; W],
    weights: [N::Weights; W],
    input: N::Input,
) {
    for (sum, w) in sums.iter_mut().zip(weights) {
        // SAFETY: the caller's promise.
        *sum = unsafe { N::multiply_add::<L>(*sum, w, input) };
    }
}

/// Sets of sums of one pixel.
const SETS: usize = 4;

/// One pixel. Its `W` sums alone would wait for one another: lanes take turns with four sets of them.
///
/// # Safety
/// As [`Micro::tile`]; `rows` entries of runs to a tap.
#[inline(never)]
unsafe fn single<N: Number, const W: usize, const V: usize>(tile: &Tile, rows: usize) {
    // SAFETY: bias, weights and runs are as the tile says.
    unsafe {
        let mut sets: [Sums<N, 1, W>; SETS] = [[[N::zero(); W]]; SETS];
        sets[0] = N::begin(tile);
        let units = tile.kc.div_ceil(N::UNIT / N::SIZE);
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut x = *tile.runs.add(tap * rows);
            for _ in 0..units / N::LANES {
                N::turns::<W, V>(&mut sets, weights, tile.panel_stride, N::load_lanes(x));
                x = x.add(16);
                weights = weights.add(N::LANES * V * N::VECTOR);
            }
            for _ in 0..units % N::LANES {
                turn::<N, W, 0>(&mut sets[0][0], load::<N, W, V>(weights, tile.panel_stride), N::load_unit(x));
                x = x.add(N::UNIT);
                weights = weights.add(V * N::VECTOR);
            }
        }
        let [[a], [b], [c], [d]] = sets;
        N::finish(tile, [core::array::from_fn::<_, W, _>(|v| N::add(N::add(a[v], b[v]), N::add(c[v], d[v])))]);
    }
}

/// The sparse tile: `R` pixels by one block of `W` vectors.
struct Sparse<N, const R: usize, const W: usize>(N);

impl<N: Number, const R: usize, const W: usize> Micro for Sparse<N, R, W> {
    const ROWS: usize = R;
    const PANELS: usize = 1;

    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { N::prepare::<W>(tile) }
    }

    #[inline(always)]
    unsafe fn tile(tile: &Tile) {
        // SAFETY: the caller's promise. With one pixel the others are its copies.
        unsafe {
            if tile.rows == 1 {
                sparse_single::<N, W>(tile, R);
            } else {
                N::finish(tile, sparse::<N, R, W>(tile, &Places::listed(R)));
            }
        }
    }

    walks!(true);
}

/// One pixel.
///
/// # Safety
/// As [`Micro::tile`]; `rows` entries of runs to a tap.
#[inline(never)]
unsafe fn sparse_single<N: Number, const W: usize>(tile: &Tile, rows: usize) {
    // SAFETY: the caller's promise.
    unsafe { N::finish(tile, sparse::<N, 1, W>(tile, &Places::listed(rows))) }
}

/// # Safety
/// As [`Micro::tile`]; the places are its.
#[inline(always)]
unsafe fn sparse<N: Number, const R: usize, const W: usize>(tile: &Tile, places: &Places) -> Sums<N, R, W> {
    // SAFETY: bias, weights, index and runs are as the tile says.
    unsafe {
        let mut sums: Sums<N, R, W> = N::begin(tile);
        let (mut weights, mut positions, mut line) = (tile.weights, tile.positions, places.line.x);
        for tap in 0..tile.taps {
            let x: [*const u8; R] = places.runs(tile, tap, line);
            line = line.wrapping_add(places.line.x_tap);
            let kept = usize::from(*tile.counts.add(tap));
            if kept == 0 {
                continue;
            }
            let at = |position: *const u16| x.map(|x| x.add(usize::from(*position) * N::UNIT));
            let mut feed =
                Feed { weights: load::<N, W, W>(weights, 0), inputs: at(positions).map(|x| N::load_unit(x)) };
            for left in (0..kept).rev() {
                // What is loaded ahead of the last unit is the last unit again.
                let next = if left > 0 { (1, W * N::VECTOR) } else { (0, 0) };
                (positions, weights) = (positions.add(next.0), weights.add(next.1));
                let ahead = Ahead { lane: weights, weights, panel_stride: 0, inputs: at(positions) };
                step::<N, R, W, W, 0, true, true>(&mut sums, &mut feed, &ahead);
            }
            (positions, weights) = (positions.add(1), weights.add(W * N::VECTOR));
        }
        sums
    }
}

macro_rules! kernel {
    ($name:literal, $features:expr, $layout:ident, $micro:ty) => {
        Kernel {
            name: $name,
            op: Op::Conv,
            requires: $features,
            accepts: |call| accepts(call, <$micro>::ROWS, Layout::$layout),
            units: units::<$micro>,
            run: drive::<$micro>,
        }
    };
}

const NEON: Features = Features::NEON;
const FP16: Features = NEON.union(Features::FP16);
const DOT: Features = NEON.union(Features::DOTPROD);
const I8MM: Features = DOT.union(Features::I8MM);

/// The SVE convolutions: before all others, since `detect` names SVE only where its vectors are so long that they win.
#[cfg(sparrow_sve)]
pub const SVE: &[Kernel] = {
    macro_rules! sve {
        ($name:literal, $layout:ident) => {
            Kernel {
                accepts: |call| sve::fits(call, Layout::$layout),
                ..kernel!($name, Features::SVE, $layout, sve::Sve<{ Layout::$layout as u8 }>)
            }
        };
    }
    &[
        sve!("conv_f32_b16_sve", DenseF32),
        sve!("conv_f16_b16_sve", DenseF16),
        sve!("conv_i8_b16_sve", DenseI8),
        sve!("spconv_f32_b16_sve", SparseF32B16),
        sve!("spconv_f32_b8_sve", SparseF32B8),
        sve!("spconv_f32_b4_sve", SparseF32B4),
        sve!("spconv_f16_b16_sve", SparseF16B16),
        sve!("spconv_f16_b8_sve", SparseF16B8),
        sve!("spconv_f16_b4_sve", SparseF16B4),
        sve!("spconv_i8_b16_sve", SparseI8B16),
        sve!("spconv_i8_b8_sve", SparseI8B8),
        sve!("spconv_i8_b4_sve", SparseI8B4),
    ]
};
/// No SVE convolutions: built without a C compiler.
#[cfg(not(sparrow_sve))]
pub const SVE: &[Kernel] = &[];

/// The other convolutions, best first.
pub const CATALOGUE: &[Kernel] = &[
    kernel!("conv_f32_b16_neon", NEON, DenseF32, Dense<F32, 5, 4, 4>),
    kernel!("conv_f16_b16_neon_fp16", FP16, DenseF16, Dense<F16, 5, 4, 2>),
    Kernel {
        accepts: |call| accepts(call, i8mm::Matrix::<2, false>::ROWS, Layout::DenseI8) && i8mm::fits(call),
        ..kernel!("conv_i8_b16_neon_i8mm", I8MM, DenseI8, i8mm::Matrix<2, false>)
    },
    kernel!("conv_i8_b16_neon_dotprod", DOT, DenseI8, Dense<I8Dot, 5, 4, 4>),
    kernel!("conv_i8_b16_neon", NEON, DenseI8, i8::Widening<4, false>),
    kernel!("spconv_f32_b16_neon", NEON, SparseF32B16, Sparse<F32, 5, 4>),
    kernel!("spconv_f32_b8_neon", NEON, SparseF32B8, Sparse<F32, 10, 2>),
    kernel!("spconv_f32_b4_neon", NEON, SparseF32B4, Sparse<F32, 12, 1>),
    kernel!("spconv_f16_b16_neon_fp16", FP16, SparseF16B16, Sparse<F16, 10, 2>),
    kernel!("spconv_f16_b8_neon_fp16", FP16, SparseF16B8, Sparse<F16, 12, 1>),
    kernel!("spconv_f16_b4_neon_fp16", FP16, SparseF16B4, Sparse<F16x4, 12, 1>),
    Kernel {
        accepts: |call| accepts(call, i8mm::Matrix::<3, true>::ROWS, Layout::SparseI8B16) && i8mm::fits(call),
        ..kernel!("spconv_i8_b16_neon_i8mm", I8MM, SparseI8B16, i8mm::Matrix<3, true>)
    },
    kernel!("spconv_i8_b16_neon_dotprod", DOT, SparseI8B16, Sparse<I8Dot, 5, 4>),
    kernel!("spconv_i8_b8_neon_dotprod", DOT, SparseI8B8, Sparse<I8Dot, 10, 2>),
    kernel!("spconv_i8_b4_neon_dotprod", DOT, SparseI8B4, Sparse<I8Dot, 12, 1>),
    kernel!("spconv_i8_b16_neon", NEON, SparseI8B16, i8::Widening<4, true>),
    kernel!("spconv_i8_b8_neon", NEON, SparseI8B8, i8::Widening<2, true>),
    kernel!("spconv_i8_b4_neon", NEON, SparseI8B4, i8::Widening<1, true>),
];
