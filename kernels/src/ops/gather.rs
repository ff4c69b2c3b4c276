//! Operators that choose where to read: mirrored and repeated padding, gathering along an axis, and resampling.

use super::shared::{BLOCK, LANES, Number, count, output, results, units_of};
use crate::conv::requantize;
use crate::{
    Call, DType, Draft, Features, GatherParams, Kernel, MAX_RANK, Op, PadMode, PadParams, Refusal, ResampleParams,
    product,
};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;

/// Refuses padding of nothing, or operands that do not fit.
pub(super) fn check_pad(draft: &Draft) -> Result<(), Refusal> {
    let p: &PadParams = draft.params()?;
    draft.at_most(1, 1)?;
    PadMode::from_number(p.mode).ok_or(Refusal::Parameter)?;
    let (x, y) = (draft.input(0)?, draft.output(0)?);
    let (read, written) = (product(&p.in_dims)?, product(&p.out_dims)?);
    if written > 0 && read == 0 {
        return Err(Refusal::Parameter);
    }
    x.expect(&[y.dtype], read)?;
    y.expect(&[y.dtype], written)
}

/// The element of an axis of `len` that stands at `at`, which may lie outside.
fn mirrored(mode: PadMode, at: i64, len: i64) -> usize {
    let inside = match mode {
        PadMode::Edge => at.clamp(0, len - 1),
        PadMode::Wrap => at.rem_euclid(len),
        PadMode::Reflect => {
            let period = (2 * (len - 1)).max(1);
            let at = at.rem_euclid(period);
            at.min(period - at).min(len - 1)
        }
    };
    inside as usize
}

/// Rows of the output, and rows of a unit.
fn pad_rows(p: &PadParams) -> (usize, usize) {
    let row = p.out_dims[MAX_RANK - 1] as usize;
    (count(&p.out_dims[..MAX_RANK - 1]), (BLOCK / row.max(1)).max(1))
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn pad<T: Pod>(call: &Call, units: Range<usize>) {
    const LAST: usize = MAX_RANK - 1;
    let p: &PadParams = call.params();
    let Some(mode) = PadMode::from_number(p.mode) else { return };
    let (rows, block) = pad_rows(p);
    let row_len = p.out_dims[LAST] as usize;
    if row_len == 0 {
        return;
    }
    let x = call.input(0).as_slice::<T>();
    for row in results(&units, block, rows) {
        let (mut rest, mut from, mut stride) = (row, 0, p.in_dims[LAST] as usize);
        for axis in (0..LAST).rev() {
            let at = (rest % p.out_dims[axis] as usize) as i64 - i64::from(p.before[axis]);
            rest /= p.out_dims[axis] as usize;
            from += mirrored(mode, at, p.in_dims[axis].into()) * stride;
            stride *= p.in_dims[axis] as usize;
        }
        let x = &x[from..][..p.in_dims[LAST] as usize];
        // SAFETY: a row belongs to its unit.
        let y = unsafe { output::<T>(call, 0, row * row_len..(row + 1) * row_len) };
        if p.before[LAST] == 0 && x.len() == y.len() {
            y.copy_from_slice(x);
        } else {
            let start = -i64::from(p.before[LAST]);
            y.iter_mut().enumerate().for_each(|(i, y)| *y = x[mirrored(mode, start + i as i64, x.len() as i64)]);
        }
    }
}

/// Refuses gathering from nothing, or operands that do not fit.
pub(super) fn check_gather(draft: &Draft) -> Result<(), Refusal> {
    let p: &GatherParams = draft.params()?;
    draft.at_most(2, 1)?;
    let y = draft.output(0)?;
    let written = product(&[p.outer, p.count, p.inner])?;
    if written > 0 && p.axis == 0 {
        return Err(Refusal::Parameter);
    }
    draft.input(0)?.expect(&[y.dtype], product(&[p.outer, p.axis, p.inner])?)?;
    draft.input(1)?.expect(&[DType::I32, DType::I64], p.count as usize)?;
    y.expect(&[y.dtype], written)
}

/// Slices of a unit, for slices of this many bytes.
pub(super) fn slices(bytes: usize) -> usize {
    (BLOCK / bytes.max(1)).max(1)
}

/// Bytes of one gathered slice.
fn slice_bytes(call: &Call) -> usize {
    (call.params::<GatherParams>().inner as usize).saturating_mul(call.output(0).dtype.size())
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn gather(call: &Call, units: Range<usize>) {
    let p: &GatherParams = call.params();
    let bytes = slice_bytes(call);
    let (x, index) = (call.input(0).bytes, call.input(1));
    if bytes == 0 {
        return;
    }
    for slice in results(&units, slices(bytes), p.outer as usize * p.count as usize) {
        let (outer, i) = (slice / p.count as usize, slice % p.count as usize);
        let at = match index.dtype {
            DType::I64 => index.as_slice::<i64>()[i],
            _ => index.as_slice::<i32>()[i].into(),
        };
        let at = if at < 0 { at.saturating_add(p.axis.into()) } else { at }.clamp(0, i64::from(p.axis) - 1);
        let from = (outer * p.axis as usize + at as usize) * bytes;
        // SAFETY: a slice belongs to its unit.
        unsafe { output::<u8>(call, 0, slice * bytes..(slice + 1) * bytes) }.copy_from_slice(&x[from..from + bytes]);
    }
}

/// Refuses resampling of nothing, or operands that do not fit.
pub(super) fn check_resample(draft: &Draft) -> Result<(), Refusal> {
    let p: &ResampleParams = draft.params()?;
    draft.at_most(3, 1)?;
    let y = draft.output(0)?;
    let (written, taps) = (product(&[p.outer, p.out_len, p.inner])?, product(&[p.out_len, p.taps])?);
    if written > 0 && taps > 0 && p.in_len == 0 {
        return Err(Refusal::Parameter);
    }
    draft.input(0)?.expect(&[y.dtype], product(&[p.outer, p.in_len, p.inner])?)?;
    draft.input(1)?.expect(&[DType::I32], taps)?;
    draft.input(2)?.expect(&[DType::F32], taps)?;
    y.expect(&[DType::F32, DType::F16, DType::I8], written)
}

/// An element that can be averaged in f32.
trait Sample: Pod {
    fn value(self) -> f32;
    fn sample(value: f32) -> Self;
}

macro_rules! float_samples {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            #[inline(always)]
            fn value(self) -> f32 {
                self.get()
            }
            #[inline(always)]
            fn sample(value: f32) -> Self {
                Number::put(value)
            }
        }
    )*};
}
float_samples! { f32 f16 }

impl Sample for i8 {
    #[inline(always)]
    fn value(self) -> f32 {
        self.into()
    }
    #[inline(always)]
    fn sample(value: f32) -> Self {
        requantize(value, -128.0, 127.0, 0)
    }
}

/// Slices of a unit of a resampling.
fn resample_block(p: &ResampleParams) -> usize {
    slices(p.inner as usize)
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn resample<T: Sample>(call: &Call, units: Range<usize>) {
    let p: &ResampleParams = call.params();
    let (inner, taps, out_len) = (p.inner as usize, p.taps as usize, p.out_len as usize);
    let (x, positions, weights) =
        (call.input(0).as_slice::<T>(), call.input(1).as_slice::<i32>(), call.input(2).as_slice::<f32>());
    if inner == 0 {
        return;
    }
    for slice in results(&units, resample_block(p), p.outer as usize * out_len) {
        let (outer, o) = (slice / out_len, slice % out_len);
        let taps = o * taps..(o + 1) * taps;
        // SAFETY: a slice belongs to its unit.
        let y = unsafe { output::<T>(call, 0, slice * inner..(slice + 1) * inner) };
        for (chunk, y) in y.chunks_mut(LANES).enumerate() {
            let mut sums = [0f32; LANES];
            for (&position, &weight) in positions[taps.clone()].iter().zip(&weights[taps.clone()]) {
                let at = i64::from(position).clamp(0, i64::from(p.in_len) - 1) as usize;
                let x = &x[(outer * p.in_len as usize + at) * inner + chunk * LANES..][..y.len()];
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += weight * x.value());
            }
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::sample(sum));
        }
    }
}

const fn kernel(
    name: &'static str,
    op: Op,
    accepts: fn(&Call) -> bool,
    units: fn(&Call) -> usize,
    run: unsafe fn(&Call, Range<usize>),
) -> Kernel {
    Kernel { name, op, requires: Features::NONE, accepts, units, run }
}

fn pad_units(call: &Call) -> usize {
    let (rows, block) = pad_rows(call.params());
    units_of(rows, block)
}

fn gather_units(call: &Call) -> usize {
    let p: &GatherParams = call.params();
    units_of(p.outer as usize * p.count as usize, slices(slice_bytes(call)))
}

fn resample_units(call: &Call) -> usize {
    let p: &ResampleParams = call.params();
    units_of(p.outer as usize * p.out_len as usize, resample_block(p))
}

/// Padding by element size, gathering of bytes, resampling by type.
pub(super) const CATALOGUE: &[Kernel] = &[
    kernel("pad_x8_scalar", Op::Pad, |call| call.output(0).dtype.size() == 1, pad_units, pad::<u8>),
    kernel("pad_x16_scalar", Op::Pad, |call| call.output(0).dtype.size() == 2, pad_units, pad::<u16>),
    kernel("pad_x32_scalar", Op::Pad, |call| call.output(0).dtype.size() == 4, pad_units, pad::<u32>),
    kernel("pad_x64_scalar", Op::Pad, |call| call.output(0).dtype.size() == 8, pad_units, pad::<u64>),
    kernel("gather_x8_scalar", Op::Gather, |_| true, gather_units, gather),
    kernel(
        "resample_f32_scalar",
        Op::Resample,
        |call| call.output(0).dtype == DType::F32,
        resample_units,
        resample::<f32>,
    ),
    kernel(
        "resample_f16_scalar",
        Op::Resample,
        |call| call.output(0).dtype == DType::F16,
        resample_units,
        resample::<f16>,
    ),
    kernel(
        "resample_i8_scalar",
        Op::Resample,
        |call| call.output(0).dtype == DType::I8,
        resample_units,
        resample::<i8>,
    ),
];
