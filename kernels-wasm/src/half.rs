//! f16 to f32 and back by integer operations, 4 values at a time, rounding to nearest even.
//!
//! Source: F. Giesen, "half_to_float_fast5" and "float_to_half_fast3_rtne" (public domain), without their branches.

use core::arch::wasm32::*;

/// 4 f16 in the low halves of the lanes, as f32.
#[inline(always)]
pub fn widen(h: v128) -> v128 {
    let magnitude = i32x4_shl(v128_and(h, i32x4_splat(0x7fff)), 13);
    // Moves the exponent's bias from 15 to 127; subnormals become normal on the way.
    let scaled = f32x4_mul(magnitude, f32x4_splat(f32::from_bits(0x7780_0000)));
    let infinite = i32x4_gt(magnitude, i32x4_splat(0x7bff << 13));
    let sign = i32x4_shl(v128_and(h, i32x4_splat(0x8000)), 16);
    v128_or(v128_or(scaled, sign), v128_and(infinite, i32x4_splat(0x7f80_0000)))
}

/// 4 f32 as f16 in the low halves of the lanes.
pub fn narrow(v: v128) -> v128 {
    let sign = v128_and(v, i32x4_splat(i32::MIN));
    let a = v128_xor(v, sign);
    // Below 2^-14: adding 0.5 leaves the rounded subnormal in the low bits.
    let small = i32x4_sub(f32x4_add(a, f32x4_splat(0.5)), i32x4_splat(0x3f00_0000));
    let odd = v128_and(u32x4_shr(a, 13), i32x4_splat(1));
    let rebias = i32x4_splat(((15 - 127) << 23) + 0xfff);
    let normal = u32x4_shr(i32x4_add(i32x4_add(a, rebias), odd), 13);
    let large = v128_bitselect(i32x4_splat(0x7e00), i32x4_splat(0x7c00), i32x4_gt(a, i32x4_splat(0x7f80_0000)));
    let finite = v128_bitselect(small, normal, i32x4_lt(a, i32x4_splat(0x3880_0000)));
    let result = v128_bitselect(finite, large, i32x4_lt(a, i32x4_splat(0x4780_0000)));
    v128_or(result, u32x4_shr(sign, 16))
}

/// 4 f16 at `p` as f32.
///
/// # Safety
/// 8 bytes are readable.
#[inline(always)]
pub unsafe fn load4(p: *const u8) -> v128 {
    // SAFETY: the caller's promise; the instruction takes any alignment.
    widen(unsafe { u32x4_load_extend_u16x4(p.cast()) })
}

/// Writes 4 f32 to `p` as f16.
///
/// # Safety
/// 8 bytes are writable.
#[inline(always)]
pub unsafe fn store4(p: *mut u8, v: v128) {
    let h = narrow(v);
    // SAFETY: the caller's promise; the instruction takes any alignment.
    unsafe { v128_store64_lane::<0>(u16x8_narrow_i32x4(h, h), p.cast()) }
}
