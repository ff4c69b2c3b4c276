//! Operators whose results are known at conversion: constants, shapes, ranges.

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use crate::ir::{DType, Element, Tensor};
use crate::onnx::tensor::{checked_dims, dtype_of, read_tensor};

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Constant", constant),
    since(9, "ConstantOfShape", constant_of_shape),
    since(1, "Shape", shape),
    since(1, "Size", size),
    since(11, "Range", range),
];

fn constant(cx: &mut NodeContext) -> Result<(), Reason> {
    let vector = |len: usize| vec![len];
    let tensor = if let Some(proto) = cx.tensor("value")? {
        if dtype_of(proto.data_type)?.1 {
            cx.note("became f32");
        }
        read_tensor(proto, cx.builder.directory)?
    } else if cx.opset < 12 {
        return bad_attribute("value", "is missing");
    } else if cx.has_attribute("value_float") {
        Tensor::scalar(cx.float("value_float", 0.0)?)
    } else if let Some(int) = cx.int("value_int")? {
        Tensor::scalar(int)
    } else if let Some(floats) = cx.floats("value_floats")? {
        from_slice(&vector(floats.len()), floats)?
    } else if let Some(ints) = cx.ints("value_ints")? {
        from_slice(&vector(ints.len()), ints)?
    } else {
        return invalid("only tensors, numbers and lists of numbers are supported");
    };
    cx.bind_const(0, tensor)
}

fn from_slice<T: Element>(dims: &[usize], elements: &[T]) -> Result<Tensor, Reason> {
    Tensor::from_slice(dims, elements).map_or_else(|| invalid("the constant is too large"), Ok)
}

fn constant_of_shape(cx: &mut NodeContext) -> Result<(), Reason> {
    cx.operand(0)?;
    let dims = checked_dims(&cx.const_ints(0)?.unwrap_or_default())?;
    let fill = match cx.tensor("value")? {
        Some(proto) => read_tensor(proto, cx.builder.directory)?,
        None => Tensor::scalar(0f32),
    };
    if fill.len() != 1 {
        return bad_attribute("value", "must hold one element");
    }
    cx.builder.charge(&(fill.dtype(), dims.clone()))?;
    let count = dims.iter().product();
    match Tensor::new(fill.dtype(), &dims, fill.bytes().repeat(count)) {
        Some(tensor) => cx.bind_const(0, tensor),
        None => invalid("the constant is too large"),
    }
}

fn shape(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let dims: Vec<i64> = cx.dims(x).iter().map(|&dim| dim as i64).collect();
    let rank = dims.len() as i64;
    let (mut start, mut end) = (0, rank);
    if cx.opset >= 15 {
        let clamp = |index: i64| (if index < 0 { index.saturating_add(rank) } else { index }).clamp(0, rank);
        start = clamp(cx.int("start")?.unwrap_or(0));
        end = clamp(cx.int("end")?.unwrap_or(rank));
    }
    let dims = dims.get(start as usize..end as usize).unwrap_or_default();
    cx.bind_const(0, from_slice(&[dims.len()], dims)?)
}

fn size(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let size: usize = cx.dims(x).iter().product();
    cx.bind_const(0, Tensor::scalar(size as i64))
}

fn range(cx: &mut NodeContext) -> Result<(), Reason> {
    let mut bounds = Vec::with_capacity(3);
    for index in 0..3 {
        let id = cx.operand(index)?;
        cx.require_dtype(id, &[DType::F32, DType::I32, DType::I64])?;
        bounds.extend(cx.constant(index)?.filter(|tensor| tensor.len() == 1));
    }
    if cx.opset >= 27 {
        cx.ignore("stash_type");
    }
    let [start, limit, delta] = &bounds[..] else { return invalid("start, limit and delta must be one number each") };
    if start.dtype() != limit.dtype() || start.dtype() != delta.dtype() {
        return Err(Reason::Type("start, limit and delta must be of one type".into()));
    }
    let [first, end, step] = [start, limit, delta].map(|tensor| tensor.to_f64()[0]);
    let count = ((end - first) / step).ceil().max(0.0);
    if !count.is_finite() || step == 0.0 {
        return invalid("the range has no end");
    }
    // Beyond the largest dimension; `checked_dims` refuses it.
    let dims = checked_dims(&[count.min(1e15) as i64])?;
    cx.builder.charge(&(start.dtype(), dims.clone()))?;
    let tensor = match start.dtype() {
        DType::F32 => {
            let elements: Vec<f32> = (0..dims[0]).map(|i| first as f32 + i as f32 * step as f32).collect();
            from_slice(&dims, &elements)?
        }
        DType::I32 => from_slice(&dims, &progression(start, delta, dims[0], |x| x as i32))?,
        _ => from_slice(&dims, &progression(start, delta, dims[0], |x| x))?,
    };
    cx.bind_const(0, tensor)
}

fn progression<T>(start: &Tensor, delta: &Tensor, count: usize, convert: impl Fn(i64) -> T) -> Vec<T> {
    let number = |tensor: &Tensor| tensor.to_i64().map_or(0, |list| list[0]);
    let (start, delta) = (number(start), number(delta));
    (0..count as i64).map(|i| convert(start.wrapping_add(i.wrapping_mul(delta)))).collect()
}
