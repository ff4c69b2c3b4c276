//! The last step of a convolution: residual, activation, rounding and the store, for one block of channels at a time.
//!
//! A float kernel whose last step is a clamp does it in registers. Else kernels leave their sums in a small buffer, `[rows][lanes]` 32-bit words, and one [`Isa::finish`] turns it into output. A
//! tile's sums are few beside its multiply-adds, so the trip through L1 costs little, and every kernel shares this code.
//! A block that is cut off by the last channel goes through a stack buffer, so that nothing is read or written past it.

use crate::vector::{Vector, first};
use core::arch::x86_64::*;
use sparrow_kernels::conv::Epilogue;
use sparrow_kernels::{Activation, DType};

/// Bytes of a block of the greatest width.
const BLOCK_BYTES: usize = 64;

/// Where the rows of a tile go, and what is done to them on the way. Pointers as in [`sparrow_kernels::conv::Tile`].
#[derive(Clone, Copy)]
pub(crate) struct Last<'a> {
    pub y: *const *mut u8,
    pub residual: *const *const u8,
    /// Integers: what is still to be added, or null.
    pub bias: *const u8,
    pub scale: *const f32,
    pub slopes: *const f32,
    pub channels: usize,
    pub rows: usize,
    pub epilogue: &'a Epilogue,
}

/// Whether the last step is no more than a clamp, so that whole blocks may be written straight from registers.
pub(crate) fn is_clamp(residual: *const *const u8, epilogue: &Epilogue) -> bool {
    residual.is_null() && epilogue.activation == Activation::Clamp as u32
}

/// int8's last step with AVX-512 where it is plain: four pixels of 16 channels at once, from the registers they are in.
///
/// Both bounds are met by comparisons of codes, as rounding does not change an order. For that no product may be too great for
/// an integer: [`are_small`] says so of the factors.
#[derive(Clone, Copy)]
pub(crate) struct Plain {
    lo: __m512i,
    hi: __m512i,
    zero: __m512i,
}

/// Whether there are factors, and no sum of up to `products` products and a bias is too great for an integer once it is
/// multiplied by its factor.
///
/// # Safety
/// So many factors, unless they are null, and integer biases are readable.
#[inline(always)]
pub(crate) unsafe fn are_small(factors: *const f32, bias: *const u8, channels: usize, products: usize) -> bool {
    if factors.is_null() {
        return false;
    }
    let products = products as f32 * 32768.0;
    let mut small = true;
    for n in 0..channels {
        // SAFETY: the caller's promise.
        let (factor, bias) = unsafe { (*factors.add(n), bias.cast::<i32>().add(n).read_unaligned()) };
        // Half of what an integer holds: what is rounded here is far less.
        small &= (((bias as f32).abs() + products) * factor).abs() < 1e9;
    }
    small
}

/// The same as [`Plain`] with AVX2: four pixels of 8 channels.
#[derive(Clone, Copy)]
pub(crate) struct PlainAvx2 {
    lo: __m256i,
    hi: __m256i,
    zero: __m256i,
}

impl PlainAvx2 {
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    pub unsafe fn new(epilogue: &Epilogue) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                lo: _mm256_set1_epi8(code(epilogue.lo, epilogue)),
                hi: _mm256_set1_epi8(code(epilogue.hi, epilogue)),
                zero: _mm256_set1_epi16(epilogue.y_zero as i16),
            }
        }
    }

    /// The values and a residual, within what an integer holds.
    ///
    /// # Safety
    /// The CPU has AVX2; the residual has 8 channels.
    #[inline(always)]
    pub unsafe fn add_residual(&self, values: __m256, from: *const u8, epilogue: &Epilogue) -> __m256 {
        // SAFETY: the caller's promise. No fused multiply-add: the result is the same on every machine.
        unsafe {
            let code = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            let code = _mm256_sub_epi32(code, _mm256_set1_epi32(epilogue.residual_zero));
            let residual = _mm256_mul_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(epilogue.residual_scale));
            // A residual's factor may be anything. A NaN, the second operand of a minimum, becomes the least integer.
            _mm256_min_ps(_mm256_set1_ps(epilogue.hi), _mm256_add_ps(values, residual))
        }
    }

    /// Rounds the values, and stores the first `count` of four pixels.
    ///
    /// # Safety
    /// The CPU has AVX2; so many pixels may be written 8 channels.
    #[inline(always)]
    pub unsafe fn store(&self, values: [__m256; 4], y: [*mut u8; 4], count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = [self.zero; 4];
            for n in 0..4 {
                codes[n] = _mm256_cvtps_epi32(values[n]);
            }
            let words = [
                _mm256_adds_epi16(_mm256_packs_epi32(codes[0], codes[1]), self.zero),
                _mm256_adds_epi16(_mm256_packs_epi32(codes[2], codes[3]), self.zero),
            ];
            let codes = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(words[0], words[1]), self.lo), self.hi);
            // Four channels of each pixel are in the lower half, four in the upper.
            let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            let pairs = [_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)];
            for n in 0..if count < 4 { count } else { 4 } {
                if n % 2 == 0 {
                    _mm_storel_epi64(y[n].cast(), pairs[n / 2]);
                } else {
                    _mm_storeh_pd(y[n].cast(), _mm_castsi128_pd(pairs[n / 2]));
                }
            }
        }
    }
}

/// The code of a bound.
#[inline(always)]
fn code(bound: f32, epilogue: &Epilogue) -> i8 {
    // SAFETY: every x86-64 CPU has SSE2.
    let code = unsafe { _mm_cvtss_si32(_mm_set_ss(bound)) };
    // Bounds of an output of other numbers, which does not use them, may be anything.
    code.wrapping_add(epilogue.y_zero).clamp(-128, 127) as i8
}

/// The bits of the float 2^23.
pub(crate) const TWO_23: i32 = 0x4b00_0000;

impl Plain {
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn new(epilogue: &Epilogue) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                lo: _mm512_set1_epi8(code(epilogue.lo, epilogue)),
                hi: _mm512_set1_epi8(code(epilogue.hi, epilogue)),
                zero: _mm512_set1_epi16(epilogue.y_zero as i16),
            }
        }
    }

    /// The codes of four pixels, one behind the other.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn codes(&self, sums: [__m512i; 4], scales: [__m512; 4]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { turn(self.quarters(sums, scales)) }
    }

    /// The codes of four pixels, whose sums are 2^23's bits and more if `FLOATS`, that is the float 2^23 and more, or less than
    /// 2^23 if the sum is negative; then the lower bound is 0 or more, and factors are positive. `(2^23 + sum) * factor - 2^23 *
    /// factor` is rounded once, as `sum * factor` is, for `2^23 * factor` is exact.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn codes_of<const FLOATS: bool>(&self, sums: [__m512i; 4], scales: [__m512; 4]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            if !FLOATS {
                return self.codes(sums, scales);
            }
            let two_23 = _mm512_castsi512_ps(_mm512_set1_epi32(TWO_23));
            let mut values = scales;
            for n in 0..4 {
                values[n] = _mm512_fmsub_ps(_mm512_castsi512_ps(sums[n]), scales[n], _mm512_mul_ps(two_23, scales[n]));
            }
            turn(self.round(values))
        }
    }

    /// Quarter by quarter of a vector, the codes of that quarter of each of the four.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn quarters(&self, sums: [__m512i; 4], scales: [__m512; 4]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let mut values = scales;
            for n in 0..4 {
                values[n] = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[n]), scales[n]);
            }
            self.round(values)
        }
    }

    /// The same with a residual, of which the first `there` channels are read.
    ///
    /// # Safety
    /// The CPU has AVX-512; the residuals have so many channels.
    #[inline(always)]
    pub unsafe fn codes_with_residual(
        &self,
        sums: [__m512i; 4],
        scale: __m512,
        residual: [*const u8; 4],
        epilogue: &Epilogue,
        there: usize,
    ) -> __m512i {
        // SAFETY: the caller's promise. No fused multiply-add: the result is the same on every machine.
        unsafe {
            let zero = _mm512_set1_epi32(epilogue.residual_zero);
            let factor = _mm512_set1_ps(epilogue.residual_scale);
            let mut values = [factor; 4];
            for n in 0..4 {
                let codes = _mm_maskz_loadu_epi8(first(there), residual[n].cast());
                let code = _mm512_sub_epi32(_mm512_cvtepi8_epi32(codes), zero);
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[n]), scale);
                let value = _mm512_add_ps(product, _mm512_mul_ps(_mm512_cvtepi32_ps(code), factor));
                // A residual's factor may be anything. A NaN, the second operand of a minimum, becomes the least integer.
                values[n] = _mm512_min_ps(_mm512_set1_ps(epilogue.hi), value);
            }
            turn(self.round(values))
        }
    }

    /// The words of the codes of two vectors, in turns of four.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn words(&self, sums: [__m512i; 2], scales: [__m512; 2]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let value = |n: usize| _mm512_mul_ps(_mm512_cvtepi32_ps(sums[n]), scales[n]);
            self.rounded(value(0), value(1))
        }
    }

    /// The codes of two vectors of words, in turns of eight.
    ///
    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    pub unsafe fn bytes(&self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(a, b), self.lo), self.hi) }
    }

    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    unsafe fn round(&self, values: [__m512; 4]) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { self.bytes(self.rounded(values[0], values[1]), self.rounded(values[2], values[3])) }
    }

    /// # Safety
    /// The CPU has AVX-512.
    #[inline(always)]
    unsafe fn rounded(&self, a: __m512, b: __m512) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_adds_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)), self.zero) }
    }
}

/// The transpose of a 4x4 matrix of 32-bit words.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub(crate) unsafe fn turn(v: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v) }
}

/// Stores the first `there` channels of the first `count` of four pixels' codes.
///
/// # Safety
/// The CPU has AVX-512; so many pixels may be written so many channels, at most 16.
#[inline(always)]
pub(crate) unsafe fn store_codes(codes: __m512i, y: [*mut u8; 4], count: usize, there: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let pixels = [
            _mm512_castsi512_si128(codes),
            _mm512_extracti32x4_epi32::<1>(codes),
            _mm512_extracti32x4_epi32::<2>(codes),
            _mm512_extracti32x4_epi32::<3>(codes),
        ];
        for n in 0..4 {
            if n >= count {
                return;
            }
            if there >= 16 {
                _mm_storeu_si128(y[n].cast(), pixels[n]);
            } else {
                _mm_mask_storeu_epi8(y[n].cast(), first(there), pixels[n]);
            }
        }
    }
}

/// The vector itself, of which the compiler knows nothing.
#[inline]
#[target_feature(enable = "avx512f")]
fn opaque(mut v: __m512i) -> __m512i {
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("/* {0} */", inout(zmm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// Stores 16 channels of the first `count` of four pixels' codes.
///
/// # Safety
/// As [`store_codes`].
#[inline(always)]
pub(crate) unsafe fn store_whole(codes: __m512i, y: [*mut u8; 4], count: usize) {
    // The compiler would make four vectors, to store the first quarter of each, on the one port that moves quarters; another
    // stores them from where they are.
    // SAFETY: the caller's promise.
    unsafe { store_codes(opaque(codes), y, count, 16) }
}

/// The per-channel constants of one block.
struct Constants<V: Vector> {
    bias: V::Int,
    scale: V,
    slope: V,
    lo: V,
    hi: V,
    residual_scale: V,
    residual_zero: V::Int,
    y_zero: V::Int,
    activation: u32,
}

impl<V: Vector> Constants<V> {
    /// # Safety
    /// The CPU has `V`'s features; per-channel vectors are null or readable for the whole block that begins at `first`.
    #[inline(always)]
    unsafe fn new(last: &Last, first: usize, integer: bool) -> Self {
        let e = last.epilogue;
        // SAFETY: the caller's promise.
        unsafe {
            let vector = |from: *const f32| if from.is_null() { core::ptr::null() } else { from.add(first) };
            let (scale, slopes) = (vector(last.scale), vector(last.slopes));
            Self {
                bias: if integer && !last.bias.is_null() {
                    V::load_int(last.bias.cast::<i32>().add(first))
                } else {
                    V::splat_int(0)
                },
                scale: if scale.is_null() { V::splat(0.0) } else { V::load(scale) },
                slope: if slopes.is_null() { V::splat(0.0) } else { V::load(slopes) },
                lo: V::splat(e.lo),
                hi: V::splat(e.hi),
                residual_scale: V::splat(e.residual_scale),
                residual_zero: V::splat_int(-e.residual_zero),
                y_zero: V::splat_int(e.y_zero),
                activation: e.activation,
            }
        }
    }

    /// # Safety
    /// The CPU has `V`'s features.
    #[inline(always)]
    unsafe fn activate<const PLAIN: bool>(&self, v: V) -> V {
        const LEAKY: u32 = Activation::LeakyRelu as u32;
        const PRELU: u32 = Activation::PRelu as u32;
        const HARDSWISH: u32 = Activation::HardSwish as u32;
        // SAFETY: the caller's promise.
        unsafe {
            match self.activation {
                _ if PLAIN => v.max(self.lo).min(self.hi),
                LEAKY => v.where_negative(self.lo.mul(v)),
                PRELU => v.where_negative(self.slope.mul(v)),
                HARDSWISH => v.mul(v.add(V::splat(3.0)).max(V::splat(0.0)).min(V::splat(6.0))).mul(V::splat(1.0 / 6.0)),
                _ => v.max(self.lo).min(self.hi),
            }
        }
    }
}

/// What kind of sums and output there are.
trait Put<V: Vector> {
    /// Bytes of an output element.
    const SIZE: usize;
    /// Whether sums are integers, to which the bias is still to be added.
    const INTEGER: bool;

    /// Writes one row of a block. `PLAIN` says that there is no residual and that the activation is a clamp.
    ///
    /// # Safety
    /// The CPU has `V`'s features; `sums`, `y` and, unless null, `residual` are valid for `V::LANES` elements.
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, residual: *const u8);
}

/// Float sums (the bias is in) to f32.
struct FloatToF32;
/// Float sums (the bias is in) to f16.
struct FloatToF16;
/// Integer sums to i8.
struct IntToI8;
/// Integer sums to f32.
struct IntToF32;
/// Integer sums as they are, with the bias.
struct IntToI32;

impl<V: Vector> Put<V> for FloatToF32 {
    const SIZE: usize = 4;
    const INTEGER: bool = false;
    #[inline(always)]
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, residual: *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = V::load(sums.cast());
            if !PLAIN && !residual.is_null() {
                v = v.add(V::load(residual.cast()));
            }
            c.activate::<PLAIN>(v).store(y.cast());
        }
    }
}

impl<V: Vector> Put<V> for FloatToF16 {
    const SIZE: usize = 2;
    const INTEGER: bool = false;
    #[inline(always)]
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, residual: *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = V::load(sums.cast());
            if !PLAIN && !residual.is_null() {
                v = v.add(V::load_f16(residual.cast()));
            }
            c.activate::<PLAIN>(v).store_f16(y.cast());
        }
    }
}

impl<V: Vector> Put<V> for IntToI8 {
    const SIZE: usize = 1;
    const INTEGER: bool = true;
    #[inline(always)]
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, residual: *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = V::from_int(V::add_int(V::load_int(sums.cast()), c.bias)).mul(c.scale);
            if !PLAIN && !residual.is_null() {
                // No fused multiply-add: the result is the same on every machine.
                let code = V::add_int(V::load_i8(residual.cast()), c.residual_zero);
                v = v.add(V::from_int(code).mul(c.residual_scale));
            }
            if !PLAIN && c.activation == Activation::PRelu as u32 {
                v = v.where_negative(v.mul(c.slope));
            }
            V::store_i8(V::add_int(v.max(c.lo).min(c.hi).round_int(), c.y_zero), y.cast());
        }
    }
}

impl<V: Vector> Put<V> for IntToF32 {
    const SIZE: usize = 4;
    const INTEGER: bool = true;
    #[inline(always)]
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, residual: *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = V::from_int(V::add_int(V::load_int(sums.cast()), c.bias)).mul(c.scale);
            if !PLAIN && !residual.is_null() {
                v = v.add(V::load(residual.cast()));
            }
            c.activate::<PLAIN>(v).store(y.cast());
        }
    }
}

impl<V: Vector> Put<V> for IntToI32 {
    const SIZE: usize = 4;
    const INTEGER: bool = true;
    #[inline(always)]
    unsafe fn put<const PLAIN: bool>(c: &Constants<V>, sums: *const u32, y: *mut u8, _: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { V::store_int(V::add_int(V::load_int(sums.cast()), c.bias), y.cast()) }
    }
}

/// An instruction set's copy of the last step, which its kernels share.
pub(crate) trait Isa {
    /// Writes the block of channels that begins at `first`.
    ///
    /// # Safety
    /// `last`'s pointers are valid as [`sparrow_kernels::conv::Tile`] says; `first < channels`; `sums` is
    /// `[rows][V::LANES]`, floats with the bias in them if `FLOAT`, else integers without the last step's; the CPU has the features.
    unsafe fn finish<V: Vector, const FLOAT: bool>(last: &Last, first: usize, sums: *const u32);
}

/// AVX2, FMA and F16C.
pub(crate) struct Avx2;
/// AVX-512 besides.
pub(crate) struct Avx512;

macro_rules! isa {
    ($($isa:ident, $features:literal;)*) => {
        $(impl Isa for $isa {
            #[inline(never)]
            #[target_feature(enable = $features)]
            unsafe fn finish<V: Vector, const FLOAT: bool>(last: &Last, first: usize, sums: *const u32) {
                const F16: u32 = DType::F16 as u32;
                const I8: u32 = DType::I8 as u32;
                const I32: u32 = DType::I32 as u32;
                // SAFETY: the caller's promise, the output's type being the epilogue's.
                unsafe {
                    match (FLOAT, last.epilogue.output) {
                        (true, F16) => block::<V, FloatToF16>(last, first, sums),
                        (true, _) => block::<V, FloatToF32>(last, first, sums),
                        (false, I8) => block::<V, IntToI8>(last, first, sums),
                        (false, I32) => block::<V, IntToI32>(last, first, sums),
                        (false, _) => block::<V, IntToF32>(last, first, sums),
                    }
                }
            }
        })*
    };
}

isa! {
    Avx2, "avx2,fma,f16c";
    Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl";
}

/// # Safety
/// As [`Isa::finish`].
#[inline(always)]
unsafe fn block<V: Vector, P: Put<V>>(last: &Last, first: usize, sums: *const u32) {
    let whole = last.channels - first >= V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let constants = Constants::new(last, first, P::INTEGER);
        if whole && is_clamp(last.residual, last.epilogue) {
            for row in 0..last.rows {
                let y = (*last.y.add(row)).add(first * P::SIZE);
                P::put::<true>(&constants, sums.add(row * V::LANES), y, core::ptr::null());
            }
            return;
        }
        for row in 0..last.rows {
            let sums = sums.add(row * V::LANES);
            let y = (*last.y.add(row)).add(first * P::SIZE);
            let residual = if last.residual.is_null() {
                core::ptr::null()
            } else {
                (*last.residual.add(row)).add(first * P::SIZE)
            };
            if whole {
                P::put::<false>(&constants, sums, y, residual);
            } else {
                cut_off::<V, P>(&constants, last.channels - first, (sums, y, residual));
            }
        }
    }
}

/// One row of a block of which only `count` channels exist: buffers stand in for operands that end too early.
///
/// # Safety
/// As [`Put::put`], `y` and `residual` for `count` elements.
#[inline(always)]
unsafe fn cut_off<V: Vector, P: Put<V>>(
    constants: &Constants<V>,
    count: usize,
    (sums, y, residual): (*const u32, *mut u8, *const u8),
) {
    let (mut y_buffer, mut residual_buffer) = ([0u8; BLOCK_BYTES], [0u8; BLOCK_BYTES]);
    let mut from = residual;
    // SAFETY: the caller's promise; a block fits the buffers.
    unsafe {
        if !residual.is_null() {
            core::ptr::copy_nonoverlapping(residual, residual_buffer.as_mut_ptr(), count * P::SIZE);
            from = residual_buffer.as_ptr();
        }
        P::put::<false>(constants, sums, y_buffer.as_mut_ptr(), from);
        core::ptr::copy_nonoverlapping(y_buffer.as_ptr(), y, count * P::SIZE);
    }
}
