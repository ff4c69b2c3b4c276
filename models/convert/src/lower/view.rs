//! Where a value lies in memory, and the conversions between its views.
//!
//! A [`View`] is a tensor with a first element and a stride for each of the value's own axes. A dense one in some
//! [`Format`] is what most kernels read; convolutions and elementwise kernels read others, too.

use super::pack::code;
use super::{Lowerer, Result};
use crate::ir::ValueId;
use crate::program::{Place, TensorId};
use half::f16;
use sparrow_kernels::{ChannelParams, CopyParams, DType, FillParams, LutParams, MAX_RANK, Op};

/// Order of elements in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Row-major in the value's own axes.
    Plain,
    /// Rank 3 and more: axis 1 is the fastest; the others keep their order. Below: as [`Format::Plain`].
    ChannelsLast,
}

impl Format {
    /// The value's axes in the order of memory, slowest first.
    pub fn order(self, rank: usize) -> Vec<usize> {
        match self {
            Self::ChannelsLast if rank > 2 => std::iter::once(0).chain(2..rank).chain([1]).collect(),
            _ => (0..rank).collect(),
        }
    }

    /// Dimensions in the order of memory.
    pub fn physical(self, dims: &[usize]) -> Vec<usize> {
        self.order(dims.len()).into_iter().map(|axis| dims[axis]).collect()
    }

    /// Where in memory order an axis is.
    pub fn position(self, rank: usize, axis: usize) -> usize {
        self.order(rank).iter().position(|&a| a == axis).unwrap_or(axis)
    }

    /// Strides of a dense tensor, by the value's axes.
    pub fn strides(self, dims: &[usize]) -> Vec<usize> {
        let mut strides = vec![0; dims.len()];
        let mut stride = 1;
        for axis in self.order(dims.len()).into_iter().rev() {
            strides[axis] = stride;
            stride *= dims[axis];
        }
        strides
    }
}

/// A value in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// The tensor that holds it.
    pub tensor: TensorId,
    /// First element.
    pub offset: usize,
    /// Elements from an index to the next, by the value's axes.
    pub strides: Vec<usize>,
}

impl View {
    /// The view of a tensor that holds nothing else.
    pub fn dense(tensor: TensorId, format: Format, dims: &[usize]) -> Self {
        Self { tensor, offset: 0, strides: format.strides(dims) }
    }

    /// Whether it is dense in this format.
    pub fn is(&self, format: Format, dims: &[usize]) -> bool {
        let dense = format.strides(dims);
        self.offset == 0
            && (dims.contains(&0) || (0..dims.len()).all(|axis| dims[axis] == 1 || self.strides[axis] == dense[axis]))
    }

    /// Whether a pixel's channels lie together, as convolutions read them.
    pub fn has_runs(&self, dims: &[usize]) -> bool {
        dims[1] == 1 || self.strides[1] == 1
    }

    /// The part of it that begins at these indices, moved on by `offset` elements.
    pub fn shifted(&self, offset: usize) -> Self {
        Self { offset: self.offset + offset, ..self.clone() }
    }
}

/// One loop of a copy: count, and elements from an index to the next in source and destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CopyAxis {
    pub dim: usize,
    pub src: i64,
    pub dst: i64,
}

/// Drops loops of one index and joins neighbours that every operand walks as one.
pub(super) fn coalesce<const N: usize>(axes: impl IntoIterator<Item = (usize, [i64; N])>) -> Vec<(usize, [i64; N])> {
    let mut joined: Vec<(usize, [i64; N])> = Vec::new();
    for (dim, strides) in axes.into_iter().filter(|(dim, _)| *dim != 1) {
        if let Some((outer, steps)) = joined.last_mut()
            && steps.iter().zip(&strides).all(|(&step, &stride)| step == stride * dim as i64)
        {
            *outer *= dim;
            *steps = strides;
            continue;
        }
        joined.push((dim, strides));
    }
    joined
}

impl Lowerer<'_> {
    /// A new dense tensor for a value, known as one of its views from now on.
    pub fn output(&mut self, id: ValueId, format: Format, dtype: DType) -> View {
        let view = self.allocate(id, format, dtype);
        self.add_view(id, dtype, view.clone());
        view
    }

    /// A new dense tensor for a value.
    pub fn allocate(&mut self, id: ValueId, format: Format, dtype: DType) -> View {
        let value = self.graph.value(id);
        // Where both orders are one, the tensor takes the plain dimensions, so that it can be a graph output.
        let plain = View::dense(TensorId(0), format, &value.dims).is(Format::Plain, &value.dims);
        let format = if plain { Format::Plain } else { format };
        let tensor = self.program.arena("", dtype, &format.physical(&value.dims));
        self.name(id, tensor);
        if dtype == DType::I8 {
            self.program.tensors[tensor.index()].quantization = self.quantization(id).map(|q| (q.scale, q.zero));
        }
        View::dense(tensor, format, &value.dims)
    }

    /// Names the first tensor of a value after it; when all are kept, [`Lowerer::keep`] chooses the one instead.
    fn name(&mut self, id: ValueId, tensor: TensorId) {
        if !self.named[id.index()] && !self.settings.keep_all {
            self.named[id.index()] = true;
            self.program.tensors[tensor.index()].name.clone_from(&self.graph.value(id).name);
        }
    }

    /// Makes another view of a value known.
    pub fn add_view(&mut self, id: ValueId, dtype: DType, view: View) {
        self.views[id.index()].push((dtype, view));
    }

    /// A view that the value has in this type and that fits.
    pub fn find_view(&self, id: ValueId, dtype: DType, fits: impl Fn(&View) -> bool) -> Option<View> {
        self.views[id.index()].iter().find(|(d, view)| *d == dtype && fits(view)).map(|(_, view)| view.clone())
    }

    /// Whether the value can be read now: it is a constant or has been computed.
    pub fn available(&self, id: ValueId) -> bool {
        self.constant(id).is_some() || !self.views[id.index()].is_empty()
    }

    /// The format in which the value can be had for nothing, channels last before plain.
    pub fn format_of(&self, id: ValueId) -> Format {
        let dims = self.dims(id);
        let last = dims.len() > 2
            && self.views[id.index()].iter().any(|(_, view)| view.has_runs(dims) && !view.is(Format::Plain, dims));
        if last { Format::ChannelsLast } else { Format::Plain }
    }

    /// A dense view in this format and type, converted if need be.
    pub fn want(&mut self, id: ValueId, format: Format, dtype: DType) -> Result<View> {
        let dims = self.dims(id);
        if let Some(view) = self.find_view(id, dtype, |view| view.is(format, dims)) {
            return Ok(view);
        }
        if self.constant(id).is_some() {
            return self.constant_view(id, format, dtype);
        }
        if let Some(view) = self.find_view(id, dtype, |_| true) {
            let made = self.output(id, format, dtype);
            self.copy(dims, &view, &made)?;
            return Ok(made);
        }
        let Some((have, _)) = self.views[id.index()].first().cloned() else {
            return Err(self.unsupported(
                format!("'{}' is read before it is computed", self.graph.value(id).name),
                "repair the model",
            ));
        };
        // Elements are moved while they are small.
        if have.size() < dtype.size() {
            let view = self.want(id, format, have)?;
            self.convert(id, (have, &view), (dtype, format))
        } else {
            let format_now = self.format_of(id);
            let view = self.want(id, format_now, have)?;
            self.convert(id, (have, &view), (dtype, format_now))?;
            self.want(id, format, dtype)
        }
    }

    /// A view in this type that is dense in one format or the other, whichever costs less.
    pub fn want_any(&mut self, id: ValueId, dtype: DType) -> Result<(View, Format)> {
        let format = self.format_of(id);
        Ok((self.want(id, format, dtype)?, format))
    }

    /// A view in this type whose pixels' channels lie together.
    pub fn want_runs(&mut self, id: ValueId, dtype: DType) -> Result<View> {
        let dims = self.dims(id);
        match self.find_view(id, dtype, |view| view.has_runs(dims)) {
            Some(view) => Ok(view),
            None => self.want(id, Format::ChannelsLast, dtype),
        }
    }

    /// Converts a dense view to another type; the result is dense in the same format.
    fn convert(&mut self, id: ValueId, (have, from): (DType, &View), (dtype, format): (DType, Format)) -> Result<View> {
        let made = self.output(id, format, dtype);
        let count = self.dims(id).iter().product::<usize>();
        if count == 0 {
            return Ok(made);
        }
        let (x, y) = (Some(from.tensor), Some(made.tensor));
        let float = |dtype| matches!(dtype, DType::F32 | DType::F16);
        match (have, dtype) {
            (a, b) if float(a) && float(b) => self.emit(Op::Cast, &LutParams { count: count as u32 }, &[x], &[y]),
            (DType::U8, DType::I8) | (DType::I8, DType::U8) if self.dtype(id) == DType::U8 => {
                let table: Vec<u8> = (0..=255u8).map(|code| code ^ 0x80).collect();
                let table = self.program.constant(DType::U8, &[256], &table);
                self.emit(Op::Lut, &LutParams { count: count as u32 }, &[x, Some(table)], &[y]);
            }
            _ => {
                let Some(q) = self.quantization(id) else {
                    let name = &self.graph.value(id).name;
                    return Err(
                        self.unsupported(format!("'{name}' cannot become {}", dtype.name()), "report this as a bug")
                    );
                };
                let scale = self.program.constant(DType::F32, &[1], &[q.scale]);
                let zero = self.program.constant(DType::I8, &[1], &[q.zero as i8]);
                let op = if float(have) { Op::Quantize } else { Op::Dequantize };
                let params = ChannelParams { outer: 1, channels: 1, inner: count as u32 };
                self.emit(op, &params, &[x, Some(scale), Some(zero)], &[y]);
            }
        }
        Ok(made)
    }

    /// A constant's elements, in the file in this order and type.
    fn constant_view(&mut self, id: ValueId, format: Format, dtype: DType) -> Result<View> {
        let value = self.graph.value(id);
        let data = self.known(id)?;
        let bytes = match (value.dtype, dtype) {
            (a, b) if a == b => data.bytes().to_vec(),
            (DType::F32, DType::F16) => {
                bytemuck::cast_slice(&data.to_f64().iter().map(|&x| f16::from_f64(x)).collect::<Vec<_>>()).to_vec()
            }
            (DType::U8, DType::I8) => data.bytes().iter().map(|code| code ^ 0x80).collect(),
            (DType::F32, DType::I8) => {
                let Some(q) = self.quantization(id) else {
                    return Err(
                        self.unsupported(format!("constant '{}' has no scale", value.name), "report this as a bug")
                    );
                };
                data.to_f64().iter().map(|&x| code(q, x) as u8).collect()
            }
            _ => {
                return Err(self.unsupported(
                    format!("constant '{}' cannot become {}", value.name, dtype.name()),
                    "report this as a bug",
                ));
            }
        };
        let ordered = reorder(&bytes, dtype.size(), &value.dims, format);
        let tensor = self.program.constant(dtype, &format.physical(&value.dims), &ordered);
        let view = View::dense(tensor, format, &value.dims);
        self.views[id.index()].push((dtype, view.clone()));
        Ok(view)
    }

    /// Lets an int8 convolution read up to three bytes behind a tensor.
    pub fn add_slack(&mut self, tensor: TensorId) {
        let root = self.program.storage(tensor).map_or(tensor, |(root, _)| root);
        let tensor = &mut self.program.tensors[root.index()];
        match &mut tensor.place {
            Place::Weights(bytes) => {
                let len = tensor.dims.iter().map(|&d| d as usize).product::<usize>() + 3;
                bytes.resize(len.max(bytes.len()), 0);
            }
            _ => tensor.slack = tensor.slack.max(3),
        }
    }

    /// Copies a value's elements from one view to another.
    pub fn copy(&mut self, dims: &[usize], from: &View, to: &View) -> Result {
        self.copy_through(dims, from, None, to)
    }

    /// The same; if there is a table, each code becomes what it has for it.
    pub fn copy_through(&mut self, dims: &[usize], from: &View, table: Option<TensorId>, to: &View) -> Result {
        let axes = (0..dims.len()).map(|axis| CopyAxis {
            dim: dims[axis],
            src: from.strides[axis] as i64,
            dst: to.strides[axis] as i64,
        });
        self.copy_axes_through(axes.collect(), (from.tensor, from.offset), table, (to.tensor, to.offset))
    }

    /// The general copy: loops in any order, first elements of source and destination.
    pub fn copy_axes(&mut self, axes: Vec<CopyAxis>, src: (TensorId, usize), dst: (TensorId, usize)) -> Result {
        self.copy_axes_through(axes, src, None, dst)
    }

    fn copy_axes_through(
        &mut self,
        mut axes: Vec<CopyAxis>,
        (src, src_offset): (TensorId, usize),
        table: Option<TensorId>,
        (dst, dst_offset): (TensorId, usize),
    ) -> Result {
        if axes.iter().any(|axis| axis.dim == 0) {
            return Ok(());
        }
        // In the destination's order writes are sequential; of loops of one index the stride means nothing.
        axes.retain(|axis| axis.dim > 1);
        axes.sort_by_key(|axis| -axis.dst);
        let joined = coalesce(axes.iter().map(|axis| (axis.dim, [axis.src, axis.dst])));
        if joined.len() > MAX_RANK {
            return Err(self.unsupported("its elements move along more than 8 axes", "merge dimensions in the model"));
        }
        let mut params = CopyParams {
            dims: [1; MAX_RANK],
            src_offset: src_offset as u32,
            dst_offset: dst_offset as u32,
            ..Default::default()
        };
        let first = MAX_RANK - joined.len();
        for (i, (dim, [src, dst])) in joined.into_iter().enumerate() {
            params.dims[first + i] = dim as u32;
            params.src[first + i] = src as i32;
            params.dst[first + i] = dst as i32;
        }
        self.emit(Op::Copy, &params, &[Some(src), table], &[Some(dst)]);
        Ok(())
    }

    /// Sets every element of a tensor to the value whose bits these are.
    pub fn fill(&mut self, tensor: TensorId, bits: u64) {
        let count = self.program.tensor(tensor).dims.iter().product();
        if count > 0 {
            let params = FillParams { count, bits: [bits as u32, (bits >> 32) as u32] };
            self.emit(Op::Fill, &params, &[], &[Some(tensor)]);
        }
    }
}

/// Row-major elements in a format's order.
fn reorder(bytes: &[u8], size: usize, dims: &[usize], format: Format) -> Vec<u8> {
    let plain = Format::Plain.strides(dims);
    let order = format.order(dims.len());
    if bytes.is_empty() || order.iter().copied().eq(0..dims.len()) {
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; dims.len()];
    for _ in 0..bytes.len() / size {
        let at: usize = order.iter().zip(&index).map(|(&axis, &i)| i * plain[axis]).sum::<usize>() * size;
        out.extend_from_slice(&bytes[at..at + size]);
        for (position, &axis) in order.iter().enumerate().rev() {
            index[position] += 1;
            if index[position] < dims[axis] {
                break;
            }
            index[position] = 0;
        }
    }
    out
}

/// The bits of one element of this type.
pub(super) fn element_bits(dtype: DType, value: f64) -> u64 {
    match dtype {
        DType::F32 => u64::from((value as f32).to_bits()),
        DType::F16 => u64::from(f16::from_f64(value).to_bits()),
        DType::I8 => u64::from(value as i8 as u8),
        DType::U8 => u64::from(value as u8),
        DType::Bool => u64::from(value != 0.0),
        DType::I32 => u64::from(value as i32 as u32),
        DType::I64 => value as i64 as u64,
    }
}
