//! Vectors of 4, 8 or 16 lanes: f32 and the i32 of the same width, with the loads, stores and conversions kernels need.
//!
//! A block of 16 output channels is [`Two`] vectors with AVX2 and one with AVX-512; blocks of 8 and 4 are one shorter
//! vector.

use core::arch::x86_64::*;
pub(crate) use sparrow_kernels::lanes::{Two, Vector};

macro_rules! vector {
    (
        $(#[$doc:meta])* $type:ident($raw:ty), $int:ty, $wide:ty, $lanes:literal;
        $($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $body:expr;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $type(pub(crate) $raw);

        impl Vector for $type {
            type Int = $int;
            type Wide = $wide;
            const LANES: usize = $lanes;
            const DIVIDES_SLOWLY: bool = $lanes == 16;
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $arg_type),*) $(-> $result)? {
                    // SAFETY: the trait's: the CPU has the features, pointers are valid for all lanes.
                    unsafe { $body }
                }
            )*
        }
    };
}

vector! {
    /// 4 lanes.
    V4(__m128), __m128i, Two<Two<V4>>, 4;
    splat(value: f32) -> Self = Self(_mm_set1_ps(value));
    load(from: *const f32) -> Self = Self(_mm_loadu_ps(from));
    load_f16(from: *const u16) -> Self = Self(_mm_cvtph_ps(_mm_loadl_epi64(from.cast())));
    splat_int(value: i32) -> Self::Int = _mm_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm_loadu_si128(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm_cvtepi8_epi32(_mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()));
    load_u8(from: *const u8) -> Self::Int = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()));
    from_int(from: Self::Int) -> Self = Self(_mm_cvtepi32_ps(from));
    store_int(from: Self::Int, to: *mut i32) = _mm_storeu_si128(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = _mm_packs_epi32(from, from);
        to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packs_epi16(words, words)));
    };
    store_u8(from: Self::Int, to: *mut u8) = {
        let words = _mm_packs_epi32(from, from);
        to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
    };
    store(self: Self, to: *mut f32) = _mm_storeu_ps(to, self.0);
    store_f16(self: Self, to: *mut u16) = _mm_storel_epi64(to.cast(), _mm_cvtps_ph::<0>(self.0));
    mul_add(self: Self, b: Self, c: Self) -> Self = Self(_mm_fmadd_ps(self.0, b.0, c.0));
    add(self: Self, b: Self) -> Self = Self(_mm_add_ps(self.0, b.0));
    sub(self: Self, b: Self) -> Self = Self(_mm_sub_ps(self.0, b.0));
    mul(self: Self, b: Self) -> Self = Self(_mm_mul_ps(self.0, b.0));
    div(self: Self, b: Self) -> Self = Self(_mm_div_ps(self.0, b.0));
    sqrt(self: Self) -> Self = Self(_mm_sqrt_ps(self.0));
    max(self: Self, b: Self) -> Self = Self(_mm_max_ps(self.0, b.0));
    min(self: Self, b: Self) -> Self = Self(_mm_min_ps(self.0, b.0));
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = Self(_mm_blendv_ps(other.0, less.0, _mm_cmplt_ps(self.0, b.0)));
    exponent(self: Self) -> Self::Int = _mm_sub_epi32(_mm_srli_epi32::<23>(_mm_castps_si128(self.0)), _mm_set1_epi32(127));
    power_of_two(n: Self::Int) -> Self = Self(_mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(n, _mm_set1_epi32(127)))));
    round_int(self: Self) -> Self::Int = _mm_cvtps_epi32(self.0);
}

vector! {
    /// 8 lanes.
    V8(__m256), __m256i, Two<V8>, 8;
    splat(value: f32) -> Self = Self(_mm256_set1_ps(value));
    load(from: *const f32) -> Self = Self(_mm256_loadu_ps(from));
    load_f16(from: *const u16) -> Self = Self(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())));
    splat_int(value: i32) -> Self::Int = _mm256_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm256_loadu_si256(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
    load_u8(from: *const u8) -> Self::Int = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
    from_int(from: Self::Int) -> Self = Self(_mm256_cvtepi32_ps(from));
    store_int(from: Self::Int, to: *mut i32) = _mm256_storeu_si256(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm256_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = _mm_packs_epi32(_mm256_castsi256_si128(from), _mm256_extracti128_si256::<1>(from));
        _mm_storel_epi64(to.cast(), _mm_packs_epi16(words, words));
    };
    store_u8(from: Self::Int, to: *mut u8) = {
        let words = _mm_packs_epi32(_mm256_castsi256_si128(from), _mm256_extracti128_si256::<1>(from));
        _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
    };
    store(self: Self, to: *mut f32) = _mm256_storeu_ps(to, self.0);
    store_f16(self: Self, to: *mut u16) = _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(self.0));
    mul_add(self: Self, b: Self, c: Self) -> Self = Self(_mm256_fmadd_ps(self.0, b.0, c.0));
    add(self: Self, b: Self) -> Self = Self(_mm256_add_ps(self.0, b.0));
    sub(self: Self, b: Self) -> Self = Self(_mm256_sub_ps(self.0, b.0));
    mul(self: Self, b: Self) -> Self = Self(_mm256_mul_ps(self.0, b.0));
    div(self: Self, b: Self) -> Self = Self(_mm256_div_ps(self.0, b.0));
    sqrt(self: Self) -> Self = Self(_mm256_sqrt_ps(self.0));
    max(self: Self, b: Self) -> Self = Self(_mm256_max_ps(self.0, b.0));
    min(self: Self, b: Self) -> Self = Self(_mm256_min_ps(self.0, b.0));
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = Self(_mm256_blendv_ps(other.0, less.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0)));
    exponent(self: Self) -> Self::Int = _mm256_sub_epi32(_mm256_srli_epi32::<23>(_mm256_castps_si256(self.0)), _mm256_set1_epi32(127));
    power_of_two(n: Self::Int) -> Self = Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))));
    round_int(self: Self) -> Self::Int = _mm256_cvtps_epi32(self.0);
}

vector! {
    /// 16 lanes.
    V16(__m512), __m512i, V16, 16;
    splat(value: f32) -> Self = Self(_mm512_set1_ps(value));
    load(from: *const f32) -> Self = Self(_mm512_loadu_ps(from));
    load_f16(from: *const u16) -> Self = Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())));
    splat_int(value: i32) -> Self::Int = _mm512_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm512_loadu_si512(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()));
    load_u8(from: *const u8) -> Self::Int = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
    from_int(from: Self::Int) -> Self = Self(_mm512_cvtepi32_ps(from));
    store_int(from: Self::Int, to: *mut i32) = _mm512_storeu_si512(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm512_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(from));
    store_u8(from: Self::Int, to: *mut u8) = _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(_mm512_max_epi32(from, _mm512_setzero_si512())));
    store(self: Self, to: *mut f32) = _mm512_storeu_ps(to, self.0);
    store_f16(self: Self, to: *mut u16) = _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(self.0));
    mul_add(self: Self, b: Self, c: Self) -> Self = Self(_mm512_fmadd_ps(self.0, b.0, c.0));
    add(self: Self, b: Self) -> Self = Self(_mm512_add_ps(self.0, b.0));
    sub(self: Self, b: Self) -> Self = Self(_mm512_sub_ps(self.0, b.0));
    mul(self: Self, b: Self) -> Self = Self(_mm512_mul_ps(self.0, b.0));
    div(self: Self, b: Self) -> Self = Self(_mm512_div_ps(self.0, b.0));
    sqrt(self: Self) -> Self = Self(_mm512_sqrt_ps(self.0));
    max(self: Self, b: Self) -> Self = Self(_mm512_max_ps(self.0, b.0));
    min(self: Self, b: Self) -> Self = Self(_mm512_min_ps(self.0, b.0));
    where_less(self: Self, b: Self, less: Self, other: Self) -> Self = Self(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0), other.0, less.0));
    exponent(self: Self) -> Self::Int = _mm512_sub_epi32(_mm512_srli_epi32::<23>(_mm512_castps_si512(self.0)), _mm512_set1_epi32(127));
    power_of_two(n: Self::Int) -> Self = Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127)))));
    round_int(self: Self) -> Self::Int = _mm512_cvtps_epi32(self.0);
}

/// A vector that may load and store its first lanes only.
///
/// # Safety
/// As [`Vector`]'s; pointers are valid for `there` elements, at most all.
pub(crate) trait Edge: Vector {
    /// Whether it can; else the methods must not be called.
    const CUTS: bool = false;

    unsafe fn load_first(_from: *const f32, _there: usize) -> Self {
        unreachable!("it cuts off nothing")
    }
    unsafe fn load_first_f16(_from: *const u16, _there: usize) -> Self {
        unreachable!("it cuts off nothing")
    }
    unsafe fn store_first(self, _to: *mut f32, _there: usize) {
        unreachable!("it cuts off nothing")
    }
    unsafe fn store_first_f16(self, _to: *mut u16, _there: usize) {
        unreachable!("it cuts off nothing")
    }
}

impl Edge for V4 {}
impl Edge for V8 {}
impl Edge for Two<V8> {}

/// The first `there` of 16 lanes.
#[inline(always)]
pub(crate) fn first(there: usize) -> __mmask16 {
    if there >= 16 { !0 } else { (1 << there) - 1 }
}

impl Edge for V16 {
    const CUTS: bool = true;

    #[inline(always)]
    unsafe fn load_first(from: *const f32, there: usize) -> Self {
        // SAFETY: the trait's.
        Self(unsafe { _mm512_maskz_loadu_ps(first(there), from) })
    }

    #[inline(always)]
    unsafe fn load_first_f16(from: *const u16, there: usize) -> Self {
        // SAFETY: the trait's.
        Self(unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(there), from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, there: usize) {
        // SAFETY: the trait's.
        unsafe { _mm512_mask_storeu_ps(to, first(there), self.0) }
    }

    #[inline(always)]
    unsafe fn store_first_f16(self, to: *mut u16, there: usize) {
        // SAFETY: the trait's.
        unsafe { _mm256_mask_storeu_epi16(to.cast(), first(there), _mm512_cvtps_ph::<0>(self.0)) }
    }
}
