//! From an ONNX model to the [`ir`](crate::ir): shapes inferred, constants folded, versions normalised.
//!
//! ```text
//! inputs fixed --> for every node: look its operator up in the table, let the parser read attributes and operands and
//!                  add typed nodes; what depends on constants alone is evaluated on the spot
//!              --> dead nodes removed, graph validated
//! ```
//!
//! One walk suffices because every shape is known as soon as the inputs' are: `Shape` is a constant, and so is the
//! arithmetic exporters do on it. A node that cannot be imported is noted and its results are marked; nodes that read
//! them are checked only for what does not depend on them, and at the end all refusals are reported together.
//!
//! Supported are ONNX's own operators of opsets 7 to 22. Each parser states from which version on it understands its
//! operator, and later versions up to [`NEWEST_OPSET`], which only add element types to these operators, are read too.
//!
//! Source: onnx/docs/Operators.md and Changelog.md of the ONNX project.

mod constants;
mod context;
mod elementwise;
mod error;
mod layout;
mod linear;
mod normalization;
mod quantization;
mod reduction;
mod resize;
mod table;
mod views;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ir::{DType, Graph, Tensor};
use crate::onnx::Model;
use crate::onnx::proto::{DataType, Dim, GraphProto, ModelProto, NodeProto, TensorTypeProto, ValueInfoProto};
use crate::onnx::tensor::{checked_dims, dtype_of, read_tensor};

pub use context::Evaluate;
use context::{Builder, NodeContext};
pub use error::{ImportError, Reason, Refusal, UnknownShape};

/// The newest version of the operator set whose operators these parsers know.
pub const NEWEST_OPSET: u32 = 27;

/// What the caller decides about a model's inputs.
#[derive(Clone, Default, Debug)]
pub struct ImportOptions {
    /// Dimensions of graph inputs by name. They fix what the model leaves open and may replace what it fixes. A symbol
    /// fixed through one input is fixed in the others.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Graph inputs that become constants, by name.
    pub input_values: BTreeMap<String, Tensor>,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub graph: Graph,
    /// What the user should know: types that were widened, nodes that were left in the network.
    pub notes: Vec<String>,
}

/// Imports a model. Constant subgraphs are computed by `evaluator`; where it fails the nodes stay.
pub fn import(model: &Model, options: &ImportOptions, evaluator: &mut dyn Evaluate) -> Result<Imported, ImportError> {
    let opset = opset(&model.proto)?;
    let Some(proto) = &model.proto.graph else { return Err(ImportError::Malformed("it holds no graph".into())) };
    if !proto.sparse_initializer.is_empty() {
        return Err(ImportError::Malformed("sparse initializers are not supported".into()));
    }
    let mut builder = Builder {
        graph: Graph { name: proto.name.clone(), ..Graph::default() },
        notes: Vec::new(),
        names: HashMap::new(),
        taken: proto.node.iter().flat_map(|node| node.output.iter().cloned()).collect(),
        wanted: wanted(proto),
        directory: model.directory.as_deref(),
        evaluator,
        folded_bytes: 0,
    };
    add_initializers(&mut builder, proto)?;
    add_inputs(&mut builder, proto, options)?;
    let refusals = add_nodes(&mut builder, proto, opset)?;
    if !refusals.is_empty() {
        return Err(ImportError::Refused(refusals));
    }
    for output in &proto.output {
        match builder.names.get(output.name.as_str()) {
            Some(&Some(id)) => builder.graph.outputs.push(id),
            _ => return Err(ImportError::Malformed(format!("output '{}' is never computed", output.name))),
        }
    }
    let Builder { mut graph, notes, .. } = builder;
    graph.remove_dead();
    graph.validate().map_err(ImportError::Malformed)?;
    Ok(Imported { graph, notes })
}

fn opset(model: &ModelProto) -> Result<u32, ImportError> {
    let mut versions = model.opset_import.iter().filter(|set| is_onnx_domain(&set.domain)).map(|set| set.version);
    let Some(version) = versions.next() else {
        return Err(ImportError::Opset("the model does not say which version of ONNX's operators it uses".into()));
    };
    u32::try_from(version).ok().filter(|version| (1..=NEWEST_OPSET).contains(version)).ok_or_else(|| {
        ImportError::Opset(format!(
            "the model uses opset {version}, supported are 7 to 22 (and up to {NEWEST_OPSET}, where little changed); \
             convert it with onnx.version_converter"
        ))
    })
}

fn is_onnx_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Names that nodes or graph outputs read.
fn wanted(proto: &GraphProto) -> HashSet<&str> {
    let read = proto.node.iter().flat_map(|node| &node.input).map(String::as_str);
    read.chain(proto.output.iter().map(|output| output.name.as_str())).filter(|name| !name.is_empty()).collect()
}

fn define<'a>(builder: &mut Builder<'a>, name: &'a str) -> Result<(), ImportError> {
    if name.is_empty() {
        return Err(ImportError::Malformed("an input or initializer has no name".into()));
    }
    if !builder.taken.insert(name.to_owned()) {
        return Err(ImportError::Malformed(format!("'{name}' is defined twice")));
    }
    Ok(())
}

fn add_initializers<'a>(builder: &mut Builder<'a>, proto: &'a GraphProto) -> Result<(), ImportError> {
    let mut widened = 0;
    for initializer in &proto.initializer {
        define(builder, &initializer.name)?;
        let tensor = read_tensor(initializer, builder.directory)
            .map_err(|source| ImportError::Initializer { name: initializer.name.clone(), source })?;
        widened += usize::from(dtype_of(initializer.data_type).is_ok_and(|(_, widened)| widened));
        let id = builder.graph.add_const(&initializer.name, tensor);
        builder.names.insert(&initializer.name, Some(id));
    }
    if widened > 0 {
        builder.notes.push(format!("{widened} initializers in half, bfloat16 or double precision became f32"));
    }
    Ok(())
}

fn add_inputs<'a>(
    builder: &mut Builder<'a>,
    proto: &'a GraphProto,
    options: &ImportOptions,
) -> Result<(), ImportError> {
    // Up to IR version 3 every initializer is listed as an input, too.
    let inputs: Vec<_> = proto.input.iter().filter(|input| !builder.names.contains_key(input.name.as_str())).collect();
    let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
    let given = options.input_shapes.keys().chain(options.input_values.keys());
    if let Some(name) = given.into_iter().find(|name| !names.contains(&name.as_str())) {
        let names = names.join("', '");
        return Err(ImportError::Options(format!("the model has no input '{name}'; its inputs are '{names}'")));
    }
    let symbols = symbols(&inputs, options);
    let mut unknown = Vec::new();
    for input in inputs {
        define(builder, &input.name)?;
        let declared = Declared::new(input)?;
        if let Some(value) = options.input_values.get(&input.name) {
            declared.check_value(value)?;
            let id = builder.graph.add_const(&input.name, value.clone());
            builder.names.insert(&input.name, Some(id));
            continue;
        }
        if declared.widened {
            builder.notes.push(format!("input '{}' is f32 here, half precision in the source", input.name));
        }
        match declared.dims(options.input_shapes.get(&input.name), &symbols)? {
            Ok(dims) => {
                let id = builder.graph.add_value(&input.name, declared.dtype, &dims);
                builder.graph.inputs.push(id);
                builder.names.insert(&input.name, Some(id));
            }
            Err(shape) => unknown.push(shape),
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(ImportError::UnknownShapes(unknown)) }
}

/// Symbols that the given shapes fix.
fn symbols<'a>(inputs: &[&'a ValueInfoProto], options: &ImportOptions) -> HashMap<&'a str, i64> {
    let mut symbols = HashMap::new();
    for input in inputs {
        let Some(given) = options.input_shapes.get(&input.name) else { continue };
        let declared = tensor_type(input).and_then(|tensor| tensor.shape.as_ref());
        for (dim, &number) in declared.into_iter().flat_map(|shape| &shape.dim).zip(given) {
            if let (Some(Dim::Param(symbol)), Ok(number)) = (&dim.value, i64::try_from(number)) {
                symbols.entry(symbol.as_str()).or_insert(number);
            }
        }
    }
    symbols
}

fn tensor_type(input: &ValueInfoProto) -> Option<&TensorTypeProto> {
    input.r#type.as_ref()?.tensor_type.as_ref()
}

/// What the model says about one of its inputs.
struct Declared<'a> {
    name: &'a str,
    dtype: DType,
    widened: bool,
    dims: Option<Vec<Option<&'a Dim>>>,
}

impl<'a> Declared<'a> {
    fn new(input: &'a ValueInfoProto) -> Result<Self, ImportError> {
        let name = input.name.as_str();
        let error = |reason: String| ImportError::Input { name: name.into(), reason };
        let tensor = tensor_type(input).ok_or_else(|| error("is not a tensor".into()))?;
        // Weights in double are narrowed, but a caller who provides doubles would get another result than he expects.
        if tensor.elem_type == DataType::Double as i32 {
            return Err(error("element type double is not supported for inputs; convert the model to f32".into()));
        }
        let (dtype, widened) = dtype_of(tensor.elem_type).map_err(|e| error(e.to_string()))?;
        let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| dim.value.as_ref()).collect());
        Ok(Self { name, dtype, widened, dims })
    }

    /// The dimensions to import the input with, or what is missing.
    fn dims(
        &self,
        given: Option<&Vec<usize>>,
        symbols: &HashMap<&str, i64>,
    ) -> Result<Result<Vec<usize>, UnknownShape>, ImportError> {
        let error = |reason: String| ImportError::Input { name: self.name.into(), reason };
        if let Some(given) = given {
            if let Some(declared) = self.dims.as_ref().filter(|declared| declared.len() != given.len()) {
                let (has, want) = (given.len(), declared.len());
                return Err(error(format!("the given shape has {has} dimensions, the model declares {want}")));
            }
            let given: Vec<_> = given.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect();
            return checked_dims(&given).map(Ok).map_err(|e| error(e.to_string()));
        }
        let known = |dim: &Option<&Dim>| match dim {
            Some(Dim::Value(number)) if *number >= 0 => Some(*number),
            Some(Dim::Param(symbol)) => symbols.get(symbol.as_str()).copied(),
            _ => None,
        };
        let known: Option<Vec<_>> = self.dims.as_ref().map(|dims| dims.iter().map(known).collect());
        match known.as_ref().and_then(|dims| dims.iter().copied().collect::<Option<Vec<i64>>>()) {
            Some(dims) => checked_dims(&dims).map(Ok).map_err(|e| error(e.to_string())),
            None => Ok(Err(self.unknown(known.as_deref()))),
        }
    }

    fn unknown(&self, known: Option<&[Option<i64>]>) -> UnknownShape {
        let text = |dim: &Option<&Dim>| match dim {
            Some(Dim::Value(number)) => number.to_string(),
            Some(Dim::Param(symbol)) => symbol.clone(),
            None => "?".into(),
        };
        // The first dimension is usually the batch, the last ones a picture's.
        let guess = |(index, dim): (usize, &Option<i64>)| {
            dim.and_then(|dim| usize::try_from(dim).ok()).unwrap_or(if index == 0 { 1 } else { 224 })
        };
        UnknownShape {
            name: self.name.into(),
            dims: self.dims.as_ref().map(|dims| dims.iter().map(text).collect()),
            example: known.map_or(vec![1, 3, 224, 224], |dims| dims.iter().enumerate().map(guess).collect()),
        }
    }

    fn check_value(&self, value: &Tensor) -> Result<(), ImportError> {
        let fits = |(dim, &actual): (&Option<&Dim>, &usize)| match dim {
            Some(Dim::Value(number)) => *number < 0 || usize::try_from(*number) == Ok(actual),
            _ => true,
        };
        let dims = value.dims();
        let dims_fit = self
            .dims
            .as_ref()
            .is_none_or(|declared| declared.len() == dims.len() && declared.iter().zip(dims).all(fits));
        if value.dtype() == self.dtype && dims_fit {
            return Ok(());
        }
        let reason =
            format!("the given value ({} {dims:?}) does not fit what the model declares", value.dtype().name());
        Err(ImportError::Input { name: self.name.into(), reason })
    }
}

/// Adds every node; returns the ones that cannot be.
fn add_nodes<'a>(builder: &mut Builder<'a>, proto: &'a GraphProto, opset: u32) -> Result<Vec<Refusal>, ImportError> {
    let mut refusals = Vec::new();
    for (index, node) in proto.node.iter().enumerate() {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !builder.names.contains_key(name.as_str()) {
                let message = format!("node {index} ({}) reads '{name}' before anything defines it", node.op_type);
                return Err(ImportError::Malformed(message));
            }
        }
        let name = if node.name.is_empty() { format!("{}_{index}", node.op_type) } else { node.name.clone() };
        let bound = add_node(builder, node, name.clone(), opset).unwrap_or_else(|reason| {
            let operator = if is_onnx_domain(&node.domain) {
                node.op_type.clone()
            } else {
                format!("{}.{}", node.domain, node.op_type)
            };
            refusals.push(Refusal { node: name, operator, opset, reason });
            Vec::new()
        });
        for (index, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            if builder.names.insert(output, bound.get(index).copied().flatten()).is_some() {
                return Err(ImportError::Malformed(format!("'{output}' is defined twice")));
            }
        }
    }
    Ok(refusals)
}

/// Adds one node; returns the values of its results. A node that reads the result of a refused one is looked up only.
fn add_node<'a>(
    builder: &mut Builder<'a>,
    node: &'a NodeProto,
    name: String,
    opset: u32,
) -> Result<Vec<Option<crate::ir::ValueId>>, Reason> {
    let operator = if is_onnx_domain(&node.domain) { table::find(&node.op_type) } else { None };
    let operator = operator.ok_or(Reason::Operator)?;
    operator.check_version(opset)?;
    let poisoned = |name: &String| !name.is_empty() && builder.names.get(name.as_str()) == Some(&None);
    if node.input.iter().any(poisoned) {
        return Ok(Vec::new());
    }
    let mut context = NodeContext::new(builder, node, name, opset);
    (operator.import)(&mut context)?;
    context.finish()
}
