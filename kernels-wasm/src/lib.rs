//! Sparrow's kernels for WebAssembly.
//!
//! One source makes two modules: built with `+simd128` and with `+simd128,+relaxed-simd`; a loader takes the second where
//! the engine can compile it. What the relaxed operations leave open (one or two roundings of a multiply-add, the eighth
//! bit of the dot's second operand) changes float results within their bounds and integer results not at all: see
//! `engine`. [`detect`] asks the engine once.
//!
//! ```text
//! conv, staged        convolutions, on the loop nest of `sparrow-kernels`; `engine` multiplies and adds, `epilogue` ends
//! square, depthwise   3x3 depthwise convolutions and all others, the same way
//! lanes               the vector that the kernels of `sparrow_kernels::lanes` are compiled for
//! ```
//!
//! Empty on other targets.
#![no_std]
#![cfg(target_arch = "wasm32")]

mod conv;
mod depthwise;
mod engine;
mod epilogue;
mod half;
mod lanes;
mod simd;
mod square;
mod staged;
mod winograd;

use sparrow_kernels::{Catalogue, Features};

/// Appends the instruction set of kernels that use relaxed operations where there are any.
macro_rules! isa {
    ($name:literal) => {
        if cfg!(target_feature = "relaxed-simd") { concat!($name, "_relaxed") } else { concat!($name, "_simd128") }
    };
}
pub(crate) use isa;

/// What such kernels require.
const ISA: Features =
    if cfg!(target_feature = "relaxed-simd") { Features::SIMD128.union(Features::RELAXED) } else { Features::SIMD128 };

/// What kernels require that multiply whole bytes by the relaxed dot, as its second operand is signed or not.
#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
const SIGNED: Features = Features::SIMD128.union(Features::RELAXED).union(Features::DOT_SIGNED);
#[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
const UNSIGNED: Features = Features::SIMD128.union(Features::RELAXED).union(Features::DOT_UNSIGNED);

/// The kernels of this module, best first.
pub static CATALOGUE: Catalogue = &[
    winograd::CATALOGUE,
    conv::FAMILIES[0],
    conv::FAMILIES[1],
    conv::FAMILIES[2],
    #[cfg(any(target_feature = "relaxed-simd", feature = "emulate-dot"))]
    square::DOTS,
    square::FLOAT,
    depthwise::CATALOGUE,
    lanes::CATALOGUE,
];

/// What the module was built for and what its engine does with relaxed operations.
pub fn detect() -> Features {
    Features::SIMD128.union(engine::relaxed())
}
