//! Positions of extremes: arg-max, arg-min, and the k greatest or least.
//!
//! The k best are kept sorted in the output itself: each element that beats the last of them is moved up to its place.
//! NaN is never better than anything.

use super::shared::{LANES, Number, output, results, units_of};
use crate::{ArgReduceParams, Call, DType, Draft, Features, Kernel, Op, Refusal, TopKParams, product};
use core::ops::Range;
use half::f16;

const NUMBERS: &[DType] = &[DType::F32, DType::F16, DType::I8, DType::U8, DType::I32, DType::I64];

/// Refuses the extreme of nothing, or operands that do not fit.
pub(super) fn check_argreduce(draft: &Draft) -> Result<(), Refusal> {
    let p: &ArgReduceParams = draft.params()?;
    draft.at_most(1, 1)?;
    let written = product(&[p.outer, p.inner])?;
    if p.greatest > 1 || p.last > 1 || written > 0 && p.len == 0 {
        return Err(Refusal::Parameter);
    }
    draft.input(0)?.expect(NUMBERS, product(&[p.outer, p.len, p.inner])?)?;
    draft.output(0)?.expect(&[DType::I64], written)
}

/// Refuses more elements than there are, or operands that do not fit.
pub(super) fn check_topk(draft: &Draft) -> Result<(), Refusal> {
    let p: &TopKParams = draft.params()?;
    draft.at_most(1, 2)?;
    if p.greatest > 1 || p.k > p.len {
        return Err(Refusal::Parameter);
    }
    let x = draft.input(0)?;
    x.expect(NUMBERS, product(&[p.outer, p.len, p.inner])?)?;
    let written = product(&[p.outer, p.k, p.inner])?;
    draft.output(0)?.expect(&[x.dtype], written)?;
    draft.output(1)?.expect(&[DType::I64], written)
}

/// Whether `a` goes before `b`. NaN, which equals nothing, goes after all else.
#[inline(always)]
#[allow(clippy::eq_op)]
fn better<W: PartialOrd>(greatest: bool, a: W, b: W) -> bool {
    let beats = if greatest { a > b } else { a < b };
    beats || b != b && a == a
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn argreduce<T: Number<Wide: PartialOrd>>(call: &Call, units: Range<usize>) {
    let p: &ArgReduceParams = call.params();
    let (len, inner) = (p.len as usize, p.inner as usize);
    let x = call.input(0).as_slice::<T>();
    let range = results(&units, LANES, p.outer as usize * inner);
    // SAFETY: a block of results belongs to its unit.
    let y = unsafe { output::<i64>(call, 0, range.clone()) };
    for (y, at) in y.iter_mut().zip(range) {
        let base = at / inner * len * inner + at % inner;
        let (mut best, mut position) = (x[base].get(), 0);
        for i in 1..len {
            let value = x[base + i * inner].get();
            if better(p.greatest == 1, value, best) || p.last == 1 && value == best {
                (best, position) = (value, i);
            }
        }
        *y = position as i64;
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn topk<T: Number<Wide: PartialOrd>>(call: &Call, units: Range<usize>) {
    let p: &TopKParams = call.params();
    let (len, k, inner) = (p.len as usize, p.k as usize, p.inner as usize);
    let x = call.input(0).as_slice::<T>();
    if k == 0 {
        return;
    }
    for outer in units.start..units.end.min(p.outer as usize) {
        let range = outer * k * inner..(outer + 1) * k * inner;
        // SAFETY: the results of an outer index belong to its unit.
        let (values, positions) = unsafe { (output::<T>(call, 0, range.clone()), output::<i64>(call, 1, range)) };
        for column in 0..inner {
            for i in 0..len {
                let x = x[(outer * len + i) * inner + column];
                // The place behind the last kept element that x does not beat.
                let mut place = i.min(k);
                if place == k && !better(p.greatest == 1, x.get(), values[(k - 1) * inner + column].get()) {
                    continue;
                }
                place = place.min(k - 1);
                while place > 0 && better(p.greatest == 1, x.get(), values[(place - 1) * inner + column].get()) {
                    values[place * inner + column] = values[(place - 1) * inner + column];
                    positions[place * inner + column] = positions[(place - 1) * inner + column];
                    place -= 1;
                }
                (values[place * inner + column], positions[place * inner + column]) = (x, i as i64);
            }
        }
    }
}

fn argreduce_units(call: &Call) -> usize {
    let p: &ArgReduceParams = call.params();
    units_of(p.outer as usize * p.inner as usize, LANES)
}

fn topk_units(call: &Call) -> usize {
    (call.params::<TopKParams>().outer as usize).max(1)
}

macro_rules! kernels {
    ($($op:ident, $name:literal, $dtype:ident, $units:expr, $run:expr;)*) => {
        /// Selections by element type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::$op,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: $units,
            run: $run,
        },)*];
    };
}

kernels! {
    ArgReduce, "argreduce_f32_scalar", F32, argreduce_units, argreduce::<f32>;
    ArgReduce, "argreduce_f16_scalar", F16, argreduce_units, argreduce::<f16>;
    ArgReduce, "argreduce_i8_scalar", I8, argreduce_units, argreduce::<i8>;
    ArgReduce, "argreduce_u8_scalar", U8, argreduce_units, argreduce::<u8>;
    ArgReduce, "argreduce_i32_scalar", I32, argreduce_units, argreduce::<i32>;
    ArgReduce, "argreduce_i64_scalar", I64, argreduce_units, argreduce::<i64>;
    TopK, "topk_f32_scalar", F32, topk_units, topk::<f32>;
    TopK, "topk_f16_scalar", F16, topk_units, topk::<f16>;
    TopK, "topk_i8_scalar", I8, topk_units, topk::<i8>;
    TopK, "topk_u8_scalar", U8, topk_units, topk::<u8>;
    TopK, "topk_i32_scalar", I32, topk_units, topk::<i32>;
    TopK, "topk_i64_scalar", I64, topk_units, topk::<i64>;
}
