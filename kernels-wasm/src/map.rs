//! Functions of one f32 that rest on the exponential, and softmax. The scalar kernels call a library function for each
//! element; the other functions of an element are loops that the compiler turns into vector code by itself.
//!
//! `exp(x) = 2^n * exp(r)` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`, where a polynomial of degree 6 is off by less
//! than 1e-7 of the value. 2^n is multiplied in two halves, so that subnormal and infinite results come out right.
//! Coefficients: those of Cephes' expf.

use crate::simd::{load, store};
use core::arch::wasm32::*;
use core::ops::Range;
use sparrow_kernels::{Call, DType, Features, Kernel, MapFn, MapParams, Op, SoftmaxParams};

/// Elements of a unit.
const BLOCK: usize = 4096;

/// 4 exponentials. NaN stays NaN.
#[inline(always)]
fn exp(x: v128) -> v128 {
    // Beyond these every result is 0 or infinite.
    let x = f32x4_max(f32x4_min(x, f32x4_splat(90.0)), f32x4_splat(-105.0));
    let n = f32x4_nearest(f32x4_mul(x, f32x4_splat(core::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with so few bits that its product with n is exact.
    let r = f32x4_sub(f32x4_sub(x, f32x4_mul(n, f32x4_splat(0.693_359_4))), f32x4_mul(n, f32x4_splat(-2.121_944_4e-4)));
    let coefficients = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let mut p = f32x4_splat(1.987_569_1e-4);
    for c in coefficients {
        p = f32x4_add(f32x4_mul(p, r), f32x4_splat(c));
    }
    let p = f32x4_add(f32x4_add(f32x4_mul(p, f32x4_mul(r, r)), r), f32x4_splat(1.0));
    let n = i32x4_trunc_sat_f32x4(n);
    let half = i32x4_shr(n, 1);
    let power = |n| i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23);
    f32x4_mul(f32x4_mul(p, power(half)), power(i32x4_sub(n, half)))
}

/// 4 times `1 / (1 + exp(-x))`.
#[inline(always)]
fn sigmoid(x: v128) -> v128 {
    let one = f32x4_splat(1.0);
    f32x4_div(one, f32x4_add(one, exp(f32x4_neg(x))))
}

/// 4 hyperbolic tangents: by the exponential, near 0 by their series.
#[inline(always)]
fn tanh(x: v128) -> v128 {
    let (one, a, square) = (f32x4_splat(1.0), f32x4_abs(x), f32x4_mul(x, x));
    let e = exp(f32x4_mul(a, f32x4_splat(-2.0)));
    let far = f32x4_div(f32x4_sub(one, e), f32x4_add(one, e));
    let far = v128_or(far, v128_and(x, i32x4_splat(i32::MIN)));
    let mut series = f32x4_splat(62.0 / 2835.0);
    for c in [-17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = f32x4_add(f32x4_mul(series, square), f32x4_splat(c));
    }
    v128_bitselect(f32x4_mul(series, x), far, f32x4_lt(a, f32x4_splat(0.25)))
}

/// `y[i] = f(x[i])`, 4 at a time, the last few by way of a buffer.
#[inline(always)]
fn each(x: &[f32], y: &mut [f32], f: impl Fn(v128) -> v128) {
    let (quads, rest) = x.as_chunks::<4>();
    let (y_quads, y_rest) = y.as_chunks_mut::<4>();
    for (y, x) in y_quads.iter_mut().zip(quads) {
        // SAFETY: 4 floats each.
        unsafe { store(y.as_mut_ptr().cast(), f(load(x.as_ptr().cast()))) };
    }
    let mut buffer = [0f32; 4];
    buffer[..rest.len()].copy_from_slice(rest);
    // SAFETY: as above.
    unsafe { store(buffer.as_mut_ptr().cast(), f(load(buffer.as_ptr().cast()))) };
    y_rest.copy_from_slice(&buffer[..y_rest.len()]);
}

/// The function a call asks for, if it is one of this module's.
fn asked(call: &Call) -> Option<MapFn> {
    let function = MapFn::from_number(call.params::<MapParams>().function)?;
    let ours = [MapFn::Elu, MapFn::Sigmoid, MapFn::Tanh, MapFn::GeluTanh, MapFn::Exp, MapFn::Silu];
    (call.input(0).dtype == DType::F32 && ours.contains(&function)).then_some(function)
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn map(call: &Call, units: Range<usize>) {
    let &MapParams { p, count, .. } = call.params();
    let count = count as usize;
    let range = (units.start * BLOCK).min(count)..(units.end * BLOCK).min(count);
    let x = &call.input(0).as_slice::<f32>()[range.clone()];
    // SAFETY: a block belongs to its unit.
    let y = unsafe { call.output(0).slice::<f32>(range) };
    let p = f32x4_splat(p);
    match asked(call) {
        Some(MapFn::Sigmoid) => each(x, y, sigmoid),
        Some(MapFn::Tanh) => each(x, y, tanh),
        Some(MapFn::Silu) => each(x, y, |x| f32x4_mul(x, sigmoid(f32x4_mul(p, x)))),
        Some(MapFn::GeluTanh) => each(x, y, |x| {
            let cube = f32x4_mul(f32x4_mul(f32x4_splat(0.044_715), x), f32x4_mul(x, x));
            f32x4_mul(x, sigmoid(f32x4_mul(f32x4_splat(2.0 * 0.797_884_6), f32x4_add(x, cube))))
        }),
        Some(MapFn::Elu) => each(x, y, |x| {
            let below = f32x4_mul(p, f32x4_sub(exp(x), f32x4_splat(1.0)));
            v128_bitselect(below, x, f32x4_lt(x, f32x4_splat(0.0)))
        }),
        _ => each(x, y, exp),
    }
}

/// Rows of a softmax along the last axis.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn softmax(call: &Call, units: Range<usize>) {
    let p: &SoftmaxParams = call.params();
    let len = p.len as usize;
    for row in units {
        let range = row * len..(row + 1) * len;
        let x = &call.input(0).as_slice::<f32>()[range.clone()];
        // SAFETY: a row belongs to its unit.
        let y = unsafe { call.output(0).slice::<f32>(range) };
        let peak = x.iter().fold(f32::NEG_INFINITY, |peak, &x| if x > peak { x } else { peak });
        each(x, y, |x| exp(f32x4_sub(x, f32x4_splat(peak))));
        let total: f64 = y.iter().map(|&e| f64::from(e)).sum();
        y.iter_mut().for_each(|y| *y = (f64::from(*y) / total) as f32);
    }
}

/// The functions of this module.
pub const CATALOGUE: &[Kernel] = &[
    Kernel {
        name: "map_f32_simd128",
        op: Op::Map,
        requires: Features::SIMD128,
        accepts: |call| asked(call).is_some(),
        units: |call| (call.params::<MapParams>().count as usize).div_ceil(BLOCK).max(1),
        run: map,
    },
    Kernel {
        name: "softmax_f32_simd128",
        op: Op::Softmax,
        requires: Features::SIMD128,
        accepts: |call| {
            let p: &SoftmaxParams = call.params();
            call.input(0).dtype == DType::F32 && p.inner == 1 && p.log == 0 && p.outer > 0
        },
        units: |call| call.params::<SoftmaxParams>().outer as usize,
        run: softmax,
    },
];
