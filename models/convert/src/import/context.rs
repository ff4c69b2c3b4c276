//! What an operator's parser works with: the node's operands and attributes on one side, the growing graph on the other.
//!
//! Nothing is ignored silently. The context remembers which attributes and operands a parser has read; what is left over
//! when it returns is refused, as is a result that somebody wants and the parser did not provide. So a parser is also
//! the only list of what an operator accepts in each opset.
//!
//! A node all of whose operands are constants is evaluated at once (see [`Evaluate`]), which is what makes exporters'
//! shape arithmetic disappear.

use std::collections::{HashMap, HashSet};

use super::error::{Reason, bad_attribute, invalid};
use crate::ir::{DType, Graph, Node, Op, Tensor, ValueId, byte_count};
use crate::onnx::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};
use crate::onnx::tensor::{MAX_DIM, MAX_RANK};

/// Computes constants: runs a graph of one node whose operands are all constants.
pub trait Evaluate {
    /// The graph's outputs in order, or why it cannot be run; the node then stays in the network.
    fn evaluate(&mut self, graph: &Graph) -> Result<Vec<Tensor>, String>;
}

impl<F: FnMut(&Graph) -> Result<Vec<Tensor>, String>> Evaluate for F {
    fn evaluate(&mut self, graph: &Graph) -> Result<Vec<Tensor>, String> {
        self(graph)
    }
}

/// All constants that folding makes together stay below this; a network that needs more is not one for small machines.
const MAX_FOLDED_BYTES: usize = 1 << 30;

/// The graph under construction.
pub(super) struct Builder<'a> {
    pub graph: Graph,
    pub notes: Vec<String>,
    /// What every ONNX name stands for; `None`: the result of a refused node.
    pub names: HashMap<&'a str, Option<ValueId>>,
    /// Names that a value may not be given.
    pub taken: HashSet<String>,
    /// ONNX names that some node or the graph's output reads.
    pub wanted: HashSet<&'a str>,
    pub directory: Option<&'a std::path::Path>,
    pub evaluator: &'a mut dyn Evaluate,
    pub folded_bytes: usize,
}

/// Type and dimensions of a result.
pub(super) type Shape = (DType, Vec<usize>);

/// A result's name, type and dimensions.
type Named = (String, Shape);

impl Builder<'_> {
    /// Counts the bytes of a constant about to be made.
    pub fn charge(&mut self, shape: &Shape) -> Result<(), Reason> {
        let total = byte_count(shape.0, &shape.1).and_then(|bytes| bytes.checked_add(self.folded_bytes));
        match total.filter(|&total| total <= MAX_FOLDED_BYTES) {
            Some(total) => {
                self.folded_bytes = total;
                Ok(())
            }
            None => invalid(format!("constants made at conversion would exceed {} MiB", MAX_FOLDED_BYTES >> 20)),
        }
    }

    /// The node's results as constants, if all its operands are and it can be evaluated. `None` in `results` are ones that
    /// nobody wants.
    fn fold(&mut self, node: &Node, results: &[Option<Named>]) -> Result<Option<Vec<Tensor>>, Reason> {
        if !node.inputs.iter().flatten().all(|&id| self.graph.constant(id).is_some()) {
            return Ok(None);
        }
        // Dequantized weights stay quantized: turning them into floats would lose what the source knows.
        if matches!(node.op, Op::DequantizeLinear { .. }) {
            return Ok(None);
        }
        let wanted: Vec<&Shape> = results.iter().flatten().map(|(_, shape)| shape).collect();
        if let (Op::Reshape, Some(operand)) = (&node.op, node.input(0).and_then(|id| self.graph.constant(id))) {
            return Ok(operand.reshaped(&wanted[0].1).map(|tensor| vec![tensor]));
        }
        wanted.iter().try_for_each(|shape| self.charge(shape))?;
        match self.evaluator.evaluate(&self.single(node, results)) {
            Ok(tensors) if fits(&tensors, &wanted) => Ok(Some(tensors)),
            Ok(_) => invalid("the evaluator's results do not have the inferred types and shapes"),
            Err(message) => {
                self.notes.push(format!("'{}' ({}) stays in the network: {message}", node.name, node.onnx_op));
                Ok(None)
            }
        }
    }

    /// A graph of this node alone, its operands being constants.
    fn single(&self, node: &Node, results: &[Option<Named>]) -> Graph {
        let mut graph = Graph { name: node.name.clone(), ..Graph::default() };
        let mut operand = |(index, id): (usize, &Option<ValueId>)| {
            let tensor = id.and_then(|id| self.graph.constant(id));
            tensor.map(|tensor| graph.add_const(format!("operand {index}"), tensor.clone()))
        };
        let inputs = node.inputs.iter().enumerate().map(&mut operand).collect();
        let mut result = |(name, (dtype, dims)): &Named| graph.add_value(name, *dtype, dims);
        let outputs: Vec<_> = results.iter().map(|slot| slot.as_ref().map(&mut result)).collect();
        graph.outputs = outputs.iter().copied().flatten().collect();
        graph.nodes.push(Node { inputs, outputs, ..node.clone() });
        graph
    }

    /// Graph inputs that the value depends on.
    fn ancestors(&self, id: ValueId) -> Vec<String> {
        let producers = self.graph.producers();
        let mut seen = HashSet::from([id]);
        let mut pending = vec![id];
        let mut inputs = Vec::new();
        while let Some(id) = pending.pop() {
            if self.graph.inputs.contains(&id) {
                inputs.push(self.graph.value(id).name.clone());
            }
            let node = producers[id.index()].map(|index| &self.graph.nodes[index]);
            pending
                .extend(node.into_iter().flat_map(|node| node.inputs.iter().flatten()).filter(|id| seen.insert(**id)));
        }
        inputs.sort_unstable();
        inputs
    }

    fn fresh_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut count = 1;
        while !self.taken.insert(name.clone()) {
            name = format!("{base}_{count}");
            count += 1;
        }
        name
    }
}

fn fits(tensors: &[Tensor], shapes: &[&Shape]) -> bool {
    tensors.len() == shapes.len()
        && tensors.iter().zip(shapes).all(|(t, (dtype, dims))| t.dtype() == *dtype && t.dims() == dims)
}

/// One node on its way into the graph.
pub(super) struct NodeContext<'b, 'a> {
    pub builder: &'b mut Builder<'a>,
    pub proto: &'a NodeProto,
    pub name: String,
    pub opset: u32,
    inputs: Vec<Option<ValueId>>,
    read_inputs: Vec<bool>,
    read_attributes: HashSet<&'a str>,
    bound: Vec<Option<ValueId>>,
}

impl<'b, 'a> NodeContext<'b, 'a> {
    /// The context of a node whose operands are all known.
    pub fn new(builder: &'b mut Builder<'a>, proto: &'a NodeProto, name: String, opset: u32) -> Self {
        let resolve = |name: &String| builder.names.get(name.as_str()).copied().flatten();
        let inputs: Vec<_> = proto.input.iter().map(resolve).collect();
        let read_inputs = vec![false; inputs.len()];
        let bound = vec![None; proto.output.len()];
        Self { builder, proto, name, opset, inputs, read_inputs, read_attributes: HashSet::new(), bound }
    }

    // Operands.

    /// Number of operands, absent ones in the middle included.
    pub fn operand_count(&self) -> usize {
        self.inputs.len()
    }

    /// Operand `index`, which may be absent.
    pub fn optional(&mut self, index: usize) -> Option<ValueId> {
        *self.read_inputs.get_mut(index)? = true;
        self.inputs[index]
    }

    /// Operand `index`, which must be there.
    pub fn operand(&mut self, index: usize) -> Result<ValueId, Reason> {
        self.optional(index).map_or_else(|| invalid(format!("operand {index} is missing")), Ok)
    }

    /// Operand `index`, if it is there; it must be a constant.
    pub fn constant(&mut self, index: usize) -> Result<Option<Tensor>, Reason> {
        let Some(id) = self.optional(index) else { return Ok(None) };
        match self.builder.graph.constant(id) {
            Some(tensor) => Ok(Some(tensor.clone())),
            None => {
                let operand = self.proto.input[index].clone();
                Err(Reason::NeedsConstant { operand, inputs: self.builder.ancestors(id) })
            }
        }
    }

    /// Operand `index`, if it is there, as integers; it must be a constant of an integer type.
    pub fn const_ints(&mut self, index: usize) -> Result<Option<Vec<i64>>, Reason> {
        let Some(tensor) = self.constant(index)? else { return Ok(None) };
        match tensor.to_i64() {
            Some(ints) if tensor.dims().len() <= 1 => Ok(Some(ints)),
            _ => invalid(format!("operand {index} must be a list of integers")),
        }
    }

    /// Operand `index`, if it is there, as one number of any type; it must be a constant.
    pub fn const_scalar(&mut self, index: usize) -> Result<Option<f64>, Reason> {
        let Some(tensor) = self.constant(index)? else { return Ok(None) };
        match tensor.to_f64()[..] {
            [number] => Ok(Some(number)),
            _ => invalid(format!("operand {index} must be one number")),
        }
    }

    /// A value's dimensions.
    pub fn dims(&self, id: ValueId) -> &[usize] {
        &self.builder.graph.value(id).dims
    }

    /// A value's element type.
    pub fn dtype(&self, id: ValueId) -> DType {
        self.builder.graph.value(id).dtype
    }

    /// A value's type and dimensions.
    pub fn shape(&self, id: ValueId) -> Shape {
        let value = self.builder.graph.value(id);
        (value.dtype, value.dims.clone())
    }

    /// Refuses operands of any type but these.
    pub fn require_dtype(&self, id: ValueId, allowed: &[DType]) -> Result<(), Reason> {
        let dtype = self.dtype(id);
        if allowed.contains(&dtype) {
            return Ok(());
        }
        let allowed: Vec<_> = allowed.iter().map(|dtype| dtype.name()).collect();
        let name = &self.builder.graph.value(id).name;
        Err(Reason::Type(format!("operand '{name}' is {}, supported: {}", dtype.name(), allowed.join(", "))))
    }

    /// Refuses an operand of other dimensions.
    pub fn require_dims(&self, id: ValueId, expected: &[usize]) -> Result<(), Reason> {
        let value = self.builder.graph.value(id);
        if value.dims == expected {
            return Ok(());
        }
        invalid(format!("operand '{}' has dimensions {:?}, expected {expected:?}", value.name, value.dims))
    }

    // Attributes.

    fn attribute(&mut self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>, Reason> {
        let Some(attribute) = self.proto.attribute.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        self.read_attributes.insert(&attribute.name);
        if !attribute.ref_attr_name.is_empty() {
            return bad_attribute(name, "refers to a function's parameter");
        }
        // IR versions before 2 did not store the type.
        if attribute.r#type != kind as i32 && attribute.r#type != 0 {
            return bad_attribute(name, format!("must be of type {kind:?}"));
        }
        Ok(Some(attribute))
    }

    /// Whether the node has this attribute; does not count as reading it.
    pub fn has_attribute(&self, name: &str) -> bool {
        self.proto.attribute.iter().any(|attribute| attribute.name == name)
    }

    /// An integer.
    pub fn int(&mut self, name: &str) -> Result<Option<i64>, Reason> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|attribute| attribute.i.unwrap_or(0)))
    }

    /// An integer that must be 0 or 1.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, Reason> {
        match self.int(name)? {
            None => Ok(default),
            Some(value @ 0..=1) => Ok(value == 1),
            Some(value) => bad_attribute(name, format!("is {value}, must be 0 or 1")),
        }
    }

    /// A number.
    pub fn float(&mut self, name: &str, default: f32) -> Result<f32, Reason> {
        Ok(self.attribute(name, AttributeType::Float)?.map_or(default, |attribute| attribute.f.unwrap_or(0.0)))
    }

    /// A string.
    pub fn string(&mut self, name: &str, default: &'static str) -> Result<&'a str, Reason> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else { return Ok(default) };
        let bytes = attribute.s.as_deref().unwrap_or_default();
        std::str::from_utf8(bytes).or_else(|_| bad_attribute(name, "is not UTF-8"))
    }

    /// A list of integers.
    pub fn ints(&mut self, name: &str) -> Result<Option<&'a [i64]>, Reason> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|attribute| attribute.ints.as_slice()))
    }

    /// A list of numbers.
    pub fn floats(&mut self, name: &str) -> Result<Option<&'a [f32]>, Reason> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|attribute| attribute.floats.as_slice()))
    }

    /// A tensor.
    pub fn tensor(&mut self, name: &str) -> Result<Option<&'a TensorProto>, Reason> {
        match self.attribute(name, AttributeType::Tensor)?.map(|attribute| attribute.t.as_ref()) {
            None => Ok(None),
            Some(Some(tensor)) => Ok(Some(tensor)),
            Some(None) => bad_attribute(name, "holds no tensor"),
        }
    }

    /// Accepts an attribute that means nothing for inference in the types supported here.
    pub fn ignore(&mut self, name: &str) {
        self.read_attributes
            .extend(self.proto.attribute.iter().filter(|attribute| attribute.name == name).map(|a| a.name.as_str()));
    }

    // Results.

    /// Whether somebody reads result `index`.
    pub fn wants(&self, index: usize) -> bool {
        self.proto.output.get(index).is_some_and(|name| self.builder.wanted.contains(name.as_str()))
    }

    /// Adds a node whose results are the ONNX node's, in order; results but the first that nobody wants are dropped.
    pub fn emit(&mut self, op: Op, inputs: &[Option<ValueId>], shapes: &[Shape]) -> Result<(), Reason> {
        let mut named = Vec::with_capacity(shapes.len());
        for (index, shape) in shapes.iter().enumerate() {
            let name = self.proto.output.get(index).filter(|name| !name.is_empty()).cloned();
            named.push(match name {
                Some(name) if index == 0 || self.wants(index) => Some((name, shape.clone())),
                None if index == 0 => Some((self.step_name(), shape.clone())),
                _ => None,
            });
        }
        let ids = self.push(op, inputs, named)?;
        for (slot, id) in self.bound.iter_mut().zip(ids) {
            *slot = id;
        }
        Ok(())
    }

    /// Adds a node with one result, which is the ONNX node's first.
    pub fn emit_one(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> Result<(), Reason> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.emit(op, &inputs, &[shape])
    }

    /// Adds a node whose one result is only a step on the way.
    pub fn step(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> Result<ValueId, Reason> {
        let name = self.step_name();
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let ids = self.push(op, &inputs, vec![Some((name, shape))])?;
        ids[0].map_or_else(|| invalid("a step has no result"), Ok)
    }

    fn step_name(&mut self) -> String {
        self.builder.fresh_name(&format!("{}/step", self.name))
    }

    /// Adds a constant that is only a step on the way.
    pub fn step_const(&mut self, tensor: Tensor) -> ValueId {
        let name = self.builder.fresh_name(&format!("{}/constant", self.name));
        self.builder.graph.add_const(name, tensor)
    }

    /// Makes result `index` a constant. One that is larger than the model's bytes was charged before it was made.
    pub fn bind_const(&mut self, index: usize, tensor: Tensor) -> Result<(), Reason> {
        if let Some(name) = self.proto.output.get(index).filter(|name| !name.is_empty()) {
            check_size(&(tensor.dtype(), tensor.dims().to_vec()))?;
            self.bound[index] = Some(self.builder.graph.add_const(name.clone(), tensor));
        }
        Ok(())
    }

    /// Notes something that the user should know about this node.
    pub fn note(&mut self, message: &str) {
        let note = format!("'{}' ({}): {message}", self.name, self.proto.op_type);
        self.builder.notes.push(note);
    }

    /// Adds the node, or its results as constants where it can be evaluated.
    fn push(
        &mut self,
        op: Op,
        inputs: &[Option<ValueId>],
        results: Vec<Option<Named>>,
    ) -> Result<Vec<Option<ValueId>>, Reason> {
        results.iter().flatten().try_for_each(|(_, shape)| check_size(shape))?;
        let present = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut node = Node {
            name: self.name.clone(),
            onnx_op: self.proto.op_type.clone(),
            opset: self.opset,
            op,
            inputs: inputs[..present].to_vec(),
            outputs: Vec::new(),
        };
        let folded = self.builder.fold(&node, &results)?;
        let graph = &mut self.builder.graph;
        if let Some(tensors) = folded {
            let mut tensors = tensors.into_iter();
            let mut constant = |(name, _)| tensors.next().map(|tensor| graph.add_const(name, tensor));
            return Ok(results.into_iter().map(|slot| slot.and_then(&mut constant)).collect());
        }
        let mut value = |(name, (dtype, dims)): Named| graph.add_value(name, dtype, &dims);
        node.outputs = results.into_iter().map(|slot| slot.map(&mut value)).collect();
        let ids = node.outputs.clone();
        graph.nodes.push(node);
        Ok(ids)
    }

    /// Refuses what the parser left unread or did not provide; otherwise the values of the ONNX node's results.
    pub fn finish(self) -> Result<Vec<Option<ValueId>>, Reason> {
        if let Some(attribute) = self.proto.attribute.iter().find(|a| !self.read_attributes.contains(a.name.as_str())) {
            return bad_attribute(&attribute.name, format!("is not known in opset {}", self.opset));
        }
        if let Some(index) = (0..self.inputs.len()).find(|&i| self.inputs[i].is_some() && !self.read_inputs[i]) {
            return invalid(format!("operand {index} is one too many in opset {}", self.opset));
        }
        let missing = |index: &usize| {
            let name = &self.proto.output[*index];
            !name.is_empty() && self.bound[*index].is_none() && self.builder.wanted.contains(name.as_str())
        };
        match (0..self.proto.output.len()).find(missing) {
            Some(index) => invalid(format!("result {index} ('{}') is not supported", self.proto.output[index])),
            None => Ok(self.bound),
        }
    }
}

fn check_size((dtype, dims): &Shape) -> Result<(), Reason> {
    let small = dims.len() <= MAX_RANK && dims.iter().all(|&dim| dim <= MAX_DIM);
    if small && byte_count(*dtype, dims).is_some() {
        return Ok(());
    }
    invalid(format!("the result would have dimensions {:?}, which is too large", &dims[..dims.len().min(MAX_RANK)]))
}
