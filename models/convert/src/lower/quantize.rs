//! Quantization as nodes of the graph.

use super::reduce::Along;
use super::view::Format;
use super::{Lowerer, Result};
use crate::ir::{Node, ValueId};
use crate::program::TensorId;
use sparrow_kernels::{ChannelParams, DType, LutParams, Op};

impl Lowerer<'_> {
    /// Dense memory along the axis of a scale, or as a whole.
    fn per_scale(&self, x: ValueId, format: Format, axis: Option<usize>) -> ChannelParams {
        match axis {
            Some(axis) => {
                let Along { outer, len, inner } = Along::new(format, self.dims(x), axis);
                ChannelParams { outer, channels: len, inner }
            }
            None => ChannelParams { outer: 1, channels: 1, inner: self.count(x) },
        }
    }

    /// Scale and zero point operands; an absent zero point is 0.
    fn scale_and_zero(&mut self, node: &Node, dtype: DType, channels: u32) -> Result<[Option<TensorId>; 2]> {
        let scale = self.operand(node, 1)?;
        let scale = self.want(scale, Format::Plain, DType::F32)?.tensor;
        let zero = match node.input(2) {
            Some(zero) => self.want(zero, Format::Plain, dtype)?.tensor,
            None => self.program.constant(dtype, &[channels as usize], &vec![0u8; channels as usize * dtype.size()]),
        };
        Ok([Some(scale), Some(zero)])
    }

    /// [`crate::ir::Op::QuantizeLinear`].
    pub fn quantize_linear(&mut self, node: &Node, axis: Option<usize>) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (mut view, format) = self.want_any(x, self.home(x))?;
        if self.dtype(x) == DType::I32 {
            let floats = self.temporary(DType::F32, &format.physical(self.dims(x)));
            self.emit(Op::Cast, &LutParams { count: self.count(x) }, &[Some(view.tensor)], &[Some(floats)]);
            view.tensor = floats;
        }
        let params = self.per_scale(x, format, axis);
        let [scale, zero] = self.scale_and_zero(node, self.dtype(y), params.channels)?;
        let out = self.output(y, format, self.dtype(y));
        self.emit(Op::Quantize, &params, &[Some(view.tensor), scale, zero], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`crate::ir::Op::DequantizeLinear`].
    pub fn dequantize_linear(&mut self, node: &Node, axis: Option<usize>) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, format) = self.want_any(x, self.dtype(x))?;
        let params = self.per_scale(x, format, axis);
        let [scale, zero] = self.scale_and_zero(node, self.dtype(x), params.channels)?;
        let out = self.output(y, format, self.float());
        self.emit(Op::Dequantize, &params, &[Some(view.tensor), scale, zero], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`crate::ir::Op::DynamicQuantizeLinear`].
    pub fn dynamic_quantize(&mut self, node: &Node) -> Result {
        let x = self.operand(node, 0)?;
        let (view, format) = self.want_any(x, DType::F32)?;
        let mut results = [None; 3];
        for (index, (dtype, dims)) in
            [(DType::U8, self.dims(x)), (DType::F32, &[]), (DType::U8, &[])].into_iter().enumerate()
        {
            results[index] = Some(match node.output(index) {
                Some(y) => self.output(y, if index == 0 { format } else { Format::Plain }, dtype).tensor,
                None => self.temporary(dtype, &format.physical(dims)),
            });
        }
        self.emit(Op::DynQuantize, &LutParams { count: self.count(x) }, &[Some(view.tensor)], &results);
        Ok(())
    }
}
