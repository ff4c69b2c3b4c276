//! Winograd's convolutions with NEON: as many patches at a time as keep their sums in registers.

use crate::lanes::V8;
use core::ops::Range;
use sparrow_kernels::lanes::Two;
use sparrow_kernels::{Call, Features, Kernel, Op, winograd};

/// # Safety
/// As [`Kernel::run`].
unsafe fn run(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { winograd::drive::<V8, Two<V8>, 6>(call, units) }
}

/// The one.
pub(crate) const CATALOGUE: &[Kernel] = &[Kernel {
    name: "winograd_f32_b16_neon",
    op: Op::Conv,
    requires: Features::NEON,
    accepts: winograd::accepts,
    units: winograd::units,
    run,
}];
