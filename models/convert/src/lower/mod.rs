//! From the representation to the runtime's operators: layouts chosen, chains fused, weights packed.
//!
//! A value of the graph may exist in memory in several [`View`]s: row-major ("plain") or channels last, as floats or as
//! codes. An operator asks for the view it can read and gets it, made by a conversion only if it is not there yet; it
//! leaves its result in the order that costs it nothing. So a network's activations stay channels last from the first
//! convolution to the last, and conversions happen at its borders. There is no layout pass: one walk over the nodes, each
//! after what it reads.
//!
//! ```text
//! value --+-- plain f32          (graph inputs and outputs, matrices)
//!         +-- channels last f32  (what convolutions write, with room around it where they write into a concatenation)
//!         +-- channels last i8   (codes, where settings give the value a scale)
//! ```
//!
//! Every view is a tensor with strides along the value's own axes, so that axis numbers never need translation:
//! broadcasting, slices, transposes and concatenations are strides. A convolution swallows the chain of single readers
//! behind it as its last step ([`fuse`]).

mod conv;
mod elementwise;
mod fuse;
mod integer;
mod matmul;
mod normalize;
mod pack;
mod placement;
mod pool;
mod quantize;
mod reduce;
mod resize;
mod shape;
mod transposed;
mod view;

#[cfg(test)]
mod tests;

use crate::ir::{self, Graph, Node, Op, ValueId};
use crate::program::{Place, Program, TensorId};
use crate::settings::{Precision, Quantization, Settings};
use bytemuck::Pod;
use placement::Placement;
use sparrow_kernels::{DType, Layout, WeightShape};
use std::collections::HashMap;
use view::{Format, View};

/// Why a network cannot be lowered.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Error {
    /// The runtime has no way to compute this.
    #[error("node '{node}' ({operator}): {reason}; {remedy}")]
    Unsupported {
        /// The node.
        node: String,
        /// The source's operator.
        operator: String,
        /// What is not supported.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// An operand is computed that must be known at conversion.
    #[error(
        "node '{node}' ({operator}): '{value}' must be a constant; fold it into the model, or give its value at conversion"
    )]
    NotConstant {
        /// The node.
        node: String,
        /// The source's operator.
        operator: String,
        /// The operand.
        value: String,
    },
    /// A tensor has more elements than the format's 32-bit strides reach.
    #[error("value '{0}' has more than 2^30 elements; convert the network for a smaller input")]
    TooLarge(String),
}

/// What became of one node of the source, for the summary.
#[derive(Clone, PartialEq, Debug)]
pub struct Layer {
    /// Its index among the graph's nodes.
    pub node: usize,
    /// Its name.
    pub name: String,
    /// The source's operator.
    pub onnx_op: String,
    /// The packed layout of its weights; [`Layout::Plain`] if it has none.
    pub layout: Layout,
    /// The shape of its weight matrix.
    pub shape: Option<WeightShape>,
    /// Part of the weights that is stored: 1 unless the layout is sparse.
    pub kept: f64,
    /// Bytes of weights, index, scales and bias.
    pub bytes: usize,
    /// Type of its weights, or of its result if it has none.
    pub precision: DType,
    /// Why it is not int8 or not sparse though that was wanted, or what it had to convert; else empty.
    pub note: String,
}

/// A lowered network.
#[derive(Clone, PartialEq, Debug)]
pub struct Lowered {
    /// The operators.
    pub program: Program,
    /// One entry for every source node that has an instruction of its own, in their order.
    pub layers: Vec<Layer>,
}

/// Lowers a network as the settings say. The graph is valid ([`Graph::validate`]).
///
/// # Errors
/// The first node that the runtime cannot compute.
pub fn lower(graph: &Graph, settings: &Settings) -> Result<Lowered, Error> {
    let mut lowerer = Lowerer::new(graph, settings)?;
    lowerer.inputs();
    lowerer.nodes()?;
    lowerer.outputs()?;
    Ok(Lowered { program: lowerer.program, layers: lowerer.layers })
}

/// Shorthand of the operators' modules.
type Result<T = (), E = Error> = std::result::Result<T, E>;

/// The state of the walk.
struct Lowerer<'a> {
    graph: &'a Graph,
    settings: &'a Settings,
    /// The graph's nodes with [`fuse::rewrite`]'s changes.
    nodes: Vec<Node>,
    /// For every value the nodes that read it.
    users: Vec<Vec<usize>>,
    /// Nodes that are lowered or swallowed.
    done: Vec<bool>,
    /// The node being lowered.
    at: usize,
    program: Program,
    /// For every value its views so far.
    views: Vec<Vec<(DType, View)>>,
    /// For every value where it should be written for the sake of a concatenation.
    placements: Vec<Option<Placement>>,
    /// Concatenations whose first parts are written.
    wholes: HashMap<ValueId, View>,
    /// Whether a tensor carries the value's name already.
    named: Vec<bool>,
    layers: Vec<Layer>,
}

impl<'a> Lowerer<'a> {
    fn new(graph: &'a Graph, settings: &'a Settings) -> Result<Self> {
        if let Some(large) = graph.values.iter().find(|v| v.dims.iter().map(|&d| d.max(1)).product::<usize>() > 1 << 30)
        {
            return Err(Error::TooLarge(large.name.clone()));
        }
        let mut lowerer = Self {
            graph,
            settings,
            nodes: graph.nodes.clone(),
            users: graph.users(),
            done: vec![false; graph.nodes.len()],
            at: 0,
            program: Program { name: graph.name.clone(), keep_all: settings.keep_all, ..Program::default() },
            views: vec![Vec::new(); graph.values.len()],
            placements: vec![None; graph.values.len()],
            wholes: HashMap::new(),
            named: vec![false; graph.values.len()],
            layers: Vec::new(),
        };
        if !settings.keep_all {
            lowerer.rewrite();
            lowerer.place();
        }
        Ok(lowerer)
    }

    fn inputs(&mut self) {
        for &id in &self.graph.inputs {
            let value = self.graph.value(id);
            let tensor = self.program.arena(&value.name, value.dtype, &value.dims);
            self.program.inputs.push(tensor);
            self.named[id.index()] = true;
            self.views[id.index()].push((value.dtype, View::dense(tensor, Format::Plain, &value.dims)));
        }
    }

    fn nodes(&mut self) -> Result {
        for index in 0..self.nodes.len() {
            if self.done[index] {
                continue;
            }
            self.at = index;
            self.done[index] = true;
            let node = self.nodes[index].clone();
            self.layers.push(Layer {
                node: index,
                name: node.name.clone(),
                onnx_op: node.onnx_op.clone(),
                layout: Layout::Plain,
                shape: None,
                kept: 1.0,
                bytes: 0,
                precision: node.outputs.iter().flatten().next().map_or(DType::F32, |&y| self.home(y)),
                note: String::new(),
            });
            let before = self.program.instructions.len();
            self.node(&node)?;
            if let Some(result) = self.program.instructions[before..].last().and_then(|last| last.outputs[0])
                && self.layer().shape.is_none()
            {
                self.layer().precision = self.program.tensor(result).dtype;
            }
            if self.program.instructions.len() == before {
                self.layers.pop();
            }
            if self.settings.keep_all {
                node.outputs.iter().flatten().try_for_each(|&y| self.keep(y))?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result {
        let results: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        if results.iter().all(|&y| self.dims(y).contains(&0)) {
            results.iter().for_each(|&y| drop(self.output(y, Format::Plain, self.home(y))));
            return Ok(());
        }
        match &node.op {
            Op::Unary(function) => self.unary(node, *function),
            Op::Binary(function) => self.binary(node, *function),
            Op::Where => self.choose(node),
            Op::Cast => self.cast(node),
            Op::Reshape => self.reshape(node),
            Op::Transpose { perm } => self.transpose(node, perm),
            Op::Slice { axes } => self.slice(node, axes),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Split { axis, sizes } => self.split(node, *axis, sizes),
            Op::Pad { mode, pads } => self.pad(node, *mode, pads),
            Op::Expand => self.expand(node),
            Op::Tile { .. } => self.tile(node),
            Op::Gather { axis } => self.gather(node, *axis),
            Op::Reduce { kind, axes, .. } => self.reduce(node, *kind, axes),
            Op::ArgReduce { largest, axis, last, .. } => self.arg_reduce(node, *axis, *largest, *last),
            Op::TopK { axis, largest, .. } => self.top_k(node, *axis, *largest),
            Op::Conv(conv) => self.conv(node, conv),
            Op::ConvTranspose { conv, .. } => self.conv_transpose(node, conv),
            Op::MatMul => self.matmul(node),
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                self.gemm(node, &matmul::Gemm { alpha: *alpha, beta: *beta, trans_a: *trans_a, trans_b: *trans_b })
            }
            Op::BatchNorm { epsilon } => self.batch_norm(node, *epsilon),
            Op::InstanceNorm { epsilon } => self.instance_norm(node, *epsilon),
            Op::LayerNorm { axis, epsilon } => self.layer_norm(node, *axis, *epsilon),
            Op::Lrn { .. } => self.lrn(node),
            Op::Softmax { axis, log } => self.softmax(node, *axis, *log),
            Op::Pool { .. } => self.pool(node),
            Op::GlobalPool { kind } => self.global_pool(node, *kind),
            Op::Resize(resize) => self.resize(node, resize),
            Op::DepthToSpace { block, crd } => self.depth_to_space(node, *block, *crd),
            Op::SpaceToDepth { block } => self.space_to_depth(node, *block),
            Op::QuantizeLinear { axis } => self.quantize_linear(node, *axis),
            Op::DequantizeLinear { axis } => self.dequantize_linear(node, *axis),
            Op::DynamicQuantizeLinear => self.dynamic_quantize(node),
            Op::QLinearConv(conv) => self.qlinear_conv(node, conv),
            Op::QLinearMatMul => self.qlinear_matmul(node),
            Op::ConvInteger(conv) => self.conv_integer(node, conv),
            Op::MatMulInteger => self.matmul_integer(node),
        }
    }

    /// Gives the caller every output as plain memory of its own, in the source's type.
    fn outputs(&mut self) -> Result {
        for &id in &self.graph.outputs {
            let value = self.graph.value(id);
            let view = self.want(id, Format::Plain, value.dtype)?;
            let taken = self.program.inputs.contains(&view.tensor) || self.program.outputs.contains(&view.tensor);
            let output = if self.may_carry(view.tensor, id) && !taken {
                view.tensor
            } else {
                let output = self.program.arena("", value.dtype, &value.dims);
                self.copy(&value.dims, &view, &View::dense(output, Format::Plain, &value.dims))?;
                output
            };
            self.program.tensors[output.index()].dims = value.dims.iter().map(|&d| d as u32).collect();
            for tensor in self
                .program
                .tensors
                .iter_mut()
                .filter(|tensor| tensor.name == value.name && tensor.place != Place::Arena)
            {
                tensor.name.clear();
            }
            self.program.tensors[output.index()].name.clone_from(&value.name);
            self.program.outputs.push(output);
        }
        Ok(())
    }

    /// Whether a tensor holds all of a value and nothing else, and may take the value's name and dimensions.
    fn may_carry(&self, tensor: TensorId, id: ValueId) -> bool {
        let (tensor, value) = (self.program.tensor(tensor), self.graph.value(id));
        let same = tensor.dims.iter().map(|&d| d as usize).eq(value.dims.iter().copied());
        let free = if self.settings.keep_all { same && tensor.name == value.name } else { true };
        tensor.place == Place::Arena && tensor.dims.iter().product::<u32>() == self.count(id) && free
    }

    /// Gives a value plain memory under its name that nothing else will be written to.
    fn keep(&mut self, id: ValueId) -> Result {
        let value = self.graph.value(id);
        let view = self.want(id, Format::Plain, value.dtype)?;
        let tensor = &mut self.program.tensors[view.tensor.index()];
        if tensor.name.is_empty() && tensor.dims.iter().map(|&d| d as usize).eq(value.dims.iter().copied()) {
            tensor.name.clone_from(&value.name);
        } else if let Some((of, offset)) = self.program.storage(view.tensor) {
            let alias = self.program.arena(&value.name, value.dtype, &value.dims);
            self.program.tensors[alias.index()].place = Place::Alias { of, offset };
        }
        Ok(())
    }

    fn dims(&self, id: ValueId) -> &'a [usize] {
        &self.graph.value(id).dims
    }

    fn dtype(&self, id: ValueId) -> DType {
        self.graph.value(id).dtype
    }

    fn constant(&self, id: ValueId) -> Option<&'a ir::Tensor> {
        self.graph.constant(id)
    }

    /// How the value is stored as codes, if it may be.
    fn quantization(&self, id: ValueId) -> Option<Quantization> {
        let quantized = self.settings.precision == Precision::I8 && self.dtype(id) == DType::F32;
        self.settings.activations.get(&id).copied().filter(|_| quantized)
    }

    /// Type of the floats that are not quantized.
    fn float(&self) -> DType {
        if self.settings.precision == Precision::F16 { DType::F16 } else { DType::F32 }
    }

    /// Type in which a value lies in memory when it is not quantized.
    fn home(&self, id: ValueId) -> DType {
        match self.dtype(id) {
            DType::F32 => self.float(),
            other => other,
        }
    }

    /// Operand `index`, which must be there.
    fn operand(&self, node: &Node, index: usize) -> Result<ValueId> {
        node.input(index).ok_or_else(|| self.unsupported(format!("operand {index} is missing"), "repair the model"))
    }

    /// Result `index`, which must be there.
    fn result(&self, node: &Node, index: usize) -> Result<ValueId> {
        node.output(index).ok_or_else(|| self.unsupported(format!("result {index} is missing"), "repair the model"))
    }

    /// An operand that must be known at conversion.
    fn known(&self, id: ValueId) -> Result<&'a ir::Tensor> {
        self.constant(id).ok_or_else(|| {
            let node = &self.nodes[self.at];
            Error::NotConstant {
                node: node.name.clone(),
                operator: node.onnx_op.clone(),
                value: self.graph.value(id).name.clone(),
            }
        })
    }

    fn unsupported(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        let node = &self.nodes[self.at];
        Error::Unsupported {
            node: node.name.clone(),
            operator: node.onnx_op.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// Adds an operator that comes of the current node.
    fn emit<P: Pod>(
        &mut self,
        op: sparrow_kernels::Op,
        params: &P,
        inputs: &[Option<TensorId>],
        outputs: &[Option<TensorId>],
    ) {
        let name = self.nodes.get(self.at).map_or("", |node| node.name.as_str());
        self.program.push(op, name, params, inputs, outputs);
    }

    /// An arena tensor that no value has.
    fn temporary(&mut self, dtype: DType, dims: &[usize]) -> TensorId {
        self.program.arena("", dtype, dims)
    }

    /// The current node's entry in the summary.
    fn layer(&mut self) -> &mut Layer {
        self.layers.last_mut().expect("an entry is made before its node is lowered")
    }

    /// Adds a remark to the current node's entry, once.
    fn note(&mut self, text: impl AsRef<str>) {
        let note = &mut self.layer().note;
        if !note.contains(text.as_ref()) {
            if !note.is_empty() {
                note.push_str("; ");
            }
            note.push_str(text.as_ref());
        }
    }
}
