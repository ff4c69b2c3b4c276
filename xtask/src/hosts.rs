//! `cargo xtask hosts`: one network and one input through every host language, compared byte by byte; the C and Java
//! tests; memory over many runs; and, where asked, what a call costs over Rust's.
//!
//! A host is a program `HOST MODEL INPUT OUTPUT [RUNS [THREADS]]` (see `bindings/host`), or anything else that leaves the
//! output's bytes in a file: one line in [`Hosts::all`].

use crate::arm::emulated;
use crate::shell::{cargo, command, has, output, root, run};
use crate::tools::{self, Cross};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long to soak.
#[derive(clap::Args)]
pub struct Args {
    /// Runs of each of the threads, through C and through Java.
    #[arg(long, default_value_t = 2000)]
    runs: usize,
    /// Threads, with a session each.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Also measure on this Sparrow file what a call costs over Rust's, and fail above 2 %; wants a quiet machine.
    #[arg(long, value_name = "MODEL")]
    overhead: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self { runs: 2000, threads: 8, overhead: None }
    }
}

/// What a call through a binding may cost over Rust's.
const OVERHEAD: f64 = 1.02;
/// kB a process may grow by between a tenth of its runs and the last: the C library's and the JVM's own bookkeeping.
const GROWTH: [(&str, i64); 2] = [("c", 512), ("java", 4096)];

const ARM: &str = "aarch64-unknown-linux-gnu";
const WARNINGS: [&str; 6] = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-stringop-overflow"];

/// Where things are.
struct Hosts {
    /// What Cargo built for this machine, and for arm64.
    built: PathBuf,
    built_arm: PathBuf,
    /// The arm64 JVM: its root folder and program.
    jvm: (PathBuf, PathBuf),
    /// What this task makes.
    folder: PathBuf,
}

impl Hosts {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The hosts, each with the command that leaves its output in the file given last.
    fn all(&self) -> Vec<(&'static str, Command)> {
        let mut hosts = vec![("rust", command(&self.built.join("sparrow-host").display().to_string()))];
        hosts.push(("c", command(&self.path("host"))));
        hosts.push(("c, arm64 (qemu)", self.qemu("host-arm")));
        hosts.push(("java", self.java(false, "Host")));
        hosts.push(("java, arm64 (qemu)", self.java_arm("Host")));
        hosts.push(("javascript, Node", web("node")));
        hosts.push(("javascript, Chromium", web("chromium")));
        hosts
    }

    fn qemu(&self, program: &str) -> Command {
        emulated("cortex-a76", &self.folder.join(program))
    }

    /// The JVM with a heap of one size, so that memory which grows is ours; `strict` checks every call into it.
    fn java(&self, strict: bool, class: &str) -> Command {
        let mut java = command("java");
        java.args(["-Xms64m", "-Xmx64m", "-XX:+AlwaysPreTouch", "-cp", &self.path("classes")]);
        java.args(strict.then_some("-Xcheck:jni"));
        java.arg(format!("-Ddev.sparrow.library={}", self.built.join("libsparrow_jni.so").display()));
        java.arg(class);
        java
    }

    fn java_arm(&self, class: &str) -> Command {
        let mut java = command("qemu-aarch64");
        java.args(["-cpu", "cortex-a76", "-L"]).arg(&self.jvm.0).arg(&self.jvm.1);
        java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", &self.path("classes")]);
        java.arg(format!("-Ddev.sparrow.library={}", self.built_arm.join("libsparrow_jni.so").display()));
        java.arg(class);
        java
    }

    fn on_network<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.args([self.path("network.spw"), self.path("input.bin")])
    }
}

/// The npm package in an engine.
fn web(engine: &str) -> Command {
    let mut node = command("node");
    node.args(["bindings/wasm/test/host.mjs", engine]);
    node
}

/// Builds, compares, tests, soaks, measures.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn hosts(args: &Args) -> Result<(), String> {
    install()?;
    let cross = Cross::find(ARM)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let (built, folder) = (target.join("embed"), target.join("hosts"));
    let hosts = Hosts { built, built_arm: cross.built("embed"), jvm: tools::arm_jvm()?, folder };
    network(&hosts)?;
    build_c(&hosts)?;
    let arm = build_arm(&hosts, &cross)?;
    build_java(&hosts)?;
    run(&mut command("bindings/wasm/test/install"))?;
    run(&mut command("bindings/wasm/build"))?;
    compare(&hosts)?;
    test_c(&hosts, &arm)?;
    run(hosts.on_network(&mut hosts.java(true, "Example")))?;
    run(hosts.on_network(&mut hosts.java(true, "Tests")).arg(hosts.path("expected.bin")))?;
    soak(&hosts, args)?;
    args.overhead.as_deref().map_or(Ok(()), |model| overhead(&hosts, model))
}

fn install() -> Result<(), String> {
    tools::debian(&["gcc", "libc6-dev", "valgrind", "pkg-config", "cmake", "make"])?;
    tools::arm_linux()?;
    tools::web()?;
    Cross::find("wasm32-unknown-unknown")?;
    if has("javac") { Ok(()) } else { tools::debian(&["default-jdk-headless"]) }
}

fn network(hosts: &Hosts) -> Result<(), String> {
    // The tests' profile: the converter is built for them anyway.
    run(cargo().args(["run", "--profile", "test", "-p", "sparrow", "--example", "network", "--"]).arg(&hosts.folder))
}

fn bare(cargo: &mut Command) -> &mut Command {
    cargo.args(["-p", "sparrow-bare", "--profile", "small", "--features", "fault-handler", "--crate-type", "staticlib"])
}

/// A C program.
fn cc(compiler: &str, source: &str, output: &str, flags: &[&str]) -> Result<(), String> {
    run(command(compiler).args(WARNINGS).args(["-Ibindings/c/include", source, "-o", output]).args(flags))
}

fn build_c(hosts: &Hosts) -> Result<(), String> {
    run(cargo().args(["build", "--profile", "embed", "-p", "sparrow-c", "-p", "sparrow-jni", "-p", "sparrow-host"]))?;
    run(bare(cargo().arg("rustc")))?;
    let prefix = hosts.folder.join("prefix");
    run(command("bindings/c/install").arg(&hosts.built).arg(&prefix))?;
    let flags = output(
        command("pkg-config")
            .args(["--cflags", "--libs", "sparrow"])
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")),
    )
    .ok_or("pkg-config does not find what bindings/c/install has installed")?;
    let rpath = format!("-Wl,-rpath,{}", prefix.join("lib").display());
    let flags: Vec<&str> = flags.split_whitespace().chain(["-pthread", &rpath]).collect();
    cc("gcc", "bindings/c/tests/c/host.c", &hosts.path("host"), &flags)?;
    cc("gcc", "bindings/c/tests/c/misuse.c", &hosts.path("misuse"), &flags)?;
    let library = hosts.built.with_file_name("small").join("libsparrow_bare.a").display().to_string();
    cc("gcc", "bindings/c/examples/bare.c", &hosts.path("bare"), &[&library])?;
    let build = hosts.path("cmake");
    run(command("cmake")
        .args(["-S", "bindings/c/examples", "-B", &build])
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())))?;
    run(command("cmake").args(["--build", &build]))
}

/// The arm64 programs; their names.
fn build_arm(hosts: &Hosts, cross: &Cross) -> Result<Vec<&'static str>, String> {
    let std = "std,panic_unwind";
    run(cross.cargo("build", std).args(["--profile", "embed", "-p", "sparrow-c", "-p", "sparrow-jni"]))?;
    run(bare(&mut cross.cargo("rustc", std)))?;
    let library = |profile: &str, name: &str| cross.built(profile).join(name).display().to_string();
    let flags = [&*library("embed", "libsparrow_c.a"), "-pthread", "-lm", "-ldl", "-lgcc_s"];
    cc("aarch64-linux-gnu-gcc", "bindings/c/tests/c/host.c", &hosts.path("host-arm"), &flags)?;
    cc("aarch64-linux-gnu-gcc", "bindings/c/tests/c/misuse.c", &hosts.path("misuse-arm"), &flags)?;
    cc("aarch64-linux-gnu-gcc", "bindings/c/examples/run.c", &hosts.path("run-arm"), &flags)?;
    let flags = [&*library("small", "libsparrow_bare.a")];
    cc("aarch64-linux-gnu-gcc", "bindings/c/examples/bare.c", &hosts.path("bare-arm"), &flags)?;
    Ok(vec!["run-arm", "bare-arm", "misuse-arm"])
}

/// Every Java source below a folder.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let list = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut sources: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    sources.sort();
    Ok(sources)
}

/// Compiles the Java API, and what is given beside it, for Java 8, which Android's tools take.
pub fn javac(classes: &Path, beside: Option<&Path>) -> Result<(), String> {
    std::fs::create_dir_all(classes).map_err(|e| format!("{}: {e}", classes.display()))?;
    let mut files = sources(&root().join("bindings/jni/java/dev/sparrow"))?;
    files.extend(beside.map(sources).transpose()?.unwrap_or_default());
    run(command("javac").args(["--release", "8", "-Xlint:all,-options", "-Werror", "-d"]).arg(classes).args(files))
}

fn build_java(hosts: &Hosts) -> Result<(), String> {
    javac(&hosts.folder.join("classes"), Some(&root().join("bindings/jni/test")))
}

/// Runs every host and compares what they leave behind.
fn compare(hosts: &Hosts) -> Result<(), String> {
    let mut outputs: Vec<(&str, Vec<u8>)> = Vec::new();
    for (i, (name, mut program)) in hosts.all().into_iter().enumerate() {
        let file = hosts.folder.join(format!("output-{i}.bin"));
        let _ = std::fs::remove_file(&file); // an earlier run's must not stand in for this one's
        run(hosts.on_network(&mut program).arg(&file))?;
        outputs.push((name, std::fs::read(&file).map_err(|e| format!("{name} left no output: {e}"))?));
    }
    let (_, expected) = &outputs[0];
    let varied = expected.windows(2).any(|pair| pair[0] != pair[1]);
    println!("{:20} {:>6}  output", "host", "bytes");
    for (name, bytes) in &outputs {
        println!("{name:20} {:>6}  {}", bytes.len(), if bytes == expected { "the same" } else { "DIFFERENT" });
    }
    std::fs::write(hosts.folder.join("expected.bin"), expected).map_err(|e| e.to_string())?;
    if varied && outputs.iter().all(|(_, bytes)| bytes == expected) {
        Ok(())
    } else {
        Err("the hosts do not agree".into())
    }
}

/// The examples, here, under valgrind and on emulated arm64; the test of misuse, here.
fn test_c(hosts: &Hosts, arm: &[&str]) -> Result<(), String> {
    let expected = hosts.path("expected.bin");
    let args_of = |program: &str| if program.starts_with("misuse") { None } else { Some(expected.clone()) };
    for program in ["cmake/run", "cmake/run_static", "bare", "misuse"] {
        run(hosts.on_network(&mut command(&hosts.path(program))).args(args_of(program)))?;
    }
    for program in arm {
        run(hosts.on_network(&mut hosts.qemu(program)).args(args_of(program)))?;
    }
    for program in ["cmake/run", "bare"] {
        let mut valgrind = command("valgrind");
        valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all", &hosts.path(program)]);
        run(hosts.on_network(&mut valgrind).arg(&expected))?;
    }
    Ok(())
}

/// Runs a host on a model and an input and reads its line of JSON.
fn measure(hosts: &Hosts, mut program: Command, files: [&str; 2], counts: [usize; 2]) -> Result<Value, String> {
    program.args(files).arg(hosts.path("again.bin")).args(counts.map(|count| count.to_string()));
    json(&mut program)
}

fn json(program: &mut Command) -> Result<Value, String> {
    let text = output(program).ok_or_else(|| format!("{program:?} failed"))?;
    serde_json::from_str(&text).map_err(|e| format!("{program:?} printed {text}: {e}"))
}

fn named(hosts: &Hosts, name: &str) -> Result<Command, String> {
    hosts.all().into_iter().find(|(n, _)| *n == name).map(|(_, program)| program).ok_or(format!("no host {name}"))
}

/// Memory stays where it is over many runs.
fn soak(hosts: &Hosts, args: &Args) -> Result<(), String> {
    let (model, input) = (hosts.path("network.spw"), hosts.path("input.bin"));
    for (name, limit) in GROWTH {
        let result = measure(hosts, named(hosts, name)?, [&model, &input], [args.runs, args.threads])?;
        let rss = |field: &str| result[field].as_i64().unwrap_or(0);
        let (before, after) = (rss("rss_before"), rss("rss_after"));
        println!(
            "{name:6} {} runs on {} threads: {before} kB after a tenth, {after} kB at the end",
            result["runs"], args.threads
        );
        if before == 0 || after - before > limit {
            return Err(format!("{name} grew by {} kB, more than {limit}", after - before));
        }
    }
    Ok(())
}

/// What a call costs over Rust's: the least time of each host, measured in turns until they are close enough or it is clear
/// that they are not.
fn overhead(hosts: &Hosts, model: &Path) -> Result<(), String> {
    let model = model.display().to_string();
    let contents =
        json(cargo().args(["run", "-q", "--release", "-p", "sparrow-cli", "--", "inspect", "--json", &model]))?;
    let tensor = contents["entries"][0]["inputs"][0].as_u64().unwrap_or(0) as usize;
    let size = contents["tensors"][tensor]["size"].as_u64().ok_or(format!("{model} names no input"))?;
    let input = hosts.path("any.bin");
    std::fs::write(&input, vec![0x3d; size as usize]).map_err(|e| format!("{input}: {e}"))?;
    let names = ["rust", "c", "java"];
    let mut best = [f64::INFINITY; 3];
    for _ in 0..12 {
        for (best, name) in best.iter_mut().zip(names) {
            let result = measure(hosts, named(hosts, name)?, [&model, &input], [100, 1])?;
            *best = best.min(result["min_ns"].as_f64().unwrap_or(f64::INFINITY));
        }
        if best.iter().all(|time| *time <= best[0] * OVERHEAD) {
            break;
        }
    }
    for (name, time) in names.iter().zip(best) {
        println!("{name:6} {:9.1} us a run, {:+.2} % over Rust", time / 1e3, (time / best[0] - 1.0) * 100.0);
    }
    if best.iter().all(|time| *time <= best[0] * OVERHEAD) {
        Ok(())
    } else {
        Err("a binding costs more than 2 %".into())
    }
}
