//! The multiply-add step of each precision and instruction set: what is staged, what a unit of weights is, how the two
//! are multiplied.
//!
//! ```text
//! float      x: f32                    w: one vector of f32, or of f16 converted      sum += broadcast(x) * w
//! int8 AVX2  x: i8 widened to i16      w: i8 widened to i16, [channel][4]             sum += pmaddwd(broadcast(4 x), w)
//! int8 VNNI  x: i8 + 128 as u8         w: i8, [channel][4]                            sum += vpdpbusd(broadcast(4 x), w)
//! ```
//!
//! `pmaddubsw`, the byte multiply of AVX2, saturates, so AVX2 multiplies words here, exact for every input; [`bytes`] is faster
//! where most weights are small ones. Each of `pmaddwd`'s results is a sum over half a unit; the two halves
//! of a channel meet in [`Arithmetic::store`]. `vpdpbusd` wants one unsigned operand: activations are shifted by 128 when
//! they are staged, and 128 times the sum of a channel's weights is taken off its bias, once for all tiles of a unit of work.
//!
//! [`bytes`]: super::conv::bytes

use crate::finish::{Plain, TWO_23, are_small, store_codes, store_whole};
use crate::vector::{Edge, Two, V4, V8, V16, Vector};
use core::arch::x86_64::*;
use core::marker::PhantomData;
use sparrow_kernels::conv::Tile;
use sparrow_kernels::{Activation, DType};

/// A multiply-add step for a block of output channels, which is made of `PARTS` parts of `LANES` channels.
///
/// # Safety
/// Every method requires a CPU with the instance's features, and pointers valid for what the method says.
pub(crate) trait Arithmetic {
    /// A staged activation.
    type X: Copy;
    /// The weights of one unit and part.
    type Weights: Copy;
    /// The sums of one row and part.
    type Sums: Copy;
    /// Vector as wide as a block.
    type Block: Vector;
    /// Whether sums are floats.
    const FLOAT: bool;
    /// Whether sums begin with the bias, or with what [`Self::raise`] made of it; else with zero.
    const BIASED: bool;
    /// Whether [`Self::raise`] is wanted.
    const RAISED: bool = false;
    /// What the bytes of an activation are changed by, if all that staging does to them is an exclusive or.
    const FLIP: i8 = 0;
    /// Bytes of an activation in memory.
    const X_BYTES: usize;
    /// Positions of a unit.
    const STEP: usize;
    /// Channels of a part.
    const LANES: usize;
    /// Bytes of a unit's weights of one part.
    const PART_BYTES: usize;

    /// Parts of a block.
    const PARTS: usize = Self::Block::LANES / Self::LANES;
    /// Whether staging changes nothing: activations lie in memory as they are multiplied.
    const IN_PLACE: bool = Self::FLOAT && Self::X_BYTES == size_of::<Self::X>();
    /// Bytes of a unit's weights.
    const UNIT_BYTES: usize = Self::PARTS * Self::PART_BYTES;

    /// Copies `count` activations from memory, rounded up to whole units; what lies behind them, up to 31 bytes, is lost.
    unsafe fn stage(from: *const u8, to: *mut Self::X, count: usize);
    /// No sums yet: the bias of a part, if there is one and it is not null, else zero.
    unsafe fn begin(bias: *const u8) -> Self::Sums;
    /// Writes what the sums of a block, whose weights are `units`, begin with.
    unsafe fn raise(_bias: *const u8, _weights: *const u8, _units: usize, _to: *mut u8) {}
    /// Whether sums may begin with what [`Self::raise`] left and 2^23's bits, which it adds then: the second bit of the hint.
    /// `products` is the most that a channel has.
    ///
    /// # Safety
    /// As [`Self::hint`], which has said yes; the room holds a word for each channel, rounded up to 16.
    unsafe fn float_bits(_tile: &Tile, _products: usize) -> bool {
        false
    }

    /// What [`Self::finishes`] wants to know of the channels of a unit's tiles, as the lowest bit of their hint.
    unsafe fn hint(_tile: &Tile) -> u32 {
        0
    }
    /// Loads a unit's weights of one part.
    unsafe fn weights(at: *const u8) -> Self::Weights;
    /// Multiplies a unit, `STEP` staged activations, in.
    unsafe fn multiply_add(sums: Self::Sums, x: *const Self::X, weights: Self::Weights) -> Self::Sums;
    /// Whether [`Self::finish`] can do the last step of a tile.
    fn finishes(tile: &Tile) -> bool;
    /// The last step of some parts from `column` on, straight to the output.
    unsafe fn finish<const R: usize, const C: usize>(sums: &[[Self::Sums; C]; R], tile: &Tile, column: usize);
    /// Stores `LANES` sums, or adds them to those there.
    unsafe fn store(sums: Self::Sums, to: *mut u32, add: bool);
}

/// f32 activations and weights; a block is one `V`.
pub(crate) struct F32<V>(PhantomData<V>);

/// f16 activations and weights, f32 sums.
pub(crate) struct F16<V>(PhantomData<V>);

macro_rules! float {
    ($name:ident, $bytes:literal, $element:ty, $load_all:ident $load_first:ident $put:ident $put_first:ident, |$at:ident| $load:expr, |$from:ident, $to:ident, $count:ident| $stage:expr) => {
        impl<V: Edge> Arithmetic for $name<V> {
            type X = f32;
            type Weights = V;
            type Sums = V;
            type Block = V;
            const FLOAT: bool = true;
            const BIASED: bool = true;
            const X_BYTES: usize = $bytes;
            const STEP: usize = 1;
            const LANES: usize = V::LANES;
            const PART_BYTES: usize = V::LANES * $bytes;

            #[inline(always)]
            unsafe fn stage(from: *const u8, $to: *mut f32, $count: usize) {
                let $from = from.cast::<$element>();
                // SAFETY: the trait's.
                unsafe { $stage }
            }

            #[inline(always)]
            unsafe fn begin(bias: *const u8) -> V {
                // SAFETY: the trait's.
                unsafe { if bias.is_null() { V::splat(0.0) } else { V::load(bias.cast()) } }
            }

            #[inline(always)]
            unsafe fn weights(at: *const u8) -> V {
                let $at = at.cast::<$element>();
                // SAFETY: the trait's.
                unsafe { $load }
            }

            #[inline(always)]
            unsafe fn multiply_add(sums: V, x: *const f32, weights: V) -> V {
                // SAFETY: the trait's.
                unsafe { V::splat(*x).mul_add(weights, sums) }
            }

            #[inline(always)]
            fn finishes(tile: &Tile) -> bool {
                let whole = tile.channels.is_multiple_of(V::LANES);
                tile.epilogue.activation == Activation::Clamp as u32 && (whole || V::CUTS)
            }

            #[inline(always)]
            unsafe fn finish<const R: usize, const C: usize>(sums: &[[V; C]; R], tile: &Tile, column: usize) {
                // SAFETY: the trait's; channels that are cut off are left out.
                unsafe {
                    let (lo, hi) = (V::splat(tile.epilogue.lo), V::splat(tile.epilogue.hi));
                    let channel = column * V::LANES;
                    let whole = !V::CUTS || channel + C * V::LANES <= tile.channels;
                    for (row, sums) in sums.iter().enumerate() {
                        let y = (*tile.y.add(row)).cast::<$element>();
                        for (c, sums) in sums.iter().enumerate() {
                            let (mut sums, first) = (*sums, channel + c * V::LANES);
                            let there = tile.channels - first;
                            if !tile.residual.is_null() {
                                let residual = (*tile.residual.add(row)).cast::<$element>().add(first);
                                sums = sums.add(if whole {
                                    V::$load_all(residual)
                                } else {
                                    V::$load_first(residual, there)
                                });
                            }
                            let v = sums.max(lo).min(hi);
                            if whole { v.$put(y.add(first)) } else { v.$put_first(y.add(first), there) }
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn store(sums: V, to: *mut u32, add: bool) {
                let to = to.cast::<f32>();
                // SAFETY: the trait's.
                unsafe { if add { V::load(to).add(sums).store(to) } else { sums.store(to) } }
            }
        }
    };
}

float!(F32, 4, f32, load load_first store store_first, |at| V::load(at), |from, to, count| {
    if count >= 8 {
        for i in (0..count - 7).step_by(8) {
            V8::load(from.add(i)).store(to.add(i));
        }
        // The last eight, most of them for the second time.
        V8::load(from.add(count - 8)).store(to.add(count - 8));
    } else {
        for i in 0..count {
            *to.add(i) = from.add(i).read_unaligned();
        }
    }
});

float!(F16, 2, u16, load_f16 load_first_f16 store_f16 store_first_f16, |at| V::load_f16(at), |from, to, count| {
    let whole = count / 8 * 8;
    for i in (0..whole).step_by(8) {
        V8::load_f16(from.add(i)).store(to.add(i));
    }
    for i in whole..count {
        *to.add(i) = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(from.add(i).read_unaligned()))));
    }
});

/// int8 with AVX2: blocks as wide as `B`, parts of `N` vectors of 4 channels.
pub(crate) struct I8Avx2<B, const N: usize>(PhantomData<B>);

impl<B: Vector, const N: usize> Arithmetic for I8Avx2<B, N> {
    type X = i16;
    type Weights = [__m256i; N];
    type Sums = [__m256i; N];
    type Block = B;
    const FLOAT: bool = false;
    const BIASED: bool = false;
    const X_BYTES: usize = 1;
    const STEP: usize = 4;
    const LANES: usize = 4 * N;
    const PART_BYTES: usize = 16 * N;

    #[inline(always)]
    unsafe fn stage(from: *const u8, to: *mut i16, count: usize) {
        // SAFETY: the trait's.
        unsafe {
            let whole = count / 16 * 16;
            for i in (0..whole).step_by(16) {
                _mm256_storeu_si256(to.add(i).cast(), _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(i).cast())));
            }
            for i in (whole..count).step_by(4) {
                _mm_storel_epi64(
                    to.add(i).cast(),
                    _mm_cvtepi8_epi16(_mm_cvtsi32_si128(from.add(i).cast::<i32>().read_unaligned())),
                );
            }
        }
    }

    #[inline(always)]
    unsafe fn begin(_: *const u8) -> [__m256i; N] {
        // SAFETY: the trait's.
        [unsafe { _mm256_setzero_si256() }; N]
    }

    #[inline(always)]
    unsafe fn weights(at: *const u8) -> [__m256i; N] {
        // SAFETY: the trait's.
        unsafe {
            let mut weights = [_mm256_setzero_si256(); N];
            for (i, w) in weights.iter_mut().enumerate() {
                *w = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16 * i).cast()));
            }
            weights
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(mut sums: [__m256i; N], x: *const i16, weights: [__m256i; N]) -> [__m256i; N] {
        // SAFETY: the trait's.
        unsafe {
            let x = _mm256_set1_epi64x(x.cast::<i64>().read_unaligned());
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
            }
            sums
        }
    }

    fn finishes(_: &Tile) -> bool {
        false
    }

    unsafe fn finish<const R: usize, const C: usize>(_: &[[[__m256i; N]; C]; R], _: &Tile, _: usize) {
        unreachable!("it finishes no tile");
    }

    #[inline(always)]
    unsafe fn store(sums: [__m256i; N], to: *mut u32, add: bool) {
        let to = to.cast::<i32>();
        // SAFETY: the trait's. With N = 1 the upper half of the result is a copy, and is not stored.
        unsafe {
            let pairs = _mm256_hadd_epi32(sums[0], sums[N - 1]);
            let v = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            if N == 1 {
                let low = _mm256_castsi256_si128(v);
                V4::store_int(if add { _mm_add_epi32(low, V4::load_int(to)) } else { low }, to);
            } else {
                V8::store_int(if add { _mm256_add_epi32(v, V8::load_int(to)) } else { v }, to);
            }
        }
    }
}

/// int8 with VNNI; a block is one vector.
pub(crate) struct I8Vnni<B>(PhantomData<B>);

macro_rules! vnni {
    ($block:ty, $int:ty, $splat:ident, $zero:ident, $load:ident, $dot:ident, $sub:ident, $finishes:ident, $finish:ident, $float_bits:ident) => {
        impl Arithmetic for I8Vnni<$block> {
            type X = u8;
            type Weights = $int;
            type Sums = $int;
            type Block = $block;
            const FLOAT: bool = false;
            const BIASED: bool = true;
            const RAISED: bool = true;
            const FLIP: i8 = -128;
            const X_BYTES: usize = 1;
            const STEP: usize = 4;
            const LANES: usize = <$block>::LANES;
            const PART_BYTES: usize = 4 * <$block>::LANES;

            #[inline(always)]
            unsafe fn stage(from: *const u8, to: *mut u8, count: usize) {
                // SAFETY: the trait's.
                unsafe {
                    let shift = _mm256_set1_epi8(Self::FLIP);
                    let put = |i: usize, x: __m256i| _mm256_storeu_si256(to.add(i).cast(), _mm256_xor_si256(shift, x));
                    let whole = count / 32 * 32;
                    for i in (0..whole).step_by(32) {
                        put(i, _mm256_loadu_si256(from.add(i).cast()));
                    }
                    if whole < count {
                        put(whole, _mm256_maskz_loadu_epi8((1 << (count - whole)) - 1, from.add(whole).cast()));
                    }
                }
            }

            #[inline(always)]
            unsafe fn begin(raised: *const u8) -> $int {
                // SAFETY: the trait's.
                unsafe { if raised.is_null() { $zero() } else { $load(raised.cast()) } }
            }

            #[inline(always)]
            unsafe fn raise(bias: *const u8, weights: *const u8, units: usize, to: *mut u8) {
                // SAFETY: the trait's.
                unsafe {
                    // Four sums, none of which waits for another.
                    let mut shift = [$zero(); 4];
                    let mut add = |n: usize, to: usize| {
                        let weights = Self::weights(weights.add(n * Self::PART_BYTES));
                        shift[to] = $dot(shift[to], $splat(0x8080_8080u32 as i32), weights);
                    };
                    for n in (0..units / 4 * 4).step_by(4) {
                        (0..4).for_each(|i| add(n + i, i));
                    }
                    (units / 4 * 4..units).for_each(|n| add(n, 0));
                    let [a, b, c, d] = shift;
                    let shift = <$block>::add_int(<$block>::add_int(a, b), <$block>::add_int(c, d));
                    <$block>::store_int($sub($load(bias.cast()), shift), to.cast());
                }
            }

            #[inline(always)]
            unsafe fn weights(at: *const u8) -> $int {
                // SAFETY: the trait's.
                unsafe { $load(at.cast()) }
            }

            #[inline(always)]
            unsafe fn multiply_add(sums: $int, x: *const u8, weights: $int) -> $int {
                // SAFETY: the trait's.
                unsafe { $dot(sums, $splat(x.cast::<i32>().read_unaligned()), weights) }
            }

            #[inline(always)]
            unsafe fn hint(tile: &Tile) -> u32 {
                // SAFETY: the trait's.
                u32::from(unsafe { are_small(tile.scale, tile.bias, tile.channels, tile.taps * tile.kc) })
            }

            #[inline(always)]
            unsafe fn float_bits(tile: &Tile, products: usize) -> bool {
                // SAFETY: the trait's.
                unsafe { $float_bits(tile, products) }
            }

            #[inline(always)]
            fn finishes(tile: &Tile) -> bool {
                $finishes(tile)
            }

            #[inline(always)]
            unsafe fn finish<const R: usize, const C: usize>(sums: &[[$int; C]; R], tile: &Tile, column: usize) {
                // SAFETY: the trait's.
                unsafe { $finish(sums, tile, column) }
            }

            #[inline(always)]
            unsafe fn store(sums: $int, to: *mut u32, add: bool) {
                let to = to.cast::<i32>();
                // SAFETY: the trait's.
                unsafe {
                    let before = if add { <$block>::load_int(to) } else { $zero() };
                    <$block>::store_int(<$block>::add_int(sums, before), to);
                }
            }
        }
    };
}

/// Whether [`finish_i8`] can do the last step.
#[inline(always)]
fn finishes_i8(tile: &Tile) -> bool {
    const I8: u32 = DType::I8 as u32;
    const F32: u32 = DType::F32 as u32;
    let clamp = tile.epilogue.activation == Activation::Clamp as u32;
    let small = tile.hint % 2 == 1;
    clamp && (tile.epilogue.output == I8 && small || tile.epilogue.output == F32 && tile.residual.is_null())
}

/// Codes of blocks of 16 channels, four rows at a time, or floats.
///
/// # Safety
/// As [`Arithmetic::finish`].
#[inline(always)]
unsafe fn finish_i8<const R: usize, const C: usize>(sums: &[[__m512i; C]; R], tile: &Tile, column: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = Plain::new(&tile.epilogue);
        let floats = tile.hint & 2 != 0;
        let codes = tile.residual.is_null() && tile.epilogue.output == DType::I8 as u32;
        let mut c = 0;
        while c < C {
            let first = (column + c) * 16;
            let there = tile.channels.saturating_sub(first);
            if c + 1 < C && there >= 32 && codes {
                if floats {
                    finish_two::<R, C, true>(sums, tile, column, c, &plain);
                } else {
                    finish_two::<R, C, false>(sums, tile, column, c, &plain);
                }
                c += 2;
                continue;
            }
            if there >= 16 && codes {
                if floats {
                    finish_one::<R, C, true>(sums, tile, column, c, &plain);
                } else {
                    finish_one::<R, C, false>(sums, tile, column, c, &plain);
                }
                c += 1;
                continue;
            }
            let scale = _mm512_loadu_ps(tile.scale.add(first));
            if tile.epilogue.output == DType::F32 as u32 {
                let (lo, hi) = (_mm512_set1_ps(tile.epilogue.lo), _mm512_set1_ps(tile.epilogue.hi));
                for row in 0..R {
                    let v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][c]), scale);
                    let y = (*tile.y.add(row)).cast::<f32>().add(first);
                    _mm512_mask_storeu_ps(y, crate::vector::first(there), _mm512_min_ps(_mm512_max_ps(v, lo), hi));
                }
                c += 1;
                continue;
            }
            // A copy, so that they are in memory here alone.
            let less = _mm512_set1_epi32(if floats { TWO_23 } else { 0 });
            let mut integers = [less; R];
            for row in 0..R {
                integers[row] = _mm512_sub_epi32(sums[row][c], less);
            }
            for row in (0..R).step_by(4) {
                let four: [__m512i; 4] = core::array::from_fn(|n| integers[(row + n).min(R - 1)]);
                let y: [*mut u8; 4] = core::array::from_fn(|n| (*tile.y.add((row + n).min(R - 1))).wrapping_add(first));
                let codes = if tile.residual.is_null() {
                    plain.codes(four, [scale; 4])
                } else {
                    let residual: [*const u8; 4] =
                        core::array::from_fn(|n| (*tile.residual.add((row + n).min(R - 1))).wrapping_add(first));
                    plain.codes_with_residual(four, scale, residual, &tile.epilogue, there)
                };
                store_codes(codes, y, (R - row).min(4), there);
            }
            c += 1;
        }
    }
}

/// The row, or the last.
pub(crate) const fn last<const R: usize>(row: usize) -> usize {
    if row < R { row } else { R - 1 }
}

/// Codes of a whole block, four rows at a time.
///
/// # Safety
/// As [`finish_i8`]; the block exists; `FLOATS` says what [`Arithmetic::float_bits`] does.
#[inline(always)]
unsafe fn finish_one<const R: usize, const C: usize, const FLOATS: bool>(
    sums: &[[__m512i; C]; R],
    tile: &Tile,
    column: usize,
    block: usize,
    plain: &Plain,
) {
    const { assert!(R <= 28) };
    let first = (column + block) * 16;
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm512_loadu_ps(tile.scale.add(first));
        let y = |row: usize| (*tile.y.add(row)).add(first);
        // As a loop the compiler would keep it, and sums in memory.
        macro_rules! rows {
            ($($row:literal)+) => { $(if $row < R {
                let (a, b, c, d) = ($row, last::<R>($row + 1), last::<R>($row + 2), last::<R>($row + 3));
                let four = [sums[a][block], sums[b][block], sums[c][block], sums[d][block]];
                let y = [y(a), y(b), y(c), y(d)];
                store_whole(plain.codes_of::<FLOATS>(four, [scale; 4]), y, R - $row);
            })+ };
        }
        rows!(0 4 8 12 16 20 24);
    }
}

/// Codes of two whole blocks side by side, from the `c`th on, two rows at a time.
///
/// # Safety
/// As [`finish_one`]; both blocks exist.
#[inline(always)]
unsafe fn finish_two<const R: usize, const C: usize, const FLOATS: bool>(
    sums: &[[__m512i; C]; R],
    tile: &Tile,
    column: usize,
    c: usize,
    plain: &Plain,
) {
    let first = (column + c) * 16;
    // SAFETY: the caller's promise.
    unsafe {
        let scales = [0, 16].map(|block| _mm512_loadu_ps(tile.scale.add(first + block)));
        for row in (0..R).step_by(2) {
            let next = (row + 1).min(R - 1);
            let four = [sums[row][c], sums[row][c + 1], sums[next][c], sums[next][c + 1]];
            let codes = plain.codes_of::<FLOATS>(four, [scales[0], scales[1], scales[0], scales[1]]);
            let y = [row, next].map(|row| (*tile.y.add(row)).add(first).cast());
            _mm256_storeu_si256(y[0], _mm512_castsi512_si256(codes));
            _mm256_storeu_si256(y[1], _mm512_extracti64x4_epi64::<1>(codes));
        }
    }
}

/// [`Arithmetic::float_bits`] of blocks of 16 channels.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn float_bits_i8(tile: &Tile, products: usize) -> bool {
    let e = &tile.epilogue;
    // A NaN is no bound above 0 either.
    let above = e.lo >= 0.0 && e.activation == Activation::Clamp as u32;
    if !above || e.output != DType::I8 as u32 {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut floats = true;
        for n in (0..tile.channels).step_by(16) {
            let factors = _mm512_maskz_loadu_ps(crate::vector::first(tile.channels - n), tile.scale.add(n));
            let bias = _mm512_abs_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(tile.bias.add(4 * n).cast())));
            let most = _mm512_add_ps(bias, _mm512_set1_ps(products as f32 * 16384.0));
            floats &= _mm512_cmp_ps_mask::<_CMP_GE_OQ>(factors, _mm512_setzero_ps()) == !0
                && _mm512_cmp_ps_mask::<_CMP_LT_OQ>(most, _mm512_set1_ps(8e6)) == !0;
        }
        for n in (0..if floats { tile.channels } else { 0 }).step_by(16) {
            let at = tile.room.add(4 * n).cast();
            _mm512_store_si512(at, _mm512_add_epi32(_mm512_load_si512(at), _mm512_set1_epi32(TWO_23)));
        }
        floats
    }
}

unsafe fn no_float_bits(_: &Tile, _: usize) -> bool {
    false
}

fn finishes_nothing(_: &Tile) -> bool {
    false
}

unsafe fn finish_nothing<T, const R: usize, const C: usize>(_: &[[T; C]; R], _: &Tile, _: usize) {
    unreachable!("it finishes no tile");
}

vnni!(
    V16,
    __m512i,
    _mm512_set1_epi32,
    _mm512_setzero_si512,
    _mm512_loadu_si512,
    _mm512_dpbusd_epi32,
    _mm512_sub_epi32,
    finishes_i8,
    finish_i8,
    float_bits_i8
);
vnni!(
    V8,
    __m256i,
    _mm256_set1_epi32,
    _mm256_setzero_si256,
    _mm256_loadu_si256,
    _mm256_dpbusd_epi32,
    _mm256_sub_epi32,
    finishes_nothing,
    finish_nothing,
    no_float_bits
);
vnni!(
    V4,
    __m128i,
    _mm_set1_epi32,
    _mm_setzero_si128,
    _mm_loadu_si128,
    _mm_dpbusd_epi32,
    _mm_sub_epi32,
    finishes_nothing,
    finish_nothing,
    no_float_bits
);

/// A block of 16 channels with AVX2.
pub(crate) type Wide = Two<V8>;
