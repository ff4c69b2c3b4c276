//! The kinds of numbers the tile loop multiplies.

use super::joined::{self, Joined};
use super::{Ahead, Feed, SETS, Sums, load, step, turn};
use crate::finish::{Factor, PLAIN, Range, Requant, Slow, is_plain};
use crate::simd::*;
use core::arch::aarch64::*;
use core::mem::MaybeUninit;
use sparrow_kernels::DType;
use sparrow_kernels::conv::{Line, ROOM, Tile};

/// How one kind of number is loaded, multiplied and finished.
///
/// # Safety
/// Every function needs what its pointers' description in [`Tile`] says, and the features of the kernels it serves.
pub trait Number {
    /// A vector of sums.
    type Sum: Copy;
    /// A vector of weights.
    type Weights: Copy;
    /// Inputs of one pixel, one index unit a lane.
    type Input: Copy;
    /// Bytes of an element.
    const SIZE: usize;
    /// Bytes of an index unit.
    const UNIT: usize;
    /// Units of a 16-byte load of inputs.
    const LANES: usize;
    /// Bytes of a vector of weights.
    const VECTOR: usize;
    /// Channels of a vector.
    const CHANNELS: usize;

    /// The hint of a unit whose blocks have `W` vectors.
    unsafe fn prepare<const W: usize>(_tile: &Tile) -> u32 {
        0
    }
    /// Sums of `R` pixels that hold nothing but the bias of the first `W` vectors.
    unsafe fn begin<const R: usize, const W: usize>(tile: &Tile) -> [[Self::Sum; W]; R];
    /// Sums that hold nothing.
    unsafe fn zero() -> Self::Sum;
    /// `a + b`.
    unsafe fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// A vector of weights.
    unsafe fn load_weights(from: *const u8) -> Self::Weights;
    /// `LANES` units.
    unsafe fn load_lanes(from: *const u8) -> Self::Input;
    /// One unit, in lane 0.
    unsafe fn load_unit(from: *const u8) -> Self::Input;
    /// `sum + w * lane L of x`.
    unsafe fn multiply_add<const L: i32>(sum: Self::Sum, w: Self::Weights, x: Self::Input) -> Self::Sum;
    /// [`step`] for each lane.
    unsafe fn steps<const R: usize, const W: usize, const V: usize>(
        sums: &mut Sums<Self, R, W>,
        feed: &mut Feed<Self, R, W>,
        ahead: &Ahead<R>,
    ) where
        Self: Sized;
    /// [`turn`] for each lane.
    unsafe fn turns<const W: usize, const V: usize>(
        sets: &mut [Sums<Self, 1, W>; SETS],
        weights: *const u8,
        panel_stride: usize,
        input: Self::Input,
    ) where
        Self: Sized;
    /// The last step.
    unsafe fn finish<const R: usize, const W: usize>(tile: &Tile, sums: [[Self::Sum; W]; R]);
    /// Whether [`Number::finish_at`] and [`Number::joined`] are there.
    const LINES: bool = false;
    /// The last step of pixels that go to `y`: the tile's, or those of a line, whose last step is a plain one.
    unsafe fn finish_at<const R: usize, const W: usize>(_tile: &Tile, _y: [*mut u8; R], _sums: [[Self::Sum; W]; R]) {
        unreachable!("lines are refused")
    }
    /// The sums of `R` pixels of a line that [`Joined`] takes.
    unsafe fn joined<const R: usize, const W: usize>(
        _tile: &Tile,
        _joined: &Joined,
        _line: &Line,
        _weights: &joined::Weights,
    ) -> [[Self::Sum; W]; R] {
        unreachable!("lines are refused")
    }
}

macro_rules! steps {
    ($last:literal; $($lane:literal)*) => {
        #[inline(always)]
        unsafe fn steps<const R: usize, const W: usize, const V: usize>(sums: &mut Sums<Self, R, W>, feed: &mut Feed<Self, R, W>, ahead: &Ahead<R>) {
            // SAFETY: the caller's promise.
            unsafe {
                $(step::<Self, R, W, V, $lane, { $lane == $last }, false>(sums, feed, ahead);)*
            }
        }
        #[inline(always)]
        unsafe fn turns<const W: usize, const V: usize>(sets: &mut [Sums<Self, 1, W>; SETS], weights: *const u8, panel_stride: usize, input: Self::Input) {
            // SAFETY: the caller's promise. After the last lane its own weights are loaded once more.
            unsafe {
                let mut now = load::<Self, W, V>(weights, panel_stride);
                $(
                    let next = load::<Self, W, V>(weights.add(($lane + 1).min($last) * V * Self::VECTOR), panel_stride);
                    turn::<Self, W, $lane>(&mut sets[$lane % SETS][0], now, input);
                    now = next;
                )*
                let _ = now;
            }
        }
    };
}

/// The addresses of one pixel of a tile: residual (or null) and y.
///
/// # Safety
/// `r` is less than the tile's `ROWS`.
#[inline(always)]
unsafe fn pixel(tile: &Tile, r: usize) -> (*const u8, *mut u8) {
    // SAFETY: `ROWS` entries each.
    unsafe { (if tile.residual.is_null() { tile.residual.cast() } else { *tile.residual.add(r) }, *tile.y.add(r)) }
}

/// The same vectors for `R` pixels. Most are copies and some loads, which take different pipes.
#[inline(always)]
fn some_again<T: Copy, const R: usize, const W: usize>(from: &[T; W]) -> [[T; W]; R] {
    let first = from.each_ref().map(again);
    core::array::from_fn(|r| if r % 4 == 1 { from.each_ref().map(again) } else { first })
}

/// Where pixels `first..first + R` go: read before the first store, which the compiler takes for one to these addresses, so
/// that stores of neighbours become one.
///
/// # Safety
/// The tile has these pixels.
#[inline(always)]
pub unsafe fn outputs<const R: usize>(tile: &Tile, first: usize) -> [*mut u8; R] {
    // SAFETY: `ROWS` entries.
    core::array::from_fn(|r| unsafe { *tile.y.add(first + r) })
}

fn slow(tile: &Tile) -> Slow<'_> {
    Slow { epilogue: &tile.epilogue, slopes: tile.slopes, channels: tile.channels }
}

/// 32-bit floats.
pub struct F32;

impl Number for F32 {
    type Sum = float32x4_t;
    type Weights = float32x4_t;
    type Input = float32x4_t;
    const SIZE: usize = 4;
    const UNIT: usize = 4;
    const LANES: usize = 4;
    const VECTOR: usize = 16;
    const CHANNELS: usize = 4;

    #[inline(always)]
    unsafe fn begin<const R: usize, const W: usize>(tile: &Tile) -> [[float32x4_t; W]; R] {
        // SAFETY: readable up to a multiple of 16 channels.
        let bias: &[float32x4_t; W] = unsafe { &*tile.bias.cast() };
        some_again(bias)
    }
    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the kernel's features are there.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(from: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_unit(from: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vsetq_lane_f32::<0>(from.cast::<f32>().read_unaligned(), vdupq_n_f32(0.0)) }
    }
    #[inline(always)]
    unsafe fn multiply_add<const L: i32>(sum: float32x4_t, w: float32x4_t, x: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { fmla_lane_s4::<L>(sum, w, x) }
    }
    steps!(3; 0 1 2 3);

    #[inline(always)]
    unsafe fn finish<const R: usize, const W: usize>(tile: &Tile, sums: [[float32x4_t; W]; R]) {
        if is_plain(&tile.epilogue, DType::F32, !tile.residual.is_null()) && tile.channels >= 4 * W {
            // SAFETY: NEON is part of every 64-bit Arm.
            let (lo, hi) = unsafe { (vdupq_n_f32(tile.epilogue.lo), vdupq_n_f32(tile.epilogue.hi)) };
            // SAFETY: as this function's.
            for (y, sums) in unsafe { outputs::<R>(tile, 0) }.into_iter().zip(sums) {
                for (v, sum) in sums.into_iter().enumerate() {
                    // SAFETY: the pixel is the tile's, and the channels exist.
                    unsafe { vst1q_f32(y.cast::<f32>().add(4 * v), vminnmq_f32(vmaxnmq_f32(sum, lo), hi)) };
                }
            }
        } else {
            let spilled = sums;
            for (r, sums) in spilled.iter().enumerate().take(tile.rows) {
                // SAFETY: the pixel exists; its sums cover the channels.
                unsafe {
                    let (residual, y) = pixel(tile, r);
                    slow(tile).pixel_f32(sums.as_ptr().cast(), residual, y);
                }
            }
        }
    }
}

/// 16-bit floats, eight to a vector.
pub struct F16;
/// 16-bit floats, four to a vector.
pub struct F16x4;

/// A half in lane 0.
///
/// # Safety
/// Two bytes are readable.
#[inline(always)]
unsafe fn load_half(from: *const u8) -> H8 {
    // SAFETY: the caller's promise.
    unsafe { vsetq_lane_u16::<0>(from.cast::<u16>().read_unaligned(), vdupq_n_u16(0)) }
}

impl F16 {
    /// Spilled sums of the slow path: `n` of them, widened, one pixel after another.
    ///
    /// # Safety
    /// As [`Number::finish`]; `sums` holds `per_pixel` halves a pixel, a multiple of 4.
    #[inline(never)]
    unsafe fn finish_slow(tile: &Tile, sums: *const u16, per_pixel: usize) {
        let mut wide = [0f32; 32];
        for r in 0..tile.rows {
            // SAFETY: the pixel exists; its sums cover the channels; a tile has at most 32 of them.
            unsafe {
                for channel in (0..per_pixel).step_by(4) {
                    vst1q_f32(wide.as_mut_ptr().add(channel), widen(vld1_u16(sums.add(r * per_pixel + channel))));
                }
                let (residual, y) = pixel(tile, r);
                slow(tile).pixel_f32(wide.as_ptr(), residual, y);
            }
        }
    }
}

impl Number for F16 {
    type Sum = H8;
    type Weights = H8;
    type Input = H8;
    const SIZE: usize = 2;
    const UNIT: usize = 2;
    const LANES: usize = 8;
    const VECTOR: usize = 16;
    const CHANNELS: usize = 8;

    #[inline(always)]
    unsafe fn begin<const R: usize, const W: usize>(tile: &Tile) -> [[H8; W]; R] {
        let bias = tile.bias.cast::<f32>();
        // SAFETY: readable up to a multiple of 16 channels.
        [core::array::from_fn(|v| unsafe { narrow_pair(vld1q_f32(bias.add(8 * v)), vld1q_f32(bias.add(8 * v + 4))) });
            R]
    }
    #[inline(always)]
    unsafe fn zero() -> H8 {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_u16(0) }
    }
    #[inline(always)]
    unsafe fn add(a: H8, b: H8) -> H8 {
        // SAFETY: the kernel's features are there.
        unsafe { fadd_h8(a, b) }
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_unit(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { load_half(from) }
    }
    #[inline(always)]
    unsafe fn multiply_add<const L: i32>(sum: H8, w: H8, x: H8) -> H8 {
        // SAFETY: the kernel requires fp16.
        unsafe { fmla_lane_h8::<L>(sum, w, x) }
    }
    steps!(7; 0 1 2 3 4 5 6 7);

    #[inline(always)]
    unsafe fn finish<const R: usize, const W: usize>(tile: &Tile, sums: [[H8; W]; R]) {
        if is_plain(&tile.epilogue, DType::F16, !tile.residual.is_null()) && tile.channels >= 8 * W {
            // SAFETY: base architecture.
            let [lo, hi] = [tile.epilogue.lo, tile.epilogue.hi]
                .map(|bound| unsafe { narrow_pair(vdupq_n_f32(bound), vdupq_n_f32(bound)) });
            // SAFETY: as this function's.
            for (y, sums) in unsafe { outputs::<R>(tile, 0) }.into_iter().zip(sums) {
                for (v, sum) in sums.into_iter().enumerate() {
                    // SAFETY: the pixel is the tile's, and the channels exist.
                    unsafe { vst1q_u16(y.cast::<u16>().add(8 * v), fminnm_h8(fmaxnm_h8(sum, lo), hi)) };
                }
            }
        } else {
            let spilled = sums;
            // SAFETY: `8 * W` halves a pixel.
            unsafe { F16::finish_slow(tile, spilled.as_ptr().cast(), 8 * W) }
        }
    }
}

impl Number for F16x4 {
    type Sum = H4;
    type Weights = H4;
    type Input = H8;
    const SIZE: usize = 2;
    const UNIT: usize = 2;
    const LANES: usize = 8;
    const VECTOR: usize = 8;
    const CHANNELS: usize = 4;

    #[inline(always)]
    unsafe fn begin<const R: usize, const W: usize>(tile: &Tile) -> [[H4; W]; R] {
        // SAFETY: readable up to a multiple of 16 channels.
        [core::array::from_fn(|v| unsafe { narrow(vld1q_f32(tile.bias.cast::<f32>().add(4 * v))) }); R]
    }
    #[inline(always)]
    unsafe fn zero() -> H4 {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdup_n_u16(0) }
    }
    #[inline(always)]
    unsafe fn add(a: H4, b: H4) -> H4 {
        // SAFETY: the kernel's features are there.
        unsafe { vget_low_u16(fadd_h8(vcombine_u16(a, a), vcombine_u16(b, b))) }
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const u8) -> H4 {
        // SAFETY: the caller's promise.
        unsafe { vld1_u16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_unit(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { load_half(from) }
    }
    #[inline(always)]
    unsafe fn multiply_add<const L: i32>(sum: H4, w: H4, x: H8) -> H4 {
        // SAFETY: the kernel requires fp16.
        unsafe { fmla_lane_h4::<L>(sum, w, x) }
    }
    steps!(7; 0 1 2 3 4 5 6 7);

    #[inline(always)]
    unsafe fn finish<const R: usize, const W: usize>(tile: &Tile, sums: [[H4; W]; R]) {
        let spilled = sums;
        // SAFETY: `4 * W` halves a pixel.
        unsafe { F16::finish_slow(tile, spilled.as_ptr().cast(), 4 * W) }
    }
}

/// int8 with the dot product of four.
pub struct I8Dot;

impl Number for I8Dot {
    type Sum = int32x4_t;
    type Weights = int8x16_t;
    type Input = int8x16_t;
    const SIZE: usize = 1;
    const UNIT: usize = 4;
    const LANES: usize = 4;
    const VECTOR: usize = 16;
    const CHANNELS: usize = 4;

    unsafe fn prepare<const W: usize>(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { prepare_i8(tile, W) }
    }
    #[inline(always)]
    unsafe fn begin<const R: usize, const W: usize>(tile: &Tile) -> [[int32x4_t; W]; R] {
        // SAFETY: the unit is prepared.
        let begin: &[int32x4_t; W] = unsafe { &*shared_i8(tile).begin.as_ptr().cast() };
        some_again(begin)
    }
    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: the kernel's features are there.
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn load_weights(from: *const u8) -> int8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_s8(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(from: *const u8) -> int8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_s8(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_unit(from: *const u8) -> int8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_s8_s32(vsetq_lane_s32::<0>(from.cast::<i32>().read_unaligned(), vdupq_n_s32(0))) }
    }
    #[inline(always)]
    unsafe fn multiply_add<const L: i32>(sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the kernel requires dotprod.
        unsafe { sdot_lane::<L>(sum, w, x) }
    }
    steps!(3; 0 1 2 3);

    #[inline(always)]
    unsafe fn finish<const R: usize, const W: usize>(tile: &Tile, sums: [[int32x4_t; W]; R]) {
        // SAFETY: the caller's promise.
        unsafe { finish_i8(tile, 0, outputs(tile, 0), sums) }
    }

    const LINES: bool = true;
    #[inline(always)]
    unsafe fn finish_at<const R: usize, const W: usize>(tile: &Tile, y: [*mut u8; R], sums: [[int32x4_t; W]; R]) {
        // SAFETY: the caller's promise.
        unsafe { finish_i8(tile, 0, y, sums) }
    }
    #[inline(always)]
    unsafe fn joined<const R: usize, const W: usize>(
        tile: &Tile,
        joined: &Joined,
        line: &Line,
        weights: &joined::Weights,
    ) -> [[int32x4_t; W]; R] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums: [[int32x4_t; W]; R] = Self::begin(tile);
            macro_rules! units {
                ($last:literal: $($unit:literal)*) => {
                    let x = joined.inputs::<R, $last>(line);
                    $(
                        for v in 0..W {
                            let w = vreinterpretq_s8_s32(weights[$unit][v]);
                            for r in 0..R {
                                sums[r][v] = sdot_lane::<{ $unit % 4 }>(sums[r][v], w, x[r]);
                            }
                        }
                    )*
                };
            }
            units!(false: 0 1 2 3);
            units!(true: 4 5 6);
            sums
        }
    }
}

/// What the tiles of an int8 unit share, of up to sixteen channels.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shared {
    /// What sums begin with.
    pub begin: [int32x4_t; 4],
    /// The factors.
    pub by: [float32x4_t; 4],
    /// [`Factor::less`] of them.
    pub less: [float32x4_t; 4],
}
const _: () = assert!(size_of::<Shared>() <= ROOM);

/// Writes down what the tiles of an int8 unit share, and returns their hint. Blocks have `width` vectors.
///
/// # Safety
/// As [`sparrow_kernels::conv::Micro::prepare`]; there are at most sixteen channels.
#[inline(never)]
pub unsafe fn prepare_i8(tile: &Tile, width: usize) -> u32 {
    // SAFETY: the caller's promise. Vectors are readable up to a multiple of 4 channels, the scale for an i8 output.
    unsafe {
        let products = tile.taps * tile.kc;
        let range = Range::new(tile.bias.cast(), tile.scale, tile.channels, products, &tile.epilogue);
        let mut shared = Shared { begin: [vdupq_n_s32(0); 4], by: [vdupq_n_f32(0.0); 4], less: [vdupq_n_f32(0.0); 4] };
        for v in 0..tile.channels.div_ceil(4) {
            shared.begin[v] = range.begin(vld1q_s32(tile.bias.cast::<i32>().add(4 * v)));
            if tile.epilogue.output == DType::I8 as u32 {
                shared.by[v] = vld1q_f32(tile.scale.add(4 * v));
                shared.less[v] = Factor::less(shared.by[v]);
            }
        }
        tile.room.cast::<Shared>().write(shared);
        let plain = is_plain(&tile.epilogue, DType::I8, false) && tile.channels >= 4 * width;
        range as u32 + if plain { PLAIN } else { 0 }
    }
}

/// What [`prepare_i8`] wrote.
///
/// # Safety
/// It was called for the tile's unit.
#[inline(always)]
pub unsafe fn shared_i8(tile: &Tile) -> &Shared {
    // SAFETY: the caller's promise.
    unsafe { &*tile.room.cast() }
}

/// Finishes pixels `first..first + R` of an int8 tile, which go to `y`.
///
/// # Safety
/// As [`Number::finish`].
#[inline(always)]
pub unsafe fn finish_i8<const R: usize, const W: usize>(
    tile: &Tile,
    first: usize,
    y: [*mut u8; R],
    sums: [[int32x4_t; W]; R],
) {
    let range = Range::from_hint(tile.hint);
    if is_quick(tile) {
        // SAFETY: the caller's promise.
        unsafe { store_ranges(tile, y, sums) }
    } else {
        let mut spilled = [const { [const { MaybeUninit::<int32x4_t>::uninit() }; W] }; R];
        for (to, sums) in spilled.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            // SAFETY: a place of the array. Plain stores would be made ahead of the branch, for every tile.
            unsafe { to.as_mut_ptr().write_volatile(range.plain(*sums)) };
        }
        // SAFETY: `4 * W` sums a pixel.
        unsafe { slow_i8(tile, first..first + R, spilled.as_ptr().cast(), 4 * W) }
    }
}

/// Whether the sums of a tile are finished in registers: its last step is a plain one, and of no rare range.
#[inline(always)]
pub fn is_quick(tile: &Tile) -> bool {
    tile.hint & PLAIN != 0 && tile.residual.is_null() && Range::from_hint(tile.hint) != Range::Any
}

/// Finishes pixels of an int8 tile that is no plain one, those past the tile's last left out. `sums` holds `per_pixel` of
/// each, the biases added.
///
/// # Safety
/// As [`Number::finish`]; the pixels' sums are readable and cover the channels.
#[inline(never)]
pub unsafe fn slow_i8(tile: &Tile, pixels: core::ops::Range<usize>, sums: *const i32, per_pixel: usize) {
    // A rare range of sixteen channels, which needs not be slow.
    let plain = tile.hint & PLAIN != 0 && tile.residual.is_null() && per_pixel == 16;
    let requant = Requant::new(&tile.epilogue, Range::Any);
    for (i, r) in pixels.enumerate().filter(|&(_, r)| r < tile.rows) {
        // SAFETY: the pixel exists; its sums cover the channels.
        unsafe {
            let (residual, y) = pixel(tile, r);
            if plain {
                let Shared { by, less, .. } = shared_i8(tile);
                let sums = &*sums.add(i * per_pixel).cast::<[int32x4_t; 4]>();
                vst1q_s8(y.cast(), requant.narrow16(requant.round16(*sums, by, less)));
                continue;
            }
            slow(tile).pixel_i32(sums.add(i * per_pixel), tile.scale, residual, y);
        }
    }
}

/// Stores pixels whose last step is a plain one.
///
/// # Safety
/// As [`finish_i8`]; every channel of the `W` vectors exists.
#[inline(always)]
unsafe fn store_ranges<const R: usize, const W: usize>(tile: &Tile, y: [*mut u8; R], sums: [[int32x4_t; W]; R]) {
    // SAFETY: the caller's promise. Each range is a copy of the code with its choices made.
    unsafe {
        match Range::from_hint(tile.hint) {
            Range::Whole => store_i8(tile, y, sums, Range::Whole),
            Range::Tiny => store_i8(tile, y, sums, Range::Tiny),
            // Not quick, so never here.
            Range::Relu | Range::Any => store_i8(tile, y, sums, Range::Relu),
        }
    }
}

/// # Safety
/// As [`store_ranges`].
#[inline(always)]
unsafe fn store_i8<const R: usize, const W: usize>(
    tile: &Tile,
    y: [*mut u8; R],
    sums: [[int32x4_t; W]; R],
    range: Range,
) {
    let requant = Requant::new(&tile.epilogue, range);
    // SAFETY: the unit is prepared; y has `ROWS` pixels, of `4 * W` channels.
    unsafe {
        let Shared { by, less, .. } = shared_i8(tile);
        let by = *by;
        // All of them before the first is stored: an in-order core has something to do while each waits.
        let mut codes = sums;
        for codes in &mut codes {
            if W == 4 {
                let four = requant.round16([codes[0], codes[1 % W], codes[2 % W], codes[3 % W]], &by, less);
                codes.copy_from_slice(&four[..W]);
            } else {
                for (v, code) in codes.iter_mut().enumerate() {
                    *code = requant.round(*code, Factor { by: by[v], less: again(&less[v]) });
                }
            }
        }
        for (y, codes) in y.into_iter().zip(codes) {
            match W {
                4 => vst1q_s8(y.cast(), requant.narrow16([codes[0], codes[1 % W], codes[2 % W], codes[3 % W]])),
                2 => vst1_s8(y.cast(), requant.narrow8([codes[0], codes[1 % W]])),
                _ => {
                    let codes = requant.narrow8([codes[0]; 2]);
                    y.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(codes)));
                }
            }
        }
    }
}
