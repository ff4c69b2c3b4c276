//! AVX-512 on a machine without it: the example `bare` of `kernels-x86` on a PC that Bochs emulates. Qemu knows no AVX-512.

use crate::shell::{cargo, command, has, root, run};
use crate::tools::debian;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A PC whose BIOS is the program's reset vector and whose memory holds the rest; text leaves by port 0xe9.
const MACHINE: &str = r#"
cpu: model=corei7_icelake_u, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file=rom.bin, address=0xffff0000
optramimage1: file=image.bin, address=0x100000
pci: enabled=0
port_e9_hack: enabled=1
plugin_ctrl: unmapped=1, biosdev=0, speaker=0, extfpuirq=0, parallel=0, serial=0, gameport=0, iodebug=0
config_interface: textconfig
display_library: rfb, options="timeout=0"
clock: sync=none
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"#;

/// Builds the program, runs it, shows its report.
///
/// # Errors
/// What could not be built, kernels that differ, or what stopped the machine.
pub fn test() -> Result<(), String> {
    let gui = if has("bochs") { None } else { Some("bochs-term") }; // The smallest of those Bochs asks for.
    debian(&["bochs", "binutils"].into_iter().chain(gui).collect::<Vec<_>>())?;
    build()?;
    let folder = root().join("target/avx512");
    let told = |what: &str| format!("{what}: see {}", folder.join("bochs.log").display());
    // Debian's Bochs has its debugger built in, which waits for a word on its standard input.
    let script = "echo c | timeout 1800 bochs -f bochsrc";
    println!("$ {script}");
    let output = command("sh").args(["-c", script]).current_dir(&folder).output().map_err(|e| format!("sh: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report =
        text.split_once("report:\n").map(|(_, report)| report).ok_or_else(|| told("the program did not start"))?;
    let (report, verdict) = report.split_once("verdict: ").ok_or_else(|| told("the program stopped"))?;
    print!("{report}");
    match verdict.lines().next() {
        Some("agreed") => Ok(()),
        verdict => Err(format!("AVX-512 kernels: {}", verdict.unwrap_or("no verdict"))),
    }
}

/// The program as Bochs wants it, in `target/avx512`. What surrounds the kernels is built for AVX2, which halves the time.
fn build() -> Result<(), String> {
    let example = ["rustc", "--release", "-p", "sparrow-kernels-x86", "--example", "bare", "--features", "bare"];
    let library = ["--crate-type", "staticlib", "--config", "profile.release.panic=\"abort\"", "--target", TARGET];
    run(cargo()
        .args(example)
        .args(library)
        .args(["--target-dir", "target/avx512"])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Crelocation-model=static -Ctarget-cpu=x86-64-v3"))?;
    let folder = root().join("target/avx512");
    let built = format!("{TARGET}/release/examples/libbare.a");
    let script = root().join("kernels-x86/examples/bare/bare.ld");
    let mut link = command("ld");
    link.current_dir(&folder).args(["-static", "--gc-sections", "--no-warn-rwx-segments", "-o", "bare.elf", "-T"]);
    run(link.arg(script).arg(built))?;
    for (section, file) in [(".image", "image.bin"), (".rom", "rom.bin")] {
        run(command("objcopy").current_dir(&folder).args(["-O", "binary", "-j", section, "bare.elf", file]))?;
    }
    std::fs::write(folder.join("bochsrc"), MACHINE).map_err(|e| format!("bochsrc: {e}"))
}
