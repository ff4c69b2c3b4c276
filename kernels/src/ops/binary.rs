//! Functions of two elements with broadcasting, in floats, integers and quantized codes; and the choice between two.
//!
//! A [`Walk`] cuts the output into runs along its last axis, in which each operand advances by a step of its own.

use super::shared::{BLOCK, Number, Walk, check_codes, clamp, count, output, reach, results, units_of};
use crate::conv::requantize;
use crate::{
    BinaryFn, BinaryParams, Call, DType, Draft, Features, Kernel, MAX_RANK, Op, QBinaryParams, Refusal, WhereParams,
    product,
};
use bytemuck::Pod;
use core::ops::Range;
use half::f16;

/// Refuses operands that a function of two is not made for, or that a walk would leave.
pub(super) fn check_binary(draft: &Draft) -> Result<(), Refusal> {
    use BinaryFn::{
        Add, And, Div, Equal, Fmod, Greater, GreaterEqual, Less, LessEqual, Max, Min, Mod, Mul, Or, PRelu, Pow, Sub,
        Xor,
    };
    use DType::{Bool, F16, F32, I8, I32, I64, U8};
    const NUMBERS: &[DType] = &[F32, F16, I8, U8, I32, I64];
    let p: &BinaryParams = draft.params()?;
    draft.at_most(2, 1)?;
    let (a, b, y) = (draft.input(0)?, draft.input(1)?, draft.output(0)?);
    let (types, compares): (&[DType], _) = match BinaryFn::from_number(p.function).ok_or(Refusal::Parameter)? {
        And | Or | Xor => (&[Bool], true),
        Equal => (&DType::ALL, true),
        Less | LessEqual | Greater | GreaterEqual => (NUMBERS, true),
        Add | Sub | Mul | Div | Pow | Min | Max | PRelu | Mod | Fmod => (NUMBERS, false),
    };
    if p.lo.is_nan() || p.hi.is_nan() || p.lo > p.hi {
        return Err(Refusal::Parameter);
    }
    a.expect(types, reach(&p.dims, &p.a)?)?;
    b.expect(&[a.dtype], reach(&p.dims, &p.b)?)?;
    y.expect(&[if compares { Bool } else { a.dtype }], product(&p.dims)?)
}

/// Refuses a quantized function other than the first three, and bounds or operands that do not fit.
pub(super) fn check_qbinary(draft: &Draft) -> Result<(), Refusal> {
    let p: &QBinaryParams = draft.params()?;
    draft.at_most(2, 1)?;
    if p.function > BinaryFn::Mul.number() {
        return Err(Refusal::Parameter);
    }
    check_codes(p.lo, p.hi, &[p.a_zero, p.b_zero, p.y_zero])?;
    draft.input(0)?.expect(&[DType::I8], reach(&p.dims, &p.a)?)?;
    draft.input(1)?.expect(&[DType::I8], reach(&p.dims, &p.b)?)?;
    draft.output(0)?.expect(&[DType::I8], product(&p.dims)?)
}

/// Refuses a choice between operands of different types, or that a walk would leave.
pub(super) fn check_where(draft: &Draft) -> Result<(), Refusal> {
    let p: &WhereParams = draft.params()?;
    draft.at_most(3, 1)?;
    let y = draft.output(0)?;
    draft.input(0)?.expect(&[DType::Bool], reach(&p.dims, &p.condition)?)?;
    draft.input(1)?.expect(&[y.dtype], reach(&p.dims, &p.a)?)?;
    draft.input(2)?.expect(&[y.dtype], reach(&p.dims, &p.b)?)?;
    y.expect(&[y.dtype], product(&p.dims)?)
}

/// Where a function of two takes its operands.
#[derive(Clone, Copy)]
struct Pair<'a> {
    dims: &'a [u32; MAX_RANK],
    a: &'a [u32; MAX_RANK],
    b: &'a [u32; MAX_RANK],
}

/// `y = f(a, b)` for the elements of `units`.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn zip<T: Pod, U: Pod>(call: &Call, pair: Pair, units: Range<usize>, f: impl Fn(T, T) -> U) {
    let walk = Walk::new(pair.dims, [pair.a, pair.b]);
    let range = results(&units, BLOCK, walk.count());
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output::<U>(call, 0, range.clone()) };
    let (a, b) = (call.input(0).as_slice::<T>(), call.input(1).as_slice::<T>());
    let (start, [a_step, b_step]) = (range.start, walk.inner());
    walk.runs(range, |at, len, [a_at, b_at]| {
        for (i, y) in y[at - start..][..len].iter_mut().enumerate() {
            *y = f(a[a_at + i * a_step], b[b_at + i * b_step]);
        }
    });
}

impl<'a> From<&'a BinaryParams> for Pair<'a> {
    fn from(p: &'a BinaryParams) -> Self {
        Self { dims: &p.dims, a: &p.a, b: &p.b }
    }
}

/// The function a checked call asks for.
fn asked(call: &Call) -> BinaryFn {
    BinaryFn::from_number(call.params::<BinaryParams>().function).unwrap_or(BinaryFn::Add)
}

fn least(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

fn greatest(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// Remainder with the sign of b.
fn modulo(a: f32, b: f32) -> f32 {
    let rest = libm::fmodf(a, b);
    match rest {
        _ if b == 0.0 => 0.0,
        _ if rest != 0.0 && (rest < 0.0) != (b < 0.0) => rest + b,
        _ => rest,
    }
}

/// Arithmetic on floats.
fn float(function: BinaryFn) -> fn(f32, f32) -> f32 {
    match function {
        BinaryFn::Sub => |a, b| a - b,
        BinaryFn::Mul => |a, b| a * b,
        BinaryFn::Div => |a, b| a / b,
        BinaryFn::Pow => libm::powf,
        BinaryFn::Min => least,
        BinaryFn::Max => greatest,
        BinaryFn::PRelu => |a, b| if a < 0.0 { a * b } else { a },
        BinaryFn::Mod => modulo,
        BinaryFn::Fmod => libm::fmodf,
        _ => |a, b| a + b,
    }
}

/// Integer power; a negative exponent leaves what truncation leaves of the fraction.
fn power(mut base: i64, mut exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => 1 - 2 * (exponent & 1),
            _ => 0,
        };
    }
    let mut result = 1i64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// Arithmetic on integers, which the caller cuts to the element's bits.
fn integer(function: BinaryFn) -> fn(i64, i64) -> i64 {
    match function {
        BinaryFn::Sub => i64::wrapping_sub,
        BinaryFn::Mul => i64::wrapping_mul,
        BinaryFn::Div => |a, b| if b == 0 { 0 } else { a.wrapping_div(b) },
        BinaryFn::Pow => power,
        BinaryFn::Min => |a, b| a.min(b),
        BinaryFn::Max => |a, b| a.max(b),
        BinaryFn::PRelu => |a, b| if a < 0 { a.wrapping_mul(b) } else { a },
        BinaryFn::Mod => |a, b| {
            let rest = if b == 0 { 0 } else { a.wrapping_rem(b) };
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        },
        BinaryFn::Fmod => |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) },
        _ => i64::wrapping_add,
    }
}

/// Comparisons and logic.
fn relation<W: PartialOrd>(function: BinaryFn) -> fn(W, W) -> bool {
    match function {
        BinaryFn::Less => |a, b| a < b,
        BinaryFn::LessEqual => |a, b| a <= b,
        BinaryFn::Greater => |a, b| a > b,
        BinaryFn::GreaterEqual => |a, b| a >= b,
        BinaryFn::Xor => |a, b| a != b,
        _ => |a, b| a == b,
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn binary_f32(call: &Call, units: Range<usize>) {
    let p: &BinaryParams = call.params();
    let f = float(asked(call));
    // SAFETY: the caller's promise.
    unsafe { zip(call, p.into(), units, |a: f32, b: f32| clamp(f(a, b), p.lo, p.hi)) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn binary_f16(call: &Call, units: Range<usize>) {
    let p: &BinaryParams = call.params();
    let f = float(asked(call));
    // SAFETY: the caller's promise.
    unsafe { zip(call, p.into(), units, |a: f16, b: f16| f16::put(clamp(f(a.get(), b.get()), p.lo, p.hi))) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn binary_integer<T: Number<Wide = i64>>(call: &Call, units: Range<usize>) {
    let f = integer(asked(call));
    // SAFETY: the caller's promise.
    unsafe { zip(call, call.params::<BinaryParams>().into(), units, |a: T, b: T| T::put(f(a.get(), b.get()))) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn compare<T: Number<Wide: PartialOrd>>(call: &Call, units: Range<usize>) {
    let f = relation::<T::Wide>(asked(call));
    // SAFETY: the caller's promise.
    unsafe { zip(call, call.params::<BinaryParams>().into(), units, |a: T, b: T| u8::from(f(a.get(), b.get()))) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn logic(call: &Call, units: Range<usize>) {
    let f: fn(bool, bool) -> bool = match asked(call) {
        BinaryFn::And => |a, b| a && b,
        BinaryFn::Or => |a, b| a || b,
        other => relation(other),
    };
    // SAFETY: the caller's promise.
    unsafe { zip(call, call.params::<BinaryParams>().into(), units, |a: u8, b: u8| u8::from(f(a != 0, b != 0))) };
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn qbinary(call: &Call, units: Range<usize>) {
    let &QBinaryParams { a_zero, b_zero, y_zero, a_scale, b_scale, lo, hi, .. } = call.params();
    let p: &QBinaryParams = call.params();
    let pair = Pair { dims: &p.dims, a: &p.a, b: &p.b };
    let b_scale = if p.function == BinaryFn::Sub.number() { -b_scale } else { b_scale };
    let centred = |a: i8, b: i8| (i32::from(a) - a_zero, i32::from(b) - b_zero);
    let sum = |(a, b): (i32, i32)| a as f32 * a_scale + b as f32 * b_scale;
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        if p.function == BinaryFn::Mul.number() {
            let product = |(a, b): (i32, i32)| (a * b) as f32 * a_scale;
            zip(call, pair, units, |a, b| requantize(product(centred(a, b)), lo, hi, y_zero));
        } else {
            zip(call, pair, units, |a, b| requantize(sum(centred(a, b)), lo, hi, y_zero));
        }
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn choose<T: Pod>(call: &Call, units: Range<usize>) {
    let p: &WhereParams = call.params();
    let walk = Walk::new(&p.dims, [&p.condition, &p.a, &p.b]);
    let range = results(&units, BLOCK, walk.count());
    // SAFETY: a block belongs to its unit.
    let y = unsafe { output::<T>(call, 0, range.clone()) };
    let (condition, a, b) =
        (call.input(0).as_slice::<u8>(), call.input(1).as_slice::<T>(), call.input(2).as_slice::<T>());
    let start = range.start;
    let [c_step, a_step, b_step] = walk.inner();
    walk.runs(range, |at, len, [c_at, a_at, b_at]| {
        for (i, y) in y[at - start..][..len].iter_mut().enumerate() {
            *y = if condition[c_at + i * c_step] != 0 { a[a_at + i * a_step] } else { b[b_at + i * b_step] };
        }
    });
}

/// Units of an output of these dimensions.
fn units(dims: &[u32]) -> usize {
    units_of(count(dims), BLOCK)
}

macro_rules! kernels {
    ($($name:literal, $op:ident, $params:ty, $accepts:expr, $run:expr;)*) => {
        /// Arithmetic and comparisons by type, quantized arithmetic, and the choice by element size.
        pub(super) const CATALOGUE: &[Kernel] = &[$(Kernel {
            name: $name,
            op: Op::$op,
            requires: Features::NONE,
            accepts: |call| $accepts(call.input(1).dtype, call.output(0).dtype),
            units: |call| units(&call.params::<$params>().dims),
            run: $run,
        },)*];
    };
}

kernels! {
    "binary_f32_scalar", Binary, BinaryParams, |_, y| y == DType::F32, binary_f32;
    "binary_f16_scalar", Binary, BinaryParams, |_, y| y == DType::F16, binary_f16;
    "binary_i8_scalar", Binary, BinaryParams, |_, y| y == DType::I8, binary_integer::<i8>;
    "binary_u8_scalar", Binary, BinaryParams, |_, y| y == DType::U8, binary_integer::<u8>;
    "binary_i32_scalar", Binary, BinaryParams, |_, y| y == DType::I32, binary_integer::<i32>;
    "binary_i64_scalar", Binary, BinaryParams, |_, y| y == DType::I64, binary_integer::<i64>;
    "compare_f32_scalar", Binary, BinaryParams, |x, y| x == DType::F32 && y == DType::Bool, compare::<f32>;
    "compare_f16_scalar", Binary, BinaryParams, |x, y| x == DType::F16 && y == DType::Bool, compare::<f16>;
    "compare_i8_scalar", Binary, BinaryParams, |x, y| x == DType::I8 && y == DType::Bool, compare::<i8>;
    "compare_u8_scalar", Binary, BinaryParams, |x, y| x == DType::U8 && y == DType::Bool, compare::<u8>;
    "compare_i32_scalar", Binary, BinaryParams, |x, y| x == DType::I32 && y == DType::Bool, compare::<i32>;
    "compare_i64_scalar", Binary, BinaryParams, |x, y| x == DType::I64 && y == DType::Bool, compare::<i64>;
    "binary_bool_scalar", Binary, BinaryParams, |x, y| x == DType::Bool && y == DType::Bool, logic;
    "qbinary_i8_scalar", QBinary, QBinaryParams, |_, _| true, qbinary;
    "where_x8_scalar", Where, WhereParams, |_, y: DType| y.size() == 1, choose::<u8>;
    "where_x16_scalar", Where, WhereParams, |_, y: DType| y.size() == 2, choose::<u16>;
    "where_x32_scalar", Where, WhereParams, |_, y: DType| y.size() == 4, choose::<u32>;
    "where_x64_scalar", Where, WhereParams, |_, y: DType| y.size() == 8, choose::<u64>;
}
