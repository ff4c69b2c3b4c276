//! Vectors of 4, 8 or 16 lanes: f32 and the i32 of the same width, with the loads, stores and conversions kernels need.
//!
//! A block of 16 output channels is [`Two`] vectors with AVX2 and one with AVX-512; blocks of 8 and 4 are one shorter
//! vector.

use core::arch::x86_64::*;

/// f32 lanes with their i32 companions.
///
/// # Safety
/// Every method requires a CPU with the instance's features: AVX2, FMA and F16C, for `__m512` also AVX-512. Pointers are
/// valid for `LANES` elements, at any alignment.
pub(crate) trait Vector: Copy {
    /// As many i32 lanes.
    type Int: Copy;
    /// Number of lanes.
    const LANES: usize;

    /// All lanes alike.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Loads f16 elements.
    unsafe fn load_f16(from: *const u16) -> Self;
    /// Rounds to f16 elements, to nearest even.
    unsafe fn store_f16(self, to: *mut u16);
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// The greater; `b` where either is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// The lesser; `b` where either is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// `negative` in the lanes where `self < 0`, else `self`.
    unsafe fn where_negative(self, negative: Self) -> Self;
    unsafe fn load_int(from: *const i32) -> Self::Int;
    unsafe fn store_int(from: Self::Int, to: *mut i32);
    unsafe fn add_int(a: Self::Int, b: Self::Int) -> Self::Int;
    /// All lanes alike.
    unsafe fn splat_int(value: i32) -> Self::Int;
    /// Loads i8 elements.
    unsafe fn load_i8(from: *const i8) -> Self::Int;
    /// Converts to f32.
    unsafe fn from_int(from: Self::Int) -> Self;
    /// Rounds to nearest even.
    unsafe fn round_int(self) -> Self::Int;
    /// 2 to the power `n`, for `n` from -126 to 127.
    unsafe fn power_of_two(n: Self::Int) -> Self;
    /// Saturates to i8 elements.
    unsafe fn store_i8(from: Self::Int, to: *mut i8);
}

macro_rules! vector {
    (
        $type:ty, $int:ty, $lanes:literal;
        $($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $body:expr;)*
    ) => {
        impl Vector for $type {
            type Int = $int;
            const LANES: usize = $lanes;
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
    __m128, __m128i, 4;
    splat(value: f32) -> Self = _mm_set1_ps(value);
    load(from: *const f32) -> Self = _mm_loadu_ps(from);
    load_f16(from: *const u16) -> Self = _mm_cvtph_ps(_mm_loadl_epi64(from.cast()));
    splat_int(value: i32) -> Self::Int = _mm_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm_loadu_si128(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm_cvtepi8_epi32(_mm_cvtsi32_si128(from.cast::<i32>().read_unaligned()));
    from_int(from: Self::Int) -> Self = _mm_cvtepi32_ps(from);
    store_int(from: Self::Int, to: *mut i32) = _mm_storeu_si128(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = _mm_packs_epi32(from, from);
        to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packs_epi16(words, words)));
    };
    store(self: Self, to: *mut f32) = _mm_storeu_ps(to, self);
    store_f16(self: Self, to: *mut u16) = _mm_storel_epi64(to.cast(), _mm_cvtps_ph::<0>(self));
    mul_add(self: Self, b: Self, c: Self) -> Self = _mm_fmadd_ps(self, b, c);
    add(self: Self, b: Self) -> Self = _mm_add_ps(self, b);
    mul(self: Self, b: Self) -> Self = _mm_mul_ps(self, b);
    div(self: Self, b: Self) -> Self = _mm_div_ps(self, b);
    max(self: Self, b: Self) -> Self = _mm_max_ps(self, b);
    min(self: Self, b: Self) -> Self = _mm_min_ps(self, b);
    where_negative(self: Self, negative: Self) -> Self = _mm_blendv_ps(self, negative, _mm_cmplt_ps(self, _mm_setzero_ps()));
    power_of_two(n: Self::Int) -> Self = _mm_castsi128_ps(_mm_slli_epi32::<23>(_mm_add_epi32(n, _mm_set1_epi32(127))));
    round_int(self: Self) -> Self::Int = _mm_cvtps_epi32(self);
}

vector! {
    __m256, __m256i, 8;
    splat(value: f32) -> Self = _mm256_set1_ps(value);
    load(from: *const f32) -> Self = _mm256_loadu_ps(from);
    load_f16(from: *const u16) -> Self = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
    splat_int(value: i32) -> Self::Int = _mm256_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm256_loadu_si256(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
    from_int(from: Self::Int) -> Self = _mm256_cvtepi32_ps(from);
    store_int(from: Self::Int, to: *mut i32) = _mm256_storeu_si256(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm256_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = {
        let words = _mm_packs_epi32(_mm256_castsi256_si128(from), _mm256_extracti128_si256::<1>(from));
        _mm_storel_epi64(to.cast(), _mm_packs_epi16(words, words));
    };
    store(self: Self, to: *mut f32) = _mm256_storeu_ps(to, self);
    store_f16(self: Self, to: *mut u16) = _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(self));
    mul_add(self: Self, b: Self, c: Self) -> Self = _mm256_fmadd_ps(self, b, c);
    add(self: Self, b: Self) -> Self = _mm256_add_ps(self, b);
    mul(self: Self, b: Self) -> Self = _mm256_mul_ps(self, b);
    div(self: Self, b: Self) -> Self = _mm256_div_ps(self, b);
    max(self: Self, b: Self) -> Self = _mm256_max_ps(self, b);
    min(self: Self, b: Self) -> Self = _mm256_min_ps(self, b);
    where_negative(self: Self, negative: Self) -> Self = _mm256_blendv_ps(self, negative, _mm256_cmp_ps::<_CMP_LT_OQ>(self, _mm256_setzero_ps()));
    power_of_two(n: Self::Int) -> Self = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
    round_int(self: Self) -> Self::Int = _mm256_cvtps_epi32(self);
}

vector! {
    __m512, __m512i, 16;
    splat(value: f32) -> Self = _mm512_set1_ps(value);
    load(from: *const f32) -> Self = _mm512_loadu_ps(from);
    load_f16(from: *const u16) -> Self = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
    splat_int(value: i32) -> Self::Int = _mm512_set1_epi32(value);
    load_int(from: *const i32) -> Self::Int = _mm512_loadu_si512(from.cast());
    load_i8(from: *const i8) -> Self::Int = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()));
    from_int(from: Self::Int) -> Self = _mm512_cvtepi32_ps(from);
    store_int(from: Self::Int, to: *mut i32) = _mm512_storeu_si512(to.cast(), from);
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = _mm512_add_epi32(a, b);
    store_i8(from: Self::Int, to: *mut i8) = _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(from));
    store(self: Self, to: *mut f32) = _mm512_storeu_ps(to, self);
    store_f16(self: Self, to: *mut u16) = _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(self));
    mul_add(self: Self, b: Self, c: Self) -> Self = _mm512_fmadd_ps(self, b, c);
    add(self: Self, b: Self) -> Self = _mm512_add_ps(self, b);
    mul(self: Self, b: Self) -> Self = _mm512_mul_ps(self, b);
    div(self: Self, b: Self) -> Self = _mm512_div_ps(self, b);
    max(self: Self, b: Self) -> Self = _mm512_max_ps(self, b);
    min(self: Self, b: Self) -> Self = _mm512_min_ps(self, b);
    where_negative(self: Self, negative: Self) -> Self = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, _mm512_setzero_ps()), self, negative);
    power_of_two(n: Self::Int) -> Self = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127))));
    round_int(self: Self) -> Self::Int = _mm512_cvtps_epi32(self);
}

/// Two vectors side by side.
#[derive(Clone, Copy)]
pub(crate) struct Two<V>(pub V, pub V);

macro_rules! both {
    ($($name:ident($($arg:ident: $arg_type:ty),*) $(-> $result:ty)? = $first:expr, $second:expr;)*) => {
        impl<V: Vector> Vector for Two<V> {
            type Int = Two<V::Int>;
            const LANES: usize = 2 * V::LANES;
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $arg_type),*) $(-> $result)? {
                    // SAFETY: the halves' conditions are those of the whole.
                    unsafe { both!(@join $($result)?; $first, $second) }
                }
            )*
        }
    };
    (@join $result:ty; $first:expr, $second:expr) => { Two($first, $second) };
    (@join ; $first:expr, $second:expr) => {{ $first; $second }};
}

both! {
    splat(value: f32) -> Self = V::splat(value), V::splat(value);
    load(from: *const f32) -> Self = V::load(from), V::load(from.add(V::LANES));
    load_f16(from: *const u16) -> Self = V::load_f16(from), V::load_f16(from.add(V::LANES));
    splat_int(value: i32) -> Self::Int = V::splat_int(value), V::splat_int(value);
    load_int(from: *const i32) -> Self::Int = V::load_int(from), V::load_int(from.add(V::LANES));
    load_i8(from: *const i8) -> Self::Int = V::load_i8(from), V::load_i8(from.add(V::LANES));
    from_int(from: Self::Int) -> Self = V::from_int(from.0), V::from_int(from.1);
    store_int(from: Self::Int, to: *mut i32) = V::store_int(from.0, to), V::store_int(from.1, to.add(V::LANES));
    add_int(a: Self::Int, b: Self::Int) -> Self::Int = V::add_int(a.0, b.0), V::add_int(a.1, b.1);
    store_i8(from: Self::Int, to: *mut i8) = V::store_i8(from.0, to), V::store_i8(from.1, to.add(V::LANES));
    store(self: Self, to: *mut f32) = self.0.store(to), self.1.store(to.add(V::LANES));
    store_f16(self: Self, to: *mut u16) = self.0.store_f16(to), self.1.store_f16(to.add(V::LANES));
    mul_add(self: Self, b: Self, c: Self) -> Self = self.0.mul_add(b.0, c.0), self.1.mul_add(b.1, c.1);
    add(self: Self, b: Self) -> Self = self.0.add(b.0), self.1.add(b.1);
    mul(self: Self, b: Self) -> Self = self.0.mul(b.0), self.1.mul(b.1);
    div(self: Self, b: Self) -> Self = self.0.div(b.0), self.1.div(b.1);
    max(self: Self, b: Self) -> Self = self.0.max(b.0), self.1.max(b.1);
    min(self: Self, b: Self) -> Self = self.0.min(b.0), self.1.min(b.1);
    where_negative(self: Self, negative: Self) -> Self = self.0.where_negative(negative.0), self.1.where_negative(negative.1);
    power_of_two(n: Self::Int) -> Self = V::power_of_two(n.0), V::power_of_two(n.1);
    round_int(self: Self) -> Self::Int = self.0.round_int(), self.1.round_int();
}
