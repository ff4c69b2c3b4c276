//! 3x3 depthwise with AVX-512: four outputs of one row, or of two neighbouring rows, of 16 channels at a time, all in
//! registers, with a plain last step.
//!
//! ```text
//!               columns 0 1 2 3 4 5 (stride 1)
//! input row 0           . . . . . .
//!           1           . . . . . .    output row 0: input rows 0 1 2
//!           2           . . . . . .    output row 1: input rows 1 2 3
//!           3           . . . . . .
//! ```
//!
//! Two output rows read four input rows where each alone would read three, so a pair loads a third less; most of what
//! such a layer waits for is its input.
//!
//! int8: the bytes of a column's rows become the four bytes of a 32-bit lane, so that `vpdpbusd` multiplies all of a
//! column at once. The weights of the lower output row are those of the upper one, moved up by a byte. Activations are
//! shifted by 128 as in [`crate::arithmetic`]; 128 times the sum of the weights is taken off the bias beforehand.

use super::{BLOCK, MAX_BLOCKS};
use crate::finish::{Plain, store_codes, turn};
use crate::vector::{V16, Vector};
use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use sparrow_kernels::depthwise::{InputRow, Row};
use sparrow_kernels::{Activation, DType};

/// Outputs of a row computed together.
const N: usize = 4;
/// Most columns they read.
const COLUMNS: usize = (N - 1) * 2 + 3;
/// Input rows of a pair of output rows.
const ROWS: usize = 4;

/// Where the outputs read, `[column][input row]`.
type Table = [[*const u8; ROWS]; COLUMNS];

/// A precision.
///
/// # Safety
/// Every method requires a CPU with AVX-512, and VNNI for integers; channels `first..first + 16` exist in all pixels.
pub(super) trait Square {
    /// The type of input and output.
    const DTYPE: DType;
    /// Bytes of an element.
    const BYTES: usize;
    /// Most output rows at a time.
    const ROWS: usize = 2;
    /// Bytes of a block's prepared weights; 0 if packed ones are used.
    const PREPARED: usize;

    /// Prepares the nine packed taps of the block that begins at channel `first`.
    unsafe fn prepare(row: &Row, first: usize, packed: *const u8, to: *mut u8);

    /// Four outputs of `R` rows, `S` columns apart, of which the first `count` are stored at `y[row]`.
    unsafe fn outputs<const R: usize, const S: usize>(
        row: &Row,
        weights: *const u8,
        table: &Table,
        first: usize,
        y: [*mut u8; 2],
        count: usize,
    );
}

/// Whether the row is one of those computed here.
pub(super) fn accepts<D: Square>(row: &Row) -> bool {
    (row.kh, row.kw, row.dil_w) == (3, 3, 1)
        && matches!(row.stride_w, 1 | 2)
        && row.channels.is_multiple_of(BLOCK)
        && row.residual.is_null()
        && row.epilogue.activation == Activation::Clamp as u32
        && row.epilogue.output == D::DTYPE as u32
}

/// # Safety
/// As [`sparrow_kernels::depthwise::RowMicro::row`]; the row is accepted, and the CPU has `D`'s features.
#[inline(always)]
pub(super) unsafe fn rows<D: Square>(row: &Row) {
    // SAFETY: the caller's promise; `inputs` has three rows for each output row.
    unsafe {
        let input = |n: usize| *row.inputs.add(n);
        let same = |a: InputRow, b: InputRow| a.start == b.start && a.step == b.step;
        if row.rows == 2 && same(input(1), input(3)) && same(input(2), input(4)) {
            return strided::<D, 2>(row, [input(0), input(1), input(2), input(5)]);
        }
        for n in 0..row.rows {
            let one = row.one(n);
            let input = |n: usize| *one.inputs.add(n);
            strided::<D, 1>(&one, [input(0), input(1), input(2), input(2)]);
        }
    }
}

/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn strided<D: Square, const R: usize>(row: &Row, inputs: [InputRow; ROWS]) {
    // SAFETY: the caller's promise.
    unsafe {
        let all = row.channels / BLOCK;
        for first in (0..all).step_by(MAX_BLOCKS) {
            let blocks = first..all.min(first + MAX_BLOCKS);
            if row.stride_w == 1 { pass::<D, R, 1>(row, inputs, blocks) } else { pass::<D, R, 2>(row, inputs, blocks) }
        }
    }
}

/// Prepared weights of a pass.
#[repr(C, align(64))]
struct Prepared([MaybeUninit<u8>; MAX_BLOCKS * I8::PREPARED]);

/// Some blocks of the row.
///
/// # Safety
/// As [`rows`]; at most [`MAX_BLOCKS`] blocks, which exist.
#[inline(always)]
unsafe fn pass<D: Square, const R: usize, const S: usize>(row: &Row, inputs: [InputRow; ROWS], blocks: Range<usize>) {
    let mut prepared = Prepared([const { MaybeUninit::uninit() }; MAX_BLOCKS * I8::PREPARED]);
    let prepared = prepared.0.as_mut_ptr().cast::<u8>();
    let packed = |block: usize| row.weights.wrapping_add(block * 9 * BLOCK * D::BYTES);
    if D::PREPARED > 0 {
        for (n, block) in blocks.clone().enumerate() {
            // SAFETY: the block exists, and its place in the buffer.
            unsafe { D::prepare(row, block * BLOCK, packed(block), prepared.add(n * D::PREPARED)) };
        }
    }
    let mut table = [[row.pad; ROWS]; COLUMNS];
    for ox in (0..row.out_w).step_by(N) {
        let column = (ox * S) as isize - row.pad_left;
        for (n, pixels) in table[..(N - 1) * S + 3].iter_mut().enumerate() {
            let ix = column + n as isize;
            *pixels = match (ix as usize) < row.in_w {
                true => inputs.map(|input| input.start.wrapping_add(ix as usize * input.step)),
                false => [row.pad; ROWS],
            };
        }
        let y = [0, row.y_row].map(|below| row.y.wrapping_add(ox * row.y_step + below));
        for (n, block) in blocks.clone().enumerate() {
            let weights = if D::PREPARED > 0 { prepared.wrapping_add(n * D::PREPARED) } else { packed(block) };
            // SAFETY: the caller's promise; the table is filled.
            unsafe { D::outputs::<R, S>(row, weights, &table, block * BLOCK, y, (row.out_w - ox).min(N)) };
        }
    }
}

/// f32, or f16 with f32 sums.
pub(super) struct Float<E>(PhantomData<E>);

macro_rules! float {
    ($element:ty, $dtype:ident, $load:ident, $store:ident) => {
        impl Square for Float<$element> {
            const DTYPE: DType = DType::$dtype;
            const BYTES: usize = size_of::<$element>();
            const PREPARED: usize = 0;

            unsafe fn prepare(_: &Row, _: usize, _: *const u8, _: *mut u8) {}

            #[inline(always)]
            unsafe fn outputs<const R: usize, const S: usize>(
                row: &Row,
                weights: *const u8,
                table: &Table,
                first: usize,
                y: [*mut u8; 2],
                count: usize,
            ) {
                // SAFETY: the trait's.
                unsafe {
                    let mut taps = [[V16::splat(0.0); 3]; 3];
                    for n in 0..9 {
                        taps[n / 3][n % 3] = V16::$load(weights.cast::<$element>().add(n * BLOCK));
                    }
                    let mut sums = [[V16::load(row.bias.cast::<f32>().add(first)); N]; R];
                    for column in 0..(N - 1) * S + 3 {
                        for input in 0..R + 2 {
                            let x = V16::$load(table[column][input].cast::<$element>().add(first));
                            for r in 0..R {
                                for n in 0..N {
                                    if input >= r && input < r + 3 && column >= n * S && column < n * S + 3 {
                                        sums[r][n] = x.mul_add(taps[input - r][column - n * S], sums[r][n]);
                                    }
                                }
                            }
                        }
                    }
                    let (lo, hi) = (V16::splat(row.epilogue.lo), V16::splat(row.epilogue.hi));
                    for r in 0..R {
                        let y = y[r].cast::<$element>().add(first);
                        for n in 0..N {
                            if n < count {
                                sums[r][n].max(lo).min(hi).$store(y.byte_add(n * row.y_step));
                            }
                        }
                    }
                }
            }
        }
    };
}

float!(f32, F32, load, store);
float!(u16, F16, load_f16, store_f16);

/// int8.
pub(super) struct I8;

/// The bytes of up to four runs of 16 channels, side by side in each channel's lane; what `rows` leaves out is undefined.
///
/// # Safety
/// The CPU has AVX-512; the runs are readable.
#[inline(always)]
unsafe fn column(rows: [*const u8; ROWS], count: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let load = |n: usize| _mm_loadu_si128(rows[n].cast());
        let mut v = _mm512_castsi128_si512(load(0));
        v = _mm512_inserti32x4::<1>(v, load(1));
        v = _mm512_inserti32x4::<2>(v, load(2));
        if count == ROWS {
            v = _mm512_inserti32x4::<3>(v, load(3));
        }
        let bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        _mm512_shuffle_epi8(turn(v), bytes)
    }
}

impl Square for I8 {
    const DTYPE: DType = DType::I8;
    const BYTES: usize = 1;
    /// Three columns of weights, and the bias.
    const PREPARED: usize = 4 * 64;

    #[inline(always)]
    unsafe fn prepare(row: &Row, first: usize, packed: *const u8, to: *mut u8) {
        // SAFETY: the trait's.
        unsafe {
            let (mut shift, mask) = (_mm512_setzero_si512(), _mm512_set1_epi32(0x00ff_ffff));
            for kx in 0..3 {
                let tap = |ky: usize| packed.add((ky * 3 + kx) * BLOCK);
                let weights = _mm512_and_si512(column([tap(0), tap(1), tap(2), tap(2)], 3), mask);
                shift = _mm512_dpbusd_epi32(shift, _mm512_set1_epi8(-128), weights);
                _mm512_store_si512(to.add(kx * 64).cast(), weights);
            }
            let bias = _mm512_loadu_si512(row.bias.add(first * 4).cast());
            _mm512_store_si512(to.add(3 * 64).cast(), _mm512_sub_epi32(bias, shift));
        }
    }

    #[inline(always)]
    unsafe fn outputs<const R: usize, const S: usize>(
        row: &Row,
        weights: *const u8,
        table: &Table,
        first: usize,
        y: [*mut u8; 2],
        count: usize,
    ) {
        // SAFETY: the trait's.
        unsafe {
            let mut taps = [[_mm512_setzero_si512(); 3]; R];
            for kx in 0..3 {
                taps[0][kx] = _mm512_load_si512(weights.add(kx * 64).cast());
                if R == 2 {
                    taps[1][kx] = _mm512_slli_epi32::<8>(taps[0][kx]);
                }
            }
            let mut sums = [[_mm512_load_si512(weights.add(3 * 64).cast()); N]; R];
            let shift = _mm512_set1_epi8(-128);
            for c in 0..(N - 1) * S + 3 {
                let rows = table[c].map(|pixel| pixel.wrapping_add(first));
                let x = _mm512_xor_si512(column(rows, R + 2), shift);
                for n in 0..N {
                    if c >= n * S && c < n * S + 3 {
                        for r in 0..R {
                            sums[r][n] = _mm512_dpbusd_epi32(sums[r][n], x, taps[r][c - n * S]);
                        }
                    }
                }
            }
            let plain = Plain::new(&row.epilogue);
            for r in 0..R {
                let codes = plain.codes(sums[r], [_mm512_loadu_ps(row.scale.add(first)); 4]);
                store_codes(codes, core::array::from_fn(|n| y[r].wrapping_add(first + n * row.y_step)), count, BLOCK);
            }
        }
    }
}
