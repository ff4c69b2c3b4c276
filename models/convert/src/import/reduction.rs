//! Operators that shrink axes: reductions, arg-reductions, top k, softmax.

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use super::views::{resolve_axes, resolve_axis};
use crate::ir::{DType, Op, ReduceKind};

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "ReduceMean", |cx| reduce(cx, ReduceKind::Mean, 18)),
    since(1, "ReduceSum", |cx| reduce(cx, ReduceKind::Sum, 13)),
    since(1, "ReduceMax", |cx| reduce(cx, ReduceKind::Max, 18)),
    since(1, "ReduceMin", |cx| reduce(cx, ReduceKind::Min, 18)),
    since(1, "ReduceProd", |cx| reduce(cx, ReduceKind::Prod, 18)),
    since(1, "ReduceL1", |cx| reduce(cx, ReduceKind::L1, 18)),
    since(1, "ReduceL2", |cx| reduce(cx, ReduceKind::L2, 18)),
    since(1, "ReduceSumSquare", |cx| reduce(cx, ReduceKind::SumSquare, 18)),
    since(1, "ReduceLogSum", |cx| reduce(cx, ReduceKind::LogSum, 18)),
    since(1, "ReduceLogSumExp", |cx| reduce(cx, ReduceKind::LogSumExp, 18)),
    since(1, "ArgMax", |cx| arg_reduce(cx, true)),
    since(1, "ArgMin", |cx| arg_reduce(cx, false)),
    since(1, "TopK", top_k),
    since(1, "Softmax", |cx| softmax(cx, false)),
    since(1, "LogSoftmax", |cx| softmax(cx, true)),
];

const NUMBER: &[DType] = &[DType::F32, DType::I8, DType::U8, DType::I32, DType::I64];

fn reduced(dims: &[usize], axes: &[usize], keepdims: bool) -> Vec<usize> {
    let dim = |axis: usize| match axes.contains(&axis) {
        false => Some(dims[axis]),
        true => keepdims.then_some(1),
    };
    (0..dims.len()).filter_map(dim).collect()
}

/// `operand_since`: first opset in which the axes are an operand instead of an attribute.
fn reduce(cx: &mut NodeContext, kind: ReduceKind, operand_since: u32) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    // Extremes exist for truth values, too (opset 20).
    let ordered = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    if !(ordered && cx.dtype(x) == DType::Bool) {
        cx.require_dtype(x, NUMBER)?;
    }
    let keepdims = cx.flag("keepdims", true)?;
    let mut noop = false;
    let axes = if cx.opset < operand_since {
        cx.ints("axes")?.map(<[i64]>::to_vec)
    } else {
        noop = cx.flag("noop_with_empty_axes", false)?;
        cx.const_ints(1)?
    };
    let rank = cx.dims(x).len();
    let axes = match axes.filter(|axes| !axes.is_empty()) {
        Some(axes) => resolve_axes(&axes, rank)?,
        None if noop => Vec::new(),
        None => (0..rank).collect(),
    };
    let shape = (cx.dtype(x), reduced(cx.dims(x), &axes, keepdims));
    cx.emit_one(Op::Reduce { kind, axes, keepdims }, &[x], shape)
}

fn arg_reduce(cx: &mut NodeContext, largest: bool) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, NUMBER)?;
    let axis = resolve_axis(cx.int("axis")?.unwrap_or(0), cx.dims(x).len())?;
    let keepdims = cx.flag("keepdims", true)?;
    let last = cx.opset >= 12 && cx.flag("select_last_index", false)?;
    if cx.dims(x)[axis] == 0 {
        return invalid(format!("axis {axis} is empty"));
    }
    let shape = (DType::I64, reduced(cx.dims(x), &[axis], keepdims));
    cx.emit_one(Op::ArgReduce { largest, axis, keepdims, last }, &[x], shape)
}

fn top_k(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, NUMBER)?;
    let k = if cx.opset < 10 {
        cx.int("k")?
    } else {
        cx.operand(1)?;
        cx.const_ints(1)?.and_then(|list| if let [k] = list[..] { Some(k) } else { None })
    };
    let mut dims = cx.dims(x).to_vec();
    let axis = resolve_axis(cx.int("axis")?.unwrap_or(-1), dims.len())?;
    let (mut largest, mut sorted) = (true, true);
    if cx.opset >= 11 {
        largest = cx.flag("largest", true)?;
        sorted = cx.flag("sorted", true)?;
    }
    match k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= dims[axis]) {
        Some(k) => dims[axis] = k,
        None => return invalid(format!("k must be one number up to {}", dims[axis])),
    }
    let shapes = [(cx.dtype(x), dims.clone()), (DType::I64, dims)];
    cx.emit(Op::TopK { axis, largest, sorted }, &[Some(x)], &shapes)
}

/// Before opset 13 the operand was flattened to a matrix at `axis` and the rows normalised.
fn softmax(cx: &mut NodeContext, log: bool) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32])?;
    let shape = cx.shape(x);
    let flattens = cx.opset < 13;
    let axis = cx.int("axis")?.unwrap_or(if flattens { 1 } else { -1 });
    let Ok(axis) = resolve_axis(axis, shape.1.len()) else {
        return bad_attribute("axis", format!("is {axis}, the operand has {} dimensions", shape.1.len()));
    };
    let row: usize = shape.1[axis..].iter().product();
    if !flattens || row == shape.1[axis] {
        return cx.emit_one(Op::Softmax { axis, log }, &[x], shape);
    }
    let matrix = (DType::F32, vec![shape.1[..axis].iter().product(), row]);
    let flat = cx.step(Op::Reshape, &[x], matrix.clone())?;
    let result = cx.step(Op::Softmax { axis: 1, log }, &[flat], matrix)?;
    cx.emit_one(Op::Reshape, &[result], shape)
}
