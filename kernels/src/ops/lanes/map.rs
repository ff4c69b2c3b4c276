//! Functions of one element: those with an exponential, which the scalar kernels call from a library, and the common ones
//! without.
//!
//! `exp(x) = 2^n * exp(r)` with `n` the integer next to `x / ln 2`; `r` lies within `ln 2 / 2` of zero, where a polynomial
//! of degree 6 is off by less than 1e-7 of the value. `ln 2` is split in two, so that `r` is exact (Cody and Waite, 1980).
//! Coefficients of the polynomial: Cephes' expf. Of the error function: Abramowitz and Stegun, 7.1.26, off by 1.5e-7.

use super::shared::{BLOCK, results, units_of};
use super::{Vector, input, output, padded, starts};
use crate::{Call, DType, MapFn, MapParams};
use core::ops::Range;
use half::f16;

/// 0 below the first, infinite above the second.
const EXP_RANGE: (f32, f32) = (-105.0, 90.0);

/// The sum of `coefficients[i] * x^i`, the last first.
#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    // SAFETY: the vector's.
    unsafe {
        let mut sum = V::splat(coefficients[N - 1]);
        for i in (0..N - 1).rev() {
            sum = sum.mul_add(x, V::splat(coefficients[i]));
        }
        sum
    }
}

/// # Safety
/// That of [`Vector`].
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise. The bounds come first: min and max give their second operand where either is NaN.
    unsafe {
        let x = V::splat(EXP_RANGE.1).min(V::splat(EXP_RANGE.0).max(x));
        let n = V::from_int(x.mul(V::splat(core::f32::consts::LOG2_E)).round_int());
        let r = n.mul_add(V::splat(-0.693_359_375), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let coefficients =
            [1.0, 1.0, 0.5, 1.666_666_5e-1, 4.166_579_6e-2, 8.333_452e-3, 1.398_199_9e-3, 1.987_569_1e-4];
        shifted(polynomial(r, coefficients), n)
    }
}

/// `x * 2^n` for whole numbers `n` within 250 of zero, in two factors, since 2^n may be beyond the range though the product
/// is not.
#[inline(always)]
unsafe fn shifted<V: Vector>(x: V, n: V) -> V {
    // SAFETY: the vector's.
    unsafe {
        let half = V::from_int(n.mul(V::splat(0.5)).round_int());
        let rest = half.mul_add(V::splat(-1.0), n);
        x.mul(V::power_of_two(half.round_int())).mul(V::power_of_two(rest.round_int()))
    }
}

/// `2 atanh(t)`, which is `log((1 + t) / (1 - t))`, for `t` within a third of zero.
#[inline(always)]
unsafe fn atanh_twice<V: Vector>(t: V) -> V {
    // SAFETY: the vector's.
    unsafe { polynomial(t.mul(t), [2.0, 2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0, 2.0 / 11.0, 2.0 / 13.0]).mul(t) }
}

/// `2^n * m` with `m` around 1: `n log 2`, and `log m` by its series in `(m - 1) / (m + 1)`.
#[inline(always)]
pub(super) unsafe fn log<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe {
        let (zero, tiny) = (V::splat(0.0), V::splat(f32::MIN_POSITIVE));
        let normal = x.where_less(tiny, x.mul(V::splat(33_554_432.0)), x); // 2^25
        let n = V::from_int(normal.mul(V::splat(core::f32::consts::SQRT_2)).exponent());
        let m = shifted(normal, negative(n));
        let n = n.add(x.where_less(tiny, V::splat(-25.0), zero));
        let t = m.add(V::splat(-1.0)).div(m.add(V::splat(1.0)));
        let log = n.mul_add(V::splat(core::f32::consts::LN_2), atanh_twice(t));
        let of_none = x.where_less(zero, V::splat(f32::NAN), V::splat(f32::NEG_INFINITY));
        // Infinity and NaN are their own.
        x.where_less(V::splat(f32::INFINITY), zero.where_less(x, log, of_none), x)
    }
}

/// `x > 0 ? x : 0`, plus `log(1 + e)` of `e = exp(-|x|)`.
#[inline(always)]
unsafe fn softplus<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe {
        let e = exp(negative(absolute(x)));
        x.max(V::splat(0.0)).add(atanh_twice(e.div(e.add(V::splat(2.0)))))
    }
}

/// The nearest integer, ties to even; from 2^23 on all numbers are integers.
#[inline(always)]
unsafe fn nearest<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe { absolute(x).where_less(V::splat(8_388_608.0), V::from_int(x.round_int()), x) }
}

/// The greater; NaN if either is.
#[inline(always)]
pub(super) unsafe fn greatest<V: Vector>(a: V, b: V) -> V {
    // SAFETY: the vector's. `max` gives b where either is NaN. If a is not below infinity, it is infinity, to which nothing
    // but NaN can be added from above, or NaN.
    unsafe {
        let more = a.max(b);
        a.where_less(V::splat(f32::INFINITY), more, a.add(more))
    }
}

/// The lesser; NaN if either is.
#[inline(always)]
pub(super) unsafe fn least<V: Vector>(a: V, b: V) -> V {
    // SAFETY: the vector's.
    unsafe { negative(greatest(negative(a), negative(b))) }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe { V::splat(1.0).div(V::splat(1.0).add(exp(negative(x)))) }
}

#[inline(always)]
unsafe fn negative<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe { x.mul(V::splat(-1.0)) }
}

#[inline(always)]
unsafe fn absolute<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe { x.where_negative(negative(x)) }
}

/// `min(max(x, lo), hi)`, NaN staying NaN.
#[inline(always)]
pub(super) unsafe fn clamp<V: Vector>(x: V, lo: V, hi: V) -> V {
    // SAFETY: the vector's.
    unsafe { hi.min(lo.max(x)) }
}

/// `x < 0 ? p * (exp(x) - 1) : x`.
#[inline(always)]
unsafe fn elu<V: Vector>(x: V, p: V) -> V {
    // SAFETY: the vector's.
    unsafe { x.where_negative(p.mul(exp(x).add(V::splat(-1.0)))) }
}

/// By the exponential, near 0 by its series.
#[inline(always)]
unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe {
        let (one, a) = (V::splat(1.0), absolute(x));
        let e = exp(a.mul(V::splat(-2.0)));
        let far = one.add(negative(e)).div(one.add(e));
        let far = x.where_less(V::splat(0.0), negative(far), far);
        let near = polynomial(x.mul(x), [1.0, -1.0 / 3.0, 2.0 / 15.0, -17.0 / 315.0, 62.0 / 2835.0]).mul(x);
        a.where_less(V::splat(0.25), near, far)
    }
}

/// `1 - erf(x)` for `x >= 0`.
#[inline(always)]
unsafe fn erfc<V: Vector>(x: V) -> V {
    // SAFETY: the vector's.
    unsafe {
        let one = V::splat(1.0);
        let t = one.div(x.mul_add(V::splat(0.327_591_1), one));
        let sum = polynomial(t, [0.0, 0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429]);
        sum.mul(exp(negative(x).mul(x)))
    }
}

/// A function of [`crate::Op::Map`].
trait Function {
    /// # Safety
    /// That of [`Vector`].
    unsafe fn of<V: Vector>(x: V, p: V, q: V) -> V;
}

macro_rules! functions {
    ($($name:ident($x:ident, $p:ident, $q:ident) = $body:expr;)*) => {
        $(
            struct $name;
            impl Function for $name {
                #[inline(always)]
                unsafe fn of<V: Vector>($x: V, $p: V, $q: V) -> V {
                    // SAFETY: the trait's.
                    unsafe { $body }
                }
            }
        )*

        /// Whether the function is one of those below.
        pub fn accepts(call: &Call) -> bool {
            let function = MapFn::from_number(call.params::<MapParams>().function);
            matches!(function, $(Some(MapFn::$name))|*)
        }

        /// `y[i] = f(x[i])` for `len` elements, at least a vector's.
        #[inline(always)]
        unsafe fn apply<V: Vector>(params: &MapParams, x: *const f32, y: *mut f32, len: usize) {
            // SAFETY: the caller's promise.
            unsafe {
                match MapFn::from_number(params.function) {
                    $(Some(MapFn::$name) => each::<V, $name>(params, x, y, len),)*
                    _ => unreachable!("not accepted"),
                }
            }
        }
    };
}

functions! {
    Clamp(x, p, q) = clamp(x, p, q);
    LeakyRelu(x, p, _q) = x.where_negative(p.mul(x));
    HardSigmoid(x, p, q) = clamp(p.mul(x).add(q), V::splat(0.0), V::splat(1.0));
    HardSwish(x, _p, _q) = x.mul(clamp(x.mul_add(V::splat(1.0 / 6.0), V::splat(0.5)), V::splat(0.0), V::splat(1.0)));
    Affine(x, p, q) = p.mul(x).add(q);
    Exp(x, _p, _q) = exp(x);
    Sigmoid(x, _p, _q) = sigmoid(x);
    Silu(x, p, _q) = x.mul(sigmoid(p.mul(x)));
    Elu(x, p, _q) = elu(x, p);
    Selu(x, p, q) = q.mul(elu(x, p));
    Tanh(x, _p, _q) = tanh(x);
    // With e = exp(x): tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), which is 1 long before e^2 overflows.
    Mish(x, _p, _q) = {
        let e = exp(V::splat(20.0).min(x));
        let above = e.mul_add(e, e.add(e));
        x.mul(above.div(above.add(V::splat(2.0))))
    };
    // (1 + erf(z)) / 2 is erfc(-z) / 2, and 1 less that of -z.
    Gelu(x, _p, _q) = {
        let half = erfc(absolute(x).mul(V::splat(core::f32::consts::FRAC_1_SQRT_2))).mul(V::splat(0.5));
        x.mul(x.where_less(V::splat(0.0), half, V::splat(1.0).add(negative(half))))
    };
    Softplus(x, _p, _q) = softplus(x);
    Softsign(x, _p, _q) = x.div(V::splat(1.0).add(absolute(x)));
    Erf(x, _p, _q) = {
        let above = V::splat(1.0).add(negative(erfc(absolute(x))));
        x.where_less(V::splat(0.0), negative(above), above)
    };
    Log(x, _p, _q) = log(x);
    Sqrt(x, _p, _q) = x.sqrt();
    Abs(x, _p, _q) = absolute(x);
    Neg(x, _p, _q) = negative(x);
    Reciprocal(x, _p, _q) = V::splat(1.0).div(x);
    Floor(x, _p, _q) = {
        let n = nearest(x);
        x.where_less(n, n.add(V::splat(-1.0)), n)
    };
    Ceil(x, _p, _q) = {
        let n = nearest(x);
        n.where_less(x, n.add(V::splat(1.0)), n)
    };
    Round(x, _p, _q) = nearest(x);
    Sign(x, _p, _q) = x.where_less(V::splat(0.0), V::splat(-1.0), V::splat(0.0).where_less(x, V::splat(1.0), x));
    GeluTanh(x, _p, _q) = {
        let cubic = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
        x.mul(sigmoid(cubic.mul(V::splat(2.0 * 0.797_884_6))))
    };
}

#[inline(always)]
unsafe fn each<V: Vector, F: Function>(params: &MapParams, x: *const f32, y: *mut f32, len: usize) {
    // SAFETY: the caller's: vectors lie inside the row.
    unsafe {
        let (p, q) = (V::splat(params.p), V::splat(params.q));
        for at in starts::<V>(len) {
            F::of(V::load(x.add(at)), p, q).store(y.add(at));
        }
    }
}

/// What a row of a map does.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// The function, from f32 to f32.
    Apply(&'a MapParams),
    /// From f16 to f32.
    Widen,
    /// From f32 to f16.
    Narrow,
}

/// Elements of a map.
pub struct Row<'a> {
    step: Step<'a>,
    x: &'a [u8],
    y: &'a mut [u8],
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row is [`super::SHORTEST`] or longer.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    let (len, x, y) = (row.y.len(), row.x.as_ptr(), row.y.as_mut_ptr());
    // SAFETY: vectors lie inside the row.
    unsafe {
        match row.step {
            Step::Apply(params) => apply::<V>(params, x.cast(), y.cast(), len / size_of::<f32>()),
            Step::Widen => {
                for at in starts::<V>(len / size_of::<f32>()) {
                    V::load_f16(x.cast::<u16>().add(at)).store(y.cast::<f32>().add(at));
                }
            }
            Step::Narrow => {
                for at in starts::<V>(len / size_of::<f16>()) {
                    V::load(x.cast::<f32>().add(at)).store_f16(y.cast::<u16>().add(at));
                }
            }
        }
    }
}

/// Blocks of elements.
pub fn units(call: &Call) -> usize {
    units_of(call.params::<MapParams>().count as usize, BLOCK)
}

/// Halves that are widened at a time, so that functions need not be compiled for them too.
const HALVES: usize = 256;

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32 or f16 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let params: &MapParams = call.params();
    let range = results(&units, BLOCK, params.count as usize);
    let len = range.len();
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output(call, range.clone()) };
    padded(len, input(call, 0, range), y, |x, y| {
        // SAFETY: the CPU can run rows, and they are long enough.
        let row = |step, x: &[u8], y: &mut [u8]| unsafe { row(Row { step, x, y }) };
        if call.input(0).dtype == DType::F32 {
            return row(Step::Apply(params), x, y);
        }
        let (mut wide, mut result) = ([0u8; 4 * HALVES], [0u8; 4 * HALVES]);
        let part = y.len().min(2 * HALVES);
        let (wide, result) = (&mut wide[..2 * part], &mut result[..2 * part]);
        for at in (0..y.len()).step_by(part) {
            // The last part begins inside the one before, as vectors do.
            let at = at.min(y.len() - part);
            row(Step::Widen, &x[at..at + part], wide);
            row(Step::Apply(params), wide, result);
            row(Step::Narrow, result, &mut y[at..at + part]);
        }
    });
}
