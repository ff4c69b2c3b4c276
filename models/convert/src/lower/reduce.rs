//! Reductions, extreme positions, softmax: operators that work along axes of a dense tensor.
//!
//! Their kernels see memory as `[outer][len][inner]`, so they run in whatever order the operand has, as long as what
//! remains of it is an order again.

use super::view::{Format, View, element_bits};
use super::{Lowerer, Result};
use crate::ir::{self, Node, ReduceKind, ValueId};
use crate::program::TensorId;
use sparrow_kernels::{ArgReduceParams, DType, MAX_RANK, Op, ReduceFn, ReduceParams, SoftmaxParams, TopKParams};

/// Memory as an operator along one axis sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    pub outer: u32,
    pub len: u32,
    pub inner: u32,
}

impl Along {
    /// Dense memory of these dimensions along an axis of the value.
    pub fn new(format: Format, dims: &[usize], axis: usize) -> Self {
        let (memory, at) = (format.physical(dims), format.position(dims.len(), axis));
        let product = |dims: &[usize]| dims.iter().product::<usize>() as u32;
        Self { outer: product(&memory[..at]), len: memory[at] as u32, inner: product(&memory[at + 1..]) }
    }
}

fn function_of(kind: ReduceKind) -> ReduceFn {
    match kind {
        ReduceKind::Mean => ReduceFn::Mean,
        ReduceKind::Sum => ReduceFn::Sum,
        ReduceKind::Max => ReduceFn::Max,
        ReduceKind::Min => ReduceFn::Min,
        ReduceKind::Prod => ReduceFn::Prod,
        ReduceKind::L1 => ReduceFn::L1,
        ReduceKind::L2 => ReduceFn::L2,
        ReduceKind::SumSquare => ReduceFn::SumSquare,
        ReduceKind::LogSum => ReduceFn::LogSum,
        ReduceKind::LogSumExp => ReduceFn::LogSumExp,
    }
}

/// What a reduction makes of no elements at all.
fn of_nothing(kind: ReduceKind, dtype: DType) -> u64 {
    let least = |largest: bool| match (dtype, largest) {
        (DType::I8, true) => 127.0,
        (DType::I8, false) => -128.0,
        (DType::U8, true) => 255.0,
        (DType::Bool, true) => 1.0,
        (DType::U8 | DType::Bool, false) => 0.0,
        (DType::I32, true) => f64::from(i32::MAX),
        (DType::I32, false) => f64::from(i32::MIN),
        (_, true) => f64::INFINITY,
        (_, false) => f64::NEG_INFINITY,
    };
    let value = match kind {
        ReduceKind::Max => least(false),
        ReduceKind::Min => least(true),
        ReduceKind::Prod => 1.0,
        ReduceKind::LogSum | ReduceKind::LogSumExp => f64::NEG_INFINITY,
        ReduceKind::Mean => f64::NAN,
        ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::SumSquare => 0.0,
    };
    element_bits(dtype, value)
}

impl Lowerer<'_> {
    /// The order of memory in which a result lies when `axes` of a dense operand disappear, or shrink to 1; `None` if
    /// that is no order we know.
    fn order_without(&self, x: ValueId, y: ValueId, axes: &[usize], format: Format) -> Option<Format> {
        let (from, to) = (self.dims(x), self.dims(y));
        let kept = to.len() == from.len();
        // Strides of the result in its own axes.
        let mut strides = vec![0; to.len()];
        let mut stride = 1;
        for axis in format.order(from.len()).into_iter().rev().filter(|axis| !axes.contains(axis)) {
            let own = if kept { axis } else { axis - axes.iter().filter(|&&gone| gone < axis).count() };
            strides[own] = stride;
            stride *= from[axis];
        }
        let view = View { tensor: TensorId(0), offset: 0, strides };
        [Format::ChannelsLast, Format::Plain].into_iter().find(|&format| view.is(format, to))
    }

    /// The operand's order and the result's for an operator that removes `axes`.
    fn orders(&self, x: ValueId, y: ValueId, axes: &[usize]) -> (Format, Format) {
        let format = self.format_of(x);
        match self.order_without(x, y, axes, format) {
            Some(result) => (format, result),
            None => (Format::Plain, Format::Plain),
        }
    }

    /// [`ir::Op::Reduce`].
    pub fn reduce(&mut self, node: &Node, kind: ReduceKind, axes: &[usize]) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        self.reduction((x, y), kind, axes)
    }

    fn reduction(&mut self, (x, y): (ValueId, ValueId), kind: ReduceKind, axes: &[usize]) -> Result {
        let dims = self.dims(x);
        if dims.contains(&0) {
            let out = self.output(y, Format::Plain, self.home(y));
            self.fill(out.tensor, of_nothing(kind, self.home(y)));
            return Ok(());
        }
        let (format, result) = self.orders(x, y, axes);
        let codes = match (self.quantization(x), self.quantization(y)) {
            (Some(x), Some(y))
                if kind == ReduceKind::Mean
                    || kind == ReduceKind::Sum
                    || x == y && matches!(kind, ReduceKind::Max | ReduceKind::Min) =>
            {
                Some((x, y))
            }
            (Some(_), Some(_)) => {
                self.note(format!("runs in f32: no int8 kernel for {kind:?}"));
                None
            }
            _ => None,
        };
        let dtype = if codes.is_some() { DType::I8 } else { self.home(x) };
        let view = self.want(x, format, dtype)?;
        let out = self.output(y, result, dtype);
        let mut params = ReduceParams {
            function: function_of(kind).number(),
            dims: [1; MAX_RANK],
            mask: 0,
            x_zero: 0,
            y_zero: 0,
            scale: 1.0,
        };
        for (i, axis) in format.order(dims.len()).into_iter().enumerate() {
            params.dims[i] = dims[axis] as u32;
            params.mask |= u32::from(axes.contains(&axis)) << i;
        }
        if let Some((qx, qy)) = codes {
            let count: usize = axes.iter().map(|&axis| dims[axis]).product();
            let over = f64::from(qx.scale) / f64::from(qy.scale);
            params.scale = if kind == ReduceKind::Mean { over / count as f64 } else { over } as f32;
            (params.x_zero, params.y_zero) = (qx.zero, qy.zero);
        }
        self.emit(Op::Reduce, &params, &[Some(view.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`ir::Op::GlobalPool`].
    pub fn global_pool(&mut self, node: &Node, kind: ir::PoolKind) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let axes: Vec<usize> = (2..self.dims(x).len()).collect();
        let kind = match kind {
            ir::PoolKind::Max => ReduceKind::Max,
            ir::PoolKind::Average => ReduceKind::Mean,
        };
        self.reduction((x, y), kind, &axes)
    }

    /// [`ir::Op::ArgReduce`].
    pub fn arg_reduce(&mut self, node: &Node, axis: usize, largest: bool, last: bool) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (format, result) = self.orders(x, y, &[axis]);
        let view = self.want(x, format, self.home(x))?;
        let out = self.output(y, result, DType::I64);
        let Along { outer, len, inner } = Along::new(format, self.dims(x), axis);
        let params = ArgReduceParams { outer, len, inner, greatest: largest.into(), last: last.into() };
        self.emit(Op::ArgReduce, &params, &[Some(view.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`ir::Op::TopK`].
    pub fn top_k(&mut self, node: &Node, axis: usize, largest: bool) -> Result {
        let x = self.operand(node, 0)?;
        let Some(some) = node.outputs.iter().flatten().next().copied() else { return Ok(()) };
        let (view, format) = self.want_any(x, self.home(x))?;
        let k = self.dims(some)[axis];
        let dims: Vec<usize> = format.physical(self.dims(some));
        let values = match node.output(0) {
            Some(values) => self.output(values, format, self.home(values)).tensor,
            None => self.temporary(self.home(x), &dims),
        };
        let positions = match node.output(1) {
            Some(positions) => self.output(positions, format, DType::I64).tensor,
            None => self.temporary(DType::I64, &dims),
        };
        let Along { outer, len, inner } = Along::new(format, self.dims(x), axis);
        let params = TopKParams { outer, len, inner, k: k as u32, greatest: largest.into() };
        self.emit(Op::TopK, &params, &[Some(view.tensor)], &[Some(values), Some(positions)]);
        Ok(())
    }

    /// [`ir::Op::Softmax`].
    pub fn softmax(&mut self, node: &Node, axis: usize, log: bool) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        self.runs_in_floats(x);
        let dtype = self.home(x);
        let (view, format) = self.want_any(x, dtype)?;
        let out = self.output(y, format, dtype);
        let Along { outer, len, inner } = Along::new(format, self.dims(x), axis);
        self.emit(
            Op::Softmax,
            &SoftmaxParams { outer, len, inner, log: log.into() },
            &[Some(view.tensor)],
            &[Some(out.tensor)],
        );
        Ok(())
    }

    /// Notes that an operand with a scale is read in floats.
    pub fn runs_in_floats(&mut self, x: ValueId) {
        if self.quantization(x).is_some() {
            let operator = self.nodes[self.at].onnx_op.clone();
            self.note(format!("runs in {}: no int8 kernel for {operator}", self.float().name()));
        }
    }
}
