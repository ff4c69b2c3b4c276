//! The few vector operations all kernels share.

use core::arch::wasm32::*;

/// `a * b + c`, rounded once or twice as the engine likes.
#[inline(always)]
pub fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    return f32x4_relaxed_madd(a, b, c);
    #[cfg(not(target_feature = "relaxed-simd"))]
    f32x4_add(f32x4_mul(a, b), c)
}

/// 16 bytes at `p`, aligned or not.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub unsafe fn load(p: *const u8) -> v128 {
    // SAFETY: readable by the caller's promise; the instruction takes any alignment.
    unsafe { v128_load(p.cast()) }
}

/// Writes 16 bytes to `p`, aligned or not.
///
/// # Safety
/// They are writable.
#[inline(always)]
pub unsafe fn store(p: *mut u8, v: v128) {
    // SAFETY: writable by the caller's promise; the instruction takes any alignment.
    unsafe { v128_store(p.cast(), v) }
}

/// Scalar `max` then `min`: a NaN becomes `lo`. Not PMAX and PMIN, which the compiler turns into the relaxed operations where
/// there are any: those may make something else of a NaN.
#[inline(always)]
pub fn clamp(v: v128, lo: v128, hi: v128) -> v128 {
    let v = v128_bitselect(v, lo, f32x4_lt(lo, v));
    v128_bitselect(v, hi, f32x4_lt(v, hi))
}
