//! Staging for AVX-512's sparse blocks: a unit of all pixels side by side.
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
//! longer and its addresses are short enough for one byte.

use super::Work;
use crate::arithmetic::Arithmetic;
use crate::finish::Isa;
use core::arch::x86_64::*;

/// Words from a staged unit to the next.
pub(super) const PITCH: usize = 32;

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
            // A quarter of a vector from each of four rows: what is left is a transposition of quarters.
            let (a, b, c, d) = (row(n), row(4 + n), row(8 + n), row(12 + n));
            for q in 0..Q {
                let mut v = _mm512_castsi128_si512(_mm_loadu_si128(a.add(16 * q).cast()));
                v = _mm512_mask_broadcast_i32x4(v, 0x00f0, _mm_loadu_si128(b.add(16 * q).cast()));
                v = _mm512_mask_broadcast_i32x4(v, 0x0f00, _mm_loadu_si128(c.add(16 * q).cast()));
                words[q][n] = _mm512_mask_broadcast_i32x4(v, 0xf000, _mm_loadu_si128(d.add(16 * q).cast()));
            }
        }
        for q in 0..Q {
            let [a, b, c, d] = words[q];
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            words[q][0] = _mm512_unpacklo_epi64(ab, cd);
            words[q][1] = _mm512_unpackhi_epi64(ab, cd);
            words[q][2] = _mm512_unpacklo_epi64(ef, gh);
            words[q][3] = _mm512_unpackhi_epi64(ef, gh);
        }
        words
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
                    let flip = _mm512_set1_epi8(A::FLIP);
                    let runs = tile.runs.add(tap * ROWS);
                    let run = |row: usize| (*runs.add((begin + row).min(ROWS - 1))).add(first);
                    let to = self.x.cast::<u32>().add(n * units * TO + begin);
                    let mut unit = 0;
                    while unit + 16 <= units {
                        let words = transposed::<4>(|row| run(row).add(unit * 4));
                        for n in 0..16 {
                            let words = _mm512_xor_si512(words[n / 4][n % 4], flip);
                            _mm512_store_si512(to.add((unit + n) * TO).cast(), words);
                        }
                        unit += 16;
                    }
                    while unit + 4 <= units {
                        let words = transposed::<1>(|row| run(row).add(unit * 4));
                        for n in 0..4 {
                            let words = _mm512_xor_si512(words[0][n], flip);
                            _mm512_store_si512(to.add((unit + n) * TO).cast(), words);
                        }
                        unit += 4;
                    }
                    while unit < units {
                        for row in 0..16 {
                            let word = run(row).add(unit * 4).cast::<u32>().read_unaligned();
                            to.add(unit * TO + row).write(word ^ u32::from_ne_bytes([A::FLIP as u8; 4]));
                        }
                        unit += 1;
                    }
                }
            }
        }
    }
}
