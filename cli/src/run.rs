//! `sparrow run`.

use crate::arrays::{read_argument, read_npz, write_npy};
use crate::fail::{Failure, Outcome, at, fail};
use crate::picture;
use crate::table::shape;
use sparrow::{Model, Options, Session, TensorInfo};
use sparrow_convert::ir::{DType, Tensor};
use std::path::{Path, PathBuf};

/// Runs a Sparrow file once.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The Sparrow file.
    pub model: PathBuf,
    /// An array for an input; without a name, for the next one. An .npz gives arrays by name.
    #[arg(long, value_name = "[NAME=]X.npy|X.npz")]
    pub input: Vec<String>,
    #[command(flatten)]
    pub picture: picture::Args,
    /// Where to write an output; without a name, the next one.
    #[arg(long, value_name = "[NAME=]Y.npy")]
    pub output: Vec<String>,
    /// Names of the classes, one a line: prints the best five.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

pub fn run(args: &Args) -> Outcome {
    let model = Model::open(&args.model)?;
    let mut session = Session::new(&model, &Options { threads: args.threads, ..Options::default() })?;
    let inputs = session.inputs();
    let mut given = vec![false; inputs.len()];
    if let Some(path) = &args.picture.image {
        let info = inputs.first().ok_or(Failure("the model has no input".into()))?;
        let elements = picture::load(&args.picture, path, &info.dims)?;
        write_floats(&mut session, 0, info, &elements)?;
        given[0] = true;
    }
    for argument in &args.input {
        give(&mut session, &inputs, &mut given, argument)?;
    }
    if let Some(missing) = given.iter().position(|g| !g) {
        let info = &inputs[missing];
        return fail(format!(
            "input '{}' ({} {}) is missing: give --input {}=FILE.npy",
            info.name,
            info.dtype.name(),
            shape(&info.dims),
            info.name
        ));
    }
    session.run()?;
    let outputs = session.outputs();
    for (index, argument) in args.output.iter().enumerate() {
        let (index, path) = match argument.split_once('=') {
            Some((name, path)) => (find(&outputs, name, "output")?, path),
            None => (index, argument.as_str()),
        };
        let Some(info) = outputs.get(index) else {
            return fail(format!("the model has {} outputs, --output {argument} is one too many", outputs.len()));
        };
        write_npy(Path::new(path), info.dtype, &info.dims, session.output_bytes(index)?)?;
    }
    for (index, info) in outputs.iter().enumerate() {
        println!("{} {} {}{}", info.name, info.dtype.name(), shape(&info.dims), summary(&session, index, info)?);
    }
    match &args.labels {
        Some(path) => best(&session, path),
        None => Ok(()),
    }
}

/// Writes one `--input` into the session.
fn give(session: &mut Session, inputs: &[TensorInfo], given: &mut [bool], argument: &str) -> Outcome {
    if argument.ends_with(".npz") {
        for (name, tensor) in read_npz(Path::new(argument))? {
            let index = find(inputs, &name, "input")?;
            write(session, index, &inputs[index], &tensor)?;
            given[index] = true;
        }
        return Ok(());
    }
    let (name, tensor) = read_argument(argument)?;
    let index = match name {
        Some(name) => find(inputs, &name, "input")?,
        None => given.iter().position(|g| !g).ok_or_else(|| {
            Failure(format!("--input {argument} is one too many: the model has {} inputs", inputs.len()))
        })?,
    };
    write(session, index, &inputs[index], &tensor)?;
    given[index] = true;
    Ok(())
}

fn find(tensors: &[TensorInfo], name: &str, role: &str) -> Outcome<usize> {
    let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
    names
        .iter()
        .position(|n| *n == name)
        .ok_or_else(|| Failure(format!("there is no {role} '{name}'; there are: {}", names.join(", "))))
}

/// Writes an array into an input: floats may be half as wide as the array's.
pub fn write(session: &mut Session, index: usize, info: &TensorInfo, tensor: &Tensor) -> Outcome {
    if tensor.len() != info.dims.iter().product::<usize>() {
        return fail(format!(
            "input '{}' has shape {}, the array {}",
            info.name,
            shape(&info.dims),
            shape(tensor.dims())
        ));
    }
    if tensor.dtype() == info.dtype {
        session.input_bytes_mut(index)?.copy_from_slice(tensor.bytes());
        return Ok(());
    }
    match tensor.elements::<f32>() {
        Some(elements) => write_floats(session, index, info, &elements),
        None => fail(format!(
            "input '{}' takes {}, the array holds {}",
            info.name,
            info.dtype.name(),
            tensor.dtype().name()
        )),
    }
}

/// Writes floats into an input of any float type, or pixels into one of bytes.
fn write_floats(session: &mut Session, index: usize, info: &TensorInfo, elements: &[f32]) -> Outcome {
    match info.dtype {
        DType::F32 => session.input_mut::<f32>(index)?.copy_from_slice(elements),
        DType::F16 => {
            for (to, from) in session.input_mut::<u16>(index)?.iter_mut().zip(elements) {
                *to = half::f16::from_f32(*from).to_bits();
            }
        }
        other => return fail(format!("input '{}' takes {}: convert the array", info.name, other.name())),
    }
    Ok(())
}

/// Least, mean and greatest element of a float output.
fn summary(session: &Session, index: usize, info: &TensorInfo) -> Outcome<String> {
    if info.dtype != DType::F32 || info.dims.contains(&0) {
        return Ok(String::new());
    }
    let y = session.output::<f32>(index)?;
    let (low, high) = y.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / y.len() as f64;
    Ok(format!("  min {low:.4}  mean {mean:.4}  max {high:.4}"))
}

/// Prints the five best classes of the first output.
fn best(session: &Session, labels: &Path) -> Outcome {
    let text = std::fs::read_to_string(labels).map_err(at(labels))?;
    let labels: Vec<&str> = text.lines().collect();
    let scores = session.output::<f32>(0)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    for &class in order.iter().take(5) {
        println!("{:10.4}  {:5}  {}", scores[class], class, labels.get(class).copied().unwrap_or("(no label)"));
    }
    Ok(())
}
