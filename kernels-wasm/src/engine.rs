//! How products are summed: one [`Engine`] per way, all fed by the same loop nest.
//!
//! In every layout a packed unit has as many bytes a channel as it reads of the input: 4 for one f32 or 4 consecutive
//! int8 positions, 2 for one f16. An engine says what one step does, and where it takes its inputs: [`Direct`] from the picture,
//! [`Staged`] from a copy.
//!
//! ```text
//!         accumulator                    weights            input
//! Float   4 channels                     16 bytes           f32 in 4 lanes
//! Half    4 channels                     8 bytes, widened   f16 in 4 lanes, widened
//! Dot     4 channels                     16 bytes           4 positions in 4 lanes
//! Wide    2 channels, even and odd pair  8 bytes, widened   4 positions twice, widened
//! ```
//!
//! The relaxed dot multiplies signed bytes by 7-bit ones; what it does with an eighth bit is the engine's own business:
//! Arm's SDOT takes it as a sign, AVX-VNNI's VPDPBUSD as 128, PMADDUBSW as 128 with sums that saturate. [`relaxed`] asks
//! once. The first takes activations as they are, the second `x + 128` with 128 times the sum of the weights taken off
//! again, and on the third products of 16-bit numbers (PMADDWD) do as many multiplications an instruction, so they are
//! used there.

use core::arch::wasm32::*;
use sparrow_kernels::Features;

use crate::half;
use crate::simd::{load, multiply_add, store};

/// A way to multiply and add.
pub trait Engine {
    /// Bytes of a unit of input, and of its weights for one channel.
    const UNIT: usize = 4;
    /// int8: the bias is i32 and results are requantized.
    const INTEGER: bool;
    /// One unit of weights of the channels of an accumulator.
    ///
    /// # Safety
    /// `UNIT` bytes for each are readable.
    unsafe fn weights(p: *const u8) -> v128;
    /// `sum + w * x`.
    fn step(sum: v128, w: v128, x: v128) -> v128;
}

/// An engine that takes inputs where they lie.
pub trait Direct: Engine {
    /// One unit of input for every lane.
    ///
    /// # Safety
    /// `UNIT` bytes are readable.
    unsafe fn input(p: *const u8) -> v128;
}

/// An engine of int8 that takes them from a copy.
pub trait Staged: Engine {
    /// Channels of one accumulator.
    const LANES: usize;
    /// Bytes of a copied unit.
    const WORD: usize;
    /// Whether copied inputs are 128 too great, so that 128 times the sum of the weights is taken from every sum.
    const CENTRE: bool;
    /// Copies the unit at `from`.
    ///
    /// # Safety
    /// 4 bytes are readable, `WORD` writable.
    unsafe fn copy4(from: *const u8, to: *mut u8);
    /// Copies 4 units.
    ///
    /// # Safety
    /// 16 bytes are readable, 4 times `WORD` writable.
    unsafe fn copy16(from: *const u8, to: *mut u8);
    /// One copied unit for every lane.
    ///
    /// # Safety
    /// `WORD` bytes are readable.
    unsafe fn word(p: *const u8) -> v128;
    /// Spreads the first value of 4 channels over their `4 / LANES` accumulators.
    fn spread(start: v128, sums: &mut [v128]);
    /// Sums of 4 channels, from their `4 / LANES` accumulators.
    fn gather(sums: &[v128]) -> v128;
}

/// f32.
pub struct Float;

impl Engine for Float {
    const INTEGER: bool = false;
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p) }
    }
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        multiply_add(w, x, sum)
    }
}

impl Direct for Float {
    #[inline(always)]
    unsafe fn input(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load32_splat(p.cast()) }
    }
}

/// f16, computed in f32.
pub struct Half;

impl Engine for Half {
    const UNIT: usize = 2;
    const INTEGER: bool = false;
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { half::load4(p) }
    }
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        multiply_add(w, x, sum)
    }
}

impl Direct for Half {
    #[inline(always)]
    unsafe fn input(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        half::widen(u32x4_extend_low_u16x8(unsafe { v128_load16_splat(p.cast()) }))
    }
}

/// int8 by products of 16-bit numbers: any engine.
pub struct Wide;

impl Engine for Wide {
    const INTEGER: bool = true;
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { i16x8_load_extend_i8x8(p.cast()) }
    }
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        i32x4_add(sum, i32x4_dot_i16x8(w, x))
    }
}

impl Staged for Wide {
    const LANES: usize = 2;
    const WORD: usize = 8;
    const CENTRE: bool = false;
    #[inline(always)]
    unsafe fn copy4(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { v128_store64_lane::<0>(i16x8_extend_low_i8x16(v128_load32_zero(from.cast())), to.cast()) };
    }
    #[inline(always)]
    unsafe fn copy16(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = load(from);
            store(to, i16x8_extend_low_i8x16(x));
            store(to.add(16), i16x8_extend_high_i8x16(x));
        }
    }
    #[inline(always)]
    unsafe fn word(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load64_splat(p.cast()) }
    }
    #[inline(always)]
    fn spread(start: v128, sums: &mut [v128]) {
        let zero = i32x4_splat(0);
        sums[0] = i32x4_shuffle::<0, 4, 1, 4>(start, zero);
        sums[1] = i32x4_shuffle::<2, 4, 3, 4>(start, zero);
    }
    #[inline(always)]
    fn gather(sums: &[v128]) -> v128 {
        i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(sums[0], sums[1]), i32x4_shuffle::<1, 3, 5, 7>(sums[0], sums[1]))
    }
}

/// int8 by the relaxed dot, on an engine whose second operand is fully signed, or (`OFFSET`) unsigned.
#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
pub struct Dot<const OFFSET: bool>;

#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
impl<const OFFSET: bool> Engine for Dot<OFFSET> {
    const INTEGER: bool = true;
    #[inline(always)]
    unsafe fn weights(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { load(p) }
    }
    #[cfg(not(feature = "emulate-dot"))]
    #[inline(always)]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(w, x, sum)
    }
    /// What engines do that are not at hand: the tests of this type's arithmetic.
    #[cfg(feature = "emulate-dot")]
    fn step(sum: v128, w: v128, x: v128) -> v128 {
        let extend = |v, high| match (OFFSET, high) {
            (false, false) => i16x8_extend_low_i8x16(v),
            (false, true) => i16x8_extend_high_i8x16(v),
            (true, false) => u16x8_extend_low_u8x16(v),
            (true, true) => u16x8_extend_high_u8x16(v),
        };
        let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(w), extend(x, false));
        let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(w), extend(x, true));
        i32x4_add(sum, Wide::gather(&[low, high]))
    }
}

#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
impl Direct for Dot<false> {
    #[inline(always)]
    unsafe fn input(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load32_splat(p.cast()) }
    }
}

#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
impl Staged for Dot<true> {
    const LANES: usize = 4;
    const WORD: usize = 4;
    const CENTRE: bool = true;
    #[inline(always)]
    unsafe fn copy4(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<u32>().write_unaligned(from.cast::<u32>().read_unaligned() ^ 0x8080_8080) };
    }
    #[inline(always)]
    unsafe fn copy16(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { store(to, v128_xor(load(from), u8x16_splat(0x80))) };
    }
    #[inline(always)]
    unsafe fn word(p: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load32_splat(p.cast()) }
    }
    #[inline(always)]
    fn spread(start: v128, sums: &mut [v128]) {
        sums[0] = start;
    }
    #[inline(always)]
    fn gather(sums: &[v128]) -> v128 {
        sums[0]
    }
}

/// Whether relaxed operations exist, and how the dot takes full bytes.
#[cfg(all(target_feature = "relaxed-simd", not(feature = "emulate-dot")))]
pub fn relaxed() -> Features {
    // Hidden from the optimizer, which would answer for the engine.
    let probe = |w: i8, x: u8| {
        let (w, x) = core::hint::black_box((i8x16_splat(w), u8x16_splat(x)));
        i32x4_extract_lane::<0>(i32x4_relaxed_dot_i8x16_i7x16_add(w, x, i32x4_splat(0)))
    };
    // 4 * 127 * 255 exceeds what two saturated 16-bit sums hold; -128 and 255 are the other extremes.
    match [probe(127, 255), probe(-128, 255), probe(-128, 128), probe(127, 128)] {
        [-508, 512, 65536, -65024] => Features::RELAXED.union(Features::DOT_SIGNED),
        [129_540, -130_560, -65536, 65024] => Features::RELAXED.union(Features::DOT_UNSIGNED),
        _ => Features::RELAXED,
    }
}

/// Whether relaxed operations exist: not in this module; the emulated dot is of both kinds.
#[cfg(not(all(target_feature = "relaxed-simd", not(feature = "emulate-dot"))))]
pub fn relaxed() -> Features {
    if cfg!(feature = "emulate-dot") {
        Features::RELAXED.union(Features::DOT_SIGNED).union(Features::DOT_UNSIGNED)
    } else {
        Features::NONE
    }
}
