//! Convolutions on inputs where they lie, dense and sparse: f32, f16, and int8 on Arm's engines. Those of x86 take int8 from a copy
//! ([`staged`]).
//!
//! A tile is up to `ROWS` pixels by one block of channels. It is walked in passes of `4 * A` channels, a pass in
//! steps of `R` pixels, and a step keeps `R * A` accumulators in registers over all taps and units:
//!
//! ```text
//! weights [unit][BLOCK channels][4 bytes]      step of R = 2 pixels, A = 4 accumulators
//!   unit 0  c0-3 c4-7 c8-11 c12-15             pixel 0:  s00 s01 s02 s03
//!   unit 1  ...                                pixel 1:  s10 s11 s12 s13
//! ```
//!
//! Engines on x86 have 15 registers for this, so `R * A` is 8 and no value but accumulators, one unit of weights and one
//! input is live. A sparse tile differs in one thing: the unit's place in the run is read from the index. Blocks of 4 channels
//! would need 8 pixels for that, whose addresses do not fit the general registers: they take 4 pixels, and every other unit
//! goes to a second set of accumulators, so that as many sums are under way.

use crate::engine::{Direct, Engine, Float, Half, Wide};
use crate::epilogue::{Common, Last};
use crate::simd::{load, store};
use crate::staged;
use crate::{ISA, isa};
use core::arch::wasm32::*;
use core::marker::PhantomData;
use sparrow_kernels::conv::{Micro, Tile, accepts, drive, units};
use sparrow_kernels::{DType, Features, Kernel, Layout, Op};

/// Pixels of a tile.
const ROWS: usize = 16;

/// The tile: steps of `R` pixels and `A` accumulators each, blocks of `BLOCK` channels.
struct Tiled<E, const R: usize, const A: usize, const BLOCK: usize, const SPARSE: bool>(PhantomData<E>);

impl<E: Direct, const R: usize, const A: usize, const BLOCK: usize, const SPARSE: bool> Micro
    for Tiled<E, R, A, BLOCK, SPARSE>
{
    const ROWS: usize = ROWS;
    const PANELS: usize = 1;

    unsafe fn tile(tile: &Tile) {
        for c0 in (0..BLOCK.min(tile.channels)).step_by(A * 4) {
            // SAFETY: the tile has channel `c0`, and its block all that follow.
            unsafe { Self::pass(tile, c0) };
        }
    }
}

impl<E: Direct, const R: usize, const A: usize, const BLOCK: usize, const SPARSE: bool> Tiled<E, R, A, BLOCK, SPARSE> {
    /// Bytes of a unit's weights.
    const UNIT: usize = BLOCK * E::UNIT;
    /// Whether units go to two sets of accumulators in turn.
    const PAIRED: bool = SPARSE && R * A == 4;

    /// The channels from `c0`.
    ///
    /// # Safety
    /// As [`Micro::tile`]; `c0 < BLOCK`.
    #[inline(always)]
    unsafe fn pass(tile: &Tile, c0: usize) {
        // SAFETY: the bias has a multiple of 16 channels.
        let start = core::array::from_fn(|n| unsafe { load(tile.bias.add((c0 + 4 * n) * 4)) });
        let common = common::<E>(tile, tile.channels >= c0 + 4 * A);
        let plain = if tile.residual.is_null() { common.as_ref() } else { None };
        for first in (0..tile.rows).step_by(R) {
            // SAFETY: runs, y and residual have entries up to `ROWS`, which `R` divides.
            unsafe {
                let sums = Self::step(tile, first, c0, &start);
                let Some(common) = plain else {
                    rest(tile, &common, E::INTEGER, sums.as_flattened(), (first, R), (c0, A));
                    continue;
                };
                // Written out: of a loop, the compiler keeps the sums in memory.
                Self::plain(tile, (first, c0), common, sums[0]);
                Self::plain(tile, (first + 1, c0), common, sums[1]);
                if R > 2 {
                    Self::plain(tile, (first + 2, c0), common, sums[2 % R]);
                    Self::plain(tile, (first + 3, c0), common, sums[3 % R]);
                }
            }
        }
    }

    /// Ends and writes one pixel in the common way.
    ///
    /// # Safety
    /// As [`Self::pass`]; the pixel exists, there is no residual, and the output is of the kernel's own type.
    #[inline(always)]
    unsafe fn plain(tile: &Tile, (row, c0): (usize, usize), common: &Common, sums: [v128; A]) {
        // SAFETY: the caller's promise.
        unsafe {
            let y = *tile.y.add(row);
            if E::INTEGER {
                common.plain(A, |n| sums[n], |n| load(tile.scale.add(c0 + 4 * n).cast()), y.add(c0));
            } else {
                for (n, sum) in sums.into_iter().enumerate() {
                    store(y.add((c0 + 4 * n) * 4), common.clamped(sum));
                }
            }
        }
    }

    /// The sums of `R` pixels from `first`.
    ///
    /// # Safety
    /// As [`Self::pass`]; `first + R <= ROWS`.
    #[inline(always)]
    unsafe fn step(tile: &Tile, first: usize, c0: usize, start: &[v128; A]) -> [[v128; A]; R] {
        let mut sums = [*start; R];
        let mut others = [[i32x4_splat(0); A]; R];
        let mut weights = tile.weights.wrapping_add(c0 * E::UNIT);
        let mut positions = tile.positions;
        for tap in 0..tile.taps {
            // SAFETY: `runs` has `ROWS` entries per tap, each with `kc` elements rounded up to units; the index names
            // units below that, and the weights hold as many as are walked.
            unsafe {
                let x: [*const u8; R] = core::array::from_fn(|r| *tile.runs.add(tap * ROWS + first + r));
                if SPARSE {
                    let end = positions.add(usize::from(*tile.counts.add(tap)));
                    while Self::PAIRED && positions.wrapping_add(1) < end {
                        Self::unit(&mut sums, weights, &x, usize::from(*positions) * E::UNIT);
                        let next = usize::from(*positions.add(1)) * E::UNIT;
                        Self::unit(&mut others, weights.add(Self::UNIT), &x, next);
                        weights = weights.add(2 * Self::UNIT);
                        positions = positions.add(2);
                    }
                    while positions < end {
                        Self::unit(&mut sums, weights, &x, usize::from(*positions) * E::UNIT);
                        weights = weights.add(Self::UNIT);
                        positions = positions.add(1);
                    }
                } else {
                    let end = if E::INTEGER { tile.kc.next_multiple_of(4) } else { tile.kc * E::UNIT };
                    let mut at = 0;
                    while at != end {
                        Self::unit(&mut sums, weights, &x, at);
                        weights = weights.add(Self::UNIT);
                        at += E::UNIT;
                    }
                }
            }
        }
        if Self::PAIRED {
            let add = if E::INTEGER { i32x4_add } else { f32x4_add };
            for r in 0..R {
                for a in 0..A {
                    sums[r][a] = add(sums[r][a], others[r][a]);
                }
            }
        }
        sums
    }

    /// One unit, `at` bytes into the runs.
    ///
    /// # Safety
    /// The unit exists.
    #[inline(always)]
    unsafe fn unit(sums: &mut [[v128; A]; R], weights: *const u8, x: &[*const u8; R], at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = x.map(|x| E::input(x.add(at)));
            for a in 0..A {
                let w = E::weights(weights.add(a * 4 * E::UNIT));
                for r in 0..R {
                    sums[r][a] = E::step(sums[r][a], w, x[r]);
                }
            }
        }
    }
}

/// Ends and writes `rows` pixels from `first` in any way, `vectors` vectors of 4 channels each from `c0`; `sums` may have more
/// of each.
///
/// # Safety
/// As [`Micro::tile`]; the tile has these pixels and channel `c0`.
#[inline(never)]
pub unsafe fn rest(
    tile: &Tile,
    common: &Option<Common>,
    integer: bool,
    sums: &[v128],
    (first, rows): (usize, usize),
    (c0, vectors): (usize, usize),
) {
    let element = DType::ALL[tile.epilogue.output as usize].size();
    let (scale, slopes) = (tile.scale.wrapping_add(c0), tile.slopes.wrapping_add(c0));
    for (row, sums) in (first..).zip(sums.chunks_exact(sums.len() / rows)) {
        let sums = &sums[..vectors];
        // SAFETY: y and residual have this row; the tile has these channels.
        unsafe {
            let y = (*tile.y.add(row)).add(c0 * element);
            let residual =
                if tile.residual.is_null() { core::ptr::null() } else { (*tile.residual.add(row)).add(c0 * element) };
            match (common, integer) {
                (Some(common), true) => common.row::<true>(sums, scale, residual, y),
                (Some(common), false) => common.row::<false>(sums, scale, residual, y),
                (None, integer) => {
                    let last = Last { scale, slopes, residual, y, channels: tile.channels - c0, integer };
                    last.row(sums, &tile.epilogue);
                }
            }
        }
    }
}

/// What the common way to end needs, if it is what the tile asks for and its vectors of channels are `whole`.
#[inline(always)]
pub fn common<E: Engine>(tile: &Tile, whole: bool) -> Option<Common> {
    match (whole, E::INTEGER) {
        (false, _) => None,
        (true, true) => Common::new::<true>(&tile.epilogue),
        (true, false) => Common::new::<false>(&tile.epilogue),
    }
}

macro_rules! kernel {
    ($name:expr, $requires:expr, $layout:ident, $micro:ty) => {
        Kernel {
            name: $name,
            op: Op::Conv,
            requires: $requires,
            accepts: |call| accepts(call, <$micro as Micro>::ROWS, Layout::$layout),
            units: units::<$micro>,
            run: drive::<$micro>,
        }
    };
    ($name:expr, $requires:expr, $layout:ident, $engine:ty, $rows:literal x $sums:literal, $block:literal, $sparse:literal) => {
        kernel!($name, $requires, $layout, Tiled<$engine, $rows, $sums, $block, $sparse>)
    };
    ($name:expr, $requires:expr, $layout:ident, $engine:ty, $rows:literal x $sums:literal + 2 x $tail:literal, $block:literal, $sparse:literal) => {
        kernel!($name, $requires, $layout, staged::Tiled<$engine, $rows, $sums, $tail, $block, $sparse>)
    };
}

/// f32 and f16.
const FLOAT: &[Kernel] = &[
    kernel!(isa!("conv_f32_b16"), ISA, DenseF32, Float, 2 x 4, 16, false),
    kernel!(isa!("spconv_f32_b16"), ISA, SparseF32B16, Float, 2 x 4, 16, true),
    kernel!(isa!("spconv_f32_b8"), ISA, SparseF32B8, Float, 4 x 2, 8, true),
    kernel!(isa!("spconv_f32_b4"), ISA, SparseF32B4, Float, 4 x 1, 4, true),
    kernel!(isa!("conv_f16_b16"), ISA, DenseF16, Half, 4 x 4, 16, false),
    kernel!(isa!("spconv_f16_b16"), ISA, SparseF16B16, Half, 4 x 4, 16, true),
    kernel!(isa!("spconv_f16_b8"), ISA, SparseF16B8, Half, 4 x 2, 8, true),
    kernel!(isa!("spconv_f16_b4"), ISA, SparseF16B4, Half, 4 x 1, 4, true),
];

/// int8 where the relaxed dot takes whole bytes.
#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
const DOT: &[Kernel] = &{
    use crate::engine::Dot;
    use crate::{SIGNED, UNSIGNED};
    [
        kernel!("conv_i8_b16_relaxed_signed", SIGNED, DenseI8, Dot<false>, 2 x 4, 16, false),
        kernel!("spconv_i8_b16_relaxed_signed", SIGNED, SparseI8B16, Dot<false>, 2 x 4, 16, true),
        kernel!("spconv_i8_b8_relaxed_signed", SIGNED, SparseI8B8, Dot<false>, 4 x 2, 8, true),
        kernel!("spconv_i8_b4_relaxed_signed", SIGNED, SparseI8B4, Dot<false>, 4 x 1, 4, true),
        kernel!("conv_i8_b16_relaxed_unsigned", UNSIGNED, DenseI8, Dot<true>, 6 x 2 + 2 x 4, 16, false),
        kernel!("spconv_i8_b16_relaxed_unsigned", UNSIGNED, SparseI8B16, Dot<true>, 6 x 2 + 2 x 4, 16, true),
        kernel!("spconv_i8_b8_relaxed_unsigned", UNSIGNED, SparseI8B8, Dot<true>, 6 x 2 + 2 x 2, 8, true),
        kernel!("spconv_i8_b4_relaxed_unsigned", UNSIGNED, SparseI8B4, Dot<true>, 12 x 1 + 2 x 1, 4, true),
    ]
};
#[cfg(not(any(target_feature = "relaxed-simd", feature = "emulate-dot")))]
const DOT: &[Kernel] = &[];

/// int8 on any engine.
const WIDE: &[Kernel] = &[
    kernel!("conv_i8_b16_simd128", Features::SIMD128, DenseI8, Wide, 4 x 2 + 2 x 4, 16, false),
    kernel!("spconv_i8_b16_simd128", Features::SIMD128, SparseI8B16, Wide, 4 x 2 + 2 x 4, 16, true),
    kernel!("spconv_i8_b8_simd128", Features::SIMD128, SparseI8B8, Wide, 4 x 2 + 2 x 4, 8, true),
    kernel!("spconv_i8_b4_simd128", Features::SIMD128, SparseI8B4, Wide, 4 x 2 + 2 x 2, 4, true),
];

/// The convolutions of this module, best first.
pub const FAMILIES: [&[Kernel]; 3] = [FLOAT, DOT, WIDE];
