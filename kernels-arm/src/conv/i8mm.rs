//! int8 convolution with SMMLA: 2 x 8 by 8 x 2 products an instruction, twice SDOT's.
//!
//! The panel holds 4 channels of 4 positions a vector; zipping the words of two neighbouring units makes its operand, and
//! so does zipping the 8-byte halves of two pixels:
//!
//! ```text
//! unit u      c0:k0..3  c1:k0..3  c2:k0..3  c3:k0..3      zip1 -> c0:k0..7  c1:k0..7
//! unit u+1    c0:k4..7  c1:k4..7  c2:k4..7  c3:k4..7      zip2 -> c2:k0..7  c3:k0..7
//! pixels p, q p:k0..7 p:k8..15, q:k0..7 q:k8..15          zip1 -> p:k0..7   q:k0..7
//! sums        p:c0  p:c1  q:c0  q:c1
//! ```
//!
//! 6 pixels by 16 channels take 24 registers of sums; the zips cost 12 of 36 vector instructions, so a step could be 1.4
//! times as fast as SDOT's, not twice. The compiler spills sums, though, and by the cost model it takes 2.5 times as long.

use super::number::{bias_i8, finish_i8, hint_i8};
use crate::simd::smmla;
use core::arch::aarch64::*;
use sparrow_kernels::conv::{Micro, Tile};

/// Pairs of pixels of a tile.
const PAIRS: usize = 3;

/// The dense tile.
pub struct Dense;

impl Micro for Dense {
    const ROWS: usize = 2 * PAIRS;
    const PANELS: usize = 1;

    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { hint_i8(tile) }
    }

    unsafe fn tile(tile: &Tile) {
        // SAFETY: the caller's promise. With up to two pixels the others are copies of the second.
        unsafe { if tile.rows <= 2 { dense::<1>(tile) } else { dense::<PAIRS>(tile) } }
    }
}

/// Sums of `P` pairs of pixels by 8 pairs of channels.
type Sums<const P: usize> = [[int32x4_t; 8]; P];

/// # Safety
/// As [`Micro::tile`].
#[inline(never)]
unsafe fn dense<const P: usize>(tile: &Tile) {
    // SAFETY: bias, weights and runs are as the tile says: a tap has `units` units.
    unsafe {
        let bias = bias_i8::<4>(tile).map(|sum| vreinterpretq_s64_s32(sum));
        let bias: [int32x4_t; 8] = core::array::from_fn(|c| {
            vreinterpretq_s32_s64(if c % 2 == 0 {
                vzip1q_s64(bias[c / 2], bias[c / 2])
            } else {
                vzip2q_s64(bias[c / 2], bias[c / 2])
            })
        });
        let mut sums: Sums<P> = [bias; P];
        let units = tile.kc.div_ceil(4);
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let runs = tile.runs.add(tap * Dense::ROWS);
            let mut x: [[*const u8; 2]; P] = core::array::from_fn(|p| [*runs.add(2 * p), *runs.add(2 * p + 1)]);
            for _ in 0..units / 4 {
                let inputs = x.map(|pair| pair.map(|x| vreinterpretq_s64_s8(vld1q_s8(x.cast()))));
                step(&mut sums, weights, &inputs.map(|[p, q]| vreinterpretq_s8_s64(vzip1q_s64(p, q))));
                step(&mut sums, weights.add(128), &inputs.map(|[p, q]| vreinterpretq_s8_s64(vzip2q_s64(p, q))));
                x = x.map(|pair| pair.map(|x| x.add(16)));
                weights = weights.add(256);
            }
            if units % 4 >= 2 {
                step(&mut sums, weights, &x.map(|[p, q]| vcombine_s8(vld1_s8(p.cast()), vld1_s8(q.cast()))));
                x = x.map(|pair| pair.map(|x| x.add(8)));
                weights = weights.add(128);
            }
            if units % 2 == 1 {
                last(&mut sums, weights, &x.map(|pair| half(pair)));
                weights = weights.add(64);
            }
        }
        for (p, pair) in sums.into_iter().enumerate() {
            let wide = pair.map(|sum| vreinterpretq_s64_s32(sum));
            let low = core::array::from_fn(|v| vreinterpretq_s32_s64(vzip1q_s64(wide[2 * v], wide[2 * v + 1])));
            let high = core::array::from_fn(|v| vreinterpretq_s32_s64(vzip2q_s64(wide[2 * v], wide[2 * v + 1])));
            finish_i8::<2, 4>(tile, 2 * p, [low, high]);
        }
    }
}

/// Two units: 8 positions.
///
/// # Safety
/// 128 bytes of weights are readable; the CPU has i8mm.
#[inline(always)]
unsafe fn step<const P: usize>(sums: &mut Sums<P>, weights: *const u8, inputs: &[int8x16_t; P]) {
    for v in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let [even, odd] = [weights.add(16 * v), weights.add(64 + 16 * v)].map(|w| vld1q_s32(w.cast()));
            multiply(sums, v, [vzip1q_s32(even, odd), vzip2q_s32(even, odd)], inputs);
        }
    }
}

/// The last unit of an odd number.
///
/// # Safety
/// 64 bytes of weights are readable; the CPU has i8mm.
#[inline(always)]
unsafe fn last<const P: usize>(sums: &mut Sums<P>, weights: *const u8, inputs: &[int8x16_t; P]) {
    for v in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let (w, zero) = (vld1q_s32(weights.add(16 * v).cast()), vdupq_n_s32(0));
            multiply(sums, v, [vzip1q_s32(w, zero), vzip2q_s32(w, zero)], inputs);
        }
    }
}

/// # Safety
/// The CPU has i8mm.
#[inline(always)]
unsafe fn multiply<const P: usize>(sums: &mut Sums<P>, v: usize, w: [int32x4_t; 2], inputs: &[int8x16_t; P]) {
    for p in 0..P {
        for (half, w) in w.into_iter().enumerate() {
            // SAFETY: the caller's promise. Rows of the first operand are pixels, of the second channels.
            sums[p][2 * v + half] = unsafe { smmla(sums[p][2 * v + half], inputs[p], vreinterpretq_s8_s32(w)) };
        }
    }
}

/// Four positions of two pixels, zeros behind each.
///
/// # Safety
/// Four bytes of each are readable.
#[inline(always)]
unsafe fn half([p, q]: [*const u8; 2]) -> int8x16_t {
    // SAFETY: the caller's promise.
    unsafe {
        let [p, q] = [p, q].map(|x| u64::from(x.cast::<u32>().read_unaligned()));
        vreinterpretq_s8_u64(vcombine_u64(vcreate_u64(p), vcreate_u64(q)))
    }
}
