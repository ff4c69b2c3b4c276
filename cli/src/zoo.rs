//! `sparrow zoo`.

use crate::fail::{Outcome, at};
use crate::table::bytes;
use prost::Message;
use sparrow_zoo::{Network, Options};
use std::path::PathBuf;

/// Writes a well-known network with seeded weights.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which network.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(Network::ALL.map(Network::name)))]
    pub name: String,
    /// Factor of the number of channels.
    #[arg(long, default_value_t = 1.0)]
    pub width: f32,
    /// Height and width of the input.
    #[arg(long)]
    pub resolution: Option<usize>,
    /// Share of the weights set to zero, in blocks of 16 output channels.
    #[arg(long, default_value_t = 0.0)]
    pub sparsity: f32,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The ONNX file to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

pub fn run(args: &Args) -> Outcome {
    let network = Network::from_name(&args.name).expect("clap takes only names there are");
    let options = Options {
        width: args.width,
        resolution: args.resolution,
        sparsity: args.sparsity,
        seed: args.seed,
        ..Options::default()
    };
    let file = sparrow_zoo::build(network, &options)?.encode_to_vec();
    sparrow_convert::write::write_file(&args.output, &file).map_err(at(&args.output))?;
    println!("{}: {}, {}", args.output.display(), network.name(), bytes(file.len()));
    Ok(())
}
