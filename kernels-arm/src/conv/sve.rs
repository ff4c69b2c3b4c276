//! Convolution with SVE: the tiles are C (`sve/conv.c`), which says how they work.
//!
//! All are one function, told by the hint which tile it is, so that the loop over tiles is the same code for all of them.

use sparrow_kernels::conv::{Micro, Tile, accepts};
use sparrow_kernels::{Call, ConvParams, Layout};

/// Pixels of a tile, as in the C source.
const ROWS: usize = 10;

/// Whether the call is one for these tiles. One pixel is not: its tile would be `ROWS` copies of it, and NEON has one of its
/// own.
#[inline(never)]
pub fn fits(call: &Call, layout: Layout) -> bool {
    let p: &ConvParams = call.params();
    accepts(call, ROWS, layout) && p.batch.saturating_mul(p.out_h).saturating_mul(p.out_w) > 1
}

/// The tile for a layout, by its number.
pub struct Sve<const LAYOUT: u8>;

impl<const LAYOUT: u8> Micro for Sve<LAYOUT> {
    const ROWS: usize = ROWS;
    const PANELS: usize = 1;

    unsafe fn prepare(_: &Tile) -> u32 {
        u32::from(LAYOUT)
    }

    unsafe fn tile(tile: &Tile) {
        unsafe extern "C" {
            fn sparrow_conv_sve(tile: *const Tile);
        }
        // SAFETY: the caller's promise; `Tile` is `repr(C)` and the C source mirrors it.
        unsafe { sparrow_conv_sve(tile) }
    }
}
