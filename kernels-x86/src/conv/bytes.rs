//! int8 with AVX2 by its byte multiply, wherever that is exact.
//!
//! `pmaddubsw` multiplies 32 bytes where `pmaddwd` multiplies 16 words, but its sums of two products saturate at 16 bits. They
//! are exact if the greatest activation times the sum of a pair's weights of one sign is less than 2^15. What the weights are is
//! known when a unit of work begins, what a tile's activations are when it has been staged:
//!
//! ```text
//! 8 channels of 4 positions     the greatest of 16 pairs     tile whose greatest activation is 180, of 255
//! unit 0                        96                           pmaddubsw: 180 * 96 < 2^15
//! unit 1                        131                          pmaddubsw
//! unit 2                        190                          pmaddwd, twice, on the same activations as words
//! ```
//!
//! So results are those of every other kernel, and only the time depends on the numbers: first come the units that are exact as
//! bytes, then those that are not.

use super::{AHEAD, Room};
use crate::AVX2;
use crate::arithmetic::last;
use crate::finish::{Avx2, Isa, Last, PlainAvx2, are_small};
use crate::vector::{Two, V8};
use core::arch::x86_64::*;
use sparrow_kernels::conv::{Input, Micro, Tile, accepts, drive, units};
use sparrow_kernels::{Activation, Call, ConvParams, DType, Kernel, Layout, Op, conv_input};

/// Pixels of a tile.
const ROWS: usize = 12;
/// Output channels of a column: a block, or half of one.
const LANES: usize = 8;
/// Columns of a tile.
const COLUMNS: usize = 16;
/// Most units of a tile's reduction: 3x3 taps of 512 channels, with room to spare.
const UNITS: usize = 1168;
/// Bytes from a column's greatest pairs to the next's.
const PITCH: usize = (UNITS + 1).next_multiple_of(64);
/// Bytes from a staged pixel to the next: an odd number of cache lines.
const STRIDE: usize = UNITS * 4;
const _: () = assert!(STRIDE % 128 == 64);
/// Bytes of a unit's weights of a column.
const UNIT_BYTES: usize = 4 * LANES;
/// A greatest pair that few units pass where weights are many small ones and few great ones, as trained weights are.
const COMMON: i16 = 190;
/// Units that are looked at, about, to see whether they do.
const LOOKED_AT: usize = 64;

/// 8 channels of a tile.
#[derive(Clone, Copy)]
struct Column {
    /// Weights of its block's first unit, of these channels.
    weights: *const u8,
    /// What its sums begin with.
    bias: [i32; LANES],
    /// Units of its block.
    units: usize,
}

/// What the tiles of a unit of work share.
struct Work {
    /// Staged pixels, `[ROWS][STRIDE]`.
    x: Room<u8, { ROWS * STRIDE + 32 }>,
    /// Of each column, the greatest pair of each unit, 255 for 256 too and where there is no unit.
    greatest: Room<u8, { COLUMNS * PITCH }>,
    /// Sparse: of each block, where a unit lies in a staged pixel.
    places: Room<u16, { COLUMNS * UNITS }>,
    columns: Room<Column, COLUMNS>,
    /// Sums of a block, `[ROWS][16]`, where the last step wants them in memory.
    sums: Room<u32, { ROWS * 2 * LANES }>,
}

impl Work {
    const NEW: Self =
        Self { x: Room::NEW, greatest: Room::NEW, places: Room::NEW, columns: Room::NEW, sums: Room::NEW };

    /// Looks at the weights of all columns, `PARTS` to a block.
    ///
    /// # Safety
    /// As [`Micro::tiles`], before the first tile; the CPU has AVX2; the reduction has at most [`UNITS`] units.
    #[inline(always)]
    unsafe fn begin<const PARTS: usize, const SPARSE: bool>(&mut self, tile: &Tile) {
        let (mut weights, mut counts, mut positions) = (tile.weights, tile.counts, tile.positions);
        let per_tap = tile.kc.div_ceil(4);
        // SAFETY: the caller's promise; there is a count for every block and tap, and so many positions and units of weights.
        unsafe {
            for block in 0..tile.channels.div_ceil(PARTS * LANES) {
                let mut units = tile.taps * per_tap;
                if SPARSE {
                    let places = self.places.start().add(block * UNITS);
                    units = 0;
                    for tap in 0..tile.taps {
                        for _ in 0..*counts.add(tap) {
                            places.add(units).write((tap * per_tap) as u16 + *positions.add(units));
                            units += 1;
                        }
                    }
                    counts = counts.add(tile.taps);
                    positions = positions.add(units);
                }
                for part in 0..PARTS {
                    let column = block * PARTS + part;
                    let weights = weights.add(part * UNIT_BYTES);
                    let mut bias = [0; LANES];
                    let greatest = self.greatest.start().add(column * PITCH);
                    greatest.add(units / 64 * 64).write_bytes(255, 64);
                    let shift = look::<PARTS>(weights, units, greatest);
                    let before = _mm256_loadu_si256(tile.bias.add(column * LANES * 4).cast());
                    _mm256_storeu_si256(bias.as_mut_ptr().cast(), _mm256_sub_epi32(before, shift));
                    self.columns.start().add(column).write(Column { weights, bias, units });
                }
                weights = weights.add(if SPARSE { units * PARTS * UNIT_BYTES } else { tile.panel_stride });
            }
        }
    }

    /// Computes a tile, of `R` rows at most; rows past the tile's repeat its last one.
    ///
    /// # Safety
    /// As [`Micro::tile`]; [`Self::begin`] has looked at the weights.
    #[inline(always)]
    unsafe fn tile<const R: usize, const PARTS: usize, const SPARSE: bool>(&mut self, tile: &Tile) {
        // SAFETY: the caller's promise.
        unsafe {
            let limit = (((1 << 15) - 1) / i32::from(self.stage::<R>(tile)).max(1)).min(254) as u8;
            let clamp = tile.epilogue.activation == Activation::Clamp as u32;
            let whole = tile.channels.is_multiple_of(LANES);
            let direct = whole && clamp && tile.epilogue.output == DType::I8 as u32 && tile.hint == 1;
            let plain = PlainAvx2::new(&tile.epilogue);
            for column in 0..tile.channels.div_ceil(LANES) {
                let sums = self.column::<R, PARTS, SPARSE>(column, limit);
                if direct && tile.residual.is_null() {
                    finish::<R, false>(&sums, tile, column, &plain);
                } else if direct {
                    finish::<R, true>(&sums, tile, column, &plain);
                } else {
                    self.finish_slowly::<R>(&sums, tile, column);
                }
            }
        }
    }

    /// Stages the pixels, shifted to 0..=255; returns a bound of what they are.
    ///
    /// # Safety
    /// As [`Self::tile`].
    #[inline(always)]
    unsafe fn stage<const R: usize>(&mut self, tile: &Tile) -> u8 {
        let bytes = tile.kc.next_multiple_of(4);
        // SAFETY: `runs` has `ROWS` entries per tap, each readable for `kc` elements rounded up to a unit; all of them fit
        // a staged row.
        unsafe {
            let flip = _mm256_set1_epi8(-128);
            let low = _mm256_castsi256_si128(flip);
            let (mut most, mut most_low) = (_mm256_setzero_si256(), _mm_setzero_si128());
            for row in 0..R {
                let mut to = self.x.start().add(row * STRIDE);
                for tap in 0..tile.taps {
                    let from = *tile.runs.add(tap * ROWS + row);
                    let mut at = 0;
                    while at + 32 <= bytes {
                        let x = _mm256_xor_si256(_mm256_loadu_si256(from.add(at).cast()), flip);
                        _mm256_storeu_si256(to.add(at).cast(), x);
                        most = _mm256_max_epu8(most, x);
                        at += 32;
                    }
                    if at + 16 <= bytes {
                        let x = _mm_xor_si128(_mm_loadu_si128(from.add(at).cast()), low);
                        _mm_storeu_si128(to.add(at).cast(), x);
                        most_low = _mm_max_epu8(most_low, x);
                        at += 16;
                    }
                    while at < bytes {
                        let x = _mm_xor_si128(_mm_cvtsi32_si128(from.add(at).cast::<i32>().read_unaligned()), low);
                        to.add(at).cast::<i32>().write_unaligned(_mm_cvtsi128_si32(x));
                        most_low = _mm_max_epu8(most_low, _mm_and_si128(x, _mm_setr_epi32(-1, 0, 0, 0)));
                        at += 4;
                    }
                    to = to.add(bytes);
                }
            }
            let most = _mm_max_epu8(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
            let least = _mm_xor_si128(_mm_max_epu8(most, most_low), _mm_set1_epi8(-1));
            // The least word of both bytes of each pair.
            let least = _mm_min_epu8(least, _mm_srli_epi16::<8>(least));
            !(_mm_extract_epi16::<0>(_mm_minpos_epu16(least)) as u8)
        }
    }

    /// The sums of a column. Units whose greatest pair is at most `limit` are exact as bytes.
    ///
    /// # Safety
    /// As [`Self::tile`]; the column exists, and the tile is staged.
    #[inline(always)]
    unsafe fn column<const R: usize, const PARTS: usize, const SPARSE: bool>(
        &mut self,
        column: usize,
        limit: u8,
    ) -> [__m256i; R] {
        // SAFETY: the caller's promise; greatest pairs are readable up to a multiple of 64, and places are inside a pixel.
        unsafe {
            let x = self.x.start().cast_const();
            let greatest = self.greatest.start().add(column * PITCH).cast_const();
            let places = self.places.start().add(column / PARTS * UNITS).cast_const();
            let Column { weights, units, .. } = *self.columns.start().add(column);
            let mut sums = [_mm256_loadu_si256((&raw const (*self.columns.start().add(column)).bias).cast()); R];
            let limit = _mm256_set1_epi8(limit as i8);
            let ones = _mm256_set1_epi16(1);
            let mut exact = [0u64; PITCH / 64];
            for begin in (0..units).step_by(64) {
                let mut left = safe(greatest.add(begin), limit);
                exact[begin / 64] = left;
                while left != 0 {
                    let unit = begin + left.trailing_zeros() as usize;
                    left &= left - 1;
                    let w = weights.add(unit * PARTS * UNIT_BYTES);
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD).cast());
                    let w = _mm256_loadu_si256(w.cast());
                    let x = held(x.add(4 * if SPARSE { usize::from(*places.add(unit)) } else { unit }));
                    for row in 0..R {
                        let x = _mm256_set1_epi32(x.add(row * STRIDE).cast::<i32>().read_unaligned());
                        let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones);
                        sums[row] = _mm256_add_epi32(sums[row], pairs);
                    }
                }
            }
            let byte = _mm256_set1_epi16(0xff);
            for begin in (0..units).step_by(64) {
                let mut left = !exact[begin / 64];
                if units - begin < 64 {
                    left &= (1 << (units - begin)) - 1;
                }
                while left != 0 {
                    let unit = begin + left.trailing_zeros() as usize;
                    left &= left - 1;
                    let w = _mm256_loadu_si256(weights.add(unit * PARTS * UNIT_BYTES).cast());
                    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w));
                    let odd = _mm256_srai_epi16::<8>(w);
                    let x = held(x.add(4 * if SPARSE { usize::from(*places.add(unit)) } else { unit }));
                    for row in 0..R {
                        let x = _mm256_set1_epi32(x.add(row * STRIDE).cast::<i32>().read_unaligned());
                        let a = _mm256_madd_epi16(_mm256_and_si256(x, byte), even);
                        let b = _mm256_madd_epi16(_mm256_srli_epi16::<8>(x), odd);
                        sums[row] = _mm256_add_epi32(_mm256_add_epi32(sums[row], a), b);
                    }
                }
            }
            sums
        }
    }

    /// The last step of a column that is not a plain one: when its block is complete.
    ///
    /// # Safety
    /// As [`Self::tile`]; the column exists.
    #[inline(always)]
    unsafe fn finish_slowly<const R: usize>(&mut self, sums: &[__m256i; R], tile: &Tile, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            for row in 0..R {
                let to = self.sums.start().add(row * 2 * LANES + column % 2 * LANES);
                _mm256_store_si256(to.cast(), sums[row]);
            }
            let (last, first) = (column + 1 == tile.channels.div_ceil(LANES), column / 2 * 2 * LANES);
            if column.is_multiple_of(2) && !last {
                return;
            }
            let last = Last {
                y: tile.y,
                residual: tile.residual,
                bias: core::ptr::null(),
                scale: tile.scale,
                slopes: tile.slopes,
                channels: tile.channels,
                rows: tile.rows,
                epilogue: &tile.epilogue,
            };
            Avx2::finish::<Two<V8>, false>(&last, first, self.sums.start());
        }
    }
}

/// The last step of a column, where it is a plain one.
///
/// # Safety
/// As [`Work::tile`]; the column exists whole; `RESIDUAL` says whether there is one.
#[inline(always)]
unsafe fn finish<const R: usize, const RESIDUAL: bool>(
    sums: &[__m256i; R],
    tile: &Tile,
    column: usize,
    plain: &PlainAvx2,
) {
    const { assert!(R <= ROWS) };
    let first = column * LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm256_loadu_ps(tile.scale.add(first));
        // As a loop the compiler would keep it, and sums in memory.
        macro_rules! rows {
            ($($row:literal)+) => { $(if $row < R {
                let rows = [$row, last::<R>($row + 1), last::<R>($row + 2), last::<R>($row + 3)];
                let (mut values, mut y) = ([scale; 4], [core::ptr::null_mut(); 4]);
                for n in 0..4 {
                    values[n] = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[rows[n]]), scale);
                    if RESIDUAL {
                        let residual = (*tile.residual.add(rows[n])).add(first);
                        values[n] = plain.add_residual(values[n], residual, &tile.epilogue);
                    }
                    y[n] = (*tile.y.add(rows[n])).add(first);
                }
                plain.store(values, y, R - $row);
            })+ };
        }
        rows!(0 4 8);
    }
}

/// The address, of which the compiler knows nothing: else it would load all rows before it multiplies one.
#[inline(always)]
fn held(mut x: *const u8) -> *const u8 {
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) x, options(pure, readonly, nostack, preserves_flags)) };
    x
}

/// Which of 64 greatest pairs are at most `limit`.
///
/// # Safety
/// The CPU has AVX2; they are readable.
#[inline(always)]
unsafe fn safe(greatest: *const u8, limit: __m256i) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let a = _mm256_loadu_si256(greatest.cast());
        let b = _mm256_loadu_si256(greatest.add(32).cast());
        let a = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, limit), a));
        let b = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(b, limit), b));
        u64::from(a as u32) | u64::from(b as u32) << 32
    }
}

/// Writes the greatest pair of each unit of a column; returns 128 times the sums of its weights.
///
/// # Safety
/// The CPU has AVX2; so many units of weights are readable, and as many greatest pairs may be written.
#[inline(always)]
unsafe fn look<const PARTS: usize>(weights: *const u8, units: usize, greatest: *mut u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, ones) = (_mm256_setzero_si256(), _mm256_set1_epi8(1));
        let mut shift = zero;
        for begin in (0..units).step_by(4) {
            let (mut pairs, mut sum) = ([zero; 4], zero);
            for n in 0..4 {
                if begin + n < units {
                    let w = _mm256_loadu_si256(weights.add((begin + n) * PARTS * UNIT_BYTES).cast());
                    let both = _mm256_maddubs_epi16(ones, w);
                    let above = _mm256_maddubs_epi16(ones, _mm256_max_epi8(w, zero));
                    pairs[n] = _mm256_max_epi16(above, _mm256_sub_epi16(above, both));
                    sum = _mm256_add_epi16(sum, both);
                }
            }
            shift = _mm256_add_epi32(shift, _mm256_madd_epi16(sum, _mm256_set1_epi16(128)));
            // The greatest of 16 pairs, 256 as 255.
            let a = _mm256_packus_epi16(pairs[0], pairs[1]);
            let b = _mm256_packus_epi16(pairs[2], pairs[3]);
            let a = _mm_castsi128_ps(_mm_max_epu8(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)));
            let b = _mm_castsi128_ps(_mm_max_epu8(_mm256_castsi256_si128(b), _mm256_extracti128_si256::<1>(b)));
            let low = _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(a, b));
            let high = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(a, b));
            let most = _mm_max_epu8(low, high);
            let most = _mm_max_epu8(most, _mm_srli_epi32::<16>(most));
            let most = _mm_max_epu8(most, _mm_srli_epi32::<8>(most));
            let order = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
            let four = _mm_cvtsi128_si32(_mm_shuffle_epi8(most, order)).to_le_bytes();
            if begin + 4 <= units {
                greatest.add(begin).cast::<[u8; 4]>().write(four);
            } else {
                core::ptr::copy_nonoverlapping(four.as_ptr(), greatest.add(begin), units - begin);
            }
        }
        shift
    }
}

/// Whether the reduction fits, there are so many pixels that looking at the weights pays, and most of them are small ones.
fn suits(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    let units = (p.kh as usize * p.kw as usize).saturating_mul((p.kc as usize).div_ceil(4));
    let pixels = p.batch as usize * p.out_h as usize * p.out_w as usize;
    (1..=UNITS).contains(&units) && pixels >= 2 * ROWS && are_common(call.input(conv_input::WEIGHTS).bytes)
}

/// Whether at most half of some units of packed weights, from all over, have a pair that is greater than [`COMMON`]. Every run
/// asks, of any CPU: SSE2, and few units.
fn are_common(weights: &[u8]) -> bool {
    let is_great = |unit: &[u8; UNIT_BYTES]| {
        unit.as_chunks::<16>().0.iter().any(|half| {
            // SAFETY: 16 bytes, and SSE2 is part of every 64-bit x86.
            unsafe {
                let pairs = _mm_loadu_si128(half.as_ptr().cast());
                let (even, odd) = (_mm_srai_epi16::<8>(_mm_slli_epi16::<8>(pairs)), _mm_srai_epi16::<8>(pairs));
                let zero = _mm_setzero_si128();
                let above = _mm_add_epi16(_mm_max_epi16(even, zero), _mm_max_epi16(odd, zero));
                let below = _mm_sub_epi16(above, _mm_add_epi16(even, odd));
                let great = _mm_cmpgt_epi16(_mm_max_epi16(above, below), _mm_set1_epi16(COMMON));
                _mm_movemask_epi8(great) != 0
            }
        })
    };
    let (units, _) = weights.as_chunks();
    let some = units.iter().step_by((units.len() / LOOKED_AT).max(1));
    2 * some.clone().filter(|unit| is_great(unit)).count() <= some.len()
}

macro_rules! catalogue {
    ($(#[$doc:meta])* $($name:literal, $micro:ident, $layout:ident, $parts:literal, $sparse:literal;)*) => {
        $(
            struct $micro;

            impl $micro {
                /// # Safety
                /// As [`Work::begin`].
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn begin(tile: &Tile, work: &mut Work) {
                    // SAFETY: the caller's promise.
                    unsafe { work.begin::<$parts, $sparse>(tile) }
                }

                /// # Safety
                /// As [`Work::tile`].
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn run(tile: &Tile, work: &mut Work) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        match tile.rows {
                            1 => work.tile::<1, $parts, $sparse>(tile),
                            2..=6 => work.tile::<6, $parts, $sparse>(tile),
                            _ => work.tile::<ROWS, $parts, $sparse>(tile),
                        }
                    }
                }
            }

            impl Micro for $micro {
                const ROWS: usize = ROWS;
                const PANELS: usize = COLUMNS / $parts;

                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn prepare(tile: &Tile) -> u32 {
                    // SAFETY: the caller's promise.
                    u32::from(unsafe { are_small(tile.scale, tile.bias, tile.channels, tile.taps * tile.kc) })
                }

                #[inline(always)]
                unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
                    let mut work = Work::NEW;
                    // SAFETY: the caller's promise.
                    unsafe {
                        Self::begin(tile, &mut work);
                        while next(tile).is_some() {
                            Self::run(tile, &mut work);
                        }
                    }
                }
            }
        )*

        $(#[$doc])*
        pub(crate) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Conv,
            requires: AVX2,
            accepts: |call| accepts(call, ROWS, Layout::$layout) && suits(call),
            units: units::<$micro>,
            run: drive::<$micro>,
        }),*];
    };
}

catalogue! {
    /// What goes before [`super::AVX2_CATALOGUE`].
    "convbytes_i8_b16_avx2", ConvI8, DenseI8, 2, false;
    "spconvbytes_i8_b16_avx2", SpconvI8B16, SparseI8B16, 2, true;
    "spconvbytes_i8_b8_avx2", SpconvI8B8, SparseI8B8, 1, true;
}
