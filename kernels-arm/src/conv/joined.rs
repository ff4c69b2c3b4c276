//! A first layer's taps: three by three of three colours, whose columns are one run of nine bytes. Joined, they are 27 bytes in
//! seven units of four, where three taps of two units and a byte would take nine.
//!
//! 16 bytes hold the runs of two neighbours, p and q, and table look-ups join those of two taps:
//!
//! ```text
//! tap a       p0 p1 .. p5 | p6=q0 p7=q1 p8=q2 | q3 .. q8       (stride 2: six bytes from p to q)
//! pixel p     a0..8 b0..6 | b7..8 c0..8
//! ```

use crate::simd::again;
use core::arch::aarch64::*;
use sparrow_kernels::conv::{Line, Tile};

/// How the runs of a line are joined.
pub struct Joined {
    /// For the first neighbour and the second: where the bytes of the first two taps are, and of the last two.
    tables: [[uint8x16_t; 2]; 2],
}

pub const TAPS: usize = 3;
pub const RUN: usize = 9;
pub const UNITS: usize = 7;

/// Weights, joined alike, of sixteen channels.
pub type Weights = [[int32x4_t; 4]; UNITS];

/// Whether a line's runs are joined: 16 bytes from a pixel's run hold its neighbour's, and end before what may be read past
/// that.
#[inline(always)]
pub fn takes(tile: &Tile, line: &Line) -> bool {
    (tile.taps, tile.kc) == (TAPS, RUN) && (4..=7).contains(&line.x_step)
}

impl Joined {
    pub fn new(line: &Line) -> Self {
        // What is past the last run meets zero weights.
        const FIRST: [[u64; 2]; 2] =
            [[0x0706_0504_0302_0100, 0x1615_1413_1211_1008], [0x1514_1312_1110_0807, 0x0000_0000_0018_1716]];
        let step = line.x_step as u64 * 0x0101_0101_0101_0101;
        let table = |[low, high]: [u64; 2], more: u64| {
            // SAFETY: NEON is part of every 64-bit Arm.
            unsafe { vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(low + more), vcreate_u64(high + more))) }
        };
        Self { tables: [FIRST.map(|first| table(first, 0)), FIRST.map(|first| table(first, step))] }
    }

    /// The joined runs of `R` pixels: the first 16 bytes, or the last 11 of them.
    ///
    /// # Safety
    /// The line takes them, and there are at least two.
    #[inline(always)]
    pub unsafe fn inputs<const R: usize, const LAST: bool>(&self, line: &Line) -> [int8x16_t; R] {
        core::array::from_fn(|r| {
            // The last of an odd number is the second of a pair, too, for nothing may lie behind it.
            let second = r % 2 == 1 || r == R - 1;
            let x = line.x.wrapping_add((r - usize::from(second)) * line.x_step + usize::from(LAST) * line.x_tap);
            // SAFETY: the 16 bytes are those of two runs.
            unsafe {
                let taps = uint8x16x2_t(vld1q_u8(x), vld1q_u8(x.add(line.x_tap)));
                vreinterpretq_s8_u8(vqtbl2q_u8(taps, again(&self.tables[usize::from(second)][usize::from(LAST)])))
            }
        })
    }
}

/// The weights, joined.
///
/// # Safety
/// The tile's weights are valid: a tap has three units, the last of one byte and zeros.
pub unsafe fn weights(tile: &Tile) -> Weights {
    // SAFETY: the caller's promise.
    unsafe {
        let unit = |tap: usize, unit: usize, v: usize| {
            vreinterpretq_u32_s8(vld1q_s8(tile.weights.add(192 * tap + 64 * unit + 16 * v).cast()))
        };
        let mut weights = [[vdupq_n_s32(0); 4]; 7];
        for v in 0..4 {
            let [a, b, c] = [0, 1, 2].map(|tap| [0, 1, 2].map(|n| unit(tap, n, v)));
            let or = |a, b| vorrq_u32(a, b);
            let joined = [
                a[0],
                a[1],
                or(a[2], vshlq_n_u32::<8>(b[0])),
                or(vshrq_n_u32::<24>(b[0]), vshlq_n_u32::<8>(b[1])),
                or(or(vshrq_n_u32::<24>(b[1]), vshlq_n_u32::<8>(b[2])), vshlq_n_u32::<16>(c[0])),
                or(vshrq_n_u32::<16>(c[0]), vshlq_n_u32::<16>(c[1])),
                or(vshrq_n_u32::<16>(c[1]), vshlq_n_u32::<16>(c[2])),
            ];
            for (weights, joined) in weights.iter_mut().zip(joined) {
                weights[v] = vreinterpretq_s32_u32(joined);
            }
        }
        weights
    }
}
