//! `cargo xtask test`.

use crate::shell::{cargo, command, root, run};
use crate::tools::{self, Cross};
use std::time::Instant;

/// Which checks to run.
#[derive(clap::Args)]
pub struct Args {
    /// Run only these checks (see `--list`).
    #[arg(value_name = "CHECK")]
    only: Vec<String>,
    /// List the checks.
    #[arg(long)]
    list: bool,
}

type Check = (&'static str, &'static str, fn() -> Result<(), String>);

const CHECKS: &[Check] = &[
    ("format", "cargo fmt", || run(cargo().args(["fmt", "--all", "--check"]))),
    ("lint", "cargo clippy, warnings denied", || {
        let everything = ["--workspace", "--all-targets", "--features=xtask/adb-tests"];
        run(cargo().arg("clippy").args(everything).args(["--", "-D", "warnings"]))
    }),
    ("host", "every test on this machine", || run(cargo().args(["test", "--workspace"]))),
    ("nostd", "runtime and kernels without std or alloc, for four targets", no_std),
    ("arm", "kernel, runtime and API tests on six emulated Arm cores", crate::arm::test),
    ("avx512", "AVX-512 kernels on an emulated PC (Bochs): some minutes, so only when named", crate::avx512::test),
    ("wasm", "kernels, npm package and demo page in Node and Chromium, with and without relaxed SIMD", wasm),
    ("adb", "adb-bench with the real adb and a test phone that runs the arm64 program under qemu", adb),
    ("conformance", "ONNX's own operator cases", conformance),
    ("networks", "real networks against ONNX Runtime", networks),
    (
        "hosts",
        "Rust, C, Java, Node, Chromium and emulated arm64 give the same bytes; C and Java tests; valgrind",
        || crate::hosts::hosts(&Default::default()),
    ),
    ("hostile", "damaged files under AddressSanitizer", hostile),
];

/// Checks that run only when named: the time they take is better spent on others.
const ON_REQUEST: &[&str] = &["avx512"];

fn run_checks(args: &Args) -> Vec<(&'static str, Result<f64, String>)> {
    let named = |name: &str| args.only.iter().any(|o| o == name);
    let wanted = |name: &str| named(name) || args.only.is_empty() && !ON_REQUEST.contains(&name);
    let one = |(name, what, check): &Check| {
        println!("\n=== {name}: {what}");
        let begun = Instant::now();
        let result = check();
        (*name, result.map(|()| begun.elapsed().as_secs_f64()))
    };
    CHECKS.iter().filter(|(name, ..)| wanted(name)).map(one).collect()
}

pub fn test(args: &Args) -> Result<(), String> {
    if args.list {
        CHECKS.iter().for_each(|(name, what, _)| println!("{name:12} {what}"));
        return Ok(());
    }
    if let Some(unknown) = args.only.iter().find(|o| CHECKS.iter().all(|(name, ..)| name != o)) {
        return Err(format!("there is no check '{unknown}': cargo xtask test --list"));
    }
    let results = run_checks(args);
    println!("\n=== summary");
    for (name, result) in &results {
        match result {
            Ok(seconds) => println!("executed {name:12} passed in {seconds:.0} s"),
            Err(message) => println!("executed {name:12} FAILED: {message}"),
        }
    }
    for (name, what, _) in CHECKS.iter().filter(|(name, ..)| results.iter().all(|(done, _)| done != name)) {
        println!("skipped  {name:12} {what}");
    }
    let failed = results.iter().filter(|(_, r)| r.is_err()).count();
    println!("checks: {} passed, {failed} failed", results.len() - failed);
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} checks failed", results.len())) }
}

fn no_std() -> Result<(), String> {
    run(cargo().args(["build", "-p", "sparrow-kernels", "-p", "sparrow-runtime"]))?;
    for target in ["aarch64-unknown-linux-gnu", "wasm32-unknown-unknown", "aarch64-apple-ios"] {
        // core alone: a use of alloc or std would not build.
        run(Cross::find(target)?.cargo("build", "core").args(["-p", "sparrow-kernels", "-p", "sparrow-runtime"]))?;
    }
    Ok(())
}

fn wasm() -> Result<(), String> {
    tools::web()?;
    Cross::find("wasm32-unknown-unknown")?;
    run(&mut command("kernels-wasm/test"))?;
    run(&mut command("bindings/wasm/test/run"))
}

fn adb() -> Result<(), String> {
    tools::debian(&["adb"])?;
    tools::arm_linux()?;
    let cross = Cross::find("aarch64-unknown-linux-gnu")?;
    // As the tests of `arm` are built, so that nothing is built twice.
    run(crate::arm::linked_statically(&cross, "build").args(["--profile", "test", "-p", "sparrow-cli"]))?;
    let program = cross.built("debug").join("sparrow");
    let models = root().join("target/adb-bench");
    std::fs::create_dir_all(&models).map_err(|e| format!("{}: {e}", models.display()))?;
    for (name, precision) in [("fashion", "f32"), ("fashion-int8", "int8")] {
        // The program that is there converts too: no second one to build for this machine.
        let mut sparrow = command("qemu-aarch64");
        sparrow.arg(&program).args(["convert", "models/zoo/fashion/fashion.onnx", "-o"]);
        sparrow.arg(models.join(format!("{name}.spw")));
        run(sparrow.args(["--precision", precision, "--calibrate", "noise"]))?;
    }
    run(cargo()
        .args(["test", "-p", "xtask", "--features", "adb-tests", "--test", "adb"])
        .env("SPARROW_ADB_PROGRAM", program)
        .env("SPARROW_ADB_MODELS", models))
}

fn fetch(names: &[&str]) -> Result<(), String> {
    run(command("models/zoo/fetch").args(names))
}

fn conformance() -> Result<(), String> {
    fetch(&["conformance"])?;
    run(cargo().args([
        "run",
        "--release",
        "-p",
        "sparrow-convert",
        "--example",
        "conformance",
        "--",
        "target/zoo/conformance",
        "--expect",
        "models/convert/conformance.txt",
    ]))
}

fn networks() -> Result<(), String> {
    fetch(&["all"])?;
    let python = tools::python(&[
        "numpy==2.2.6",
        "onnx==1.22.0",
        "onnxruntime==1.31.1",
        "pillow==12.0.0",
        "scikit-image==0.25.2",
    ])?;
    run(cargo().args(["build", "--release", "-p", "sparrow-cli"]))?;
    run(command(&python).args(["models/zoo/agree", "--sparrow", "target/release/sparrow", "--zoo", "target/zoo"]))
}

fn hostile() -> Result<(), String> {
    tools::nightly()?;
    let target = root().join("target/asan");
    run(command("cargo")
        .args([
            "+nightly",
            "test",
            "-p",
            "sparrow-convert",
            "--test",
            "hostile",
            "--target",
            "x86_64-unknown-linux-gnu",
        ])
        .env("RUSTFLAGS", "-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer")
        .env("CARGO_TARGET_DIR", target))
}
