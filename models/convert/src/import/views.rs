//! Operators that only rename dimensions: the elements stay where they are. All become [`Op::Reshape`].

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use crate::ir::{DType, Op, Tensor};

pub(super) const OPERATORS: &[Operator] = &[
    since(5, "Reshape", reshape),
    since(1, "Flatten", flatten),
    since(1, "Squeeze", squeeze),
    since(1, "Unsqueeze", unsqueeze),
    since(1, "Identity", identity),
    since(7, "Dropout", dropout),
];

/// The axis counted from the front, of `rank` ones.
pub(super) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, Reason> {
    let resolved = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match resolved.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
        Some(axis) => Ok(axis),
        None => invalid(format!("axis {axis} does not exist among {rank}")),
    }
}

/// The axes counted from the front, ascending, each once.
pub(super) fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Reason> {
    let mut resolved = axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    resolved.sort_unstable();
    if resolved.windows(2).any(|pair| pair[0] == pair[1]) {
        return invalid(format!("axes {axes:?} name one axis twice"));
    }
    Ok(resolved)
}

fn view(cx: &mut NodeContext, dims: Vec<usize>) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let (from, to): (usize, Option<usize>) = (cx.dims(x).iter().product(), crate::ir::element_count(&dims));
    if to != Some(from) {
        return invalid(format!("cannot turn dimensions {:?} into {dims:?}", cx.dims(x)));
    }
    cx.emit_one(Op::Reshape, &[x], (cx.dtype(x), dims))
}

fn reshape(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    cx.operand(1)?;
    let target = cx.const_ints(1)?.unwrap_or_default();
    let allow_zero = cx.opset >= 14 && cx.flag("allowzero", false)?;
    let dims = reshape_target(cx.dims(x), &target, allow_zero)?;
    view(cx, dims)
}

/// Resolves 0 (copy the dimension, unless `allow_zero`) and -1 (whatever is left).
fn reshape_target(from: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, Reason> {
    let error = || invalid(format!("cannot turn dimensions {from:?} into {target:?}"));
    let mut dims = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &dim) in target.iter().enumerate() {
        match dim {
            0 if !allow_zero => match from.get(axis) {
                Some(&dim) => dims.push(dim),
                None => return error(),
            },
            -1 if open.is_none() => {
                open = Some(axis);
                dims.push(1);
            }
            _ => match usize::try_from(dim) {
                Ok(dim) => dims.push(dim),
                Err(_) => return error(),
            },
        }
    }
    if let Some(axis) = open {
        let total: usize = from.iter().product();
        match crate::ir::element_count(&dims) {
            Some(rest) if rest > 0 && total.is_multiple_of(rest) => dims[axis] = total / rest,
            _ => return error(),
        }
    }
    Ok(dims)
}

fn flatten(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let axis = cx.int("axis")?.unwrap_or(1);
    let dims = cx.dims(x);
    // One more place than axes: after the last.
    let axis = if axis == dims.len() as i64 { dims.len() } else { resolve_axis(axis, dims.len())? };
    let dims = vec![dims[..axis].iter().product(), dims[axis..].iter().product()];
    view(cx, dims)
}

/// Axes were an attribute before opset 13.
fn axes(cx: &mut NodeContext) -> Result<Option<Vec<i64>>, Reason> {
    if cx.opset < 13 { Ok(cx.ints("axes")?.map(<[i64]>::to_vec)) } else { cx.const_ints(1) }
}

fn squeeze(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let axes = axes(cx)?;
    let from = cx.dims(x);
    let axes = match axes {
        Some(axes) => resolve_axes(&axes, from.len())?,
        None => (0..from.len()).filter(|&axis| from[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| from[axis] != 1) {
        return invalid(format!("axis {axis} of {from:?} is not 1"));
    }
    let dims = (0..from.len()).filter(|axis| !axes.contains(axis)).map(|axis| from[axis]).collect();
    view(cx, dims)
}

fn unsqueeze(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let Some(axes) = axes(cx)? else { return invalid("axes are missing") };
    let from = cx.dims(x);
    let rank = from.len() + axes.len();
    let axes = resolve_axes(&axes, rank)?;
    let mut rest = from.iter().copied();
    let dims = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { rest.next().unwrap_or(1) }).collect();
    view(cx, dims)
}

fn identity(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let dims = cx.dims(x).to_vec();
    view(cx, dims)
}

/// In inference every element is kept.
fn dropout(cx: &mut NodeContext) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    if cx.opset < 12 {
        cx.ignore("ratio");
    } else {
        cx.ignore("seed");
        let training = cx.const_scalar(2)?.is_some_and(|flag| flag != 0.0);
        if training && cx.const_scalar(1)?.unwrap_or(0.5) != 0.0 {
            return bad_attribute("training_mode", "is set: only inference is supported");
        }
        cx.optional(1);
    }
    let dims = cx.dims(x).to_vec();
    if cx.wants(1) {
        // The mask was of the operand's type before opset 10.
        let dtype = if cx.opset < 10 { cx.dtype(x) } else { DType::Bool };
        let one: &[u8] = match dtype {
            DType::Bool => &[1],
            DType::F32 => &[0, 0, 0x80, 0x3f],
            other => return Err(Reason::Type(format!("a mask of type {} is not supported", other.name()))),
        };
        cx.builder.charge(&(dtype, dims.clone()))?;
        let mask = Tensor::new(dtype, &dims, one.repeat(dims.iter().product()));
        cx.bind_const(1, mask.ok_or_else(|| Reason::Invalid("the mask is too large".into()))?)?;
    }
    view(cx, dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_targets() {
        type Case = (&'static [usize], &'static [i64], bool, Option<&'static [usize]>);
        let cases: [Case; 11] = [
            (&[2, 3, 4], &[6, 4], false, Some(&[6, 4])),
            (&[2, 3, 4], &[0, -1], false, Some(&[2, 12])),
            (&[2, 3, 4], &[-1], false, Some(&[24])),
            (&[2, 3, 4], &[], false, Some(&[])),
            (&[0, 3], &[0, 3], true, Some(&[0, 3])),
            (&[0, 3], &[3, 0], true, Some(&[3, 0])),
            (&[0, 3], &[0, -1], true, None),
            (&[2, 3], &[-1, -1], false, None),
            (&[2, 3], &[4, -1], false, None),
            (&[2, 3], &[2, 3, 0], false, None),
            (&[2, 3], &[-2, 3], false, None),
        ];
        for (from, target, allow_zero, expected) in cases {
            assert_eq!(reshape_target(from, target, allow_zero).ok().as_deref(), expected, "{from:?} -> {target:?}");
        }
        assert!(reshape_target(&[1], &[i64::MAX, i64::MAX, -1], false).is_err());
    }

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!(resolve_axes(&[-1, 0], 3).unwrap(), [0, 2]);
        for (axes, rank) in [(vec![3], 3), (vec![-4], 3), (vec![0, -3], 3), (vec![0], 0), (vec![i64::MIN], 2)] {
            assert!(resolve_axes(&axes, rank).is_err(), "{axes:?} of {rank}");
        }
    }
}
