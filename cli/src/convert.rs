//! `sparrow convert`.

use crate::arrays::{read_argument, read_samples};
use crate::fail::{Outcome, at, fail};
use crate::table::{bytes, shape, table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sparrow_convert::import::ImportOptions;
use sparrow_convert::onnx::Model;
use sparrow_convert::pipeline::{Converted, LayerReport, Options, Report, convert, load, noise};
use sparrow_convert::prune::Pattern;
use sparrow_convert::settings::Precision;
use std::path::PathBuf;

/// Converts an ONNX network.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The ONNX file; data in files beside it is found there.
    pub model: PathBuf,
    /// The file to write, usually MODEL.spw.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub inputs: Inputs,
    /// Type in which the network computes.
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionName,
    /// Samples of real input that show int8 the range of every value: an .npz whose arrays' first axis counts samples, a
    /// folder of .npy or .npz files, or `noise` (seeded; to time a network, not to use it).
    #[arg(long, value_name = "FILE.npz|DIR|noise")]
    pub calibrate: Option<String>,
    /// Most samples to use.
    #[arg(long, default_value_t = 64)]
    pub samples: usize,
    /// Share of the weights to drop, 0 to 0.99, in every layer that gains by it.
    #[arg(long, default_value_t = 0.0)]
    pub sparsity: f32,
    /// Output channels that keep or drop a position together: more is faster, fewer lose less; auto weighs it by layer.
    #[arg(long, value_enum, default_value = "auto")]
    pub pattern: PatternName,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What fixes a network's inputs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Inputs {
    /// Shape of an input that the network leaves open.
    #[arg(long, value_name = "NAME=1x3x224x224")]
    pub input_shape: Vec<String>,
    /// Value of an input that becomes part of the network: a reshape target, a number of elements.
    #[arg(long, value_name = "NAME=FILE.npy")]
    pub input_value: Vec<String>,
}

impl Inputs {
    /// The importer's options.
    pub fn options(&self) -> Outcome<ImportOptions> {
        let mut options = ImportOptions::default();
        for text in &self.input_shape {
            let parsed = text.rsplit_once('=').and_then(|(name, dims)| {
                let dims: Option<Vec<usize>> = dims.split(['x', ',']).map(|d| d.parse().ok()).collect();
                Some((name.to_owned(), dims?))
            });
            let Some((name, dims)) = parsed else {
                return fail(format!("--input-shape {text}: write it as name=1x3x224x224"));
            };
            options.input_shapes.insert(name, dims);
        }
        for text in &self.input_value {
            match read_argument(text)? {
                (Some(name), tensor) => options.input_values.insert(name, tensor),
                (None, _) => return fail(format!("--input-value {text}: write it as name=file.npy")),
            };
        }
        Ok(options)
    }
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrecisionName {
    F32,
    F16,
    Int8,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternName {
    Auto,
    #[value(name = "16")]
    Sixteen,
    #[value(name = "8")]
    Eight,
    #[value(name = "4")]
    Four,
}

pub fn run(args: &Args) -> Outcome {
    let model = Model::read(&args.model)?;
    let kernels = sparrow::kernels(sparrow::detect());
    let import = args.inputs.options()?;
    let mut samples = match args.calibrate.as_deref() {
        None => Vec::new(),
        Some("noise") => noise(&load(&model, &import, &kernels).map_err(at(&args.model))?.0, 4),
        Some(path) => read_samples(path.as_ref())?,
    };
    samples.truncate(args.samples.max(1));
    let pattern = match args.pattern {
        PatternName::Auto => Pattern::Auto,
        PatternName::Sixteen => Pattern::Block(16),
        PatternName::Eight => Pattern::Block(8),
        PatternName::Four => Pattern::Block(4),
    };
    let precision = match args.precision {
        PrecisionName::F32 => Precision::F32,
        PrecisionName::F16 => Precision::F16,
        PrecisionName::Int8 => Precision::I8,
    };
    let options = Options { import, precision, sparsity: args.sparsity, pattern, samples, kernels };
    let bar = ProgressBar::new(5)
        .with_style(ProgressStyle::with_template("{msg:10} [{bar:30}] {pos}/{len}").expect("a template"));
    let result = convert(&model, &options, &mut |stage, done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
        bar.set_message(stage.to_owned());
    });
    bar.finish_and_clear();
    let Converted { file, report } = result.map_err(at(&args.model))?;
    sparrow_convert::write::write_file(&args.output, &file).map_err(at(&args.output))?;
    if args.json {
        println!("{}", to_json(&report));
    } else {
        print(&report, args);
    }
    Ok(())
}

fn print(report: &Report, args: &Args) {
    let mut rows = table(&["layer", "operator", "weights", "type", "kept", "bytes", "sparsity, precision"], 3);
    rows.column_mut(6).expect("seven columns").set_cell_alignment(comfy_table::CellAlignment::Left);
    for layer in report.layers.iter().filter(|l| l.layer.shape.is_some() || !l.layer.note.is_empty()) {
        let LayerReport { layer: l, .. } = layer;
        let weights = l.shape.map_or(String::new(), |s| shape(&[s.groups, s.oc, s.taps, s.kc]));
        let kept = l.shape.map_or(String::new(), |_| format!("{:.0} %", l.kept * 100.0));
        let size = if l.bytes > 0 { bytes(l.bytes) } else { String::new() };
        rows.add_row([l.name.clone(), l.onnx_op.clone(), weights, l.precision.name().into(), kept, size, why(layer)]);
    }
    println!("{rows}");
    for note in &report.notes {
        println!("note: {note}");
    }
    let (arena, bound) = report.arena;
    println!(
        "{}: {} ({} weights and biases, {:+.1} % for all else), arena {} ({:+.1} % over the largest sum of live tensors)",
        args.output.display(),
        bytes(report.file_bytes),
        bytes(report.weight_bytes),
        (report.file_bytes as f64 / report.weight_bytes.max(1) as f64 - 1.0) * 100.0,
        bytes(arena),
        (arena as f64 / bound.max(1) as f64 - 1.0) * 100.0
    );
}

fn why(report: &LayerReport) -> String {
    [report.sparsity.as_str(), report.layer.note.as_str()]
        .into_iter()
        .filter(|t| !t.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn to_json(report: &Report) -> serde_json::Value {
    let layer = |r: &LayerReport| {
        let l = &r.layer;
        let shape = l.shape.map(|s| [s.groups, s.oc, s.taps, s.kc]);
        json!({ "name": l.name, "operator": l.onnx_op, "layout": l.layout.name(), "weights": shape, "kept": l.kept, "bytes": l.bytes,
            "precision": l.precision.name(), "sparsity": r.sparsity, "energy": r.energy, "note": l.note })
    };
    json!({ "name": report.name, "file_bytes": report.file_bytes, "weight_bytes": report.weight_bytes, "arena_bytes": report.arena.0,
        "arena_bound": report.arena.1, "notes": report.notes, "layers": report.layers.iter().map(layer).collect::<Vec<_>>() })
}
