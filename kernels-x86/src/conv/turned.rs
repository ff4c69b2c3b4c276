//! Staging with AVX-512: a unit of all pixels side by side.
//!
//! ```text
//!   memory, a row a pixel            staged, a row a unit
//!   pixel 0    a b c d ...           a of pixels 0..28 | pad to 32
//!   pixel 1    a b c d ...           b of pixels 0..28 | pad
//!   ...                              ...
//! ```
//!
//! A kept unit wants one word of every pixel. Where pixels are rows these lie in as many lines of the cache, and all of a
//! chunk has to fit L1; side by side they are two lines, which may come from L2 ahead of their use, so that a chunk is
//! longer and its addresses are short enough for one byte. Kernels whose vectors hold pixels ([`super::few`],
//! [`super::pixels`]) stage the same way, and turn their sums back by the same transposition.

use super::Work;
use crate::arithmetic::Arithmetic;
use crate::finish::Isa;
use core::arch::x86_64::*;
use sparrow_kernels::conv::Tile;

/// Pixels of a tile of a sparse kernel that stages this way.
pub(super) const ROWS: usize = 28;
/// Words from a staged unit of such a tile to the next.
pub(super) const PITCH: usize = ROWS.next_multiple_of(16);

/// The transpose of 16 rows of `4 * Q` words: `[q][n]` is word `4 * q + n` of each row.
///
/// # Safety
/// The CPU has AVX-512; `row` gives addresses of so many readable words.
#[inline(always)]
pub(super) unsafe fn transposed<const Q: usize>(row: impl Fn(usize) -> *const u8) -> [[__m512i; 4]; Q] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut words = [[_mm512_setzero_si512(); 4]; Q];
        for n in 0..4 {
            let (a, b, c, d) = (row(n), row(4 + n), row(8 + n), row(12 + n));
            for q in 0..Q {
                let [a, b, c, d] = [a, b, c, d].map(|row| row.wrapping_add(16 * q).cast());
                words[q][n] = joined(_mm_loadu_si128(a), _mm_loadu_si128(b), _mm_loadu_si128(c), _mm_loadu_si128(d));
            }
        }
        for q in 0..Q {
            words[q] = quarters(words[q]);
        }
        words
    }
}

/// The transpose of 16 rows of the first words that `mask` chooses of four.
///
/// # Safety
/// As [`transposed`].
#[inline(always)]
unsafe fn transposed_first(mask: __mmask8, row: impl Fn(usize) -> *const u8) -> [__m512i; 4] {
    // SAFETY: the caller's promise; words that are not chosen are not read.
    unsafe {
        let mut words = [_mm512_setzero_si512(); 4];
        for n in 0..4 {
            words[n] = joined(
                _mm_maskz_loadu_epi32(mask, row(n).cast()),
                _mm_maskz_loadu_epi32(mask, row(4 + n).cast()),
                _mm_maskz_loadu_epi32(mask, row(8 + n).cast()),
                _mm_maskz_loadu_epi32(mask, row(12 + n).cast()),
            );
        }
        quarters(words)
    }
}

/// A quarter of a vector from each of four rows, so that what is left to do is [`quarters`].
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn joined(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let ab = _mm512_mask_broadcast_i32x4(_mm512_castsi128_si512(a), 0x00f0, b);
        _mm512_mask_broadcast_i32x4(_mm512_mask_broadcast_i32x4(ab, 0x0f00, c), 0xf000, d)
    }
}

/// The transposes of the four 4x4 matrices that the quarters of four vectors make.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub(super) unsafe fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ef, gh),
            _mm512_unpackhi_epi64(ef, gh),
        ]
    }
}

/// Stages units of 16 rows, side by side: word `n` of unit `u` at `to + u * TO + n`.
///
/// # Safety
/// The CPU has AVX-512; `row` gives addresses of so many readable units, and `to` has room for them.
#[inline(always)]
pub(super) unsafe fn stage<A: Arithmetic, const TO: usize>(
    row: impl Fn(usize) -> *const u8,
    units: usize,
    to: *mut u32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let flip = _mm512_set1_epi8(A::FLIP);
        let mut unit = 0;
        while unit + 16 <= units {
            let words = transposed::<4>(|n| row(n).add(unit * 4));
            for n in 0..16 {
                let words = _mm512_xor_si512(words[n / 4][n % 4], flip);
                _mm512_storeu_si512(to.add((unit + n) * TO).cast(), words);
            }
            unit += 16;
        }
        while unit < units {
            let count = (units - unit).min(4);
            let words = if count == 4 {
                transposed::<1>(|n| row(n).add(unit * 4))[0]
            } else {
                transposed_first((1 << count) - 1, |n| row(n).add(unit * 4))
            };
            for n in 0..count {
                _mm512_storeu_si512(to.add((unit + n) * TO).cast(), _mm512_xor_si512(words[n], flip));
            }
            unit += 4;
        }
    }
}

impl<'a, I: Isa, A: Arithmetic, const ROWS: usize, const LINES: usize, const SPARSE: bool>
    Work<'a, I, A, ROWS, LINES, SPARSE>
{
    /// Stages the chunk of the first `rows` rows, rounded up to 16, `[unit][TO]` words.
    ///
    /// # Safety
    /// As [`Self::run`]; the CPU has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn stage_turned<const TO: usize>(&self, rows: usize) {
        let (tile, chunk) = (self.tile, &self.chunk);
        let first = chunk.units.start * 4;
        let units = chunk.units.len();
        for (n, tap) in chunk.taps.clone().enumerate() {
            for begin in (0..rows).step_by(16) {
                // SAFETY: `runs` has `ROWS` entries per tap, each readable for `kc` elements rounded up to a unit; a chunk
                // fits the buffer.
                unsafe {
                    let runs = tile.runs.add(tap * ROWS);
                    let row = |row: usize| (*runs.add((begin + row).min(ROWS - 1))).add(first);
                    stage::<A, TO>(row, units, self.x.cast::<u32>().add(n * units * TO + begin));
                }
            }
        }
    }

    /// The last step of 16 pixels of a block of 16 channels, from the `begin`th on; `at` tells where the sums of each of its channels
    /// are.
    ///
    /// # Safety
    /// As [`Micro::tile`](sparrow_kernels::conv::Micro::tile); the CPU has AVX-512, block and pixels exist.
    #[inline(always)]
    pub(super) unsafe fn finish_turned(tile: &Tile, block: usize, begin: usize, at: impl Fn(usize) -> *const u8) {
        const { assert!(size_of::<A::Sums>() == 64) };
        let mut tile = *tile;
        // SAFETY: the caller's promise; sums are a vector of words.
        unsafe {
            tile.y = tile.y.add(begin);
            if !tile.residual.is_null() {
                tile.residual = tile.residual.add(begin);
            }
            tile.rows = (tile.rows - begin).min(16);
            let words = transposed::<4>(at);
            let sums = |n: usize| core::mem::transmute_copy::<__m512i, A::Sums>(&words[n / 4][n % 4]);
            let mut pixels = [[sums(0)]; 16];
            for n in 1..16 {
                pixels[n] = [sums(n)];
            }
            if A::finishes(&tile) {
                A::finish(&pixels, &tile, block);
            } else {
                Self::finish_block(&tile, block, (&raw const pixels).cast());
            }
        }
    }
}
