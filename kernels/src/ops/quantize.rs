//! Between real numbers and codes: quantization, dequantization, requantization, and quantization with parameters found
//! in the data.
//!
//! Tensors are `[outer][channels][inner]`, with a scale for each channel. With `inner` 1 the channels lie side by side,
//! and scales are read along with the elements; else each run along `inner` has one scale.

use super::shared::{BLOCK, Number, check_codes, clamp, count, output, results, units_of};
use crate::conv::rounded;
use crate::{
    Call, ChannelParams, DType, Draft, Features, Kernel, LutParams, Op, Refusal, RequantizeParams, Signature, product,
};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;

/// Refuses a scale or zero point that does not go with the codes' type.
fn check_scale(draft: &Draft, codes: &Signature, channels: u32) -> Result<(), Refusal> {
    draft.input(1)?.expect(&[DType::F32], channels as usize)?;
    draft.inputs[2].map_or(Ok(()), |zero| zero.expect(&[codes.dtype], channels as usize))
}

/// Refuses operands of other types or sizes.
pub(super) fn check_quantize(draft: &Draft) -> Result<(), Refusal> {
    let p: &ChannelParams = draft.params()?;
    draft.at_most(3, 1)?;
    let (y, count) = (draft.output(0)?, product(&[p.outer, p.channels, p.inner])?);
    check_scale(draft, y, p.channels)?;
    draft.input(0)?.expect(&[DType::F32, DType::F16], count)?;
    y.expect(&[DType::I8, DType::U8, DType::I32], count)
}

/// Refuses operands of other types or sizes.
pub(super) fn check_dequantize(draft: &Draft) -> Result<(), Refusal> {
    let p: &ChannelParams = draft.params()?;
    draft.at_most(3, 1)?;
    let (x, count) = (draft.input(0)?, product(&[p.outer, p.channels, p.inner])?);
    check_scale(draft, x, p.channels)?;
    x.expect(&[DType::I8, DType::U8, DType::I32], count)?;
    draft.output(0)?.expect(&[DType::F32, DType::F16], count)
}

/// Refuses bounds outside the codes, or operands of other types or sizes.
pub(super) fn check_requantize(draft: &Draft) -> Result<(), Refusal> {
    let p: &RequantizeParams = draft.params()?;
    draft.at_most(2, 1)?;
    check_codes(p.lo, p.hi, &[p.y_zero])?;
    let count = product(&[p.outer, p.channels, p.inner])?;
    draft.input(0)?.expect(&[DType::I8, DType::I32], count)?;
    draft.input(1)?.expect(&[DType::F32], p.channels as usize)?;
    draft.output(0)?.expect(&[DType::I8, DType::U8], count)
}

/// Refuses operands of other types or sizes.
pub(super) fn check_dynquantize(draft: &Draft) -> Result<(), Refusal> {
    let p: &LutParams = draft.params()?;
    draft.at_most(1, 3)?;
    draft.input(0)?.expect(&[DType::F32], p.count as usize)?;
    draft.output(0)?.expect(&[DType::U8], p.count as usize)?;
    draft.output(1)?.expect(&[DType::F32], 1)?;
    draft.output(2)?.expect(&[DType::U8], 1)
}

/// `y = make(channel)(x)` for the elements of `units`.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn each<X: Pod, Y: Pod, F: Fn(X) -> Y>(
    call: &Call,
    units: Range<usize>,
    [outer, channels, inner]: [u32; 3],
    make: impl Fn(usize) -> F,
) {
    let range = results(&units, BLOCK, count(&[outer, channels, inner]));
    let (channels, inner) = (channels as usize, inner as usize);
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output::<Y>(call, 0, range.clone()) };
    let x = &call.input(0).as_slice::<X>()[range.clone()];
    // A run of elements whose channels are all one, or that has each channel once.
    let run = if inner == 1 { channels } else { inner };
    let mut at = 0;
    while at < y.len() {
        let position = range.start + at;
        let len = (run - position % run).min(y.len() - at);
        let pairs = y[at..][..len].iter_mut().zip(&x[at..][..len]);
        if inner == 1 {
            pairs.enumerate().for_each(|(i, (y, &x))| *y = make(position % run + i)(x));
        } else {
            let f = make(position / run % channels);
            pairs.for_each(|(y, &x)| *y = f(x));
        }
        at += len;
    }
}

/// The zero points, if there are any.
fn zeros<'a, T: Pod>(call: &Call<'a>) -> Option<&'a [T]> {
    call.inputs[2].map(|zero| zero.as_slice())
}

/// Codes of 8 bits.
trait Code: Number<Wide = i64> {
    const MIN: i32;
    const MAX: i32;
    /// The code nearest to `v` beyond its zero point.
    #[inline(always)]
    fn nearest(v: f32, lo: f32, hi: f32, zero: i32) -> Self {
        Number::put(i64::from((rounded(v, lo, hi) + zero).clamp(Self::MIN, Self::MAX)))
    }
}

impl Code for i8 {
    const MIN: i32 = -128;
    const MAX: i32 = 127;
}

impl Code for u8 {
    const MIN: i32 = 0;
    const MAX: i32 = 255;
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn quantize_codes<X: Number<Wide = f32>, Y: Code>(call: &Call, units: Range<usize>) {
    let &ChannelParams { outer, channels, inner } = call.params();
    let (scale, zero) = (call.input(1).as_slice::<f32>(), zeros::<Y>(call));
    let make = |channel: usize| {
        let (scale, zero) = (scale[channel], zero.map_or(0, |zero| zero[channel].get() as i32));
        // 512 is past every code whatever the zero point.
        move |x: X| Y::nearest(x.get() / scale, -512.0, 512.0, zero)
    };
    // SAFETY: the caller's promise.
    unsafe { each(call, units, [outer, channels, inner], make) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn quantize_i32<X: Number<Wide = f32>>(call: &Call, units: Range<usize>) {
    let &ChannelParams { outer, channels, inner } = call.params();
    let (scale, zero) = (call.input(1).as_slice::<f32>(), zeros::<i32>(call));
    let make = |channel: usize| {
        let (scale, zero) = (scale[channel], zero.map_or(0, |zero| zero[channel]));
        move |x: X| {
            (libm::rintf(x.get() / scale) as i64).saturating_add(zero.into()).clamp(i32::MIN.into(), i32::MAX.into())
                as i32
        }
    };
    // SAFETY: the caller's promise.
    unsafe { each(call, units, [outer, channels, inner], make) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn quantize<X: Number<Wide = f32>>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match call.output(0).dtype {
            DType::I8 => quantize_codes::<X, i8>(call, units),
            DType::U8 => quantize_codes::<X, u8>(call, units),
            _ => quantize_i32::<X>(call, units),
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn dequantize_to<X: Number<Wide = i64>, Y: Number<Wide = f32>>(call: &Call, units: Range<usize>) {
    let &ChannelParams { outer, channels, inner } = call.params();
    let (scale, zero) = (call.input(1).as_slice::<f32>(), zeros::<X>(call));
    let make = |channel: usize| {
        let (scale, zero) = (scale[channel], zero.map_or(0, |zero| zero[channel].get()));
        move |x: X| Y::put((x.get() - zero) as f32 * scale)
    };
    // SAFETY: the caller's promise.
    unsafe { each(call, units, [outer, channels, inner], make) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn dequantize<X: Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match call.output(0).dtype {
            DType::F16 => dequantize_to::<X, f16>(call, units),
            _ => dequantize_to::<X, f32>(call, units),
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn requantize_to<X: Number<Wide = i64>, Y: Code>(call: &Call, units: Range<usize>) {
    let &RequantizeParams { outer, channels, inner, x_zero, y_zero, lo, hi } = call.params();
    let factor = call.input(1).as_slice::<f32>();
    let make = |channel: usize| {
        let factor = factor[channel];
        move |x: X| Y::nearest((x.get() as i32).wrapping_sub(x_zero) as f32 * factor, lo, hi, y_zero)
    };
    // SAFETY: the caller's promise.
    unsafe { each(call, units, [outer, channels, inner], make) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn requantize<X: Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match call.output(0).dtype {
            DType::I8 => requantize_to::<X, i8>(call, units),
            _ => requantize_to::<X, u8>(call, units),
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn dynquantize(call: &Call, _: Range<usize>) {
    let count = call.params::<LutParams>().count as usize;
    let x = &call.input(0).as_slice::<f32>()[..count];
    // Zero must have a code.
    let (low, high) =
        x.iter().fold((0f32, 0f32), |(low, high), &x| (if x < low { x } else { low }, if x > high { x } else { high }));
    let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
    let zero = clamp(libm::rintf(-low / scale), 0.0, 255.0) as i32;
    // SAFETY: the only unit owns all outputs.
    let (y, y_scale, y_zero) =
        unsafe { (output::<u8>(call, 0, 0..count), output::<f32>(call, 1, 0..1), output::<u8>(call, 2, 0..1)) };
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = u8::nearest(x / scale, -512.0, 512.0, zero));
    (y_scale[0], y_zero[0]) = (scale, zero as u8);
}

fn channel_units(call: &Call) -> usize {
    let &ChannelParams { outer, channels, inner } = call.params();
    units_of(count(&[outer, channels, inner]), BLOCK)
}

fn requantize_units(call: &Call) -> usize {
    let &RequantizeParams { outer, channels, inner, .. } = call.params();
    units_of(count(&[outer, channels, inner]), BLOCK)
}

macro_rules! kernels {
    ($($op:ident, $name:literal, $dtype:ident, $units:expr, $run:expr;)*) => {
        /// Conversions between numbers and codes, by the input's type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::$op,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: $units,
            run: $run,
        },)*];
    };
}

kernels! {
    Quantize, "quantize_f32_scalar", F32, channel_units, quantize::<f32>;
    Quantize, "quantize_f16_scalar", F16, channel_units, quantize::<f16>;
    Dequantize, "dequantize_i8_scalar", I8, channel_units, dequantize::<i8>;
    Dequantize, "dequantize_u8_scalar", U8, channel_units, dequantize::<u8>;
    Dequantize, "dequantize_i32_scalar", I32, channel_units, dequantize::<i32>;
    DynQuantize, "dynquantize_f32_scalar", F32, |_| 1, dynquantize;
    Requantize, "requantize_i8_scalar", I8, requantize_units, requantize::<i8>;
    Requantize, "requantize_i32_scalar", I32, requantize_units, requantize::<i32>;
}
