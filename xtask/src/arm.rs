//! Arm tests on a machine without an Arm processor: built for arm64 Linux, run under qemu as several cores.

use crate::shell::{command, run};
use crate::tools::{Cross, arm_linux};
use std::path::PathBuf;
use std::process::Stdio;

/// The cores, as qemu names them: no dot product; dot product and fp16; i8mm without SVE; SVE at three lengths.
pub const CORES: [&str; 6] =
    ["cortex-a53", "cortex-a76", "max,sve=off", "max,sve-max-vq=1", "max,sve-max-vq=2", "max,sve-max-vq=4"];

/// Packages whose tests run on every core, and those for which one is enough: they name no instruction.
const EVERY: [&str; 1] = ["sparrow-kernels-arm"];
const ONCE: [&str; 3] = ["sparrow-kernels", "sparrow-runtime", "sparrow"];

/// Builds and runs the tests.
///
/// # Errors
/// The first that fails, with its core.
pub fn test() -> Result<(), String> {
    arm_linux()?;
    let cross = Cross::find("aarch64-unknown-linux-gnu")?;
    for program in programs(&cross, &EVERY)? {
        for core in CORES {
            emulate(core, &program)?;
        }
    }
    for program in programs(&cross, &ONCE)? {
        emulate("cortex-a76", &program)?;
    }
    Ok(())
}

/// Builds the test programs of some packages.
fn programs(cross: &Cross, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut cargo = cross.cargo("test", "std,panic_abort");
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the tests do not build for arm64".into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"].as_bool()?;
        message["executable"].as_str().filter(|_| test).map(PathBuf::from)
    };
    Ok(messages.lines().filter_map(program).collect())
}

fn emulate(core: &str, program: &PathBuf) -> Result<(), String> {
    run(command("qemu-aarch64").args(["-cpu", core, "-L", "/usr/aarch64-linux-gnu"]).arg(program))
}
