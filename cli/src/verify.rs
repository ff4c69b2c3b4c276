//! `sparrow verify`.

use crate::arrays::{read_argument, read_npy};
use crate::convert::Inputs;
use crate::fail::{Failure, Outcome, at, fail};
use crate::run::write;
use crate::table::table;
use serde_json::json;
use sparrow::runtime::{self, Step};
use sparrow::{DType, Model, Options, Session};
use sparrow_convert::evaluate::Reference;
use sparrow_convert::ir::Tensor;
use sparrow_convert::pipeline::{Sample, arrange, load, noise};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Compares a Sparrow file with its source evaluated in f32, layer by layer.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The Sparrow file.
    pub model: PathBuf,
    /// The ONNX file it was converted from, or a folder with an .npy file for each value to compare (and each input).
    #[arg(long, value_name = "MODEL.onnx|DIR")]
    pub against: PathBuf,
    /// An input of both; noise in -1..1 where none is given.
    #[arg(long, value_name = "[NAME=]X.npy")]
    pub input: Vec<String>,
    #[command(flatten)]
    pub inputs: Inputs,
    /// Least signal-to-noise ratio, in dB, of every output. 20 (int8) or 80 (f32) when not given.
    #[arg(long, value_name = "DB")]
    pub least: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A value compared.
struct Compared {
    name: String,
    dtype: DType,
    snr: f64,
    worst: f32,
    output: bool,
}

pub fn run(args: &Args) -> Outcome {
    let model = Model::open(&args.model)?;
    let mut session = Session::new(&model, &Options::default())?;
    let (reference, sample) = if args.against.is_dir() { arrays(&args.against)? } else { source(args)? };
    let inputs = session.inputs();
    for (index, info) in inputs.iter().enumerate() {
        let tensor = sample.get(&info.name).ok_or_else(|| {
            Failure(format!("{}: there is no array for input '{}'", args.against.display(), info.name))
        })?;
        write(&mut session, index, info, tensor)?;
    }
    let compared = compare(&mut session, &reference)?;
    let outputs: Vec<_> = compared.iter().filter(|c| c.output).collect();
    if outputs.is_empty() {
        return fail(format!("{}: no output of {} is among its values", args.against.display(), args.model.display()));
    }
    let quantized = compared.iter().any(|c| c.dtype == DType::I8);
    let half = compared.iter().any(|c| c.dtype == DType::F16);
    let least = args.least.unwrap_or(if quantized {
        20.0
    } else if half {
        40.0
    } else {
        80.0
    });
    let passed = outputs.iter().all(|c| c.snr >= least);
    report(args, &compared, least, passed);
    if passed {
        Ok(())
    } else {
        fail(format!("{} does not agree with {}", args.model.display(), args.against.display()))
    }
}

type Values = HashMap<String, Tensor>;

/// Every value of the source network, evaluated in f32, and the inputs that gave them.
fn source(args: &Args) -> Outcome<(Values, Sample)> {
    let kernels = sparrow::kernels(sparrow::detect());
    let onnx = sparrow_convert::onnx::Model::read(&args.against)?;
    let (graph, _) = load(&onnx, &args.inputs.options()?, &kernels).map_err(at(&args.against))?;
    let mut sample = noise(&graph, 1).remove(0);
    for (index, argument) in args.input.iter().enumerate() {
        let (name, tensor) = read_argument(argument)?;
        let name = name.or_else(|| graph.inputs.get(index).map(|&id| graph.value(id).name.clone()));
        sample.insert(name.ok_or_else(|| Failure(format!("--input {argument} is one too many")))?, tensor);
    }
    let inputs = arrange(&graph, &sample).map_err(Failure)?;
    let values = Reference::new(&graph, &kernels)?.run(&inputs)?;
    Ok((values.into_iter().collect(), sample))
}

/// Every array of a folder, by file name.
fn arrays(folder: &Path) -> Outcome<(Values, Sample)> {
    let mut values = Values::new();
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if let (Some("npy"), Some(name)) =
            (path.extension().and_then(|e| e.to_str()), path.file_stem().and_then(|s| s.to_str()))
        {
            values.insert(name.to_owned(), read_npy(&path)?);
        }
    }
    let sample = values.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Ok((values, sample))
}

/// Runs the session and compares every value that the reference has, too, when it is computed.
fn compare(session: &mut Session, reference: &Values) -> Outcome<Vec<Compared>> {
    let mut compared: Vec<Compared> = Vec::new();
    session.run_with(|session, step| {
        let Step::End(index, _) = step else { return ControlFlow::Continue(()) };
        for id in session.model().operator(index).into_iter().flat_map(|o| o.outputs).flatten() {
            let tensor = session.model().tensor(id);
            let Some((expected, found)) = reference.get(tensor.name).and_then(|r| pair(session, &tensor, r)) else {
                continue;
            };
            let (snr, worst) = snr(&expected, &found);
            let output = session.entry().outputs.contains(&id);
            // A value written in parts counts when its last part is there.
            compared.retain(|c| c.name != tensor.name);
            compared.push(Compared { name: tensor.name.to_owned(), dtype: tensor.dtype, snr, worst, output });
        }
        ControlFlow::Continue(())
    })?;
    Ok(compared)
}

/// Expected and found elements in the same order; `None` if they cannot be compared.
fn pair(session: &runtime::Session, tensor: &runtime::Tensor, reference: &Tensor) -> Option<(Vec<f32>, Vec<f32>)> {
    let found = reals(tensor.dtype, session.bytes(tensor), tensor.quantization)?;
    let expected: Vec<f32> = reference.to_f64().into_iter().map(|x| x as f32).collect();
    if expected.len() != found.len() {
        return None;
    }
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
    let moved = channels_last(reference.dims(), &dims, &expected);
    if dims != reference.dims() {
        return Some((moved?, found));
    }
    // Where all dimensions are equal they do not tell which order a tensor is stored in: the one that fits is it.
    let moved = moved.filter(|moved| snr(moved, &found).0 > snr(&expected, &found).0);
    Some((moved.unwrap_or(expected), found))
}

fn reals(dtype: DType, bytes: &[u8], quantization: Option<(f32, i32)>) -> Option<Vec<f32>> {
    let (scale, zero) = quantization.unwrap_or((1.0, 0));
    Some(match dtype {
        DType::F32 => bytemuck::pod_collect_to_vec(bytes),
        DType::F16 => bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes).into_iter().map(f32::from).collect(),
        DType::I8 => bytes.iter().map(|&b| (i32::from(b as i8) - zero) as f32 * scale).collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|&b| f32::from(b)).collect(),
        DType::I32 => bytemuck::pod_collect_to_vec::<u8, i32>(bytes).into_iter().map(|x| x as f32).collect(),
        DType::I64 => bytemuck::pod_collect_to_vec::<u8, i64>(bytes).into_iter().map(|x| x as f32).collect(),
    })
}

/// `[N, C, ...]` elements in the order `[N, ..., C]`, if these are the dimensions found.
fn channels_last(dims: &[usize], found: &[usize], elements: &[f32]) -> Option<Vec<f32>> {
    let (&[batch, channels], inner) = (dims.get(..2)?, dims.get(2..)?) else { return None };
    let inner: usize = inner.iter().product();
    let last: Vec<usize> = [&[batch], &dims[2..], &[channels]].concat();
    if last != found {
        return None;
    }
    Some(
        (0..elements.len())
            .map(|i| elements[(i / (inner * channels) * channels + i % channels) * inner + i / channels % inner])
            .collect(),
    )
}

/// Signal-to-noise ratio in dB (capped at 200), and the largest difference relative to the expected range.
fn snr(expected: &[f32], found: &[f32]) -> (f64, f32) {
    let signal: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
    let noise: f64 = expected.iter().zip(found).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    let range = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = expected.iter().zip(found).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / range.max(f32::MIN_POSITIVE);
    let ratio = if noise == 0.0 { 200.0 } else { 10.0 * (signal / noise).log10() };
    (ratio.min(200.0), worst)
}

fn report(args: &Args, compared: &[Compared], least: f64, passed: bool) {
    let worst = compared.iter().min_by(|a, b| a.snr.total_cmp(&b.snr));
    if args.json {
        let one = |c: &Compared| json!({ "name": c.name, "dtype": c.dtype.name(), "snr_db": c.snr, "worst": c.worst, "output": c.output });
        let values: Vec<_> = compared.iter().map(one).collect();
        println!(
            "{}",
            json!({ "passed": passed, "least_db": least, "worst": worst.map(|c| &c.name), "values": values })
        );
        return;
    }
    let mut rows = table(&["value", "type", "SNR", "largest difference"], 2);
    for c in compared {
        rows.add_row([
            format!("{}{}", c.name, if c.output { " (output)" } else { "" }),
            c.dtype.name().into(),
            format!("{:.1} dB", c.snr),
            format!("{:.2e}", c.worst),
        ]);
    }
    println!("{rows}");
    if let Some(c) = worst {
        println!("worst value: {} at {:.1} dB", c.name, c.snr);
    }
    println!("{}: every output must reach {least} dB", if passed { "agrees" } else { "DOES NOT AGREE" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_last() {
        // Two channels of 1x3.
        let moved = channels_last(&[1, 2, 1, 3], &[1, 1, 3, 2], &[0., 1., 2., 10., 11., 12.]).unwrap();
        assert_eq!(moved, [0., 10., 1., 11., 2., 12.]);
        assert!(channels_last(&[1, 2, 1, 3], &[1, 3, 1, 2], &[0.; 6]).is_none());
    }

    #[test]
    fn noise_a_tenth_of_the_signal_is_20_db() {
        let (ratio, worst) = snr(&[1.0, -1.0], &[1.1, -0.9]);
        assert!((ratio - 20.0).abs() < 1e-3 && (worst - 0.1).abs() < 1e-3);
        assert_eq!(snr(&[1.0], &[1.0]), (200.0, 0.0));
    }
}
