//! Operators that move no element's value: chains of them become one, and those that do nothing go.

use crate::ir::{Graph, Op};

/// Merges chains of reshapes and of transposes, and removes those, and casts, that change nothing.
pub(super) fn merge(graph: &mut Graph) {
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let Some(x) = graph.nodes[index].input(0) else { continue };
        let before = producers[x.index()].map(|p| graph.nodes[p].clone());
        match (&graph.nodes[index].op, before.as_ref().map(|n| &n.op)) {
            (Op::Reshape, Some(Op::Reshape)) => graph.nodes[index].inputs[0] = before.and_then(|n| n.input(0)),
            (Op::Transpose { perm }, Some(Op::Transpose { perm: first })) => {
                let perm = perm.iter().map(|&axis| first[axis]).collect();
                graph.nodes[index].op = Op::Transpose { perm };
                graph.nodes[index].inputs[0] = before.and_then(|n| n.input(0));
            }
            _ => {}
        }
    }
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { continue };
        let nothing = match &node.op {
            Op::Reshape => graph.value(x).dims == graph.value(y).dims,
            Op::Transpose { perm } => perm.iter().enumerate().all(|(i, &axis)| i == axis),
            Op::Cast => graph.value(x).dtype == graph.value(y).dtype,
            _ => false,
        };
        if nothing {
            graph.replace_uses(y, x);
        }
    }
}
