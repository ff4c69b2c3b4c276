//! Depthwise convolutions, one output row at a time.
//!
//! Floats go along the row with the kernel's weights in registers ([`float`]); int8 turns four rows into words for the
//! dot product ([`dot`]), or widens where there is none ([`widening`]).

mod dot;
mod float;
#[cfg(sparrow_sve)]
mod sve;
mod widening;

use float::{F16, F32, Float};
use sparrow_kernels::depthwise::{accepts, drive, units};
use sparrow_kernels::{Features, Kernel, Layout, Op};

macro_rules! kernel {
    ($name:literal, $features:expr, $layout:ident, $micro:ty) => {
        Kernel {
            name: $name,
            op: Op::Depthwise,
            requires: $features,
            accepts: |call| accepts(call, Layout::$layout),
            units,
            run: drive::<$micro>,
        }
    };
}

const NEON: Features = Features::NEON;
const FP16: Features = NEON.union(Features::FP16);
const DOT: Features = NEON.union(Features::DOTPROD);

/// The SVE rows, as the SVE tiles before all others.
#[cfg(sparrow_sve)]
pub const SVE: &[Kernel] = &[
    kernel!("depthwise_f32_sve", Features::SVE, DepthwiseF32, sve::F32),
    kernel!("depthwise_f16_sve", Features::SVE, DepthwiseF16, sve::F16),
    kernel!("depthwise_i8_sve", Features::SVE, DepthwiseI8, sve::I8),
    kernel!("spdepthwise_f32_sve", Features::SVE, SparseDepthwiseF32, sve::F32),
    kernel!("spdepthwise_f16_sve", Features::SVE, SparseDepthwiseF16, sve::F16),
    kernel!("spdepthwise_i8_sve", Features::SVE, SparseDepthwiseI8, sve::I8),
];
/// No SVE rows: built without a C compiler.
#[cfg(not(sparrow_sve))]
pub const SVE: &[Kernel] = &[];

/// The other depthwise convolutions, best first.
pub const CATALOGUE: &[Kernel] = &[
    kernel!("depthwise_f32_neon", NEON, DepthwiseF32, Float<F32, false>),
    kernel!("depthwise_f16_neon_fp16", FP16, DepthwiseF16, Float<F16, false>),
    Kernel {
        accepts: |call| accepts(call, Layout::DepthwiseI8) && dot::fits(call),
        ..kernel!("depthwise_i8_neon_dotprod", DOT, DepthwiseI8, dot::Dot<false>)
    },
    kernel!("depthwise_i8_neon", NEON, DepthwiseI8, widening::Widening<false>),
    kernel!("spdepthwise_f32_neon", NEON, SparseDepthwiseF32, Float<F32, true>),
    kernel!("spdepthwise_f16_neon_fp16", FP16, SparseDepthwiseF16, Float<F16, true>),
    Kernel {
        accepts: |call| accepts(call, Layout::SparseDepthwiseI8) && dot::fits(call),
        ..kernel!("spdepthwise_i8_neon_dotprod", DOT, SparseDepthwiseI8, dot::Dot<true>)
    },
    kernel!("spdepthwise_i8_neon", NEON, SparseDepthwiseI8, widening::Widening<true>),
];
