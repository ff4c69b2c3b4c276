//! 3x3 depthwise convolutions with the common last step and no residual.
//!
//! f32: four outputs at a time, over all channels before the next four, since pixels are often a power of two apart and a walk
//! along the row would keep evicting its own cache lines. The last four of a row overlap those before them, and where columns
//! lie outside the picture each has an address of its own: no output is an exception.
//!
//! int8, where the relaxed dot takes whole bytes: the bytes that one input column has in four neighbouring rows are brought side
//! by side, so that a dot multiplies a column of the kernel by one of the picture for four channels at once. The same four
//! bytes serve two output rows:
//!
//! ```text
//! turned column, 4 bytes a channel    x0 x1 x2 x3
//! weights, output row 0               w0 w1 w2  0
//! weights, output row 1                0 w0 w1 w2
//! ```
//!
//! A stretch of a row is turned, 16 channels at a time, pads included, and then read column by column.

use crate::simd::{clamp, load, multiply_add, store};
use crate::{ISA, isa};
use core::arch::wasm32::*;
use sparrow_kernels::depthwise::{InputRow, Row, RowMicro, accepts, drive, units};
use sparrow_kernels::{Activation, Call, ConvParams, Kernel, Layout, Op, conv_input};

/// Whether a call is of this shape.
fn takes(call: &Call, layout: Layout) -> bool {
    let p: &ConvParams = call.params();
    accepts(call, layout)
        && [p.kh, p.kw, p.dil_w] == [3, 3, 1]
        && [1, 2].contains(&p.stride_w)
        && p.activation == Activation::Clamp as u32
        && call.output(0).dtype == call.input(conv_input::X).dtype
        && call.inputs[conv_input::RESIDUAL].is_none()
}

macro_rules! kernel {
    ($name:expr, $requires:expr, $accepts:expr, $micro:ty) => {
        Kernel { name: $name, op: Op::Depthwise, requires: $requires, accepts: $accepts, units, run: drive::<$micro> }
    };
}

/// Most columns under four outputs.
const UNDER: usize = 9;

/// f32.
struct Float;

impl RowMicro for Float {
    unsafe fn row(row: &Row) {
        // SAFETY: a row has three inputs.
        let inputs = unsafe { &*row.inputs.cast::<[InputRow; 3]>() };
        for ox in (0..row.out_w).step_by(4) {
            let ox = ox.min(row.out_w - 4);
            let left = (ox * row.stride_w) as isize - row.pad_left;
            let inside = left >= 0 && left as usize + 3 * row.stride_w + 2 < row.in_w;
            let mut from = [[row.pad; UNDER]; 3];
            for (from, input) in from.iter_mut().zip(inputs) {
                for (ix, from) in (left..).zip(from).take(if inside { 1 } else { UNDER }) {
                    if (ix as usize) < row.in_w {
                        *from = input.start.wrapping_add(ix as usize * input.step);
                    }
                }
            }
            // SAFETY: all addresses are of pixels or the pad, and these outputs exist.
            unsafe {
                let y = row.y.add(ox * row.y_step);
                match (row.stride_w, inside) {
                    (1, true) => Self::four::<1, true>(row, inputs, &from, y),
                    (1, false) => Self::four::<1, false>(row, inputs, &from, y),
                    (_, true) => Self::four::<2, true>(row, inputs, &from, y),
                    (_, false) => Self::four::<2, false>(row, inputs, &from, y),
                }
            }
        }
    }
}

impl Float {
    /// All channels of four outputs at `y`. `from` has the columns of each input row; if they are `INSIDE`, only the first, and
    /// the others follow at the row's distance.
    ///
    /// # Safety
    /// As [`RowMicro::row`]; the columns of four outputs are readable, and the outputs exist.
    unsafe fn four<const STRIDE: usize, const INSIDE: bool>(
        row: &Row,
        inputs: &[InputRow; 3],
        from: &[[*const u8; UNDER]; 3],
        y: *mut u8,
    ) {
        let (lo, hi) = (f32x4_splat(row.epilogue.lo), f32x4_splat(row.epilogue.hi));
        let steps = inputs.each_ref().map(|input| input.step);
        let mut weights = row.weights;
        for c in (0..row.channels).step_by(4) {
            // SAFETY: four channels of every vector exist; blocks of 16 have 9 taps.
            unsafe {
                let mut sums = [load(row.bias.add(c * 4)); 4];
                for ky in 0..3 {
                    let w = [0, 1, 2].map(|kx| load(weights.add((ky * 3 + kx) * 64)));
                    let mut p = from[ky][0].wrapping_add(c * 4);
                    for column in 0..3 * STRIDE + 3 {
                        let x = load(if INSIDE { p } else { from[ky][column].add(c * 4) });
                        p = p.wrapping_add(steps[ky]);
                        for (o, sum) in sums.iter_mut().enumerate() {
                            if column >= o * STRIDE && column - o * STRIDE < 3 {
                                *sum = multiply_add(w[column - o * STRIDE], x, *sum);
                            }
                        }
                    }
                }
                let mut y = y.add(c * 4);
                for sum in sums {
                    store(y, clamp(sum, lo, hi));
                    y = y.wrapping_add(row.y_step);
                }
                weights = weights.wrapping_add(if c % 16 == 12 { 9 * 64 - 48 } else { 16 });
            }
        }
    }
}

/// The f32 kernel.
pub const FLOAT: &[Kernel] = &[kernel!(
    isa!("depthwise_3x3_f32"),
    ISA,
    |call| {
        let p: &ConvParams = call.params();
        takes(call, Layout::DepthwiseF32) && p.oc.is_multiple_of(4) && p.out_w >= 4
    },
    Float
)];

#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
pub use dots::CATALOGUE as DOTS;

/// int8.
#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
mod dots {
    use super::*;
    use crate::engine::{Dot, Engine};
    use crate::epilogue::Common;
    use crate::{SIGNED, UNSIGNED};
    use core::mem::MaybeUninit;

    /// Outputs of a stretch, a multiple of 4.
    const STRETCH: usize = 56;
    /// Columns under it, at stride 2.
    const COLUMNS: usize = 2 * STRETCH + 1;
    /// Bytes of a turned column: 16 channels.
    const COLUMN: usize = 64;

    /// The kernel; `OFFSET` as [`Dot`]'s.
    struct Square<const OFFSET: bool>;

    /// 16 channels of a stretch.
    struct Block<'a> {
        row: &'a Row,
        /// First channel.
        c0: usize,
        /// First output, and how many.
        first: usize,
        outputs: usize,
    }

    impl<const OFFSET: bool> RowMicro for Square<OFFSET> {
        const ROWS: usize = 2;

        unsafe fn row(row: &Row) {
            // SAFETY: a row has three inputs, the next row's follow; the rest is the caller's promise.
            unsafe {
                let rows: &[InputRow] = core::slice::from_raw_parts(row.inputs, row.rows * 3);
                let same = |a: &InputRow, b: &InputRow| a.start == b.start && a.step == b.step;
                if row.rows == 2 && same(&rows[1], &rows[3]) && same(&rows[2], &rows[4]) {
                    Self::stretches(row, [rows[0], rows[1], rows[2], rows[5]]);
                } else {
                    for n in 0..row.rows {
                        let three = &rows[3 * n..];
                        Self::stretches(&row.one(n), [three[0], three[1], three[2], three[2]]);
                    }
                }
            }
        }
    }

    impl<const OFFSET: bool> Square<OFFSET> {
        /// Both rows, or one, above these inputs.
        ///
        /// # Safety
        /// As [`RowMicro::row`].
        unsafe fn stretches(row: &Row, inputs: [InputRow; 4]) {
            let mut columns = [const { MaybeUninit::<u8>::uninit() }; COLUMNS * COLUMN];
            let mut weights = [const { MaybeUninit::<u8>::uninit() }; 2 * 3 * COLUMN];
            let common = Common::new::<true>(&row.epilogue);
            for first in (0..row.out_w).step_by(STRETCH) {
                let outputs = STRETCH.min(row.out_w - first);
                for c0 in (0..row.channels).step_by(16) {
                    let block = Block { row, c0, first, outputs };
                    // SAFETY: `columns` has room for what the stretch reads, `weights` for a kernel's columns for each row; the
                    // rest is the caller's promise.
                    unsafe {
                        Self::turn(&block, &inputs, columns.as_mut_ptr().cast());
                        Self::turn_weights(&block, weights.as_mut_ptr().cast());
                        let weights = weights.as_ptr().cast::<u8>();
                        for c in (0..16.min(row.channels - c0)).step_by(4) {
                            for n in 0..row.rows {
                                // Read again for each: nothing is kept in registers across the loop over outputs.
                                let (block, common) = core::hint::black_box((&block, &common));
                                let (weights, columns) = (weights.add(n * 3 * COLUMN + c * 4), columns.as_ptr().cast());
                                if row.stride_w == 1 {
                                    Self::outputs::<1>(block, common, (n, c), weights, columns);
                                } else {
                                    Self::outputs::<2>(block, common, (n, c), weights, columns);
                                }
                            }
                        }
                    }
                }
            }
        }

        /// Turns the columns of a stretch.
        ///
        /// # Safety
        /// As [`RowMicro::row`]; `to` has room for all.
        #[inline(never)]
        unsafe fn turn(block: &Block, inputs: &[InputRow; 4], mut to: *mut u8) {
            let Block { row, c0, first, outputs } = *block;
            let count = 16.min(row.channels - c0);
            let start = (first * row.stride_w) as isize - row.pad_left;
            for ix in start..start + ((outputs - 1) * row.stride_w + 3) as isize {
                // SAFETY: pixel and channels exist, the pad is readable up to 16 channels.
                unsafe {
                    let x = if (ix as usize) < row.in_w {
                        let at = |input: &InputRow| input.start.wrapping_add(ix as usize * input.step + c0);
                        let at = [at(&inputs[0]), at(&inputs[1]), at(&inputs[2]), at(&inputs[3])];
                        if count < 16 { at.map(|p| part(p, count)) } else { at.map(|p| load(p)) }
                    } else {
                        [load(row.pad.add(c0)); 4]
                    };
                    let x = if OFFSET { x.map(|x| v128_xor(x, u8x16_splat(0x80))) } else { x };
                    for (n, x) in turned(x).into_iter().enumerate() {
                        store(to.add(16 * n), x);
                    }
                    to = to.add(COLUMN);
                }
            }
        }

        /// Turns the weights: `[row][column of the kernel]`, as the picture's columns.
        ///
        /// # Safety
        /// As [`RowMicro::row`]; `to` has room for 6 columns.
        #[inline(never)]
        unsafe fn turn_weights(block: &Block, mut to: *mut u8) {
            let zero = i32x4_splat(0);
            for n in 0..block.row.rows {
                for kx in 0..3 {
                    // SAFETY: blocks of 16 channels have 9 taps.
                    unsafe {
                        let w = [0, 1, 2].map(|ky| load(block.row.weights.add(block.c0 * 9 + (ky * 3 + kx) * 16)));
                        let w = if n == 0 { [w[0], w[1], w[2], zero] } else { [zero, w[0], w[1], w[2]] };
                        for (n, w) in turned(w).into_iter().enumerate() {
                            store(to.add(16 * n), w);
                        }
                        to = to.add(COLUMN);
                    }
                }
            }
        }

        /// The stretch's outputs of four channels in output row `n`.
        ///
        /// # Safety
        /// As [`RowMicro::row`]; the columns are turned.
        #[inline(always)]
        unsafe fn outputs<const STRIDE: usize>(
            block: &Block,
            common: &Option<Common>,
            (n, c): (usize, usize),
            weights: *const u8,
            columns: *const u8,
        ) {
            let (row, channel) = (block.row, block.c0 + c);
            // `accepts` saw to it.
            let Some(common) = common else { return };
            // SAFETY: bias and scale are padded to 16 channels; columns and outputs exist.
            unsafe {
                let w = [0, 1, 2].map(|kx| load(weights.add(kx * COLUMN)));
                let mut start = load(row.bias.add(channel * 4));
                if OFFSET {
                    for w in w {
                        start = i32x4_sub(start, Dot::<OFFSET>::step(i32x4_splat(0), w, u8x16_splat(128)));
                    }
                }
                let scale = load(row.scale.add(channel).cast());
                let mut x = columns.add(c * 4);
                let mut y = row.y.add(n * row.y_row + block.first * row.y_step + channel);
                if row.channels >= channel + 4 && block.outputs >= 4 {
                    let mut left = block.outputs;
                    while left > 0 {
                        if left < 4 {
                            // The last four, of which some are there already.
                            x = x.sub((4 - left) * STRIDE * COLUMN);
                            y = y.sub((4 - left) * row.y_step);
                            left = 4;
                        }
                        let mut sums = [start; 4];
                        for column in 0..3 * STRIDE + 3 {
                            let x = load(x.add(column * COLUMN));
                            for (o, sum) in sums.iter_mut().enumerate() {
                                if column >= o * STRIDE && column - o * STRIDE < 3 {
                                    *sum = Dot::<OFFSET>::step(*sum, w[column - o * STRIDE], x);
                                }
                            }
                        }
                        let codes = common.codes(sums, scale);
                        v128_store32_lane::<0>(codes, y.cast());
                        v128_store32_lane::<1>(codes, y.add(row.y_step).cast());
                        v128_store32_lane::<2>(codes, y.add(2 * row.y_step).cast());
                        v128_store32_lane::<3>(codes, y.add(3 * row.y_step).cast());
                        x = x.add(4 * STRIDE * COLUMN);
                        y = y.add(4 * row.y_step);
                        left -= 4;
                    }
                    return;
                }
                for _ in 0..block.outputs {
                    let mut sum = start;
                    for (kx, w) in w.into_iter().enumerate() {
                        sum = Dot::<OFFSET>::step(sum, w, load(x.add(kx * COLUMN)));
                    }
                    let codes = common.codes([sum; 4], scale);
                    let codes = i32x4_extract_lane::<0>(codes).to_le_bytes();
                    core::ptr::copy_nonoverlapping(codes.as_ptr(), y, 4.min(row.channels - channel));
                    x = x.add(STRIDE * COLUMN);
                    y = y.add(row.y_step);
                }
            }
        }
    }

    /// The bytes of four vectors side by side: byte `i` of each is lane `i % 4` of vector `i / 4`.
    #[inline(always)]
    fn turned([a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let low = |a, b| i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
        let high = |a, b| i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
        let low16 = |a, b| i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b);
        let high16 = |a, b| i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b);
        let (ab, cd) = ([low(a, b), high(a, b)], [low(c, d), high(c, d)]);
        [low16(ab[0], cd[0]), high16(ab[0], cd[0]), low16(ab[1], cd[1]), high16(ab[1], cd[1])]
    }

    /// The first `count` bytes at `p`.
    ///
    /// # Safety
    /// They are readable.
    #[cold]
    unsafe fn part(p: *const u8, count: usize) -> v128 {
        let mut bytes = [0u8; 16];
        // SAFETY: the caller's promise; there is room for 16.
        unsafe {
            core::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), count);
            load(bytes.as_ptr())
        }
    }

    /// The int8 kernels.
    pub const CATALOGUE: &[Kernel] = &[
        kernel!("depthwise_3x3_i8_relaxed_signed", SIGNED, |call| takes(call, Layout::DepthwiseI8), Square<false>),
        kernel!("depthwise_3x3_i8_relaxed_unsigned", UNSIGNED, |call| takes(call, Layout::DepthwiseI8), Square<true>),
    ];
}
