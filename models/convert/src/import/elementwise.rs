//! Operators that compute every element of the result from the elements at the same place.

use super::context::{NodeContext, Shape};
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use crate::ir::{BinaryFn, DType, Op, Tensor, UnaryFn, ValueId};
use crate::onnx::proto::DataType;
use crate::onnx::tensor::dtype_of;

/// One row per operator; the opset is the first with numpy broadcasting or the first without `consumed_inputs`.
pub(super) const OPERATORS: &[Operator] = &[
    since(6, "Relu", |cx| unary(cx, UnaryFn::Relu, SIGNED)),
    since(6, "LeakyRelu", |cx| {
        let alpha = cx.float("alpha", 0.01)?;
        unary(cx, UnaryFn::LeakyRelu { alpha }, FLOAT)
    }),
    since(6, "Elu", |cx| {
        let alpha = cx.float("alpha", 1.0)?;
        unary(cx, UnaryFn::Elu { alpha }, FLOAT)
    }),
    since(6, "Selu", |cx| {
        let alpha = cx.float("alpha", 1.673_263_2)?;
        let gamma = cx.float("gamma", 1.050_701)?;
        unary(cx, UnaryFn::Selu { alpha, gamma }, FLOAT)
    }),
    since(6, "HardSigmoid", |cx| {
        let alpha = cx.float("alpha", 0.2)?;
        let beta = cx.float("beta", 0.5)?;
        unary(cx, UnaryFn::HardSigmoid { alpha, beta }, FLOAT)
    }),
    since(20, "Gelu", gelu),
    since(6, "Clip", clip),
    since(6, "Sigmoid", |cx| unary(cx, UnaryFn::Sigmoid, FLOAT)),
    since(6, "Tanh", |cx| unary(cx, UnaryFn::Tanh, FLOAT)),
    since(14, "HardSwish", |cx| unary(cx, UnaryFn::HardSwish, FLOAT)),
    since(1, "Softplus", |cx| unary(cx, UnaryFn::Softplus, FLOAT)),
    since(1, "Softsign", |cx| unary(cx, UnaryFn::Softsign, FLOAT)),
    since(18, "Mish", |cx| unary(cx, UnaryFn::Mish, FLOAT)),
    since(9, "Erf", |cx| unary(cx, UnaryFn::Erf, FLOAT)),
    since(6, "Exp", |cx| unary(cx, UnaryFn::Exp, FLOAT)),
    since(6, "Log", |cx| unary(cx, UnaryFn::Log, FLOAT)),
    since(6, "Sqrt", |cx| unary(cx, UnaryFn::Sqrt, FLOAT)),
    since(6, "Abs", |cx| unary(cx, UnaryFn::Abs, NUMBER)),
    since(6, "Neg", |cx| unary(cx, UnaryFn::Neg, SIGNED)),
    since(6, "Reciprocal", |cx| unary(cx, UnaryFn::Reciprocal, FLOAT)),
    since(6, "Floor", |cx| unary(cx, UnaryFn::Floor, FLOAT)),
    since(6, "Ceil", |cx| unary(cx, UnaryFn::Ceil, FLOAT)),
    since(11, "Round", |cx| unary(cx, UnaryFn::Round, FLOAT)),
    since(9, "Sign", |cx| unary(cx, UnaryFn::Sign, NUMBER)),
    since(7, "Sin", |cx| unary(cx, UnaryFn::Sin, FLOAT)),
    since(7, "Cos", |cx| unary(cx, UnaryFn::Cos, FLOAT)),
    since(1, "Not", |cx| unary(cx, UnaryFn::Not, BOOL)),
    since(7, "Add", |cx| binary(cx, BinaryFn::Add, NUMBER)),
    since(7, "Sub", |cx| binary(cx, BinaryFn::Sub, NUMBER)),
    since(7, "Mul", |cx| binary(cx, BinaryFn::Mul, NUMBER)),
    since(7, "Div", |cx| binary(cx, BinaryFn::Div, NUMBER)),
    since(7, "Equal", |cx| binary(cx, BinaryFn::Equal, ANY)),
    since(7, "Less", |cx| binary(cx, BinaryFn::Less, NUMBER)),
    since(12, "LessOrEqual", |cx| binary(cx, BinaryFn::LessOrEqual, NUMBER)),
    since(7, "Greater", |cx| binary(cx, BinaryFn::Greater, NUMBER)),
    since(12, "GreaterOrEqual", |cx| binary(cx, BinaryFn::GreaterOrEqual, NUMBER)),
    since(7, "And", |cx| binary(cx, BinaryFn::And, BOOL)),
    since(7, "Or", |cx| binary(cx, BinaryFn::Or, BOOL)),
    since(7, "Xor", |cx| binary(cx, BinaryFn::Xor, BOOL)),
    since(7, "PRelu", prelu),
    since(7, "Pow", pow),
    since(6, "Min", |cx| variadic(cx, BinaryFn::Min, NUMBER)),
    since(6, "Max", |cx| variadic(cx, BinaryFn::Max, NUMBER)),
    since(6, "Sum", |cx| variadic(cx, BinaryFn::Add, FLOAT)),
    since(6, "Mean", mean),
    since(9, "Where", where_),
    since(6, "Cast", cast),
];

const FLOAT: &[DType] = &[DType::F32];
const SIGNED: &[DType] = &[DType::F32, DType::I8, DType::I32, DType::I64];
const NUMBER: &[DType] = &[DType::F32, DType::I8, DType::U8, DType::I32, DType::I64];
const ANY: &[DType] = &[DType::F32, DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool];
const BOOL: &[DType] = &[DType::Bool];

/// The dimensions of operands broadcast against each other, by numpy's rules.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Reason> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    let pair = |axis| match (dim(a, axis), dim(b, axis)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => invalid(format!("dimensions {a:?} and {b:?} cannot be broadcast together")),
    };
    (0..rank).map(pair).collect()
}

fn unary(cx: &mut NodeContext, function: UnaryFn, types: &[DType]) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, types)?;
    cx.emit_one(Op::Unary(function), &[x], cx.shape(x))
}

fn gelu(cx: &mut NodeContext) -> Result<(), Reason> {
    match cx.string("approximate", "none")? {
        "none" => unary(cx, UnaryFn::Gelu, FLOAT),
        "tanh" => unary(cx, UnaryFn::GeluTanh, FLOAT),
        other => bad_attribute("approximate", format!("is '{other}', must be none or tanh")),
    }
}

/// Limits were attributes before opset 11. Limits that are computed become a chain of Max and Min.
fn clip(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, NUMBER)?;
    if cx.opset < 11 {
        let min = f64::from(cx.float("min", f32::NEG_INFINITY)?);
        let max = f64::from(cx.float("max", f32::INFINITY)?);
        return cx.emit_one(Op::Unary(UnaryFn::Clip { min, max }), &[x], cx.shape(x));
    }
    let limits = [cx.optional(1), cx.optional(2)];
    for limit in limits.into_iter().flatten() {
        cx.require_dtype(limit, &[cx.dtype(x)])?;
        if cx.dims(limit).iter().product::<usize>() != 1 {
            return invalid("limits must be one number each");
        }
    }
    if limits.into_iter().flatten().all(|limit| cx.builder.graph.constant(limit).is_some()) {
        let min = cx.const_scalar(1)?.unwrap_or(f64::NEG_INFINITY);
        let max = cx.const_scalar(2)?.unwrap_or(f64::INFINITY);
        return cx.emit_one(Op::Unary(UnaryFn::Clip { min, max }), &[x], cx.shape(x));
    }
    let steps: Vec<_> = [(BinaryFn::Max, limits[0]), (BinaryFn::Min, limits[1])]
        .into_iter()
        .filter_map(|(function, limit)| Some((function, limit?)))
        .collect();
    chain(cx, x, &steps, cx.shape(x))
}

/// `x` combined with one operand after the other; every intermediate has the shape that broadcasting gives.
fn chain(cx: &mut NodeContext, x: ValueId, steps: &[(BinaryFn, ValueId)], shape: Shape) -> Result<(), Reason> {
    let Some((&(function, last), steps)) = steps.split_last() else {
        return cx.emit_one(Op::Reshape, &[x], shape);
    };
    let mut result = x;
    for &(function, operand) in steps {
        let dims = broadcast(cx.dims(result), cx.dims(operand))?;
        result = cx.step(Op::Binary(function), &[result, operand], (shape.0, dims))?;
    }
    cx.emit_one(Op::Binary(function), &[result, last], shape)
}

fn same_types(cx: &NodeContext, a: ValueId, b: ValueId) -> Result<(), Reason> {
    let (a, b) = (cx.dtype(a), cx.dtype(b));
    if a == b { Ok(()) } else { Err(Reason::Type(format!("operands are {} and {}", a.name(), b.name()))) }
}

fn binary(cx: &mut NodeContext, function: BinaryFn, types: &[DType]) -> Result<(), Reason> {
    let (a, b) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(a, types)?;
    same_types(cx, a, b)?;
    let dtype = if function.is_comparison() { DType::Bool } else { cx.dtype(a) };
    let dims = broadcast(cx.dims(a), cx.dims(b))?;
    cx.emit_one(Op::Binary(function), &[a, b], (dtype, dims))
}

fn prelu(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, slope) = (cx.operand(0)?, cx.operand(1)?);
    if broadcast(cx.dims(x), cx.dims(slope))? != cx.dims(x) {
        return invalid("the slope must broadcast to the operand");
    }
    binary(cx, BinaryFn::PRelu, SIGNED)
}

/// From opset 12 on the exponent may be of another type; the result has the base's.
fn pow(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, y) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(x, NUMBER)?;
    cx.require_dtype(y, NUMBER)?;
    let (base, exponent) = (cx.dtype(x), cx.dtype(y));
    let dims = broadcast(cx.dims(x), cx.dims(y))?;
    let common = if [base, exponent].contains(&DType::F32) { DType::F32 } else { base };
    let mut convert = |id: ValueId| match cx.shape(id) {
        (dtype, _) if dtype == common => Ok(id),
        (_, dims) => cx.step(Op::Cast, &[id], (common, dims)),
    };
    let operands = [convert(x)?, convert(y)?];
    if common == base {
        return cx.emit_one(Op::Binary(BinaryFn::Pow), &operands, (base, dims));
    }
    let power = cx.step(Op::Binary(BinaryFn::Pow), &operands, (common, dims.clone()))?;
    cx.emit_one(Op::Cast, &[power], (base, dims))
}

/// All operands, of one type, and the dimensions they have together.
fn operands(cx: &mut NodeContext, types: &[DType]) -> Result<(Vec<ValueId>, Shape), Reason> {
    let operands = (0..cx.operand_count()).map(|index| cx.operand(index)).collect::<Result<Vec<_>, _>>()?;
    let Some(&first) = operands.first() else { return invalid("has no operands") };
    cx.require_dtype(first, types)?;
    let mut dims = Vec::new();
    for &operand in &operands {
        same_types(cx, first, operand)?;
        dims = broadcast(&dims, cx.dims(operand))?;
    }
    Ok((operands, (cx.dtype(first), dims)))
}

fn variadic(cx: &mut NodeContext, function: BinaryFn, types: &[DType]) -> Result<(), Reason> {
    let (operands, shape) = operands(cx, types)?;
    let steps: Vec<_> = operands[1..].iter().map(|&operand| (function, operand)).collect();
    chain(cx, operands[0], &steps, shape)
}

fn mean(cx: &mut NodeContext) -> Result<(), Reason> {
    let (operands, shape) = operands(cx, FLOAT)?;
    let count = cx.step_const(Tensor::scalar(operands.len() as f32));
    let mut steps: Vec<_> = operands[1..].iter().map(|&operand| (BinaryFn::Add, operand)).collect();
    steps.push((BinaryFn::Div, count));
    chain(cx, operands[0], &steps, shape)
}

fn where_(cx: &mut NodeContext) -> Result<(), Reason> {
    let (condition, a, b) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    cx.require_dtype(condition, BOOL)?;
    same_types(cx, a, b)?;
    let dims = broadcast(&broadcast(cx.dims(condition), cx.dims(a))?, cx.dims(b))?;
    cx.emit_one(Op::Where, &[condition, a, b], (cx.dtype(a), dims))
}

fn cast(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let Some(to) = cx.int("to")? else { return bad_attribute("to", "is missing") };
    let to = i32::try_from(to).unwrap_or(0);
    let (dtype, widened) = dtype_of(to)?;
    if to == DataType::Bfloat16 as i32 {
        return invalid("rounding to bfloat16 is not supported");
    }
    if widened {
        cx.note("casts to f32 instead of half, bfloat16 or double precision");
    }
    // Both are about 8-bit floats only, which `dtype_of` refuses.
    cx.ignore("saturate");
    cx.ignore("round_mode");
    let dims = cx.dims(x).to_vec();
    let op = if cx.dtype(x) == dtype { Op::Reshape } else { Op::Cast };
    cx.emit_one(op, &[x], (dtype, dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_is_numpys() {
        type Case = (&'static [usize], &'static [usize], Option<&'static [usize]>);
        let cases: [Case; 8] = [
            (&[], &[], Some(&[])),
            (&[2, 3], &[], Some(&[2, 3])),
            (&[3], &[2, 3], Some(&[2, 3])),
            (&[2, 1], &[1, 3], Some(&[2, 3])),
            (&[4, 1, 5], &[3, 1], Some(&[4, 3, 5])),
            (&[0], &[1], Some(&[0])),
            (&[2], &[3], None),
            (&[0], &[2], None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(broadcast(a, b).ok().as_deref(), expected, "{a:?} {b:?}");
            assert_eq!(broadcast(b, a).ok().as_deref(), expected, "{b:?} {a:?}");
        }
    }
}
