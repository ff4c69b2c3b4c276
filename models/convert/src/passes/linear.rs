//! Folding what is linear into the weights before it: batch normalizations, factors and terms per channel, zero padding.

use super::{Linear, add_floats, floats, linear, only_user};
use crate::ir::{BinaryFn, Graph, Node, Op, PadMode, ValueId};

/// Rewrites every batch normalization as a product and a sum with per-channel constants.
pub(super) fn batch_norms(graph: &mut Graph) {
    for index in (0..graph.nodes.len()).rev() {
        let node = graph.nodes[index].clone();
        let Op::BatchNorm { epsilon } = node.op else { continue };
        let parameters: Option<Vec<_>> = (1..5).map(|i| floats(graph, node.input(i))).collect();
        let (Some(parameters), Some(x), Some(y)) = (parameters, node.input(0), node.output(0)) else { continue };
        let [scale, bias, mean, variance] = &parameters[..] else { continue };
        // In f64: the deviation of a dead channel is tiny, and the quotient must not lose what the f32 file held.
        let factors: Vec<f64> = scale
            .iter()
            .zip(variance)
            .map(|(&s, &v)| f64::from(s) / (f64::from(v) + f64::from(epsilon)).sqrt())
            .collect();
        let terms: Vec<f32> =
            bias.iter().zip(mean).zip(&factors).map(|((&b, &m), f)| (f64::from(b) - f64::from(m) * f) as f32).collect();
        let factors: Vec<f32> = factors.iter().map(|&f| f as f32).collect();
        let dims = channel_dims(graph.value(x).dims.len(), 1, factors.len());
        let (name, dtype, shape) = (format!("{}_scaled", node.name), graph.value(y).dtype, graph.value(y).dims.clone());
        let factors = add_floats(graph, &format!("{}_factor", node.name), &dims, &factors);
        let terms = add_floats(graph, &format!("{}_term", node.name), &dims, &terms);
        let name = super::fresh_name(graph, &name);
        let scaled = graph.add_value(name, dtype, &shape);
        let part = |op, a, b, y| Node {
            op: Op::Binary(op),
            inputs: vec![Some(a), Some(b)],
            outputs: vec![Some(y)],
            ..node.clone()
        };
        let parts = [part(BinaryFn::Mul, x, factors, scaled), part(BinaryFn::Add, scaled, terms, y)];
        graph.nodes.splice(index..=index, parts);
    }
}

/// Dims of a tensor that varies along `axis` only.
fn channel_dims(rank: usize, axis: usize, channels: usize) -> Vec<usize> {
    let mut dims = vec![1; rank];
    dims[axis] = channels;
    dims
}

/// Folds products and sums with per-channel constants into the weights and bias of the linear node before them.
pub(super) fn fold_into_weights(graph: &mut Graph) {
    loop {
        let users = graph.users();
        let fold = (0..graph.nodes.len()).find_map(|index| {
            let output = graph.nodes[index].output(0)?;
            let user = only_user(graph, &users, output)?;
            let linear = linear(graph, &graph.nodes[index])?;
            let term = affine(graph, &graph.nodes[user], output, &linear)?;
            Some((index, user, linear, term))
        });
        let Some((index, user, linear, (function, values))) = fold else { return };
        match function {
            BinaryFn::Mul => scale(graph, index, &linear, &values),
            _ => shift(graph, index, &linear, &values),
        }
        // The linear node takes over the result of the folded one.
        graph.nodes[index].outputs = graph.nodes[user].outputs.clone();
        graph.nodes.remove(user);
    }
}

/// What a node does to `value`, if it multiplies it with or adds to it one constant per channel: Mul or Add, and the
/// constants.
fn affine(graph: &Graph, node: &Node, value: ValueId, linear: &Linear) -> Option<(BinaryFn, Vec<f32>)> {
    let Op::Binary(function) = node.op else { return None };
    let (a, b) = (node.input(0)?, node.input(1)?);
    let constant = if a == value { b } else { a };
    let rank = graph.value(value).dims.len();
    let values = per_channel(graph, constant, rank, linear)?;
    // A gemm's bias may have any shape; only per-channel ones are folded into.
    if linear.bias.is_some_and(|bias| graph.value(bias).dims.iter().product::<usize>() != linear.channels) {
        return None;
    }
    match function {
        BinaryFn::Add | BinaryFn::Mul => Some((function, values)),
        BinaryFn::Sub if a == value => Some((BinaryFn::Add, values.iter().map(|v| -v).collect())),
        BinaryFn::Div if a == value => Some((BinaryFn::Mul, values.iter().map(|v| 1.0 / v).collect())),
        _ => None,
    }
}

/// A constant that varies along the linear node's channels only, as one number per channel.
fn per_channel(graph: &Graph, id: ValueId, rank: usize, linear: &Linear) -> Option<Vec<f32>> {
    let values = floats(graph, Some(id))?;
    let dims = &graph.value(id).dims;
    if values.len() == 1 && dims.len() <= rank {
        return Some(vec![values[0]; linear.channels]);
    }
    let axis = (dims.len() + linear.axis).checked_sub(rank)?;
    let only =
        dims.len() <= rank && dims.iter().enumerate().all(|(i, &d)| d == if i == axis { linear.channels } else { 1 });
    only.then_some(values)
}

fn scale(graph: &mut Graph, index: usize, linear: &Linear, factors: &[f32]) {
    let node = graph.nodes[index].clone();
    let mut weights = floats(graph, Some(linear.weights)).expect("linear weights are constant floats");
    let dims = graph.value(linear.weights).dims.clone();
    let per = |i: usize, inner: usize, channels: usize| i / inner % channels;
    let inner: usize = dims[1..].iter().product();
    for (i, w) in weights.iter_mut().enumerate() {
        let channel = match &node.op {
            Op::Conv(_) => per(i, inner, dims[0]),
            // [C, M / group, kernel...]: the group is that of the input channel.
            Op::ConvTranspose { conv, .. } => {
                let per_group = dims[0] / conv.group;
                i / inner / per_group * dims[1] + per(i, inner / dims[1], dims[1])
            }
            Op::Gemm { trans_b: true, .. } => per(i, dims[1], dims[0]),
            _ => i % dims[1],
        };
        *w *= factors[channel];
    }
    graph.nodes[index].inputs[1] = Some(add_floats(graph, &format!("{}_weights", node.name), &dims, &weights));
    if let Some(bias) = floats(graph, linear.bias) {
        let scaled: Vec<f32> = bias.iter().zip(factors).map(|(b, f)| b * f).collect();
        set_bias(graph, index, linear, &scaled);
    }
}

fn shift(graph: &mut Graph, index: usize, linear: &Linear, terms: &[f32]) {
    // A gemm multiplies its bias by beta: what beta makes of the old bias is kept, and the new one counts once.
    let old = if let Op::Gemm { beta, .. } = &mut graph.nodes[index].op { std::mem::replace(beta, 1.0) } else { 1.0 };
    let bias = floats(graph, linear.bias).unwrap_or_else(|| vec![0.0; linear.channels]);
    let shifted: Vec<f32> = bias.iter().zip(terms).map(|(b, t)| b * old + t).collect();
    set_bias(graph, index, linear, &shifted);
}

fn set_bias(graph: &mut Graph, index: usize, linear: &Linear, bias: &[f32]) {
    let name = format!("{}_bias", graph.nodes[index].name);
    let id = add_floats(graph, &name, &[linear.channels], bias);
    graph.nodes[index].inputs.resize(3, None);
    graph.nodes[index].inputs[2] = Some(id);
}

/// Lets a convolution do the zero padding that a node before it does.
pub(super) fn pads(graph: &mut Graph) {
    let users = graph.users();
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let Op::Conv(conv) = &graph.nodes[index].op else { continue };
        let Some(x) = graph.nodes[index].input(0) else { continue };
        let Some(pad) = producers[x.index()] else { continue };
        let Op::Pad { mode: PadMode::Constant(0.0), pads } = &graph.nodes[pad].op else { continue };
        let spatial_only = pads[..2].iter().all(|p| *p == [0, 0]) && pads.iter().flatten().all(|&p| p >= 0);
        if !spatial_only || only_user(graph, &users, x) != Some(index) {
            continue;
        }
        let mut conv = conv.clone();
        for (axis, pads) in conv.window.iter_mut().zip(&pads[2..]) {
            axis.pad_begin += pads[0] as usize;
            axis.pad_end += pads[1] as usize;
        }
        graph.nodes[index].inputs[0] = graph.nodes[pad].input(0);
        graph.nodes[index].op = Op::Conv(conv);
    }
}
