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

/// `a` where a lane of `mask` is all ones, `b` where it is all zeros.
#[inline(always)]
pub fn select(mask: v128, a: v128, b: v128) -> v128 {
    // Of such masks the relaxed operation makes no other use, and engines of x86 do it in one instruction.
    #[cfg(target_feature = "relaxed-simd")]
    return i32x4_relaxed_laneselect(a, b, mask);
    #[cfg(not(target_feature = "relaxed-simd"))]
    v128_bitselect(a, b, mask)
}

/// Scalar `max` then `min`: a NaN becomes `lo`. Not PMAX and PMIN, which the compiler turns into the relaxed operations where
/// there are any: those may make something else of a NaN.
#[inline(always)]
pub fn clamp(v: v128, lo: v128, hi: v128) -> v128 {
    let v = select(f32x4_lt(lo, v), v, lo);
    select(f32x4_lt(v, hi), v, hi)
}
