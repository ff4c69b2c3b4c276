//! Matrix products.

use super::context::NodeContext;
use super::elementwise::broadcast;
use super::error::{Reason, invalid};
use super::table::{Operator, since};
use crate::ir::{DType, Op, ValueId};

pub(super) const OPERATORS: &[Operator] = &[since(1, "MatMul", matmul), since(7, "Gemm", gemm)];

const TYPES: &[DType] = &[DType::F32, DType::I32, DType::I64];

/// Dimensions of a product by numpy's rules.
pub(super) fn matmul_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Reason> {
    let error = || Reason::Invalid(format!("matrices of dimensions {a:?} and {b:?} cannot be multiplied"));
    let (&k, a_rest) = a.split_last().ok_or_else(error)?;
    let (n, b_k, b_lead) = match b {
        [] => return Err(error()),
        [k] => (None, *k, &[][..]),
        [lead @ .., k, n] => (Some(*n), *k, lead),
    };
    if k != b_k {
        return Err(error());
    }
    let (m, a_lead) = a_rest.split_last().map_or((None, &[][..]), |(&m, lead)| (Some(m), lead));
    let mut dims = broadcast(a_lead, b_lead)?;
    dims.extend(m);
    dims.extend(n);
    Ok(dims)
}

fn matmul(cx: &mut NodeContext) -> Result<(), Reason> {
    let (a, b) = (cx.operand(0)?, cx.operand(1)?);
    cx.require_dtype(a, TYPES)?;
    cx.require_dtype(b, &[cx.dtype(a)])?;
    let dims = matmul_dims(cx.dims(a), cx.dims(b))?;
    cx.emit_one(Op::MatMul, &[a, b], (cx.dtype(a), dims))
}

fn gemm(cx: &mut NodeContext) -> Result<(), Reason> {
    let (a, b, c) = (cx.operand(0)?, cx.operand(1)?, cx.optional(2));
    cx.require_dtype(a, TYPES)?;
    cx.require_dtype(b, &[cx.dtype(a)])?;
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
    let matrix = |id: ValueId, transposed: bool| match *cx.dims(id) {
        [rows, columns] => Ok(if transposed { [columns, rows] } else { [rows, columns] }),
        _ => invalid(format!("operands must be matrices, not {:?}", cx.dims(id))),
    };
    let ([m, k], [b_k, n]) = (matrix(a, trans_a)?, matrix(b, trans_b)?);
    if k != b_k {
        return invalid(format!("matrices [{m}, {k}] and [{b_k}, {n}] cannot be multiplied"));
    }
    if let Some(c) = c {
        cx.require_dtype(c, &[cx.dtype(a)])?;
        if broadcast(&[m, n], cx.dims(c))? != [m, n] {
            return invalid(format!("operand C of dimensions {:?} does not broadcast to [{m}, {n}]", cx.dims(c)));
        }
    }
    let op = Op::Gemm { alpha, beta, trans_a, trans_b };
    cx.emit(op, &[Some(a), Some(b), c], &[(cx.dtype(a), vec![m, n])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_follow_numpy() {
        type Case = (&'static [usize], &'static [usize], Option<&'static [usize]>);
        let cases: [Case; 8] = [
            (&[2, 3], &[3, 4], Some(&[2, 4])),
            (&[3], &[3], Some(&[])),
            (&[3], &[3, 4], Some(&[4])),
            (&[2, 3], &[3], Some(&[2])),
            (&[5, 1, 2, 3], &[6, 3, 4], Some(&[5, 6, 2, 4])),
            (&[2, 3], &[4, 5], None),
            (&[], &[3], None),
            (&[3], &[], None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(matmul_dims(a, b).ok().as_deref(), expected, "{a:?} {b:?}");
        }
    }
}
