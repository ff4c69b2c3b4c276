//! Layer normalization along the last axis, and instance normalization channels last: the mean first, then the deviation
//! from it. A unit is a row, or a run of columns.

use super::binary::Operand;
use super::shared::results;
use super::{SHORTEST, Same, Short, Term, Vector, columns, line, runs, starts};
use crate::{Call, NormAffine, NormParams};
use core::ops::Range;

/// Long single columns, and many side by side whose scale is not that of a position; no statistics asked for.
pub fn accepts(call: &Call) -> bool {
    let p: &NormParams = call.params();
    let single = p.inner == 1 && p.len as usize >= SHORTEST;
    let many = p.inner as usize >= SHORTEST && p.len > 0 && p.affine != NormAffine::Len.number();
    (single || many) && call.outputs[1..].iter().all(Option::is_none)
}

/// Columns of `len` elements: one, or a run of them.
pub struct Row<'a> {
    /// From the first element.
    x: &'a [f32],
    /// The first result.
    y: *mut f32,
    /// Elements of a column.
    len: usize,
    /// Elements from one of a column to the next.
    step: usize,
    /// Number of columns.
    width: usize,
    /// Scale and bias along the vector.
    affine: [Operand<'a>; 2],
    /// Added to the variance.
    epsilon: f32,
}

/// The square of the distance to a mean.
#[derive(Clone, Copy)]
struct Deviation<V>(V);

impl<V: Vector> Term<V> for Deviation<V> {
    #[inline(always)]
    unsafe fn of(self, x: V) -> V {
        // SAFETY: the trait's.
        unsafe {
            let distance = x.add(self.0);
            distance.mul(distance)
        }
    }
}

/// The sums of `term` over the columns at `x`.
#[inline(always)]
unsafe fn sums<V: Vector>(row: &Row, at: usize, term: impl Term<V>) -> V {
    // SAFETY: the caller's: the columns exist.
    unsafe {
        let mut sum = V::splat(0.0);
        for i in 0..row.len {
            sum = sum.add(term.of(V::load(row.x.as_ptr().add(i * row.step + at))));
        }
        sum
    }
}

/// What distances to the mean are multiplied by.
fn factor(squares: f32, n: f32, epsilon: f32) -> f32 {
    1.0 / libm::sqrtf(squares / n + epsilon)
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; there are [`SHORTEST`] columns or more, or a single one that long.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe { normalize::<V::Wide>(row) }
}

#[inline(always)]
unsafe fn normalize<V: Vector>(row: Row) {
    let n = row.len as f32;
    // SAFETY: vectors lie inside columns or inside the single one.
    unsafe {
        if row.width == 1 {
            let x = row.x.as_ptr();
            let minus = V::splat(-line::<V, f32>(x, row.len, Same) / n);
            let factor = V::splat(factor(line::<V, f32>(x, row.len, Deviation(minus)), n, row.epsilon));
            for at in starts::<V>(row.len) {
                write(&row, at, at, minus, factor);
            }
            return;
        }
        for at in starts::<V>(row.width) {
            let minus = sums::<V>(&row, at, Same).mul(V::splat(-1.0 / n));
            let mut lanes = [0f32; SHORTEST];
            sums::<V>(&row, at, Deviation(minus)).store(lanes.as_mut_ptr());
            lanes.iter_mut().for_each(|squares| *squares = factor(*squares, n, row.epsilon));
            let factor = V::load(lanes.as_ptr());
            for i in 0..row.len {
                write(&row, i * row.step + at, at, minus, factor);
            }
        }
    }
}

/// Writes the results at `to` with the scale and bias at `at`.
#[inline(always)]
unsafe fn write<V: Vector>(row: &Row, to: usize, at: usize, minus: V, factor: V) {
    // SAFETY: the caller's.
    unsafe {
        let [scale, bias] = row.affine.map(|operand| operand.load::<V, f32>(at, 0));
        let normal = V::load(row.x.as_ptr().add(to)).add(minus).mul(factor);
        normal.mul_add(scale, bias).store(row.y.add(to));
    }
}

/// Rows, or runs of columns.
pub fn units(call: &Call) -> usize {
    let p: &NormParams = call.params();
    (p.outer as usize * runs(p.inner as usize)).max(1)
}

/// # Safety
/// As [`crate::Kernel::run`], for calls that [`accepts`] takes; the CPU can run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let p: &NormParams = call.params();
    let [outer, len, inner] = [p.outer, p.len, p.inner].map(|size| size as usize);
    let x = call.input(0).as_slice::<f32>();
    for unit in results(&units, 1, outer * runs(inner)) {
        let (outer, columns) = (unit / runs(inner), columns(inner, unit % runs(inner)));
        // Where scale and bias of this unit begin, and whether they advance along the vector.
        let (at, moves) = match NormAffine::from_number(p.affine) {
            Some(NormAffine::Inner) => (columns.start, inner > 1),
            Some(NormAffine::Outer) => (outer % p.channels as usize, false),
            _ => (0, true),
        };
        let width = if inner == 1 { len } else { columns.len() };
        let (mut first, mut second): (Short, Short) = ([0; _], [0; _]);
        // No bias is zeros that stand still.
        let zero = [0; 4];
        let bias = call.inputs[2].map_or(&zero[..], |bias| &bias.bytes[at * 4..]);
        let affine = [
            Operand::new(&call.input(1).bytes[at * 4..], 4, width, moves, &mut first),
            Operand::new(bias, 4, width, moves && call.inputs[2].is_some(), &mut second),
        ];
        let base = outer * len * inner + columns.start;
        // SAFETY: a run of columns belongs to its unit.
        unsafe {
            let y = call.output(0).as_mut_ptr().cast::<f32>().add(base);
            row(Row { x: &x[base..], y, len, step: inner, width: columns.len(), affine, epsilon: p.epsilon });
        }
    }
}
