//! Reductions over any axes.
//!
//! The axes are split into those that stay and those that are folded, and each set is walked by itself. A unit is
//! `LANES` neighbouring results. Sums of floats are kept in f64, of integers in i64.

use super::shared::{LANES, Number, Walk, limits, output, results, units_of};
use crate::conv::requantize;
use crate::{Call, DType, Draft, Features, Kernel, MAX_RANK, Op, ReduceFn, ReduceParams, Refusal, product};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;

/// Refuses a function that is not made for the type, unknown axes, or operands that do not fit.
pub(super) fn check(draft: &Draft) -> Result<(), Refusal> {
    use DType::{F16, F32, I8, I32, I64};
    let p: &ReduceParams = draft.params()?;
    draft.at_most(1, 1)?;
    let types: &[DType] = match ReduceFn::from_number(p.function).ok_or(Refusal::Parameter)? {
        ReduceFn::Max | ReduceFn::Min => &DType::ALL,
        ReduceFn::Mean | ReduceFn::Sum => &[F32, F16, I8, I32, I64],
        _ => &[F32, F16, I32, I64],
    };
    let quantized = p.x_zero.unsigned_abs() <= 255 && p.y_zero.unsigned_abs() <= 255 && !p.scale.is_nan();
    if p.mask >> MAX_RANK != 0 || !quantized {
        return Err(Refusal::Parameter);
    }
    let x = draft.input(0)?;
    // Strides are 32-bit words, and made even when some dimension is 0.
    u32::try_from(product(&p.dims.map(|dim| dim.max(1)))?).map_err(|_| Refusal::Overflow)?;
    x.expect(types, product(&p.dims)?)?;
    draft.output(0)?.expect(&[x.dtype], product(&split(p, false).0)?)
}

/// The dimensions that are folded or that stay, the others 1; and the input's strides.
#[inline(never)]
fn split(p: &ReduceParams, folded: bool) -> ([u32; MAX_RANK], [u32; MAX_RANK]) {
    let (mut dims, mut strides, mut stride) = ([1; MAX_RANK], [0; MAX_RANK], 1u32);
    for axis in (0..MAX_RANK).rev() {
        if (p.mask >> axis & 1 != 0) == folded {
            dims[axis] = p.dims[axis];
        }
        strides[axis] = stride;
        stride = stride.wrapping_mul(p.dims[axis]);
    }
    (dims, strides)
}

/// Folds the results of `units`, one at a time: `step` takes an element in, `finish` makes the result of so many.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn reduce<T: Pod, A: Copy>(
    call: &Call,
    units: Range<usize>,
    first: A,
    step: impl Fn(A, T) -> A,
    finish: impl Fn(A, usize) -> T,
) {
    let p: &ReduceParams = call.params();
    let ((kept, strides), (folded, _)) = (split(p, false), split(p, true));
    let (kept, folded) = (Walk::new(&kept, [&strides]), Walk::new(&folded, [&strides]));
    let (results, elements) = (results(&units, LANES, kept.count()), folded.count());
    let x = call.input(0).as_slice::<T>();
    // SAFETY: a block of results belongs to its unit.
    let y = unsafe { output::<T>(call, 0, results.clone()) };
    let (start, [kept_step], [folded_step]) = (results.start, kept.inner(), folded.inner());
    kept.runs(results, |at, len, [base]| {
        for (i, y) in y[at - start..][..len].iter_mut().enumerate() {
            let mut total = first;
            folded.runs(0..elements, |_, len, [offset]| {
                for j in 0..len {
                    total = step(total, x[base + i * kept_step + offset + j * folded_step]);
                }
            });
            *y = finish(total, elements);
        }
    });
}

/// Elements as f64.
trait Folded: Number {
    fn real(self) -> f64;
    /// The nearest element; integers truncate and saturate.
    fn round(value: f64) -> Self;
}

macro_rules! folded {
    ($($type:ty, $round:expr;)*) => {$(
        impl Folded for $type {
            #[inline(always)]
            fn real(self) -> f64 {
                self.get() as f64
            }
            fn round(value: f64) -> Self {
                $round(value)
            }
        }
    )*};
}

folded! {
    f32, |v| v as f32;
    f16, f16::from_f64;
    i32, |v| v as i32;
    i64, |v| v as i64;
}

/// What has been folded; a sum of exponentials is `exp(peak) * value`.
#[derive(Clone, Copy)]
struct Total {
    value: f64,
    peak: f64,
}

impl Total {
    fn add_exponential(self, x: f64) -> Self {
        if x > self.peak {
            return Self { peak: x, value: self.value * libm::exp(self.peak - x) + 1.0 };
        }
        // Equal peaks may be infinite, and have no difference then.
        let term = if x == self.peak { 1.0 } else { libm::exp(x - self.peak) };
        Self { value: self.value + term, ..self }
    }
}

/// The function a checked call asks for.
fn asked(call: &Call) -> ReduceFn {
    ReduceFn::from_number(call.params::<ReduceParams>().function).unwrap_or(ReduceFn::Sum)
}

/// Reductions of floats.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn float<T: Folded>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { general::<T>(call, units, asked(call)) };
}

/// Reductions of any type, computed in f64, by functions called through pointers.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn general<T: Folded>(call: &Call, units: Range<usize>, function: ReduceFn) {
    type Step = fn(Total, f64) -> Total;
    macro_rules! step {
        (|$a:ident, $x:ident| $value:expr) => {
            |a, $x| {
                let $a = a.value;
                Total { value: $value, ..a }
            }
        };
    }
    let (first, step): (f64, Step) = match function {
        ReduceFn::Max => (f64::NEG_INFINITY, step!(|a, x| if a > x || a.is_nan() { a } else { x })),
        ReduceFn::Min => (f64::INFINITY, step!(|a, x| if a < x || a.is_nan() { a } else { x })),
        ReduceFn::Prod => (1.0, step!(|a, x| a * x)),
        ReduceFn::L1 => (0.0, step!(|a, x| a + libm::fabs(x))),
        ReduceFn::L2 | ReduceFn::SumSquare => (0.0, step!(|a, x| a + x * x)),
        ReduceFn::LogSumExp => (0.0, Total::add_exponential),
        _ => (0.0, step!(|a, x| a + x)),
    };
    let finish: fn(Total, f64) -> f64 = match function {
        ReduceFn::Mean => |a, n| a.value / n,
        ReduceFn::L2 => |a, _| libm::sqrt(a.value),
        ReduceFn::LogSum => |a, _| libm::log(a.value),
        ReduceFn::LogSumExp => |a, _| a.peak + libm::log(a.value),
        _ => |a, _| a.value,
    };
    let first = Total { value: first, peak: f64::NEG_INFINITY };
    // SAFETY: the caller's promise.
    unsafe { reduce(call, units, first, |a, x: T| step(a, x.real()), |a, n| T::round(finish(a, n as f64))) };
}

/// Reductions of integers that stay integers, which wrap.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn integer<T: Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    let (min, max) = limits(call.output(0).dtype);
    let (first, step): (i64, fn(i64, i64) -> i64) = match asked(call) {
        ReduceFn::Max => (min, |a, x| a.max(x)),
        ReduceFn::Min => (max, |a, x| a.min(x)),
        ReduceFn::Prod => (1, i64::wrapping_mul),
        ReduceFn::L1 => (0, |a, x| a.wrapping_add(x.wrapping_abs())),
        ReduceFn::SumSquare => (0, |a, x| a.wrapping_add(x.wrapping_mul(x))),
        _ => (0, i64::wrapping_add),
    };
    let mean = asked(call) == ReduceFn::Mean;
    let finish = |a: i64, n: usize| T::put(if mean { a.checked_div(n as i64).unwrap_or(0) } else { a });
    // SAFETY: the caller's promise.
    unsafe { reduce(call, units, first, |a, x: T| step(a, x.get()), finish) };
}

/// Reductions of i32 and i64.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn whole<T: Folded + Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    let function = asked(call);
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match function {
            ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp => general::<T>(call, units, function),
            _ => integer::<T>(call, units),
        }
    }
}

/// Reductions of quantized codes.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn codes(call: &Call, units: Range<usize>) {
    let &ReduceParams { x_zero, y_zero, scale, .. } = call.params();
    if matches!(asked(call), ReduceFn::Max | ReduceFn::Min) {
        // SAFETY: the caller's promise.
        return unsafe { integer::<i8>(call, units) };
    }
    let finish =
        |sum: i64, n: usize| requantize((sum - i64::from(x_zero) * n as i64) as f32 * scale, -256.0, 256.0, y_zero);
    // SAFETY: the caller's promise.
    unsafe { reduce(call, units, 0i64, |a, x: i8| a + i64::from(x), finish) };
}

fn reduce_units(call: &Call) -> usize {
    let (kept, strides) = split(call.params(), false);
    units_of(Walk::new(&kept, [&strides]).count(), LANES)
}

macro_rules! kernels {
    ($($name:literal, $dtype:ident, $run:expr;)*) => {
        /// Reductions by element type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Reduce,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: reduce_units,
            run: $run,
        },)*];
    };
}

kernels! {
    "reduce_f32_scalar", F32, float::<f32>;
    "reduce_f16_scalar", F16, float::<f16>;
    "reduce_i8_scalar", I8, codes;
    "reduce_u8_scalar", U8, integer::<u8>;
    "reduce_i32_scalar", I32, whole::<i32>;
    "reduce_i64_scalar", I64, whole::<i64>;
    "reduce_bool_scalar", Bool, integer::<u8>;
}
