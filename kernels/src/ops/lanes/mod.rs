//! Kernels written once for every instruction set with vectors: all operators but convolutions and matrix products that
//! are worth one.
//!
//! An operator here is a *walk* and a *row*. The walk is ordinary code, compiled once: it finds the operands of each run
//! of neighbouring results and calls the row through a pointer. The row is a loop over a [`Vector`], in which every
//! element is an f32: codes and halves are converted as they are loaded and stored, which is exact. An instruction set
//! implements [`Vector`] and names itself in [`lanes!`](crate::lanes!), which compiles every row for it and makes its
//! catalogue:
//!
//! ```text
//! sparrow-kernels   walk(call, units, row)  ──▶ row(operands of a run)      one source
//! an instruction set                            #[target_feature] row::<V>  one loop each
//! ```
//!
//! Rows are [`SHORTEST`] or longer, so that no loop has a tail: the last vector of a row begins inside the one before,
//! and its results are computed twice. Shorter runs are padded by the walk where they are rare, and refused where they
//! are the rule.

pub mod binary;
pub mod codes;
pub mod map;
pub mod norm;
pub mod pool;
pub mod reduce;
pub mod resample;
pub mod softmax;
mod vector;

pub use vector::{Two, Vector};

use super::{gather as scalar_gather, pool as scalar_pool, shared};
use crate::Call;
use core::ops::Range;
use vector::{Element, Last, Source};

/// Least number of elements of a row, and most lanes of a vector.
pub const SHORTEST: usize = 16;

/// Where the vectors of a row begin.
struct Starts {
    at: usize,
    len: usize,
    lanes: usize,
}

/// Where the vectors of a row of `len` elements begin; `len` is at least [`SHORTEST`].
#[inline(always)]
fn starts<V: Vector>(len: usize) -> Starts {
    Starts { at: 0, len, lanes: V::LANES }
}

impl Iterator for Starts {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let at = self.at;
        self.at += self.lanes;
        (at < self.len).then(|| at.min(self.len - self.lanes))
    }
}

/// What is summed up of an element.
trait Term<V>: Copy {
    /// # Safety
    /// That of [`Vector`].
    unsafe fn of(self, x: V) -> V;
}

/// The element itself.
#[derive(Clone, Copy)]
struct Same;

impl<V> Term<V> for Same {
    #[inline(always)]
    unsafe fn of(self, x: V) -> V {
        x
    }
}

/// The sum over a row of `len` elements.
///
/// # Safety
/// That of [`Vector`]; the row is [`SHORTEST`] or longer.
#[inline(always)]
unsafe fn line<V: Vector, E: Element>(x: *const E, len: usize, term: impl Term<V>) -> f32 {
    let whole = len / V::LANES * V::LANES;
    let end = len - V::LANES;
    // SAFETY: vectors lie inside the row.
    unsafe {
        let mut sums = V::splat(0.0);
        for at in (0..whole).step_by(V::LANES) {
            sums = sums.add(term.of(E::load(x.add(at), 0)));
        }
        // Of the last vector the lanes that were in none.
        let (mut lanes, mut rest) = ([0f32; SHORTEST], [0f32; SHORTEST]);
        sums.store(lanes.as_mut_ptr());
        term.of(E::load::<V>(x.add(end), 0)).store(rest.as_mut_ptr());
        lanes.iter().chain(&rest[whole - end..V::LANES]).sum()
    }
}

/// Elements `range` of input `i`.
fn input<'a>(call: &Call<'a>, i: usize, range: Range<usize>) -> &'a [u8] {
    let input = call.input(i);
    let size = input.dtype.size();
    &input.bytes[range.start * size..range.end * size]
}

/// Elements `range` of the output.
///
/// # Safety
/// Only the running units write these elements, and no slice of them lives already.
unsafe fn output<'a>(call: &Call<'a>, range: Range<usize>) -> &'a mut [u8] {
    let output = call.output(0);
    let size = output.dtype.size();
    // SAFETY: the caller's promise.
    unsafe { output.slice(range.start * size..range.end * size) }
}

/// A row of the shortest length, of any type.
type Short = [u8; SHORTEST * 4];

/// Calls `body` with `len` elements from `x` to `y`, or with padded copies if they are too few.
#[inline]
fn padded(len: usize, x: &[u8], y: &mut [u8], body: impl FnOnce(&[u8], &mut [u8])) {
    match len {
        0 => {}
        SHORTEST.. => body(x, y),
        _ => {
            let (mut from, mut to): (Short, Short) = ([0; _], [0; _]);
            from[..x.len()].copy_from_slice(x);
            body(&from[..x.len() / len * SHORTEST], &mut to[..y.len() / len * SHORTEST]);
            y.copy_from_slice(&to[..y.len()]);
        }
    }
}

/// Columns a unit takes where they lie side by side.
const COLUMNS: usize = 64;

/// Units that `inner` columns make.
fn runs(inner: usize) -> usize {
    (inner / COLUMNS).max(1)
}

/// The columns of one of them: the last takes what is left.
fn columns(inner: usize, run: usize) -> Range<usize> {
    run * COLUMNS..if run + 1 == runs(inner) { inner } else { (run + 1) * COLUMNS }
}

/// The catalogue of an instruction set: its vector, what its kernels' names end with, what they require, and the target
/// features that are not on everywhere.
#[macro_export]
macro_rules! lanes {
    ($(#[$doc:meta])* $catalogue:ident: $($isa:tt)*) => {
        $(#[$doc])*
        pub(crate) const $catalogue: &[$crate::Kernel] = $crate::lanes! { @all [$($isa)*]
            [map softmax binary codes pool resample norm]
            "map_f32", Map, map, F32, map;
            "map_f16", Map, map, F16, map;
            "softmax_f32", Softmax, softmax, F32, softmax;
            "softmax_f16", Softmax, softmax, F16, softmax;
            "binary_f32", Binary, binary, F32, binary;
            "binary_f16", Binary, binary, F16, binary;
            "qbinary_i8", QBinary, binary::quantized, I8, binary;
            "quantize_f32", Quantize, codes::quantize, F32, codes;
            "dequantize_i8", Dequantize, codes::dequantize, I8, codes;
            "dequantize_u8", Dequantize, codes::dequantize, U8, codes;
            "requantize_i8", Requantize, codes::requantize, I8, codes;
            "requantize_i32", Requantize, codes::requantize, I32, codes;
            "pool_f32", Pool, pool, F32, pool;
            "pool_f16", Pool, pool, F16, pool;
            "pool_i8", Pool, pool, I8, pool;
            "reduce_f32", Reduce, reduce, F32, pool;
            "reduce_f16", Reduce, reduce, F16, pool;
            "reduce_i8", Reduce, reduce, I8, pool;
            "resample_f32", Resample, resample, F32, resample;
            "resample_f16", Resample, resample, F16, resample;
            "resample_i8", Resample, resample, I8, resample;
            "norm_f32", Norm, norm, F32, norm;
        };
    };
    (@all $isa:tt [$($row:ident)*] $($kernels:tt)*) => {{
        $($crate::lanes! { @row $isa $row })*
        $crate::lanes! { @kernels $isa $($kernels)* }
    }};
    (@row [$vector:ty, $isa:literal, $requires:expr $(, $features:literal)?] $row:ident) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn $row(row: $crate::lanes::$row::Row) {
            // SAFETY: the walk's promise; the CPU has the vector's features, which the kernels require.
            unsafe { $crate::lanes::$row::row::<$vector>(row) }
        }
    };
    (@kernels [$vector:ty, $isa:literal, $requires:expr $(, $features:literal)?]
        $($name:literal, $op:ident, $($walk:ident)::*, $dtype:ident, $row:ident;)*) => {
        &[$($crate::Kernel {
            name: concat!($name, "_", $isa),
            op: $crate::Op::$op,
            requires: $requires,
            accepts: |call| {
                call.input(0).dtype == $crate::DType::$dtype && $crate::lanes::$($walk)::*::accepts(call)
            },
            units: $crate::lanes::$($walk)::*::units,
            run: {
                unsafe fn run(call: &$crate::Call, units: ::core::ops::Range<usize>) {
                    // SAFETY: the caller's promise.
                    unsafe { $crate::lanes::$($walk)::*::walk(call, units, $row) }
                }
                run
            },
        }),*]
    };
}
