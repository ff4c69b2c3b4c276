//! Weights into the layouts that kernels read, with the vectors that go beside them.

use super::Lowerer;
use crate::program::{Place, Tensor, TensorId};
use crate::settings::Quantization;
use bytemuck::Pod;
use half::f16;
use sparrow_kernels::{DType, Family, Index, Layout, WeightShape};

/// Weights on their way into the file, ordered `[groups][oc][taps][kc]`.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// Their shape.
    pub shape: WeightShape,
    /// Whether each channel is convolved by itself (a depthwise layout).
    pub depthwise: bool,
    /// The real numbers, or codes.
    pub values: Values,
    /// Channels of a block if the layout is to be sparse.
    pub block: Option<usize>,
}

/// Weights by type.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// Real numbers, stored as f32 or f16.
    Float(Vec<f32>),
    /// Codes, stored as they are.
    Codes(Vec<i8>),
}

/// Weights in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    /// The packed weights.
    pub weights: TensorId,
    /// Kept positions, if the layout is sparse.
    pub index: Option<TensorId>,
}

/// The code nearest to a real number.
pub(super) fn code(q: Quantization, real: f64) -> i8 {
    ((real / f64::from(q.scale)).round_ties_even() + f64::from(q.zero)).clamp(-128.0, 127.0) as i8
}

/// Symmetric codes of weights with a scale for every channel.
pub(super) fn codes(weights: &[f32], per_channel: usize, scales: &[f32]) -> Vec<i8> {
    let rows = weights.chunks(per_channel.max(1)).zip(scales);
    rows.flat_map(|(row, scale)| row.iter().map(move |w| (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8))
        .collect()
}

/// One number per channel, each group's padded to a multiple of 16.
pub(super) fn padded<T: Copy + Default>(values: &[T], oc: usize) -> Vec<T> {
    let mut padded = Vec::with_capacity(values.len().next_multiple_of(16));
    for group in values.chunks(oc.max(1)) {
        padded.extend_from_slice(group);
        padded.resize(padded.len().next_multiple_of(16), T::default());
    }
    padded
}

impl Lowerer<'_> {
    /// Packs weights, in the densest wanted layout they fit, and fills in the summary.
    pub fn pack(&mut self, mut weights: Weights) -> Packed {
        let dtype = match &weights.values {
            Values::Float(_) => self.float(),
            Values::Codes(_) => DType::I8,
        };
        let units = if weights.depthwise { weights.shape.taps } else { weights.shape.kc };
        if weights.block.is_some() && (weights.shape.taps == 0 || units > usize::from(u16::MAX)) {
            weights.block = None;
            self.note("stored dense: too many inputs for a 16-bit index");
        }
        let family = match (weights.depthwise, weights.block) {
            (false, None) => Family::Dense,
            (false, Some(_)) => Family::Sparse,
            (true, None) => Family::Depthwise,
            (true, Some(_)) => Family::SparseDepthwise,
        };
        let block = if weights.depthwise { 16 } else { weights.block.unwrap_or(16) };
        let layout = Layout::find(family, dtype, block)
            .or(Layout::find(family, dtype, 16))
            .expect("every family has blocks of 16 in every type");
        match &weights.values {
            Values::Float(values) if dtype == DType::F16 => {
                let halves: Vec<f16> = values.iter().map(|&w| f16::from_f32(w)).collect();
                self.pack_as(layout, weights.shape, &halves)
            }
            Values::Float(values) => self.pack_as(layout, weights.shape, values),
            Values::Codes(values) => self.pack_as(layout, weights.shape, values),
        }
    }

    fn pack_as<T: Pod + PartialEq>(&mut self, layout: Layout, shape: WeightShape, values: &[T]) -> Packed {
        let index = layout.is_sparse().then(|| index_of(layout, shape, values));
        let view = index.as_ref().and_then(|words| {
            let (blocks, taps, _) = layout.index_shape(shape)?;
            Index::view(bytemuck::cast_slice(words), blocks, taps)
        });
        let (blocks, taps, units) = layout.index_shape(shape).expect("sizes of real weights fit");
        let kept = view.as_ref().map_or(blocks * taps * units, |view| view.positions.len());
        let size = layout.size(shape, kept).expect("sizes of real weights fit");
        let mut packed = vec![T::zeroed(); size / size_of::<T>()];
        layout.pack_into(shape, values, view.as_ref(), &mut packed);
        let dims = [shape.groups, shape.oc, shape.taps, shape.kc].map(|d| d as u32).to_vec();
        let bytes = bytemuck::cast_slice(&packed).to_vec();
        let index_bytes: Option<Vec<u8>> = index.map(|words| bytemuck::cast_slice(&words).to_vec());
        let layer = self.layer();
        if shape.taps > 0 {
            // Phases of a transposed convolution add up.
            let (before, now) = (layer.shape.map_or(0, |shape| shape.taps), shape.taps);
            let part = kept as f64 / (blocks * taps * units).max(1) as f64;
            layer.kept = (layer.kept * before as f64 + part * now as f64) / (before + now) as f64;
            layer.shape = Some(WeightShape { taps: before + now, ..shape });
            layer.layout = layout;
        }
        layer.bytes += bytes.len() + index_bytes.as_ref().map_or(0, Vec::len);
        layer.precision = layout.spec().dtype;
        let index = index_bytes
            .map(|bytes| self.add_constant(DType::U8, Layout::Plain, vec![bytes.len() as u32], Place::Index(bytes)));
        Packed { weights: self.add_constant(layout.spec().dtype, layout, dims, Place::Weights(bytes)), index }
    }

    fn add_constant(&mut self, dtype: DType, layout: Layout, dims: Vec<u32>, place: Place) -> TensorId {
        self.program.add(Tensor { name: String::new(), dtype, layout, dims, quantization: None, slack: 0, place })
    }

    /// A vector beside the weights: one number per channel, each group's padded to a multiple of 16.
    pub fn channel_vector<T: Pod + Default>(&mut self, dtype: DType, values: &[T], oc: usize) -> TensorId {
        let padded = padded(values, oc);
        self.layer().bytes += size_of_val(&padded[..]);
        self.program.constant(dtype, &[padded.len()], &padded)
    }
}

/// The index of the units that hold anything but zeros, as 32-bit words (the last may be half used).
fn index_of<T: Pod + PartialEq>(layout: Layout, shape: WeightShape, values: &[T]) -> Vec<u32> {
    let spec = layout.spec();
    let (blocks, taps, units) = layout.index_shape(shape).expect("sizes of real weights fit");
    let blocks_per_group = blocks / shape.groups.max(1);
    let (mut starts, mut counts, mut positions) = (vec![0u32], Vec::<u16>::new(), Vec::<u16>::new());
    for block in 0..blocks {
        let (group, oc0) = (block / blocks_per_group, block % blocks_per_group * spec.block);
        let rows = oc0..(oc0 + spec.block).min(shape.oc);
        for tap in 0..taps {
            let before = positions.len();
            for unit in 0..units {
                let columns = unit * spec.step..((unit + 1) * spec.step).min(units_end(layout, shape));
                let kept = rows.clone().any(|oc| {
                    let row = ((group * shape.oc + oc) * shape.taps + tap) * shape.kc;
                    values[row + columns.start..row + columns.end].iter().any(|w| *w != T::zeroed())
                });
                if kept {
                    positions.push(unit as u16);
                }
            }
            counts.push((positions.len() - before) as u16);
        }
        starts.push(positions.len() as u32);
    }
    let mut halves = counts;
    halves.extend(positions);
    halves.resize(halves.len().next_multiple_of(2), 0);
    starts.extend(halves.chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16));
    starts
}

/// Elements of a row that the units of one index tap cover.
fn units_end(layout: Layout, shape: WeightShape) -> usize {
    match layout.spec().family {
        // The taps of a depthwise row lie side by side, as units of the index's only tap.
        Family::SparseDepthwise => shape.taps,
        _ => shape.kc,
    }
}
