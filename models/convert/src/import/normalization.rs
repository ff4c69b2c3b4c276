//! Normalisations.

use super::context::NodeContext;
use super::elementwise::broadcast;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use super::views::resolve_axis;
use crate::ir::{DType, Op, ValueId};

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "BatchNormalization", batch_norm),
    since(6, "InstanceNormalization", instance_norm),
    since(17, "LayerNormalization", layer_norm),
    since(1, "LRN", lrn),
];

/// The operand with a channel axis, and per-channel parameters behind it.
fn with_parameters(cx: &mut NodeContext, count: usize) -> Result<Vec<ValueId>, Reason> {
    let x = cx.operand(0)?;
    let &[_, channels, ..] = cx.dims(x) else {
        return invalid(format!("the operand has no channels: its dimensions are {:?}", cx.dims(x)));
    };
    let mut operands = vec![x];
    for index in 1..=count {
        let parameter = cx.operand(index)?;
        cx.require_dims(parameter, &[channels])?;
        operands.push(parameter);
    }
    for &operand in &operands {
        cx.require_dtype(operand, &[DType::F32])?;
    }
    Ok(operands)
}

fn batch_norm(cx: &mut NodeContext) -> Result<(), Reason> {
    if cx.opset < 9 && !cx.flag("spatial", true)? {
        return bad_attribute("spatial", "is 0: statistics per position are not supported");
    }
    if cx.opset >= 14 && cx.flag("training_mode", false)? {
        return bad_attribute("training_mode", "is set: only inference is supported");
    }
    cx.ignore("momentum");
    let epsilon = cx.float("epsilon", 1e-5)?;
    let operands = with_parameters(cx, 4)?;
    cx.emit_one(Op::BatchNorm { epsilon }, &operands, cx.shape(operands[0]))
}

fn instance_norm(cx: &mut NodeContext) -> Result<(), Reason> {
    let epsilon = cx.float("epsilon", 1e-5)?;
    let operands = with_parameters(cx, 2)?;
    cx.emit_one(Op::InstanceNorm { epsilon }, &operands, cx.shape(operands[0]))
}

fn layer_norm(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, scale, bias) = (cx.operand(0)?, cx.operand(1)?, cx.optional(2));
    let axis = resolve_axis(cx.int("axis")?.unwrap_or(-1), cx.dims(x).len())?;
    let epsilon = cx.float("epsilon", 1e-5)?;
    if cx.int("stash_type")?.is_some_and(|kind| kind != 1) {
        return bad_attribute("stash_type", "must be 1 (f32)");
    }
    for operand in [Some(x), Some(scale), bias].into_iter().flatten() {
        cx.require_dtype(operand, &[DType::F32])?;
        if broadcast(cx.dims(x), cx.dims(operand))? != cx.dims(x) {
            return invalid("scale and bias must broadcast to the operand");
        }
    }
    let statistics: Vec<_> = cx.dims(x).iter().enumerate().map(|(i, &dim)| if i < axis { dim } else { 1 }).collect();
    let statistics = (DType::F32, statistics);
    let shapes = [cx.shape(x), statistics.clone(), statistics];
    cx.emit(Op::LayerNorm { axis, epsilon }, &[Some(x), Some(scale), bias], &shapes)
}

fn lrn(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32])?;
    if cx.dims(x).len() < 2 {
        return invalid(format!("the operand has no channels: its dimensions are {:?}", cx.dims(x)));
    }
    let Some(size) = cx.int("size")?.and_then(|size| u32::try_from(size).ok()).filter(|&size| size > 0) else {
        return bad_attribute("size", "must be a positive number");
    };
    let (alpha, beta, bias) = (cx.float("alpha", 1e-4)?, cx.float("beta", 0.75)?, cx.float("bias", 1.0)?);
    cx.emit_one(Op::Lrn { size: size as usize, alpha, beta, bias }, &[x], cx.shape(x))
}
