//! Calibration: which values are stored as int8 codes, and the scale and zero point of each.
//!
//! The network runs in f32 on sample inputs; the least and greatest element of every value (with 0, which must have a
//! code) give `scale = (max - min) / 255` and the zero point (Jacob et al., "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.1 and 3.1). Values that only pass elements on share
//! the parameters of what they pass on, so that nothing is rounded twice.
//!
//! Weights are rounded so that what one loses the others and the bias make up for, on the samples' second moments
//! ([`crate::compensate::round`]). Where a channel's input hardly varies (dead channels of depthwise layers have such),
//! rounding to nearest moves its result by more than its whole range; MobileNet-v1 gains 11 dB.

use crate::compensate::{self, Mat, Moments};
use crate::ir::{BinaryFn, DType, Graph, Node, Op, PadMode, PoolKind, ReduceKind, ResizeMode, ValueId};
use crate::settings::Quantization;
use crate::weights::{bias, matrix, set_bias, set_weights};
use std::collections::{HashMap, HashSet};

/// Least and greatest element seen of each value.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ranges {
    by_value: HashMap<ValueId, (f32, f32)>,
}

impl Ranges {
    /// Takes note of a value's elements; infinite and NaN ones are left out.
    pub fn note(&mut self, id: ValueId, elements: &[f32]) {
        let range = self.by_value.entry(id).or_insert((0.0, 0.0));
        for &x in elements.iter().filter(|x| x.is_finite()) {
            *range = (range.0.min(x), range.1.max(x));
        }
    }
}

/// Scale and zero point that give `low..=high`, and 0 exactly, the codes -128..=127.
pub fn parameters((low, high): (f32, f32)) -> Quantization {
    let scale = ((f64::from(high) - f64::from(low)) / 255.0) as f32;
    if !(scale > f32::MIN_POSITIVE && scale.is_finite()) {
        return Quantization { scale: 1.0, zero: 0 };
    }
    let zero = (-128.0 - f64::from(low) / f64::from(scale)).round_ties_even();
    Quantization { scale, zero: zero.clamp(-128.0, 127.0) as i32 }
}

/// Whether a node has an int8 kernel for its first operand.
fn runs_in_codes(graph: &Graph, node: &Node) -> bool {
    let constant = |i| node.input(i).is_some_and(|id| graph.constant(id).is_some());
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::Gemm { .. } | Op::MatMul => {
            constant(1) && graph.value(node.inputs[1].expect("has weights")).dtype == DType::F32
        }
        Op::Binary(BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul) | Op::Unary(_) => true,
        Op::Pool { .. } | Op::Concat { .. } | Op::GlobalPool { kind: PoolKind::Average } => true,
        Op::Reduce { kind: ReduceKind::Mean, .. } => true,
        Op::Resize(resize) => !matches!(resize.mode, ResizeMode::Cubic { .. }),
        op => passes_on(op),
    }
}

/// Whether every element of a node's result is an element of its first operand.
fn passes_on(op: &Op) -> bool {
    match op {
        Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Split { .. } | Op::Expand | Op::Tile { .. } => true,
        Op::DepthToSpace { .. } | Op::SpaceToDepth { .. } => true,
        Op::Pad { mode, .. } => !matches!(mode, PadMode::Constant(c) if *c != 0.0),
        Op::Pool { kind, .. } => *kind == PoolKind::Max,
        Op::Resize(resize) => matches!(resize.mode, ResizeMode::Nearest(_)),
        _ => false,
    }
}

/// The values to store as codes. Graph outputs stay floats, and so does what only float operators read.
pub fn choose(graph: &Graph, ranges: &Ranges) -> HashMap<ValueId, Quantization> {
    let users = graph.users();
    let producers = graph.producers();
    let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let wanted = |id: ValueId| {
        let value = graph.value(id);
        let produced = producers[id.index()].is_none_or(|p| runs_in_codes(graph, &graph.nodes[p]));
        let read = users[id.index()].iter().any(|&u| runs_in_codes(graph, &graph.nodes[u]));
        value.dtype == DType::F32 && value.data.is_none() && !outputs.contains(&id) && produced && read
    };
    let mut chosen: HashMap<ValueId, Quantization> =
        ranges.by_value.iter().filter(|(id, _)| wanted(**id)).map(|(id, range)| (*id, parameters(*range))).collect();
    share(graph, &mut chosen, wanted);
    chosen
}

/// Gives what is passed on, and `wanted` as codes, the parameters of what it came from; operands of a concatenation those of
/// the result. What only has other dimensions than its operand has no range of its own.
fn share(graph: &Graph, chosen: &mut HashMap<ValueId, Quantization>, wanted: impl Fn(ValueId) -> bool) {
    for node in graph.nodes.iter().rev() {
        let (Op::Concat { .. }, Some(y)) = (&node.op, node.output(0)) else { continue };
        let Some(&result) = chosen.get(&y) else { continue };
        for id in node.inputs.iter().flatten() {
            if let Some(quantization) = chosen.get_mut(id) {
                *quantization = result;
            }
        }
    }
    for node in graph.nodes.iter().filter(|n| passes_on(&n.op)) {
        let Some(source) = node.input(0).and_then(|x| chosen.get(&x).copied()) else { continue };
        for &y in node.outputs.iter().flatten().filter(|&&y| wanted(y)) {
            chosen.insert(y, source);
        }
    }
}

/// A scale for each row of weights, `per_channel` each: the largest becomes 127. A bias counts in products of scales and
/// must fit its 32 bits: a channel whose input or weights are next to nothing beside its bias gets coarser weights.
pub fn weight_scales(weights: &[f32], bias: &[f64], x_scale: f32) -> Vec<f32> {
    const LIMIT: f64 = (1 << 30) as f64;
    let rows = weights.chunks((weights.len() / bias.len().max(1)).max(1));
    let largest = rows.map(|row| row.iter().fold(0f32, |most, w| most.max(w.abs())));
    let scale = |most: f32| if most > 0.0 && most.is_finite() { most / 127.0 } else { 1.0 };
    let hold = |b: &f64| (b.abs() / (f64::from(x_scale) * LIMIT)) as f32;
    largest.zip(bias).map(|(most, b)| scale(most).max(hold(b))).collect()
}

/// Rounds the weights of every layer that reads codes and has moments, so that its result suffers least
/// ([`crate::compensate::round`]); the scales of each.
pub fn round(
    graph: &mut Graph,
    activations: &HashMap<ValueId, Quantization>,
    moments: &HashMap<usize, Moments>,
) -> HashMap<ValueId, Vec<f32>> {
    let mut scales = HashMap::new();
    // In order, so that the same network makes the same file.
    for (node, moments) in (0..graph.nodes.len()).filter_map(|node| Some((node, moments.get(&node)?))) {
        let x = graph.nodes[node].input(0).and_then(|x| activations.get(&x));
        let rounded = x.and_then(|x| round_layer(graph, node, x.scale, moments));
        scales.extend(rounded);
    }
    scales
}

fn round_layer(graph: &mut Graph, node: usize, x_scale: f32, moments: &Moments) -> Option<(ValueId, Vec<f32>)> {
    let m = matrix(graph, &graph.nodes[node]).ok()?;
    let (positions, channels) = (m.taps * m.kc, m.groups * m.oc);
    if moments.positions() != positions || moments.groups() != m.groups {
        return None;
    }
    let mut weights = graph.constant(m.weights)?.elements::<f32>()?.into_owned();
    let mut bias = bias(graph, node, channels)?;
    let rows: Vec<f32> = (0..channels)
        .flat_map(|c| (0..positions).map(move |p| (c, p)))
        .map(|(c, p)| weights[(m.at)(&m, c / m.oc, c % m.oc, p / m.kc, p % m.kc)])
        .collect();
    let wide: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
    let scales = weight_scales(&rows, &wide, x_scale);
    for group in 0..m.groups {
        let first = group * m.oc;
        let mut block = Mat::from_fn(positions + 1, m.oc, |p, c| {
            f64::from(if p < positions { rows[(first + c) * positions + p] } else { bias[first + c] })
        });
        compensate::round(moments, group, &mut block, &scales[first..first + m.oc])?;
        for c in 0..m.oc {
            for p in 0..positions {
                weights[(m.at)(&m, group, c, p / m.kc, p % m.kc)] = block[(p, c)] as f32;
            }
            bias[first + c] = block[(positions, c)] as f32;
        }
    }
    set_bias(graph, node, &bias);
    Some((set_weights(graph, node, &m, &weights, "rounded"), scales))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A classifier's last layer reads a flattened pool: under other dimensions, the same codes.
    #[test]
    fn what_is_only_reshaped_has_its_operands_codes() {
        use crate::ir::Tensor;
        let mut graph = Graph { name: "test".into(), ..Graph::default() };
        let value = |graph: &mut Graph, name: &str, dims: &[usize]| graph.add_value(name, DType::F32, dims);
        let x = value(&mut graph, "x", &[1, 4, 3, 3]);
        let [pooled, flat, y] =
            [("pooled", &[1, 4, 1, 1][..]), ("flat", &[1, 4]), ("y", &[1, 2])].map(|(n, d)| value(&mut graph, n, d));
        let w = graph.add_const("w", Tensor::from_slice(&[4, 2], &[0.5f32; 8]).unwrap());
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
        for (op, inputs, output) in [
            (Op::GlobalPool { kind: PoolKind::Average }, vec![x], pooled),
            (Op::Reshape, vec![pooled], flat),
            (gemm, vec![flat, w], y),
        ] {
            let inputs = inputs.into_iter().map(Some).collect();
            let (name, onnx_op) = (format!("{op:?}"), "Test".into());
            graph.nodes.push(Node { name, onnx_op, opset: 13, op, inputs, outputs: vec![Some(output)] });
        }
        graph.inputs.push(x);
        graph.outputs.push(y);
        let mut ranges = Ranges::default();
        // A view has no name of its own, hence no range.
        ranges.note(x, &[-1.0, 1.0]);
        ranges.note(pooled, &[0.0, 0.5]);
        let chosen = choose(&graph, &ranges);
        assert_eq!(chosen.get(&flat), chosen.get(&pooled));
        assert!(chosen.contains_key(&pooled) && !chosen.contains_key(&y));
    }

    #[test]
    fn ranges_become_codes_that_hold_zero() {
        let cases = [
            ("relu6", (0.0, 6.0), 6.0 / 255.0, -128),
            ("symmetric", (-1.0, 1.0), 2.0 / 255.0, -1),
            ("negative", (-4.0, 0.0), 4.0 / 255.0, 127),
            ("constant zero", (0.0, 0.0), 1.0, 0),
        ];
        for (name, range, scale, zero) in cases {
            let q = parameters(range);
            assert!((q.scale - scale).abs() <= scale * 1e-6 && q.zero == zero, "{name}: {q:?}");
        }
    }
}
