//! Arithmetic on two tensors with broadcasting, in floats and in quantized codes.
//!
//! In a run an operand either advances with the output or stands still; one that stands still is spread over a short row,
//! which the loop reads again and again. So there is one loop a function. With codes every intermediate value is an
//! integer below 2^24 or the very f32 that the scalar kernel has, so results are the same bit for bit.

use super::map::clamp;
use super::shared::{BLOCK, Walk, count, results, units_of};
use super::{Element, Last, SHORTEST, Short, Source, Vector, output, starts};
use crate::{BinaryFn, BinaryParams, Call, DType, MAX_RANK, Op, QBinaryParams};
use core::ops::Range;
use half::f16;

/// An operand of a row.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    /// As many elements as the row has, or [`SHORTEST`] equal ones.
    elements: &'a [u8],
    /// All ones where it advances, else 0.
    mask: usize,
}

impl<'a> Operand<'a> {
    /// The elements of `size` bytes from `x` that go with `len` results, or its first that goes with all of them. One that
    /// stands still is spread over `short`, and a run below [`SHORTEST`] padded in it.
    pub(super) fn new(x: &'a [u8], size: usize, len: usize, moves: bool, short: &'a mut Short) -> Self {
        let mask = usize::from(moves).wrapping_neg();
        if moves && len >= SHORTEST {
            return Self { elements: &x[..len * size], mask };
        }
        if moves {
            short[..len * size].copy_from_slice(&x[..len * size]);
        } else {
            short.chunks_exact_mut(size).for_each(|element| element.copy_from_slice(&x[..size]));
        }
        Self { elements: short, mask }
    }

    /// The vector that goes with the one at `at` of the output.
    ///
    /// # Safety
    /// That of [`Vector`]; the elements are of this type, and the output has such a vector.
    #[inline(always)]
    pub(super) unsafe fn load<V: Vector, E: Source>(&self, at: usize, zero: i32) -> V {
        // SAFETY: as long as the output, or read at 0.
        unsafe { E::load(self.elements.as_ptr().cast::<E>().add(at & self.mask), zero) }
    }
}

/// Dimensions, strides of the operands, and the function.
#[derive(Clone, Copy)]
enum Params<'a> {
    Floats(&'a BinaryParams),
    Codes(&'a QBinaryParams),
}

impl<'a> Params<'a> {
    fn of(call: &Call<'a>) -> Self {
        if call.op == Op::QBinary { Self::Codes(call.params()) } else { Self::Floats(call.params()) }
    }

    fn shape(self) -> [&'a [u32; MAX_RANK]; 3] {
        match self {
            Self::Floats(p) => [&p.dims, &p.a, &p.b],
            Self::Codes(p) => [&p.dims, &p.a, &p.b],
        }
    }

    /// Whether runs are long and both operands advance by one or stand still in them.
    fn is_even(self) -> bool {
        let [dims, a, b] = self.shape();
        let walk = Walk::new(dims, [a, b]);
        walk.len() >= SHORTEST && walk.inner().iter().all(|&step| step <= 1)
    }
}

/// A run of results: f32, f16 or codes.
pub struct Row<'a> {
    params: Params<'a>,
    dtype: DType,
    a: Operand<'a>,
    b: Operand<'a>,
    y: &'a mut [u8],
}

/// Common functions, in long runs.
pub fn accepts(call: &Call) -> bool {
    use BinaryFn::{Add, Div, Mul, PRelu, Sub};
    let function = BinaryFn::from_number(call.params::<BinaryParams>().function);
    matches!(function, Some(Add | Sub | Mul | Div | PRelu)) && Params::of(call).is_even()
}

macro_rules! each {
    ($row:ident, $p:ident, $element:ty, |$a:ident, $b:ident| $body:expr) => {{
        let (lo, hi, y) = (V::splat($p.lo), V::splat($p.hi), $row.y.as_mut_ptr().cast::<$element>());
        for at in starts::<V>($row.y.len() / size_of::<$element>()) {
            let ($a, $b) = ($row.a.load::<V, $element>(at, 0), $row.b.load::<V, $element>(at, 0));
            <$element>::store(clamp($body, lo, hi), Last::new(0.0, 0.0, 0), y.add(at));
        }
    }};
}

/// Computes a row.
///
/// # Safety
/// That of [`Vector`]; the row is [`SHORTEST`] or longer.
#[inline(always)]
pub unsafe fn row<V: Vector>(row: Row) {
    // SAFETY: the caller's promise.
    unsafe {
        match (row.params, row.dtype) {
            (Params::Codes(p), _) => codes::<V::Wide>(row, p),
            (Params::Floats(p), DType::F16) => floats::<V::Wide, f16>(row, p),
            (Params::Floats(p), _) => floats::<V::Wide, f32>(row, p),
        }
    }
}

#[inline(always)]
unsafe fn floats<V: Vector, E: Element>(row: Row, p: &BinaryParams) {
    // SAFETY: vectors lie inside the row.
    unsafe {
        match BinaryFn::from_number(p.function) {
            Some(BinaryFn::Mul) => each!(row, p, E, |a, b| a.mul(b)),
            Some(BinaryFn::Div) => each!(row, p, E, |a, b| a.div(b)),
            Some(BinaryFn::PRelu) => each!(row, p, E, |a, b| a.where_negative(a.mul(b))),
            other => {
                let sign = V::splat(if other == Some(BinaryFn::Sub) { -1.0 } else { 1.0 });
                each!(row, p, E, |a, b| b.mul_add(sign, a));
            }
        }
    }
}

#[inline(always)]
unsafe fn codes<V: Vector>(row: Row, p: &QBinaryParams) {
    let (len, y) = (row.y.len(), row.y.as_mut_ptr().cast::<i8>());
    // SAFETY: vectors lie inside the row.
    unsafe {
        let last = Last::new(p.lo, p.hi, p.y_zero);
        let a_scale = V::splat(p.a_scale);
        if p.function == BinaryFn::Mul.number() {
            for at in starts::<V>(len) {
                let product = row.a.load::<V, i8>(at, p.a_zero).mul(row.b.load::<V, i8>(at, p.b_zero));
                i8::store(product.mul(a_scale), last, y.add(at));
            }
            return;
        }
        let b_scale = V::splat(if p.function == BinaryFn::Sub.number() { -p.b_scale } else { p.b_scale });
        for at in starts::<V>(len) {
            let a = row.a.load::<V, i8>(at, p.a_zero).mul(a_scale);
            i8::store(a.add(row.b.load::<V, i8>(at, p.b_zero).mul(b_scale)), last, y.add(at));
        }
    }
}

/// Blocks of results.
pub fn units(call: &Call) -> usize {
    units_of(count(Params::of(call).shape()[0]), BLOCK)
}

/// # Safety
/// As [`crate::Kernel::run`], for calls of f32, f16 or codes that [`accepts`] or [`quantized::accepts`] takes; the CPU can
/// run `row`.
pub unsafe fn walk(call: &Call, units: Range<usize>, row: unsafe fn(Row)) {
    let (params, dtype) = (Params::of(call), call.input(0).dtype);
    let [dims, a, b] = params.shape();
    let walk = Walk::new(dims, [a, b]);
    let range = results(&units, BLOCK, walk.count());
    let (start, [a_step, b_step], size) = (range.start, walk.inner(), dtype.size());
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output(call, range.clone()) };
    let (mut first, mut second, mut result): (Short, Short, Short) = ([0; _], [0; _], [0; _]);
    walk.runs(range, |at, len, [a_at, b_at]| {
        let y = &mut y[(at - start) * size..][..len * size];
        let a = Operand::new(&call.input(0).bytes[a_at * size..], size, len, a_step == 1, &mut first);
        let b = Operand::new(&call.input(1).bytes[b_at * size..], size, len, b_step == 1, &mut second);
        // SAFETY: rows are long enough, and so are operands that advance.
        unsafe {
            if len >= SHORTEST {
                return row(Row { params, dtype, a, b, y });
            }
            row(Row { params, dtype, a, b, y: &mut result[..SHORTEST * size] });
        }
        y.copy_from_slice(&result[..len * size]);
    });
}

/// The same of quantized tensors.
pub mod quantized {
    pub use super::{units, walk};

    /// Long runs.
    pub fn accepts(call: &crate::Call) -> bool {
        super::Params::of(call).is_even()
    }
}
