//! Windows that take a maximum or a mean.

use super::view::Format;
use super::{Lowerer, Result};
use crate::ir::{self, Node, PoolKind};
use sparrow_kernels::{DType, Op, PoolFn, PoolParams};

impl Lowerer<'_> {
    /// [`ir::Op::Pool`].
    pub fn pool(&mut self, node: &Node) -> Result {
        let ir::Op::Pool { kind, window, count_include_pad, column_major } = &node.op else { return Ok(()) };
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (from, to) = (self.dims(x), self.dims(y));
        if window.len() > 3 {
            return Err(self.unsupported(format!("it has {} spatial axes", window.len()), "at most 3 are supported"));
        }
        let function = match kind {
            PoolKind::Max => PoolFn::Max,
            PoolKind::Average if *count_include_pad => PoolFn::AverageIncludePad,
            PoolKind::Average => PoolFn::Average,
        };
        let codes = (self.quantization(x), self.quantization(y));
        let (view, dtype) = if function == PoolFn::Max {
            self.carried_in(x, y, Format::ChannelsLast)?
        } else {
            let dtype = self.carried_type(x, y);
            (self.want(x, Format::ChannelsLast, dtype)?, dtype)
        };
        let out = self.output(y, Format::ChannelsLast, dtype);
        let indices = node.output(1).map(|id| self.output(id, Format::ChannelsLast, DType::I64).tensor);
        let mut params = PoolParams {
            function: function.number(),
            batch: from[0] as u32,
            channels: from[1] as u32,
            input: [1; 3],
            output: [1; 3],
            kernel: [1; 3],
            stride: [1; 3],
            dilation: [1; 3],
            before: [0; 3],
            after: [0; 3],
            x_zero: 0,
            y_zero: 0,
            scale: 1.0,
            positions: indices.map_or(0, |_| 1 + u32::from(*column_major)),
        };
        for (axis, slide) in window.iter().enumerate() {
            let at = 3 - window.len() + axis;
            (params.input[at], params.output[at]) = (from[2 + axis] as u32, to[2 + axis] as u32);
            (params.kernel[at], params.stride[at], params.dilation[at]) =
                (slide.kernel as u32, slide.stride as u32, slide.dilation as u32);
            (params.before[at], params.after[at]) = (slide.pad_begin as u32, slide.pad_end as u32);
        }
        if let (Some(from), Some(to), DType::I8) = (codes.0, codes.1, dtype) {
            let from = if function == PoolFn::Max { to } else { from };
            (params.x_zero, params.y_zero) = (from.zero, to.zero);
            params.scale = (f64::from(from.scale) / f64::from(to.scale)) as f32;
        }
        self.emit(Op::Pool, &params, &[Some(view.tensor)], &[Some(out.tensor), indices]);
        Ok(())
    }
}
