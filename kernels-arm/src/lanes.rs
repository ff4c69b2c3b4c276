//! Eight lanes in two NEON vectors, for the kernels that are written once for all instruction sets.

use crate::simd::{narrow_pair, widen};
use core::arch::aarch64::*;
use sparrow_kernels::Features;
use sparrow_kernels::lanes::{Two, Vector};

/// f32 lanes.
#[derive(Clone, Copy)]
pub(crate) struct V8(float32x4_t, float32x4_t);

macro_rules! vector {
    ($($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        impl Vector for V8 {
            type Int = (int32x4_t, int32x4_t);
            type Wide = Two<V8>;
            const LANES: usize = 8;
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $arg_type),*) $(-> $result)? {
                    // SAFETY: the trait's: pointers are valid for all lanes. NEON is part of every 64-bit Arm.
                    unsafe { $body }
                }
            )*
        }
    };
}

vector! {
    splat(value: f32) -> Self = Self(vdupq_n_f32(value), vdupq_n_f32(value));
    load(from: *const f32) -> Self = Self(vld1q_f32(from), vld1q_f32(from.add(4)));
    store(self: Self, to: *mut f32) = {
        vst1q_f32(to, self.0);
        vst1q_f32(to.add(4), self.1);
    };
    load_f16(from: *const u16) -> Self = {
        let halves = vld1q_u16(from);
        Self(widen(vget_low_u16(halves)), widen(vget_high_u16(halves)))
    };
    store_f16(self: Self, to: *mut u16) = vst1q_u16(to, narrow_pair(self.0, self.1));
    mul_add(self: Self, b: Self, c: Self) -> Self = Self(vfmaq_f32(c.0, self.0, b.0), vfmaq_f32(c.1, self.1, b.1));
    add(self: Self, b: Self) -> Self = Self(vaddq_f32(self.0, b.0), vaddq_f32(self.1, b.1));
    sub(self: Self, b: Self) -> Self = Self(vsubq_f32(self.0, b.0), vsubq_f32(self.1, b.1));
    mul(self: Self, b: Self) -> Self = Self(vmulq_f32(self.0, b.0), vmulq_f32(self.1, b.1));
    div(self: Self, b: Self) -> Self = Self(vdivq_f32(self.0, b.0), vdivq_f32(self.1, b.1));
    sqrt(self: Self) -> Self = Self(vsqrtq_f32(self.0), vsqrtq_f32(self.1));
    // Not FMAX and FMIN, which give NaN where either is.
    max(self: Self, b: Self) -> Self = b.where_less(self, self, b);
    min(self: Self, b: Self) -> Self = self.where_less(b, self, b);
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = Self(
        vbslq_f32(vcltq_f32(self.0, b.0), less.0, other.0),
        vbslq_f32(vcltq_f32(self.1, b.1), less.1, other.1),
    );
    load_int(from: *const i32) -> Self::Int = (vld1q_s32(from), vld1q_s32(from.add(4)));
    store_int(from: Self::Int, to: *mut i32) = {
        vst1q_s32(to, from.0);
        vst1q_s32(to.add(4), from.1);
    };
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = (vaddq_s32(a.0, b.0), vaddq_s32(a.1, b.1));
    splat_int(value: i32) -> Self::Int = (vdupq_n_s32(value), vdupq_n_s32(value));
    load_i8(from: *const i8) -> Self::Int = {
        let words = vmovl_s8(vld1_s8(from));
        (vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words))
    };
    load_u8(from: *const u8) -> Self::Int = {
        let words = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from)));
        (vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words))
    };
    from_int(from: Self::Int) -> Self = Self(vcvtq_f32_s32(from.0), vcvtq_f32_s32(from.1));
    round_int(self: Self) -> Self::Int = (vcvtnq_s32_f32(self.0), vcvtnq_s32_f32(self.1));
    exponent(self: Self) -> Self::Int = {
        let exponent = |x| vsubq_s32(vreinterpretq_s32_u32(vshrq_n_u32::<23>(vreinterpretq_u32_f32(x))), vdupq_n_s32(127));
        (exponent(self.0), exponent(self.1))
    };
    power_of_two(n: Self::Int) -> Self = {
        let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
        Self(power(n.0), power(n.1))
    };
    store_i8(from: Self::Int, to: *mut i8) = vst1_s8(to, vqmovn_s16(vcombine_s16(vmovn_s32(from.0), vmovn_s32(from.1))));
    store_u8(from: Self::Int, to: *mut u8) = vst1_u8(to, vqmovun_s16(vcombine_s16(vmovn_s32(from.0), vmovn_s32(from.1))));
}

sparrow_kernels::lanes! {
    /// The operators that are written once for all instruction sets.
    CATALOGUE: V8, "neon", Features::NEON
}
