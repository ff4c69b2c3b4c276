//! Look-ups with AVX-512 VBMI, which has all 256 bytes of a table in four registers.

use crate::AVX512;
use core::arch::x86_64::*;
use core::ops::Range;
use sparrow_kernels::ops::{copy_through, copy_units, lut_through, lut_units};
use sparrow_kernels::{Call, Features, Kernel, Op};

const VBMI: Features = AVX512.union(Features::VBMI);

/// # Safety
/// As [`Kernel::run`].
unsafe fn lut(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, the CPU's features among it.
    unsafe { lut_through(call, units, &|table, x, y| look_up(table, x, y)) }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn copy(call: &Call, units: Range<usize>) {
    // SAFETY: the caller's promise, the CPU's features among it.
    unsafe { copy_through(call, units, &|table, x, y| look_up(table, x, y)) }
}

/// Looks up as many bytes as both have.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(table: &[u8; 256], x: &[u8], y: &mut [u8]) {
    let len = x.len().min(y.len());
    let (x, y) = (x.as_ptr().cast::<i8>(), y.as_mut_ptr().cast::<i8>());
    // SAFETY: the mask leaves out what lies past the end.
    unsafe {
        let [a, b, c, d] = [0, 64, 128, 192].map(|at| _mm512_loadu_si512(table.as_ptr().add(at).cast()));
        for at in (0..len).step_by(64) {
            let mask = if len - at >= 64 { !0 } else { (1 << (len - at)) - 1 };
            let codes = _mm512_maskz_loadu_epi8(mask, x.add(at));
            let (low, high) = (_mm512_permutex2var_epi8(a, codes, b), _mm512_permutex2var_epi8(c, codes, d));
            let found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
            _mm512_mask_storeu_epi8(y.add(at), mask, found);
        }
    }
}

/// Look-ups, and copies through a table.
pub(crate) const CATALOGUE: &[Kernel] = &[
    Kernel { name: "lut_x8_avx512vbmi", op: Op::Lut, requires: VBMI, accepts: |_| true, units: lut_units, run: lut },
    Kernel {
        name: "copy_x8_avx512vbmi",
        op: Op::Copy,
        requires: VBMI,
        accepts: |call| call.inputs[1].is_some(),
        units: copy_units,
        run: copy,
    },
];
