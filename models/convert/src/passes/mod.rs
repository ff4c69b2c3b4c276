//! Graph passes: the same function, computed with fewer operators.
//!
//! Every pass keeps the function of the graph up to rounding and leaves it valid. [`simplify`] runs them in an order in
//! which each finds what the one before uncovered.

mod linear;
mod quantized;
mod views;

pub use quantized::{Stored, absorb_quantized};

use crate::ir::{Graph, Node, Op, Tensor, ValueId};

/// Runs every float pass.
pub fn simplify(graph: &mut Graph) {
    views::merge(graph);
    linear::batch_norms(graph);
    linear::fold_into_weights(graph);
    linear::pads(graph);
    graph.remove_dead();
}

/// The only node that reads a value, if the value is not a graph output and that node reads it once.
fn only_user(graph: &Graph, users: &[Vec<usize>], id: ValueId) -> Option<usize> {
    match users[id.index()][..] {
        [user] if !graph.outputs.contains(&id) => Some(user),
        _ => None,
    }
}

/// The elements of a constant f32 operand.
fn floats(graph: &Graph, id: Option<ValueId>) -> Option<Vec<f32>> {
    Some(graph.constant(id?)?.elements::<f32>()?.into_owned())
}

/// A name no value has, made from `base`.
fn fresh_name(graph: &Graph, base: &str) -> String {
    let taken = |name: &str| graph.values.iter().any(|v| v.name == name);
    if !taken(base) {
        return base.to_owned();
    }
    (1..).map(|i| format!("{base}_{i}")).find(|name| !taken(name)).expect("some number is free")
}

/// Adds an f32 constant.
fn add_floats(graph: &mut Graph, base: &str, dims: &[usize], elements: &[f32]) -> ValueId {
    let name = fresh_name(graph, base);
    graph.add_const(name, Tensor::from_slice(dims, elements).expect("as many elements as the dims say"))
}

/// Where a linear node keeps its output channels.
struct Linear {
    /// Its weights.
    weights: ValueId,
    /// Its bias, if it has one.
    bias: Option<ValueId>,
    /// Output channels.
    channels: usize,
    /// The axis of its result that is the output channel.
    axis: usize,
}

/// What a node with constant weights and at most a constant bias is as a linear map; `None` for any other node.
fn linear(graph: &Graph, node: &Node) -> Option<Linear> {
    let weights = node.input(1)?;
    let dims = graph.constant(weights)?.dims().to_vec();
    graph.constant(weights)?.elements::<f32>()?;
    let bias = node.input(2);
    if let Some(bias) = bias {
        graph.constant(bias)?.elements::<f32>()?;
    }
    let rank = graph.value(node.output(0)?).dims.len();
    let (channels, axis) = match &node.op {
        Op::Conv(_) => (dims[0], 1),
        Op::ConvTranspose { conv, .. } => (dims[1] * conv.group, 1),
        Op::Gemm { trans_b, .. } => (if *trans_b { dims[0] } else { dims[1] }, 1),
        Op::MatMul if dims.len() == 2 && rank >= 2 => (dims[1], rank - 1),
        _ => return None,
    };
    Some(Linear { weights, bias, channels, axis })
}
