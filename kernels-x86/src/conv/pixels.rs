//! Sparse blocks of 8 and 4 channels with AVX-512, on vectors of pixels.
//!
//! ```text
//!              staged, [unit][48 pixels]                   registers: 8 channels x 48 pixels
//!   unit 0     x x x x ... | x x x x ... | x x x x ...     channel 0   s s s
//!   unit 1     x x x x ... | x x x x ... | x x x x ...     channel 1   s s s
//!   ...                                                    ...
//!   kept unit: 3 vectors of x and 8 weights broadcast from memory, 11 loads for 24 multiply-adds
//! ```
//!
//! A vector of channels would be half or three quarters empty. What vectors of pixels cost is a transposition on the way in,
//! one for all blocks, and one on the way out.

use super::{Buffers, Cursor, SCRATCH, Work, keeps};
use crate::arithmetic::{Arithmetic, F32, I8Vnni};
use crate::finish::Avx512;
use crate::vector::{V4, V8, V16};
use crate::{AVX512, VNNI};
use core::arch::x86_64::*;
use sparrow_kernels::conv::{Input, Micro, Tile, accepts, drive, units};
use sparrow_kernels::{Kernel, Layout, Op};

/// Pixels of a vector, and channels of one on the way out.
const LANES: usize = 16;
/// Pixels of a tile.
const PIXELS: usize = 3 * LANES;

/// The multiply-add of a small block's channel, on a vector of pixels.
///
/// # Safety
/// As [`Arithmetic`].
pub(super) trait OnPixels: Arithmetic {
    /// The same with vectors of 16 channels.
    type Wide: Arithmetic;

    unsafe fn on_pixels(sums: __m512i, x: __m512i, weight: i32) -> __m512i;
}

macro_rules! on_pixels {
    ($(($type:ty, $wide:ty): |$sums:ident, $x:ident, $weight:ident| $value:expr;)*) => {$(
        impl OnPixels for $type {
            type Wide = $wide;

            #[inline(always)]
            unsafe fn on_pixels($sums: __m512i, $x: __m512i, weight: i32) -> __m512i {
                // SAFETY: the trait's.
                unsafe {
                    let $weight = _mm512_set1_epi32(weight);
                    $value
                }
            }
        }
    )*};
}

/// `a * b + c` of floats' bits.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn multiply_add(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c] = [_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), _mm512_castsi512_ps(c)];
        _mm512_castps_si512(_mm512_fmadd_ps(a, b, c))
    }
}

on_pixels! {
    (F32<V8>, F32<V16>): |sums, x, weight| multiply_add(x, weight, sums);
    (F32<V4>, F32<V16>): |sums, x, weight| multiply_add(x, weight, sums);
    (I8Vnni<V8>, I8Vnni<V16>): |sums, x, weight| _mm512_dpbusd_epi32(sums, x, weight);
    (I8Vnni<V4>, I8Vnni<V16>): |sums, x, weight| _mm512_dpbusd_epi32(sums, x, weight);
}

/// A tile under way.
type Pixels<'a, A> = Work<'a, Avx512, A, PIXELS, 33, true>;

impl<'a, A: OnPixels> Pixels<'a, A> {
    /// Computes a tile, `V` vectors of pixels by the `C` channels of a block at a time; pixels past the tile's repeat its last
    /// one.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the CPU has `A`'s features; the tile has at most `V` vectors of pixels.
    #[inline(always)]
    unsafe fn run_pixels<const V: usize, const C: usize>(tile: &'a Tile, buffers: &mut Buffers) {
        const { assert!(Self::CHUNK * PIXELS * 4 <= SCRATCH && V * LANES <= PIXELS && C == Self::BLOCK) };
        let mut work = Self::new(tile, buffers);
        let blocks = tile.channels.div_ceil(C);
        // SAFETY: the caller's promise; chunks follow each other inside the tile's taps and units; there are sums for all channels,
        // rounded up to a vector's.
        unsafe {
            work.start();
            loop {
                work.stage_turned::<PIXELS>(V * LANES);
                let last = work.ends();
                for block in 0..blocks {
                    let cursor = work.cursors.add(block);
                    *cursor = work.kept_pixels::<V, C>(block, *cursor);
                    let done = (block + 1) * C;
                    if last && (done.is_multiple_of(LANES) || block + 1 == blocks) {
                        // Channels that do not exist are turned with the others.
                        let whole = done.next_multiple_of(LANES);
                        work.channel(done).write_bytes(0, (whole - done) * PIXELS);
                        for begin in (0..V * LANES).step_by(LANES).take_while(|&begin| begin < tile.rows) {
                            let sums = |n| work.channel(whole - LANES + n).wrapping_add(begin).cast_const().cast();
                            Work::<Avx512, A::Wide, PIXELS, 33, true>::finish_turned(
                                tile,
                                whole / LANES - 1,
                                begin,
                                sums,
                            );
                        }
                    }
                }
                if last {
                    return;
                }
                work.next(tile.kc.div_ceil(A::STEP));
            }
        }
    }

    /// Sums of a channel of the tile, `[PIXELS]`.
    #[inline(always)]
    fn channel(&self, channel: usize) -> *mut u32 {
        self.sums.wrapping_add(channel * PIXELS)
    }

    /// A block, whose cursor stands behind the chunks before, on `V` vectors of pixels; returns it behind this one.
    ///
    /// # Safety
    /// As [`Self::run_pixels`]; the block exists.
    #[inline(always)]
    unsafe fn kept_pixels<const V: usize, const C: usize>(&self, block: usize, mut cursor: Cursor) -> Cursor {
        let (tile, chunk) = (self.tile, &self.chunk);
        // SAFETY: the caller's promise.
        unsafe {
            let begin = if A::RAISED { tile.room.cast_const() } else { tile.bias };
            let mut sums = [[_mm512_setzero_si512(); V]; C];
            for c in 0..C {
                let channel = block * C + c;
                for v in 0..V {
                    sums[c][v] = if self.first {
                        _mm512_set1_epi32(*begin.cast::<i32>().add(channel))
                    } else {
                        _mm512_loadu_si512(self.channel(channel).add(v * LANES).cast())
                    };
                }
            }
            for (n, tap) in chunk.taps.clone().enumerate() {
                let kept = self.advance((block, tap), &mut cursor);
                let weights = tile.weights.cast::<i32>().add(kept.start * C);
                let positions = tile.positions.add(kept.start);
                // Positions count from the tap's first unit, what is staged from the chunk's.
                let x = self.x.cast::<u32>().wrapping_add(n * chunk.units.len() * PIXELS);
                let x = x.wrapping_sub(chunk.units.start * PIXELS);
                for n in 0..kept.len() {
                    let at = x.wrapping_add(usize::from(*positions.add(n)) * PIXELS);
                    let mut x = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        x[v] = _mm512_loadu_si512(at.add(v * LANES).cast());
                    }
                    for c in 0..C {
                        let weight = weights.add(n * C + c).read_unaligned();
                        for v in 0..V {
                            sums[c][v] = A::on_pixels(sums[c][v], x[v], weight);
                        }
                    }
                }
            }
            for c in 0..C {
                for v in 0..V {
                    _mm512_storeu_si512(self.channel(block * C + c).add(v * LANES).cast(), sums[c][v]);
                }
            }
        }
        cursor
    }
}

/// Kernels: the channels of a block, and the units it has to keep for the sums to be worth turning.
macro_rules! catalogue {
    ($(#[$doc:meta])* $($name:literal, $micro:ident, $layout:ident, $arithmetic:ty, $block:literal, $least:literal, $requires:expr, $features:literal;)*) => {
        $(
            struct $micro;

            impl $micro {
                /// # Safety
                /// As [`Micro::tile`].
                #[target_feature(enable = $features)]
                unsafe fn run(tile: &Tile, buffers: &mut Buffers) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        match tile.rows {
                            1 => Pixels::<$arithmetic>::run::<1, 1>(tile, buffers),
                            2..=7 => Pixels::<$arithmetic>::run::<7, 1>(tile, buffers),
                            8..=16 => Pixels::<$arithmetic>::run_pixels::<1, $block>(tile, buffers),
                            17..=32 => Pixels::<$arithmetic>::run_pixels::<2, $block>(tile, buffers),
                            _ => Pixels::<$arithmetic>::run_pixels::<3, $block>(tile, buffers),
                        }
                    }
                }
            }

            impl Micro for $micro {
                const ROWS: usize = PIXELS;
                const PANELS: usize = 128 / $block;
                const MERGED: usize = 4;

                #[target_feature(enable = $features)]
                unsafe fn prepare(tile: &Tile) -> u32 {
                    // SAFETY: the caller's promise.
                    unsafe { Pixels::<$arithmetic>::prepare::<false>(tile) }
                }

                #[inline(always)]
                unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
                    let mut buffers = Buffers::NEW;
                    while next(tile).is_some() {
                        // SAFETY: the caller's promise.
                        unsafe { Self::run(tile, &mut buffers) };
                    }
                }
            }
        )*

        $(#[$doc])*
        pub(crate) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::Conv,
            requires: $requires,
            accepts: |call| accepts(call, PIXELS, Layout::$layout) && keeps(call, $least),
            units: units::<$micro>,
            run: drive::<$micro>,
        }),*];
    };
}

catalogue! {
    /// What goes before [`super::VNNI_CATALOGUE`].
    "spconvpx_f32_b8_avx512", SpconvF32B8, SparseF32B8, F32<V8>, 8, 20, AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl";
    "spconvpx_f32_b4_avx512", SpconvF32B4, SparseF32B4, F32<V4>, 4, 0, AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl";
    "spconvpx_i8_b8_avx512vnni", SpconvI8B8, SparseI8B8, I8Vnni<V8>, 8, 0, VNNI, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni";
    "spconvpx_i8_b4_avx512vnni", SpconvI8B4, SparseI8B4, I8Vnni<V4>, 4, 0, VNNI, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni";
}
