//! int8 convolution on CPUs without a dot product (Cortex-A53, A72).
//!
//! SMULL widens eight products to 16 bits and SADALP adds neighbouring pairs to 32: nothing can overflow, even for
//! -128 * -128. A vector of weights is 4 channels of 4 positions, so a sum is kept in two halves, added up at the end.
//!
//! ```text
//! w           c0:k0..3  c1:k0..3 | c2:k0..3  c3:k0..3        x (dup)  k0..3 k0..3 k0..3 k0..3
//! sums        c0:k0+1 c0:k2+3 c1:k0+1 c1:k2+3 | c2:.. c3:..  -> ADDP -> c0 c1 c2 c3
//! ```

use super::number::{finish_i8, outputs, prepare_i8, shared_i8};
use core::arch::aarch64::*;
use sparrow_kernels::conv::{Micro, Tile};

/// Pixels of a tile.
const ROWS: usize = 2;

/// A tile of 2 pixels by `W` vectors of 4 channels, dense or sparse.
pub struct Widening<const W: usize, const SPARSE: bool>;

impl<const W: usize, const SPARSE: bool> Micro for Widening<W, SPARSE> {
    const ROWS: usize = ROWS;
    const PANELS: usize = 1;

    unsafe fn prepare(tile: &Tile) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { prepare_i8(tile, W) }
    }

    #[target_feature(enable = "neon")]
    unsafe fn tile(tile: &Tile) {
        let mut halves = [[[vdupq_n_s32(0); 2]; W]; ROWS];
        let (mut weights, mut positions) = (tile.weights, tile.positions);
        // SAFETY: weights, index and runs are as the tile says.
        unsafe {
            for tap in 0..tile.taps {
                let x = [*tile.runs.add(tap * ROWS), *tile.runs.add(tap * ROWS + 1)];
                let units = if SPARSE { usize::from(*tile.counts.add(tap)) } else { tile.kc.div_ceil(4) };
                for n in 0..units {
                    let unit = if SPARSE { usize::from(*positions.add(n)) } else { n };
                    let x = x.map(|x| vreinterpret_s8_s32(vdup_n_s32(x.add(4 * unit).cast::<i32>().read_unaligned())));
                    for v in 0..W {
                        let w = vld1q_s8(weights.add(16 * v).cast());
                        for r in 0..ROWS {
                            let [low, high] = &mut halves[r][v];
                            *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), x[r]));
                            *high = vpadalq_s16(*high, vmull_s8(vget_high_s8(w), x[r]));
                        }
                    }
                    weights = weights.add(16 * W);
                }
                if SPARSE {
                    positions = positions.add(units);
                }
            }
            let begin = &shared_i8(tile).begin;
            let sums =
                halves.map(|row| core::array::from_fn(|v| vaddq_s32(begin[v], vpaddq_s32(row[v][0], row[v][1]))));
            finish_i8::<ROWS, W>(tile, 0, outputs(tile, 0), sums);
        }
    }
}
