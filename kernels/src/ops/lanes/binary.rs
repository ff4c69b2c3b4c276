//! Arithmetic on two tensors with broadcasting, in floats and in quantized codes.
//!
//! In a run an operand either advances with the output or stands still; one that stands still is spread over a short row,
//! which the loop reads again and again. So there is one loop a function. Where runs are short, as of three channels, or an
//! operand leaps, operands that are not in the order of the output are brought into it, [`GATHERED`] elements at a time.
//! With codes every intermediate value is an integer below 2^24 or the very f32 that the scalar kernel has, so results are
//! the same bit for bit.

use super::map::{clamp, greatest, least};
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

    /// Whether there are enough results for a row.
    fn fills_a_row(self) -> bool {
        count(self.shape()[0]) >= SHORTEST
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

/// Common functions of enough elements.
pub fn accepts(call: &Call) -> bool {
    use BinaryFn::{Add, Div, Max, Min, Mul, PRelu, Sub};
    let function = BinaryFn::from_number(call.params::<BinaryParams>().function);
    matches!(function, Some(Add | Sub | Mul | Div | Min | Max | PRelu)) && Params::of(call).fills_a_row()
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
            Some(BinaryFn::Min) => each!(row, p, E, |a, b| least(a, b)),
            Some(BinaryFn::Max) => each!(row, p, E, |a, b| greatest(a, b)),
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
    let (start, steps, size) = (range.start, walk.inner(), dtype.size());
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output(call, range.clone()) };
    let (mut first, mut second, mut result): (Short, Short, Short) = ([0; _], [0; _], [0; _]);
    let mut part = |at: usize, len: usize, operands: [(&[u8], bool); 2]| {
        let y = &mut y[(at - start) * size..][..len * size];
        let a = Operand::new(operands[0].0, size, len, operands[0].1, &mut first);
        let b = Operand::new(operands[1].0, size, len, operands[1].1, &mut second);
        // SAFETY: rows are long enough, and so are operands that advance.
        unsafe {
            if len >= SHORTEST {
                return row(Row { params, dtype, a, b, y });
            }
            row(Row { params, dtype, a, b, y: &mut result[..SHORTEST * size] });
        }
        y.copy_from_slice(&result[..len * size]);
    };
    let x = [0, 1].map(|i| call.input(i).bytes);
    if walk.len() >= SHORTEST && steps.iter().all(|&step| step <= 1) {
        walk.runs(range, |at, len, from| {
            part(at, len, core::array::from_fn(|i| (&x[i][from[i] * size..], steps[i] == 1)));
        });
    } else {
        gathered(&walk, range, size, x, [a, b].map(|strides| in_order(dims, strides)), part);
    }
}

/// Elements brought into the output's order at a time.
const GATHERED: usize = 256;

/// Whether an operand of these strides lies as the output does.
fn in_order(dims: &[u32; MAX_RANK], strides: &[u32; MAX_RANK]) -> bool {
    let mut stride = 1;
    (0..MAX_RANK).rev().all(|axis| {
        let here = dims[axis] == 1 || strides[axis] as usize == stride;
        stride *= dims[axis] as usize;
        here
    })
}

/// Calls `part` with up to [`GATHERED`] results at a time and operands that advance with them. Whole runs at a time, so that
/// an operand that is the same in all of them is gathered once.
fn gathered(
    walk: &Walk<2>,
    range: Range<usize>,
    size: usize,
    x: [&[u8]; 2],
    in_order: [bool; 2],
    mut part: impl FnMut(usize, usize, [(&[u8], bool); 2]),
) {
    let mut buffers = [[0; GATHERED * 4]; 2];
    let step = if walk.len() > GATHERED { GATHERED } else { GATHERED / walk.len() * walk.len() };
    let mut wanted = in_order.map(|in_order| !in_order);
    for at in range.clone().step_by(step) {
        let chunk = at..range.end.min(at + step);
        let wanting = if wanted == [false; 2] { 0..0 } else { chunk.clone() };
        walk.runs(wanting, |to, len, from| {
            for i in (0..2).filter(|&i| wanted[i]) {
                let (to, from) = (&mut buffers[i][(to - at) * size..][..len * size], &x[i][from[i] * size..]);
                match size {
                    1 => strided::<1>(to, from, walk.inner()[i]),
                    2 => strided::<2>(to, from, walk.inner()[i]),
                    _ => strided::<4>(to, from, walk.inner()[i]),
                }
            }
        });
        if walk.len() <= step {
            let repeated = walk.repeated();
            wanted = core::array::from_fn(|i| wanted[i] && !repeated[i]);
        }
        let operand = |i: usize| (if in_order[i] { &x[i][at * size..] } else { &buffers[i][..] }, true);
        part(at, chunk.len(), [operand(0), operand(1)]);
    }
}

/// Every `step`th element, of N bytes.
fn strided<const N: usize>(to: &mut [u8], from: &[u8], step: usize) {
    for (i, to) in to.chunks_exact_mut(N).enumerate() {
        to.copy_from_slice(&from[i * step * N..][..N]);
    }
}

/// The same of quantized tensors.
pub mod quantized {
    pub use super::{units, walk};

    /// Enough elements.
    pub fn accepts(call: &crate::Call) -> bool {
        super::Params::of(call).fills_a_row()
    }
}
