//! Functions of one element, and table look-ups.
//!
//! Functions that cost a few instructions are compiled into their own loop, which the compiler vectorizes; the others
//! are called through a pointer, since they dwarf the call. f16 is computed as f32.

use super::shared::{BLOCK, Number, clamp, limits, output, results, units_of};
use crate::{Call, DType, Draft, Features, Kernel, LutParams, MapFn, MapParams, Op, Refusal};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;
use libm::{ceilf, cosf, erfcf, erff, expf, expm1f, fabsf, floorf, log1pf, logf, rintf, sinf, sqrtf, tanhf};

/// Refuses a map of a type its function is not made for.
pub(super) fn check_map(draft: &Draft) -> Result<(), Refusal> {
    use DType::{Bool, F16, F32, I8, I32, I64, U8};
    let p: &MapParams = draft.params()?;
    draft.at_most(1, 1)?;
    let types: &[DType] = match MapFn::from_number(p.function).ok_or(Refusal::Parameter)? {
        MapFn::Not => &[Bool],
        MapFn::Clamp | MapFn::Abs | MapFn::Neg | MapFn::Sign => &[F32, F16, I8, U8, I32, I64],
        _ => &[F32, F16],
    };
    if p.p.is_nan() || p.q.is_nan() {
        return Err(Refusal::Parameter);
    }
    let x = draft.input(0)?;
    x.expect(types, p.count as usize)?;
    draft.output(0)?.expect(&[x.dtype], p.count as usize)
}

/// `y[i] = f(x[i])` for the elements of `units`.
///
/// # Safety
/// As [`Kernel::run`].
#[inline(always)]
unsafe fn each<T: Pod>(call: &Call, units: Range<usize>, f: impl Fn(T) -> T) {
    let range = results(&units, BLOCK, call.params::<MapParams>().count as usize);
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output::<T>(call, 0, range.clone()) };
    for (y, &x) in y.iter_mut().zip(&call.input(0).as_slice::<T>()[range]) {
        *y = f(x);
    }
}

const SQRT_HALF: f32 = core::f32::consts::FRAC_1_SQRT_2;

fn softplus(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + log1pf(expf(-fabsf(x)))
}

fn elu(x: f32, p: f32) -> f32 {
    if x < 0.0 { p * expm1f(x) } else { x }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + expf(-x))
}

/// A function of an element and the block's `p` and `q`.
type Function = fn(f32, f32, f32) -> f32;

fn function(function: MapFn) -> Function {
    match function {
        MapFn::Clamp => clamp,
        MapFn::LeakyRelu => |x, p, _| if x < 0.0 { p * x } else { x },
        MapFn::Elu => |x, p, _| elu(x, p),
        MapFn::Selu => |x, p, q| q * elu(x, p),
        MapFn::Sigmoid => |x, _, _| sigmoid(x),
        MapFn::HardSigmoid => |x, p, q| clamp(p * x + q, 0.0, 1.0),
        MapFn::Tanh => |x, _, _| tanhf(x),
        MapFn::HardSwish => |x, _, _| x * clamp(x / 6.0 + 0.5, 0.0, 1.0),
        // 1 + erf(z) = erfc(-z), which does not cancel for negative z.
        MapFn::Gelu => |x, _, _| x * 0.5 * erfcf(-x * SQRT_HALF),
        MapFn::GeluTanh => |x, _, _| {
            let z = 2.0 * 0.797_884_6 * (x + 0.044_715 * x * x * x);
            // (1 + tanh(z / 2)) / 2 is the sigmoid of z.
            x * sigmoid(z)
        },
        MapFn::Softplus => |x, _, _| softplus(x),
        MapFn::Softsign => |x, _, _| x / (1.0 + fabsf(x)),
        MapFn::Mish => |x, _, _| x * tanhf(softplus(x)),
        MapFn::Erf => |x, _, _| erff(x),
        MapFn::Exp => |x, _, _| expf(x),
        MapFn::Log => |x, _, _| logf(x),
        MapFn::Sqrt => |x, _, _| sqrtf(x),
        MapFn::Abs => |x, _, _| fabsf(x),
        MapFn::Neg => |x, _, _| -x,
        MapFn::Reciprocal => |x, _, _| 1.0 / x,
        MapFn::Floor => |x, _, _| floorf(x),
        MapFn::Ceil => |x, _, _| ceilf(x),
        MapFn::Round => |x, _, _| rintf(x),
        MapFn::Sign => |x, _, _| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        },
        MapFn::Sin => |x, _, _| sinf(x),
        MapFn::Cos => |x, _, _| cosf(x),
        MapFn::Silu => |x, p, _| x * sigmoid(p * x),
        MapFn::Affine => |x, p, q| p * x + q,
        // Not a function of floats, and refused by the check.
        MapFn::Not => |x, _, _| x,
    }
}

/// The function a checked call asks for.
fn asked(call: &Call) -> MapFn {
    MapFn::from_number(call.params::<MapParams>().function).unwrap_or(MapFn::Abs)
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn map_f32(call: &Call, units: Range<usize>) {
    let &MapParams { p, q, .. } = call.params();
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match asked(call) {
            MapFn::Clamp => each(call, units, |x| clamp(x, p, q)),
            MapFn::LeakyRelu => each(call, units, |x: f32| if x < 0.0 { p * x } else { x }),
            MapFn::HardSigmoid => each(call, units, |x: f32| clamp(p * x + q, 0.0, 1.0)),
            MapFn::HardSwish => each(call, units, |x: f32| x * clamp(x / 6.0 + 0.5, 0.0, 1.0)),
            MapFn::Affine => each(call, units, |x: f32| p * x + q),
            other => {
                let f = function(other);
                each(call, units, |x| f(x, p, q));
            }
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn map_f16(call: &Call, units: Range<usize>) {
    let &MapParams { p, q, .. } = call.params();
    let f = function(asked(call));
    // SAFETY: the caller's promise.
    unsafe { each(call, units, |x: f16| f16::put(f(x.get(), p, q))) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn map_bool(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { each(call, units, |x: u8| u8::from(x == 0)) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn map_integer<T: Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    let &MapParams { p, q, .. } = call.params();
    let (min, max) = limits(call.output(0).dtype);
    // The integers between p and q.
    let (lo, hi) = ((ceilf(p) as i64).clamp(min, max), (floorf(q) as i64).clamp(min, max));
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match asked(call) {
            MapFn::Abs => each(call, units, |x: T| T::put(x.get().wrapping_abs())),
            MapFn::Neg => each(call, units, |x: T| T::put(x.get().wrapping_neg())),
            MapFn::Sign => each(call, units, |x: T| T::put(x.get().signum())),
            _ => each(call, units, |x: T| T::put(x.get().max(lo).min(hi))),
        }
    }
}

/// Refuses a look-up whose elements are not bytes, or whose table is short.
pub(super) fn check_lut(draft: &Draft) -> Result<(), Refusal> {
    let p: &LutParams = draft.params()?;
    draft.at_most(2, 1)?;
    draft.input(0)?.expect(super::copy::BYTES, p.count as usize)?;
    draft.input(1)?.expect(super::copy::BYTES, 256)?;
    draft.output(0)?.expect(super::copy::BYTES, p.count as usize)
}

/// The table of a look-up or copy.
pub(super) fn table<'a>(call: &Call<'a>) -> &'a [u8; 256] {
    call.input(1).as_slice::<u8>().first_chunk().expect("`check` has seen 256 bytes")
}

/// Looks up each byte of a run in a table.
pub type LookUp<'a> = dyn Fn(&[u8; 256], &[u8], &mut [u8]) + 'a;

/// Looks up one byte after the other.
pub(super) fn look_up(table: &[u8; 256], x: &[u8], y: &mut [u8]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = table[usize::from(x)];
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn lut(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { lut_through(call, units, &look_up) }
}

/// Looks up the bytes of some units; `look_up` is given runs of one length.
///
/// # Safety
/// As [`Kernel::run`], of a look-up.
pub unsafe fn lut_through(call: &Call, units: Range<usize>, look_up: &LookUp) {
    let range = results(&units, BLOCK, call.params::<LutParams>().count as usize);
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output::<u8>(call, 0, range.clone()) };
    look_up(table(call), &call.input(0).as_slice::<u8>()[range], y);
}

/// Number of units of a look-up.
pub fn lut_units(call: &Call) -> usize {
    units_of(call.params::<LutParams>().count as usize, BLOCK)
}

macro_rules! maps {
    ($($name:literal, $dtype:ident, $run:expr;)*) => {
        /// Maps by element type, and the look-up.
        pub(super) const CATALOGUE: &[Kernel] = &[
            $(Kernel {
                name: $name,
                op: Op::Map,
                requires: Features::NONE,
                accepts: |call| call.input(0).dtype == DType::$dtype,
                units: |call| units_of(call.params::<MapParams>().count as usize, BLOCK),
                run: $run,
            },)*
            Kernel {
                name: "lut_x8_scalar",
                op: Op::Lut,
                requires: Features::NONE,
                accepts: |_| true,
                units: lut_units,
                run: lut,
            },
        ];
    };
}

maps! {
    "map_f32_scalar", F32, map_f32;
    "map_f16_scalar", F16, map_f16;
    "map_i8_scalar", I8, map_integer::<i8>;
    "map_u8_scalar", U8, map_integer::<u8>;
    "map_i32_scalar", I32, map_integer::<i32>;
    "map_i64_scalar", I64, map_integer::<i64>;
    "map_bool_scalar", Bool, map_bool;
}
