//! Why a model is refused. Everything that is wrong with its nodes is collected and said at once.

use std::fmt;

use crate::onnx::tensor::TensorError;

/// Why a model cannot be imported.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ImportError {
    /// The model does not say which version of ONNX's operators it uses, or a version that is not known.
    #[error("{0}")]
    Opset(String),
    /// The message contradicts itself: names defined twice or never, no graph.
    #[error("the model is malformed: {0}")]
    Malformed(String),
    /// An initializer cannot be used.
    #[error("initializer '{name}': {source}")]
    Initializer {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: TensorError,
    },
    /// A graph input is no tensor of a supported type.
    #[error("input '{name}': {reason}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The options name inputs that the model lacks, or give them impossible shapes or values.
    #[error("{0}")]
    Options(String),
    /// Inputs whose shape the model leaves open and the options do not fix.
    #[error("{}", UnknownShapes(.0))]
    UnknownShapes(Vec<UnknownShape>),
    /// Nodes that cannot be imported, all of them.
    #[error("{}", Refusals(.0))]
    Refused(Vec<Refusal>),
}

impl ImportError {
    /// Graph inputs that must be constants (reshape targets, axes, `k` ...) for some refused nodes to be imported: give
    /// them as [`ImportOptions::input_values`](super::ImportOptions::input_values) and import again. Empty if no node is
    /// refused for that reason. Further ones may come up once these are known.
    pub fn needs_constant(&self) -> Vec<&str> {
        let Self::Refused(refusals) = self else { return Vec::new() };
        let mut names: Vec<&str> = refusals
            .iter()
            .filter_map(|refusal| match &refusal.reason {
                Reason::NeedsConstant { inputs, .. } => Some(inputs),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A graph input whose shape is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownShape {
    /// The input.
    pub name: String,
    /// Its dimensions as declared, symbols included; `None`: not even their number is declared.
    pub dims: Option<Vec<String>>,
    /// A shape that would fit.
    pub example: Vec<usize>,
}

struct UnknownShapes<'a>(&'a [UnknownShape]);

impl fmt::Display for UnknownShapes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every shape must be fixed before a model can be converted; give")?;
        for UnknownShape { name, dims, example } in self.0 {
            let example: Vec<_> = example.iter().map(usize::to_string).collect();
            write!(f, " --input-shape {name}={}", example.join("x"))?;
            match dims {
                Some(dims) => write!(f, " (the model declares {name}: [{}])", dims.join(", "))?,
                None => write!(f, " (the model declares no dimensions for {name})")?,
            }
        }
        Ok(())
    }
}

/// One node that cannot be imported.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    /// Its name.
    pub node: String,
    /// Its operator, with the domain where that is not ONNX's.
    pub operator: String,
    /// The operator set's version the model asks for.
    pub opset: u32,
    /// What is wrong.
    pub reason: Reason,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ({}, opset {}): {}", self.node, self.operator, self.opset, self.reason)
    }
}

struct Refusals<'a>(&'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} node{} cannot be imported:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|refusal| write!(f, "\n  {refusal}"))
    }
}

/// Why a node cannot be imported.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Reason {
    /// No such operator here.
    #[error("the operator is not supported")]
    Operator,
    /// The operator exists, but not in this version of the operator set.
    #[error("the operator is supported {0} only")]
    Version(String),
    /// An attribute that the operator does not have in this version, or has with another type or value.
    #[error("attribute '{name}' {problem}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An operand's value must be known at conversion and is not.
    #[error("operand '{operand}' must be a constant, but is computed {}", origin(inputs))]
    NeedsConstant {
        /// ONNX's name of the operand.
        operand: String,
        /// Graph inputs that its value depends on.
        inputs: Vec<String>,
    },
    /// Element types that the operator or this program does not support.
    #[error("{0}")]
    Type(String),
    /// Anything else that does not fit: operands missing, shapes that contradict each other, unsupported variants.
    #[error("{0}")]
    Invalid(String),
}

fn origin(inputs: &[String]) -> String {
    match inputs {
        [] => "by nodes that could not be evaluated".into(),
        _ => format!("from input '{}'", inputs.join("', '")),
    }
}

impl From<TensorError> for Reason {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Type(_) => Self::Type(error.to_string()),
            _ => Self::Invalid(error.to_string()),
        }
    }
}

/// Shorthand for [`Reason::Invalid`].
pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T, Reason> {
    Err(Reason::Invalid(message.into()))
}

/// Shorthand for [`Reason::Attribute`].
pub(super) fn bad_attribute<T>(name: &str, problem: impl Into<String>) -> Result<T, Reason> {
    Err(Reason::Attribute { name: name.into(), problem: problem.into() })
}
