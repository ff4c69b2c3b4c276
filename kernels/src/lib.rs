//! Sparrow's kernel contract: what lies between the runtime and the code of an instruction set.
//!
//! [`Op`] and its parameter blocks say what an operator computes; [`Layout`] how its weights lie in memory; [`check`]
//! whether a call stays inside its operands; [`Kernel`] and [`Kernels`] which code runs it. The scalar kernels in
//! [`CATALOGUE`] define every result: integer results are the same bit for bit in every other kernel, float results
//! differ by rounding only.
//!
//! `no_std`, without `alloc`.
#![no_std]

mod call;
pub mod conv;
pub mod depthwise;
mod dtype;
mod features;
mod layout;
mod op;
pub mod ops;
pub mod winograd;

pub use call::{Call, Catalogue, Draft, Input, Kernel, Kernels, Output, Refusal, Signature, check, product};
pub use dtype::DType;
pub use features::Features;
pub use layout::{Family, Index, Layout, Spec, WeightShape, reserved_layout};
pub use op::*;
pub use ops::{CATALOGUE, lanes};
