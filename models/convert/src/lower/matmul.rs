//! Matrix products: with constant weights as convolutions, of two computed matrices as [`Op::MatMul`].

use super::view::{Format, View, coalesce};
use super::{Lowerer, Result};
use crate::ir::{Node, ValueId};
use crate::program::TensorId;
use crate::settings::Quantization;
use sparrow_kernels::{BinaryFn, DType, MapFn, MapParams, MatMulParams, Op, RequantizeParams};

/// The fields of [`ir::Op::Gemm`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Gemm {
    pub alpha: f32,
    pub beta: f32,
    pub trans_a: bool,
    pub trans_b: bool,
}

/// Matrices in memory, last two axes rows and columns.
#[derive(Clone, Debug)]
pub(super) struct Matrices {
    pub tensor: TensorId,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Matrices {
    /// A dense plain view, vectors promoted: a left one to a row, a right one to a column.
    pub fn new(view: &View, dims: &[usize], left: bool) -> Self {
        let (mut dims, mut strides) = (dims.to_vec(), view.strides.clone());
        if dims.len() == 1 {
            let at = usize::from(!left);
            dims.insert(at, 1);
            strides.insert(at, 0);
        }
        Self { tensor: view.tensor, dims, strides }
    }

    /// Rows become columns.
    pub fn transposed(mut self) -> Self {
        let rank = self.dims.len();
        self.dims.swap(rank - 2, rank - 1);
        self.strides.swap(rank - 2, rank - 1);
        self
    }

    fn last(&self, back: usize) -> (usize, usize) {
        let at = self.dims.len() - back;
        (self.dims[at], self.strides[at])
    }
}

impl Lowerer<'_> {
    /// [`ir::Op::MatMul`].
    pub fn matmul(&mut self, node: &Node) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let bd = self.dims(b);
        let bias = node.input(2);
        let constant = self.constant(b).is_some() && (self.constant(a).is_none() || bias.is_some());
        if constant && bd.len() == 2 && !bd.contains(&0) {
            let weights = transpose(&self.real(b)?, bd[0], bd[1]);
            let axis = self.dims(y).len() - 1;
            let bias = self.bias(bias, bd[1])?;
            let arithmetic = self.arithmetic((a, b), y, axis, (&weights, bias))?;
            return self.product((a, bd[0]), &weights, &arithmetic);
        }
        if let (Some(qa), Some(qb), Some(qy)) = (self.quantization(a), self.quantization(b), self.quantization(y)) {
            return self.matmul_codes((a, qa), (b, qb), (y, qy));
        }
        let (left, right) = self.float_operands(a, b)?;
        let out = self.output(y, Format::Plain, self.float());
        self.emit_matmul(&left, &right, (0, 0), out.tensor)
    }

    /// Both operands of a product in floats.
    fn float_operands(&mut self, a: ValueId, b: ValueId) -> Result<(Matrices, Matrices)> {
        let float = self.float();
        if self.quantization(a).is_some() || self.quantization(b).is_some() {
            self.note("runs in f32: not all of its tensors have scales");
        }
        let left = Matrices::new(&self.want(a, Format::Plain, float)?, self.dims(a), true);
        let right = Matrices::new(&self.want(b, Format::Plain, float)?, self.dims(b), false);
        Ok((left, right))
    }

    /// A product of codes, its sums requantized.
    fn matmul_codes(
        &mut self,
        (a, qa): (ValueId, Quantization),
        (b, qb): (ValueId, Quantization),
        (y, qy): (ValueId, Quantization),
    ) -> Result {
        let left = Matrices::new(&self.want(a, Format::Plain, DType::I8)?, self.dims(a), true);
        let right = Matrices::new(&self.want(b, Format::Plain, DType::I8)?, self.dims(b), false);
        let sums = self.temporary(DType::I32, self.dims(y));
        self.emit_matmul(&left, &right, (qa.zero, qb.zero), sums)?;
        let out = self.output(y, Format::Plain, DType::I8);
        let factor = (f64::from(qa.scale) * f64::from(qb.scale) / f64::from(qy.scale)) as f32;
        let factor = self.program.constant(DType::F32, &[1], &[factor]);
        let params = RequantizeParams {
            outer: 1,
            channels: 1,
            inner: self.dims(y).iter().product::<usize>() as u32,
            x_zero: 0,
            y_zero: qy.zero,
            lo: (-128 - qy.zero) as f32,
            hi: (127 - qy.zero) as f32,
        };
        self.emit(Op::Requantize, &params, &[Some(sums), Some(factor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// Adds the product of two computed operands, whose leading axes broadcast.
    pub fn emit_matmul(&mut self, a: &Matrices, b: &Matrices, (a_zero, b_zero): (i32, i32), y: TensorId) -> Result {
        let ((m, a_row), (k, a_col)) = (a.last(2), a.last(1));
        let ((_, b_row), (n, b_col)) = (b.last(2), b.last(1));
        if k == 0 {
            self.fill(y, 0);
            return Ok(());
        }
        let rank = a.dims.len().max(b.dims.len()) - 2;
        let axis = |operand: &Matrices, i: usize| match (operand.dims.len() - 2 + i).checked_sub(rank) {
            Some(at) if operand.dims[at] != 1 => (operand.dims[at], operand.strides[at] as i64),
            _ => (1, 0),
        };
        let batch = (0..rank).map(|i| {
            let ((a_dim, a_stride), (b_dim, b_stride)) = (axis(a, i), axis(b, i));
            (a_dim.max(b_dim), [a_stride, b_stride])
        });
        let batch = coalesce(batch);
        let mut params =
            MatMulParams { batch: [1; 6], m: m as u32, n: n as u32, k: k as u32, a_zero, b_zero, ..Default::default() };
        if batch.len() > params.batch.len() {
            return Err(
                self.unsupported("it has more than 6 batch axes that broadcast", "merge dimensions in the model")
            );
        }
        for (i, (dim, [a, b])) in batch.into_iter().enumerate() {
            (params.batch[i], params.a_batch[i], params.b_batch[i]) = (dim as u32, a as u32, b as u32);
        }
        (params.a_row, params.a_col) = (a_row as u32, a_col as u32);
        (params.b_row, params.b_col) = (b_row as u32, b_col as u32);
        self.emit(Op::MatMul, &params, &[Some(a.tensor), Some(b.tensor)], &[Some(y)]);
        Ok(())
    }

    /// [`ir::Op::Gemm`].
    pub fn gemm(&mut self, node: &Node, gemm: &Gemm) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let bd = self.dims(b);
        if self.constant(b).is_none() || self.constant(a).is_some() || bd.contains(&0) || gemm.trans_a {
            return self.computed_gemm(node, gemm);
        }
        let (k, n) = if gemm.trans_b { (bd[1], bd[0]) } else { (bd[0], bd[1]) };
        let mut weights = self.real(b)?;
        if !gemm.trans_b {
            weights = transpose(&weights, k, n);
        }
        let c = node.input(2).filter(|_| gemm.beta != 0.0);
        let Some(bias) = c.map_or(Some(vec![0.0; n]), |c| self.per_channel(c, y, 1)) else {
            return self.computed_gemm(node, gemm);
        };
        let bias = bias.into_iter().map(|b| b * f64::from(gemm.beta)).collect();
        let mut arithmetic = self.arithmetic((a, b), y, 1, (&weights, bias))?;
        weights.iter_mut().for_each(|w| *w *= gemm.alpha);
        arithmetic.scales.iter_mut().for_each(|scale| *scale *= gemm.alpha.abs());
        self.product((a, k), &weights, &arithmetic)
    }

    /// A product of computed matrices, then its factor, then its addend.
    fn computed_gemm(&mut self, node: &Node, gemm: &Gemm) -> Result {
        let (a, b, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let (mut left, mut right) = self.float_operands(a, b)?;
        if gemm.trans_a {
            left = left.transposed();
        }
        if gemm.trans_b {
            right = right.transposed();
        }
        let (float, dims) = (self.float(), self.dims(y));
        let c = node.input(2).filter(|_| gemm.beta != 0.0);
        let scaled = gemm.alpha != 1.0;
        let last = self.output(y, Format::Plain, float).tensor;
        let product = if scaled || c.is_some() { self.temporary(float, dims) } else { last };
        self.emit_matmul(&left, &right, (0, 0), product)?;
        let sum = if scaled && c.is_some() { self.temporary(float, dims) } else { last };
        if scaled {
            self.affine((product, gemm.alpha), self.count(y), sum);
        }
        let Some(c) = c else { return Ok(()) };
        let mut addend = self.want(c, Format::Plain, float)?;
        if gemm.beta != 1.0 {
            let times_beta = self.temporary(float, self.dims(c));
            self.affine((addend.tensor, gemm.beta), self.count(c), times_beta);
            addend.tensor = times_beta;
        }
        let whole = View::dense(if scaled { sum } else { product }, Format::Plain, dims);
        self.emit_binary(BinaryFn::Add, (Format::Plain, dims), (&whole, dims), (&addend, self.dims(c)), last);
        Ok(())
    }

    /// `y = factor * x`, elementwise.
    fn affine(&mut self, (x, factor): (TensorId, f32), count: u32, y: TensorId) {
        let params = MapParams { function: MapFn::Affine.number(), count, p: factor, q: 0.0 };
        self.emit(Op::Map, &params, &[Some(x)], &[Some(y)]);
    }
}

/// A `[rows][columns]` matrix as `[columns][rows]`.
pub(super) fn transpose<T: Copy>(matrix: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}
