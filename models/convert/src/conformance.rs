//! The ONNX project's own cases, run through the whole converter and the runtime.
//!
//! A case is a directory with `model.onnx` and data sets `test_data_set_N/{input,output}_M.pb`. What ONNX calls inputs may
//! have to be known at conversion here (weights, reshape targets): such a case is imported again with those inputs bound
//! as constants, which is how a real model holds them. Tolerances are the ones of ONNX's own runner: floats 1e-3 relative
//! (1e-5 absolute), integers exact.

use crate::evaluate::{Evaluator, Runner, outputs};
use crate::import::{ImportError, ImportOptions, import};
use crate::ir::{Graph, Tensor};
use crate::lower::{self, lower};
use crate::onnx::Model;
use crate::onnx::proto::{GraphProto, TensorProto};
use crate::onnx::tensor::read_tensor;
use crate::passes::simplify;
use crate::program::Program;
use crate::settings::Settings;
use prost::Message;
use sparrow_kernels::Kernels;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Relative and absolute tolerance for floats.
const TOLERANCE: (f64, f64) = (1e-3, 1e-5);

/// What became of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Every output of every data set is right.
    Passed,
    /// It was converted, and something is wrong.
    Failed(String),
    /// The converter refuses it, and says why.
    Unsupported(String),
}

/// The cases of one operator, by name.
pub type Cases = BTreeMap<String, Outcome>;

/// What became of all cases, by operator. Cases of several nodes go by the name `(functions)`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Operators and their cases.
    pub operators: BTreeMap<String, Cases>,
}

impl Report {
    /// Numbers of cases passed, failed and not supported.
    pub fn totals(&self) -> [usize; 3] {
        let mut totals = [0; 3];
        for outcome in self.operators.values().flat_map(Cases::values) {
            totals[match outcome {
                Outcome::Passed => 0,
                Outcome::Failed(_) => 1,
                Outcome::Unsupported(_) => 2,
            }] += 1;
        }
        totals
    }
}

/// Runs every case in a directory, in order of name.
///
/// # Errors
/// If the directory cannot be listed.
pub fn run(directory: &Path, kernels: &Kernels) -> std::io::Result<Report> {
    let mut paths =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.join("model.onnx").is_file());
    paths.sort();
    let mut report = Report::default();
    for path in paths {
        // A defect in one case must not hide the others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&path, kernels)));
        let (operator, outcome) = outcome.unwrap_or_else(|_| ("(panic)".into(), Outcome::Failed("panicked".into())));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        report.operators.entry(operator).or_default().insert(name, outcome);
    }
    Ok(report)
}

fn case(path: &Path, kernels: &Kernels) -> (String, Outcome) {
    let model = match Model::read(&path.join("model.onnx")) {
        Ok(model) => model,
        Err(error) => return ("(unreadable)".into(), Outcome::Unsupported(error.to_string())),
    };
    let Some(proto) = &model.proto.graph else {
        return ("(unreadable)".into(), Outcome::Unsupported("no graph".into()));
    };
    let operator = match &proto.node[..] {
        [node] => node.op_type.clone(),
        _ => "(functions)".into(),
    };
    for set in (0..).map(|i| path.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
        let outcome = data_set(&model, proto, &set, kernels);
        if outcome != Outcome::Passed {
            return (operator, outcome);
        }
    }
    (operator, Outcome::Passed)
}

/// The tensors `kind_0.pb`, `kind_1.pb`... of a data set; an empty file is an absent optional one.
fn tensors(set: &Path, kind: &str) -> Result<Vec<Option<Tensor>>, String> {
    let files: Vec<PathBuf> =
        (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|file| file.is_file()).collect();
    let read = |file: &PathBuf| {
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let proto = TensorProto::decode(&bytes[..]).map_err(|error| format!("{kind} is no tensor: {error}"))?;
        read_tensor(&proto, None).map(Some).map_err(|error| format!("{kind}: {error}"))
    };
    files.iter().map(read).collect()
}

fn data_set(model: &Model, proto: &GraphProto, set: &Path, kernels: &Kernels) -> Outcome {
    let (given, expected) = match (tensors(set, "input"), tensors(set, "output")) {
        (Ok(given), Ok(expected)) => (given, expected),
        (Err(reason), _) | (_, Err(reason)) => return Outcome::Unsupported(reason),
    };
    let names = proto.input.iter().map(|input| input.name.clone());
    let given: BTreeMap<String, Tensor> = names.zip(given).filter_map(|(name, tensor)| Some((name, tensor?))).collect();
    let (graph, program) = match convert(model, &given, kernels) {
        Ok(converted) => converted,
        Err(reason) => return Outcome::Unsupported(reason),
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().filter_map(|&id| given.get(&graph.value(id).name).cloned()).collect();
    let results = match Runner::new(&program, kernels).run(&inputs, outputs) {
        Ok(results) => results,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    if results.len() != expected.len() {
        return Outcome::Failed(format!("{} outputs, expected {}", results.len(), expected.len()));
    }
    for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
        if let Some(difference) = expected.as_ref().and_then(|expected| difference(result, expected)) {
            return Outcome::Failed(format!("output {index}: {difference}"));
        }
    }
    Outcome::Passed
}

/// Imports and lowers a case, binding inputs as constants where that is needed.
fn convert(model: &Model, given: &BTreeMap<String, Tensor>, kernels: &Kernels) -> Result<(Graph, Program), String> {
    let mut options = ImportOptions::default();
    loop {
        options.input_shapes = given
            .iter()
            .filter(|(name, _)| !options.input_values.contains_key(*name))
            .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()))
            .collect();
        let error = match import(model, &options, &mut Evaluator::new(kernels)) {
            Ok(mut imported) => {
                simplify(&mut imported.graph);
                match lower(&imported.graph, &Settings::default()) {
                    Ok(lowered) => return Ok((imported.graph, lowered.program)),
                    Err(error) => ConvertError::Lower(error),
                }
            }
            Err(error) => ConvertError::Import(error),
        };
        let before = options.input_values.len();
        for name in error.wanted() {
            if let Some(value) = given.get(name) {
                options.input_values.insert(name.to_owned(), value.clone());
            }
        }
        if options.input_values.len() == before {
            return Err(error.to_string());
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConvertError {
    #[error(transparent)]
    Import(ImportError),
    #[error(transparent)]
    Lower(lower::Error),
}

impl ConvertError {
    /// Inputs that must be constants.
    fn wanted(&self) -> Vec<&str> {
        match self {
            Self::Import(error) => error.needs_constant(),
            Self::Lower(lower::Error::NotConstant { value, .. }) => vec![value],
            Self::Lower(_) => Vec::new(),
        }
    }
}

/// How a result differs from what was expected, if it does.
fn difference(result: &Tensor, expected: &Tensor) -> Option<String> {
    if result.dtype() != expected.dtype() || result.dims() != expected.dims() {
        let text = |tensor: &Tensor| format!("{} {:?}", tensor.dtype().name(), tensor.dims());
        return Some(format!("is {}, expected {}", text(result), text(expected)));
    }
    if result.bytes() == expected.bytes() {
        return None;
    }
    if let (Some(a), Some(b)) = (result.to_i64(), expected.to_i64()) {
        let at = (0..a.len()).find(|&i| a[i] != b[i])?;
        return Some(format!("element {at} is {}, expected {}", a[at], b[at]));
    }
    let (a, b) = (result.to_f64(), expected.to_f64());
    let (relative, absolute) = TOLERANCE;
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= absolute + relative * b.abs();
    let at = (0..a.len()).find(|&i| !close(a[i], b[i]))?;
    Some(format!("element {at} is {}, expected {}", a[at], b[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        let floats = |elements: &[f32]| Tensor::from_slice(&[elements.len()], elements).unwrap();
        let cases: [(Tensor, Tensor, bool); 6] = [
            (floats(&[1.0, f32::NAN]), floats(&[1.0005, f32::NAN]), true),
            (floats(&[1.0, 2.0]), floats(&[1.0, 2.01]), false),
            (floats(&[f32::INFINITY]), floats(&[f32::INFINITY]), true),
            (floats(&[f32::INFINITY]), floats(&[1.0]), false),
            (Tensor::scalar(3i64), Tensor::scalar(4i64), false),
            (Tensor::scalar(3i64), Tensor::scalar(3i32), false),
        ];
        for (result, expected, same) in cases {
            assert_eq!(difference(&result, &expected).is_none(), same, "{result:?} {expected:?}");
        }
    }
}
