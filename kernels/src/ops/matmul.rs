//! Products of computed matrices, as attention and dynamic weights need them.
//!
//! A unit is a few rows of one product. Where b's columns lie side by side, a run of results is accumulated over k; where
//! its rows do (a transposed b), each result is a dot product with several partial sums. Both loops vectorize.

use super::shared::{LANES, Number, count, output, reach, results, units_of};
use crate::{Call, DType, Draft, Features, Kernel, MatMulParams, Op, Refusal, product};
use core::ops::{AddAssign, Range};
use half::f16;

/// Rows of a unit.
const ROWS: usize = 8;

/// Refuses operands whose types do not go together, or that the product would leave.
pub(super) fn check(draft: &Draft) -> Result<(), Refusal> {
    let p: &MatMulParams = draft.params()?;
    draft.at_most(2, 1)?;
    let a = draft.input(0)?;
    let y = match a.dtype {
        DType::I8 => DType::I32,
        float => float,
    };
    if p.a_zero.unsigned_abs() > 255 || p.b_zero.unsigned_abs() > 255 {
        return Err(Refusal::Parameter);
    }
    let [b0, b1, b2, b3, b4, b5] = p.batch;
    let walk = |batch: &[u32; 6], rows, columns, row, column| {
        let [s0, s1, s2, s3, s4, s5] = *batch;
        reach(&[b0, b1, b2, b3, b4, b5, rows, columns], &[s0, s1, s2, s3, s4, s5, row, column])
    };
    let outputs = product(&[b0, b1, b2, b3, b4, b5, p.m, p.n])?;
    // Without results nothing is read.
    let read = |end: usize| if outputs == 0 { 0 } else { end };
    a.expect(&[DType::F32, DType::F16, DType::I8], read(walk(&p.a_batch, p.m, p.k, p.a_row, p.a_col)?))?;
    draft.input(1)?.expect(&[a.dtype], read(walk(&p.b_batch, p.k, p.n, p.b_row, p.b_col)?))?;
    draft.output(0)?.expect(&[y], outputs)
}

/// An element type with its products.
trait Factor: Number {
    /// Type of the sums.
    type Sum: Copy + Default + AddAssign;
    /// Type of the result.
    type Result: bytemuck::Pod;
    /// An operand less its zero point.
    fn centred(self, zero: i32) -> Self::Sum;
    fn add(sum: Self::Sum, a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn result(sum: Self::Sum) -> Self::Result;
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Factor for $type {
            type Sum = f32;
            type Result = $type;
            #[inline(always)]
            fn centred(self, _: i32) -> f32 {
                self.get()
            }
            #[inline(always)]
            fn add(sum: f32, a: f32, b: f32) -> f32 {
                sum + a * b
            }
            fn result(sum: f32) -> $type {
                Number::put(sum)
            }
        }
    )*};
}
floats! { f32 f16 }

impl Factor for i8 {
    type Sum = i32;
    type Result = i32;
    #[inline(always)]
    fn centred(self, zero: i32) -> i32 {
        i32::from(self) - zero
    }
    #[inline(always)]
    fn add(sum: i32, a: i32, b: i32) -> i32 {
        sum.wrapping_add(a * b)
    }
    fn result(sum: i32) -> i32 {
        sum
    }
}

fn rows(p: &MatMulParams) -> usize {
    count(&p.batch) * p.m as usize
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn matmul<T: Factor>(call: &Call, units: Range<usize>) {
    let p: &MatMulParams = call.params();
    let (m, n) = (p.m as usize, p.n as usize);
    let (a, b) = (call.input(0).as_slice::<T>(), call.input(1).as_slice::<T>());
    if n == 0 {
        return;
    }
    for row in results(&units, ROWS, rows(p)) {
        let (mut a_at, mut b_at, mut rest) = (row % m * p.a_row as usize, 0, row / m);
        for axis in (0..p.batch.len()).rev() {
            let i = rest % p.batch[axis] as usize;
            rest /= p.batch[axis] as usize;
            a_at += i * p.a_batch[axis] as usize;
            b_at += i * p.b_batch[axis] as usize;
        }
        // SAFETY: a row belongs to its unit.
        let y = unsafe { output::<T::Result>(call, 0, row * n..(row + 1) * n) };
        // Without a depth nothing is read, and the operands may be empty.
        let (a, b) = if p.k == 0 { (a, b) } else { (&a[a_at..], &b[b_at..]) };
        if p.b_row == 1 && p.b_col != 1 {
            dots(p, a, b, y);
        } else {
            runs(p, a, b, y);
        }
    }
}

/// A row of results where b's rows lie side by side: one dot product each.
fn dots<T: Factor>(p: &MatMulParams, a: &[T], b: &[T], y: &mut [T::Result]) {
    const PARTS: usize = 16;
    let (k, a_col) = (p.k as usize, p.a_col as usize);
    for (column, y) in y.iter_mut().enumerate() {
        let mut sums = [T::Sum::default(); PARTS];
        for first in (0..k).step_by(PARTS) {
            let b = &b[column * p.b_col as usize + first..][..PARTS.min(k - first)];
            let (b, len) = (b.iter().map(|b| b.centred(p.b_zero)), b.len());
            if a_col == 1 {
                let a = a[first..][..len].iter().map(|a| a.centred(p.a_zero));
                sums.iter_mut().zip(a.zip(b)).for_each(|(sum, (a, b))| *sum = T::add(*sum, a, b));
            } else {
                let a = (first..first + len).map(|i| a[i * a_col].centred(p.a_zero));
                sums.iter_mut().zip(a.zip(b)).for_each(|(sum, (a, b))| *sum = T::add(*sum, a, b));
            }
        }
        let mut total = T::Sum::default();
        sums.iter().for_each(|&sum| total += sum);
        *y = T::result(total);
    }
}

/// A row of results, `LANES` at a time, each k adding to all of them.
fn runs<T: Factor>(p: &MatMulParams, a: &[T], b: &[T], y: &mut [T::Result]) {
    let (b_row, b_col) = (p.b_row as usize, p.b_col as usize);
    for (chunk, y) in y.chunks_mut(LANES).enumerate() {
        let mut sums = [T::Sum::default(); LANES];
        for k in 0..p.k as usize {
            let a = a[k * p.a_col as usize].centred(p.a_zero);
            let b = &b[k * b_row + chunk * LANES * b_col..];
            if b_col == 1 {
                sums.iter_mut().zip(&b[..y.len()]).for_each(|(sum, &b)| *sum = T::add(*sum, a, b.centred(p.b_zero)));
            } else {
                (0..y.len()).for_each(|i| sums[i] = T::add(sums[i], a, b[i * b_col].centred(p.b_zero)));
            }
        }
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::result(sum));
    }
}

macro_rules! kernels {
    ($($name:literal, $dtype:ident, $type:ty;)*) => {
        /// Matrix products by element type.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::MatMul,
            requires: Features::NONE,
            accepts: |call| call.input(0).dtype == DType::$dtype,
            units: |call| units_of(rows(call.params()), ROWS),
            run: matmul::<$type>,
        },)*];
    };
}

kernels! {
    "matmul_f32_scalar", F32, f32;
    "matmul_f16_scalar", F16, f16;
    "matmul_i8_scalar", I8, i8;
}
