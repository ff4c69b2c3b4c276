//! Packed weight layouts: the bytes of the file are what the kernels of every instruction set read.
//!
//! Weights are a matrix of output channels by positions; a position is one input element of one tap, taps in
//! (ky, kx) order. `step` positions form one index unit: 4 for int8 (one 32-bit lane of a dot instruction), else 1.
//! With `kc` elements a tap, a tap has `units = ceil(kc / step)` of them, the last padded with zero weights.
//!
//! ```text
//! dense       [group][ceil(oc / 16)][tap][unit][16 channels][step]
//! sparse      per block of B = 16, 8 or 4 channels, kept units only: [B channels][step], blocks one after another
//! depthwise   [ceil(channels / 16)][tap][16]
//! sparse dw   per block of 16 channels, kept taps only: [16]
//!
//! index of a sparse layout, blocks = groups * ceil(oc / B):
//!   u32 starts[blocks + 1]       kept units before block b
//!   u16 counts[blocks][taps]     kept units of each tap
//!   u16 positions[starts[blocks]]  unit within its tap, strictly increasing inside a (block, tap)
//! ```
//!
//! A sparse depthwise index is one with a single tap whose units are the real taps. Channels past `oc` are zero weights.
//! Source of the block pattern: SparseByteNN, section 3 (fine-grained kernel sparsity).

use crate::op::numbered;
use crate::{DType, Refusal};
use bytemuck::Pod;

numbered! {
    /// How the bytes of a constant are ordered. Numbers are part of the file format and never change.
    pub enum Layout: u8 {
        /// Row-major elements.
        Plain = 0, "plain";
        /// Dense f32 panels.
        DenseF32 = 1, "dense_f32";
        /// Dense f16 panels.
        DenseF16 = 2, "dense_f16";
        /// Dense int8 panels, 4 positions a lane.
        DenseI8 = 3, "dense_i8";
        /// Kept positions of blocks of 16 channels, f32.
        SparseF32B16 = 8, "sparse_f32_b16";
        /// Blocks of 8 channels, f32.
        SparseF32B8 = 9, "sparse_f32_b8";
        /// Blocks of 4 channels, f32.
        SparseF32B4 = 10, "sparse_f32_b4";
        /// Blocks of 16 channels, f16.
        SparseF16B16 = 11, "sparse_f16_b16";
        /// Blocks of 8 channels, f16.
        SparseF16B8 = 12, "sparse_f16_b8";
        /// Blocks of 4 channels, f16.
        SparseF16B4 = 13, "sparse_f16_b4";
        /// Blocks of 16 channels by 4 positions, int8.
        SparseI8B16 = 14, "sparse_i8_b16";
        /// Blocks of 8 channels by 4 positions, int8.
        SparseI8B8 = 15, "sparse_i8_b8";
        /// Blocks of 4 channels by 4 positions, int8.
        SparseI8B4 = 16, "sparse_i8_b4";
        /// Depthwise, f32.
        DepthwiseF32 = 24, "depthwise_f32";
        /// Depthwise, f16.
        DepthwiseF16 = 25, "depthwise_f16";
        /// Depthwise, int8.
        DepthwiseI8 = 26, "depthwise_i8";
        /// Depthwise with dropped taps, f32.
        SparseDepthwiseF32 = 28, "sparse_depthwise_f32";
        /// Depthwise with dropped taps, f16.
        SparseDepthwiseF16 = 29, "sparse_depthwise_f16";
        /// Depthwise with dropped taps, int8.
        SparseDepthwiseI8 = 30, "sparse_depthwise_i8";
    }
}

/// Names of the layout numbers that the format sets aside for other weight primitives, by range.
const RESERVED: &[(core::ops::RangeInclusive<u8>, &str)] = &[
    (32..=63, "codes (1 to 8 bits with a table or grid and scales)"),
    (64..=79, "blocks over codes"),
    (80..=95, "outliers"),
    (96..=111, "factors (low rank, pivot rows)"),
    (112..=127, "planes (sign or bit planes)"),
    (128..=143, "transforms of the input"),
    (144..=159, "structure (shared or skipped parts)"),
];

/// What a layout number this build cannot run stands for.
pub fn reserved_layout(number: u8) -> &'static str {
    RESERVED.iter().find(|(range, _)| range.contains(&number)).map_or("unassigned", |(_, name)| name)
}

/// What kind of operator a layout serves, and whether positions are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// No weights: a plain tensor.
    Plain,
    /// Convolution, all positions.
    Dense,
    /// Convolution, kept positions.
    Sparse,
    /// Depthwise, all taps.
    Depthwise,
    /// Depthwise, kept taps.
    SparseDepthwise,
}

/// The properties of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// What it serves.
    pub family: Family,
    /// Type of a weight.
    pub dtype: DType,
    /// Output channels of a block or panel.
    pub block: usize,
    /// Positions of one index unit.
    pub step: usize,
}

/// The shape of a weight matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WeightShape {
    /// Groups (1 for depthwise layouts).
    pub groups: usize,
    /// Output channels of a group (all channels for depthwise layouts).
    pub oc: usize,
    /// Taps of the kernel.
    pub taps: usize,
    /// Input elements of a tap (1 for depthwise layouts).
    pub kc: usize,
}

/// The index of a sparse layout.
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    /// Kept units before each block, and in all.
    pub starts: &'a [u32],
    /// Kept units of each (block, tap).
    pub counts: &'a [u16],
    /// Unit numbers within their tap.
    pub positions: &'a [u16],
}

impl<'a> Index<'a> {
    /// The three parts of an index with this many blocks and taps. `None` if `bytes` is too short or misaligned.
    pub fn view(bytes: &'a [u8], blocks: usize, taps: usize) -> Option<Self> {
        let starts_len = blocks.checked_add(1)?.checked_mul(4)?;
        let counts_len = blocks.checked_mul(taps)?.checked_mul(2)?;
        let starts: &[u32] = bytemuck::try_cast_slice(bytes.get(..starts_len)?).ok()?;
        let counts: &[u16] =
            bytemuck::try_cast_slice(bytes.get(starts_len..starts_len.checked_add(counts_len)?)?).ok()?;
        let positions_len = (*starts.last()? as usize).checked_mul(2)?;
        let rest = &bytes[starts_len + counts_len..];
        let positions: &[u16] = bytemuck::try_cast_slice(rest.get(..positions_len)?).ok()?;
        Some(Self { starts, counts, positions })
    }

    /// Refuses an index whose counts do not add up or whose positions are not strictly increasing below `units`.
    fn validate(&self, taps: usize, units: usize) -> Result<(), Refusal> {
        if self.starts[0] != 0 {
            return Err(Refusal::Index);
        }
        let mut at = 0usize;
        for (block, counts) in self.counts.chunks_exact(taps).enumerate() {
            if self.starts[block] as usize != at {
                return Err(Refusal::Index);
            }
            for &count in counts {
                let run = self.positions.get(at..at + count as usize).ok_or(Refusal::Index)?;
                let increasing = run.windows(2).all(|pair| pair[0] < pair[1]);
                if !increasing || run.last().is_some_and(|&last| last as usize >= units) {
                    return Err(Refusal::Index);
                }
                at += count as usize;
            }
        }
        let total = self.starts[self.starts.len() - 1] as usize;
        if at == total { Ok(()) } else { Err(Refusal::Index) }
    }
}

impl Layout {
    /// Its properties.
    pub const fn spec(self) -> Spec {
        use DType::{F16, F32, I8};
        use Family::{Dense, Depthwise, Plain, Sparse, SparseDepthwise};
        let (family, dtype, block) = match self {
            Self::Plain => (Plain, F32, 1),
            Self::DenseF32 => (Dense, F32, 16),
            Self::DenseF16 => (Dense, F16, 16),
            Self::DenseI8 => (Dense, I8, 16),
            Self::SparseF32B16 => (Sparse, F32, 16),
            Self::SparseF32B8 => (Sparse, F32, 8),
            Self::SparseF32B4 => (Sparse, F32, 4),
            Self::SparseF16B16 => (Sparse, F16, 16),
            Self::SparseF16B8 => (Sparse, F16, 8),
            Self::SparseF16B4 => (Sparse, F16, 4),
            Self::SparseI8B16 => (Sparse, I8, 16),
            Self::SparseI8B8 => (Sparse, I8, 8),
            Self::SparseI8B4 => (Sparse, I8, 4),
            Self::DepthwiseF32 => (Depthwise, F32, 16),
            Self::DepthwiseF16 => (Depthwise, F16, 16),
            Self::DepthwiseI8 => (Depthwise, I8, 16),
            Self::SparseDepthwiseF32 => (SparseDepthwise, F32, 16),
            Self::SparseDepthwiseF16 => (SparseDepthwise, F16, 16),
            Self::SparseDepthwiseI8 => (SparseDepthwise, I8, 16),
        };
        let step = match (family, dtype) {
            (Dense | Sparse, I8) => 4,
            _ => 1,
        };
        Spec { family, dtype, block, step }
    }

    /// The layout with these properties.
    pub fn find(family: Family, dtype: DType, block: usize) -> Option<Self> {
        Self::ALL.iter().copied().find(|layout| {
            let spec = layout.spec();
            spec.family == family && spec.dtype == dtype && spec.block == block
        })
    }

    /// Whether positions are left out, so that an index goes with the weights.
    pub const fn is_sparse(self) -> bool {
        matches!(self.spec().family, Family::Sparse | Family::SparseDepthwise)
    }

    /// Blocks, taps and units a tap of the index that goes with a matrix of this shape (dense layouts: that would).
    pub fn index_shape(self, shape: WeightShape) -> Option<(usize, usize, usize)> {
        let Spec { family, block, step, .. } = self.spec();
        let blocks = shape.groups.checked_mul(shape.oc.div_ceil(block))?;
        match family {
            Family::SparseDepthwise | Family::Depthwise => Some((blocks, 1, shape.taps)),
            _ => Some((blocks, shape.taps, shape.kc.div_ceil(step))),
        }
    }

    /// Bytes of the packed weights. `kept` is the number of kept units of a sparse layout and ignored by the others.
    pub fn size(self, shape: WeightShape, kept: usize) -> Option<usize> {
        let Spec { block, step, dtype, .. } = self.spec();
        let units = if self.is_sparse() {
            kept
        } else {
            let (blocks, taps, units) = self.index_shape(shape)?;
            blocks.checked_mul(taps)?.checked_mul(units)?
        };
        units.checked_mul(block * step * dtype.size())
    }

    /// Byte offset of a block (sparse: from the index's start of it) in the packed weights.
    pub fn block_offset(self, shape: WeightShape, block: usize, index: Option<&Index>) -> usize {
        let Spec { block: channels, step, dtype, family } = self.spec();
        let units = match (index, family) {
            (Some(index), _) => index.starts[block] as usize,
            (None, Family::Depthwise) => block * shape.taps,
            (None, _) => block * shape.taps * shape.kc.div_ceil(step),
        };
        units * channels * step * dtype.size()
    }

    /// Refuses packed weights of the wrong size, and an index that would lead a kernel outside them.
    pub fn validate(self, shape: WeightShape, packed_len: usize, index: Option<&[u8]>) -> Result<(), Refusal> {
        let mut kept = 0;
        if self.is_sparse() {
            let (blocks, taps, units) = self.index_shape(shape).ok_or(Refusal::Overflow)?;
            let index = Index::view(index.ok_or(Refusal::OperandCount)?, blocks, taps).ok_or(Refusal::Index)?;
            index.validate(taps, units)?;
            kept = index.positions.len();
        } else if index.is_some() {
            return Err(Refusal::OperandCount);
        }
        let size = self.size(shape, kept).ok_or(Refusal::Overflow)?;
        if size <= packed_len { Ok(()) } else { Err(Refusal::OutOfBounds) }
    }

    /// Packs `weights`, ordered `[groups][oc][taps][kc]`, into `packed`, which has [`Layout::size`] bytes' worth of
    /// elements. A sparse layout takes the units its validated index names; what it leaves out is lost.
    ///
    /// # Panics
    /// If `weights` or `packed` have another length than the shape says, or `T` another size than the layout's type.
    pub fn pack_into<T: Pod>(self, shape: WeightShape, weights: &[T], index: Option<&Index>, packed: &mut [T]) {
        let Spec { dtype, block: channels, .. } = self.spec();
        assert_eq!(size_of::<T>(), dtype.size(), "weight type");
        assert_eq!(weights.len(), shape.groups * shape.oc * shape.taps * shape.kc, "weights");
        let kept = index.map_or(0, |index| index.positions.len());
        assert_eq!(Some(size_of_val(packed)), self.size(shape, kept), "packed weights");
        packed.fill(T::zeroed());
        let (blocks, taps, units) = self.index_shape(shape).expect("sizes fit");
        let blocks_per_group = blocks / shape.groups.max(1);
        let mut out = 0;
        let mut position = 0;
        for block in 0..blocks {
            let first = (block / blocks_per_group, block % blocks_per_group * channels);
            for tap in 0..taps {
                let count = index.map_or(units, |index| index.counts[block * taps + tap] as usize);
                for n in 0..count {
                    let unit = index.map_or(n, |index| index.positions[position + n] as usize);
                    out += self.pack_unit(shape, weights, first, (tap, unit), &mut packed[out..]);
                }
                position += count;
            }
        }
    }

    /// Packs one unit of one block; returns the number of elements written.
    fn pack_unit<T: Pod>(
        self,
        shape: WeightShape,
        weights: &[T],
        (group, oc0): (usize, usize),
        (tap, unit): (usize, usize),
        out: &mut [T],
    ) -> usize {
        let Spec { family, block: channels, step, .. } = self.spec();
        let depthwise = matches!(family, Family::Depthwise | Family::SparseDepthwise);
        for channel in 0..channels.min(shape.oc - oc0) {
            let row = (group * shape.oc + oc0 + channel) * shape.taps * shape.kc;
            for lane in 0..step {
                let k = unit * step + lane;
                if depthwise {
                    out[channel] = weights[row + unit];
                } else if k < shape.kc {
                    out[channel * step + lane] = weights[row + tap * shape.kc + k];
                }
            }
        }
        channels * step
    }
}
