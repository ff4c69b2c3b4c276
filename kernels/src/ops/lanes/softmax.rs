//! Softmax and its logarithm. A unit is a row along the last axis, or a run of columns along another.

use super::map::{exp, log};
use super::shared::results;
use super::{Element, Last, SHORTEST, Same, Term, Vector, columns, line, runs, starts};
use crate::{Call, DType, SoftmaxParams};
use core::ops::Range;
use half::f16;

/// Long single columns, and many side by side.
pub fn accepts(call: &Call) -> bool {
    let p: &SoftmaxParams = call.params();
    p.inner == 1 && p.len as usize >= SHORTEST || p.inner as usize >= SHORTEST
}

/// Columns of `len` elements, f32 or f16: one, or a run of them.
pub struct Row<'a> {
    dtype: DType,
    /// From the first element.
    x: &'a [u8],
    /// The first result.
    y: *mut u8,
    /// Elements of a column.
    len: usize,
    /// Elements from one of a column to the next.
    step: usize,
    /// Number of columns.
    width: usize,
    /// Whether the logarithm is asked for.
    log: bool,
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; there are [`SHORTEST`] columns or more, or a single one that long.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe {
        match (row.dtype, row.width) {
            (DType::F16, 1) => single::<V, f16>(&row),
            (DType::F16, _) => side_by_side::<V, f16>(&row),
            (_, 1) => single::<V, f32>(&row),
            _ => side_by_side::<V, f32>(&row),
        }
    }
}

/// The exponential of an element less the greatest one, whose negative is held.
#[derive(Clone, Copy)]
struct Exponential<V>(V);

impl<V: Vector> Term<V> for Exponential<V> {
    #[inline(always)]
    unsafe fn of(self, x: V) -> V {
        // SAFETY: the trait's.
        unsafe { exp(x.add(self.0)) }
    }
}

/// Several columns, vector by vector.
#[inline(always)]
unsafe fn side_by_side<V: Vector, E: Element>(row: &Row) {
    let (x, y) = (row.x.as_ptr().cast::<E>(), row.y.cast::<E>());
    // SAFETY: vectors lie inside the columns; what is read of y has been written by the same vector.
    unsafe {
        let last = Last::new(0.0, 0.0, 0);
        for first in starts::<V>(row.width) {
            let places = (0..row.len).map(|i| i * row.step + first);
            let (mut peak, mut sum) = (V::splat(f32::NEG_INFINITY), V::splat(0.0));
            for at in places.clone() {
                peak = E::load::<V>(x.add(at), 0).max(peak);
            }
            let term = Exponential(peak.mul(V::splat(-1.0)));
            for at in places.clone() {
                let e = term.of(E::load::<V>(x.add(at), 0));
                sum = sum.add(e);
                if !row.log {
                    E::store(e, last, y.add(at));
                }
            }
            if row.log {
                let minus = log(sum).mul(V::splat(-1.0));
                for at in places {
                    E::store(E::load::<V>(x.add(at), 0).add(term.0).add(minus), last, y.add(at));
                }
            } else {
                let factor = V::splat(1.0).div(sum);
                for at in places {
                    E::store(E::load::<V>(y.add(at), 0).mul(factor), last, y.add(at));
                }
            }
        }
    }
}

/// One column, which lies in one piece.
#[inline(always)]
unsafe fn single<V: Vector, E: Element>(row: &Row) {
    let (len, x, y) = (row.len, row.x.as_ptr().cast::<E>(), row.y.cast::<E>());
    // SAFETY: vectors lie inside the column.
    unsafe {
        let last = Last::new(0.0, 0.0, 0);
        let mut peaks = V::splat(f32::NEG_INFINITY);
        for at in starts::<V>(len) {
            peaks = E::load::<V>(x.add(at), 0).max(peaks);
        }
        let mut lanes = [f32::NEG_INFINITY; SHORTEST];
        peaks.store(lanes.as_mut_ptr());
        let term = Exponential(V::splat(-lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)));
        if row.log {
            let minus = V::splat(-libm::logf(line::<V, E>(x, len, term)));
            for at in starts::<V>(len) {
                E::store(E::load::<V>(x.add(at), 0).add(term.0).add(minus), last, y.add(at));
            }
            return;
        }
        for at in starts::<V>(len) {
            E::store(term.of(E::load::<V>(x.add(at), 0)), last, y.add(at));
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

/// Rows, or runs of columns.
pub fn units(call: &Call) -> usize {
    let p: &SoftmaxParams = call.params();
    (p.outer as usize * runs(p.inner as usize)).max(1)
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32 or f16 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let p: &SoftmaxParams = call.params();
    let [outer, len, inner] = [p.outer, p.len, p.inner].map(|size| size as usize);
    let x = call.input(0);
    for unit in results(&units, 1, outer * runs(inner)) {
        let (outer, columns) = (unit / runs(inner), columns(inner, unit % runs(inner)));
        let base = (outer * len * inner + columns.start) * x.dtype.size();
        // SAFETY: a run of columns belongs to its unit; `check` has seen that they exist.
        unsafe {
            let (x, y) = (&x.bytes[base..], call.output(0).as_mut_ptr().cast::<u8>().add(base));
            row(Row { dtype: call.input(0).dtype, x, y, len, step: inner, width: columns.len(), log: p.log == 1 });
        }
    }
}
