//! The few operators that exporters' shape arithmetic consists of, computed in f64: enough to test folding with.

use crate::ir::{BinaryFn, DType, Graph, Op, ReduceKind, Tensor, UnaryFn, byte_count};

/// Implements [`Evaluate`](crate::import::Evaluate).
pub fn evaluate(graph: &Graph) -> Result<Vec<Tensor>, String> {
    let node = &graph.nodes[0];
    let operands: Vec<&Tensor> = node.inputs.iter().flatten().filter_map(|&id| graph.constant(id)).collect();
    let output = graph.value(graph.outputs[0]);
    let (dims, x) = (&output.dims, operands[0]);
    byte_count(output.dtype, dims).ok_or("too large")?;
    let elements = match &node.op {
        Op::Cast if output.dtype != DType::Bool => x.to_f64().iter().map(|v| v.trunc()).collect(),
        Op::Unary(UnaryFn::Neg) => x.to_f64().iter().map(|v| -v).collect(),
        Op::Binary(function) => {
            let function = binary(*function, x.dtype() != DType::F32)?;
            let (a, b) = (expand(x, dims), expand(operands[1], dims));
            a.iter().zip(&b).map(|(&a, &b)| function(a, b)).collect()
        }
        Op::Where => {
            let [c, a, b] = [0, 1, 2].map(|i| expand(operands[i], dims));
            (0..c.len()).map(|i| if c[i] != 0.0 { a[i] } else { b[i] }).collect()
        }
        Op::Expand => expand(x, dims),
        Op::Concat { axis: 0 } => operands.iter().flat_map(|x| x.to_f64()).collect(),
        Op::Gather { axis: 0 } => {
            let row: usize = x.dims()[1..].iter().product();
            let data = x.to_f64();
            let indices = operands[1].to_i64().ok_or("float index")?;
            let first = |i: i64| (if i < 0 { i + x.dims()[0] as i64 } else { i }) as usize * row;
            indices.iter().flat_map(|&i| data[first(i)..first(i) + row].to_vec()).collect()
        }
        Op::Slice { axes } if axes.len() == 1 => {
            let at = |k: usize| (axes[0].start as i64 + k as i64 * axes[0].step) as usize;
            (0..dims[0]).map(|k| x.to_f64()[at(k)]).collect()
        }
        Op::Reduce { kind: ReduceKind::Prod, axes, .. } if axes.len() == x.dims().len() => {
            vec![x.to_f64().iter().product()]
        }
        op => return Err(format!("the test evaluator lacks {op:?}")),
    };
    Ok(vec![from_f64(output.dtype, dims, &elements)?])
}

fn binary(function: BinaryFn, integer: bool) -> Result<fn(f64, f64) -> f64, String> {
    Ok(match function {
        BinaryFn::Add => |a, b| a + b,
        BinaryFn::Sub => |a, b| a - b,
        BinaryFn::Mul => |a, b| a * b,
        BinaryFn::Div if integer => |a, b| (a / b).trunc(),
        BinaryFn::Div => |a, b| a / b,
        BinaryFn::Equal => |a, b| f64::from(u8::from(a == b)),
        BinaryFn::Max => f64::max,
        BinaryFn::Min => f64::min,
        other => return Err(format!("the test evaluator lacks {other:?}")),
    })
}

/// The elements repeated to larger dimensions.
fn expand(x: &Tensor, dims: &[usize]) -> Vec<f64> {
    let data = x.to_f64();
    let lead = dims.len() - x.dims().len();
    let at = |mut flat: usize| {
        let (mut index, mut stride) = (0, 1);
        for axis in (0..dims.len()).rev() {
            let place = flat % dims[axis];
            flat /= dims[axis];
            if let Some(own) = axis.checked_sub(lead).map(|axis| x.dims()[axis]) {
                index += if own == 1 { 0 } else { place * stride };
                stride *= own;
            }
        }
        data[index]
    };
    (0..dims.iter().product()).map(at).collect()
}

fn from_f64(dtype: DType, dims: &[usize], x: &[f64]) -> Result<Tensor, String> {
    match dtype {
        DType::F32 => Tensor::from_slice(dims, &x.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        DType::I32 => Tensor::from_slice(dims, &x.iter().map(|&v| v as i32).collect::<Vec<_>>()),
        DType::I64 => Tensor::from_slice(dims, &x.iter().map(|&v| v as i64).collect::<Vec<_>>()),
        DType::Bool => Tensor::new(dtype, dims, x.iter().map(|&v| u8::from(v != 0.0)).collect::<Vec<_>>()),
        _ => None,
    }
    .ok_or_else(|| "result does not fit".into())
}
