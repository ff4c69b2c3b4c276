//! The program `sparrow`.
//!
//! Every command prints for people; with `--json`, one JSON value for machines. Errors name the file, what is wrong and
//! what to do, and leave no half-written file.

mod arrays;
mod bench;
mod convert;
mod demo;
mod fail;
mod inspect;
mod picture;
mod run;
mod table;
mod verify;
mod zoo;

use clap::{Parser, Subcommand};
use fail::Failure;
use std::process::ExitCode;

/// Makes trained networks small and fast: converts ONNX to one flat file that runs in place, without allocating, on
/// phones, in browsers and on small machines.
///
/// Begin with `sparrow demo`. For a network of your own:
///
///   sparrow convert model.onnx -o model.spw
///   sparrow verify model.spw --against model.onnx
///   sparrow bench model.spw --profile
#[derive(Parser)]
#[command(version, about, long_about, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Convert, run and compare a small trained network that is part of this program (the default).
    Demo(demo::Args),
    /// Convert an ONNX network to a Sparrow file.
    Convert(convert::Args),
    /// Run a Sparrow file on arrays or a picture.
    Run(run::Args),
    /// Show what a Sparrow file holds.
    Inspect(inspect::Args),
    /// Measure latency and memory.
    Bench(bench::Args),
    /// Compare a Sparrow file with its source, layer by layer.
    Verify(verify::Args),
    /// Write a well-known network with seeded weights as ONNX, for benches that need no download.
    Zoo(zoo::Args),
}

/// Ends the program quietly when nobody reads what it prints any more (`sparrow inspect model.spw | head`), where
/// `println!` would panic.
fn end_with_the_reader() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload().downcast_ref::<String>();
        if message.is_some_and(|m| m.starts_with("failed printing to stdout") && m.contains("Broken pipe")) {
            std::process::exit(141); // As a program ends that SIGPIPE stops.
        }
        hook(info);
    }));
}

fn main() -> ExitCode {
    end_with_the_reader();
    let result = match Cli::parse().command {
        None => demo::run(&demo::Args::default()),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Convert(args)) => convert::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Zoo(args)) => zoo::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("sparrow: {message}");
            ExitCode::FAILURE
        }
    }
}
