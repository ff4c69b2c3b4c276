//! Depthwise convolution of int8 with the dot product.
//!
//! Eight channels at a time. Each input column under the output row is turned once: its rows, four at a time, are zipped
//! into words of one channel, kept in a small buffer on the stack, and used by every output that covers the column.
//!
//! ```text
//! rows        r0: a b c d ..   r1: a b c d ..   r2: a b c d ..   r3 (or zeros)
//! column      a:r0..3 b:r0..3 c:r0..3 d:r0..3 | e:r0..3 f:.. g:.. h:..        one dot product a tap column and half
//! weights     the same turn of the kernel's rows, once a row and 8 channels
//! ```
//!
//! Columns outside the picture are the turned pad, so borders are no special case. Dropped taps are zero weights: there
//! is no saving from them here, since the dot product takes a whole column of the kernel.

use crate::finish::{Range, Requant, Slow, is_plain};
use crate::simd::*;
use core::arch::aarch64::*;
use sparrow_kernels::depthwise::{Row, RowMicro};
use sparrow_kernels::{Call, ConvParams, DType};

/// Most rows of a kernel, in groups of four.
const GROUPS: usize = 2;
/// Most columns of a kernel.
const WIDTH: usize = 8;
/// Columns in the buffer.
const COLUMNS: usize = 64;

/// A turned column of four rows: channels 0 to 3 and 4 to 7.
type Turned = [int8x16_t; 2];

/// Nothing, turned.
// SAFETY: sixteen zero bytes are a vector.
const ZERO: Turned = unsafe { core::mem::transmute([0u8; 32]) };
// SAFETY: as above.
const ZERO_ROW: int8x8_t = unsafe { core::mem::transmute([0u8; 8]) };

/// Whether the kernel is small enough.
pub fn fits(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    let reach = (p.kw as usize - 1) * p.dil_w as usize + 1;
    p.kh as usize <= 4 * GROUPS && p.kw as usize <= WIDTH && reach + p.stride_w as usize <= COLUMNS
}

/// The kernel, dense or with dropped taps.
pub struct Dot<const SPARSE: bool>;

impl<const SPARSE: bool> RowMicro for Dot<SPARSE> {
    unsafe fn prepare(row: &Row) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { Range::hint(row.bias.cast(), row.scale, row.channels, row.kh * row.kw, &row.epilogue) }
    }

    unsafe fn row(row: &Row) {
        let (mut weights, mut positions) = (row.weights, row.positions);
        for channel in (0..row.channels).step_by(8) {
            // SAFETY: the block exists, with its count, positions and weights.
            unsafe {
                let kept = if SPARSE { usize::from(*row.counts.add(channel / 16)) } else { row.kh * row.kw };
                let kernel = if SPARSE {
                    Kernel::sparse(row, weights.add(channel % 16), core::slice::from_raw_parts(positions, kept))
                } else {
                    Kernel::dense(row, weights.add(channel % 16))
                };
                match row.kh.div_ceil(4) {
                    1 => eight::<1>(row, channel, &kernel),
                    _ => eight::<GROUPS>(row, channel, &kernel),
                }
                if channel % 16 == 8 {
                    weights = weights.add(16 * kept);
                    positions = if SPARSE { positions.add(kept) } else { positions };
                }
            }
        }
    }
}

/// The turned weights of eight channels: `[kx][group]`.
struct Kernel([[Turned; GROUPS]; WIDTH]);

/// Turns four rows.
#[inline(always)]
fn turn(rows: [int8x8_t; 4]) -> Turned {
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe {
        let wide = rows.map(|row| vcombine_s8(row, vdup_n_s8(0)));
        let (even, odd) = (vzip1q_s8(wide[0], wide[1]), vzip1q_s8(wide[2], wide[3]));
        let (even, odd) = (vreinterpretq_s16_s8(even), vreinterpretq_s16_s8(odd));
        [vreinterpretq_s8_s16(vzip1q_s16(even, odd)), vreinterpretq_s8_s16(vzip2q_s16(even, odd))]
    }
}

impl Kernel {
    fn new(row: &Row, tap: impl Fn(usize) -> int8x8_t) -> Self {
        let mut kernel = Self([[ZERO; GROUPS]; WIDTH]);
        for (kx, column) in kernel.0.iter_mut().enumerate().take(row.kw) {
            for (group, turned) in column.iter_mut().enumerate().take(row.kh.div_ceil(4)) {
                let at = |i: usize| if 4 * group + i < row.kh { tap((4 * group + i) * row.kw + kx) } else { ZERO_ROW };
                *turned = turn([at(0), at(1), at(2), at(3)]);
            }
        }
        kernel
    }

    /// # Safety
    /// 8 channels of `kh * kw` taps, 16 bytes apart, are readable.
    #[inline(always)]
    unsafe fn dense(row: &Row, weights: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self::new(row, |tap| unsafe { vld1_s8(weights.add(16 * tap).cast()) })
    }

    /// # Safety
    /// As [`Kernel::dense`], for the kept taps.
    unsafe fn sparse(row: &Row, weights: *const u8, kept: &[u16]) -> Self {
        let mut taps = [ZERO_ROW; 4 * GROUPS * WIDTH];
        for (n, &tap) in kept.iter().enumerate() {
            // SAFETY: the caller's promise.
            taps[usize::from(tap)] = unsafe { vld1_s8(weights.add(16 * n).cast()) };
        }
        Self::new(row, |tap| taps[tap])
    }
}

/// Eight channels (or the last few) of a row, `G` groups of four kernel rows.
///
/// # Safety
/// As [`RowMicro::row`]; the channel exists.
unsafe fn eight<const G: usize>(row: &Row, channel: usize, kernel: &Kernel) {
    let reach = (row.kw - 1) * row.dil_w + 1;
    let most = (COLUMNS - reach) / row.stride_w + 1;
    let mut buffer = [[ZERO; G]; COLUMNS];
    let mut first = 0;
    while first < row.out_w {
        let outs = most.min(row.out_w - first);
        let start = (first * row.stride_w) as isize - row.pad_left;
        // SAFETY: the channels exist; the buffer holds the columns of `outs` outputs.
        unsafe {
            fill::<G>(row, channel, start, &mut buffer[..(outs - 1) * row.stride_w + reach]);
            let outs = first..first + outs;
            match (row.kw, row.dil_w) {
                (3, 1) => outputs::<G, 3>(row, channel, kernel, &buffer, outs),
                (5, 1) => outputs::<G, 5>(row, channel, kernel, &buffer, outs),
                _ => outputs::<G, 0>(row, channel, kernel, &buffer, outs),
            }
        }
        first += most;
    }
}

/// Turns the columns from `start` on into the buffer.
///
/// # Safety
/// The channel exists.
#[inline(always)]
unsafe fn fill<const G: usize>(row: &Row, channel: usize, start: isize, buffer: &mut [[Turned; G]]) {
    let count = (row.channels - channel).min(8);
    // SAFETY: the pad has as many channels, rounded up to 16.
    let pad = unsafe { [vld1_s8(row.pad.add(channel).cast()); 4] };
    let pad = [turn(pad); G];
    for (i, column) in buffer.iter_mut().enumerate() {
        let ix = start + i as isize;
        if (ix as usize) >= row.in_w {
            *column = pad;
            continue;
        }
        for (group, turned) in column.iter_mut().enumerate() {
            // A row past the kernel meets zero weights: the first one stands in.
            let at = |i: usize| if 4 * group + i < row.kh { 4 * group + i } else { 0 };
            // SAFETY: the row and the pixel exist, with `count` channels.
            let load = |i: usize| unsafe {
                let input = *row.inputs.add(at(i));
                let x = input.start.add(ix as usize * input.step + channel);
                if count == 8 { vld1_s8(x.cast()) } else { vreinterpret_s8_u8(vget_low_u8(load_bytes(x, count))) }
            };
            *turned = turn([load(0), load(1), load(2), load(3)]);
        }
    }
}

/// Makes the outputs `outs` from their columns; `KW` is the kernel's width if its columns are neighbours, else 0.
///
/// # Safety
/// The channel and the outputs exist; the buffer holds their columns.
#[inline(always)]
unsafe fn outputs<const G: usize, const KW: usize>(row: &Row, channel: usize, kernel: &Kernel, buffer: &[[Turned; G]; COLUMNS], outs: core::ops::Range<usize>) {
    let range = Range::from_hint(row.hint);
    let plain = is_plain(&row.epilogue, DType::I8, !row.residual.is_null()) && row.channels - channel >= 8;
    // SAFETY: the caller's promise. Each range is a copy of the code with its choices made.
    unsafe {
        match (plain, range) {
            (true, Range::Tiny) => store::<G, KW>(row, channel, kernel, buffer, outs, Range::Tiny),
            (true, _) => store::<G, KW>(row, channel, kernel, buffer, outs, Range::Any),
            (false, _) => store_slow::<G>(row, channel, kernel, buffer, outs),
        }
    }
}

/// The sums of an output whose first column is `at`.
#[inline(always)]
unsafe fn sums<const G: usize, const KW: usize>(row: &Row, bias: [int32x4_t; 2], kernel: &Kernel, buffer: &[[Turned; G]; COLUMNS], at: usize) -> [int32x4_t; 2] {
    let mut sums = bias;
    let (width, step) = if KW == 0 { (row.kw, row.dil_w) } else { (KW, 1) };
    for kx in 0..width {
        for group in 0..G {
            // SAFETY: the column is in the buffer, the weights are in the kernel; the CPU has dotprod.
            unsafe {
                let column = buffer.get_unchecked(at + kx * step).get_unchecked(group);
                let weights = kernel.0.get_unchecked(kx).get_unchecked(group);
                sums = [sdot(sums[0], weights[0], column[0]), sdot(sums[1], weights[1], column[1])];
            }
        }
    }
    sums
}

/// # Safety
/// As [`outputs`]; eight channels.
#[inline(always)]
unsafe fn store<const G: usize, const KW: usize>(row: &Row, channel: usize, kernel: &Kernel, buffer: &[[Turned; G]; COLUMNS], outs: core::ops::Range<usize>, range: Range) {
    let requant = Requant::new(&row.epilogue, range);
    // SAFETY: bias and factors are padded to 16 channels; the outputs have 8 channels.
    unsafe {
        let (bias, scale) = (row.bias.cast::<i32>().add(channel), row.scale.add(channel));
        let bias = [range.begin(vld1q_s32(bias)), range.begin(vld1q_s32(bias.add(4)))];
        let factors = [vld1q_f32(scale), vld1q_f32(scale.add(4))];
        let mut y = row.y.add(outs.start * row.y_step + channel);
        for i in 0..outs.len() {
            let sums = sums::<G, KW>(row, bias, kernel, buffer, i * row.stride_w);
            vst1_s8(y.cast(), requant.codes8(sums, factors));
            y = y.wrapping_add(row.y_step);
        }
    }
}

/// # Safety
/// As [`outputs`].
#[inline(never)]
unsafe fn store_slow<const G: usize>(row: &Row, channel: usize, kernel: &Kernel, buffer: &[[Turned; G]; COLUMNS], outs: core::ops::Range<usize>) {
    // SAFETY: per-channel vectors are padded to 16 channels; pixel and channels exist.
    unsafe {
        let bias = row.bias.cast::<i32>().add(channel);
        let bias = [vld1q_s32(bias), vld1q_s32(bias.add(4))];
        for (i, ox) in outs.enumerate() {
            let sums = sums::<G, 0>(row, bias, kernel, buffer, i * row.stride_w);
            put_slow(row, channel, ox, &sums);
        }
    }
}

/// Finishes up to eight channels of an output that is no plain one.
///
/// # Safety
/// Pixel and channel exist.
pub unsafe fn put_slow(row: &Row, channel: usize, ox: usize, sums: &[int32x4_t; 2]) {
    let size = DType::ALL[row.epilogue.output as usize].size();
    let vector = |values: *const f32| if values.is_null() { values } else { values.wrapping_add(channel) };
    let residual = if row.residual.is_null() { row.residual } else { row.residual.wrapping_add(ox * row.residual_step + channel * size) };
    let slow = Slow { epilogue: &row.epilogue, slopes: vector(row.slopes), channels: (row.channels - channel).min(8) };
    // SAFETY: the caller's promise.
    unsafe { slow.pixel_i32(sums.as_ptr().cast(), vector(row.scale), residual, row.y.add(ox * row.y_step + channel * size)) };
}
