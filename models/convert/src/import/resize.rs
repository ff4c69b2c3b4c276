//! Resize and its predecessor Upsample.
//!
//! The result's size is stated directly (`sizes`) or as a factor (`scales`, rounded down); which one it was matters, as
//! coordinates are computed with the factor as stated. Source: ONNX's operator text and its reference `interpolate_nd`.

use super::context::NodeContext;
use super::error::{Reason, bad_attribute, invalid};
use super::table::{Operator, since};
use super::views::{resolve_axes, resolve_axis};
use crate::ir::{CoordinateMode, DType, NearestMode, Op, Resize, ResizeMode, ValueId};
use crate::onnx::tensor::MAX_DIM;

pub(super) const OPERATORS: &[Operator] =
    &[since(10, "Resize", resize), Operator { name: "Upsample", since: 7, until: 9, import: upsample }];

const TYPES: &[DType] = &[DType::F32, DType::I8, DType::U8];

/// What the versions have in common, before sizes are resolved.
struct Request {
    x: ValueId,
    /// Axes that the lists are about.
    axes: Vec<usize>,
    mode: ResizeMode,
    coordinates: CoordinateMode,
    roi: Vec<[f32; 2]>,
    target: Target,
}

enum Target {
    Scales(Vec<f32>),
    Sizes(Vec<i64>, Policy),
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// Opsets 7 to 9: always asymmetric, the nearest neighbour the lower one.
fn upsample(cx: &mut NodeContext) -> Result<(), Reason> {
    let scales = match cx.opset {
        ..9 => cx.floats("scales")?.map(<[f32]>::to_vec),
        _ => floats(cx, 1)?,
    };
    resize_10(cx, scales)
}

/// Opset 10, and Upsample: only scales, nearest and linear, asymmetric.
fn resize_10(cx: &mut NodeContext, scales: Option<Vec<f32>>) -> Result<(), Reason> {
    let x = cx.operand(0)?;
    let Some(scales) = scales else { return invalid("scales are missing") };
    // ONNX left rounding open here; like ONNX Runtime, shrinking takes the upper neighbour.
    let shrinks = scales.iter().any(|&scale| scale < 1.0);
    let mode = match cx.string("mode", "nearest")? {
        "nearest" if shrinks && scales.iter().any(|&scale| scale > 1.0) => {
            return invalid("growing and shrinking at once with nearest neighbours is not defined before opset 11");
        }
        "nearest" => ResizeMode::Nearest(if shrinks { NearestMode::Ceil } else { NearestMode::Floor }),
        "linear" | "bilinear" => ResizeMode::Linear,
        other => return bad_attribute("mode", format!("is '{other}', must be nearest or linear")),
    };
    let axes: Vec<_> = (0..cx.dims(x).len()).collect();
    let roi = vec![[0.0, 1.0]; axes.len()];
    let coordinates = CoordinateMode::Asymmetric;
    let request = Request { x, axes, mode, coordinates, roi, target: Target::Scales(scales) };
    emit(cx, request, Details { extrapolation_value: 0.0, exclude_outside: false, antialias: false })
}

fn resize(cx: &mut NodeContext) -> Result<(), Reason> {
    if cx.opset == 10 {
        let scales = floats(cx, 1)?;
        return resize_10(cx, scales);
    }
    let x = cx.operand(0)?;
    let rank = cx.dims(x).len();
    let axes: Vec<_> = match if cx.opset >= 18 { cx.ints("axes")? } else { None } {
        Some(axes) => {
            resolve_axes(axes, rank)?;
            axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<_, _>>()?
        }
        None => (0..rank).collect(),
    };
    let coordinates = coordinate_mode(cx)?;
    let roi = roi(cx, coordinates, axes.len())?;
    let target = target(cx)?;
    let details = Details {
        extrapolation_value: cx.float("extrapolation_value", 0.0)?,
        exclude_outside: cx.flag("exclude_outside", false)?,
        antialias: cx.opset >= 18 && cx.flag("antialias", false)?,
    };
    let mode = resize_mode(cx)?;
    emit(cx, Request { x, axes, mode, coordinates, roi, target }, details)
}

fn floats(cx: &mut NodeContext, index: usize) -> Result<Option<Vec<f32>>, Reason> {
    let tensor = cx.constant(index)?.filter(|tensor| !tensor.is_empty());
    let Some(tensor) = tensor else { return Ok(None) };
    match tensor.elements::<f32>() {
        Some(list) => Ok(Some(list.into_owned())),
        None => Err(Reason::Type(format!("operand {index} must be f32"))),
    }
}

fn coordinate_mode(cx: &mut NodeContext) -> Result<CoordinateMode, Reason> {
    Ok(match cx.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" if cx.opset >= 19 => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "tf_half_pixel_for_nn" if cx.opset < 13 => CoordinateMode::TfHalfPixelForNn,
        "align_corners" => CoordinateMode::AlignCorners,
        "asymmetric" => CoordinateMode::Asymmetric,
        "tf_crop_and_resize" => CoordinateMode::TfCropAndResize,
        other => {
            let problem = format!("is '{other}', which opset {} does not have", cx.opset);
            return bad_attribute("coordinate_transformation_mode", problem);
        }
    })
}

fn resize_mode(cx: &mut NodeContext) -> Result<ResizeMode, Reason> {
    let nearest = match cx.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" | "" => NearestMode::RoundPreferFloor,
        "round_prefer_ceil" => NearestMode::RoundPreferCeil,
        "floor" => NearestMode::Floor,
        "ceil" => NearestMode::Ceil,
        other => return bad_attribute("nearest_mode", format!("is '{other}', which does not exist")),
    };
    let a = cx.float("cubic_coeff_a", -0.75)?;
    match cx.string("mode", "nearest")? {
        "nearest" => Ok(ResizeMode::Nearest(nearest)),
        "linear" => Ok(ResizeMode::Linear),
        "cubic" => Ok(ResizeMode::Cubic { a }),
        other => bad_attribute("mode", format!("is '{other}', must be nearest, linear or cubic")),
    }
}

/// The region of interest, which other coordinate modes ignore.
fn roi(cx: &mut NodeContext, coordinates: CoordinateMode, count: usize) -> Result<Vec<[f32; 2]>, Reason> {
    if coordinates != CoordinateMode::TfCropAndResize {
        cx.optional(1);
        return Ok(vec![[0.0, 1.0]; count]);
    }
    match floats(cx, 1)? {
        Some(roi) if roi.len() == 2 * count && roi.iter().all(|x| x.is_finite()) => {
            Ok((0..count).map(|i| [roi[i], roi[count + i]]).collect())
        }
        _ => invalid(format!("roi must be {} numbers", 2 * count)),
    }
}

fn target(cx: &mut NodeContext) -> Result<Target, Reason> {
    let scales = floats(cx, 2)?;
    let sizes = cx.const_ints(3)?.filter(|sizes| !sizes.is_empty());
    let policy = match if cx.opset >= 18 { cx.string("keep_aspect_ratio_policy", "stretch")? } else { "stretch" } {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return bad_attribute("keep_aspect_ratio_policy", format!("is '{other}', which does not exist")),
    };
    match (scales, sizes) {
        (Some(scales), None) => Ok(Target::Scales(scales)),
        (None, Some(sizes)) => Ok(Target::Sizes(sizes, policy)),
        _ => invalid("exactly one of scales and sizes is wanted"),
    }
}

struct Details {
    extrapolation_value: f32,
    exclude_outside: bool,
    antialias: bool,
}

fn emit(cx: &mut NodeContext, request: Request, details: Details) -> Result<(), Reason> {
    let Request { x, axes, mode, coordinates, roi, target } = request;
    cx.require_dtype(x, TYPES)?;
    let (dtype, mut dims) = cx.shape(x);
    let operand: Vec<_> = axes.iter().map(|&axis| dims[axis]).collect();
    let region = |i: usize| if coordinates == CoordinateMode::TfCropAndResize { roi[i][1] - roi[i][0] } else { 1.0 };
    let (scales, sizes) = match target {
        Target::Scales(scales) if scales.len() == axes.len() => {
            let size = |(i, scale): (usize, &f32)| f64::from(operand[i] as f32 * region(i) * scale).floor();
            let sizes: Vec<f64> = scales.iter().enumerate().map(size).collect();
            (scales, sizes)
        }
        Target::Sizes(sizes, policy) if sizes.len() == axes.len() => from_sizes(&operand, &sizes, policy),
        _ => return invalid(format!("scales or sizes do not fit {} axes", axes.len())),
    };
    let valid = |scale: &f32| scale.is_finite() && *scale > 0.0;
    if !scales.iter().all(valid) || sizes.iter().any(|size| !(1.0..=MAX_DIM as f64).contains(size)) {
        return invalid(format!("{operand:?} cannot be resized by {scales:?} to {sizes:?}"));
    }
    let mut full = Resize {
        mode,
        coordinates,
        scales: vec![1.0; dims.len()],
        roi: vec![[0.0, 1.0]; dims.len()],
        extrapolation_value: details.extrapolation_value,
        exclude_outside: details.exclude_outside,
        antialias: details.antialias,
    };
    for (i, &axis) in axes.iter().enumerate() {
        (full.scales[axis], full.roi[axis], dims[axis]) = (scales[i], roi[i], sizes[i] as usize);
    }
    cx.emit_one(Op::Resize(full), &[x], (dtype, dims))
}

/// The factors that lead to these sizes and the sizes that the policy makes of them.
fn from_sizes(operand: &[usize], sizes: &[i64], policy: Policy) -> (Vec<f32>, Vec<f64>) {
    let scales: Vec<f32> = sizes.iter().zip(operand).map(|(&size, &dim)| size as f32 / dim as f32).collect();
    let one = match policy {
        Policy::Stretch => return (scales, sizes.iter().map(|&size| size as f64).collect()),
        Policy::NotLarger => scales.into_iter().fold(f32::INFINITY, f32::min),
        Policy::NotSmaller => scales.into_iter().fold(0.0, f32::max),
    };
    // Halves up, as ONNX says.
    let sizes = operand.iter().map(|&dim| f64::from(one * dim as f32 + 0.5).floor()).collect();
    (vec![one; operand.len()], sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_keep_the_ratio() {
        let stretch = from_sizes(&[2, 4], &[3, 8], Policy::Stretch);
        assert_eq!(stretch, (vec![1.5, 2.0], vec![3.0, 8.0]));
        assert_eq!(from_sizes(&[2, 4], &[3, 8], Policy::NotLarger), (vec![1.5, 1.5], vec![3.0, 6.0]));
        assert_eq!(from_sizes(&[2, 4], &[3, 8], Policy::NotSmaller), (vec![2.0, 2.0], vec![4.0, 8.0]));
        assert_eq!(from_sizes(&[3, 2], &[4, 9], Policy::NotLarger).1, [4.0, 3.0], "2 * 4/3 = 2.67 rounds up");
    }
}
