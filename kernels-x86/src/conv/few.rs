//! int8 convolutions of few output channels with AVX-512 VNNI, on vectors of pixels.
//!
//! ```text
//!   staged, [row of the window][unit][31 + width of the window pixels | pad to 64]
//!   tap (ky, kx), unit u     32 words from row ky, unit u, pixel kx on; times up to 8 words broadcast from memory
//! ```
//!
//! A vector of 16 channels is mostly empty where a layer has three or four. Vectors of pixels compute no channel that does
//! not exist, up to the next multiple of four; the transposition on the way in is what that costs.

use super::turned::{quarters, stage};
use super::{Buffers, SCRATCH, Work};
use crate::VNNI;
use crate::arithmetic::{Arithmetic, I8Vnni};
use crate::finish::{Avx512, Plain};
use crate::vector::{V16, first};
use core::arch::x86_64::*;
use sparrow_kernels::conv::{Input, Micro, Strip, Tile, accepts, drive, units};
use sparrow_kernels::{Call, ConvParams, DType, Kernel, Layout, Op};

/// Pixels of a vector.
const LANES: usize = 16;
/// Pixels of a tile.
const PIXELS: usize = 2 * LANES;
/// Words from a staged unit of a strip to the next.
const STRIP: usize = 4 * LANES;
/// Most channels.
const CHANNELS: usize = 12;
/// Fewest units of all taps: less is not worth the transposition.
const WORTH: usize = 24;

/// A tile under way.
type Few<'a> = Work<'a, Avx512, I8Vnni<V16>, PIXELS, 33, false>;

/// Where the words of a tap and unit are: from one to the next in words.
#[derive(Clone, Copy)]
struct Steps {
    taps: (usize, usize),
    ky: usize,
    kx: usize,
    unit: usize,
}

/// Takes 16 pixels of up to four units, which lie in memory one behind the other, apart: `there` words are read.
///
/// # Safety
/// The CPU has AVX-512; the words are readable, and `to` has room for `units` rows `STRIP` words apart.
#[inline(always)]
unsafe fn apart(from: *const u32, there: usize, units: usize, to: *mut u32) {
    // SAFETY: the caller's promise; words that are not there are not read.
    unsafe {
        let flip = _mm512_set1_epi8(I8Vnni::<V16>::FLIP);
        let mut words = [_mm512_setzero_si512(); 4];
        for n in 0..4 {
            let mask = first(there.saturating_sub(n * LANES));
            words[n] = _mm512_xor_si512(_mm512_maskz_loadu_epi32(mask, from.wrapping_add(n * LANES).cast()), flip);
        }
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let mut place = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(units as i32));
        for unit in 0..units {
            let upper = _mm512_test_epi32_mask(place, _mm512_set1_epi32(32));
            let low = _mm512_permutex2var_epi32(words[0], place, words[1]);
            let high = _mm512_permutex2var_epi32(words[2], place, words[3]);
            _mm512_storeu_si512(to.add(unit * STRIP).cast(), _mm512_mask_blend_epi32(upper, low, high));
            place = _mm512_add_epi32(place, _mm512_set1_epi32(1));
        }
    }
}

impl<'a> Few<'a> {
    /// All channels of what is staged.
    ///
    /// # Safety
    /// As [`Micro::tile`]; the CPU has AVX-512 VNNI; the words are staged.
    #[inline(always)]
    unsafe fn channels(&self, steps: Steps) {
        let tile = self.tile;
        // SAFETY: the caller's promise.
        unsafe {
            let mut channel = 0;
            while channel < tile.channels {
                if tile.channels - channel > 4 {
                    self.dots::<8>(channel, steps);
                    channel += 8;
                } else {
                    self.dots::<4>(channel, steps);
                    channel += 4;
                }
            }
            if tile.channels <= 4 && tile.residual.is_null() && I8Vnni::<V16>::finishes(tile) {
                for begin in (0..tile.rows).step_by(LANES) {
                    self.finish_four(begin);
                }
                return;
            }
            // Channels that do not exist are turned with the others.
            self.sums.add(channel * PIXELS).write_bytes(0, (LANES - channel) * PIXELS);
            for begin in (0..tile.rows).step_by(LANES) {
                let sums = |channel| self.sums.add(channel * PIXELS + begin).cast_const().cast();
                Self::finish_turned(tile, 0, begin, sums);
            }
        }
    }

    /// `C` channels.
    ///
    /// # Safety
    /// As [`Self::channels`]; the channels exist in the panel.
    #[inline(always)]
    unsafe fn dots<const C: usize>(&self, channel: usize, steps: Steps) {
        let tile = self.tile;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); 2]; C];
            for c in 0..C {
                let first = _mm512_set1_epi32(*tile.room.cast::<i32>().add(channel + c));
                sums[c] = [first; 2];
            }
            let mut weights = tile.weights.cast::<i32>().add(channel);
            for ky in 0..steps.taps.0 {
                for kx in 0..steps.taps.1 {
                    let mut x = self.x.cast::<u32>().add(ky * steps.ky + kx * steps.kx);
                    for _ in 0..tile.kc.div_ceil(4) {
                        let (a, b) = (_mm512_loadu_si512(x.cast()), _mm512_loadu_si512(x.add(LANES).cast()));
                        for c in 0..C {
                            let weight = _mm512_set1_epi32(weights.add(c).read_unaligned());
                            sums[c][0] = _mm512_dpbusd_epi32(sums[c][0], a, weight);
                            sums[c][1] = _mm512_dpbusd_epi32(sums[c][1], b, weight);
                        }
                        weights = weights.add(16);
                        x = x.add(steps.unit);
                    }
                }
            }
            for c in 0..C {
                let to = self.sums.add((channel + c) * PIXELS);
                _mm512_store_si512(to.cast(), sums[c][0]);
                _mm512_store_si512(to.add(LANES).cast(), sums[c][1]);
            }
        }
    }

    /// The last step of 16 pixels of up to four channels, from the `begin`th on: four pixels to a vector.
    ///
    /// # Safety
    /// As [`Self::channels`]; the sums are complete, and the pixels exist.
    #[inline(always)]
    unsafe fn finish_four(&self, begin: usize) {
        let tile = self.tile;
        // SAFETY: the caller's promise.
        unsafe {
            let scale = _mm512_broadcast_f32x4(_mm_loadu_ps(tile.scale));
            let mut sums = [_mm512_setzero_si512(); 4];
            for c in 0..4 {
                sums[c] = _mm512_load_si512(self.sums.add(c * PIXELS + begin).cast());
            }
            // Quarter `q` of vector `n` is pixel `4 * q + n`.
            let pixels = quarters(sums);
            if tile.epilogue.output == DType::F32 as u32 {
                let (lo, hi) = (_mm512_set1_ps(tile.epilogue.lo), _mm512_set1_ps(tile.epilogue.hi));
                for n in 0..4 {
                    let v = _mm512_mul_ps(_mm512_cvtepi32_ps(pixels[n]), scale);
                    let v = _mm512_min_ps(_mm512_max_ps(v, lo), hi);
                    let quarters = [
                        _mm512_castps512_ps128(v),
                        _mm512_extractf32x4_ps::<1>(v),
                        _mm512_extractf32x4_ps::<2>(v),
                        _mm512_extractf32x4_ps::<3>(v),
                    ];
                    for q in 0..4 {
                        let y = *tile.y.add(begin + 4 * q + n);
                        _mm_mask_storeu_ps(y.cast(), (1 << tile.channels) - 1, quarters[q]);
                    }
                }
                return;
            }
            let mut codes = [0u32; LANES];
            let vector = Plain::new(&tile.epilogue).quarters(pixels, [scale; 4]);
            _mm512_storeu_si512(codes.as_mut_ptr().cast(), vector);
            for n in 0..LANES {
                let y = *tile.y.add(begin + n);
                if tile.channels == 4 {
                    y.cast::<u32>().write_unaligned(codes[n]);
                } else {
                    y.copy_from_nonoverlapping(codes[n..].as_ptr().cast(), tile.channels);
                }
            }
        }
    }

    /// Stages a strip.
    ///
    /// # Safety
    /// As [`Input::Strip`]; it fits the buffer.
    #[inline(always)]
    unsafe fn stage_strip(&self, strip: &Strip, units: usize) {
        let pixels = PIXELS + strip.kernel.1 - 1;
        for ky in 0..strip.kernel.0 {
            let (inside, x) = (strip.inside(ky, pixels), strip.at(ky, 0));
            // Pixels without a gap, read to the last byte: the vectors are whole but for what the last pixels are short of.
            let dense = inside && strip.pixel == 4 * units && units <= 4;
            for begin in (0..pixels).step_by(LANES) {
                // SAFETY: the caller's promise.
                unsafe {
                    let to = self.x.cast::<u32>().add(ky * units * STRIP + begin);
                    if dense {
                        let there = (pixels - begin).min(LANES) * units;
                        apart(x.add(begin * strip.pixel).cast(), there, units, to);
                    } else if inside {
                        let row = |n: usize| x.add((begin + n).min(pixels - 1) * strip.pixel);
                        stage::<I8Vnni<V16>, STRIP>(row, units, to);
                    } else {
                        stage::<I8Vnni<V16>, STRIP>(|n| strip.at(ky, (begin + n).min(pixels - 1)), units, to);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Micro::tile`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn any(tile: &'a Tile, input: &Input, buffers: &mut Buffers) {
        const { assert!(Self::CHUNK * PIXELS * 4 <= SCRATCH) };
        let work = Self::new(tile, buffers);
        let units = tile.kc.div_ceil(4);
        // SAFETY: the caller's promise; `takes` has seen that all taps are one chunk, and that strips fit.
        unsafe {
            if let Input::Strip(strip) = input {
                work.stage_strip(strip, units);
                work.channels(Steps { taps: strip.kernel, ky: units * STRIP, kx: 1, unit: STRIP });
            } else {
                work.stage_turned::<PIXELS>(PIXELS);
                work.channels(Steps { taps: (1, tile.taps), ky: 0, kx: units * PIXELS, unit: PIXELS });
            }
        }
    }
}

struct ConvI8Few;

impl Micro for ConvI8Few {
    const ROWS: usize = PIXELS;
    const PANELS: usize = 1;
    const STRIPS: Option<fn(&ConvParams) -> bool> = Some(|p| p.stride_w == 1);

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { Few::prepare::<false>(tile) }
    }

    #[inline(always)]
    unsafe fn tiles(tile: &mut Tile, mut next: impl FnMut(&mut Tile) -> Option<Input>) {
        let mut buffers = Buffers::NEW;
        while let Some(input) = next(tile) {
            // SAFETY: the caller's promise.
            unsafe { Few::any(tile, &input, &mut buffers) };
        }
    }
}

fn takes(call: &Call) -> bool {
    let p: &ConvParams = call.params();
    let (kh, kw, units) = (p.kh as usize, p.kw as usize, (p.kc as usize).div_ceil(4));
    // One chunk of windows, or rows of a strip.
    let fits = kh * kw * units <= Few::CHUNK && kw <= STRIP - PIXELS && kh * units * STRIP * 4 <= SCRATCH;
    accepts(call, PIXELS, Layout::DenseI8) && p.oc as usize <= CHANNELS && fits && kh * kw * units >= WORTH
}

/// What goes before [`super::VNNI_CATALOGUE`].
pub(crate) const CATALOGUE: &[Kernel] = &[Kernel {
    name: "convpx_i8_b16_avx512vnni",
    op: Op::Conv,
    requires: VNNI,
    accepts: takes,
    units: units::<ConvI8Few>,
    run: drive::<ConvI8Few>,
}];
