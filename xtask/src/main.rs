//! The project's own tasks. `cargo xtask test` is the one test command: it installs what it needs, says so, runs
//! everything, and ends with a list of what it executed and what it skipped.

mod adb;
mod arm;
mod avx512;
mod hosts;
mod pack;
mod shell;
mod test;
mod tools;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Sparrow's tasks.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every check: format, lints, tests on host, Arm (qemu) and WASM, conformance, real networks, hostile files.
    Test(test::Args),
    /// Measure Sparrow beside what a user would pick instead, in one run.
    Peers(PeersArgs),
    /// Measure Sparrow files on an Android phone or emulator, over adb (bench/android/README.md).
    AdbBench(adb::Args),
    /// One network through every host language: the same bytes, the C and Java tests, memory, what a call costs.
    Hosts(hosts::Args),
    /// Pack target/sparrow.aar for Android, with the NDK or, to look at, without.
    Aar(pack::AarArgs),
    /// Make bindings/swift/CSparrow.xcframework.
    Xcframework,
    /// Build the C and the Java library as phones get them and print their sizes (docs/size.md).
    Size,
    /// Fuzz the file, the importer and running, for some seconds each (needs cargo-fuzz and a nightly toolchain).
    Fuzz {
        /// Seconds for each target.
        #[arg(long, default_value_t = 900)]
        seconds: u32,
    },
}

#[derive(clap::Args)]
struct PeersArgs {
    /// Where to measure.
    #[arg(value_parser = ["native", "web", "arm"])]
    place: String,
    /// Further arguments of the script in bench/peers: `--json`, `--networks` and others (bench/peers/README.md).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Test(args) => test::test(&args),
        Task::Aar(args) => pack::aar(&args),
        Task::Xcframework => pack::xcframework(),
        Task::Size => pack::size(),
        Task::Hosts(args) => hosts::hosts(&args),
        Task::Peers(args) => peers(&args),
        Task::AdbBench(args) => adb::bench(&args),
        Task::Fuzz { seconds } => fuzz(seconds),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn peers(args: &PeersArgs) -> Result<(), String> {
    shell::run(shell::cargo().args(["build", "--release", "-p", "sparrow-cli"]))?;
    if args.place == "web" {
        tools::web()?;
        tools::Cross::find("wasm32-unknown-unknown")?;
        shell::run(&mut shell::command("bindings/wasm/build"))?;
    }
    shell::run(shell::command("bench/peers/setup").arg(&args.place))?;
    let ours = shell::root().join("target/release/sparrow");
    let mut script = shell::command("bench/peers/run");
    script.arg(&args.place).arg("--sparrow").arg(ours);
    if args.place == "arm" {
        tools::arm_linux()?;
        let cross = tools::Cross::find("aarch64-unknown-linux-gnu")?;
        shell::run(cross.cargo("build", "std,panic_abort").args(["--release", "-p", "sparrow-cli"]))?;
        script.arg("--sparrow-arm").arg(cross.built("release").join("sparrow"));
    }
    shell::run(script.args(&args.rest))
}

fn fuzz(seconds: u32) -> Result<(), String> {
    tools::cargo_fuzz()?;
    for (target, seeds) in [("file", "spw"), ("import", "onnx"), ("run", "spw")] {
        // What the fuzzer finds goes into the first folder, the seeds in the tree stay as they are.
        let found = format!("target/fuzz/{target}");
        std::fs::create_dir_all(shell::root().join(&found)).map_err(|e| format!("{found}: {e}"))?;
        let (seeds, time) = (format!("fuzz/seeds/{seeds}"), format!("-max_total_time={seconds}"));
        let fuzz = ["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz", target, &found, &seeds];
        shell::run(shell::command("cargo").args(fuzz).args(["--", &time, "-rss_limit_mb=4096", "-timeout=60"]))?;
    }
    Ok(())
}
