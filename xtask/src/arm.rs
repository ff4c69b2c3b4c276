//! Arm tests on a machine without an Arm processor: built for arm64 Linux, run under qemu as several cores.

use crate::shell::{command, run_all};
use crate::tools::{Cross, arm_linux};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The cores, as qemu names them, and the features whose kernels must have run there: no dot product; dot product and
/// fp16; i8mm without SVE; SVE at three lengths. Last the one set whose kernels are compared there, if the others' have been before.
const CORES: [(&str, &str, &str); 6] = [
    ("cortex-a53", "neon", ""),
    ("cortex-a76", "neon,fp16,dotprod", ""),
    ("max,sve=off", "neon,fp16,dotprod,i8mm", "i8mm"),
    ("max,sve-max-vq=1", "neon,fp16,dotprod,i8mm,sve", "sve"),
    ("max,sve-max-vq=2", "neon,fp16,dotprod,i8mm,sve", "sve"),
    ("max,sve-max-vq=4", "neon,fp16,dotprod,i8mm,sve", "sve"),
];

/// Where Debian's cross compiler keeps the C library of arm64.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// The package whose tests run on every core, and those for which one is enough, as they name no instruction: those that take
/// longest first, so that no processor waits for one at the end.
const EVERY: &str = "sparrow-kernels-arm";
const ONCE: [&str; 3] = ["sparrow", "sparrow-kernels", "sparrow-runtime"];

/// Builds and runs the tests.
///
/// # Errors
/// Those that fail, with their cores.
pub fn test() -> Result<(), String> {
    arm_linux()?;
    let cross = Cross::find("aarch64-unknown-linux-gnu")?;
    let programs = programs(&cross)?;
    let of = |package: &str| {
        let package = format!("#{package}@");
        programs.iter().filter(move |(id, _)| id.contains(&package)).map(|(_, program)| program)
    };
    if let Some(none) = [EVERY].into_iter().chain(ONCE).find(|package| of(package).next().is_none()) {
        return Err(format!("cargo names no test program of {none}"));
    }
    let mut commands = Vec::new();
    for program in ONCE.into_iter().flat_map(of) {
        let mut qemu = emulated("cortex-a76", program);
        // The host's tests have these: one starts itself again, which only a system that runs arm64 programs can; the other
        // looks at the cases, whatever the CPU.
        let skipped = ["two_processes_share_the_pages_of_a_file", "the_cases_reach_every_kernel_and_every_variant"];
        qemu.args(skipped.map(|test| ["--skip", test]).as_flattened()).env("SPARROW_EVERY", "7");
        commands.push(qemu);
    }
    for program in of(EVERY) {
        for (core, features, set) in CORES {
            let mut qemu = emulated(core, program);
            qemu.arg("--nocapture").env("SPARROW_EXPECTED_FEATURES", features).env("SPARROW_COMPARED_SET", set);
            commands.push(qemu);
        }
    }
    run_all(commands)
}

/// Cargo for programs that run without a Linux system's loader, as a test phone does.
pub fn linked_statically(cross: &Cross, subcommand: &str) -> Command {
    let mut cargo = cross.cargo(subcommand, "std,panic_abort");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo
}

/// Builds the test programs, all at once: the packages of one build share what they need. Each with its package's id.
fn programs(cross: &Cross) -> Result<Vec<(String, PathBuf)>, String> {
    let mut cargo = linked_statically(cross, "test");
    cargo.args(["--no-run", "--message-format=json-render-diagnostics", "-p", EVERY]);
    cargo.args(ONCE.map(|package| ["-p", package]).as_flattened());
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the tests do not build for arm64".into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"].as_bool()?;
        let program = message["executable"].as_str().filter(|_| test)?;
        Some((message["package_id"].as_str()?.to_owned(), program.into()))
    };
    Ok(messages.lines().filter_map(program).collect())
}

/// A program under qemu. It must not find the C library of another arm64 installation by way of the host's cache of
/// libraries: with a loader of another version than its own, glibc's first thread never starts.
pub fn emulated(core: &str, program: &Path) -> Command {
    let mut qemu = command("qemu-aarch64");
    qemu.args(["-cpu", core, "-L", SYSROOT, "-E", &format!("LD_LIBRARY_PATH={SYSROOT}/lib")]).arg(program);
    qemu
}
