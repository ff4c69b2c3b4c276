//! Weighted sums of positions along an axis, which every resize is made of. A row is an output position's run of elements.
//! Products are rounded before they are added, in the order of the taps, so codes are the same bit for bit.

use super::scalar_gather::slices;
use super::shared::{results, units_of};
use super::{Element, Last, SHORTEST, Vector, input, output, starts};
use crate::{Call, DType, ResampleParams};
use core::ops::Range;
use half::f16;

/// Runs that are long enough.
pub fn accepts(call: &Call) -> bool {
    call.params::<ResampleParams>().inner as usize >= SHORTEST
}

/// An output position: f32, f16 or i8.
pub struct Row<'a> {
    dtype: DType,
    /// All input positions, each as long as y.
    x: &'a [u8],
    /// The input position of each tap; those outside count as the nearest.
    positions: &'a [i32],
    /// Its weight.
    weights: &'a [f32],
    /// The sums.
    y: &'a mut [u8],
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row is [`SHORTEST`] or longer, and x one or more rows.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe {
        match row.dtype {
            DType::F16 => sums::<V::Wide, f16>(row),
            DType::I8 => sums::<V::Wide, i8>(row),
            _ => sums::<V::Wide, f32>(row),
        }
    }
}

#[inline(always)]
unsafe fn sums<V: Vector, E: Element>(row: Row) {
    let (len, y) = (row.y.len() / size_of::<E>(), row.y.as_mut_ptr().cast::<E>());
    let end = (row.x.len() / row.y.len()) as i32 - 1;
    // SAFETY: vectors lie inside a row, positions inside x.
    unsafe {
        let last = Last::new(-128.0, 127.0, 0);
        for at in starts::<V>(len) {
            let mut sum = V::splat(0.0);
            for (&position, &weight) in row.positions.iter().zip(row.weights) {
                let from = row.x.as_ptr().cast::<E>().add(position.clamp(0, end) as usize * len + at);
                sum = sum.add(E::load::<V>(from, 0).mul(V::splat(weight)));
            }
            E::store(sum, last, y.add(at));
        }
    }
}

/// Slices of neighbouring output positions.
pub fn units(call: &Call) -> usize {
    let p: &ResampleParams = call.params();
    units_of(p.outer as usize * p.out_len as usize, slices(p.inner as usize))
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32, f16 or i8 that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let &ResampleParams { outer, in_len, out_len, inner, taps } = call.params();
    let [outer, in_len, out_len, inner, taps] = [outer, in_len, out_len, inner, taps].map(|size| size as usize);
    let (positions, weights) = (call.input(1).as_slice::<i32>(), call.input(2).as_slice::<f32>());
    for slice in results(&units, slices(inner), outer * out_len) {
        let (outer, o) = (slice / out_len, slice % out_len);
        let taps = o * taps..(o + 1) * taps;
        // SAFETY: a slice belongs to its unit; `check` has seen that there is an input position.
        unsafe {
            row(Row {
                dtype: call.input(0).dtype,
                x: input(call, 0, outer * in_len * inner..(outer + 1) * in_len * inner),
                positions: &positions[taps.clone()],
                weights: &weights[taps],
                y: output(call, slice * inner..(slice + 1) * inner),
            });
        }
    }
}
