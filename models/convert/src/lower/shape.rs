//! Operators that move elements or only rename dimensions.
//!
//! With a stride for every axis of the value most of them are one copy, whatever the order in memory: a slice is an offset
//! and longer strides, repetition is a stride of 0. Reshapes, and transposes that turn one order into the other, are free,
//! and so is a slice until somebody needs it dense. Codes move as they are while the scales agree.

use super::pack::code;
use super::view::{CopyAxis, Format, View, element_bits};
use super::{Lowerer, Result};
use crate::ir::{Node, PadMode, SliceAxis, ValueId};
use sparrow_kernels::{self as kernels, DType, GatherParams, MAX_RANK, Op, PadParams};

impl Lowerer<'_> {
    /// The type in which elements move from one value to another.
    pub fn carried_type(&self, x: ValueId, y: ValueId) -> DType {
        let codes = self.quantization(x).is_some() && self.quantization(y).is_some();
        if codes { DType::I8 } else { self.home(x) }
    }

    /// Any view of `x` whose elements can become `y`'s as they are, and their type.
    pub fn carried(&mut self, x: ValueId, y: ValueId) -> Result<(View, DType)> {
        let dtype = self.carried_type(x, y);
        let view = match self.rescaling(x, y, dtype) {
            Some((from, to)) => self.requantized(x, from, to)?,
            None => self.any_view(x, dtype)?,
        };
        Ok((view, dtype))
    }

    /// A dense view of `x` whose elements can become `y`'s as they are, its order and type.
    pub fn carried_dense(&mut self, x: ValueId, y: ValueId) -> Result<(View, Format, DType)> {
        let format = self.format_of(x);
        let (view, dtype) = self.carried_in(x, y, format)?;
        Ok((view, format, dtype))
    }

    /// The same in a given order.
    pub fn carried_in(&mut self, x: ValueId, y: ValueId, format: Format) -> Result<(View, DType)> {
        let (dims, dtype) = (self.dims(x), self.carried_type(x, y));
        let (Some(from), Some(to)) = (self.quantization(x), self.quantization(y)) else {
            return Ok((self.want(x, format, dtype)?, dtype));
        };
        if from == to {
            return Ok((self.want(x, format, dtype)?, dtype));
        }
        let view = self.requantized(x, from, to)?;
        if view.is(format, dims) {
            return Ok((view, dtype));
        }
        let turned = View::dense(self.temporary(dtype, &format.physical(dims)), format, dims);
        self.copy(dims, &view, &turned)?;
        Ok((turned, dtype))
    }

    /// The views of `x` whose elements are also `y`'s.
    fn shared_views(&self, x: ValueId, y: ValueId) -> Vec<(DType, View)> {
        let codes = self.quantization(x) == self.quantization(y) || self.dtype(x) != DType::F32;
        self.views[x.index()].iter().filter(|(dtype, _)| codes || *dtype != DType::I8).cloned().collect()
    }

    /// [`crate::ir::Op::Reshape`].
    pub fn reshape(&mut self, node: &Node) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        if !self.share_reshaped(x, y) {
            let (view, dtype) = self.carried_in(x, y, Format::Plain)?;
            self.add_view(y, dtype, View::dense(view.tensor, Format::Plain, self.dims(y)));
        }
        Ok(())
    }

    /// Gives `y` the views of `x` that stay dense under its dimensions; whether there are any.
    fn share_reshaped(&mut self, x: ValueId, y: ValueId) -> bool {
        let (from, to) = (self.dims(x), self.dims(y));
        // Channels stay last where only the spatial axes are regrouped.
        let pictures = from.len() > 2 && to.len() > 2 && from[..2] == to[..2];
        let before = self.views[y.index()].len();
        for (dtype, view) in self.shared_views(x, y) {
            if view.is(Format::Plain, from) {
                self.add_view(y, dtype, View::dense(view.tensor, Format::Plain, to));
            } else if pictures && view.is(Format::ChannelsLast, from) {
                self.add_view(y, dtype, View::dense(view.tensor, Format::ChannelsLast, to));
            }
        }
        self.views[y.index()].len() > before
    }

    /// [`crate::ir::Op::Transpose`].
    pub fn transpose(&mut self, node: &Node, perm: &[usize]) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let mut views = self.shared_views(x, y);
        if views.is_empty() {
            let (view, dtype) = self.carried(x, y)?;
            views.push((dtype, view));
        }
        for (dtype, view) in views {
            let strides = perm.iter().map(|&axis| view.strides[axis]).collect();
            self.add_view(y, dtype, View { strides, ..view });
        }
        Ok(())
    }

    /// [`crate::ir::Op::Slice`].
    pub fn slice(&mut self, node: &Node, axes: &[SliceAxis]) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, dtype) = self.carried(x, y)?;
        let offset = axes.iter().zip(&view.strides).map(|(axis, stride)| axis.start * stride).sum::<usize>();
        let part = view.shifted(offset);
        if axes.iter().all(|axis| axis.step > 0) {
            let strides = part.strides.iter().zip(axes).map(|(stride, axis)| stride * axis.step as usize).collect();
            self.add_view(y, dtype, View { strides, ..part });
            return Ok(());
        }
        let out = self.output(y, self.format_of(x), dtype);
        let loops = self.dims(y).iter().zip(axes).zip(part.strides.iter().zip(&out.strides));
        let loops =
            loops.map(|((&dim, axis), (&src, &dst))| CopyAxis { dim, src: src as i64 * axis.step, dst: dst as i64 });
        self.copy_axes(loops.collect(), (part.tensor, part.offset), (out.tensor, out.offset))
    }

    /// [`crate::ir::Op::Split`].
    pub fn split(&mut self, node: &Node, axis: usize, sizes: &[usize]) -> Result {
        let x = self.operand(node, 0)?;
        let mut start = 0;
        for (size, y) in sizes.iter().zip(&node.outputs) {
            if let Some(y) = *y {
                let (view, dtype) = self.carried(x, y)?;
                let part = view.shifted(start * view.strides[axis]);
                self.add_view(y, dtype, part);
            }
            start += size;
        }
        Ok(())
    }

    /// [`crate::ir::Op::Pad`].
    pub fn pad(&mut self, node: &Node, mode: PadMode, pads: &[[i64; 2]]) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, format, dtype) = self.carried_dense(x, y)?;
        let cropped: Vec<usize> = self
            .dims(x)
            .iter()
            .zip(pads)
            .map(|(&dim, [a, b])| (dim as i64 + a.min(&0) + b.min(&0)).max(0) as usize)
            .collect();
        let start = |view: &View, sign: i64| {
            pads.iter().zip(&view.strides).map(|([a, _], stride)| (a * sign).max(0) as usize * stride).sum()
        };
        let inside = view.shifted(start(&view, -1));
        if let PadMode::Constant(value) = mode {
            let out = self.output(y, format, dtype);
            if pads.iter().flatten().any(|&pad| pad > 0) {
                let bits = match self.quantization(y).filter(|_| dtype == DType::I8) {
                    Some(q) => u64::from(code(q, value) as u8),
                    None => element_bits(dtype, value),
                };
                self.fill(out.tensor, bits);
            }
            return self.copy(&cropped, &inside, &out.shifted(start(&out, 1)));
        }
        let mut source = view;
        if pads.iter().flatten().any(|&pad| pad < 0) {
            source = View::dense(self.temporary(dtype, &format.physical(&cropped)), format, &cropped);
            self.copy(&cropped, &inside, &source)?;
        }
        let mode = match mode {
            PadMode::Edge => kernels::PadMode::Edge,
            PadMode::Wrap => kernels::PadMode::Wrap,
            _ => kernels::PadMode::Reflect,
        };
        let out = self.output(y, format, dtype);
        let (from, to) = (format.physical(&cropped), format.physical(self.dims(y)));
        let mut params =
            PadParams { mode: mode.number(), in_dims: [1; MAX_RANK], out_dims: [1; MAX_RANK], before: [0; MAX_RANK] };
        let lead = MAX_RANK - from.len();
        for (i, axis) in format.order(from.len()).into_iter().enumerate() {
            params.in_dims[lead + i] = from[i] as u32;
            params.out_dims[lead + i] = to[i] as u32;
            params.before[lead + i] = pads[axis][0].max(0) as i32;
        }
        self.emit(Op::Pad, &params, &[Some(source.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`crate::ir::Op::Expand`].
    pub fn expand(&mut self, node: &Node) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, dtype) = self.carried(x, y)?;
        let (from, to) = (self.dims(x), self.dims(y));
        let lead = to.len() - from.len();
        let mut strides = vec![0; lead];
        strides.extend(from.iter().zip(&view.strides).map(|(&dim, &stride)| if dim == 1 { 0 } else { stride }));
        self.add_view(y, dtype, View { strides, ..view });
        Ok(())
    }

    /// [`crate::ir::Op::Tile`].
    pub fn tile(&mut self, node: &Node) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, dtype) = self.carried(x, y)?;
        let out = self.output(y, self.format_of(x), dtype);
        let mut axes = Vec::new();
        for (axis, (&dim, &whole)) in self.dims(x).iter().zip(self.dims(y)).enumerate() {
            let (src, dst) = (view.strides[axis] as i64, out.strides[axis] as i64);
            axes.push(CopyAxis { dim: whole / dim.max(1), src: 0, dst: dst * dim as i64 });
            axes.push(CopyAxis { dim, src, dst });
        }
        self.copy_axes(axes, (view.tensor, view.offset), (out.tensor, out.offset))
    }

    /// [`crate::ir::Op::Gather`].
    pub fn gather(&mut self, node: &Node, axis: usize) -> Result {
        let (x, indices, y) = (self.operand(node, 0)?, self.operand(node, 1)?, self.result(node, 0)?);
        let (view, dtype) = self.carried_in(x, y, Format::Plain)?;
        let index = self.want(indices, Format::Plain, self.dtype(indices))?;
        let out = self.output(y, Format::Plain, dtype);
        let dims = self.dims(x);
        let params = GatherParams {
            outer: dims[..axis].iter().product::<usize>() as u32,
            axis: dims[axis] as u32,
            inner: dims[axis + 1..].iter().product::<usize>() as u32,
            count: self.count(indices),
        };
        self.emit(Op::Gather, &params, &[Some(view.tensor), Some(index.tensor)], &[Some(out.tensor)]);
        Ok(())
    }

    /// [`crate::ir::Op::DepthToSpace`].
    pub fn depth_to_space(&mut self, node: &Node, block: usize, crd: bool) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, dtype) = self.carried(x, y)?;
        let out = self.output(y, self.format_of(x), dtype);
        let (dims, channels) = (self.dims(x), self.dims(y)[1]);
        let (s, d) = (signed(&view), signed(&out));
        let side = block as i64;
        // The channel number's parts, by how many channels a step of each is.
        let (row, column, channel) =
            if crd { (side, 1, side * side) } else { (side * channels as i64, channels as i64, 1) };
        let axes = vec![
            CopyAxis { dim: dims[0], src: s[0], dst: d[0] },
            CopyAxis { dim: channels, src: channel * s[1], dst: d[1] },
            CopyAxis { dim: block, src: row * s[1], dst: d[2] },
            CopyAxis { dim: block, src: column * s[1], dst: d[3] },
            CopyAxis { dim: dims[2], src: s[2], dst: side * d[2] },
            CopyAxis { dim: dims[3], src: s[3], dst: side * d[3] },
        ];
        self.copy_axes(axes, (view.tensor, view.offset), (out.tensor, out.offset))
    }

    /// [`crate::ir::Op::SpaceToDepth`].
    pub fn space_to_depth(&mut self, node: &Node, block: usize) -> Result {
        let (x, y) = (self.operand(node, 0)?, self.result(node, 0)?);
        let (view, dtype) = self.carried(x, y)?;
        let out = self.output(y, self.format_of(x), dtype);
        let (channels, to) = (self.dims(x)[1], self.dims(y));
        let (s, d) = (signed(&view), signed(&out));
        let side = block as i64;
        let axes = vec![
            CopyAxis { dim: to[0], src: s[0], dst: d[0] },
            CopyAxis { dim: channels, src: s[1], dst: d[1] },
            CopyAxis { dim: block, src: s[2], dst: side * channels as i64 * d[1] },
            CopyAxis { dim: block, src: s[3], dst: channels as i64 * d[1] },
            CopyAxis { dim: to[2], src: side * s[2], dst: d[2] },
            CopyAxis { dim: to[3], src: side * s[3], dst: d[3] },
        ];
        self.copy_axes(axes, (view.tensor, view.offset), (out.tensor, out.offset))
    }
}

/// Strides as the copy counts them.
fn signed(view: &View) -> Vec<i64> {
    view.strides.iter().map(|&stride| stride as i64).collect()
}
