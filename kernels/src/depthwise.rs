//! Depthwise convolution: the loop over rows every instruction set shares, and the scalar kernels.
//!
//! A unit is one output row of one picture, all channels. A [`RowMicro`] kernel is given the input rows under one, or under
//! two neighbours if it makes more of both than of each: a row outside the picture is the pad row with a pixel step of 0, so that only the left and right borders need care inside.
//! Sparse layouts list, per block of 16 channels, the taps that are kept.

use crate::conv::{Element, Epilogue, MAX_TAPS, epilogue};
use crate::layout::{Index, Layout};
use crate::{Call, ConvParams, DType, Features, Kernel, Op, conv_input};
use core::marker::PhantomData;
use core::ops::Range;
use half::f16;

/// An input row under the output row: address of pixel 0, first channel, and bytes from a pixel to the next.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InputRow {
    /// Pixel 0; only pixels `0..in_w` may be read (a pad row: only pixel 0, at step 0).
    pub start: *const u8,
    /// Bytes between pixels.
    pub step: usize,
}

/// One output row, or a few, all channels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Row {
    /// `[rows][kh]` input rows.
    pub inputs: *const InputRow,
    /// Output rows, at most the kernel's [`RowMicro::ROWS`].
    pub rows: usize,
    /// What is read left and right of the picture: `channels` elements, rounded up to 16.
    pub pad: *const u8,
    /// Pixels of an input row.
    pub in_w: usize,
    /// Height and width of the kernel.
    pub kh: usize,
    /// Width of the kernel.
    pub kw: usize,
    /// Pixels from an output's window to the next.
    pub stride_w: usize,
    /// Pixels from a tap to the next.
    pub dil_w: usize,
    /// Pixels of the first window left of the picture; negative: inside it.
    pub pad_left: isize,
    /// Pixels of the output row.
    pub out_w: usize,
    /// First output pixel, first channel.
    pub y: *mut u8,
    /// Bytes between output pixels.
    pub y_step: usize,
    /// Bytes between output rows.
    pub y_row: usize,
    /// First residual pixel, or null.
    pub residual: *const u8,
    /// Bytes between residual pixels.
    pub residual_step: usize,
    /// Bytes between residual rows.
    pub residual_row: usize,
    /// Packed weights of the first block of 16 channels.
    pub weights: *const u8,
    /// Bias of the first channel, f32 or i32; readable up to a multiple of 16 channels.
    pub bias: *const u8,
    /// int8: factors; readable as the bias.
    pub scale: *const f32,
    /// Slopes, if the activation is PRelu; readable as the bias.
    pub slopes: *const f32,
    /// Sparse: kept taps of each block of 16 channels.
    pub counts: *const u16,
    /// Sparse: the kept taps, `ky * kw + kx`, block after block.
    pub positions: *const u16,
    /// Channels.
    pub channels: usize,
    /// The last step.
    pub epilogue: Epilogue,
    /// What [`RowMicro::prepare`] left.
    pub hint: u32,
}

impl Row {
    /// Output pixels whose windows lie wholly inside the input's width: the others need [`Row::tap`].
    pub fn interior(&self) -> Range<usize> {
        let reach = (self.kw - 1) * self.dil_w;
        let first = usize::try_from(self.pad_left).map_or(0, |pad| pad.div_ceil(self.stride_w)).min(self.out_w);
        // Last window start that fits, counted from the first window.
        let last = self.in_w as isize - 1 - reach as isize + self.pad_left;
        let end = if last < 0 { 0 } else { (last as usize / self.stride_w + 1).min(self.out_w) };
        first..end.max(first)
    }

    /// The `n`th of its rows alone.
    ///
    /// # Safety
    /// `n < rows`, and the row's pointers are valid as its fields say.
    pub unsafe fn one(&self, n: usize) -> Self {
        let residual = if self.residual.is_null() { 0 } else { n * self.residual_row };
        Self {
            // SAFETY: `kh` input rows for each row.
            inputs: unsafe { self.inputs.add(n * self.kh) },
            rows: 1,
            y: self.y.wrapping_add(n * self.y_row),
            residual: self.residual.wrapping_add(residual),
            ..*self
        }
    }

    /// Where tap (ky, kx) of output pixel `ox` reads its first channel: the pad outside the picture.
    ///
    /// # Safety
    /// The row's pointers are valid as its fields say, `ky < kh`, `kx < kw` and `ox < out_w`.
    #[inline(always)]
    pub unsafe fn tap(&self, ox: usize, ky: usize, kx: usize) -> *const u8 {
        let ix = (ox * self.stride_w + kx * self.dil_w) as isize - self.pad_left;
        if (ix as usize) < self.in_w {
            // SAFETY: `inputs` has `kh` rows; pixel `ix` exists.
            unsafe {
                let row = *self.inputs.add(ky);
                row.start.add(ix as usize * row.step)
            }
        } else {
            self.pad
        }
    }
}

/// Most input rows of a [`Row`].
const MAX_INPUTS: usize = 2 * MAX_TAPS;

/// The inner kernel of a depthwise convolution.
pub trait RowMicro {
    /// Most output rows it computes at a time; fewer are, where kernels are so high that they would read too many rows.
    const ROWS: usize = 1;

    /// Looks at what all rows of a call share (the per-channel vectors, `kh`, `kw`, `channels`) and returns their
    /// [`Row::hint`]. Called once a [`drive`], before `inputs`, `y` and `residual` are set.
    ///
    /// # Safety
    /// The per-channel vectors are valid as the row's fields say, and the CPU has the kernel's features.
    unsafe fn prepare(_row: &Row) -> u32 {
        0
    }

    /// Computes the row's output rows, neighbours in one picture.
    ///
    /// # Safety
    /// The row's pointers are valid as its fields say, the output is not aliased, and the CPU has the kernel's features.
    unsafe fn row(row: &Row);
}

/// Number of units of a call: output rows.
pub fn units(call: &Call) -> usize {
    let p: &ConvParams = call.params();
    p.batch as usize * p.out_h as usize
}

/// Runs output rows `units` of a call through the kernel `M`.
///
/// # Safety
/// As [`Kernel::run`]; `M` fits the call's layout and types.
pub unsafe fn drive<M: RowMicro>(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { rows(call, units, M::ROWS, M::prepare, M::row) }
}

/// # Safety
/// As [`drive`].
unsafe fn rows(
    call: &Call,
    mut units: Range<usize>,
    most: usize,
    prepare: unsafe fn(&Row) -> u32,
    compute: unsafe fn(&Row),
) {
    let p: &ConvParams = call.params();
    let most = if p.kh as usize * most > MAX_INPUTS { 1 } else { most };
    let weights = call.input(conv_input::WEIGHTS);
    let element = weights.layout.spec().dtype.size();
    let y_element = call.output(0).dtype.size();
    let index = crate::conv::index(call);
    let (counts, positions) =
        index.map_or((core::ptr::null(), core::ptr::null()), |i: Index| (i.counts.as_ptr(), i.positions.as_ptr()));
    let vector = |input: usize| call.inputs[input].map_or(core::ptr::null(), |i| i.bytes.as_ptr());
    let (x, pad, residual) = (vector(conv_input::X), vector(conv_input::PAD), vector(conv_input::RESIDUAL));
    let mut inputs = [InputRow { start: pad, step: 0 }; MAX_INPUTS];
    let mut row = Row {
        inputs: inputs.as_ptr(),
        rows: 1,
        pad,
        in_w: p.in_w as usize,
        kh: p.kh as usize,
        kw: p.kw as usize,
        stride_w: p.stride_w as usize,
        dil_w: p.dil_w as usize,
        pad_left: p.pad_left as isize,
        out_w: p.out_w as usize,
        y: core::ptr::null_mut(),
        y_step: p.y.pixel as usize * y_element,
        y_row: p.y.row as usize * y_element,
        residual: core::ptr::null(),
        residual_step: p.residual.pixel as usize * y_element,
        residual_row: p.residual.row as usize * y_element,
        weights: weights.bytes.as_ptr(),
        bias: vector(conv_input::BIAS),
        scale: vector(conv_input::SCALE).cast(),
        slopes: vector(conv_input::SLOPES).cast(),
        counts,
        positions,
        channels: p.oc as usize,
        epilogue: epilogue(call),
        hint: 0,
    };
    // SAFETY: the vectors have an element per channel, padded to a multiple of 16, as `check` has proved.
    row.hint = unsafe { prepare(&row) };
    while !units.is_empty() {
        let (n, oy) = (units.start / p.out_h as usize, units.start % p.out_h as usize);
        row.rows = most.min(units.len()).min(p.out_h as usize - oy);
        units.start += row.rows;
        let mut to = inputs.iter_mut();
        for oy in oy..oy + row.rows {
            let first = (oy * p.stride_h as usize) as isize - p.pad_top as isize;
            for (ky, input) in to.by_ref().take(row.kh).enumerate() {
                let iy = first + (ky * p.dil_h as usize) as isize;
                let at = p.x.offset as usize + n * p.x.batch as usize + (iy.max(0) as usize) * p.x.row as usize;
                *input = if (iy as usize) < p.in_h as usize {
                    InputRow { start: x.wrapping_add(at * element), step: p.x.pixel as usize * element }
                } else {
                    InputRow { start: pad, step: 0 }
                };
            }
        }
        let y_at = p.y.offset as usize + n * p.y.batch as usize + oy * p.y.row as usize;
        let r_at = p.residual.offset as usize + n * p.residual.batch as usize + oy * p.residual.row as usize;
        row.inputs = inputs.as_ptr();
        row.y = call.output(0).as_mut_ptr().wrapping_add(y_at * y_element);
        row.residual = if residual.is_null() { residual } else { residual.wrapping_add(r_at * y_element) };
        // SAFETY: `check` has proved that every row, pixel and channel lies inside its operand; the rest is the caller's promise.
        unsafe { compute(&row) };
    }
}

/// Whether the call's layout is this one.
pub fn accepts(call: &Call, layout: Layout) -> bool {
    call.input(conv_input::WEIGHTS).layout == layout
}

/// The scalar row.
struct Scalar<T, const SPARSE: bool>(PhantomData<T>);

impl<T: Element, const SPARSE: bool> RowMicro for Scalar<T, SPARSE> {
    unsafe fn row(row: &Row) {
        let mut weights = row.weights.cast::<T>();
        let mut positions = row.positions;
        for first in (0..row.channels).step_by(16) {
            // SAFETY: `counts` has an entry per block in a sparse row.
            let kept = if SPARSE { usize::from(unsafe { *row.counts.add(first / 16) }) } else { row.kh * row.kw };
            for ox in 0..row.out_w {
                // SAFETY: the block exists, with `kept` taps of weights and, sparse, of positions.
                unsafe { pixel::<T, SPARSE>(row, (first, ox), kept, weights, positions) };
            }
            // SAFETY: one block on.
            weights = unsafe { weights.add(kept * 16) };
            if SPARSE {
                // SAFETY: one block on.
                positions = unsafe { positions.add(kept) };
            }
        }
    }
}

/// One output pixel of one block of 16 channels.
///
/// # Safety
/// Block and pixel exist; `weights` and, sparse, `positions` are the block's, with `kept` taps.
unsafe fn pixel<T: Element, const SPARSE: bool>(
    row: &Row,
    (first, ox): (usize, usize),
    kept: usize,
    weights: *const T,
    positions: *const u16,
) {
    let channels = (row.channels - first).min(16);
    let mut sums = [T::Sum::default(); 16];
    for n in 0..kept {
        // SAFETY: `n < kept`.
        let tap = if SPARSE { usize::from(unsafe { *positions.add(n) }) } else { n };
        // SAFETY: `tap < kh * kw`, `ox < out_w`; the run has all channels.
        let x = unsafe { row.tap(ox, tap / row.kw, tap % row.kw).cast::<T>().add(first) };
        for (channel, sum) in sums.iter_mut().enumerate().take(channels) {
            // SAFETY: the channel exists; a tap has 16 weights.
            *sum = unsafe { T::multiply_add(*sum, x.add(channel).read_unaligned(), *weights.add(n * 16 + channel)) };
        }
    }
    let element = DType::ALL[row.epilogue.output as usize].size();
    for (i, &sum) in sums.iter().enumerate().take(channels) {
        let channel = first + i;
        // SAFETY: a per-channel vector that is there has this channel.
        let vector = |values: *const f32| if values.is_null() { 0.0 } else { unsafe { *values.add(channel) } };
        // SAFETY: bias, residual and y have this pixel and channel.
        unsafe {
            let sum = T::add(sum, *row.bias.cast::<T::Sum>().add(channel));
            let residual = if row.residual.is_null() {
                row.residual
            } else {
                row.residual.add(ox * row.residual_step + channel * element)
            };
            let y = row.y.add(ox * row.y_step + channel * element);
            T::store(sum, vector(row.scale), vector(row.slopes), residual, y, &row.epilogue);
        }
    }
}

macro_rules! scalar {
    ($name:literal, $type:ty, $layout:ident, $sparse:literal) => {
        Kernel {
            name: $name,
            op: Op::Depthwise,
            requires: Features::NONE,
            accepts: |call| accepts(call, Layout::$layout),
            units,
            run: drive::<Scalar<$type, $sparse>>,
        }
    };
}

/// The scalar depthwise convolutions.
pub const CATALOGUE: &[Kernel] = &[
    scalar!("depthwise_f32_scalar", f32, DepthwiseF32, false),
    scalar!("depthwise_f16_scalar", f16, DepthwiseF16, false),
    scalar!("depthwise_i8_scalar", i8, DepthwiseI8, false),
    scalar!("spdepthwise_f32_scalar", f32, SparseDepthwiseF32, true),
    scalar!("spdepthwise_f16_scalar", f16, SparseDepthwiseF16, true),
    scalar!("spdepthwise_i8_scalar", i8, SparseDepthwiseI8, true),
];
