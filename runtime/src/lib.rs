//! Sparrow's runtime: a flat file, validated once and read in place, and sessions that run it without allocating.
//!
//! ```text
//! bytes --Model::open--> Model (tables proved sound, no weight touched)
//!                          |  + Kernels (what this CPU runs) + arena (the caller's memory)
//!                          v
//!                       Session: write inputs, run, read outputs
//! ```
//!
//! `no_std`, without `alloc` unless the feature of that name asks for [`AlignedBytes`]; names no instruction set.
#![no_std]

#[cfg(feature = "alloc")]
mod bytes;
mod error;
pub mod format;
mod model;
mod session;

#[cfg(feature = "alloc")]
pub use bytes::AlignedBytes;
pub use error::{Error, Fault};
pub use model::{Entry, Model, Operator, Tensor, header_hash, section_hash};
pub use session::{OneThread, Session, Step, Threads};
