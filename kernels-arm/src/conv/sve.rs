//! Convolution with SVE: the tiles are C (`sve/conv.c`), which says how they work.

use sparrow_kernels::conv::{Micro, Tile, accepts};
use sparrow_kernels::{Call, ConvParams, Layout};

/// Pixels of a tile, as in the C source.
const ROWS: usize = 10;

/// Whether the call is one for these tiles. One pixel is not: its tile would be `ROWS` copies of it, and NEON has one of its
/// own.
pub fn fits(call: &Call, layout: Layout) -> bool {
    let p: &ConvParams = call.params();
    accepts(call, ROWS, layout) && p.batch.saturating_mul(p.out_h).saturating_mul(p.out_w) > 1
}

macro_rules! tiles {
    ($($(#[$doc:meta])* $name:ident $(<$block:ident>)?, $function:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name$(<const $block: usize>)?;

        impl$(<const $block: usize>)? Micro for $name$(<$block>)? {
            const ROWS: usize = ROWS;
            const PANELS: usize = 1;

            unsafe fn tile(tile: &Tile) {
                unsafe extern "C" {
                    fn $function(tile: *const Tile $(, $block: usize)?);
                }
                // SAFETY: the caller's promise; `Tile` is `repr(C)` and the C source mirrors it.
                unsafe { $function(tile $(, $block)?) }
            }
        }
    )*};
}

tiles! {
    /// Dense f32.
    DenseF32, sparrow_conv_f32_sve;
    /// Dense f16.
    DenseF16, sparrow_conv_f16_sve;
    /// Dense int8.
    DenseI8, sparrow_conv_i8_sve;
    /// Sparse f32, in blocks of so many channels.
    SparseF32<BLOCK>, sparrow_spconv_f32_sve;
    /// Sparse f16.
    SparseF16<BLOCK>, sparrow_spconv_f16_sve;
    /// Sparse int8.
    SparseI8<BLOCK>, sparrow_spconv_i8_sve;
}
