//! Four lanes, for the kernels that are written once for all instruction sets. Rows that elsewhere take sixteen lanes at a
//! time take eight here: what unrolling gains is not worth its bytes in a module that is downloaded.

use crate::half::{load4, store4};
use crate::simd::{load, select, store};
use core::arch::wasm32::*;
use sparrow_kernels::lanes::{Two, Vector};

/// f32 lanes.
#[derive(Clone, Copy)]
pub struct V4(v128);

macro_rules! vector {
    ($($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        impl Vector for V4 {
            type Int = v128;
            type Wide = Two<V4>;
            const LANES: usize = 4;
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $arg_type),*) $(-> $result)? {
                    #[allow(unused_unsafe)] // where there is no pointer
                    // SAFETY: the trait's: pointers are valid for all lanes.
                    unsafe {
                        $body
                    }
                }
            )*
        }
    };
}

vector! {
    splat(value: f32) -> Self = Self(f32x4_splat(value));
    load(from: *const f32) -> Self = Self(load(from.cast()));
    store(self: Self, to: *mut f32) = store(to.cast(), self.0);
    load_f16(from: *const u16) -> Self = Self(load4(from.cast()));
    store_f16(self: Self, to: *mut u16) = store4(to.cast(), self.0);
    // Rounded twice, so that both modules give the same results.
    mul_add(self: Self, b: Self, c: Self) -> Self = self.mul(b).add(c);
    add(self: Self, b: Self) -> Self = Self(f32x4_add(self.0, b.0));
    sub(self: Self, b: Self) -> Self = Self(f32x4_sub(self.0, b.0));
    mul(self: Self, b: Self) -> Self = Self(f32x4_mul(self.0, b.0));
    div(self: Self, b: Self) -> Self = Self(f32x4_div(self.0, b.0));
    sqrt(self: Self) -> Self = Self(f32x4_sqrt(self.0));
    // Not PMAX and PMIN, which the compiler turns into the relaxed operations where there are any: those may lose a NaN.
    max(self: Self, b: Self) -> Self = b.where_less(self, self, b);
    min(self: Self, b: Self) -> Self = self.where_less(b, self, b);
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = Self(select(f32x4_lt(self.0, b.0), less.0, other.0));
    load_int(from: *const i32) -> Self::Int = load(from.cast());
    store_int(from: Self::Int, to: *mut i32) = store(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = i32x4_add(a, b);
    splat_int(value: i32) -> Self::Int = i32x4_splat(value);
    load_i8(from: *const i8) -> Self::Int = i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(v128_load32_zero(from.cast())));
    load_u8(from: *const u8) -> Self::Int = i32x4_extend_low_i16x8(i16x8_extend_low_u8x16(v128_load32_zero(from.cast())));
    from_int(from: Self::Int) -> Self = Self(f32x4_convert_i32x4(from));
    round_int(self: Self) -> Self::Int = i32x4_trunc_sat_f32x4(f32x4_nearest(self.0));
    exponent(self: Self) -> Self::Int = i32x4_sub(u32x4_shr(self.0, 23), i32x4_splat(127));
    power_of_two(n: Self::Int) -> Self = Self(i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23));
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = i16x8_narrow_i32x4(from, from);
        v128_store32_lane::<0>(i8x16_narrow_i16x8(words, words), to.cast());
    };
    store_u8(from: Self::Int, to: *mut u8) = {
        let words = i16x8_narrow_i32x4(from, from);
        v128_store32_lane::<0>(u8x16_narrow_i16x8(words, words), to.cast());
    };
}

sparrow_kernels::lanes! {
    /// The operators that are written once for all instruction sets.
    CATALOGUE: V4, "simd128", sparrow_kernels::Features::SIMD128
}
