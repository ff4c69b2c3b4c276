//! Winograd's convolutions with AVX2 and AVX-512: as many patches at a time as keep their sums in registers.

use crate::vector::{V8, V16};
use crate::{AVX2, AVX512};
use core::ops::Range;
use sparrow_kernels::lanes::Two;
use sparrow_kernels::{Call, Kernel, Op, winograd};

/// # Safety
/// As [`Kernel::run`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { winograd::drive::<V8, Two<V8>, 6>(call, units) }
}

/// # Safety
/// As [`Kernel::run`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { winograd::drive::<V16, V16, 8>(call, units) }
}

const fn kernel(
    name: &'static str,
    requires: sparrow_kernels::Features,
    run: unsafe fn(&Call, Range<usize>),
) -> Kernel {
    Kernel { name, op: Op::Conv, requires, accepts: winograd::accepts, units: winograd::units, run }
}

/// Both.
pub(crate) const CATALOGUE: &[Kernel] =
    &[kernel("winograd_f32_b16_avx512", AVX512, avx512), kernel("winograd_f32_b16_avx2", AVX2, avx2)];
