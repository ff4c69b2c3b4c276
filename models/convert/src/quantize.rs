//! Calibration: which values are stored as int8 codes, and the scale and zero point of each.
//!
//! The network runs in f32 on sample inputs; the least and greatest element of every value (with 0, which must have a
//! code) give `scale = (max - min) / 255` and the zero point (Jacob et al., "Quantization and Training of Neural Networks
//! for Efficient Integer-Arithmetic-Only Inference", 2018, section 2.1 and 3.1). Values that only pass elements on share
//! the parameters of what they pass on, so that nothing is rounded twice.

use crate::ir::{BinaryFn, DType, Graph, Node, Op, PadMode, PoolKind, ReduceKind, ResizeMode, ValueId};
use crate::settings::Quantization;
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
    share(graph, &mut chosen);
    chosen
}

/// Gives what is passed on the parameters of what it came from; operands of a concatenation those of the result.
fn share(graph: &Graph, chosen: &mut HashMap<ValueId, Quantization>) {
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
        for y in node.outputs.iter().flatten() {
            if let Some(quantization) = chosen.get_mut(y) {
                *quantization = source;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
