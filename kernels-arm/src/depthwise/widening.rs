//! Depthwise convolution of int8 on CPUs without a dot product, and of kernels too large for it.
//!
//! Pixel by pixel, eight channels at a time: inputs and weights are widened to 16 bits, products added up in 32.

use super::dot::put_slow;
use crate::finish::{Factor, Range, Requant, is_plain};
use crate::simd::load_bytes;
use core::arch::aarch64::*;
use sparrow_kernels::DType;
use sparrow_kernels::conv::MAX_TAPS;
use sparrow_kernels::depthwise::{Row, RowMicro};

/// The kernel, dense or with dropped taps.
pub struct Widening<const SPARSE: bool>;

impl<const SPARSE: bool> RowMicro for Widening<SPARSE> {
    unsafe fn prepare(row: &Row) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { Range::new(row.bias.cast(), row.scale, row.channels, row.kh * row.kw, &row.epilogue) as u32 }
    }

    unsafe fn row(row: &Row) {
        let mut all = [core::ptr::null(); MAX_TAPS];
        let mut some = all;
        for ox in 0..row.out_w {
            for (tap, x) in all.iter_mut().enumerate().take(row.kh * row.kw) {
                // SAFETY: the tap and the pixel exist.
                *x = unsafe { row.tap(ox, tap / row.kw, tap % row.kw) };
            }
            let (mut weights, mut positions) = (row.weights, row.positions);
            for block in (0..row.channels).step_by(16) {
                // SAFETY: the block exists, with its count, positions and weights.
                unsafe {
                    let x = if SPARSE {
                        let kept = core::slice::from_raw_parts(positions, usize::from(*row.counts.add(block / 16)));
                        kept.iter().zip(&mut some).for_each(|(&tap, x)| *x = all[usize::from(tap)]);
                        positions = positions.add(kept.len());
                        &some[..kept.len()]
                    } else {
                        &all[..row.kh * row.kw]
                    };
                    for half in (0..(row.channels - block).min(16)).step_by(8) {
                        pixel(row, block + half, ox, x, weights.add(half));
                    }
                    weights = weights.add(16 * x.len());
                }
            }
        }
    }
}

/// Eight channels (or the last few) of an output pixel; `x` holds where each tap reads channel 0.
///
/// # Safety
/// Pixel and channel exist; each tap has its weights, 16 bytes apart.
#[inline(always)]
unsafe fn pixel(row: &Row, channel: usize, ox: usize, x: &[*const u8], weights: *const u8) {
    let count = (row.channels - channel).min(8);
    let plain = is_plain(&row.epilogue, DType::I8, !row.residual.is_null()) && count == 8;
    let range = if plain { Range::from_hint(row.hint) } else { Range::Any };
    // SAFETY: per-channel vectors and weights are padded to 16 channels; inputs and outputs have `count`.
    unsafe {
        let bias = row.bias.cast::<i32>().add(channel);
        let mut sums = [range.begin(vld1q_s32(bias)), range.begin(vld1q_s32(bias.add(4)))];
        for (n, x) in x.iter().enumerate() {
            let x = x.add(channel);
            let x = if count == 8 { vld1_s8(x.cast()) } else { vreinterpret_s8_u8(vget_low_u8(load_bytes(x, count))) };
            let (x, w) = (vmovl_s8(x), vmovl_s8(vld1_s8(weights.add(16 * n).cast())));
            sums = [vmlal_s16(sums[0], vget_low_s16(x), vget_low_s16(w)), vmlal_high_s16(sums[1], x, w)];
        }
        if !plain {
            return put_slow(row, channel, ox, &sums);
        }
        let scale = row.scale.add(channel);
        let factors = [vld1q_f32(scale), vld1q_f32(scale.add(4))].map(|by| Factor { by, less: Factor::less(by) });
        let codes = match range {
            Range::Whole => Requant::new(&row.epilogue, Range::Whole).codes8(sums, factors),
            Range::Tiny => Requant::new(&row.epilogue, Range::Tiny).codes8(sums, factors),
            Range::Relu => Requant::new(&row.epilogue, Range::Relu).codes8(sums, factors),
            Range::Any => Requant::new(&row.epilogue, Range::Any).codes8(sums, factors),
        };
        vst1_s8(row.y.add(ox * row.y_step + channel).cast(), codes);
    }
}
