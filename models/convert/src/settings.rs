//! What the passes have decided and the lowering carries out.

use crate::ir::ValueId;
use std::collections::HashMap;

/// Type in which a network computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats in memory; kernels may accumulate in them.
    F16,
    /// 8-bit codes where a layer has an int8 kernel and its tensors have scales, 32-bit floats elsewhere.
    I8,
}

/// How a value is stored as i8 codes: `real = scale * (code - zero)`, the code in -128..=127.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantization {
    /// Real difference between two neighbouring codes.
    pub scale: f32,
    /// The code of 0.
    pub zero: i32,
}

/// Everything the lowering must know beside the graph.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Type of the float tensors that are not quantized: F32 or F16 (I8: F32).
    pub precision: Precision,
    /// Values that are stored as codes. A layer runs in int8 when its input, its weights and its (fused) output are.
    pub activations: HashMap<ValueId, Quantization>,
    /// Scale of each output channel of constant weights; weights without an entry and wanted in int8 take
    /// `max |w| / 127` of each channel.
    pub weights: HashMap<ValueId, Vec<f32>>,
    /// Output channels of a block (16, 8 or 4) for the layers that are stored sparse, by index of the node. A unit is
    /// kept where any of its weights differs from 0. Depthwise layers: 16.
    pub blocks: HashMap<usize, usize>,
    /// Every source value keeps its own memory until the end and is named, so that all can be compared after a run;
    /// nothing is fused.
    pub keep_all: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            activations: HashMap::new(),
            weights: HashMap::new(),
            blocks: HashMap::new(),
            keep_all: false,
        }
    }
}
