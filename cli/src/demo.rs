//! `sparrow demo`: the main job on a network that is part of this program.

use crate::bench::Latency;
use crate::fail::{Failure, Outcome, fail};
use crate::table::{bytes, millis, table};
use serde_json::json;
use sparrow::{Model, Options as SessionOptions, Session};
use sparrow_convert::ir::Tensor;
use sparrow_convert::onnx;
use sparrow_convert::pipeline::{Converted, Options, Sample, convert};
use sparrow_convert::settings::Precision;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

const NETWORK: &[u8] = include_bytes!("../../models/zoo/fashion/fashion.onnx");
const IMAGES: &[u8] = include_bytes!("../../models/zoo/fashion/test_images.npy");
const LABELS: &[u8] = include_bytes!("../../models/zoo/fashion/test_labels.npy");
const CALIBRATION: &[u8] = include_bytes!("../../models/zoo/fashion/calibration_images.npy");
const CLASSES: [&str; 10] =
    ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"];
const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;

/// Converts, runs and compares the embedded network.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Share of the weights the sparse network drops.
    #[arg(long, default_value_t = 0.3)]
    pub sparsity: f32,
    /// Pictures to show.
    #[arg(long, default_value_t = 5)]
    pub show: usize,
    /// Keep the converted networks in this folder.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { sparsity: 0.3, show: 5, keep: None, json: false }
    }
}

/// One of the networks compared.
struct Variant {
    name: String,
    file: &'static str,
    precision: Precision,
    sparsity: f32,
}

/// What one of them did.
struct Result {
    name: String,
    file_bytes: usize,
    arena_bytes: usize,
    classes: Vec<usize>,
    latency_ms: f64,
}

/// The bytes of an embedded array, behind its header.
fn elements(npy: &'static [u8]) -> Outcome<&'static [u8]> {
    let header = npyz::NpyHeader::from_reader(npy)?;
    let count: u64 = header.shape().iter().product();
    npy.len()
        .checked_sub(count as usize)
        .map(|at| &npy[at..])
        .ok_or_else(|| Failure("an embedded array is damaged".into()))
}

fn pixels(image: &[u8]) -> Vec<f32> {
    image.iter().map(|&p| f32::from(p) / 255.0).collect()
}

pub fn run(args: &Args) -> Outcome {
    if !(0.0..1.0).contains(&args.sparsity) {
        return fail(format!("--sparsity {} is not a share: give 0 to 0.99", args.sparsity));
    }
    let (images, labels) = (elements(IMAGES)?, elements(LABELS)?);
    let samples = samples(elements(CALIBRATION)?)?;
    let sparse = |precision: &str| format!("{precision}, {:.0} % sparse", args.sparsity * 100.0);
    let variants = [
        Variant { name: "f32".into(), file: "fashion_f32.spw", precision: Precision::F32, sparsity: 0.0 },
        Variant { name: "int8".into(), file: "fashion_int8.spw", precision: Precision::I8, sparsity: 0.0 },
        Variant {
            name: sparse("int8"),
            file: "fashion_int8_sparse.spw",
            precision: Precision::I8,
            sparsity: args.sparsity,
        },
    ];
    if !args.json {
        println!(
            "A network for Fashion-MNIST ({} of ONNX), converted and run on {} test pictures, one thread:",
            bytes(NETWORK.len()),
            labels.len()
        );
    }
    let mut results = Vec::new();
    for variant in &variants {
        results.push(measure(variant, &samples, images, args.keep.as_deref())?);
    }
    report(args, &results, labels);
    if !args.json {
        show(images, labels, &results[results.len() - 1], args.show);
        println!("\nYour own network: sparrow convert model.onnx -o model.spw   (sparrow --help lists all commands)");
    }
    Ok(())
}

fn samples(images: &[u8]) -> Outcome<Vec<Sample>> {
    let one = |image: &[u8]| {
        Tensor::from_slice(&[1, 1, SIDE, SIDE], &pixels(image)).map(|t| Sample::from([("image".into(), t)]))
    };
    images
        .chunks_exact(PIXELS)
        .map(|image| one(image).ok_or_else(|| Failure("an embedded picture is damaged".into())))
        .collect()
}

fn measure(variant: &Variant, samples: &[Sample], images: &[u8], keep: Option<&Path>) -> Outcome<Result> {
    let network = onnx::Model::decode(NETWORK.to_vec(), Path::new("fashion.onnx"))?;
    let kernels = sparrow::kernels(sparrow::detect());
    let options = Options {
        precision: variant.precision,
        sparsity: variant.sparsity,
        samples: samples.to_vec(),
        kernels,
        ..Options::default()
    };
    let Converted { file, report } = convert(&network, &options, &mut |_, _, _| {})?;
    let model = match keep {
        None => Model::from_bytes(&file)?,
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(crate::fail::at(folder))?;
            let path = folder.join(variant.file);
            sparrow_convert::write::write_file(&path, &file).map_err(crate::fail::at(&path))?;
            Model::open(&path)?
        }
    };
    let mut session = Session::new(&model, &SessionOptions::default())?;
    let mut classes = Vec::new();
    for image in images.chunks_exact(PIXELS) {
        session.input_mut::<f32>(0)?.copy_from_slice(&pixels(image));
        session.run()?;
        let scores = session.output::<f32>(0)?;
        classes.push((0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0));
    }
    let latency_ms = Latency::measure(&mut session, 20, 200)?.median();
    Ok(Result { name: variant.name.clone(), file_bytes: file.len(), arena_bytes: report.arena.0, classes, latency_ms })
}

/// Share of `classes` that equal the others.
fn share(classes: &[usize], others: impl Iterator<Item = usize>) -> f64 {
    classes.iter().zip(others).filter(|(a, b)| **a == *b).count() as f64 / classes.len().max(1) as f64
}

fn report(args: &Args, results: &[Result], labels: &[u8]) {
    let accuracy = |r: &Result| share(&r.classes, labels.iter().map(|&l| l as usize));
    let agreement = |r: &Result| share(&r.classes, results[0].classes.iter().copied());
    if args.json {
        let one = |r: &Result| json!({ "name": r.name, "file_bytes": r.file_bytes, "arena_bytes": r.arena_bytes, "accuracy": accuracy(r), "agreement": agreement(r), "latency_ms": r.latency_ms });
        println!("{}", json!({ "pictures": labels.len(), "networks": results.iter().map(one).collect::<Vec<_>>() }));
        return;
    }
    let mut rows = table(&["network", "file", "arena", "accuracy", "as f32", "latency"], 1);
    for r in results {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        rows.add_row([
            r.name.clone(),
            bytes(r.file_bytes),
            bytes(r.arena_bytes),
            percent(accuracy(r)),
            percent(agreement(r)),
            millis(r.latency_ms),
        ]);
    }
    println!("{rows}");
}

/// Draws a few pictures side by side with what the last network takes them for.
fn show(images: &[u8], labels: &[u8], result: &Result, count: usize) {
    let count = count.min(labels.len());
    if count == 0 {
        return;
    }
    println!("What the {} network sees in the first {count}:\n", result.name);
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for row in (0..SIDE).step_by(2) {
        let line: Vec<String> = images.chunks_exact(PIXELS).take(count).map(|image| strip(image, row, color)).collect();
        println!("  {}", line.join("  "));
    }
    let caption = |(&class, &label): (&usize, &u8)| {
        let right =
            if class == label as usize { String::new() } else { format!(" (is: {})", CLASSES[label as usize % 10]) };
        format!("{:<SIDE$}", format!("{}{right}", CLASSES[class % 10]))
    };
    println!("  {}", result.classes.iter().zip(labels).take(count).map(caption).collect::<Vec<_>>().join("  "));
}

/// Two rows of a picture as one line: colored half blocks on a terminal, else characters by brightness.
fn strip(image: &[u8], row: usize, color: bool) -> String {
    const RAMP: &[u8; 10] = b" .:-=+*#%@";
    let at = |row: usize, column: usize| image[row * SIDE + column];
    let one = |column| {
        let (top, bottom) = (at(row, column), at(row + 1, column));
        if color {
            format!("\x1b[38;2;{top};{top};{top}m\x1b[48;2;{bottom};{bottom};{bottom}m▀\x1b[0m")
        } else {
            let mean = (usize::from(top) + usize::from(bottom)) / 2;
            char::from(RAMP[mean * (RAMP.len() - 1) / 255]).to_string()
        }
    };
    (0..SIDE).map(one).collect()
}
