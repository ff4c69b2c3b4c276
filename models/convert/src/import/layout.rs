//! Operators that move elements without computing: transpose, slice, concat, split, pad, expand, tile, gather, blocks.

use super::context::NodeContext;
use super::elementwise::broadcast;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use super::views::{resolve_axes, resolve_axis};
use crate::ir::{DType, Op, PadMode, SliceAxis};
use crate::onnx::tensor::{MAX_DIM, checked_dims};

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Transpose", transpose),
    since(1, "Slice", slice),
    since(4, "Concat", concat),
    since(2, "Split", split),
    since(2, "Pad", pad),
    since(8, "Expand", expand),
    since(6, "Tile", tile),
    since(1, "Gather", gather),
    since(1, "DepthToSpace", depth_to_space),
    since(1, "SpaceToDepth", space_to_depth),
];

fn transpose(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let rank = cx.dims(x).len();
    let perm: Vec<usize> = match cx.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => match perm.iter().map(|&axis| usize::try_from(axis).ok()).collect() {
            Some(perm) => perm,
            None => return bad_attribute("perm", "has a negative axis"),
        },
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return bad_attribute("perm", format!("is {perm:?}, which does not permute {rank} axes"));
    }
    let dims = perm.iter().map(|&axis| cx.dims(x)[axis]).collect();
    cx.emit_one(Op::Transpose { perm }, &[x], (cx.dtype(x), dims))
}

/// Bounds were attributes before opset 10.
fn slice(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let (starts, ends, axes, steps) = if cx.opset < 10 {
        let mut list = |name| Ok::<_, Reason>(cx.ints(name)?.map(<[i64]>::to_vec));
        (list("starts")?, list("ends")?, list("axes")?, None)
    } else {
        (cx.const_ints(1)?, cx.const_ints(2)?, cx.const_ints(3)?, cx.const_ints(4)?)
    };
    let (Some(starts), Some(ends)) = (starts, ends) else { return invalid("starts or ends are missing") };
    let mut dims = cx.dims(x).to_vec();
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return invalid("starts, ends, axes and steps must be equally many");
    }
    resolve_axes(&axes, dims.len())?;
    let mut slices = vec![SliceAxis { start: 0, step: 1 }; dims.len()];
    for (i, &axis) in axes.iter().enumerate() {
        let axis = resolve_axis(axis, dims.len())?;
        let Some((slice, count)) = slice_axis(dims[axis], starts[i], ends[i], steps[i]) else {
            return invalid("a step is 0");
        };
        (slices[axis], dims[axis]) = (slice, count);
    }
    cx.emit_one(Op::Slice { axes: slices }, &[x], (cx.dtype(x), dims))
}

/// Numpy's rules for `start:end:step` on an axis of `dim` elements: what is taken and how many elements that is.
fn slice_axis(dim: usize, start: i64, end: i64, step: i64) -> Option<(SliceAxis, usize)> {
    let dim = dim as i64;
    let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let clamp = |index: i64| (if index < 0 { index.saturating_add(dim) } else { index }).clamp(low, high);
    let (start, end) = (clamp(start), clamp(end));
    let distance = if step > 0 { end - start } else { start - end };
    let stride = step.unsigned_abs();
    if stride == 0 {
        return None;
    }
    let count = (distance.max(0) as u64).div_ceil(stride) as usize;
    Some((SliceAxis { start: if count == 0 { 0 } else { start as usize }, step }, count))
}

fn concat(cx: &mut NodeContext) -> Result<(), Reason> {
    let operands = (0..cx.operand_count()).map(|i| cx.operand(i)).collect::<Result<Vec<_>, _>>()?;
    let Some(&first) = operands.first() else { return invalid("has no operands") };
    let (dtype, mut dims) = cx.shape(first);
    let Some(axis) = cx.int("axis")? else { return bad_attribute("axis", "is missing") };
    let axis = resolve_axis(axis, dims.len())?;
    dims[axis] = 0;
    for &operand in &operands {
        cx.require_dtype(operand, &[dtype])?;
        let length = cx.dims(operand).get(axis).copied().unwrap_or(0);
        let total = dims[axis] + length;
        // Equal but for the axis itself.
        dims[axis] = length;
        cx.require_dims(operand, &dims)?;
        dims[axis] = total;
    }
    cx.emit_one(Op::Concat { axis }, &operands, (dtype, dims))
}

/// The sizes were an attribute before opset 13; equal ones are implied, and from opset 18 on the last may be smaller.
fn split(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let (dtype, dims) = cx.shape(x);
    let axis = resolve_axis(cx.int("axis")?.unwrap_or(0), dims.len())?;
    let sizes = if cx.opset < 13 { cx.ints("split")?.map(<[i64]>::to_vec) } else { cx.const_ints(1)? };
    let count = cx.proto.output.len();
    if cx.opset >= 18 && cx.int("num_outputs")?.is_some_and(|number| number != count as i64) {
        return bad_attribute("num_outputs", format!("does not fit {count} results"));
    }
    let sizes = match sizes {
        Some(sizes) => checked_dims_list(&sizes)?,
        None => equal_sizes(dims[axis], count, cx.opset >= 18)?,
    };
    if sizes.len() != count || sizes.iter().sum::<usize>() != dims[axis] {
        return invalid(format!("{count} results of sizes {sizes:?} do not make up axis {axis} of {dims:?}"));
    }
    let shape = |&size: &usize| {
        let mut dims = dims.clone();
        dims[axis] = size;
        (dtype, dims)
    };
    let shapes: Vec<_> = sizes.iter().map(shape).collect();
    cx.emit(Op::Split { axis, sizes }, &[Some(x)], &shapes)
}

fn checked_dims_list(sizes: &[i64]) -> Result<Vec<usize>, Reason> {
    let size = |&size: &i64| usize::try_from(size).ok().filter(|&size| size <= MAX_DIM);
    let sizes: Option<Vec<_>> = sizes.iter().map(size).collect();
    sizes.map_or_else(|| invalid("a size is negative or too large"), Ok)
}

fn equal_sizes(dim: usize, count: usize, uneven: bool) -> Result<Vec<usize>, Reason> {
    let size = dim.div_ceil(count.max(1));
    if !uneven && size * count != dim {
        return invalid(format!("{dim} elements cannot be split into {count} equal parts"));
    }
    let mut rest = dim;
    let mut take = || {
        let part = size.min(rest);
        rest -= part;
        part
    };
    Ok((0..count).map(|_| take()).collect())
}

/// Pads were an attribute before opset 11.
fn pad(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let mode = cx.string("mode", "constant")?;
    let (pads, value, axes) = if cx.opset < 11 {
        let pads = cx.ints("pads")?.map(<[i64]>::to_vec);
        (pads, f64::from(cx.float("value", 0.0)?), None)
    } else {
        if let Some(value) = cx.optional(2) {
            cx.require_dtype(value, &[cx.dtype(x)])?;
        }
        let axes = if cx.opset >= 18 { cx.const_ints(3)? } else { None };
        (cx.const_ints(1)?, cx.const_scalar(2)?.unwrap_or(0.0), axes)
    };
    let Some(pads) = pads else { return invalid("pads are missing") };
    let mode = match mode {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" if cx.opset >= 19 => PadMode::Wrap,
        other => return bad_attribute("mode", format!("is '{other}', which opset {} does not have", cx.opset)),
    };
    let mut dims = cx.dims(x).to_vec();
    let axes = axes.unwrap_or_else(|| (0..dims.len() as i64).collect());
    resolve_axes(&axes, dims.len())?;
    if pads.len() != 2 * axes.len() {
        return invalid(format!("{} pads do not fit {} axes", pads.len(), axes.len()));
    }
    let mut by_axis = vec![[0, 0]; dims.len()];
    for (i, &axis) in axes.iter().enumerate() {
        let axis = resolve_axis(axis, dims.len())?;
        by_axis[axis] = [pads[i], pads[i + axes.len()]];
        dims[axis] = padded(dims[axis], by_axis[axis], mode)?;
    }
    cx.emit_one(Op::Pad { mode, pads: by_axis }, &[x], (cx.dtype(x), dims))
}

/// The axis' length after cropping and padding.
fn padded(dim: usize, [before, after]: [i64; 2], mode: PadMode) -> Result<usize, Reason> {
    let error = || invalid(format!("an axis of {dim} cannot be padded by {before} and {after}"));
    if before.max(after) > MAX_DIM as i64 {
        return error();
    }
    let cropped = (dim as i64).saturating_add(before.min(0)).saturating_add(after.min(0));
    let added = before.max(0) + after.max(0);
    let fills_from_nothing = cropped == 0 && added > 0 && !matches!(mode, PadMode::Constant(_));
    if cropped < 0 || fills_from_nothing {
        return error();
    }
    Ok((cropped + added) as usize)
}

fn expand(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.operand(1)?;
    let target = checked_dims(&cx.const_ints(1)?.unwrap_or_default())?;
    let dims = broadcast(cx.dims(x), &target)?;
    cx.emit_one(Op::Expand, &[x], (cx.dtype(x), dims))
}

fn tile(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.operand(1)?;
    let repeats = checked_dims_list(&cx.const_ints(1)?.unwrap_or_default())?;
    let dims = cx.dims(x);
    if repeats.len() != dims.len() {
        return invalid(format!("{} repeats do not fit dimensions {dims:?}", repeats.len()));
    }
    // Two 31-bit numbers each.
    let dims = dims.iter().zip(&repeats).map(|(dim, repeat)| dim.saturating_mul(*repeat)).collect();
    cx.emit_one(Op::Tile { repeats }, &[x], (cx.dtype(x), dims))
}

fn gather(cx: &mut NodeContext) -> Result<(), Reason> {
    let (data, indices) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(indices, &[DType::I32, DType::I64])?;
    let from = cx.dims(data);
    let rank = from.len();
    let axis = resolve_axis(cx.int("axis")?.unwrap_or(0), rank)?;
    let from = cx.dims(data);
    let limit = from[axis] as i64;
    let known = cx.builder.graph.constant(indices).and_then(crate::ir::Tensor::to_i64);
    if let Some(index) = known.into_iter().flatten().find(|index| !(-limit..limit).contains(index)) {
        return invalid(format!("index {index} is outside of axis {axis}, which has {limit} elements"));
    }
    let dims = [&from[..axis], cx.dims(indices), &from[axis + 1..]].concat();
    cx.emit_one(Op::Gather { axis }, &[data, indices], (cx.dtype(data), dims))
}

/// Batch, channels, height, width and the side of a block.
fn blocks(cx: &mut NodeContext) -> Result<([usize; 4], usize), Reason> {
    let x = cx.operand(0)?;
    let &[n, c, h, w] = cx.dims(x) else {
        return invalid(format!("dimensions {:?}: batch, channels, height and width are wanted", cx.dims(x)));
    };
    match cx.int("blocksize")?.and_then(|block| u16::try_from(block).ok()) {
        Some(block) if block > 0 => Ok(([n, c, h, w], usize::from(block))),
        _ => bad_attribute("blocksize", "must be a positive 16-bit number"),
    }
}

fn depth_to_space(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let ([n, c, h, w], block) = blocks(cx)?;
    let crd = match if cx.opset >= 11 { cx.string("mode", "DCR")? } else { "DCR" } {
        "DCR" => false,
        "CRD" => true,
        other => return bad_attribute("mode", format!("is '{other}', must be DCR or CRD")),
    };
    if c % (block * block) != 0 {
        return invalid(format!("{c} channels are no multiple of {block} x {block}"));
    }
    let dims = vec![n, c / (block * block), h * block, w * block];
    cx.emit_one(Op::DepthToSpace { block, crd }, &[x], (cx.dtype(x), dims))
}

fn space_to_depth(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let ([n, c, h, w], block) = blocks(cx)?;
    if h % block != 0 || w % block != 0 {
        return invalid(format!("{h} x {w} is no multiple of {block} x {block}"));
    }
    let dims = vec![n, c * block * block, h / block, w / block];
    cx.emit_one(Op::SpaceToDepth { block }, &[x], (cx.dtype(x), dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_numpy() {
        let cases = [
            ((10, 0, 3, 1), (0, 3)),
            ((10, -3, i64::MAX, 1), (7, 3)),
            ((10, 1, -1, 3), (1, 3)),
            ((10, -1, i64::MIN, -1), (9, 10)),
            ((10, 8, 2, -2), (8, 3)),
            ((10, 20, 0, -4), (9, 3)),
            ((10, 5, 5, 1), (0, 0)),
            ((10, 7, 3, 1), (0, 0)),
            ((0, 0, 5, 1), (0, 0)),
            ((0, -1, i64::MIN, -1), (0, 0)),
            ((10, 0, 10, i64::MAX), (0, 1)),
            ((10, 9, i64::MIN, i64::MIN), (9, 1)),
        ];
        for ((dim, start, end, step), (first, count)) in cases {
            let expected = Some((SliceAxis { start: first, step }, count));
            assert_eq!(slice_axis(dim, start, end, step), expected, "{dim}[{start}:{end}:{step}]");
        }
        assert_eq!(slice_axis(10, 0, 1, 0), None);
    }

    #[test]
    fn equal_splits() {
        assert_eq!(equal_sizes(6, 3, false).unwrap(), [2, 2, 2]);
        assert_eq!(equal_sizes(7, 3, true).unwrap(), [3, 3, 1]);
        assert_eq!(equal_sizes(2, 4, true).unwrap(), [1, 1, 0, 0]);
        assert!(equal_sizes(7, 3, false).is_err());
    }

    #[test]
    fn pads_crop_and_add() {
        assert_eq!(padded(5, [1, -2], PadMode::Edge).unwrap(), 4);
        assert_eq!(padded(0, [1, 2], PadMode::Constant(0.0)).unwrap(), 3);
        assert!(padded(0, [1, 0], PadMode::Edge).is_err());
        assert!(padded(5, [-3, -3], PadMode::Edge).is_err());
        assert!(padded(5, [i64::MAX, i64::MAX], PadMode::Edge).is_err());
        assert!(padded(5, [i64::MIN, i64::MIN], PadMode::Edge).is_err());
    }
}
