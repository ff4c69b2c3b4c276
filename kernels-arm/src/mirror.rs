//! The structs that `sve/sve.h` mirrors, checked as this is compiled: their sizes, and all their fields, in the order they
//! have there. The C source asserts the same sizes. Whoever adds or moves a field changes both lists.

use core::mem::offset_of;
use sparrow_kernels::Layout;
use sparrow_kernels::conv::{Epilogue, MAX_TAPS, Tile};
use sparrow_kernels::depthwise::{InputRow, Row};

macro_rules! mirrored {
    ($type:ident, $size:literal bytes: $($field:ident)*) => {
        const _: fn(&$type) = |$type { $($field: _),* }| ();
        const _: () = assert!(size_of::<$type>() == $size && ascending(&[$(offset_of!($type, $field)),*]));
    };
}

const fn ascending(offsets: &[usize]) -> bool {
    let mut i = 1;
    while i < offsets.len() && offsets[i - 1] < offsets[i] {
        i += 1;
    }
    i == offsets.len()
}

mirrored!(Epilogue, 28 bytes: activation output lo hi y_zero residual_zero residual_scale);
mirrored!(Tile, 152 bytes: runs y residual weights panel_stride bias scale slopes counts positions taps kc rows channels
    epilogue hint room);
mirrored!(InputRow, 16 bytes: start step);
mirrored!(Row, 216 bytes: inputs rows pad in_w kh kw stride_w dil_w pad_left out_w y y_step y_row residual residual_step
    residual_row weights bias scale slopes counts positions channels epilogue hint);

// The other numbers it has.
const _: () = assert!(MAX_TAPS == 256 && Layout::DenseF32 as u8 == 1 && Layout::DenseI8 as u8 == 3);
const _: () = assert!(Layout::SparseF32B16 as u8 == 8 && Layout::SparseI8B4 as u8 == 16);
