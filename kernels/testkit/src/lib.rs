//! Sparrow's test bench for kernels: every kernel of an instruction set against the scalar one.
//!
//! [`cases`] makes calls of every operator, with shapes below, at and above the tiles kernels use, and with extreme
//! values. [`compare`] runs each case through the scalar kernel and through every kernel of a catalogue that accepts it,
//! twice: all units at once, and one by one from the last with other bytes around the operands. Integers must agree bit
//! for bit, floats within [`Case::scale`]; bytes around outputs and between an output's pixels must be untouched; and
//! both runs must give the same bytes, which shows that a kernel uses nothing it read outside its operands.
//!
//! `no_std` with `alloc`, and own random numbers, so that it runs wherever kernels do.
#![no_std]

extern crate alloc;

mod buffer;
mod case;
pub mod conv;
pub mod ops;
mod random;
mod report;

pub use buffer::Buffer;
pub use case::{Case, Order, decode, encode};
pub use random::Random;
pub use report::{KernelReport, Report, compare, compare_cases};

use alloc::boxed::Box;

/// Every case of every operator.
pub fn cases() -> Box<dyn Iterator<Item = Case>> {
    Box::new(conv::cases().chain(conv::winograd()).map(|case| case.to_case()).chain(ops::cases()))
}
