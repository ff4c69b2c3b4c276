//! Convolution with SVE: the tiles are C (`sve/conv.c`), which says how they work.

use sparrow_kernels::conv::{Micro, Tile};

/// Pixels of a tile, as in the C source.
const ROWS: usize = 8;

macro_rules! tile {
    ($(#[$doc:meta])* $name:ident, $function:ident) => {
        $(#[$doc])*
        pub struct $name;

        impl Micro for $name {
            const ROWS: usize = ROWS;
            const PANELS: usize = 1;

            unsafe fn tile(tile: &Tile) {
                unsafe extern "C" {
                    fn $function(tile: *const Tile);
                }
                // SAFETY: the caller's promise; `Tile` is `repr(C)` and the C source mirrors it.
                unsafe { $function(tile) }
            }
        }
    };
}

tile! {
    /// Dense f32.
    DenseF32, sparrow_conv_f32_b16_sve
}
tile! {
    /// Sparse f32.
    SparseF32, sparrow_spconv_f32_b16_sve
}
tile! {
    /// Dense int8.
    DenseI8, sparrow_conv_i8_b16_sve
}
tile! {
    /// Sparse int8.
    SparseI8, sparrow_spconv_i8_b16_sve
}
