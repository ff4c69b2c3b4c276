//! Depthwise convolutions, dense and with dropped taps, one output row at a time.
//!
//! Four neighbouring outputs are computed together, for all channels, before the row moves on: input pixels stay in L1,
//! and weights are reread from it once for four outputs. 3 and 5 taps wide, a loaded column serves every output whose
//! window holds it:
//!
//! ```text
//! stride 1, 3 taps   columns  0 1 2 3 4 5     6 loads a row of the kernel instead of 12
//!                    output 0 w w w
//!                    output 1   w w w
//!                    output 2     w w w
//!                    output 3       w w w
//! ```
//!
//! Other widths, dilations and sparse taps walk a list of taps instead. Both read the input through a table of column
//! addresses made for the four outputs, in which the pad stands for what lies outside the picture.
//!
//! int8 multiplies two taps at a time: their pixels' bytes are interleaved and widened to words, and `pmaddwd` with equally
//! interleaved weights adds the two products of a channel. Two taps are two rows of a column, so that sliding still
//! works; a tap without a partner is paired with itself and weight zero. Where the last step is a plain one and 16 channels
//! exist, [`wide`] takes them at once and keeps the sums in registers to the end.

mod square;

use crate::finish::{Avx2, Avx512, Isa, Last, is_clamp};
use crate::vector::{Two, V8, V16, Vector};
use crate::{AVX2, AVX512, VNNI};
use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use sparrow_kernels::conv::MAX_TAPS;
use sparrow_kernels::depthwise::{Row, RowMicro, accepts, drive, units};
use sparrow_kernels::{Activation, DType, Kernel, Layout, Op};

/// Outputs computed together.
const N: usize = 4;
/// Channels of a block of packed weights.
const BLOCK: usize = 16;
/// Bytes of a block's prepared weights of one multiply: 16 f32, or 16 pairs of i16.
const WEIGHT_BYTES: usize = 64;
/// Prepared weights of one pass over a row: half of the smallest L1 cache.
const PREPARED: usize = 16 << 10;
/// Most blocks of a pass.
const MAX_BLOCKS: usize = 64;

/// The multiply-add of a precision and instruction set, for a piece of `Piece::LANES` channels.
///
/// # Safety
/// Every method requires a CPU with the instance's features, and pointers valid for a piece.
trait Depth {
    /// A vector of as many channels.
    type Piece: Vector;
    /// Pixels of the taps of one multiply.
    type X: Copy;
    /// Sums of a piece.
    type Sums: Copy;
    /// Prepared weights of a piece.
    type Weights: Copy;
    /// Whether sums are floats.
    const FLOAT: bool;
    /// Bytes of an activation and of a packed weight.
    const BYTES: usize;
    /// Taps of one multiply, 1 or 2.
    const TAPS: usize;
    /// Whether weights are prepared; else the packed ones are used.
    const PREPARES: bool;
    /// Whether [`wide`] may take a block.
    const WIDE: bool = false;

    /// Prepares a block's packed weights of the taps of one multiply.
    unsafe fn prepare(taps: [Option<*const u8>; 2], to: *mut u8);
    unsafe fn begin(bias: *const u8) -> Self::Sums;
    unsafe fn x(pixels: [*const u8; 2]) -> Self::X;
    unsafe fn weights(at: *const u8) -> Self::Weights;
    unsafe fn multiply_add(sums: Self::Sums, x: Self::X, weights: Self::Weights) -> Self::Sums;
    /// Clamps the sums to `lo..=hi` and writes them as output elements; floats only.
    unsafe fn clamp(sums: Self::Sums, lo: f32, hi: f32, y: *mut u8);
    unsafe fn store(sums: Self::Sums, to: *mut u32);
}

struct F32<V>(PhantomData<V>);
struct F16<V>(PhantomData<V>);

macro_rules! float {
    ($name:ident, $element:ty, $prepares:literal, $load:ident, $put:ident) => {
        impl<V: Vector> Depth for $name<V> {
            type Piece = V;
            type X = V;
            type Sums = V;
            type Weights = V;
            const FLOAT: bool = true;
            const BYTES: usize = size_of::<$element>();
            const TAPS: usize = 1;
            const PREPARES: bool = $prepares;

            #[inline(always)]
            unsafe fn prepare(taps: [Option<*const u8>; 2], to: *mut u8) {
                let from = taps[0].unwrap_or(core::ptr::null()).cast::<$element>();
                for lane in (0..BLOCK).step_by(8) {
                    // SAFETY: the trait's.
                    unsafe { V8::$load(from.add(lane)).store(to.cast::<f32>().add(lane)) };
                }
            }

            #[inline(always)]
            unsafe fn begin(bias: *const u8) -> V {
                // SAFETY: the trait's.
                unsafe { V::load(bias.cast()) }
            }

            #[inline(always)]
            unsafe fn x(pixels: [*const u8; 2]) -> V {
                // SAFETY: the trait's.
                unsafe { V::$load(pixels[0].cast()) }
            }

            #[inline(always)]
            unsafe fn weights(at: *const u8) -> V {
                // SAFETY: the trait's.
                unsafe { V::load(at.cast()) }
            }

            #[inline(always)]
            unsafe fn multiply_add(sums: V, x: V, weights: V) -> V {
                // SAFETY: the trait's.
                unsafe { x.mul_add(weights, sums) }
            }

            #[inline(always)]
            unsafe fn clamp(sums: V, lo: f32, hi: f32, y: *mut u8) {
                // SAFETY: the trait's.
                unsafe { sums.max(V::splat(lo)).min(V::splat(hi)).$put(y.cast()) }
            }

            #[inline(always)]
            unsafe fn store(sums: V, to: *mut u32) {
                // SAFETY: the trait's.
                unsafe { sums.store(to.cast()) }
            }
        }
    };
}

float!(F32, f32, false, load, store);
float!(F16, u16, true, load_f16, store_f16);

/// int8, pairs of taps; `V` tells the width.
struct I8<V>(PhantomData<V>);

macro_rules! integer {
    ($piece:ty, $wide:literal, $int:ty, $zero:ident, $load:ident, $store:ident, |$a:ident, $b:ident| $widen:expr, |$sums:ident, $x:ident, $w:ident| $madd:expr) => {
        impl Depth for I8<$piece> {
            type Piece = $piece;
            type X = $int;
            type Sums = $int;
            type Weights = $int;
            const FLOAT: bool = false;
            const BYTES: usize = 1;
            const TAPS: usize = 2;
            const PREPARES: bool = true;
            const WIDE: bool = $wide;

            #[inline(always)]
            unsafe fn prepare(taps: [Option<*const u8>; 2], to: *mut u8) {
                // SAFETY: the trait's.
                unsafe {
                    let a = if let Some(tap) = taps[0] { _mm_loadu_si128(tap.cast()) } else { _mm_setzero_si128() };
                    let b = if let Some(tap) = taps[1] { _mm_loadu_si128(tap.cast()) } else { _mm_setzero_si128() };
                    _mm256_storeu_si256(to.cast(), _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)));
                    _mm256_storeu_si256(to.add(WEIGHT_BYTES / 2).cast(), _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b)));
                }
            }

            #[inline(always)]
            unsafe fn begin(_: *const u8) -> $int {
                // SAFETY: the trait's.
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn x(pixels: [*const u8; 2]) -> $int {
                let [$a, $b] = pixels;
                // SAFETY: the trait's.
                unsafe { $widen }
            }

            #[inline(always)]
            unsafe fn weights(at: *const u8) -> $int {
                // SAFETY: the trait's.
                unsafe { $load(at.cast()) }
            }

            #[inline(always)]
            unsafe fn multiply_add($sums: $int, $x: $int, $w: $int) -> $int {
                // SAFETY: the trait's.
                unsafe { $madd }
            }

            unsafe fn clamp(_: $int, _: f32, _: f32, _: *mut u8) {
                unreachable!("integers are scaled");
            }

            #[inline(always)]
            unsafe fn store(sums: $int, to: *mut u32) {
                // SAFETY: the trait's.
                unsafe { $store(to.cast(), sums) }
            }
        }
    };
}

integer!(
    V8,
    true,
    __m256i,
    _mm256_setzero_si256,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    |a, b| _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_loadl_epi64(a.cast()), _mm_loadl_epi64(b.cast()))),
    |sums, x, w| _mm256_add_epi32(sums, _mm256_madd_epi16(x, w))
);
integer!(
    V16,
    false,
    __m512i,
    _mm512_setzero_si512,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    |a, b| {
        let (a, b) = (_mm_loadu_si128(a.cast()), _mm_loadu_si128(b.cast()));
        _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)))
    },
    |sums, x, w| _mm512_dpwssd_epi32(sums, x, w)
);

/// int8 with AVX2, 16 channels of four outputs at once, sliding, with a plain last step.
///
/// ```text
/// pixels a, b   a0 .. a15 | b0 .. b15    widened to 16 bits, a vector each
/// interleaved   a0 b0 .. a3 b3 | a8 b8 .. a11 b11     and     a4 b4 .. a7 b7 | a12 b12 .. a15 b15
/// ```
///
/// So do the weights, biases and factors lie; packing two vectors of sums to 16 bits brings the channels into order again.
/// Rows are taken in pairs, of which a and b are the same column; a last row without a partner is taken in pairs of
/// neighbouring columns.
mod wide {
    use super::*;

    /// Channels of a block as two vectors: 0 to 3 with 8 to 11, 4 to 7 with 12 to 15.
    ///
    /// # Safety
    /// As [`Depth`]; `from` has 16 words of 32 bits.
    #[inline(always)]
    unsafe fn halves(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()));
            [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
        }
    }

    /// 16 codes, widened.
    ///
    /// # Safety
    /// As [`Depth`].
    #[inline(always)]
    unsafe fn widen(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    /// Prepares a block: interleaved weights in the order of use, biases, factors.
    ///
    /// # Safety
    /// As [`Depth`]; `packed` has all taps of the block.
    #[inline(always)]
    pub unsafe fn prepare<const KW: usize>(row: &Row, block: usize, packed: *const u8, to: *mut u8) {
        let mut to = to;
        // SAFETY: the caller's promise; vectors of channels are whole.
        unsafe {
            for ky in (0..row.kh).step_by(2) {
                let paired = ky + 1 < row.kh;
                for kx in (0..KW).step_by(if paired { 1 } else { 2 }) {
                    let tap = ky * KW + kx;
                    let a = widen(packed.add(tap * BLOCK));
                    let b = match (paired, kx + 1 < KW) {
                        (true, _) => widen(packed.add((tap + KW) * BLOCK)),
                        (false, true) => widen(packed.add((tap + 1) * BLOCK)),
                        (false, false) => _mm256_setzero_si256(),
                    };
                    _mm256_storeu_si256(to.cast(), _mm256_unpacklo_epi16(a, b));
                    _mm256_storeu_si256(to.add(32).cast(), _mm256_unpackhi_epi16(a, b));
                    to = to.add(WEIGHT_BYTES);
                }
            }
            for vector in [row.bias, row.scale.cast()] {
                let [low, high] = halves(vector.add(block * BLOCK * 4));
                _mm256_storeu_si256(to.cast(), low);
                _mm256_storeu_si256(to.add(32).cast(), high);
                to = to.add(WEIGHT_BYTES);
            }
        }
    }

    /// `sums + x * w`, the products of each word's two halves added.
    ///
    /// # Safety
    /// As [`Depth`]; `weights` is prepared.
    #[inline(always)]
    unsafe fn multiply_add(sums: &mut [__m256i; 2], x: [__m256i; 2], weights: *const u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm256_madd_epi16(x[0], _mm256_loadu_si256(weights.cast()));
            let high = _mm256_madd_epi16(x[1], _mm256_loadu_si256(weights.add(32).cast()));
            *sums = [_mm256_add_epi32(sums[0], low), _mm256_add_epi32(sums[1], high)];
        }
    }

    /// # Safety
    /// As [`Depth`].
    #[inline(always)]
    unsafe fn interleave(a: __m256i, b: __m256i) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)] }
    }

    /// The outputs whose columns are in the table, channels from `first` on.
    ///
    /// # Safety
    /// As [`Depth`]; 16 channels exist, the weights are prepared by [`prepare`], and the last step is a plain one.
    #[inline(always)]
    pub unsafe fn outputs<const KW: usize, const S: usize>(
        kh: usize,
        weights: *const u8,
        table: &Table,
        first: usize,
        last: &Last,
    ) {
        let columns = (N - 1) * S + KW;
        let pixel = |ky: usize, column: usize| {
            // SAFETY: the table holds all columns of all rows; channels from `first` on exist.
            unsafe { table.get_unchecked(ky * columns + column).assume_init().add(first) }
        };
        let end = weights.wrapping_add((kh / 2 * KW + kh % 2 * KW.div_ceil(2)) * WEIGHT_BYTES);
        let mut weights = weights;
        // SAFETY: the caller's promise.
        unsafe {
            let bias = [_mm256_loadu_si256(end.cast()), _mm256_loadu_si256(end.add(32).cast())];
            let mut sums = [bias; N];
            for ky in (0..kh - kh % 2).step_by(2) {
                for column in 0..columns {
                    let x = interleave(widen(pixel(ky, column)), widen(pixel(ky + 1, column)));
                    for n in 0..N {
                        if column >= n * S && column < n * S + KW {
                            multiply_add(&mut sums[n], x, weights.add((column - n * S) * WEIGHT_BYTES));
                        }
                    }
                }
                weights = weights.add(KW * WEIGHT_BYTES);
            }
            if kh % 2 == 1 {
                let mut here = widen(pixel(kh - 1, 0));
                for column in 0..columns {
                    // The last column's neighbour meets weight zero.
                    let next = if column + 1 < columns { widen(pixel(kh - 1, column + 1)) } else { here };
                    let x = interleave(here, next);
                    for n in 0..N {
                        if column >= n * S && column < n * S + KW && (column - n * S).is_multiple_of(2) {
                            multiply_add(&mut sums[n], x, weights.add((column - n * S) / 2 * WEIGHT_BYTES));
                        }
                    }
                    here = next;
                }
            }
            finish(sums, end.add(WEIGHT_BYTES), first, last);
        }
    }

    /// Scales, clamps, rounds and stores the sums.
    ///
    /// # Safety
    /// As [`outputs`]; `scale` holds prepared factors.
    #[inline(always)]
    unsafe fn finish(sums: [[__m256i; 2]; N], scale: *const u8, first: usize, last: &Last) {
        let e = last.epilogue;
        // SAFETY: the caller's promise.
        unsafe {
            let scale = [_mm256_loadu_ps(scale.cast()), _mm256_loadu_ps(scale.add(32).cast())];
            let (lo, hi) = (_mm256_set1_ps(e.lo), _mm256_set1_ps(e.hi));
            let zero = _mm256_set1_epi16(e.y_zero as i16);
            let mut words = [zero; N];
            for n in 0..N {
                let mut rounded = [zero; 2];
                for half in 0..2 {
                    let v = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[n][half]), scale[half]);
                    rounded[half] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi));
                }
                words[n] = _mm256_adds_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), zero);
            }
            for n in (0..N).step_by(2) {
                let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(words[n], words[n + 1]));
                if n < last.rows {
                    _mm_storeu_si128((*last.y.add(n)).add(first).cast(), _mm256_castsi256_si128(codes));
                }
                if n + 1 < last.rows {
                    _mm_storeu_si128((*last.y.add(n + 1)).add(first).cast(), _mm256_extracti128_si256::<1>(codes));
                }
            }
        }
    }
}

/// Where four outputs read their input: by (kernel row, column) when sliding, else by (tap, output).
type Table = [MaybeUninit<*const u8>; MAX_TAPS * N];

/// A pass over one row: some blocks of channels with their weights. `KW` taps of distance 1 slide along the row, outputs
/// `S` columns apart; a `KW` of 0 walks a list of taps.
struct Pass<'a, I, D, const PIECES: usize, const SPARSE: bool, const KW: usize, const S: usize> {
    row: &'a Row,
    /// Per block: weights, kept taps (sparse), and their number.
    blocks: [(*const u8, *const u16, usize); MAX_BLOCKS],
    depth: PhantomData<(I, D)>,
}

/// # Safety
/// As [`RowMicro::row`]; the CPU has `D`'s features.
#[inline(always)]
unsafe fn row<I: Isa, D: Depth, const PIECES: usize, const SPARSE: bool>(row: &Row) {
    // Multiplies of a block: those of all taps in pairs of a list, or of rows.
    let most = (row.kh.div_ceil(D::TAPS) * row.kw).max((row.kh * row.kw).div_ceil(D::TAPS)) + 2 * usize::from(D::WIDE);
    let step = if D::PREPARES { (PREPARED / WEIGHT_BYTES / most).clamp(1, MAX_BLOCKS) } else { MAX_BLOCKS };
    let blocks = row.channels.div_ceil(BLOCK);
    let mut packed = (row.weights, row.positions);
    for first in (0..blocks).step_by(step) {
        let some = first..blocks.min(first + step);
        // SAFETY: the blocks exist; `packed` stands behind the blocks before.
        packed = unsafe {
            match (!SPARSE && row.dil_w == 1, row.kw, row.stride_w) {
                (true, 3, 1) => Pass::<I, D, PIECES, SPARSE, 3, 1>::run(row, some, most, packed),
                (true, 3, 2) => Pass::<I, D, PIECES, SPARSE, 3, 2>::run(row, some, most, packed),
                (true, 5, 1) => Pass::<I, D, PIECES, SPARSE, 5, 1>::run(row, some, most, packed),
                (true, 5, 2) => Pass::<I, D, PIECES, SPARSE, 5, 2>::run(row, some, most, packed),
                _ => Pass::<I, D, PIECES, SPARSE, 0, 1>::run(row, some, most, packed),
            }
        };
    }
}

impl<'a, I: Isa, D: Depth, const PIECES: usize, const SPARSE: bool, const KW: usize, const S: usize>
    Pass<'a, I, D, PIECES, SPARSE, KW, S>
{
    /// Columns four outputs read.
    const COLUMNS: usize = (N - 1) * S + KW;
    /// Channels of a piece.
    const LANES: usize = D::Piece::LANES;

    /// Computes some blocks of the row, whose packed weights and positions begin at `packed`; returns where they end.
    ///
    /// # Safety
    /// As [`row`]; at most [`MAX_BLOCKS`] blocks, of at most `most` multiplies each, and prepared ones fit the buffer.
    #[inline(always)]
    unsafe fn run(
        row: &'a Row,
        blocks: Range<usize>,
        most: usize,
        packed: (*const u8, *const u16),
    ) -> (*const u8, *const u16) {
        let mut prepared = Prepared([const { MaybeUninit::uninit() }; PREPARED]);
        let mut pass =
            Self { row, blocks: [(core::ptr::null(), core::ptr::null(), 0); MAX_BLOCKS], depth: PhantomData };
        let mut table = [const { MaybeUninit::uninit() }; MAX_TAPS * N];
        // SAFETY: the caller's promise.
        unsafe {
            let end = pass.prepare(blocks.clone(), most, packed, prepared.0.as_mut_ptr().cast());
            for ox in (0..row.out_w).step_by(N) {
                pass.fill(ox, &mut table);
                pass.group(ox, blocks.clone(), &table);
            }
            end
        }
    }

    /// Whether [`wide`] takes this block.
    #[inline(always)]
    fn wide(&self, block: usize) -> bool {
        let row = self.row;
        D::WIDE
            && KW > 0
            && (block + 1) * BLOCK <= row.channels
            && row.residual.is_null()
            && row.epilogue.output == DType::I8 as u32
            && row.epilogue.activation == Activation::Clamp as u32
    }

    /// Notes where each block's weights are, prepared if need be.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn prepare(
        &mut self,
        blocks: Range<usize>,
        most: usize,
        packed: (*const u8, *const u16),
        to: *mut u8,
    ) -> (*const u8, *const u16) {
        let row = self.row;
        let (mut packed, mut positions) = packed;
        for (n, block) in blocks.enumerate() {
            // SAFETY: a block has a count, and as many taps of packed weights and positions.
            unsafe {
                let count = if SPARSE { usize::from(*row.counts.add(block)) } else { row.kh * row.kw };
                let to = to.wrapping_add(n * most * WEIGHT_BYTES);
                let at =
                    |tap: usize| if tap < count { Some(packed.wrapping_add(tap * BLOCK * D::BYTES)) } else { None };
                if self.wide(block) {
                    wide::prepare::<KW>(row, block, packed, to);
                } else if D::PREPARES && KW > 0 {
                    for n in 0..row.kh.div_ceil(D::TAPS) * KW {
                        let tap = n / KW * D::TAPS * KW + n % KW;
                        D::prepare([at(tap), at(tap + KW)], to.add(n * WEIGHT_BYTES));
                    }
                } else if D::PREPARES {
                    for n in 0..count.div_ceil(D::TAPS) {
                        D::prepare([at(n * D::TAPS), at(n * D::TAPS + 1)], to.add(n * WEIGHT_BYTES));
                    }
                }
                self.blocks[n] = (if D::PREPARES { to.cast_const() } else { packed }, positions, count);
                packed = packed.add(count * BLOCK * D::BYTES);
                if SPARSE {
                    positions = positions.add(count);
                }
            }
        }
        (packed, positions)
    }

    /// Where the outputs from `ox` on read their input; outputs past the row read the pad or what its last one reads.
    ///
    /// # Safety
    /// As [`row`].
    #[inline(always)]
    unsafe fn fill(&self, ox: usize, table: &mut Table) {
        let row = self.row;
        if KW == 0 {
            for tap in 0..row.kh * row.kw {
                for n in 0..N {
                    // SAFETY: tap and output exist.
                    table[tap * N + n]
                        .write(unsafe { row.tap((ox + n).min(row.out_w - 1), tap / row.kw, tap % row.kw) });
                }
            }
            return;
        }
        let first = (ox * S) as isize - row.pad_left;
        let inside = first >= 0 && first as usize + Self::COLUMNS <= row.in_w;
        for (ky, columns) in table.chunks_exact_mut(Self::COLUMNS).enumerate().take(row.kh) {
            // SAFETY: `inputs` has `kh` rows.
            let input = unsafe { *row.inputs.add(ky) };
            for (n, column) in columns.iter_mut().enumerate() {
                let ix = first + n as isize;
                let there = inside || (ix as usize) < row.in_w;
                column.write(if there { input.start.wrapping_add(ix as usize * input.step) } else { row.pad });
            }
        }
    }

    /// Computes the outputs from `ox` on, whose table is filled, in these blocks.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn group(&self, ox: usize, blocks: Range<usize>, table: &Table) {
        let row = self.row;
        let (mut y, mut residual) = ([row.y; N], [row.residual; N]);
        for n in 0..N {
            let at = (ox + n).min(row.out_w - 1);
            y[n] = row.y.wrapping_add(at * row.y_step);
            residual[n] = row.residual.wrapping_add(at * row.residual_step);
        }
        let last = Last {
            y: y.as_ptr(),
            residual: if row.residual.is_null() { core::ptr::null() } else { residual.as_ptr() },
            bias: row.bias,
            scale: row.scale,
            slopes: row.slopes,
            channels: row.channels,
            rows: (row.out_w - ox).min(N),
            epilogue: &row.epilogue,
        };
        for (n, block) in blocks.enumerate() {
            if self.wide(block) {
                // SAFETY: the block is whole, the last step plain, and the weights are prepared so.
                unsafe { wide::outputs::<KW, S>(row.kh, self.blocks[n].0, table, block * BLOCK, &last) };
                continue;
            }
            let channels = block * BLOCK..row.channels.min((block + 1) * BLOCK);
            let mut first = channels.start;
            while first < channels.end {
                // SAFETY: the pieces begin below `channels.end`, and end above it only in the last case.
                unsafe {
                    if first + PIECES * Self::LANES <= channels.end {
                        self.pieces::<PIECES>(n, first, table, &last);
                        first += PIECES * Self::LANES;
                        continue;
                    }
                    if first + Self::LANES <= channels.end {
                        self.pieces::<1>(n, first, table, &last);
                    } else {
                        self.cut_off(n, first, table, &last);
                    }
                    first += Self::LANES;
                }
            }
        }
    }

    /// A piece of which only the first channels exist, on copies of its pixels.
    ///
    /// # Safety
    /// As [`Self::pieces`], but some channels are missing.
    #[inline(always)]
    unsafe fn cut_off(&self, n: usize, first: usize, table: &Table, last: &Last) {
        let row = self.row;
        let mut pixels = [[const { MaybeUninit::<u8>::zeroed() }; 4 * BLOCK]; MAX_TAPS * N];
        let mut copies = [const { MaybeUninit::uninit() }; MAX_TAPS * N];
        let entries = if KW > 0 { row.kh * Self::COLUMNS } else { row.kh * row.kw * N };
        for entry in 0..entries {
            let copy = pixels[entry].as_mut_ptr().cast::<u8>();
            // SAFETY: a pixel has the row's channels; a piece fits the copy.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    Self::look(table, entry).add(first * D::BYTES),
                    copy,
                    (row.channels - first) * D::BYTES,
                )
            };
            copies[entry].write(copy.cast_const().wrapping_sub(first * D::BYTES));
        }
        // SAFETY: the caller's promise; the copies have all channels of the piece.
        unsafe { self.pieces::<1>(n, first, &copies, last) };
    }

    /// `C` pieces, 1 or 2, from channel `first` on, of the pass's block `n`.
    ///
    /// # Safety
    /// As [`Self::run`]; the pieces exist.
    #[inline(always)]
    unsafe fn pieces<const C: usize>(&self, n: usize, first: usize, table: &Table, last: &Last) {
        let (weights, positions, count) = self.blocks[n];
        let row = self.row;
        let mut buffer = [const { MaybeUninit::<u32>::uninit() }; N * BLOCK];
        let buffer = buffer.as_mut_ptr().cast::<u32>();
        // SAFETY: the caller's promise.
        unsafe {
            let weights = weights.add(first % BLOCK * 4);
            let mut sums = [[D::begin(row.bias.add(first * 4)); C]; N];
            for c in 1..C {
                for sums in &mut sums {
                    sums[c] = D::begin(row.bias.add((first + c * Self::LANES) * 4));
                }
            }
            if KW > 0 {
                Self::slide::<C>(&mut sums, weights, table, (row.kh, first));
            } else {
                Self::list::<C>(&mut sums, weights, table, (positions, count, first));
            }
            let whole = first + C * Self::LANES <= row.channels;
            if D::FLOAT && whole && is_clamp(last.residual, last.epilogue) {
                for (n, sums) in sums.iter().enumerate() {
                    // An output past the row is none; a `take` would keep the sums out of registers.
                    if n >= last.rows {
                        return;
                    }
                    for (c, sums) in sums.iter().enumerate() {
                        let y = (*last.y.add(n)).add((first + c * Self::LANES) * D::BYTES);
                        D::clamp(*sums, last.epilogue.lo, last.epilogue.hi, y);
                    }
                }
                return;
            }
            for (n, sums) in sums.iter().enumerate() {
                for (c, sums) in sums.iter().enumerate() {
                    D::store(*sums, buffer.add((n * C + c) * Self::LANES));
                }
            }
            match (C, D::FLOAT) {
                (1, true) => I::finish::<D::Piece, true>(last, first, buffer),
                (1, false) => I::finish::<D::Piece, false>(last, first, buffer),
                (_, true) => I::finish::<Two<D::Piece>, true>(last, first, buffer),
                (_, false) => I::finish::<Two<D::Piece>, false>(last, first, buffer),
            }
        }
    }

    /// # Safety
    /// As [`Self::pieces`].
    #[inline(always)]
    unsafe fn slide<const C: usize>(
        sums: &mut [[D::Sums; C]; N],
        weights: *const u8,
        table: &Table,
        (kh, first): (usize, usize),
    ) {
        for rows in 0..kh.div_ceil(D::TAPS) {
            let upper = rows * D::TAPS;
            let lower = (upper + D::TAPS - 1).min(kh - 1);
            let weights = weights.wrapping_add(rows * KW * WEIGHT_BYTES);
            // SAFETY: the caller's promise.
            unsafe {
                for column in 0..Self::COLUMNS {
                    let pixels = [
                        Self::look(table, upper * Self::COLUMNS + column),
                        Self::look(table, lower * Self::COLUMNS + column),
                    ];
                    for c in 0..C {
                        let x = D::x([
                            pixels[0].add((first + c * Self::LANES) * D::BYTES),
                            pixels[1].add((first + c * Self::LANES) * D::BYTES),
                        ]);
                        for n in 0..N {
                            if column >= n * S && column < n * S + KW {
                                let weights =
                                    D::weights(weights.add((column - n * S) * WEIGHT_BYTES + c * Self::LANES * 4));
                                sums[n][c] = D::multiply_add(sums[n][c], x, weights);
                            }
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::pieces`].
    #[inline(always)]
    unsafe fn list<const C: usize>(
        sums: &mut [[D::Sums; C]; N],
        weights: *const u8,
        table: &Table,
        (positions, count, first): (*const u16, usize, usize),
    ) {
        // SAFETY: the caller's promise; positions are below the number of taps.
        unsafe {
            for at in (0..count).step_by(D::TAPS) {
                let mut taps = (at, (at + D::TAPS - 1).min(count - 1));
                if SPARSE {
                    taps = (usize::from(*positions.add(taps.0)), usize::from(*positions.add(taps.1)));
                }
                for c in 0..C {
                    let weights = D::weights(weights.add(at / D::TAPS * WEIGHT_BYTES + c * Self::LANES * 4));
                    for n in 0..N {
                        let pixels = [Self::look(table, taps.0 * N + n), Self::look(table, taps.1 * N + n)];
                        sums[n][c] = D::multiply_add(
                            sums[n][c],
                            D::x([
                                pixels[0].add((first + c * Self::LANES) * D::BYTES),
                                pixels[1].add((first + c * Self::LANES) * D::BYTES),
                            ]),
                            weights,
                        );
                    }
                }
            }
        }
    }

    /// # Safety
    /// The entry is filled.
    #[inline(always)]
    unsafe fn look(table: &Table, at: usize) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe { table.get_unchecked(at).assume_init() }
    }
}

/// Prepared weights.
#[repr(C, align(64))]
struct Prepared([MaybeUninit<u8>; PREPARED]);

macro_rules! catalogue {
    ($(#[$doc:meta])* $catalogue:ident, $isa:ty, $requires:expr, $features:literal, $pieces:literal;
     $($name:literal, $micro:ident, $layout:ident, $depth:ty, $sparse:literal $(, $square:ty)?;)*) => {
        $(
            struct $micro;

            impl RowMicro for $micro {
                $(
                    const ROWS: usize = <$square as square::Square>::ROWS;

                    #[target_feature(enable = $features)]
                    unsafe fn prepare(row: &Row) -> u32 {
                        // SAFETY: the caller's promise.
                        u32::from(unsafe { <$square as square::Square>::suits(row) })
                    }
                )?

                #[target_feature(enable = $features)]
                unsafe fn row(at: &Row) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        $(if square::accepts::<$square>(at) {
                            return square::rows::<$square>(at);
                        })?
                        for n in 0..at.rows {
                            row::<$isa, $depth, $pieces, $sparse>(&at.one(n));
                        }
                    }
                }
            }
        )*

        $(#[$doc])*
        pub(crate) const $catalogue: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Depthwise,
            requires: $requires,
            accepts: |call| accepts(call, Layout::$layout),
            units,
            run: drive::<$micro>,
        }),*];
    };
}

catalogue! {
    /// Depthwise convolutions with AVX2.
    AVX2_CATALOGUE, Avx2, AVX2, "avx2,fma,f16c", 2;
    "depthwise_f32_avx2", DepthwiseF32Avx2, DepthwiseF32, F32<V8>, false;
    "depthwise_f16_avx2", DepthwiseF16Avx2, DepthwiseF16, F16<V8>, false;
    "depthwise_i8_avx2", DepthwiseI8Avx2, DepthwiseI8, I8<V8>, false;
    "spdepthwise_f32_avx2", SpdepthwiseF32Avx2, SparseDepthwiseF32, F32<V8>, true;
    "spdepthwise_f16_avx2", SpdepthwiseF16Avx2, SparseDepthwiseF16, F16<V8>, true;
    "spdepthwise_i8_avx2", SpdepthwiseI8Avx2, SparseDepthwiseI8, I8<V8>, true;
}

catalogue! {
    /// Depthwise convolutions with AVX-512.
    AVX512_CATALOGUE, Avx512, AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl", 1;
    "depthwise_f32_avx512", DepthwiseF32Avx512, DepthwiseF32, F32<V16>, false, square::Float<f32>;
    "depthwise_f16_avx512", DepthwiseF16Avx512, DepthwiseF16, F16<V16>, false, square::Float<u16>;
    "spdepthwise_f32_avx512", SpdepthwiseF32Avx512, SparseDepthwiseF32, F32<V16>, true;
    "spdepthwise_f16_avx512", SpdepthwiseF16Avx512, SparseDepthwiseF16, F16<V16>, true;
}

catalogue! {
    /// Integer depthwise convolutions with AVX-512 VNNI.
    VNNI_CATALOGUE, Avx512, VNNI, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", 1;
    "depthwise_i8_avx512vnni", DepthwiseI8Vnni, DepthwiseI8, I8<V16>, false, square::I8;
    "spdepthwise_i8_avx512vnni", SpdepthwiseI8Vnni, SparseDepthwiseI8, I8<V16>, true;
}
