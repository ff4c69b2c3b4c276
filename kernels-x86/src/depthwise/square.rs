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
//!
//! int8 with 64 channels at once loads whole vectors of the four rows. Interleaving their bytes, then their words, brings
//! the four bytes of a channel together, and of every sixteen channels (a quarter of a vector) four into each of four
//! vectors; weights, bias and factors are prepared in that order. Packing sums to words and bytes puts them in their own
//! order again: 3 instructions a vector of inputs, not 7, and one store for 64 codes. Two neighbouring pixels of 32
//! channels count as 64 channels, whose windows are two columns apart.

use super::{BLOCK, MAX_BLOCKS};
use crate::finish::{Plain, are_small, store_codes, turn};
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
/// Blocks that fill whole cache lines: [`Square::WIDE`].
const QUAD: usize = 4;

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
    /// Most output rows for which weights are prepared once.
    const ROWS: usize = 16;
    /// Bytes of a block's prepared weights; 0 if packed ones are used.
    const PREPARED: usize;

    /// Whether four blocks at once are computed otherwise than each alone: by [`Self::wide`].
    const WIDE: bool = false;

    /// Whether the per-channel vectors of a call are fit for it: [`Row::hint`].
    unsafe fn suits(_row: &Row) -> bool {
        true
    }

    /// Prepares the nine packed taps of the block that begins at channel `first`, as one of four at once if `wide`.
    unsafe fn prepare(row: &Row, first: usize, packed: *const u8, to: *mut u8, wide: bool);

    /// As [`Self::outputs`], of 64 channels, and with the bytes between outputs.
    unsafe fn wide<const R: usize, const S: usize>(
        _row: &Row,
        _weights: *const u8,
        _table: &Table,
        _first: usize,
        _y: ([*mut u8; 2], usize),
        _count: usize,
    ) {
        unreachable!("no precision that is not wide calls it");
    }

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
    row.hint == 1
        && (row.kh, row.kw, row.dil_w) == (3, 3, 1)
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
    // SAFETY: the caller's promise.
    unsafe { if row.stride_w == 1 { strided::<D, 1>(row) } else { strided::<D, 2>(row) } }
}

/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn strided<D: Square, const S: usize>(row: &Row) {
    let mut weights = Weights::NEW;
    let all = row.channels / BLOCK;
    for first in (0..all).step_by(MAX_BLOCKS) {
        let blocks = first..all.min(first + MAX_BLOCKS);
        let mut n = 0;
        // SAFETY: the caller's promise; `inputs` has three rows for each output row.
        unsafe {
            weights.prepare::<D, S>(row, blocks.clone());
            while n < row.rows {
                let one = row.one(n);
                let input = |n: usize| *one.inputs.add(n);
                let same = |a: InputRow, b: InputRow| a.start == b.start && a.step == b.step;
                if n + 1 < row.rows && same(input(1), input(3)) && same(input(2), input(4)) {
                    let inputs = [input(0), input(1), input(2), input(5)];
                    pass::<D, 2, S>(&one, inputs, blocks.clone(), &weights);
                    n += 2;
                } else {
                    pass::<D, 1, S>(&one, [input(0), input(1), input(2), input(2)], blocks.clone(), &weights);
                    n += 1;
                }
            }
        }
    }
}

/// What a pass needs beside the rows.
#[repr(C, align(64))]
struct Weights {
    prepared: [MaybeUninit<u8>; MAX_BLOCKS * I8::PREPARED],
    /// The pad of two pixels.
    pads: [u8; 64],
    /// Blocks computed four at once.
    wide: usize,
    /// Whether two pixels may be computed at once.
    paired: bool,
}

impl Weights {
    const NEW: Self = Self {
        prepared: [const { MaybeUninit::uninit() }; MAX_BLOCKS * I8::PREPARED],
        pads: [0; 64],
        wide: 0,
        paired: false,
    };

    /// The weights of a block: prepared ones, or packed ones where none are.
    #[inline(always)]
    fn of<D: Square>(&self, row: &Row, (n, block): (usize, usize)) -> *const u8 {
        match D::PREPARED {
            0 => packed::<D>(row, block),
            bytes => self.prepared.as_ptr().cast::<u8>().wrapping_add(n * bytes),
        }
    }

    /// Those of two pixels of two blocks, which count as four blocks.
    #[inline(always)]
    fn of_pixels<D: Square>(&self) -> *const u8 {
        self.prepared.as_ptr().cast::<u8>().wrapping_add(QUAD * D::PREPARED)
    }

    /// # Safety
    /// As [`pass`].
    #[inline(always)]
    unsafe fn prepare<D: Square, const S: usize>(&mut self, row: &Row, blocks: Range<usize>) {
        let to = self.prepared.as_mut_ptr().cast::<u8>();
        self.wide = if D::WIDE { blocks.len() / QUAD * QUAD } else { 0 };
        self.paired = D::WIDE && S == 1 && row.channels == 2 * BLOCK && row.y_step == PAIR;
        if D::PREPARED == 0 {
            return;
        }
        // SAFETY: the blocks exist, and their places in the buffer: there is room for more than eight; a pad has two blocks.
        unsafe {
            for (n, block) in blocks.enumerate() {
                let wide = n < self.wide;
                // Of four at once each has a quarter of every vector.
                let at = if wide { n / QUAD * QUAD * D::PREPARED + n % QUAD * 16 } else { n * D::PREPARED };
                D::prepare(row, block * BLOCK, packed::<D>(row, block), to.add(at), wide);
            }
            if self.paired {
                for n in 0..QUAD {
                    let to = to.add(QUAD * D::PREPARED + n * 16);
                    D::prepare(row, n % 2 * BLOCK, packed::<D>(row, n % 2), to, true);
                    self.pads.as_mut_ptr().add(n * 16).copy_from(row.pad.add(n % 2 * 16), 16);
                }
            }
        }
    }
}

/// Packed weights of a block.
#[inline(always)]
fn packed<D: Square>(row: &Row, block: usize) -> *const u8 {
    row.weights.wrapping_add(block * 9 * BLOCK * D::BYTES)
}

/// Bytes of a pixel that [`Weights::paired`] speaks of.
const PAIR: usize = 2 * BLOCK;

/// Some blocks of the row.
///
/// # Safety
/// As [`rows`]; at most [`MAX_BLOCKS`] blocks, which exist, and whose weights are prepared.
#[inline(always)]
unsafe fn pass<D: Square, const R: usize, const S: usize>(
    row: &Row,
    mut inputs: [InputRow; ROWS],
    blocks: Range<usize>,
    weights: &Weights,
) {
    let outside = |input: &InputRow| input.step == 0 && input.start == row.pad;
    let paired = weights.paired && inputs.iter().all(|input| input.step == PAIR || outside(input));
    if paired {
        for input in inputs.iter_mut().filter(|input| outside(input)) {
            input.start = weights.pads.as_ptr();
        }
    }
    let mut table = [[row.pad; ROWS]; COLUMNS];
    let mut ox = 0;
    while ox < row.out_w {
        let column = (ox * S) as isize - row.pad_left;
        let y = [0, row.y_row].map(|below| row.y.wrapping_add(ox * row.y_step + below));
        let inside = |columns: usize| column >= 0 && column as usize + columns <= row.in_w;
        let both = paired && inside(2 * N + 2) && ox + 2 * N <= row.out_w;
        if both || inside((N - 1) * S + 3) {
            let mut pixels = inputs.map(|input| input.start.wrapping_add(column as usize * input.step));
            for places in &mut table {
                *places = pixels;
                for (pixel, input) in pixels.iter_mut().zip(&inputs) {
                    *pixel = pixel.wrapping_add(input.step);
                }
            }
        } else {
            for (n, pixels) in table[..(N - 1) * S + 3].iter_mut().enumerate() {
                let ix = column + n as isize;
                *pixels = match (ix as usize) < row.in_w {
                    true => inputs.map(|input| input.start.wrapping_add(ix as usize * input.step)),
                    false => [row.pad; ROWS],
                };
            }
        }
        if both {
            // SAFETY: the caller's promise; all columns are inside the picture, and one more is.
            unsafe { D::wide::<R, 2>(row, weights.of_pixels::<D>(), &table, 0, (y, 2 * PAIR), N) };
            ox += 2 * N;
            continue;
        }
        let count = (row.out_w - ox).min(N);
        for (n, block) in blocks.clone().enumerate().take(weights.wide).step_by(QUAD) {
            // SAFETY: the caller's promise; the table is filled.
            unsafe {
                let weights = weights.of::<D>(row, (n, block));
                D::wide::<R, S>(row, weights, &table, block * BLOCK, (y, row.y_step), count);
            }
        }
        for (n, block) in blocks.clone().enumerate().skip(weights.wide) {
            // SAFETY: the caller's promise; the table is filled.
            unsafe { D::outputs::<R, S>(row, weights.of::<D>(row, (n, block)), &table, block * BLOCK, y, count) };
        }
        ox += N;
    }
}

/// Sums of which the compiler knows nothing more, so that it computes all up to here before it goes on. Left alone, it
/// computes one after the other, and each waits for itself.
#[inline]
#[target_feature(enable = "avx512f")]
fn in_order([mut a, mut b, mut c, mut d]: [V16; N]) -> [V16; N] {
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!("/* {0} {1} {2} {3} */", inout(zmm_reg) a.0, inout(zmm_reg) b.0, inout(zmm_reg) c.0, inout(zmm_reg) d.0,
            options(pure, nomem, nostack, preserves_flags));
    }
    [a, b, c, d]
}

/// Writes a body down for each column that outputs `$s` columns apart read, `$c` being its number. As a loop the compiler would keep
/// it, and sums in memory.
macro_rules! columns {
    ($s:ident, $c:ident, $body:block) => { columns!($s, $c, $body, 0 1 2 3 4 5 6 7 8) };
    ($s:ident, $c:ident, $body:block, $($n:literal)+) => {
        $(if $n < (N - 1) * $s + 3 {
            let $c = $n;
            $body
        })+
    };
}

/// f32, or f16 with f32 sums.
pub(super) struct Float<E>(PhantomData<E>);

macro_rules! float {
    ($element:ty, $dtype:ident, $load:ident, $store:ident) => {
        impl Square for Float<$element> {
            const DTYPE: DType = DType::$dtype;
            const BYTES: usize = size_of::<$element>();
            const PREPARED: usize = 0;

            unsafe fn prepare(_: &Row, _: usize, _: *const u8, _: *mut u8, _: bool) {}

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
                    columns!(S, column, {
                        for input in 0..R + 2 {
                            let x = V16::$load(table[column][input].cast::<$element>().add(first));
                            for n in 0..N {
                                for r in 0..R {
                                    if column >= n * S && column < n * S + 3 && input >= r && input < r + 3 {
                                        sums[r][n] = x.mul_add(taps[input - r][column - n * S], sums[r][n]);
                                    }
                                }
                            }
                        }
                        for r in 0..R {
                            sums[r] = in_order(sums[r]);
                        }
                    });
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

/// The words of four outputs of `R` rows, of half of 64 channels: of every sixteen the first or the last eight.
///
/// # Safety
/// As [`Square::wide`].
#[inline(always)]
unsafe fn half<const R: usize, const S: usize, const LAST: bool>(
    weights: *const u8,
    table: &Table,
    first: usize,
    plain: &Plain,
) -> [[__m512i; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let at = if LAST { 2 } else { 0 };
        let prepared = |n: usize, v: usize| _mm512_load_si512(weights.add(n * 256 + (at + v) * 64).cast());
        let zero = _mm512_setzero_si512();
        let mut taps = [[[zero; 2]; 3]; R];
        let mut sums = [[[prepared(3, 0), prepared(3, 1)]; N]; R];
        for kx in 0..3 {
            for v in 0..2 {
                taps[0][kx][v] = prepared(kx, v);
                if R == 2 {
                    taps[1][kx][v] = _mm512_slli_epi32::<8>(taps[0][kx][v]);
                }
            }
        }
        columns!(S, column, {
            let load = |input: usize| _mm512_loadu_si512(table[column][input].add(first).cast());
            let rows = [load(0), load(1), load(2), load(R + 1)];
            let (upper, lower) = if LAST {
                (_mm512_unpackhi_epi8(rows[0], rows[1]), _mm512_unpackhi_epi8(rows[2], rows[3]))
            } else {
                (_mm512_unpacklo_epi8(rows[0], rows[1]), _mm512_unpacklo_epi8(rows[2], rows[3]))
            };
            let shift = _mm512_set1_epi8(-128);
            let x = [
                _mm512_xor_si512(_mm512_unpacklo_epi16(upper, lower), shift),
                _mm512_xor_si512(_mm512_unpackhi_epi16(upper, lower), shift),
            ];
            for n in 0..N {
                if column >= n * S && column < n * S + 3 {
                    for r in 0..R {
                        for v in 0..2 {
                            sums[r][n][v] = _mm512_dpbusd_epi32(sums[r][n][v], x[v], taps[r][column - n * S][v]);
                        }
                    }
                }
            }
        });
        let factors = [_mm512_castsi512_ps(prepared(4, 0)), _mm512_castsi512_ps(prepared(4, 1))];
        let mut words = [[zero; N]; R];
        for r in 0..R {
            for n in 0..N {
                words[r][n] = plain.words(sums[r][n], factors);
            }
        }
        words
    }
}

impl Square for I8 {
    const DTYPE: DType = DType::I8;
    const BYTES: usize = 1;
    /// Three columns of weights, the bias, and the factors.
    const PREPARED: usize = 5 * 64;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn suits(row: &Row) -> bool {
        // SAFETY: both vectors are readable up to a multiple of 16 channels.
        unsafe { are_small(row.scale, row.bias, row.channels, 9) }
    }

    #[inline(always)]
    unsafe fn prepare(row: &Row, first: usize, packed: *const u8, to: *mut u8, wide: bool) {
        // SAFETY: the trait's.
        unsafe {
            let put = |n: usize, v: __m512i| {
                let to = to.add(if wide { n * 256 } else { n * 64 });
                if !wide {
                    return _mm512_store_si512(to.cast(), v);
                }
                _mm_store_si128(to.cast(), _mm512_castsi512_si128(v));
                _mm_store_si128(to.add(64).cast(), _mm512_extracti32x4_epi32::<1>(v));
                _mm_store_si128(to.add(128).cast(), _mm512_extracti32x4_epi32::<2>(v));
                _mm_store_si128(to.add(192).cast(), _mm512_extracti32x4_epi32::<3>(v));
            };
            let (mut shift, mask) = (_mm512_setzero_si512(), _mm512_set1_epi32(0x00ff_ffff));
            for kx in 0..3 {
                let tap = |ky: usize| packed.add((ky * 3 + kx) * BLOCK);
                let weights = _mm512_and_si512(column([tap(0), tap(1), tap(2), tap(2)], 3), mask);
                shift = _mm512_dpbusd_epi32(shift, _mm512_set1_epi8(-128), weights);
                put(kx, weights);
            }
            put(3, _mm512_sub_epi32(_mm512_loadu_si512(row.bias.add(first * 4).cast()), shift));
            put(4, _mm512_loadu_si512(row.scale.add(first).cast()));
        }
    }

    #[inline(always)]
    unsafe fn wide<const R: usize, const S: usize>(
        row: &Row,
        weights: *const u8,
        table: &Table,
        first: usize,
        (y, step): ([*mut u8; 2], usize),
        count: usize,
    ) {
        // SAFETY: the trait's.
        unsafe {
            let plain = Plain::new(&row.epilogue);
            let words =
                [half::<R, S, false>(weights, table, first, &plain), half::<R, S, true>(weights, table, first, &plain)];
            for r in 0..R {
                for n in 0..N {
                    if n < count {
                        let codes = plain.bytes(words[0][r][n], words[1][r][n]);
                        _mm512_storeu_si512(y[r].add(first + n * step).cast(), codes);
                    }
                }
            }
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
                let codes = plain.codes(sums[r], [_mm512_load_ps(weights.add(4 * 64).cast()); 4]);
                store_codes(codes, core::array::from_fn(|n| y[r].wrapping_add(first + n * row.y_step)), count, BLOCK);
            }
        }
    }
}
