//! Sums, means and extremes over neighbouring axes, as of a picture, and over the last axis.
//!
//! A tensor is `[outer][len][inner]`. Columns are folded as a window of [`pool`](super::pool) is, `len` positions of a run
//! of them; a single one is summed up in lanes. A unit is a run of columns, or a single one.

pub use super::pool::Row;
use super::pool::{Fold, MOST, Mean};
use super::shared::results;
use super::{SHORTEST, columns, output, runs};
use crate::{Call, DType, MAX_RANK, ReduceFn, ReduceParams};
use core::ops::Range;

/// `[outer][len][inner]`, if the folded axes are neighbours.
fn shape(p: &ReduceParams) -> Option<[usize; 3]> {
    let (mut sizes, mut part) = ([1usize; 3], 0);
    for axis in (0..MAX_RANK).filter(|&axis| p.dims[axis] != 1) {
        let folded = p.mask >> axis & 1 != 0;
        part += usize::from(folded != (part == 1));
        *sizes.get_mut(part)? *= p.dims[axis] as usize;
    }
    Some(sizes)
}

/// Sums, means and extremes with many columns, or of long single ones.
pub fn accepts(call: &Call) -> bool {
    let p: &ReduceParams = call.params();
    let known = matches!(
        ReduceFn::from_number(p.function),
        Some(ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min)
    );
    let shaped = shape(p).is_some_and(|[_, len, inner]| {
        (inner >= SHORTEST && len > 0 || inner == 1 && len >= SHORTEST)
            && (call.input(0).dtype != DType::I8 || len <= MOST)
    });
    known && shaped
}

/// Runs of columns, or single ones.
pub fn units(call: &Call) -> usize {
    shape(call.params()).map_or(1, |[outer, _, inner]| (outer * runs(inner)).max(1))
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32, f16 or i8 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let p: &ReduceParams = call.params();
    let Some([outer, len, inner]) = shape(p) else { return };
    let (x, n) = (call.input(0), len as f32);
    let mean = match (x.dtype, p.function == ReduceFn::Mean.number()) {
        (DType::I8, _) => Mean { offset: -(p.x_zero as f32 * n), n: 1.0, scale: p.scale, zero: p.y_zero },
        (_, divided) => Mean { offset: 0.0, n: if divided { n } else { 1.0 }, scale: 1.0, zero: 0 },
    };
    let sign = match ReduceFn::from_number(p.function) {
        Some(ReduceFn::Max) => Some(1.0),
        Some(ReduceFn::Min) => Some(-1.0),
        _ => None,
    };
    let window = [(1, 0), (1, 0), (len, inner)];
    let fold = match (inner, sign) {
        (1, Some(sign)) => Fold::Extreme(len, sign),
        (_, Some(sign)) => Fold::Extremes(window, sign),
        (1, None) => Fold::Line(len, mean),
        (_, None) => Fold::Means(window, mean),
    };
    for unit in results(&units, 1, outer * runs(inner)) {
        let (outer, columns) = (unit / runs(inner), columns(inner, unit % runs(inner)));
        let first = outer * len * inner + columns.start;
        // SAFETY: a run of columns belongs to its unit; `check` has seen that every position has as many elements.
        unsafe {
            let y = output(call, outer * inner + columns.start..outer * inner + columns.end);
            row(Row { dtype: x.dtype, x: &x.bytes[first * x.dtype.size()..], fold, y });
        }
    }
}
