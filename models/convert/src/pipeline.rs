//! The whole conversion: import, passes, prune, calibrate, lower, plan, write; and what it has to say about each layer.

use crate::compensate::Moments;
use crate::evaluate::{self, Evaluator};
use crate::import::{self, ImportError, ImportOptions};
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::lower::{self, Layer, lower};
use crate::onnx::Model;
use crate::passes::{absorb_quantized, simplify};
use crate::plan::Plan;
use crate::program::{Place, Program};
use crate::prune::{self, Decision, Pattern};
use crate::quantize::{Ranges, choose, round};
use crate::settings::{Precision, Settings};
use crate::weights::{has_weights, input_rows, matrix};
use crate::write::write;
use sparrow_kernels::{Kernels, Layout};
use std::collections::{BTreeMap, HashMap};

/// One calibration sample: an array for every input, by name.
pub type Sample = BTreeMap<String, Tensor>;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shapes and values of inputs.
    pub import: ImportOptions,
    /// Type in which the network computes.
    pub precision: Precision,
    /// Share of the weights to drop, 0..1.
    pub sparsity: f32,
    /// Block of channels that keeps or drops a position together.
    pub pattern: Pattern,
    /// Inputs that show the range of every value; needed for [`Precision::I8`] unless the network comes quantized.
    pub samples: Vec<Sample>,
    /// Kernels that run the network for calibration.
    pub kernels: Kernels,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            import: ImportOptions::default(),
            precision: Precision::F32,
            sparsity: 0.0,
            pattern: Pattern::Auto,
            samples: Vec::new(),
            kernels: Kernels::scalar(),
        }
    }
}

/// Why a conversion failed. No file has been written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The network cannot be lowered.
    #[error(transparent)]
    Lower(#[from] lower::Error),
    /// The network cannot be run for calibration.
    #[error("calibration: {0}")]
    Calibrate(#[from] evaluate::Error),
    /// A calibration sample does not fit the network.
    #[error("calibration sample {index}: {reason}")]
    Sample {
        /// Its number.
        index: usize,
        /// What does not fit.
        reason: String,
    },
    /// int8 was asked for without anything to calibrate on.
    #[error(
        "int8 needs the range of every value: give samples of real input with --calibrate FILE.npz|DIR (--calibrate noise, for timing only), or a network that is quantized already"
    )]
    NoSamples,
    /// An option has a value it cannot have.
    #[error("{0}")]
    Option(String),
}

/// What became of one layer.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// What the lowering says.
    pub layer: Layer,
    /// Why it was or was not pruned; empty for layers without weights.
    pub sparsity: String,
    /// Share of the weights' sum of squares that pruning kept.
    pub energy: f32,
}

/// What became of the network.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Layer by layer.
    pub layers: Vec<LayerReport>,
    /// Remarks of the importer.
    pub notes: Vec<String>,
    /// Bytes of weights (as stored) and biases.
    pub weight_bytes: usize,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes of arena, and the fewest any plan could need.
    pub arena: (usize, usize),
}

/// A converted network.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The file.
    pub file: Vec<u8>,
    /// What became of it.
    pub report: Report,
}

/// A stage of the conversion, for a progress bar: (what, done, of how many).
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Imports a network and simplifies it.
///
/// # Errors
/// [`Error::Import`].
pub fn load(model: &Model, options: &ImportOptions, kernels: &Kernels) -> Result<(Graph, Vec<String>), Error> {
    let imported = import::import(model, options, &mut Evaluator::new(kernels))?;
    Ok((imported.graph, imported.notes))
}

/// Converts a network.
///
/// # Errors
/// See [`Error`]; nothing is half converted.
pub fn convert(model: &Model, options: &Options, progress: &mut Progress) -> Result<Converted, Error> {
    if !(0.0..1.0).contains(&options.sparsity) {
        return Err(Error::Option(format!("--sparsity {} is not a share: give 0 (dense) to 0.99", options.sparsity)));
    }
    progress("import", 0, 5);
    let (mut graph, mut notes) = load(model, &options.import, &options.kernels)?;
    progress("simplify", 1, 5);
    simplify(&mut graph);
    let stored = absorb_quantized(&mut graph);
    let quantized_already = !stored.activations.is_empty();
    let precision =
        if quantized_already && options.precision == Precision::F32 { Precision::I8 } else { options.precision };
    if quantized_already {
        notes.push("the network comes quantized: its own scales are used".into());
    }
    progress("prune", 2, 5);
    let seen = if options.sparsity > 0.0 { moments(&graph, options, progress)? } else { HashMap::new() };
    let decisions = prune::prune(
        &mut graph,
        &prune::Options { sparsity: options.sparsity, pattern: options.pattern, precision },
        &seen,
    );
    let mut settings =
        Settings { precision, activations: stored.activations, weights: stored.weights, ..Settings::default() };
    settings.blocks = decisions.iter().filter_map(|d| Some((d.node, d.block?))).collect();
    if precision == Precision::I8 && !quantized_already {
        if options.samples.is_empty() {
            return Err(Error::NoSamples);
        }
        settings.activations = choose(&graph, &calibrate(&graph, options, progress)?);
        let seen = moments(&graph, options, progress)?;
        settings.weights = round(&mut graph, &settings.activations, &seen);
    }
    progress("lower", 3, 5);
    let lowered = lower(&graph, &settings)?;
    progress("write", 4, 5);
    let (file, plan) = write(&lowered.program);
    let report = report(&graph, lowered.layers, &decisions, notes, &lowered.program, &plan, file.len());
    progress("write", 5, 5);
    Ok(Converted { file, report })
}

/// The inputs of a sample in the graph's order.
///
/// # Errors
/// Which input is missing or has another type or shape.
pub fn arrange(graph: &Graph, sample: &Sample) -> Result<Vec<Tensor>, String> {
    let one = |&id: &ValueId| {
        let value = graph.value(id);
        let only = (sample.len() == 1 && graph.inputs.len() == 1).then(|| sample.values().next()).flatten();
        let found = sample.get(&value.name).or(only).ok_or_else(|| {
            let names: Vec<_> = sample.keys().map(String::as_str).collect();
            format!("there is no array for input '{}' (there are: {})", value.name, names.join(", "))
        })?;
        if found.dtype() != value.dtype {
            return Err(format!(
                "input '{}' takes {}, the array holds {}",
                value.name,
                value.dtype.name(),
                found.dtype().name()
            ));
        }
        // A missing batch axis is no misunderstanding.
        found
            .reshaped(&value.dims)
            .ok_or_else(|| format!("input '{}' has shape {:?}, the array {:?}", value.name, value.dims, found.dims()))
    };
    graph.inputs.iter().map(one).collect()
}

/// Rows of a layer's input that its moments are made of, over all samples.
const MOMENT_ROWS: usize = 8192;

/// Moments of the input of every layer with weights, from the samples.
fn moments(graph: &Graph, options: &Options, progress: &mut Progress) -> Result<HashMap<usize, Moments>, Error> {
    let mut moments: HashMap<usize, Moments> = HashMap::new();
    let reference = evaluate::Reference::new(graph, &options.kernels)?;
    let each = MOMENT_ROWS.div_ceil(options.samples.len().max(1));
    for (index, sample) in options.samples.iter().enumerate() {
        progress("moments", index, options.samples.len());
        let values = reference.run(&arrange(graph, sample).map_err(|reason| Error::Sample { index, reason })?)?;
        for (node, layer) in graph.nodes.iter().enumerate().filter(|(_, n)| has_weights(n)) {
            let Ok(m) = matrix(graph, layer) else { continue };
            let x = layer.input(0).and_then(|x| values.get(&graph.value(x).name));
            if let Some(rows) = x.and_then(|x| input_rows(graph, node, x, each)) {
                moments.entry(node).or_insert_with(|| Moments::new(m.groups, m.taps * m.kc)).add(&rows, m.taps);
            }
        }
    }
    moments.values_mut().for_each(Moments::damp);
    Ok(moments)
}

fn calibrate(graph: &Graph, options: &Options, progress: &mut Progress) -> Result<Ranges, Error> {
    let mut ranges = Ranges::default();
    let ids: HashMap<&str, ValueId> =
        graph.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), ValueId(i as u32))).collect();
    let reference = evaluate::Reference::new(graph, &options.kernels)?;
    for (index, sample) in options.samples.iter().enumerate() {
        progress("calibrate", index, options.samples.len());
        let inputs = arrange(graph, sample).map_err(|reason| Error::Sample { index, reason })?;
        for (name, tensor) in reference.run(&inputs)? {
            if let (Some(&id), Some(elements)) = (ids.get(name.as_str()), tensor.elements::<f32>()) {
                ranges.note(id, &elements);
            }
        }
    }
    Ok(ranges)
}

fn report(
    graph: &Graph,
    layers: Vec<Layer>,
    decisions: &[Decision],
    notes: Vec<String>,
    program: &Program,
    plan: &Plan,
    file_bytes: usize,
) -> Report {
    let by_node: HashMap<usize, &Decision> = decisions.iter().map(|d| (d.node, d)).collect();
    let layers = layers
        .into_iter()
        .map(|layer| {
            let decision = by_node.get(&layer.node);
            let sparsity = decision.map(|d| d.reason.clone()).unwrap_or_default();
            LayerReport { energy: decision.map_or(1.0, |d| d.energy), layer, sparsity }
        })
        .collect();
    debug_assert!(by_node.keys().all(|&n| has_weights(&graph.nodes[n])));
    Report {
        name: graph.name.clone(),
        layers,
        notes,
        weight_bytes: weight_bytes(program),
        file_bytes,
        arena: (plan.arena, plan.bound),
    }
}

/// Bytes of packed weights and of the biases that go with them.
fn weight_bytes(program: &Program) -> usize {
    let stored = |id: usize| match &program.tensors[id].place {
        Place::Weights(bytes) => bytes.len(),
        _ => 0,
    };
    let packed: usize =
        (0..program.tensors.len()).filter(|&i| program.tensors[i].layout != Layout::Plain).map(stored).sum();
    let mut biases: Vec<usize> = Vec::new();
    for instruction in &program.instructions {
        let has_packed = instruction.inputs[1].is_some_and(|w| program.tensor(w).layout != Layout::Plain);
        biases.extend(instruction.inputs[2].filter(|_| has_packed).map(|b| b.index()));
    }
    biases.sort_unstable();
    biases.dedup();
    packed + biases.into_iter().map(stored).sum::<usize>()
}

/// Seeded noise in -1..1 for every input: ranges to time an int8 network with, not to use it.
pub fn noise(graph: &Graph, count: usize) -> Vec<Sample> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut one = |id: &ValueId| {
        let value = graph.value(*id);
        let elements: Vec<f32> = (0..value.dims.iter().product()).map(|_| next()).collect();
        let tensor = match value.dtype {
            DType::F32 => Tensor::from_slice(&value.dims, &elements),
            dtype => Tensor::new(dtype, &value.dims, vec![0; elements.len() * dtype.size()]),
        };
        tensor.map(|tensor| (value.name.clone(), tensor))
    };
    (0..count).map(|_| graph.inputs.iter().filter_map(&mut one).collect()).collect()
}
