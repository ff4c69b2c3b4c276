//! A layer's constant weights as a matrix, whatever operator holds them, and the rows of its input that they multiply.

use crate::ir::{Graph, Node, Op, Tensor, ValueId};

/// A layer's weights as `[groups][oc][positions]`, positions in the order (tap, input channel).
pub(crate) struct Matrix {
    pub weights: ValueId,
    pub groups: usize,
    pub oc: usize,
    pub taps: usize,
    pub kc: usize,
    /// Where element (group, channel, tap, k) lies in the constant.
    pub at: fn(&Matrix, usize, usize, usize, usize) -> usize,
}

pub(crate) fn matrix(graph: &Graph, node: &Node) -> Result<Matrix, String> {
    let id = node.input(1).filter(|id| graph.constant(*id).is_some_and(|t| t.elements::<f32>().is_some()));
    let weights = id.ok_or("its weights are computed, not constant")?;
    let dims = graph.value(weights).dims.clone();
    match &node.op {
        Op::Conv(conv) => {
            let (oc, kc) = (dims[0] / conv.group, dims[1]);
            let taps = dims[2..].iter().product();
            let at = |m: &Matrix, g, o, t, k| ((g * m.oc + o) * m.kc + k) * m.taps + t;
            Ok(Matrix { weights, groups: conv.group, oc, taps, kc, at })
        }
        Op::Gemm { trans_b: true, .. } => {
            Ok(Matrix { weights, groups: 1, oc: dims[0], taps: 1, kc: dims[1], at: |m, _, o, _, k| o * m.kc + k })
        }
        Op::Gemm { .. } | Op::MatMul if dims.len() == 2 => {
            Ok(Matrix { weights, groups: 1, oc: dims[1], taps: 1, kc: dims[0], at: |m, _, o, _, k| k * m.oc + o })
        }
        op => Err(format!(
            "no sparse kernel for {}",
            match op {
                Op::MatMul => "a product with more than two dimensions",
                _ => "this operator",
            }
        )),
    }
}

/// Whether a node has weights one could prune.
pub(crate) fn has_weights(node: &Node) -> bool {
    matches!(node.op, Op::Conv(_) | Op::ConvTranspose { .. } | Op::Gemm { .. } | Op::MatMul)
}

/// A layer's bias, zeros if it has none; `None` if it is no constant of one number per channel.
pub(crate) fn bias(graph: &Graph, node: usize, channels: usize) -> Option<Vec<f32>> {
    if matches!(graph.nodes[node].op, Op::Gemm { alpha, beta, .. } if alpha != 1.0 || beta != 1.0) {
        return None;
    }
    match graph.nodes[node].input(2) {
        None => Some(vec![0.0; channels]),
        Some(id) => Some(graph.constant(id)?.elements::<f32>()?.into_owned()).filter(|b| b.len() == channels),
    }
}

pub(crate) fn set_bias(graph: &mut Graph, node: usize, bias: &[f32]) {
    let name = free_name(graph, &format!("{}_corrected_bias", graph.nodes[node].name));
    let id = graph.add_const(name, Tensor::from_slice(&[bias.len()], bias).expect("one number per channel"));
    graph.nodes[node].inputs.resize(3, None);
    graph.nodes[node].inputs[2] = Some(id);
}

fn free_name(graph: &Graph, base: &str) -> String {
    (0..)
        .map(|i| if i == 0 { base.to_owned() } else { format!("{base}_{i}") })
        .find(|n| graph.values.iter().all(|v| v.name != *n))
        .expect("a free name")
}

/// Gives a node new weights; `what` has become of them goes into their name.
pub(crate) fn set_weights(graph: &mut Graph, node: usize, m: &Matrix, weights: &[f32], what: &str) -> ValueId {
    let dims = graph.value(m.weights).dims.clone();
    let tensor = Tensor::from_slice(&dims, weights).expect("as many weights as before");
    let name = free_name(graph, &format!("{}_{what}", graph.value(m.weights).name));
    let id = graph.add_const(name, tensor);
    graph.nodes[node].inputs[1] = Some(id);
    id
}

/// Layers with more positions have no moments: a matrix of this size squared.
const MOST_POSITIONS: usize = 1152;
/// Rows of a layer's input, `[tap][group][channel]` each, at up to `most` output pixels; `None` for layers without such.
pub(crate) fn input_rows(graph: &Graph, node: usize, x: &Tensor, most: usize) -> Option<Vec<f32>> {
    let m = matrix(graph, &graph.nodes[node]).ok().filter(|m| m.taps * m.kc <= MOST_POSITIONS)?;
    let elements = x.elements::<f32>()?;
    let Op::Conv(conv) = &graph.nodes[node].op else {
        let rows = elements.len() / m.kc;
        let step = rows.div_ceil(most).max(1);
        let last = x.dims().last() == Some(&m.kc) && !matches!(graph.nodes[node].op, Op::Gemm { trans_a: true, .. });
        return last.then(|| elements.chunks_exact(m.kc).step_by(step).flatten().copied().collect());
    };
    // A 1-D convolution is a 2-D one of height 1.
    let one = |axis: usize| conv.window.len().checked_sub(axis + 1).map(|i| (conv.window[i], x.dims()[2 + i]));
    let (width, in_w) = one(0)?;
    let height = one(1);
    let y = &graph.value(graph.nodes[node].output(0)?).dims;
    let (out_w, in_h) = (*y.last()?, height.map_or(1, |(_, h)| h));
    let out_h = if height.is_some() { y[2] } else { 1 };
    let pixels = y[0] * out_h * out_w;
    let mut rows = Vec::new();
    for pixel in (0..pixels).step_by(pixels.div_ceil(most).max(1)) {
        let (n, oy, ox) = (pixel / (out_h * out_w), pixel / out_w % out_h, pixel % out_w);
        let channels = m.groups * m.kc;
        for tap in 0..m.taps {
            let (ky, kx) = (tap / width.kernel, tap % width.kernel);
            let iy = height.map_or(0, |(h, _)| (oy * h.stride + ky * h.dilation) as isize - h.pad_begin as isize);
            let ix = (ox * width.stride + kx * width.dilation) as isize - width.pad_begin as isize;
            let inside = (iy as usize) < in_h && (ix as usize) < in_w;
            let at = |k: usize| ((n * channels + k) * in_h + iy as usize) * in_w + ix as usize;
            rows.extend((0..channels).map(|k| if inside { elements[at(k)] } else { 0.0 }));
        }
    }
    Some(rows)
}
