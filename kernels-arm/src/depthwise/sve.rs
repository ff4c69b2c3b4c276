//! Depthwise convolution with SVE: the rows are C (`sve/depthwise.c`), which says how they work.

use sparrow_kernels::depthwise::{Row, RowMicro};

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident, $function:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl RowMicro for $name {
            unsafe fn row(row: &Row) {
                unsafe extern "C" {
                    fn $function(row: *const Row);
                }
                // SAFETY: the caller's promise; `Row` is `repr(C)` and the C source mirrors it.
                unsafe { $function(row) }
            }
        }
    )*};
}

rows! {
    /// f32, all taps or some.
    F32, sparrow_depthwise_f32_sve;
    /// f16.
    F16, sparrow_depthwise_f16_sve;
    /// int8.
    I8, sparrow_depthwise_i8_sve;
}
