//! Softmax along the last axis. A unit is a row.

use super::map::exp;
use super::shared::results;
use super::{Element, Last, SHORTEST, Same, Vector, input, line, output, starts};
use crate::{Call, DType, SoftmaxParams};
use core::ops::Range;
use half::f16;

/// Rows that are long enough.
pub fn accepts(call: &Call) -> bool {
    let p: &SoftmaxParams = call.params();
    p.inner == 1 && p.log == 0 && p.len as usize >= SHORTEST
}

/// A row of a softmax, f32 or f16.
pub struct Row<'a> {
    dtype: DType,
    x: &'a [u8],
    y: &'a mut [u8],
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row is [`SHORTEST`] or longer.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe { if row.dtype == DType::F16 { softmax::<V, f16>(row) } else { softmax::<V, f32>(row) } }
}

#[inline(always)]
unsafe fn softmax<V: Vector, E: Element>(row: Row) {
    let (len, x, y) = (row.y.len() / size_of::<E>(), row.x.as_ptr().cast::<E>(), row.y.as_mut_ptr().cast::<E>());
    // SAFETY: vectors lie inside the row.
    unsafe {
        let last = Last::new(0.0, 0.0, 0);
        let mut peaks = V::splat(f32::NEG_INFINITY);
        for at in starts::<V>(len) {
            peaks = E::load::<V>(x.add(at), 0).max(peaks);
        }
        let mut lanes = [f32::NEG_INFINITY; SHORTEST];
        peaks.store(lanes.as_mut_ptr());
        let minus = V::splat(-lanes.into_iter().fold(f32::NEG_INFINITY, f32::max));
        for at in starts::<V>(len) {
            E::store(exp(E::load::<V>(x.add(at), 0).add(minus)), last, y.add(at));
        }
        let factor = V::splat(1.0 / line::<V, E>(y, len, Same));
        // The last vector's part is read before the vector in front of it is scaled.
        let end = E::load::<V>(y.add(len - V::LANES), 0).mul(factor);
        for at in (0..len / V::LANES * V::LANES).step_by(V::LANES) {
            E::store(E::load::<V>(y.add(at), 0).mul(factor), last, y.add(at));
        }
        E::store(end, last, y.add(len - V::LANES));
    }
}

/// Rows.
pub fn units(call: &Call) -> usize {
    (call.params::<SoftmaxParams>().outer as usize).max(1)
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32 or f16 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let p: &SoftmaxParams = call.params();
    let len = p.len as usize;
    for unit in results(&units, 1, p.outer as usize) {
        let range = unit * len..(unit + 1) * len;
        // SAFETY: a row belongs to its unit, and is long enough.
        unsafe {
            row(Row { dtype: call.input(0).dtype, x: input(call, 0, range.clone()), y: output(call, range) });
        }
    }
}
