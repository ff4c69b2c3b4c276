//! Results that are written straight into the concatenation they belong to.
//!
//! Along the channels of a channels-last tensor a part of a concatenation is a run inside each pixel, which a convolution
//! can write and read as well as any other run. So the first concatenation that reads a value lends it its place:
//!
//! ```text
//! c = concat(a, b)    tensor of c: [pixel 0: a b][pixel 1: a b]...    a: offset 0, b: offset |a|, pixel stride |a| + |b|
//! ```
//!
//! What else a concatenation reads is copied. No operator may write to a tensor that it reads, so a convolution of one part
//! that yields another writes memory of its own.

use super::view::{Format, View};
use super::{Lowerer, Result};
use crate::ir::{Node, Op, ValueId};
use crate::program::TensorId;
use crate::settings::Quantization;
use sparrow_kernels::DType;

/// Where a value goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Placement {
    /// The concatenation's result.
    whole: ValueId,
    /// First channel there.
    channel: usize,
}

impl Lowerer<'_> {
    /// Gives the parts of concatenations along channels their places.
    pub fn place(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let (Op::Concat { axis: 1 }, Some(whole)) = (&node.op, node.output(0)) else { continue };
            if self.done[index] || !matches!(self.dims(whole).len(), 3 | 4) || self.dtype(whole) != DType::F32 {
                continue;
            }
            let mut channel = 0;
            for part in node.inputs.iter().flatten() {
                let place = &mut self.placements[part.index()];
                *place = place.or(Some(Placement { whole, channel }));
                channel += self.graph.value(*part).dims[1];
            }
        }
    }

    /// A new tensor for a convolution's result, or its place in a concatenation that the operator does not read.
    pub fn output_runs(&mut self, id: ValueId, dtype: DType, reads: &[Option<TensorId>]) -> View {
        let Some(Placement { whole, channel }) = self.placements[id.index()] else {
            return self.output(id, Format::ChannelsLast, dtype);
        };
        let fits = self.concat_type(whole) == dtype
            && (dtype != DType::I8 || self.quantization(id) == self.quantization(whole));
        let known = self.wholes.get(&whole);
        if !fits || known.is_some_and(|known| reads.contains(&Some(known.tensor))) {
            return self.output(id, Format::ChannelsLast, dtype);
        }
        let known = known.cloned();
        let known = known.unwrap_or_else(|| {
            let made = self.allocate(whole, Format::ChannelsLast, dtype);
            self.wholes.insert(whole, made.clone());
            made
        });
        let view = known.shifted(channel * known.strides[1]);
        self.add_view(id, dtype, view.clone());
        view
    }

    /// Type in which a concatenation is stored: codes if all its parts have them.
    fn concat_type(&self, whole: ValueId) -> DType {
        let node = self.nodes.iter().find(|node| node.output(0) == Some(whole));
        let parts = node.into_iter().flat_map(|node| node.inputs.iter().flatten());
        let codes =
            self.quantization(whole).is_some() && parts.into_iter().all(|&part| self.quantization(part).is_some());
        if codes { DType::I8 } else { self.home(whole) }
    }

    /// [`Op::Concat`].
    pub fn concat(&mut self, node: &Node, axis: usize) -> Result {
        let y = self.result(node, 0)?;
        let dtype = self.concat_type(y);
        let parts: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|&part| !self.dims(part).contains(&0)).collect();
        let last = parts.iter().any(|&part| self.format_of(part) == Format::ChannelsLast);
        let format = if last { Format::ChannelsLast } else { Format::Plain };
        let whole = match self.wholes.remove(&y) {
            Some(whole) => {
                self.add_view(y, dtype, whole.clone());
                whole
            }
            None => self.output(y, format, dtype),
        };
        let mut start = 0;
        for part in parts {
            let dims = self.dims(part);
            let place = whole.shifted(start * whole.strides[axis]);
            start += dims[axis];
            if self.find_view(part, dtype, |view| view.tensor == place.tensor && view.offset == place.offset).is_some()
            {
                continue;
            }
            let mut from = self.any_view(part, dtype)?;
            if from.tensor == place.tensor {
                // A part that stands in the whole twice.
                let aside = View::dense(self.temporary(dtype, &format.physical(dims)), format, dims);
                self.copy(dims, &from, &aside)?;
                from = aside;
            }
            let table = self.rescaling(part, y, dtype).map(|(have, want)| self.requantization(have, want));
            self.copy_through(dims, &from, table, &place)?;
        }
        Ok(())
    }

    /// Any view of `id` in this type.
    pub fn any_view(&mut self, id: ValueId, dtype: DType) -> Result<View> {
        match self.find_view(id, dtype, |_| true) {
            Some(view) => Ok(view),
            None => Ok(self.want_any(id, dtype)?.0),
        }
    }

    /// The scales of `id` and `like`, if a view of one in this type has other codes than the other's.
    pub fn rescaling(&self, id: ValueId, like: ValueId, dtype: DType) -> Option<(Quantization, Quantization)> {
        let scales = (self.quantization(id)?, self.quantization(like)?);
        (dtype == DType::I8 && scales.0 != scales.1).then_some(scales)
    }
}
