//! The last step of a convolution: activation or requantization, and the store.
//!
//! A tile whose channels all exist, with no residual and a clamp for activation, is finished in registers. Everything
//! else (a tail of channels, a residual, another activation, int8 layers that write f32 or i32) spills its sums and goes
//! through [`Slow`], four channels at a time.
//!
//! Requantization is `round(clamp(f32(sum) * factor)) + zero`, but conversions between integers and floats cost four
//! times an addition on the cores we care for. Adding 1.5 * 2^23 to a float of less than 2^22 leaves its rounding (ties
//! to even) in the low bits: that replaces the conversion back always, and the one before if the sums, begun at that
//! number's bits, surely stay below 2^22. If `|sum * factor|` surely fits 16 bits, the clamp is done on bytes instead of
//! floats: rounding is monotone, so clamping before or after it is the same. If moreover the bounds are those of a byte,
//! narrowing with saturation is the clamp; and if the zero point is even, it is added with the 1.5 * 2^23, for ties still
//! go to even then. [`Range`] says which holds.

use crate::simd::*;
use core::arch::aarch64::*;
use sparrow_kernels::conv::Epilogue;
use sparrow_kernels::{Activation, DType};

/// 1.5 * 2^23: its unit in the last place is 1.
const MAGIC: f32 = 12_582_912.0;

/// What is known of the size of a layer's int8 sums.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Range {
    /// Nothing.
    Any = 0,
    /// The products with the factor fit 16 bits, the zero point added.
    Short = 1,
    /// They do, and the sums are below 2^22: they begin at the bits of [`MAGIC`].
    Tiny = 2,
    /// As [`Range::Tiny`], the bounds are -128 and 127, and the zero point is even.
    Whole = 3,
}

impl Range {
    /// From a tile's or row's hint.
    #[inline(always)]
    pub fn from_hint(hint: u32) -> Self {
        match hint {
            3 => Self::Whole,
            2 => Self::Tiny,
            1 => Self::Short,
            _ => Self::Any,
        }
    }

    /// The hint for channels with these biases and factors and `products` products a sum.
    ///
    /// # Safety
    /// `bias` and `scale` are readable for `channels`, rounded up to a multiple of 16.
    #[target_feature(enable = "neon")]
    pub unsafe fn hint(
        bias: *const i32,
        scale: *const f32,
        channels: usize,
        products: usize,
        epilogue: &Epilogue,
    ) -> u32 {
        if epilogue.output != DType::I8 as u32 {
            return Self::Any as u32;
        }
        let most = vdupq_n_f32(products as f32 * 16384.0);
        let (mut sum, mut code) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
        for channel in (0..channels).step_by(4) {
            // SAFETY: readable by the caller's promise.
            let (bias, scale) = unsafe { (vld1q_s32(bias.add(channel)), vld1q_f32(scale.add(channel))) };
            let bound = vaddq_f32(vabsq_f32(vcvtq_f32_s32(bias)), most);
            sum = vmaxq_f32(sum, bound);
            code = vmaxq_f32(code, vmulq_f32(bound, vabsq_f32(scale)));
        }
        // Bounds with room for their own rounding. NaN is below nothing.
        match (vmaxvq_f32(code) < 32_000.0, vmaxvq_f32(sum) < 4_194_000.0) {
            (true, true) if epilogue.y_zero % 2 == 0 && bounds(epilogue) == [-128, 127] => Self::Whole as u32,
            (true, true) => Self::Tiny as u32,
            (true, false) => Self::Short as u32,
            _ => Self::Any as u32,
        }
    }

    /// What sums begin with beside the bias.
    #[inline(always)]
    fn offset(self) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_s32(if self.is_raised() { MAGIC.to_bits() as i32 } else { 0 }) }
    }

    /// Whether sums begin at the bits of [`MAGIC`].
    #[inline(always)]
    fn is_raised(self) -> bool {
        matches!(self, Self::Tiny | Self::Whole)
    }

    /// What a sum begins with.
    #[inline(always)]
    pub fn begin(self, bias: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vaddq_s32(bias, self.offset()) }
    }

    /// A sum without what it began with beside the bias.
    #[inline(always)]
    pub fn plain(self, sum: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vsubq_s32(sum, self.offset()) }
    }
}

/// The bounds of an i8 output as codes.
#[inline(always)]
fn bounds(epilogue: &Epilogue) -> [i8; 2] {
    // Bounded by 256, as `check` has proved.
    [epilogue.lo, epilogue.hi].map(|bound| {
        ((bound + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32 + epilogue.y_zero).clamp(-128, 127) as i8
    })
}

/// Requantization with its constants in registers.
#[derive(Clone, Copy)]
pub struct Requant {
    range: Range,
    lo: float32x4_t,
    hi: float32x4_t,
    lo_code: int8x16_t,
    hi_code: int8x16_t,
    zero: int16x8_t,
    /// What rounds a float: [`MAGIC`], or that and the zero point.
    magic: float32x4_t,
}

impl Requant {
    #[inline(always)]
    pub fn new(epilogue: &Epilogue, range: Range) -> Self {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let zero = epilogue.y_zero;
            let [lo, hi] = bounds(epilogue);
            Self {
                range,
                lo: vdupq_n_f32(epilogue.lo),
                hi: vdupq_n_f32(epilogue.hi),
                lo_code: vdupq_n_s8(lo),
                hi_code: vdupq_n_s8(hi),
                zero: vdupq_n_s16(zero as i16),
                magic: vdupq_n_f32(if range == Range::Whole { MAGIC + zero as f32 } else { MAGIC }),
            }
        }
    }

    /// Four rounded codes, in the low halves of the words; with the zero point if the range is whole.
    #[inline(always)]
    fn round(&self, sum: int32x4_t, factor: float32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let sum = if self.range.is_raised() {
                vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(MAGIC))
            } else {
                vcvtq_f32_s32(sum)
            };
            self.round_value(vmulq_f32(sum, factor))
        }
    }

    #[inline(always)]
    fn round_value(&self, v: float32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let v = if self.range == Range::Any { vminnmq_f32(vmaxnmq_f32(v, self.lo), self.hi) } else { v };
            vreinterpretq_s32_f32(vaddq_f32(v, self.magic))
        }
    }

    /// Eight codes with the zero point, of two vectors of rounded codes.
    #[inline(always)]
    fn narrow(&self, low: int32x4_t, high: int32x4_t) -> int8x8_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let codes = vuzp1q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high));
            vqmovn_s16(if self.range == Range::Whole { codes } else { vqaddq_s16(codes, self.zero) })
        }
    }

    /// Eight codes of eight sums.
    #[inline(always)]
    pub fn codes8(&self, sums: [int32x4_t; 2], factors: [float32x4_t; 2]) -> int8x8_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let codes = self.narrow(self.round(sums[0], factors[0]), self.round(sums[1], factors[1]));
            if matches!(self.range, Range::Any | Range::Whole) {
                return codes;
            }
            vmin_s8(vmax_s8(codes, vget_low_s8(self.lo_code)), vget_low_s8(self.hi_code))
        }
    }

    /// Sixteen codes of sixteen sums.
    #[inline(always)]
    pub fn codes16(&self, sums: [int32x4_t; 4], factors: [float32x4_t; 4]) -> int8x16_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let half = |i: usize| self.narrow(self.round(sums[i], factors[i]), self.round(sums[i + 1], factors[i + 1]));
            let codes = vcombine_s8(half(0), half(2));
            if matches!(self.range, Range::Any | Range::Whole) {
                return codes;
            }
            vminq_s8(vmaxq_s8(codes, self.lo_code), self.hi_code)
        }
    }
}

/// Whether sums are finished in registers: a plain clamp, no residual, every channel of the block.
#[inline(always)]
pub fn is_plain(epilogue: &Epilogue, output: DType, residual: bool) -> bool {
    epilogue.activation == Activation::Clamp as u32 && epilogue.output == output as u32 && !residual
}

/// Finishes what [`is_plain`] refuses, four channels at a time.
pub struct Slow<'a> {
    pub epilogue: &'a Epilogue,
    /// From the first channel; null unless the activation is PRelu.
    pub slopes: *const f32,
    /// Number of channels; `sums` holds as many, rounded up to a multiple of 4.
    pub channels: usize,
}

impl Slow<'_> {
    /// One pixel of an int8 layer, its biases added. `factors`, from the first channel, is unused for an i32 output.
    ///
    /// # Safety
    /// `sums`, `factors` and `slopes` are readable for the channels, rounded up to a multiple of 4; y and, unless null,
    /// residual are valid for the channels.
    pub unsafe fn pixel_i32(&self, sums: *const i32, factors: *const f32, residual: *const u8, y: *mut u8) {
        if self.epilogue.output == DType::I32 as u32 {
            // SAFETY: the output has these channels.
            return unsafe { core::ptr::copy_nonoverlapping(sums.cast::<u8>(), y, self.channels * 4) };
        }
        for channel in (0..self.channels).step_by(4) {
            // SAFETY: by the caller's promise.
            unsafe {
                let v = vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums.add(channel))), vld1q_f32(factors.add(channel)));
                self.four(v, channel, residual, y);
            }
        }
    }

    /// One pixel of a float layer, its biases added.
    ///
    /// # Safety
    /// As [`Slow::pixel_i32`], without factors.
    pub unsafe fn pixel_f32(&self, sums: *const f32, residual: *const u8, y: *mut u8) {
        for channel in (0..self.channels).step_by(4) {
            // SAFETY: by the caller's promise.
            unsafe { self.four(vld1q_f32(sums.add(channel)), channel, residual, y) };
        }
    }

    /// # Safety
    /// As [`Slow::pixel_i32`]; the channel exists.
    #[target_feature(enable = "neon")]
    unsafe fn four(&self, mut v: float32x4_t, channel: usize, residual: *const u8, y: *mut u8) {
        let e = self.epilogue;
        let count = (self.channels - channel).min(4);
        let size = match e.output {
            o if o == DType::I8 as u32 => 1,
            o if o == DType::F16 as u32 => 2,
            _ => 4,
        };
        if !residual.is_null() {
            // SAFETY: the residual has these channels.
            let bytes = unsafe { load_bytes(residual.add(channel * size), count * size) };
            v = vaddq_f32(v, self.residual(bytes, size));
        }
        let slope = if self.slopes.is_null() {
            vdupq_n_f32(0.0)
        } else {
            // SAFETY: readable up to a multiple of 4 channels.
            unsafe { vld1q_f32(self.slopes.add(channel)) }
        };
        let bytes = match size {
            1 => self.codes(v, slope),
            // SAFETY: base architecture.
            2 => vreinterpretq_u8_u16(vcombine_u16(unsafe { narrow(activate(v, slope, e)) }, vdup_n_u16(0))),
            _ => vreinterpretq_u8_f32(activate(v, slope, e)),
        };
        // SAFETY: the output has these channels.
        unsafe { store_bytes(y.add(channel * size), bytes, count * size) };
    }

    fn residual(&self, bytes: uint8x16_t, size: usize) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            match size {
                1 => {
                    let codes = vmovl_s16(vget_low_s16(vmovl_s8(vget_low_s8(vreinterpretq_s8_u8(bytes)))));
                    let codes = vsubq_s32(codes, vdupq_n_s32(self.epilogue.residual_zero));
                    vmulq_f32(vcvtq_f32_s32(codes), vdupq_n_f32(self.epilogue.residual_scale))
                }
                2 => widen(vget_low_u16(vreinterpretq_u16_u8(bytes))),
                _ => vreinterpretq_f32_u8(bytes),
            }
        }
    }

    /// Four i8 codes, in the first bytes.
    fn codes(&self, v: float32x4_t, slope: float32x4_t) -> uint8x16_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let v = if self.epilogue.activation == Activation::PRelu as u32 {
                below_zero(v, vmulq_f32(v, slope))
            } else {
                v
            };
            let requant = Requant::new(self.epilogue, Range::Any);
            let codes = requant.round_value(v);
            vreinterpretq_u8_s8(vcombine_s8(requant.narrow(codes, codes), vdup_n_s8(0)))
        }
    }
}

/// `v < 0 ? other : v`.
#[inline(always)]
fn below_zero(v: float32x4_t, other: float32x4_t) -> float32x4_t {
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe { vbslq_f32(vcltzq_f32(v), other, v) }
}

fn activate(v: float32x4_t, slope: float32x4_t, e: &Epilogue) -> float32x4_t {
    // SAFETY: NEON is part of every 64-bit Arm.
    unsafe {
        match Activation::from_number(e.activation) {
            Some(Activation::LeakyRelu) => below_zero(v, vmulq_f32(v, vdupq_n_f32(e.lo))),
            Some(Activation::PRelu) => below_zero(v, vmulq_f32(v, slope)),
            Some(Activation::HardSwish) => {
                let inner =
                    vminnmq_f32(vmaxnmq_f32(vaddq_f32(v, vdupq_n_f32(3.0)), vdupq_n_f32(0.0)), vdupq_n_f32(6.0));
                vdivq_f32(vmulq_f32(v, inner), vdupq_n_f32(6.0))
            }
            _ => vminnmq_f32(vmaxnmq_f32(v, vdupq_n_f32(e.lo)), vdupq_n_f32(e.hi)),
        }
    }
}
