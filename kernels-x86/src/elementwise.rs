//! Functions of single elements that need an exponential, and softmax, which does too. The simpler ones are left to the
//! scalar kernels, whose loops the compiler vectorizes and memory bounds.
//!
//! `exp(x) = 2^n * exp(r)` with `n` the integer next to `x / ln 2`; `r` lies within `ln 2 / 2` of zero, where a polynomial
//! of degree 6 is right to the last bits. `ln 2` is split in two (Cody and Waite, 1980), so that `r` is exact.

use crate::vector::Vector;
use crate::{AVX2, AVX512};
use core::arch::x86_64::{__m256, __m512};
use core::ops::Range;
use sparrow_kernels::{Call, DType, Kernel, MapFn, MapParams, Op, SoftmaxParams};

/// Elements of a unit of a map.
const BLOCK: usize = 4096;

/// Past these exp is 0 or infinite.
const EXP_RANGE: (f32, f32) = (-104.0, 89.0);

/// # Safety
/// The CPU has `V`'s features.
#[inline(always)]
unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise. The bounds come first: min and max give their second operand where either is NaN.
    unsafe {
        let x = V::splat(EXP_RANGE.1).min(V::splat(EXP_RANGE.0).max(x));
        let n = V::from_int(x.mul(V::splat(core::f32::consts::LOG2_E)).round_int());
        let r = n.mul_add(V::splat(-0.693_359_375), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut sum = V::splat(1.0 / 720.0);
        sum = sum.mul_add(r, V::splat(1.0 / 120.0));
        sum = sum.mul_add(r, V::splat(1.0 / 24.0));
        sum = sum.mul_add(r, V::splat(1.0 / 6.0));
        sum = sum.mul_add(r, V::splat(0.5));
        sum = sum.mul_add(r, V::splat(1.0));
        sum = sum.mul_add(r, V::splat(1.0));
        // In two factors, since 2^n may be beyond the range though the product is not.
        let half = V::from_int(n.mul(V::splat(0.5)).round_int());
        let rest = half.mul_add(V::splat(-1.0), n);
        sum.mul(V::power_of_two(half.round_int())).mul(V::power_of_two(rest.round_int()))
    }
}

/// `1 / (1 + exp(-x))`.
///
/// # Safety
/// The CPU has `V`'s features.
#[inline(always)]
unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { V::splat(1.0).div(V::splat(1.0).add(exp(x.mul(V::splat(-1.0))))) }
}

/// `x < 0 ? p * (exp(x) - 1) : x`.
///
/// # Safety
/// The CPU has `V`'s features.
#[inline(always)]
unsafe fn elu<V: Vector>(x: V, p: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.where_negative(p.mul(exp(x).add(V::splat(-1.0)))) }
}

/// A function of [`Op::Map`].
trait Function {
    /// # Safety
    /// The CPU has `V`'s features.
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
        fn accepts(call: &Call) -> bool {
            let function = MapFn::from_number(call.params::<MapParams>().function);
            call.input(0).dtype == DType::F32 && [$(MapFn::$name),*].iter().any(|&known| Some(known) == function)
        }

        /// # Safety
        /// As [`Kernel::run`]; the CPU has `V`'s features.
        #[inline(always)]
        unsafe fn map<V: Vector>(call: &Call, units: Range<usize>) {
            // SAFETY: the caller's promise.
            unsafe {
                match MapFn::from_number(call.params::<MapParams>().function) {
                    $(Some(MapFn::$name) => each::<V, $name>(call, units),)*
                    _ => unreachable!("not accepted"),
                }
            }
        }
    };
}

functions! {
    Exp(x, _p, _q) = exp(x);
    Sigmoid(x, _p, _q) = sigmoid(x);
    Silu(x, p, _q) = x.mul(sigmoid(p.mul(x)));
    Elu(x, p, _q) = elu(x, p);
    Selu(x, p, q) = q.mul(elu(x, p));
    // tanh(x) = 2 * sigmoid(2 x) - 1
    Tanh(x, _p, _q) = sigmoid(x.add(x)).mul_add(V::splat(2.0), V::splat(-1.0));
    // With e = exp(x): tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), which is 1 long before e^2 overflows.
    Mish(x, _p, _q) = {
        let e = exp(V::splat(20.0).min(x));
        let above = e.mul_add(e, e.add(e));
        x.mul(above.div(above.add(V::splat(2.0))))
    };
    GeluTanh(x, _p, _q) = {
        let cubic = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
        x.mul(sigmoid(cubic.mul(V::splat(2.0 * 0.797_884_6))))
    };
}

/// # Safety
/// As [`Kernel::run`]; the CPU has `V`'s features.
#[inline(always)]
unsafe fn each<V: Vector, F: Function>(call: &Call, units: Range<usize>) {
    let params: &MapParams = call.params();
    let count = params.count as usize;
    let range = (units.start * BLOCK).min(count)..(units.end * BLOCK).min(count);
    let x = &call.input(0).as_slice::<f32>()[range.clone()];
    // SAFETY: a block belongs to its unit; vectors lie inside the slices, the last in a buffer.
    unsafe {
        let y = call.output(0).slice::<f32>(range);
        let (p, q) = (V::splat(params.p), V::splat(params.q));
        let whole = x.len() / V::LANES * V::LANES;
        for at in (0..whole).step_by(V::LANES) {
            F::of(V::load(x.as_ptr().add(at)), p, q).store(y.as_mut_ptr().add(at));
        }
        let rest = x.len() - whole;
        let mut buffer = [0f32; 16];
        buffer[..rest].copy_from_slice(&x[whole..]);
        F::of(V::load(buffer.as_ptr()), p, q).store(buffer.as_mut_ptr());
        y[whole..].copy_from_slice(&buffer[..rest]);
    }
}

/// Softmax along the last axis; a unit is a row.
///
/// # Safety
/// As [`Kernel::run`]; the CPU has `V`'s features.
#[inline(always)]
unsafe fn softmax<V: Vector>(call: &Call, units: Range<usize>) {
    let len = call.params::<SoftmaxParams>().len as usize;
    let x = call.input(0).as_slice::<f32>();
    for row in units {
        let range = row * len..(row + 1) * len;
        let x = &x[range.clone()];
        let peak = x.iter().fold(f32::NEG_INFINITY, |peak, &x| if x > peak { x } else { peak });
        // SAFETY: the row belongs to its unit; vectors lie inside the slices, the last in a buffer.
        unsafe {
            let y = call.output(0).slice::<f32>(range);
            let minus = V::splat(-peak);
            let whole = len / V::LANES * V::LANES;
            for at in (0..whole).step_by(V::LANES) {
                exp(V::load(x.as_ptr().add(at)).add(minus)).store(y.as_mut_ptr().add(at));
            }
            let mut buffer = [0f32; 16];
            buffer[..len - whole].copy_from_slice(&x[whole..]);
            exp(V::load(buffer.as_ptr()).add(minus)).store(buffer.as_mut_ptr());
            y[whole..].copy_from_slice(&buffer[..len - whole]);
            let mut sums = [0f64; 8];
            for part in y.chunks(8) {
                sums.iter_mut().zip(part).for_each(|(sum, &y)| *sum += f64::from(y));
            }
            let factor = (1.0 / sums.iter().sum::<f64>()) as f32;
            y.iter_mut().for_each(|y| *y *= factor);
        }
    }
}

macro_rules! catalogue {
    ($(#[$doc:meta])* $catalogue:ident, $requires:expr, $features:literal, $vector:ty, $map:literal, $softmax:literal) => {
        $(#[$doc])*
        pub(crate) const $catalogue: &[Kernel] = &[
            Kernel {
                name: $map,
                op: Op::Map,
                requires: $requires,
                accepts,
                units: |call| (call.params::<MapParams>().count as usize).div_ceil(BLOCK).max(1),
                run: {
                    #[target_feature(enable = $features)]
                    unsafe fn run(call: &Call, units: Range<usize>) {
                        // SAFETY: the caller's promise.
                        unsafe { map::<$vector>(call, units) }
                    }
                    run
                },
            },
            Kernel {
                name: $softmax,
                op: Op::Softmax,
                requires: $requires,
                accepts: |call| {
                    let p: &SoftmaxParams = call.params();
                    call.input(0).dtype == DType::F32 && p.inner == 1 && p.log == 0 && p.outer > 0
                },
                units: |call| call.params::<SoftmaxParams>().outer as usize,
                run: {
                    #[target_feature(enable = $features)]
                    unsafe fn run(call: &Call, units: Range<usize>) {
                        // SAFETY: the caller's promise.
                        unsafe { softmax::<$vector>(call, units) }
                    }
                    run
                },
            },
        ];
    };
}

catalogue! {
    /// Element-wise kernels with AVX2.
    AVX2_CATALOGUE, AVX2, "avx2,fma,f16c", __m256, "map_f32_avx2", "softmax_f32_avx2"
}

catalogue! {
    /// Element-wise kernels with AVX-512.
    AVX512_CATALOGUE, AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl", __m512, "map_f32_avx512", "softmax_f32_avx512"
}
