//! Winograd's convolutions: two patches at a time, whose sums are eight of the sixteen registers engines have.

use crate::ISA;
use crate::lanes::V4;
use core::ops::Range;
use sparrow_kernels::lanes::Two;
use sparrow_kernels::{Call, Kernel, Op, winograd};

unsafe fn run(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { winograd::drive::<V4, Two<Two<V4>>, 2>(call, units) }
}

/// The one kernel.
pub const CATALOGUE: &[Kernel] = &[Kernel {
    name: crate::isa!("winograd_f32_b16"),
    op: Op::Conv,
    requires: ISA,
    accepts: winograd::accepts,
    units: winograd::units,
    run,
}];
