//! Normalizations: softmax, layer and instance normalization, local response normalization.
//!
//! All see a tensor as `[outer][len][inner]`. A unit is a run of up to `LANES` neighbours along `inner` of one outer
//! index, each with its own sums (in f64) over `len`; where `inner` is 1 the sums of one row are split in parts instead.

use super::shared::{LANES, Number, output, results, units_of};
use crate::{
    Call, DType, Draft, Features, Kernel, LrnParams, NormAffine, NormParams, Op, Refusal, SoftmaxParams, product,
};
use core::ops::Range;
use half::f16;
use libm::{expf, log, powf, sqrt};

/// Refuses operands of other types or sizes.
pub(super) fn check_softmax(draft: &Draft) -> Result<(), Refusal> {
    let p: &SoftmaxParams = draft.params()?;
    draft.at_most(1, 1)?;
    let x = draft.input(0)?;
    let count = product(&[p.outer, p.inner, p.len])?;
    if p.log > 1 {
        return Err(Refusal::Parameter);
    }
    x.expect(&[DType::F32, DType::F16], count)?;
    draft.output(0)?.expect(&[x.dtype], count)
}

/// Refuses operands of other types or sizes.
pub(super) fn check_norm(draft: &Draft) -> Result<(), Refusal> {
    const FLOAT: &[DType] = &[DType::F32];
    let p: &NormParams = draft.params()?;
    draft.at_most(3, 3)?;
    let (count, columns) = (product(&[p.outer, p.inner, p.len])?, product(&[p.outer, p.inner])?);
    let affine = match NormAffine::from_number(p.affine).ok_or(Refusal::Parameter)? {
        NormAffine::Len => p.len,
        NormAffine::Inner => p.inner,
        NormAffine::Outer => p.channels,
    };
    if p.epsilon.is_nan() || p.epsilon < 0.0 || count > 0 && affine == 0 {
        return Err(Refusal::Parameter);
    }
    draft.input(0)?.expect(FLOAT, count)?;
    draft.input(1)?.expect(FLOAT, affine as usize)?;
    draft.output(0)?.expect(FLOAT, count)?;
    draft.inputs[2].map_or(Ok(()), |bias| bias.expect(FLOAT, affine as usize))?;
    draft.outputs[1..].iter().flatten().try_for_each(|statistic| statistic.expect(FLOAT, columns))
}

/// Refuses operands of other types or sizes.
pub(super) fn check_lrn(draft: &Draft) -> Result<(), Refusal> {
    let p: &LrnParams = draft.params()?;
    draft.at_most(1, 1)?;
    let count = product(&[p.outer, p.channels, p.inner])?;
    if p.size == 0 || [p.alpha, p.beta, p.bias].iter().any(|v| !v.is_finite()) {
        return Err(Refusal::Parameter);
    }
    draft.input(0)?.expect(&[DType::F32], count)?;
    draft.output(0)?.expect(&[DType::F32], count)
}

/// The runs of columns that make up a tensor `[outer][len][inner]`.
#[derive(Clone, Copy)]
struct Columns {
    outer: usize,
    len: usize,
    inner: usize,
}

/// One of the runs: `width` columns, the first of them at `base`.
#[derive(Clone, Copy)]
struct Run {
    outer: usize,
    column: usize,
    base: usize,
    width: usize,
}

impl Columns {
    fn new(outer: u32, len: u32, inner: u32) -> Self {
        Self { outer: outer as usize, len: len as usize, inner: inner as usize }
    }

    fn units(&self) -> usize {
        units_of(self.outer * self.inner.div_ceil(LANES), 1)
    }

    fn runs(self, units: Range<usize>) -> impl Iterator<Item = Run> {
        let chunks = self.inner.div_ceil(LANES);
        results(&units, 1, self.outer * chunks).map(move |unit| {
            let (outer, column) = (unit / chunks, unit % chunks * LANES);
            Run { outer, column, base: outer * self.len * self.inner + column, width: LANES.min(self.inner - column) }
        })
    }

    /// Sums `f(column, x)` over `len`, for each column of a run.
    #[inline(always)]
    fn sums<T: Number<Wide = f32>>(&self, x: &[T], run: Run, f: impl Fn(usize, f32) -> f64) -> [f64; LANES] {
        const PARTS: usize = 8;
        let mut sums = [0f64; LANES];
        if self.inner == 1 {
            for x in x[run.base..][..self.len].chunks(PARTS) {
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f(0, x.get()));
            }
            let total = sums[..PARTS].iter().sum();
            return [total; LANES];
        }
        for i in 0..self.len {
            let x = &x[run.base + i * self.inner..][..run.width];
            sums.iter_mut().zip(x).enumerate().for_each(|(column, (sum, &x))| *sum += f(column, x.get()));
        }
        sums
    }

    /// Writes `f(position along len, column, x)` for each element of a run to output 0.
    ///
    /// # Safety
    /// The run belongs to the running units.
    #[inline(always)]
    unsafe fn write<T: Number<Wide = f32>>(
        &self,
        call: &Call,
        x: &[T],
        run: Run,
        f: impl Fn(usize, usize, f32) -> f32,
    ) {
        // A single column lies in one piece.
        let (rows, width) = if self.inner == 1 { (1, self.len) } else { (self.len, run.width) };
        for row in 0..rows {
            let range = run.base + row * self.inner..run.base + row * self.inner + width;
            // SAFETY: the caller's promise.
            let y = unsafe { output::<T>(call, 0, range.clone()) };
            let pairs = y.iter_mut().zip(&x[range]).enumerate();
            if self.inner == 1 {
                pairs.for_each(|(i, (y, &x))| *y = T::put(f(i, 0, x.get())));
            } else {
                pairs.for_each(|(column, (y, &x))| *y = T::put(f(row, column, x.get())));
            }
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn softmax<T: Number<Wide = f32>>(call: &Call, units: Range<usize>) {
    let p: &SoftmaxParams = call.params();
    let columns = Columns::new(p.outer, p.len, p.inner);
    let x = call.input(0).as_slice::<T>();
    for run in columns.runs(units) {
        let mut peaks = [f32::NEG_INFINITY; LANES];
        for i in 0..columns.len {
            let x = &x[run.base + i * columns.inner..][..run.width];
            peaks.iter_mut().zip(x).for_each(|(peak, &x)| *peak = if x.get() > *peak { x.get() } else { *peak });
        }
        let sums = columns.sums(x, run, |column, x| f64::from(expf(x - peaks[column])));
        let finish = |_, column: usize, x: f32| {
            let x = x - peaks[column];
            if p.log == 1 {
                (f64::from(x) - log(sums[column])) as f32
            } else {
                (f64::from(expf(x)) / sums[column]) as f32
            }
        };
        // SAFETY: these columns belong to the unit.
        unsafe { columns.write::<T>(call, x, run, finish) };
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn norm(call: &Call, units: Range<usize>) {
    let p: &NormParams = call.params();
    let columns = Columns::new(p.outer, p.len, p.inner);
    let x = call.input(0).as_slice::<f32>();
    let scale = call.input(1).as_slice::<f32>();
    let bias = call.inputs[2].map(|bias| bias.as_slice::<f32>());
    let n = columns.len as f64;
    for run in columns.runs(units) {
        let mut mean = columns.sums(x, run, |_, x| x.into());
        mean[..run.width].iter_mut().for_each(|sum| *sum /= n);
        let mut factor =
            columns.sums(x, run, |column, x| (f64::from(x) - mean[column]) * (f64::from(x) - mean[column]));
        factor[..run.width].iter_mut().for_each(|sum| *sum = 1.0 / sqrt(*sum / n + f64::from(p.epsilon)));
        for (i, values) in [(1, &mean), (2, &factor)] {
            if call.outputs[i].is_some() {
                let at = run.outer * columns.inner + run.column;
                // SAFETY: these columns belong to the unit.
                let y = unsafe { output::<f32>(call, i, at..at + run.width) };
                y.iter_mut().zip(values).for_each(|(y, &value)| *y = value as f32);
            }
        }
        let affine = |i: usize, column: usize| match NormAffine::from_number(p.affine) {
            Some(NormAffine::Inner) => run.column + column,
            Some(NormAffine::Outer) => run.outer % p.channels as usize,
            _ => i,
        };
        let finish = |i, column, x: f32| {
            let (normal, affine) = (((f64::from(x) - mean[column]) * factor[column]) as f32, affine(i, column));
            normal * scale[affine] + bias.map_or(0.0, |bias| bias[affine])
        };
        // SAFETY: as above.
        unsafe { columns.write::<f32>(call, x, run, finish) };
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn lrn(call: &Call, units: Range<usize>) {
    let p: &LrnParams = call.params();
    let (channels, inner) = (p.channels as usize, p.inner as usize);
    let x = call.input(0).as_slice::<f32>();
    let (before, after) = ((p.size as usize - 1) / 2, p.size as usize / 2);
    for outer in results(&units, 1, p.outer as usize) {
        let range = outer * channels * inner..(outer + 1) * channels * inner;
        // SAFETY: an outer index belongs to its unit.
        let y = unsafe { output::<f32>(call, 0, range.clone()) };
        let x = &x[range];
        for channel in 0..channels {
            let around = channel.saturating_sub(before)..channel.saturating_add(after + 1).min(channels);
            for i in channel * inner..(channel + 1) * inner {
                let squares: f32 =
                    around.clone().map(|other| x[other * inner + i % inner] * x[other * inner + i % inner]).sum();
                y[i] = x[i] / powf(p.bias + p.alpha / p.size as f32 * squares, p.beta);
            }
        }
    }
}

const fn kernel(
    name: &'static str,
    op: Op,
    accepts: fn(&Call) -> bool,
    units: fn(&Call) -> usize,
    run: unsafe fn(&Call, Range<usize>),
) -> Kernel {
    Kernel { name, op, requires: Features::NONE, accepts, units, run }
}

fn softmax_units(call: &Call) -> usize {
    let p: &SoftmaxParams = call.params();
    Columns::new(p.outer, p.len, p.inner).units()
}

fn norm_units(call: &Call) -> usize {
    let p: &NormParams = call.params();
    Columns::new(p.outer, p.len, p.inner).units()
}

/// The normalizations.
pub(super) const CATALOGUE: &[Kernel] = &[
    kernel("softmax_f32_scalar", Op::Softmax, |call| call.input(0).dtype == DType::F32, softmax_units, softmax::<f32>),
    kernel("softmax_f16_scalar", Op::Softmax, |call| call.input(0).dtype == DType::F16, softmax_units, softmax::<f16>),
    kernel("norm_f32_scalar", Op::Norm, |_| true, norm_units, norm),
    kernel("lrn_f32_scalar", Op::Lrn, |_| true, |call| units_of(call.params::<LrnParams>().outer as usize, 1), lrn),
];
