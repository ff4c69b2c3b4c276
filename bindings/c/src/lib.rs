//! The C interface: opaque handles over `sparrow`, status numbers, views of the arena.
//!
//! Every function converts its arguments, calls the Rust API and converts the result; [`guard`] stops panics and keeps the
//! text of an error for [`sparrow_last_error`]. A null pointer or a number out of range is an error like any other.
//! `include/sparrow.h` is made from this crate and committed.

mod error;
mod model;
mod session;

pub use error::*;
pub use model::*;
pub use session::*;
