//! Sparse f32 blocks of 16 channels with AVX-512, on vectors of pixels.
//!
//! ```text
//!              staged, [unit][48 pixels]                   registers: 8 channels x 48 pixels
//!   unit 0     x x x x ... | x x x x ... | x x x x ...     channel 0   s s s
//!   unit 1     x x x x ... | x x x x ... | x x x x ...     channel 1   s s s
//!   ...                                                    ...
//!   kept unit: 3 vectors of x and 8 weights broadcast from memory, 11 loads for 24 multiply-adds
//! ```
//!
//! Blocks share no positions, so a kernel whose vectors hold channels loads an activation for each multiply-add; where a
//! core does two of 512 bits a cycle, and two loads, that is the limit. Vectors of pixels use each load three or eight
//! times. What it costs is a transposition on the way in, one for all blocks, and one on the way out, which many kept
//! units are worth. int8 has a quarter of the units, and gains nothing.

use super::{Buffers, Cursor, SCRATCH, Work};
use crate::AVX512;
use crate::arithmetic::F32;
use crate::finish::Avx512;
use crate::vector::{V16, Vector};
use sparrow_kernels::conv::{Input, Micro, Tile, accepts, drive, index, units};
use sparrow_kernels::{Kernel, Layout, Op};

/// Pixels of a vector, and channels of a block.
const LANES: usize = 16;
/// Pixels of a tile.
const PIXELS: usize = 3 * LANES;
/// Units that a block has to keep, on average.
const WORTH: usize = 100;

/// A tile under way.
type Pixels<'a> = Work<'a, Avx512, F32<V16>, PIXELS, 33, true>;

impl<'a> Pixels<'a> {
    /// Computes a tile, `V` vectors of pixels by `C` channels at a time; pixels past the tile's repeat its last one.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the CPU has AVX-512; the tile has more than `V - 1` vectors of pixels, and at most `V`.
    #[inline(always)]
    unsafe fn run_pixels<const V: usize, const C: usize>(tile: &'a Tile, buffers: &mut Buffers) {
        const { assert!(Self::CHUNK * PIXELS * 4 <= SCRATCH && V * LANES <= PIXELS) };
        let mut work = Self::new(tile, buffers);
        // SAFETY: the caller's promise; chunks follow each other inside the tile's taps and units.
        unsafe {
            work.start();
            loop {
                work.stage_turned::<PIXELS>(V * LANES);
                let last = work.ends();
                for block in 0..tile.channels.div_ceil(LANES) {
                    let cursor = work.cursors.add(block);
                    let mut after = *cursor;
                    for channel in (0..LANES).step_by(C) {
                        after = work.kept_pixels::<V, C>(block, channel, *cursor);
                    }
                    *cursor = after;
                    if last {
                        for v in 0..V {
                            let sums = |channel| work.channel(block * LANES + channel).add(v * LANES);
                            work.finish_turned(block, v * LANES, |channel| sums(channel).cast_const().cast());
                        }
                    }
                }
                if last {
                    return;
                }
                work.next(tile.kc);
            }
        }
    }

    /// Sums of a channel of the tile, `[PIXELS]`.
    #[inline(always)]
    fn channel(&self, channel: usize) -> *mut f32 {
        self.sums.wrapping_add(channel * PIXELS).cast()
    }

    /// `C` channels of a block, whose cursor stands behind the chunks before, on `V` vectors of pixels; returns it behind this
    /// one.
    ///
    /// # Safety
    /// As [`Self::run_pixels`]; block and channels exist.
    #[inline(always)]
    unsafe fn kept_pixels<const V: usize, const C: usize>(
        &self,
        block: usize,
        channel: usize,
        mut cursor: Cursor,
    ) -> Cursor {
        let (tile, chunk) = (self.tile, &self.chunk);
        let first = block * LANES + channel;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[V16::splat(0.0); V]; C];
            for c in 0..C {
                for v in 0..V {
                    sums[c][v] = if self.first {
                        V16::splat(*tile.bias.cast::<f32>().add(first + c))
                    } else {
                        V16::load(self.channel(first + c).add(v * LANES))
                    };
                }
            }
            for (n, tap) in chunk.taps.clone().enumerate() {
                let kept = self.advance((block, tap), &mut cursor);
                let weights = tile.weights.cast::<f32>().add(kept.start * LANES + channel);
                let positions = tile.positions.add(kept.start);
                // Positions count from the tap's first unit, what is staged from the chunk's.
                let x = self.x.add(n * chunk.units.len() * PIXELS).wrapping_sub(chunk.units.start * PIXELS);
                for n in 0..kept.len() {
                    let at = x.wrapping_add(usize::from(*positions.add(n)) * PIXELS);
                    let mut x = [V16::splat(0.0); V];
                    for v in 0..V {
                        x[v] = V16::load(at.add(v * LANES));
                    }
                    for c in 0..C {
                        let weight = V16::splat(*weights.add(n * LANES + c));
                        for v in 0..V {
                            sums[c][v] = x[v].mul_add(weight, sums[c][v]);
                        }
                    }
                }
            }
            for c in 0..C {
                for v in 0..V {
                    sums[c][v].store(self.channel(first + c).add(v * LANES));
                }
            }
        }
        cursor
    }

    /// Any tile.
    ///
    /// # Safety
    /// As [`Micro::tile`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn any(tile: &'a Tile, buffers: &mut Buffers) {
        // SAFETY: the caller's promise.
        unsafe {
            match tile.rows {
                1 => Self::run::<1, 1>(tile, buffers),
                2..=7 => Self::run::<7, 1>(tile, buffers),
                8..=14 => Self::run::<14, 1>(tile, buffers),
                15..=16 => Self::run_pixels::<1, 16>(tile, buffers),
                17..=32 => Self::run_pixels::<2, 8>(tile, buffers),
                _ => Self::run_pixels::<3, 8>(tile, buffers),
            }
        }
    }
}

struct SpconvF32Pixels;

impl Micro for SpconvF32Pixels {
    const ROWS: usize = PIXELS;
    const PANELS: usize = 128 / LANES;
    const MERGED: usize = 4;

    #[inline(always)]
    unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
        let mut buffers = Buffers::NEW;
        while next(tile).is_some() {
            // SAFETY: the caller's promise.
            unsafe { Pixels::any(tile, &mut buffers) };
        }
    }

    unsafe fn tile(tile: &Tile) {
        let mut buffers = Buffers::NEW;
        // SAFETY: the caller's promise.
        unsafe { Pixels::any(tile, &mut buffers) };
    }
}

/// What goes before [`super::AVX512_CATALOGUE`].
pub(crate) const CATALOGUE: &[Kernel] = &[Kernel {
    name: "spconvpx_f32_b16_avx512",
    op: Op::Conv,
    requires: AVX512,
    accepts: |call| {
        accepts(call, PIXELS, Layout::SparseF32B16)
            && index(call).is_some_and(|index| index.positions.len() >= WORTH * (index.starts.len() - 1))
    },
    units: units::<SpconvF32Pixels>,
    run: drive::<SpconvF32Pixels>,
}];
