//! Depthwise convolution of floats.
//!
//! Inside the picture a run of four outputs is made at once for one vector of channels. The 3x3 and 5x5 kernels walk
//! their rows: one row of weights in registers, each input column loaded once and used by every output that covers it
//! (18 loads for the 36 multiply-adds of four 3x3 outputs). Other kernels, and kernels with dropped taps, walk a list of
//! taps: each tap's weights are loaded once for the four outputs. Pixels whose window leaves the picture find each tap's
//! address, pad or picture, and go one at a time.

use crate::finish::{Slow, is_plain};
use crate::simd::*;
use core::arch::aarch64::*;
use core::marker::PhantomData;
use sparrow_kernels::DType;
use sparrow_kernels::conv::MAX_TAPS;
use sparrow_kernels::depthwise::{Row, RowMicro};

/// Outputs made at once.
const OUTS: usize = 4;

/// A float of a vector register.
///
/// # Safety
/// Every function needs its pointers valid for `LANES` elements (`load_part`, `store_part`: `n`), and the features of
/// the kernels it serves.
pub trait Lanes {
    /// A vector.
    type Vector: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// The type of one.
    const TYPE: DType;

    unsafe fn load(from: *const u8) -> Self::Vector;
    unsafe fn load_part(from: *const u8, n: usize) -> Self::Vector;
    unsafe fn store(to: *mut u8, v: Self::Vector);
    /// Of f32.
    unsafe fn load_bias(from: *const f32) -> Self::Vector;
    /// As f32.
    unsafe fn store_wide(to: *mut f32, v: Self::Vector);
    unsafe fn splat(value: f32) -> Self::Vector;
    /// `sum + a * b`.
    unsafe fn multiply_add(sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn clamp(v: Self::Vector, lo: Self::Vector, hi: Self::Vector) -> Self::Vector;
}

/// 32-bit floats.
pub struct F32;
/// 16-bit floats.
pub struct F16;

impl Lanes for F32 {
    type Vector = float32x4_t;
    const LANES: usize = 4;
    const TYPE: DType = DType::F32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from.cast()) }
    }
    unsafe fn load_part(from: *const u8, n: usize) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_f32_u8(load_bytes(from, 4 * n)) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: float32x4_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_bias(from: *const f32) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from) }
    }
    unsafe fn store_wide(to: *mut f32, v: float32x4_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn multiply_add(sum: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vfmaq_f32(sum, a, b) }
    }
    #[inline(always)]
    unsafe fn clamp(v: float32x4_t, lo: float32x4_t, hi: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of every 64-bit Arm.
        unsafe { vminnmq_f32(vmaxnmq_f32(v, lo), hi) }
    }
}

impl Lanes for F16 {
    type Vector = H8;
    const LANES: usize = 8;
    const TYPE: DType = DType::F16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u16(from.cast()) }
    }
    unsafe fn load_part(from: *const u8, n: usize) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_u16_u8(load_bytes(from, 2 * n)) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: H8) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u16(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_bias(from: *const f32) -> H8 {
        // SAFETY: the caller's promise.
        unsafe { narrow_pair(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    unsafe fn store_wide(to: *mut f32, v: H8) {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_f32(to, widen(vget_low_u16(v)));
            vst1q_f32(to.add(4), widen(vget_high_u16(v)));
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> H8 {
        // SAFETY: base architecture.
        unsafe { narrow_pair(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn multiply_add(sum: H8, a: H8, b: H8) -> H8 {
        // SAFETY: the kernel requires fp16.
        unsafe { fmla_h8(sum, a, b) }
    }
    #[inline(always)]
    unsafe fn clamp(v: H8, lo: H8, hi: H8) -> H8 {
        // SAFETY: the kernel requires fp16.
        unsafe { fminnm_h8(fmaxnm_h8(v, lo), hi) }
    }
}

/// A row with the constants of its last step.
struct Line<'a, N: Lanes> {
    row: &'a Row,
    lo: N::Vector,
    hi: N::Vector,
    /// Whether outputs are stored as they are clamped.
    plain: bool,
}

/// One vector of channels of a row and its taps.
struct Column<'a, N: Lanes> {
    line: &'a Line<'a, N>,
    /// First channel.
    channel: usize,
    /// Channels, at most `LANES`.
    count: usize,
    /// Weights of this vector, first tap; `16 * size` bytes from a tap to the next.
    weights: *const u8,
    bias: N::Vector,
}

impl<'a, N: Lanes> Column<'a, N> {
    /// # Safety
    /// The channel exists and these are its weights.
    #[inline(always)]
    unsafe fn new(line: &'a Line<'a, N>, channel: usize, weights: *const u8) -> Self {
        let row = line.row;
        // SAFETY: the bias is padded to 16 channels.
        let bias = unsafe { N::load_bias(row.bias.cast::<f32>().add(channel)) };
        Self { line, channel, count: (row.channels - channel).min(N::LANES), weights, bias }
    }

    const SIZE: usize = N::TYPE.size();
    /// Bytes of a tap's weights.
    const TAP: usize = 16 * Self::SIZE;

    /// # Safety
    /// `n` is below the number of taps this column has weights for.
    #[inline(always)]
    unsafe fn weight(&self, n: usize) -> N::Vector {
        // SAFETY: weights are padded to 16 channels.
        unsafe { N::load(self.weights.add(n * Self::TAP)) }
    }

    /// Stores output pixels `ox..ox + OUTS`.
    ///
    /// # Safety
    /// The pixels exist.
    #[inline(always)]
    unsafe fn put(&self, ox: usize, sums: [N::Vector; OUTS]) {
        let (line, row) = (self.line, self.line.row);
        // SAFETY: y has these pixels and these channels.
        unsafe {
            if line.plain {
                let y = row.y.add(ox * row.y_step + self.channel * Self::SIZE);
                for (out, sum) in sums.into_iter().enumerate() {
                    N::store(y.add(out * row.y_step), N::clamp(sum, line.lo, line.hi));
                }
            } else {
                for (out, sum) in sums.into_iter().enumerate() {
                    self.put_slow(ox + out, sum);
                }
            }
        }
    }

    /// # Safety
    /// As [`Column::put`].
    #[inline(never)]
    unsafe fn put_slow(&self, ox: usize, v: N::Vector) {
        let row = self.line.row;
        let mut wide = [0f32; 8];
        // SAFETY: the residual has this pixel and these channels, the slopes these channels.
        unsafe {
            N::store_wide(wide.as_mut_ptr(), v);
            let slopes = if row.slopes.is_null() { row.slopes } else { row.slopes.add(self.channel) };
            let residual = if row.residual.is_null() {
                row.residual
            } else {
                row.residual.add(ox * row.residual_step + self.channel * Self::SIZE)
            };
            let y = row.y.add(ox * row.y_step + self.channel * Self::SIZE);
            Slow { epilogue: &row.epilogue, slopes, channels: self.count }.pixel_f32(wide.as_ptr(), residual, y);
        }
    }

    /// Outputs `ox..ox + OUTS` of a dense `K` x `K` kernel, `S` pixels apart, `x[ky]` being the first window's row.
    ///
    /// # Safety
    /// The windows lie inside the picture, in all `LANES` channels.
    #[inline(always)]
    unsafe fn window<const K: usize, const S: usize>(
        &self,
        weights: &[[N::Vector; K]; K],
        x: &[*const u8; K],
        steps: &[usize; K],
        ox: usize,
    ) {
        let mut sums = [self.bias; OUTS];
        for ky in 0..K {
            for column in 0..(OUTS - 1) * S + K {
                // SAFETY: inside the picture.
                unsafe {
                    let input = N::load(x[ky].add(column * steps[ky]));
                    for (out, sum) in sums.iter_mut().enumerate() {
                        if column >= out * S && column - out * S < K {
                            *sum = N::multiply_add(*sum, input, weights[ky][column - out * S]);
                        }
                    }
                }
            }
        }
        // SAFETY: the pixels exist.
        unsafe { self.put(ox, sums) };
    }

    /// The outputs `from..to`, at least `OUTS`, of a dense `K` x `K` kernel with stride `S`. The last `OUTS` may overlap
    /// others.
    ///
    /// # Safety
    /// Their windows lie inside the picture.
    #[inline(always)]
    unsafe fn walk<const K: usize, const S: usize>(&self, from: usize, to: usize) {
        let row = self.line.row;
        // SAFETY: `K` rows of inputs, `K * K` taps of weights; the windows are inside by the caller's promise.
        unsafe {
            let inputs: [_; K] = core::array::from_fn(|ky| *row.inputs.add(ky));
            let steps = inputs.map(|input| input.step);
            let weights: [[N::Vector; K]; K] =
                core::array::from_fn(|ky| core::array::from_fn(|kx| self.weight(ky * K + kx)));
            let first = (from * S).wrapping_sub(row.pad_left as usize);
            let start = inputs.map(|input| {
                input.start.wrapping_add(first.wrapping_mul(input.step)).wrapping_add(self.channel * Self::SIZE)
            });
            for i in 0..(to - from).div_ceil(OUTS) {
                let at = (i * OUTS).min(to - OUTS - from);
                let x = core::array::from_fn(|ky| start[ky].wrapping_add(at * S * steps[ky]));
                self.window::<K, S>(&weights, &x, &steps, from + at);
            }
        }
    }

    /// The outputs `from..to`, at least `OUTS`, of the kernel of these taps.
    ///
    /// # Safety
    /// Their windows lie inside the picture; the column has a tap's weights for each.
    #[inline(never)]
    unsafe fn list(&self, taps: &[u16], places: &Places, from: usize, to: usize) {
        let row = self.line.row;
        for ox in (from..to).step_by(OUTS) {
            let ox = ox.min(to - OUTS);
            let mut sums = [self.bias; OUTS];
            for (n, &tap) in taps.iter().enumerate() {
                let [ky, kx] = places[usize::from(tap)].map(usize::from);
                // SAFETY: the tap exists, its pixels lie inside the picture.
                unsafe {
                    let input = *row.inputs.add(ky);
                    let ix = (ox * row.stride_w + kx * row.dil_w).wrapping_sub(row.pad_left as usize);
                    let x = input.start.add(ix * input.step + self.channel * Self::SIZE);
                    let w = self.weight(n);
                    for (out, sum) in sums.iter_mut().enumerate() {
                        *sum = N::multiply_add(*sum, N::load(x.add(out * row.stride_w * input.step)), w);
                    }
                }
            }
            // SAFETY: the pixels exist.
            unsafe { self.put(ox, sums) };
        }
    }
}

/// Row and column of each tap.
type Places = [[u16; 2]; MAX_TAPS];

fn places(row: &Row) -> Places {
    let mut places = [[0; 2]; MAX_TAPS];
    for (ky, line) in places.chunks_exact_mut(row.kw).enumerate().take(row.kh) {
        for (kx, place) in line.iter_mut().enumerate() {
            *place = [ky as u16, kx as u16];
        }
    }
    places
}

/// Every tap, for dense kernels.
static ALL: [u16; MAX_TAPS] = {
    let mut all = [0; MAX_TAPS];
    let mut tap = 0;
    while tap < MAX_TAPS {
        all[tap] = tap as u16;
        tap += 1;
    }
    all
};

/// A block of sixteen channels: the first, its taps, their weights.
#[derive(Clone, Copy)]
struct Block<'a> {
    channel: usize,
    taps: &'a [u16],
    weights: *const u8,
}

/// The blocks of a row.
struct Blocks<'a, N, const SPARSE: bool> {
    row: &'a Row,
    channel: usize,
    weights: *const u8,
    positions: *const u16,
    number: PhantomData<N>,
}

impl<'a, N: Lanes, const SPARSE: bool> Iterator for Blocks<'a, N, SPARSE> {
    type Item = Block<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Block<'a>> {
        let Self { row, channel, weights, positions, .. } = *self;
        if channel >= row.channels {
            return None;
        }
        let taps = if SPARSE {
            // SAFETY: a sparse row has a count and its positions for each block.
            unsafe { core::slice::from_raw_parts(positions, usize::from(*row.counts.add(channel / 16))) }
        } else {
            &ALL[..row.kh * row.kw]
        };
        self.channel += 16;
        self.weights = weights.wrapping_add(taps.len() * 16 * N::TYPE.size());
        self.positions = if SPARSE { positions.wrapping_add(taps.len()) } else { positions };
        Some(Block { channel, taps, weights })
    }
}

/// The kernel, dense or with dropped taps.
pub struct Float<N, const SPARSE: bool>(PhantomData<N>);

impl<N: Lanes, const SPARSE: bool> RowMicro for Float<N, SPARSE> {
    unsafe fn row(row: &Row) {
        let inside = row.interior();
        let done = if inside.len() >= OUTS { inside.end } else { inside.start };
        // SAFETY: the caller's promise; `inside.start..done` have their windows inside the picture.
        unsafe {
            let line = Line {
                row,
                lo: N::splat(row.epilogue.lo),
                hi: N::splat(row.epilogue.hi),
                plain: is_plain(&row.epilogue, N::TYPE, !row.residual.is_null()),
            };
            if done > inside.start {
                Self::inside(&line, inside.start, done);
            }
            for ox in (0..inside.start).chain(done..row.out_w) {
                Self::pixel(&line, ox, 0);
            }
            let whole = row.channels / N::LANES * N::LANES;
            if whole < row.channels {
                (inside.start..done).for_each(|ox| Self::pixel(&line, ox, whole));
            }
        }
    }
}

impl<N: Lanes, const SPARSE: bool> Float<N, SPARSE> {
    fn blocks(row: &Row) -> Blocks<'_, N, SPARSE> {
        Blocks { row, channel: 0, weights: row.weights, positions: row.positions, number: PhantomData }
    }

    /// Outputs `from..to`, at least `OUTS`, in all whole vectors of channels.
    ///
    /// # Safety
    /// As [`RowMicro::row`]; their windows lie inside the picture.
    unsafe fn inside(line: &Line<N>, from: usize, to: usize) {
        let row = line.row;
        // SAFETY: the caller's promise.
        unsafe {
            match (SPARSE, row.dil_w, row.kh, row.kw, row.stride_w) {
                (false, 1, 3, 3, 1) => Self::walk::<3, 1>(line, from, to),
                (false, 1, 3, 3, 2) => Self::walk::<3, 2>(line, from, to),
                (false, 1, 5, 5, 1) => Self::walk::<5, 1>(line, from, to),
                (false, 1, 5, 5, 2) => Self::walk::<5, 2>(line, from, to),
                _ => {
                    let places = places(row);
                    for (block, v) in Self::vectors(row) {
                        Column::new(line, block.channel + v * N::LANES, block.weights.add(v * 16))
                            .list(block.taps, &places, from, to);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Float::inside`]; the kernel is dense, `K` x `K`, with stride `S`.
    #[inline(never)]
    unsafe fn walk<const K: usize, const S: usize>(line: &Line<N>, from: usize, to: usize) {
        for (block, v) in Self::vectors(line.row) {
            // SAFETY: the channels exist; the weights are the block's.
            unsafe {
                Column::new(line, block.channel + v * N::LANES, block.weights.add(v * 16)).walk::<K, S>(from, to)
            };
        }
    }

    /// The whole vectors of each block.
    #[inline(always)]
    fn vectors(row: &Row) -> impl Iterator<Item = (Block<'_>, usize)> {
        Self::blocks(row).flat_map(|block| {
            let count = (row.channels - block.channel).min(16) / N::LANES;
            (0..count).map(move |v| (block, v))
        })
    }

    /// Output `ox`, wherever its window lies, from channel `from` on, which is a multiple of `LANES`.
    ///
    /// # Safety
    /// As [`RowMicro::row`]; the pixel exists.
    #[inline(never)]
    unsafe fn pixel(line: &Line<N>, ox: usize, from: usize) {
        let row = line.row;
        let mut all = [core::ptr::null(); MAX_TAPS];
        for (ky, line) in all.chunks_exact_mut(row.kw).enumerate().take(row.kh) {
            for (kx, x) in line.iter_mut().enumerate() {
                // SAFETY: tap and pixel exist.
                *x = unsafe { row.tap(ox, ky, kx) };
            }
        }
        let mut kept = all;
        for block in Self::blocks(row).skip(from / 16) {
            let x = if SPARSE {
                block.taps.iter().zip(&mut kept).for_each(|(&tap, x)| *x = all[usize::from(tap)]);
                &kept[..block.taps.len()]
            } else {
                &all[..block.taps.len()]
            };
            // SAFETY: the block's taps and weights.
            unsafe {
                match (row.channels - block.channel >= 16, N::LANES, <&[_; 9]>::try_from(x)) {
                    (true, 4, Ok(x)) => Self::whole_block::<4>(line, &block, ox, x),
                    (true, 8, Ok(x)) => Self::whole_block::<2>(line, &block, ox, x),
                    _ => partial_block(line, &block, ox, x, from),
                }
            }
        }
    }

    /// `V` vectors of channels of an output: a whole block. The caller's length of `x` unrolls the loop.
    ///
    /// # Safety
    /// As [`Float::pixel`]; `x` says where the block's taps read channel 0.
    #[inline(always)]
    unsafe fn whole_block<const V: usize>(line: &Line<N>, block: &Block, ox: usize, x: &[*const u8]) {
        // SAFETY: the channels exist; the weights are the block's.
        unsafe {
            let columns: [_; V] =
                core::array::from_fn(|v| Column::new(line, block.channel + v * N::LANES, block.weights.add(v * 16)));
            let mut sums: [_; V] = core::array::from_fn(|v| columns[v].bias);
            for (n, x) in x.iter().enumerate() {
                let x = x.add(block.channel * N::TYPE.size());
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = N::multiply_add(*sum, N::load(x.add(16 * v)), columns[v].weight(n));
                }
            }
            if line.plain {
                let y = line.row.y.add(ox * line.row.y_step + block.channel * N::TYPE.size());
                (0..V).for_each(|v| N::store(y.add(16 * v), N::clamp(sums[v], line.lo, line.hi)));
            } else {
                (0..V).for_each(|v| columns[v].put_slow(ox, sums[v]));
            }
        }
    }
}

/// Any channels of an output, vector by vector.
///
/// # Safety
/// As [`Float::pixel`]; `x` says where the block's taps read channel 0.
#[inline(never)]
unsafe fn partial_block<N: Lanes>(line: &Line<N>, block: &Block, ox: usize, x: &[*const u8], from: usize) {
    for channel in (block.channel.max(from)..line.row.channels).step_by(N::LANES) {
        // SAFETY: the channels exist; the weights are the block's.
        unsafe {
            let column = Column::new(line, channel, block.weights.add((channel - block.channel) * N::TYPE.size()));
            let mut sum = column.bias;
            for (n, x) in x.iter().enumerate() {
                let x = x.add(channel * N::TYPE.size());
                let input = if column.count == N::LANES { N::load(x) } else { N::load_part(x, column.count) };
                sum = N::multiply_add(sum, input, column.weight(n));
            }
            column.put_slow(ox, sum);
        }
    }
}
