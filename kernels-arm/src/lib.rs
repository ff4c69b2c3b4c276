//! Sparrow's kernels for 64-bit Arm.
//!
//! NEON (every aarch64 CPU), fp16 arithmetic, dotprod and i8mm in Rust; SVE in C (`sve/`), since Rust has no stable SVE
//! types. [`detect`] says what this CPU has; [`CATALOGUE`] holds the kernels, best first: hand both to
//! `sparrow_kernels::Kernels::new`. On other architectures the catalogue is empty.
//!
//! `no_std`, without `alloc`.
#![no_std]

#[cfg(target_arch = "aarch64")]
mod conv;
#[cfg(target_arch = "aarch64")]
mod depthwise;
mod detect;
#[cfg(target_arch = "aarch64")]
mod finish;
#[cfg(target_arch = "aarch64")]
mod lanes;
#[cfg(sparrow_sve)]
mod mirror;
#[cfg(target_arch = "aarch64")]
mod simd;
#[cfg(target_arch = "aarch64")]
mod winograd;

pub use detect::detect;

use sparrow_kernels::Catalogue;

/// The kernels of this crate, best first within an operator.
#[cfg(target_arch = "aarch64")]
pub static CATALOGUE: Catalogue =
    &[conv::SVE, winograd::CATALOGUE, conv::CATALOGUE, depthwise::SVE, depthwise::CATALOGUE, lanes::CATALOGUE];

/// The kernels of this crate: none, this is no 64-bit Arm.
#[cfg(not(target_arch = "aarch64"))]
pub static CATALOGUE: Catalogue = &[];
