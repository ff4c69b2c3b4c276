//! Eight lanes in two 128-bit vectors, for the kernels that are written once for all instruction sets.

use crate::half::{load4, narrow};
use crate::simd::{load, store};
use core::arch::wasm32::*;
use sparrow_kernels::lanes::{Two, Vector};

/// f32 lanes.
#[derive(Clone, Copy)]
pub struct V8(v128, v128);

/// `a < b ? yes : no`.
#[inline(always)]
fn less(a: v128, b: v128, yes: v128, no: v128) -> v128 {
    v128_bitselect(yes, no, f32x4_lt(a, b))
}

macro_rules! vector {
    ($($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        impl Vector for V8 {
            type Int = (v128, v128);
            type Wide = Two<V8>;
            const LANES: usize = 8;
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
    splat(value: f32) -> Self = Self(f32x4_splat(value), f32x4_splat(value));
    load(from: *const f32) -> Self = Self(load(from.cast()), load(from.add(4).cast()));
    store(self: Self, to: *mut f32) = {
        store(to.cast(), self.0);
        store(to.add(4).cast(), self.1);
    };
    load_f16(from: *const u16) -> Self = Self(load4(from.cast()), load4(from.add(4).cast()));
    store_f16(self: Self, to: *mut u16) = store(to.cast(), u16x8_narrow_i32x4(narrow(self.0), narrow(self.1)));
    // Rounded twice, so that both modules give the same results.
    mul_add(self: Self, b: Self, c: Self) -> Self = self.mul(b).add(c);
    add(self: Self, b: Self) -> Self = Self(f32x4_add(self.0, b.0), f32x4_add(self.1, b.1));
    mul(self: Self, b: Self) -> Self = Self(f32x4_mul(self.0, b.0), f32x4_mul(self.1, b.1));
    div(self: Self, b: Self) -> Self = Self(f32x4_div(self.0, b.0), f32x4_div(self.1, b.1));
    // Not PMAX and PMIN, which the compiler turns into the relaxed operations where there are any: those may lose a NaN.
    max(self: Self, b: Self) -> Self = b.where_less(self, self, b);
    min(self: Self, b: Self) -> Self = self.where_less(b, self, b);
    where_less(self: Self, b: Self, yes: Self, no: Self) -> Self = Self(less(self.0, b.0, yes.0, no.0), less(self.1, b.1, yes.1, no.1));
    load_int(from: *const i32) -> Self::Int = (load(from.cast()), load(from.add(4).cast()));
    store_int(from: Self::Int, to: *mut i32) = {
        store(to.cast(), from.0);
        store(to.add(4).cast(), from.1);
    };
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = (i32x4_add(a.0, b.0), i32x4_add(a.1, b.1));
    splat_int(value: i32) -> Self::Int = (i32x4_splat(value), i32x4_splat(value));
    load_i8(from: *const i8) -> Self::Int = {
        let words = i16x8_load_extend_i8x8(from);
        (i32x4_extend_low_i16x8(words), i32x4_extend_high_i16x8(words))
    };
    load_u8(from: *const u8) -> Self::Int = {
        let words = i16x8_load_extend_u8x8(from);
        (i32x4_extend_low_i16x8(words), i32x4_extend_high_i16x8(words))
    };
    from_int(from: Self::Int) -> Self = Self(f32x4_convert_i32x4(from.0), f32x4_convert_i32x4(from.1));
    round_int(self: Self) -> Self::Int = {
        (i32x4_trunc_sat_f32x4(f32x4_nearest(self.0)), i32x4_trunc_sat_f32x4(f32x4_nearest(self.1)))
    };
    power_of_two(n: Self::Int) -> Self = {
        let power = |n| i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23);
        Self(power(n.0), power(n.1))
    };
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = i16x8_narrow_i32x4(from.0, from.1);
        v128_store64_lane::<0>(i8x16_narrow_i16x8(words, words), to.cast());
    };
    store_u8(from: Self::Int, to: *mut u8) = {
        let words = i16x8_narrow_i32x4(from.0, from.1);
        v128_store64_lane::<0>(u8x16_narrow_i16x8(words, words), to.cast());
    };
}

sparrow_kernels::lanes! {
    /// The operators that are written once for all instruction sets.
    CATALOGUE: V8, "simd128", sparrow_kernels::Features::SIMD128
}
