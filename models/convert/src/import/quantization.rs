//! Quantized operators. Types are int8 and uint8, accumulators int32; scales are f32; blocked quantization is refused.

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::linear::matmul_dims;
use super::table::{Operator, since};
use super::views::resolve_axis;
use super::window::{bias, convolution};
use crate::ir::{DType, Op, ValueId};
use crate::onnx::tensor::dtype_of;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "QuantizeLinear", quantize),
    since(10, "DequantizeLinear", dequantize),
    since(11, "DynamicQuantizeLinear", dynamic_quantize),
    since(10, "QLinearConv", qlinear_conv),
    since(10, "QLinearMatMul", qlinear_matmul),
    since(10, "ConvInteger", conv_integer),
    since(10, "MatMulInteger", matmul_integer),
];

const BYTE: &[DType] = &[DType::I8, DType::U8];

fn elements(cx: &NodeContext, id: ValueId) -> usize {
    cx.dims(id).iter().product()
}

/// The axis along which scale and zero point vary, `None` if they are one number. Zero points are shaped like scales.
fn parameter_axis(cx: &mut NodeContext, scale: ValueId, zero: Option<ValueId>) -> Result<Option<usize>, Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(scale, &[DType::F32])?;
    let axis = if cx.opset >= 13 { cx.int("axis")?.unwrap_or(1) } else { 1 };
    if cx.opset >= 21 && cx.int("block_size")?.unwrap_or(0) != 0 {
        return bad_attribute("block_size", "is set: blocked quantization is not supported");
    }
    if let Some(zero) = zero
        && elements(cx, zero) != elements(cx, scale)
    {
        return invalid("scale and zero point must be equally many");
    }
    if cx.dims(scale).len() <= 1 && elements(cx, scale) == 1 {
        return Ok(None);
    }
    let axis = resolve_axis(axis, cx.dims(x).len())?;
    cx.require_dims(scale, &[cx.dims(x)[axis]])?;
    Ok(Some(axis))
}

/// An attribute that names the result's type.
fn output_dtype(cx: &mut NodeContext) -> Result<Option<DType>, Reason> {
    match cx.int("output_dtype")? {
        None | Some(0) => Ok(None),
        Some(number) => Ok(Some(dtype_of(i32::try_from(number).unwrap_or(0))?.0)),
    }
}

fn quantize(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, scale, zero) = (cx.operand(0)?, cx.operand(1)?, cx.optional(2));
    cx.require_dtype(x, &[DType::F32, DType::I32])?;
    let axis = parameter_axis(cx, scale, zero)?;
    // About 8-bit floats only.
    cx.ignore("saturate");
    let stated = if cx.opset >= 21 { output_dtype(cx)? } else { None };
    if cx.opset >= 23 && !matches!(cx.int("precision")?, None | Some(0 | 1)) {
        return bad_attribute("precision", "must be f32");
    }
    let dtype = match (zero.map(|zero| cx.dtype(zero)), stated) {
        (Some(zero), Some(stated)) if zero != stated => {
            return bad_attribute("output_dtype", "is not the zero point's type");
        }
        (zero, stated) => zero.or(stated).unwrap_or(DType::U8),
    };
    if !BYTE.contains(&dtype) {
        return Err(Reason::Type(format!("quantizing to {} is not supported", dtype.name())));
    }
    let dims = cx.dims(x).to_vec();
    cx.emit(Op::QuantizeLinear { axis }, &[Some(x), Some(scale), zero], &[(dtype, dims)])
}

fn dequantize(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, scale, zero) = (cx.operand(0)?, cx.operand(1)?, cx.optional(2));
    cx.require_dtype(x, &[DType::I8, DType::U8, DType::I32])?;
    if let Some(zero) = zero {
        cx.require_dtype(zero, &[cx.dtype(x)])?;
    }
    let axis = parameter_axis(cx, scale, zero)?;
    if cx.opset >= 23 && output_dtype(cx)?.is_some_and(|dtype| dtype != DType::F32) {
        return bad_attribute("output_dtype", "must be f32");
    }
    let dims = cx.dims(x).to_vec();
    cx.emit(Op::DequantizeLinear { axis }, &[Some(x), Some(scale), zero], &[(DType::F32, dims)])
}

fn dynamic_quantize(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32])?;
    let shapes = [(DType::U8, cx.dims(x).to_vec()), (DType::F32, Vec::new()), (DType::U8, Vec::new())];
    cx.emit(Op::DynamicQuantizeLinear, &[Some(x)], &shapes)
}

/// A quantized operand with its scale and zero point, from operand `index` on.
fn quantized(cx: &mut NodeContext, index: usize) -> Result<[ValueId; 3], Reason> {
    let [x, scale, zero] = [cx.operand(index)?, cx.operand(index + 1)?, cx.operand(index + 2)?];
    cx.require_dtype(x, BYTE)?;
    cx.require_dtype(scale, &[DType::F32])?;
    cx.require_dtype(zero, &[cx.dtype(x)])?;
    Ok([x, scale, zero])
}

/// The result's scale and zero point, which says its type.
fn requantized(cx: &mut NodeContext) -> Result<[ValueId; 2], Reason> {
    let [scale, zero] = [cx.operand(6)?, cx.operand(7)?];
    cx.require_dtype(scale, &[DType::F32])?;
    cx.require_dtype(zero, BYTE)?;
    one_number(cx, &[scale, zero])?;
    Ok([scale, zero])
}

fn one_number(cx: &NodeContext, parameters: &[ValueId]) -> Result<(), Reason> {
    match parameters.iter().find(|&&id| elements(cx, id) != 1) {
        Some(&id) => invalid(format!("operand '{}' must be one number", cx.builder.graph.value(id).name)),
        None => Ok(()),
    }
}

/// Parameters that are one number or a list of `count`.
fn one_or_list(cx: &NodeContext, parameters: &[ValueId], count: usize) -> Result<(), Reason> {
    parameters.iter().try_for_each(|&id| if elements(cx, id) == 1 { Ok(()) } else { cx.require_dims(id, &[count]) })
}

fn qlinear_conv(cx: &mut NodeContext) -> Result<(), Reason> {
    let [x, x_scale, x_zero] = quantized(cx, 0)?;
    let [w, w_scale, w_zero] = quantized(cx, 3)?;
    let [y_scale, y_zero] = requantized(cx)?;
    one_number(cx, &[x_scale, x_zero])?;
    let (conv, dims) = convolution(cx, x, w)?;
    one_or_list(cx, &[w_scale, w_zero], dims[1])?;
    let bias = bias(cx, 8, dims[1], DType::I32)?;
    let operands = [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero].map(Some);
    let operands = [&operands[..], &[bias]].concat();
    cx.emit(Op::QLinearConv(conv), &operands, &[(cx.dtype(y_zero), dims)])
}

/// A left operand's parameters vary by row, a right one's by column: all axes but that one are 1.
fn along(cx: &NodeContext, x: ValueId, parameters: &[ValueId], axis_from_end: usize) -> Result<(), Reason> {
    let dims = cx.dims(x);
    let fits = |id: ValueId| {
        let parameter = cx.dims(id);
        let Some(axis) = dims.len().checked_sub(axis_from_end) else { return false };
        // A list, or a tensor of x's dimensions that has 1 (or x's own batch) elsewhere.
        let list = parameter == [dims[axis]];
        let shared = 3 - axis_from_end;
        let full = parameter.len() == dims.len()
            && (0..dims.len()).all(|i| match dims.len() - i {
                from_end if from_end == axis_from_end => parameter[i] == dims[i],
                from_end if from_end == shared => parameter[i] == 1,
                _ => parameter[i] == 1 || parameter[i] == dims[i],
            });
        list || full
    };
    match parameters.iter().find(|&&id| elements(cx, id) != 1 && !fits(id)) {
        Some(&id) => {
            let value = cx.builder.graph.value(id);
            invalid(format!("parameters '{}' of {:?} do not fit operand {dims:?}", value.name, value.dims))
        }
        None => Ok(()),
    }
}

fn qlinear_matmul(cx: &mut NodeContext) -> Result<(), Reason> {
    let [a, a_scale, a_zero] = quantized(cx, 0)?;
    let [b, b_scale, b_zero] = quantized(cx, 3)?;
    let [y_scale, y_zero] = requantized(cx)?;
    along(cx, a, &[a_scale, a_zero], 2)?;
    along(cx, b, &[b_scale, b_zero], 1)?;
    let dims = matmul_dims(cx.dims(a), cx.dims(b))?;
    let operands = [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero];
    cx.emit_one(Op::QLinearMatMul, &operands, (cx.dtype(y_zero), dims))
}

/// Both operands and their optional zero points of an integer product.
fn integer_operands(cx: &mut NodeContext) -> Result<[Option<ValueId>; 4], Reason> {
    let operands = [Some(cx.operand(0)?), Some(cx.operand(1)?), cx.optional(2), cx.optional(3)];
    for (x, zero) in [(operands[0], operands[2]), (operands[1], operands[3])] {
        let Some(x) = x else { continue };
        cx.require_dtype(x, BYTE)?;
        if let Some(zero) = zero {
            cx.require_dtype(zero, &[cx.dtype(x)])?;
        }
    }
    Ok(operands)
}

fn conv_integer(cx: &mut NodeContext) -> Result<(), Reason> {
    let operands = integer_operands(cx)?;
    let (x, w) = (cx.operand(0)?, cx.operand(1)?);
    let (conv, dims) = convolution(cx, x, w)?;
    one_number(cx, operands[2].as_slice())?;
    one_or_list(cx, operands[3].as_slice(), dims[1])?;
    cx.emit(Op::ConvInteger(conv), &operands, &[(DType::I32, dims)])
}

fn matmul_integer(cx: &mut NodeContext) -> Result<(), Reason> {
    let operands = integer_operands(cx)?;
    let (a, b) = (cx.operand(0)?, cx.operand(1)?);
    along(cx, a, operands[2].as_slice(), 2)?;
    along(cx, b, operands[3].as_slice(), 1)?;
    let dims = matmul_dims(cx.dims(a), cx.dims(b))?;
    cx.emit(Op::MatMulInteger, &operands, &[(DType::I32, dims)])
}
