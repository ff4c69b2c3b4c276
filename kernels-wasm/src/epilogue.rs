//! The last step of convolutions on vectors of 4 channels: bias, residual, activation, rounding, as the scalar kernels.

use crate::half;
use crate::simd::{clamp, load, select, store};
use core::arch::wasm32::*;
use sparrow_kernels::conv::Epilogue;
use sparrow_kernels::{Activation, DType};

/// 1.5 * 2^23: added to a small f32 it leaves the number, rounded to nearest even, in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// Greatest size of a row: 16 channels of 4 bytes.
const ROW: usize = 64;

/// 4 values as i32, at least `lo` and rounded half to even; one of 2^22 or more becomes some number that is no smaller.
///
/// Below that, and with `lo` within +-256, the addition rounds as `rint` does. The values come from integers, none is NaN.
#[inline(always)]
fn round(v: v128, lo: v128, rounder: v128) -> v128 {
    i32x4_sub(f32x4_add(f32x4_pmax(lo, v), rounder), rounder)
}

/// The common last step: bounds as the activation, output of the kernel's own type (f32, or i8 of an int8 kernel).
#[derive(Clone, Copy)]
pub struct Common {
    lo: v128,
    hi: v128,
    /// [`ROUNDER`]: a load where it is read from memory, which is cheaper than what engines make of a constant.
    rounder: v128,
    /// In lanes of 16 bits; `most` is the code of `hi`.
    zero: v128,
    most: v128,
    residual_zero: v128,
    residual_scale: v128,
}

impl Common {
    /// What it needs of the parameters; `None` if they ask for something else.
    #[inline(always)]
    pub fn new<const INTEGER: bool>(e: &Epilogue) -> Option<Self> {
        let own = if INTEGER { DType::I8 } else { DType::F32 };
        (e.activation == Activation::Clamp as u32 && e.output == own as u32).then(|| Self::bounds(e))
    }

    #[inline(always)]
    fn bounds(e: &Epilogue) -> Self {
        let zero = i16x8_splat(e.y_zero as i16);
        let hi = i32x4_trunc_sat_f32x4(f32x4_nearest(f32x4_splat(e.hi)));
        Self {
            lo: f32x4_splat(e.lo),
            hi: f32x4_splat(e.hi),
            rounder: f32x4_splat(ROUNDER),
            zero,
            most: i16x8_add(i16x8_narrow_i32x4(hi, hi), zero),
            residual_zero: i32x4_splat(e.residual_zero),
            residual_scale: f32x4_splat(e.residual_scale),
        }
    }

    /// Ends and writes vectors of 4 channels. The bias is in the sums.
    ///
    /// # Safety
    /// `scale` (int8), `residual` (unless null) and `y` have as many channels.
    #[inline(always)]
    pub unsafe fn row<const INTEGER: bool>(&self, sums: &[v128], scale: *const f32, residual: *const u8, y: *mut u8) {
        let mut codes = [i32x4_splat(0); 4];
        for (n, &sum) in sums.iter().enumerate() {
            // SAFETY: vector `n` has its factors, its residual and its place.
            unsafe {
                let mut v = if INTEGER { scaled(sum, scale.add(4 * n)) } else { sum };
                if !residual.is_null() {
                    let r = if INTEGER { self.residual(residual.add(4 * n)) } else { load(residual.add(16 * n)) };
                    v = f32x4_add(v, r);
                }
                if INTEGER {
                    codes[n] = round(v, self.lo, self.rounder);
                } else {
                    store(y.add(16 * n), clamp(v, self.lo, self.hi));
                }
            }
        }
        if INTEGER {
            // SAFETY: y has these channels.
            unsafe { self.put(sums.len(), |n| codes[n], y) };
        }
    }

    /// 4 floats within the bounds.
    #[inline(always)]
    pub fn clamped(&self, v: v128) -> v128 {
        clamp(v, self.lo, self.hi)
    }

    /// 8 rounded values plus the zero point, at most `most`. Done between the two narrowings, because the compiler makes minima,
    /// maxima and shuffles of one upon another.
    #[inline(always)]
    fn pair(&self, a: v128, b: v128) -> v128 {
        i16x8_min(i16x8_add_sat(i16x8_narrow_i32x4(a, b), self.zero), self.most)
    }

    /// Ends and writes `vectors` (1, 2 or 4) vectors of 4 channels of int8 sums, without a residual; `sum` and `scale` give the
    /// `n`th. Written out: of a loop, the compiler keeps the codes in memory.
    ///
    /// # Safety
    /// `y` has as many channels.
    #[inline(always)]
    pub unsafe fn plain(&self, vectors: usize, sum: impl Fn(usize) -> v128, scale: impl Fn(usize) -> v128, y: *mut u8) {
        let code = |n| round(f32x4_mul(f32x4_convert_i32x4(sum(n)), scale(n)), self.lo, self.rounder);
        // SAFETY: the caller's promise.
        unsafe { self.put(vectors, code, y) };
    }

    /// Writes `vectors` (1, 2 or 4) vectors of rounded values as codes, of which `code` gives the `n`th.
    ///
    /// # Safety
    /// `y` has as many channels.
    #[inline(always)]
    unsafe fn put(&self, vectors: usize, code: impl Fn(usize) -> v128, y: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            if vectors == 1 {
                let low = code(0);
                let low = self.pair(low, low);
                v128_store32_lane::<0>(i8x16_narrow_i16x8(low, low), y.cast());
            } else if vectors == 2 {
                let low = self.pair(code(0), code(1));
                v128_store64_lane::<0>(i8x16_narrow_i16x8(low, low), y.cast());
            } else {
                let (low, high) = (self.pair(code(0), code(1)), self.pair(code(2), code(3)));
                store(y, i8x16_narrow_i16x8(low, high));
            }
        }
    }

    /// Codes of four vectors of int8 sums which share their 4 factors.
    #[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
    #[inline(always)]
    pub fn codes(&self, sums: [v128; 4], scale: v128) -> v128 {
        let [a, b, c, d] = sums.map(|sum| round(f32x4_mul(f32x4_convert_i32x4(sum), scale), self.lo, self.rounder));
        i8x16_narrow_i16x8(self.pair(a, b), self.pair(c, d))
    }

    /// 4 values of an i8 residual in units of the output.
    #[inline(always)]
    unsafe fn residual(&self, p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        let codes = unsafe { v128_load32_zero(p.cast()) };
        let codes = i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(codes));
        f32x4_mul(f32x4_convert_i32x4(i32x4_sub(codes, self.residual_zero)), self.residual_scale)
    }
}

/// i32 sums times their factors.
#[inline(always)]
unsafe fn scaled(sum: v128, scale: *const f32) -> v128 {
    // SAFETY: the caller's promise.
    f32x4_mul(f32x4_convert_i32x4(sum), unsafe { load(scale.cast()) })
}

/// Any last step of one row of a tile: where it reads and writes, and what it does. The bias is in the sums.
#[derive(Clone, Copy)]
pub struct Last {
    /// int8: factor of the first channel.
    pub scale: *const f32,
    /// PRelu: slope of the first channel.
    pub slopes: *const f32,
    /// First channel of the residual, or null.
    pub residual: *const u8,
    /// First channel of the output.
    pub y: *mut u8,
    /// Channels of the row that exist.
    pub channels: usize,
    /// Sums are i32.
    pub integer: bool,
}

impl Last {
    /// Ends vectors of 4 channels and writes the channels that exist, by way of buffers.
    ///
    /// # Safety
    /// Scale and slopes have a multiple of 4 channels if the epilogue needs them; residual and y have `channels`.
    #[inline(never)]
    pub unsafe fn row(&self, sums: &[v128], e: &Epilogue) {
        let channels = self.channels.min(4 * sums.len());
        let bytes = channels * DType::ALL[e.output as usize].size();
        let (mut residual, mut y) = ([0u8; ROW], [0u8; ROW]);
        // SAFETY: residual and y have `bytes` bytes; the buffers have room for 16 channels of 4 bytes.
        unsafe {
            if !self.residual.is_null() {
                core::ptr::copy_nonoverlapping(self.residual, residual.as_mut_ptr(), bytes);
            }
            for (n, &sum) in sums.iter().enumerate() {
                self.vector(n, sum, residual.as_ptr(), y.as_mut_ptr(), e);
            }
            core::ptr::copy_nonoverlapping(y.as_ptr(), self.y, bytes);
        }
    }

    /// Ends vector `n`, whose residual and output lie in these buffers.
    unsafe fn vector(&self, n: usize, sum: v128, residual: *const u8, y: *mut u8, e: &Epilogue) {
        // SAFETY: vector `n` has its factors and slopes; the buffers have room.
        unsafe {
            let slopes = self.slopes.wrapping_add(4 * n).cast();
            if e.output == DType::F16 as u32 {
                let v = if self.residual.is_null() { sum } else { f32x4_add(sum, half::load4(residual.add(8 * n))) };
                half::store4(y.add(8 * n), activate(v, slopes, e));
            } else if e.output == DType::F32 as u32 {
                let v = if self.integer { scaled(sum, self.scale.add(4 * n)) } else { sum };
                let v = if self.residual.is_null() { v } else { f32x4_add(v, load(residual.add(16 * n))) };
                store(y.add(16 * n), activate(v, slopes, e));
            } else if e.output == DType::I32 as u32 {
                store(y.add(16 * n), sum);
            } else {
                let common = Common::bounds(e);
                let mut v = scaled(sum, self.scale.add(4 * n));
                if !self.residual.is_null() {
                    v = f32x4_add(v, common.residual(residual.add(4 * n)));
                }
                if e.activation == Activation::PRelu as u32 {
                    v = negative(v, load(slopes));
                }
                common.put(1, |_| round(v, common.lo, common.rounder), y.add(4 * n));
            }
        }
    }
}

/// The activation of 4 floats.
///
/// # Safety
/// 4 slopes are readable if it is PRelu.
unsafe fn activate(v: v128, slopes: *const u8, e: &Epilogue) -> v128 {
    match Activation::from_number(e.activation) {
        Some(Activation::LeakyRelu) => negative(v, f32x4_splat(e.lo)),
        // SAFETY: the caller's promise.
        Some(Activation::PRelu) => negative(v, unsafe { load(slopes) }),
        Some(Activation::HardSwish) => {
            let gate = clamp(f32x4_add(v, f32x4_splat(3.0)), f32x4_splat(0.0), f32x4_splat(6.0));
            f32x4_div(f32x4_mul(v, gate), f32x4_splat(6.0))
        }
        _ => clamp(v, f32x4_splat(e.lo), f32x4_splat(e.hi)),
    }
}

/// `v`, times `slope` where it is below 0.
#[inline(always)]
fn negative(v: v128, slope: v128) -> v128 {
    select(f32x4_lt(v, f32x4_splat(0.0)), f32x4_mul(v, slope), v)
}
