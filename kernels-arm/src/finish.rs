//! The last step of a convolution: activation or requantization, and the store.
//!
//! A tile whose channels all exist, with no residual and a clamp for activation, is finished in registers. Everything
//! else (a tail of channels, a residual, another activation, int8 layers that write f32 or i32) spills its sums and goes
//! through [`Slow`], four channels at a time.
//!
//! Requantization is `round(clamp(f32(sum) * factor)) + zero`, but conversions between integers and floats cost four
//! times an addition on the cores we care for.
//!
//! - Adding 1.5 * 2^23 to a float of less than 2^22 leaves its rounding (ties to even) in the low bits: no conversion back.
//! - A sum begun at that number's bits is, read as a float, that number and the sum: no conversion before. Beyond 2^22 it is
//!   some other float, but bits of floats are in the order of the floats, so it still lies beyond 2^22; if the factor takes
//!   that beyond the bounds of the output, the clamp makes the same of both.
//! - If products with the factor surely fit 16 bits, the clamp is done on bytes instead of floats: rounding is monotone, so
//!   clamping before or after it is the same. If moreover the bounds are those of a byte, narrowing with saturation is the
//!   clamp; and if the zero point is even, it is added with the 1.5 * 2^23, for ties still go to even then.
//! - With the zero point -128, which a ReLU leads to, whatever is negative ends as -128. Then sums begin at the bits of 2^23:
//!   negative ones are wrong floats, but negative. `(2^23 + sum) * factor - 2^23 * factor` is one multiply-add, rounded once,
//!   for `2^23 * factor` is no rounding: bit for bit `sum * factor`.
//!
//! [`Range`] says which holds.

use crate::simd::*;
use core::arch::aarch64::*;
use sparrow_kernels::conv::Epilogue;
use sparrow_kernels::{Activation, DType};

/// 1.5 * 2^23: its unit in the last place is 1.
const MAGIC: f32 = 12_582_912.0;
/// 2^23: above it, its unit in the last place is 1.
const RELU: f32 = 8_388_608.0;

/// In a hint: every channel of the block exists, and the last step is a plain one where there is no residual.
pub const PLAIN: u32 = 4;

/// What is known of the size of a layer's int8 sums.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Range {
    /// Nothing.
    Any = 0,
    /// The products with the factor fit 16 bits, the zero point added; the sums begin at the bits of [`MAGIC`].
    Tiny = 1,
    /// As [`Range::Tiny`], the bounds are -128 and 127, and the zero point is even.
    Whole = 2,
    /// As [`Range::Whole`], the zero point is -128, and the factors are not negative: the sums begin at the bits of 2^23.
    Relu = 3,
}

impl Range {
    /// From a tile's or row's hint, [`PLAIN`] or not.
    #[inline(always)]
    pub fn from_hint(hint: u32) -> Self {
        match hint & 3 {
            3 => Self::Relu,
            2 => Self::Whole,
            1 => Self::Tiny,
            _ => Self::Any,
        }
    }

    /// The range for channels with these biases and factors and `products` products a sum.
    ///
    /// # Safety
    /// `bias` and, for an i8 output, `scale` are readable for `channels`, rounded up to a multiple of 16.
    #[target_feature(enable = "neon")]
    pub unsafe fn new(
        bias: *const i32,
        scale: *const f32,
        channels: usize,
        products: usize,
        epilogue: &Epilogue,
    ) -> Self {
        if epilogue.output != DType::I8 as u32 {
            return Self::Any;
        }
        let bytes = bounds(epilogue) == [-128, 127];
        let candidates = [
            (Self::Relu, bytes && epilogue.y_zero == -128),
            (Self::Whole, bytes && epilogue.y_zero % 2 == 0),
            (Self::Tiny, true),
        ];
        // With room for the bound's own rounding.
        let most = vdupq_n_f32(products as f32 * 16384.0 + 64.0);
        let holds = |range: Self| {
            (0..channels).step_by(4).all(|channel| {
                // SAFETY: readable by the caller's promise.
                let (bias, factor) = unsafe { (vld1q_s32(bias.add(channel)), vld1q_f32(scale.add(channel))) };
                range.holds(vaddq_f32(vabsq_f32(vcvtq_f32_s32(bias)), most), factor)
            })
        };
        candidates.into_iter().find(|&(range, may)| may && holds(range)).map_or(Self::Any, |(range, _)| range)
    }

    /// Whether it is right for sums of at most so much. NaN is below nothing.
    #[inline(always)]
    fn holds(self, sum: float32x4_t, factor: float32x4_t) -> bool {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let linear = vdupq_n_f32(if self == Self::Relu { 8_388_608.0 } else { 4_194_304.0 });
            let size = vabsq_f32(factor);
            let code = vmulq_f32(self.value(self.begin(vcvtq_s32_f32(sum))), size);
            // Bounds are within 256, as `check` has proved.
            let right = vorrq_u32(vcltq_f32(sum, linear), vcgeq_f32(vmulq_f32(size, linear), vdupq_n_f32(512.0)));
            let signs = self != Self::Relu || vminvq_f32(factor) >= 0.0;
            signs && vmaxvq_f32(sum) < 134_217_728.0 && vmaxvq_f32(code) < 32_000.0 && vminvq_u32(right) != 0
        }
    }

    /// What sums begin with beside the bias.
    #[inline(always)]
    fn offset(self) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_s32(self.start().to_bits() as i32) }
    }

    /// The float at whose bits sums begin.
    #[inline(always)]
    fn start(self) -> f32 {
        match self {
            Self::Any => 0.0,
            Self::Tiny | Self::Whole => MAGIC,
            Self::Relu => RELU,
        }
    }

    /// The sum, if it lies in the range, as a float.
    #[inline(always)]
    fn value(self, sum: int32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            match self {
                Self::Any => vcvtq_f32_s32(sum),
                _ => vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(self.start())),
            }
        }
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

/// The factors of four channels.
#[derive(Clone, Copy)]
pub struct Factor {
    pub by: float32x4_t,
    /// [`Factor::less`] of them, which [`Range::Relu`] needs.
    pub less: float32x4_t,
}

impl Factor {
    /// What is added to the product of a sum of [`Range::Relu`] with the factor.
    #[inline(always)]
    pub fn less(by: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vmulq_f32(by, vdupq_n_f32(-RELU)) }
    }
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
                magic: vdupq_n_f32(match range {
                    Range::Any | Range::Tiny => MAGIC,
                    Range::Whole => MAGIC + zero as f32,
                    Range::Relu => MAGIC - 128.0,
                }),
            }
        }
    }

    /// Whether narrowing is the clamp, and the zero point is added by rounding.
    #[inline(always)]
    fn is_byte(&self) -> bool {
        matches!(self.range, Range::Whole | Range::Relu)
    }

    /// Four rounded codes, in the low halves of the words; with the zero point if the range is whole.
    #[inline(always)]
    pub fn round(&self, sum: int32x4_t, factor: Factor) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            self.round_value(match self.range {
                Range::Relu => vfmaq_f32(factor.less, vreinterpretq_f32_s32(sum), factor.by),
                range => vmulq_f32(range.value(sum), factor.by),
            })
        }
    }

    /// [`Requant::round`] of sixteen sums, `less` being [`Factor::less`] of `by`.
    #[inline(always)]
    pub fn round16(&self, sums: [int32x4_t; 4], by: &[float32x4_t; 4], less: &[float32x4_t; 4]) -> [int32x4_t; 4] {
        if self.range != Range::Relu {
            return core::array::from_fn(|v| self.round(sums[v], Factor { by: by[v], less: less[v] }));
        }
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { fmla_from(less, sums.map(|sum| vreinterpretq_f32_s32(sum)), by).map(|v| self.round_value(v)) }
    }

    #[inline(always)]
    fn round_value(&self, v: float32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let v = if self.range == Range::Any { vminnmq_f32(vmaxnmq_f32(v, self.lo), self.hi) } else { v };
            vreinterpretq_s32_f32(vaddq_f32(v, self.magic))
        }
    }

    /// Eight codes with the zero point, not clamped, of eight sums, `less` being [`Factor::less`] of `by`. For sums that fill
    /// the registers: those of [`Range::Relu`] leave them in the order of the calls.
    #[inline(always)]
    pub fn eight(&self, sums: [int32x4_t; 2], by: [float32x4_t; 2], less: &[float32x4_t; 2]) -> int8x8_t {
        if self.range != Range::Relu {
            return self.narrow(core::array::from_fn(|v| self.round(sums[v], Factor { by: by[v], less: less[v] })));
        }
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vqmovn_s16(fmla_halves(less, sums.map(|sum| vreinterpretq_f32_s32(sum)), by, self.magic)) }
    }

    /// Eight codes with the zero point, of rounded ones.
    #[inline(always)]
    fn narrow(&self, [low, high]: [int32x4_t; 2]) -> int8x8_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let codes = vuzp1q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high));
            vqmovn_s16(if self.is_byte() { codes } else { vqaddq_s16(codes, self.zero) })
        }
    }

    /// Eight codes, clamped, of rounded ones.
    #[inline(always)]
    pub fn narrow8(&self, codes: [int32x4_t; 2]) -> int8x8_t {
        let codes = self.narrow(codes);
        if self.range == Range::Any || self.is_byte() {
            return codes;
        }
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vmin_s8(vmax_s8(codes, vget_low_s8(self.lo_code)), vget_low_s8(self.hi_code)) }
    }

    /// Sixteen codes, clamped, of rounded ones.
    #[inline(always)]
    pub fn narrow16(&self, [a, b, c, d]: [int32x4_t; 4]) -> int8x16_t {
        self.clamp16(self.narrow([a, b]), self.narrow([c, d]))
    }

    /// Sixteen codes with the zero point, clamped.
    #[inline(always)]
    pub fn clamp16(&self, low: int8x8_t, high: int8x8_t) -> int8x16_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe {
            let codes = vcombine_s8(low, high);
            if self.range == Range::Any || self.is_byte() {
                return codes;
            }
            vminq_s8(vmaxq_s8(codes, self.lo_code), self.hi_code)
        }
    }

    /// Eight codes of eight sums.
    #[inline(always)]
    pub fn codes8(&self, [a, b]: [int32x4_t; 2], [fa, fb]: [Factor; 2]) -> int8x8_t {
        self.narrow8([self.round(a, fa), self.round(b, fb)])
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
            vreinterpretq_u8_s8(vcombine_s8(requant.narrow([codes, codes]), vdup_n_s8(0)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn epilogue(lo: f32, hi: f32, y_zero: i32) -> Epilogue {
        Epilogue {
            activation: Activation::Clamp as u32,
            output: DType::I8 as u32,
            lo,
            hi,
            y_zero,
            residual_zero: 0,
            residual_scale: 0.0,
        }
    }

    /// As the scalar kernel has it.
    fn scalar(sum: i32, factor: f32, e: &Epilogue) -> i8 {
        let code = (sum as f32 * factor).clamp(e.lo, e.hi).round_ties_even() as i32 + e.y_zero;
        code.clamp(-128, 127) as i8
    }

    /// Sums that are exact, that a float rounds, beyond what a range has exact, and at its borders.
    fn sums(most: i32) -> impl Iterator<Item = i32> {
        let near = [0, 1 << 22, 1 << 23, most].into_iter().flat_map(|at| (-12..12).map(move |i| at + i));
        let spread = (0..250).map(move |i| ((i * 7919) as f32 / 1_979_750.0 * most as f32) as i32);
        near.chain(spread).flat_map(|sum| [sum, -sum]).filter(move |sum| sum.abs() <= most)
    }

    #[test]
    fn ranges_agree_with_scalar() {
        let mut found = [0; 4];
        let bounds = [(0.0, 255.0, -128), (-128.0, 127.0, 0), (-130.0, 125.0, 2), (0.0, 201.5, -128), (-20.0, 90.0, 7)];
        for (lo, hi, zero) in bounds {
            let e = epilogue(lo, hi, zero);
            for products in [9, 64, 255, 512, 1024, 1280, 4608] {
                for factor in [1e-5f32, 6.2e-5, 1.3e-4, 4.2e-4, 0.001_234_567, 0.0078125, 0.033, 0.3, -0.001] {
                    let (bias, scale) = ([0; 16], [factor; 16]);
                    // SAFETY: sixteen of both.
                    let range = unsafe { Range::new(bias.as_ptr(), scale.as_ptr(), 16, products, &e) };
                    found[range as usize] += 1;
                    let requant = Requant::new(&e, range);
                    for sum in sums(products as i32 * 16384) {
                        // SAFETY: NEON is part of every 64-bit Arm.
                        unsafe {
                            let begun = [vaddq_s32(range.begin(vdupq_n_s32(0)), vdupq_n_s32(sum)); 4];
                            let by = [vdupq_n_f32(factor); 4];
                            let less = by.map(Factor::less);
                            let eight = requant.codes8([begun[0]; 2], [Factor { by: by[0], less: less[0] }; 2]);
                            let codes = [
                                vget_lane_s8::<5>(eight),
                                vgetq_lane_s8::<9>(requant.narrow16(requant.round16(begun, &by, &less))),
                            ];
                            let context = (range as u32, sum, factor, zero, products);
                            assert_eq!(codes, [scalar(sum, factor, &e); 2], "{context:?}");
                            assert_eq!(vgetq_lane_s32::<2>(range.plain(begun[2])), sum);
                        }
                    }
                }
            }
        }
        assert!(found.iter().all(|&count| count > 5), "{found:?}");
    }
}
