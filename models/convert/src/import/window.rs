//! Operators that slide a window over spatial axes: convolutions and pooling.
//!
//! Along one axis of `in` elements a window of `extent = dilation * (kernel - 1) + 1` fits
//! `(in + pad_begin + pad_end - extent) / stride + 1` times, rounded down, or up with `ceil_mode` unless the last window
//! would then begin in the padding. `auto_pad` asks for the padding that makes this `ceil(in / stride)`.

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use crate::ir::{Conv, DType, Op, PoolKind, ValueId, WindowAxis};

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Conv", conv),
    since(1, "ConvTranspose", conv_transpose),
    since(1, "MaxPool", max_pool),
    since(7, "AveragePool", average_pool),
    since(1, "GlobalAveragePool", |cx| global_pool(cx, PoolKind::Average)),
    since(1, "GlobalMaxPool", |cx| global_pool(cx, PoolKind::Max)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum AutoPad {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

fn auto_pad(cx: &mut NodeContext) -> Result<AutoPad, Reason> {
    match cx.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => Ok(AutoPad::Explicit),
        "SAME_UPPER" => Ok(AutoPad::SameUpper),
        "SAME_LOWER" => Ok(AutoPad::SameLower),
        "VALID" => Ok(AutoPad::Valid),
        other => bad_attribute("auto_pad", format!("is '{other}', which does not exist")),
    }
}

/// A list of `count` numbers of at least `least`; all are `default` if the attribute is absent.
fn numbers(cx: &mut NodeContext, name: &str, count: usize, default: usize, least: usize) -> Result<Vec<usize>, Reason> {
    let Some(list) = cx.ints(name)? else { return Ok(vec![default; count]) };
    let number = |&n: &i64| i32::try_from(n).ok().and_then(|n| usize::try_from(n).ok()).filter(|&n| n >= least);
    match list.iter().map(number).collect::<Option<Vec<_>>>() {
        Some(numbers) if numbers.len() == count => Ok(numbers),
        _ => bad_attribute(name, format!("is {list:?}, must be {count} numbers from {least} up")),
    }
}

/// The kernel's dimensions, which a convolution also knows from its weights.
fn kernel_shape(cx: &mut NodeContext, weights: Option<&[usize]>, rank: usize) -> Result<Vec<usize>, Reason> {
    let Some(weights) = weights else {
        if !cx.has_attribute("kernel_shape") {
            return bad_attribute("kernel_shape", "is missing");
        }
        return numbers(cx, "kernel_shape", rank, 1, 1);
    };
    let kernel = weights.to_vec();
    if cx.has_attribute("kernel_shape") && numbers(cx, "kernel_shape", rank, 1, 1)? != kernel {
        return bad_attribute("kernel_shape", format!("does not fit weights of {kernel:?}"));
    }
    if kernel.contains(&0) { invalid("the weights' kernel is empty") } else { Ok(kernel) }
}

/// Kernel, strides, dilations and explicit padding.
fn window(cx: &mut NodeContext, kernel: &[usize], dilations: bool) -> Result<Vec<WindowAxis>, Reason> {
    let rank = kernel.len();
    let strides = numbers(cx, "strides", rank, 1, 1)?;
    let dilations = if dilations { numbers(cx, "dilations", rank, 1, 1)? } else { vec![1; rank] };
    let pads = numbers(cx, "pads", 2 * rank, 0, 0)?;
    let axis = |i: usize| WindowAxis {
        kernel: kernel[i],
        stride: strides[i],
        dilation: dilations[i],
        pad_begin: pads[i],
        pad_end: pads[rank + i],
    };
    Ok((0..rank).map(axis).collect())
}

/// Elements from a window's first tap to its last; kernel and dilation are 31-bit numbers, so this cannot overflow.
fn extent(axis: &WindowAxis) -> i64 {
    axis.dilation as i64 * (axis.kernel as i64 - 1) + 1
}

/// Splits padding between both ends; an odd rest goes to the end, or to the beginning with `lower`.
fn split_pads(axis: &mut WindowAxis, total: i64, lower: bool) {
    let total = total.max(0) as usize;
    let (small, large) = (total / 2, total - total / 2);
    (axis.pad_begin, axis.pad_end) = if lower { (large, small) } else { (small, large) };
}

/// Fills in automatic padding; returns the number of positions along every axis.
fn positions(
    cx: &mut NodeContext,
    window: &mut [WindowAxis],
    sizes: &[usize],
    ceil: bool,
) -> Result<Vec<usize>, Reason> {
    let mode = auto_pad(cx)?;
    if mode != AutoPad::Explicit && window.iter().any(|axis| axis.pad_begin + axis.pad_end > 0) {
        return bad_attribute("pads", "and auto_pad exclude each other");
    }
    let mut result = Vec::with_capacity(window.len());
    for (axis, &size) in window.iter_mut().zip(sizes) {
        let (size, stride, extent) = (size as i64, axis.stride as i64, extent(axis));
        if matches!(mode, AutoPad::SameUpper | AutoPad::SameLower) {
            let count = size.div_euclid(stride) + i64::from(size % stride != 0);
            split_pads(axis, (count - 1) * stride + extent - size, mode == AutoPad::SameLower);
        }
        let padded = size + axis.pad_begin as i64 + axis.pad_end as i64;
        let room = padded - extent;
        if room < 0 || size == 0 {
            return invalid(format!("a window of {extent} does not fit into {padded} elements"));
        }
        let mut count = room / stride + 1;
        let rounds_up = ceil && mode == AutoPad::Explicit && room % stride != 0;
        if rounds_up && count * stride < size + axis.pad_begin as i64 {
            count += 1;
        }
        result.push(count as usize);
    }
    Ok(result)
}

/// The operand's spatial dimensions, of which there must be 1 to `most`.
fn spatial<'c>(cx: &'c NodeContext, x: ValueId, most: usize) -> Result<&'c [usize], Reason> {
    match cx.dims(x) {
        [_, _, spatial @ ..] if (1..=most).contains(&spatial.len()) => Ok(spatial),
        dims => invalid(format!("dimensions {dims:?}: batch, channels and 1 to {most} spatial axes are supported")),
    }
}

/// A convolution's parameters and the dimensions of its result.
pub(super) fn convolution(cx: &mut NodeContext, x: ValueId, w: ValueId) -> Result<(Conv, Vec<usize>), Reason> {
    let sizes = spatial(cx, x, 2)?.to_vec();
    let (x_dims, w_dims) = (cx.dims(x).to_vec(), cx.dims(w).to_vec());
    let group = group(cx)?;
    if w_dims.len() != x_dims.len() || w_dims[1].checked_mul(group) != Some(x_dims[1]) || w_dims[0] % group != 0 {
        return invalid(format!("weights {w_dims:?} do not fit operand {x_dims:?} with {group} groups"));
    }
    let kernel = kernel_shape(cx, Some(&w_dims[2..]), sizes.len())?;
    let mut window = window(cx, &kernel, true)?;
    let mut dims = vec![x_dims[0], w_dims[0]];
    dims.extend(positions(cx, &mut window, &sizes, false)?);
    Ok((Conv { window, group }, dims))
}

fn group(cx: &mut NodeContext) -> Result<usize, Reason> {
    match cx.int("group")?.map_or(Some(1), |group| u32::try_from(group).ok()) {
        Some(group) if group > 0 => Ok(group as usize),
        _ => bad_attribute("group", "must be a positive number"),
    }
}

/// An optional bias of one number per output channel.
pub(super) fn bias(
    cx: &mut NodeContext,
    index: usize,
    channels: usize,
    dtype: DType,
) -> Result<Option<ValueId>, Reason> {
    let bias = cx.optional(index);
    if let Some(bias) = bias {
        cx.require_dtype(bias, &[dtype])?;
        cx.require_dims(bias, &[channels])?;
    }
    Ok(bias)
}

fn conv(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, w) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(x, &[DType::F32])?;
    cx.require_dtype(w, &[DType::F32])?;
    let (conv, dims) = convolution(cx, x, w)?;
    let bias = bias(cx, 2, dims[1], DType::F32)?;
    cx.emit(Op::Conv(conv), &[Some(x), Some(w), bias], &[(DType::F32, dims)])
}

fn conv_transpose(cx: &mut NodeContext) -> Result<(), Reason> {
    let (x, w) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(x, &[DType::F32])?;
    cx.require_dtype(w, &[DType::F32])?;
    let sizes = spatial(cx, x, 2)?.to_vec();
    let (x_dims, w_dims) = (cx.dims(x).to_vec(), cx.dims(w).to_vec());
    let group = group(cx)?;
    if w_dims.len() != x_dims.len() || w_dims[0] != x_dims[1] || w_dims[0] % group != 0 {
        return invalid(format!("weights {w_dims:?} do not fit operand {x_dims:?} with {group} groups"));
    }
    let Some(channels) = w_dims[1].checked_mul(group) else { return invalid("too many channels") };
    let kernel = kernel_shape(cx, Some(&w_dims[2..]), sizes.len())?;
    let mut window = window(cx, &kernel, true)?;
    let mut output_padding = numbers(cx, "output_padding", sizes.len(), 0, 0)?;
    let mut dims = vec![x_dims[0], channels];
    dims.extend(transposed_sizes(cx, &mut window, &mut output_padding, &sizes)?);
    let bias = bias(cx, 2, channels, DType::F32)?;
    let op = Op::ConvTranspose { conv: Conv { window, group }, output_padding };
    cx.emit(op, &[Some(x), Some(w), bias], &[(DType::F32, dims)])
}

/// Resolves a requested result size (`output_shape`, or `in * stride` for automatic padding) into padding; a result larger
/// than the windows cover gets the rest as output padding. Returns the result's size along every axis.
fn transposed_sizes(
    cx: &mut NodeContext,
    window: &mut [WindowAxis],
    output_padding: &mut [usize],
    sizes: &[usize],
) -> Result<Vec<usize>, Reason> {
    let mode = auto_pad(cx)?;
    let same = matches!(mode, AutoPad::SameUpper | AutoPad::SameLower);
    let requested = match cx.has_attribute("output_shape") {
        true => Some(numbers(cx, "output_shape", sizes.len(), 0, 1)?),
        false if same => Some(sizes.iter().zip(&*window).map(|(size, axis)| size * axis.stride).collect()),
        false => None,
    };
    if mode != AutoPad::Explicit && window.iter().any(|axis| axis.pad_begin + axis.pad_end > 0) {
        return bad_attribute("pads", "and auto_pad exclude each other");
    }
    let mut result = Vec::with_capacity(sizes.len());
    for (i, (axis, &size)) in window.iter_mut().zip(sizes).enumerate() {
        let covered = axis.stride as i64 * (size as i64 - 1) + extent(axis);
        if let Some(requested) = &requested {
            let total = covered + output_padding[i] as i64 - requested[i] as i64;
            split_pads(axis, total, mode != AutoPad::SameUpper);
            output_padding[i] += usize::try_from(-total).unwrap_or(0);
        }
        let length = covered + output_padding[i] as i64 - axis.pad_begin as i64 - axis.pad_end as i64;
        match usize::try_from(length) {
            Ok(length) if length > 0 && size > 0 => result.push(length),
            _ => return invalid(format!("the padding leaves nothing of {covered} elements")),
        }
    }
    Ok(result)
}

fn max_pool(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32, DType::I8, DType::U8])?;
    let column_major = cx.opset >= 8 && cx.flag("storage_order", false)?;
    let dilations = cx.opset >= 10;
    pool(cx, Pool { x, kind: PoolKind::Max, dilations, count_include_pad: false, column_major })
}

fn average_pool(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32])?;
    let count_include_pad = cx.flag("count_include_pad", false)?;
    let dilations = cx.opset >= 19;
    pool(cx, Pool { x, kind: PoolKind::Average, dilations, count_include_pad, column_major: false })
}

struct Pool {
    x: ValueId,
    kind: PoolKind,
    /// Whether this version of the operator has dilations.
    dilations: bool,
    count_include_pad: bool,
    column_major: bool,
}

fn pool(cx: &mut NodeContext, pool: Pool) -> Result<(), Reason> {
    let Pool { x, kind, dilations, count_include_pad, column_major } = pool;
    let sizes = spatial(cx, x, 3)?.to_vec();
    let kernel = kernel_shape(cx, None, sizes.len())?;
    let mut window = window(cx, &kernel, dilations)?;
    let ceil = cx.opset >= 10 && cx.flag("ceil_mode", false)?;
    let counts = positions(cx, &mut window, &sizes, ceil)?;
    // Otherwise a window could lie in the padding altogether, where there is nothing to take the maximum or average of.
    if window.iter().any(|axis| axis.pad_begin.max(axis.pad_end) as i64 >= extent(axis)) {
        return bad_attribute("pads", "must be smaller than the window");
    }
    let mut dims = cx.dims(x)[..2].to_vec();
    dims.extend(counts);
    let mut shapes = vec![(cx.dtype(x), dims.clone())];
    if kind == PoolKind::Max && cx.opset >= 8 {
        shapes.push((DType::I64, dims));
    }
    cx.emit(Op::Pool { kind, window, count_include_pad, column_major }, &[Some(x)], &shapes)
}

fn global_pool(cx: &mut NodeContext, kind: PoolKind) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.require_dtype(x, &[DType::F32])?;
    let (mut dims, sizes) = (cx.dims(x).to_vec(), spatial(cx, x, 3)?);
    if sizes.contains(&0) {
        return invalid("there is nothing to pool");
    }
    dims[2..].fill(1);
    cx.emit_one(Op::GlobalPool { kind }, &[x], (DType::F32, dims))
}
