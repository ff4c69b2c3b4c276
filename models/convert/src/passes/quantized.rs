//! Networks that come quantized: their QuantizeLinear, DequantizeLinear and QLinear nodes become float operators on
//! values and weights that are *stored* as codes, which is how the lowering sees every int8 network.
//!
//! ```text
//! x --Q--> codes --DQ--> y        y's readers read x, and x is stored with that scale and zero point
//! weights --DQ--> w               a float constant, stored with these scales
//! QLinearConv                     DQ, Conv, Q, then as above
//! ```

use super::fresh_name;
use crate::ir::{DType, Graph, Node, Op, Tensor, ValueId};
use crate::settings::Quantization;
use std::collections::HashMap;

/// Which values are stored as codes, and how.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stored {
    /// Computed values.
    pub activations: HashMap<ValueId, Quantization>,
    /// Constant weights: the scale of each output channel.
    pub weights: HashMap<ValueId, Vec<f32>>,
}

/// Scale, and zero point as a code of i8, of a node that quantizes a whole tensor with constants.
fn per_tensor(graph: &Graph, node: &Node) -> Option<Quantization> {
    let (Op::QuantizeLinear { axis: None } | Op::DequantizeLinear { axis: None }) = node.op else { return None };
    parameters(graph, node.input(1)?, node.input(2))
}

fn parameters(graph: &Graph, scale: ValueId, zero: Option<ValueId>) -> Option<Quantization> {
    let scale = graph.constant(scale)?.elements::<f32>()?;
    let [scale] = scale[..] else { return None };
    let zero = graph.constant(zero?)?;
    let offset = match zero.dtype() {
        DType::U8 => 128,
        DType::I8 => 0,
        _ => return None,
    };
    let zero = i32::try_from(*zero.to_i64()?.first()?).ok()? - offset;
    (scale > 0.0 && scale.is_finite()).then_some(Quantization { scale, zero })
}

/// Rewrites a quantized network. What cannot be expressed (scales that are computed, weights whose zero point is not the
/// middle) stays as it is and runs as its own operators.
pub fn absorb_quantized(graph: &mut Graph) -> Stored {
    let mut stored = Stored::default();
    split_qlinear(graph, &mut stored);
    constants(graph, &mut stored);
    round_trips(graph, &mut stored);
    remove_dead(graph, &mut stored);
    stored
}

/// QLinearConv and QLinearMatMul with constant weights as dequantize, float operator, quantize.
fn split_qlinear(graph: &mut Graph, stored: &mut Stored) {
    for index in (0..graph.nodes.len()).rev() {
        let node = graph.nodes[index].clone();
        let op = match &node.op {
            Op::QLinearConv(conv) => Op::Conv(conv.clone()),
            Op::QLinearMatMul => Op::MatMul,
            _ => continue,
        };
        if let Some(parts) = split(graph, &node, op, stored) {
            graph.nodes.splice(index..=index, parts);
        }
    }
}

fn split(graph: &mut Graph, node: &Node, op: Op, stored: &mut Stored) -> Option<Vec<Node>> {
    let [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero] = std::array::from_fn(|i| node.input(i));
    let (x, w, y) = (x?, w?, node.output(0)?);
    let input = parameters(graph, x_scale?, x_zero)?;
    parameters(graph, y_scale?, y_zero)?;
    let matmul = matches!(op, Op::MatMul);
    if matmul && graph.value(w).dims.len() != 2 {
        return None;
    }
    let channel_axis = usize::from(matmul);
    let (weights, scales) = dequantized(graph, w, w_scale?, w_zero, channel_axis)?;
    let channels = graph.value(w).dims[channel_axis];
    let shape = (graph.value(x).dims.clone(), graph.value(y).dims.clone());
    let float = |graph: &mut Graph, suffix: &str, dims: &[usize]| {
        let name = fresh_name(graph, &format!("{}_{suffix}", node.name));
        graph.add_value(name, DType::F32, dims)
    };
    let (fx, fy) = (float(graph, "input", &shape.0), float(graph, "result", &shape.1));
    let fw = super::add_floats(graph, &format!("{}_weights", node.name), weights.dims(), &weights.elements::<f32>()?);
    let mut inputs = vec![Some(fx), Some(fw)];
    if let Some(bias) = node.input(8) {
        let codes = graph.constant(bias)?.elements::<i32>()?.into_owned();
        let per = |i: usize| f64::from(input.scale) * f64::from(scales[i % scales.len()]);
        let bias: Vec<f32> = codes.iter().enumerate().map(|(i, &c)| (f64::from(c) * per(i)) as f32).collect();
        inputs.push(Some(super::add_floats(graph, &format!("{}_bias", node.name), &[channels], &bias)));
    }
    stored.weights.insert(fw, scales);
    let part = |op, inputs, y| Node { op, inputs, outputs: vec![Some(y)], ..node.clone() };
    Some(vec![
        part(Op::DequantizeLinear { axis: None }, vec![Some(x), x_scale, x_zero], fx),
        part(op, inputs, fy),
        part(Op::QuantizeLinear { axis: None }, vec![Some(fy), y_scale, y_zero], y),
    ])
}

/// A constant's codes as floats with the scale of each channel (one, if there is one for all); `None` unless every
/// zero point is the middle of the codes' range.
fn dequantized(
    graph: &Graph,
    codes: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    axis: usize,
) -> Option<(Tensor, Vec<f32>)> {
    let codes = graph.constant(codes)?;
    let scales = graph.constant(scale)?.elements::<f32>()?.into_owned();
    let middle = if codes.dtype() == DType::U8 { 128 } else { 0 };
    if let Some(zero) = zero {
        if graph.constant(zero)?.to_i64()?.iter().any(|&z| z != middle) {
            return None;
        }
    } else if middle != 0 {
        return None;
    }
    if scales.iter().any(|s| !(*s > 0.0 && s.is_finite())) || scales.is_empty() {
        return None;
    }
    let dims = codes.dims();
    let inner: usize = dims.get(axis + 1..).unwrap_or_default().iter().product();
    let channels = dims.get(axis).copied().unwrap_or(1);
    if scales.len() != 1 && scales.len() != channels {
        return None;
    }
    let scale = |i: usize| if scales.len() == 1 { scales[0] } else { scales[i / inner.max(1) % channels] };
    let floats: Vec<f32> = codes.to_i64()?.iter().enumerate().map(|(i, &c)| (c - middle) as f32 * scale(i)).collect();
    Some((Tensor::from_slice(dims, &floats)?, scales))
}

/// Dequantized constants become float constants, with their scales where they are a layer's weights.
fn constants(graph: &mut Graph, stored: &mut Stored) {
    for index in 0..graph.nodes.len() {
        let node = graph.nodes[index].clone();
        let Op::DequantizeLinear { axis } = node.op else { continue };
        let (Some(x), Some(scale), Some(y)) = (node.input(0), node.input(1), node.output(0)) else { continue };
        let Some((tensor, scales)) = dequantized(graph, x, scale, node.input(2), axis.unwrap_or(0)) else { continue };
        let name = fresh_name(graph, &format!("{}_constant", graph.value(y).name));
        let codes = graph.constant(x).is_some_and(|t| t.dtype() != DType::I32);
        let constant = graph.add_const(name, tensor);
        graph.replace_uses(y, constant);
        if codes {
            stored.weights.insert(constant, scales);
        }
    }
}

/// Quantize, then dequantize with the same numbers: the value is stored as codes.
fn round_trips(graph: &mut Graph, stored: &mut Stored) {
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let node = graph.nodes[index].clone();
        let Some(quantization) = per_tensor(graph, &node) else { continue };
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { continue };
        let float = if matches!(node.op, Op::QuantizeLinear { .. }) { x } else { y };
        let is_float = graph.value(float).dtype == DType::F32 && graph.constant(float).is_none();
        if is_float && *stored.activations.entry(float).or_insert(quantization) == quantization && float == y {
            // y repeats what was quantized, if that was with the same numbers.
            let source = producers[x.index()].map(|p| graph.nodes[p].clone());
            let Some(source) = source.filter(|s| per_tensor(graph, s) == Some(quantization)) else { continue };
            if let (Op::QuantizeLinear { .. }, Some(original)) = (&source.op, source.input(0))
                && stored.activations.get(&original) == Some(&quantization)
                && !graph.outputs.contains(&y)
            {
                graph.replace_uses(y, original);
            }
        }
    }
}

/// Removes what nobody reads, keeping the stored values' ids right.
fn remove_dead(graph: &mut Graph, stored: &mut Stored) {
    let name = |graph: &Graph, id: ValueId| graph.value(id).name.clone();
    let activations: Vec<_> = stored.activations.drain().map(|(id, q)| (name(graph, id), q)).collect();
    let weights: Vec<_> = stored.weights.drain().map(|(id, s)| (name(graph, id), s)).collect();
    graph.remove_dead();
    let ids: HashMap<&str, ValueId> =
        graph.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), ValueId(i as u32))).collect();
    stored.activations = activations.into_iter().filter_map(|(n, q)| Some((*ids.get(n.as_str())?, q))).collect();
    stored.weights = weights.into_iter().filter_map(|(n, s)| Some((*ids.get(n.as_str())?, s))).collect();
}
