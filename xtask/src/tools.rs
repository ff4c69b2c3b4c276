//! What the checks need beyond rustup's stable toolchain: found, or installed and said so.

use crate::shell::{command, has, output, root, run};
use std::path::PathBuf;
use std::process::Command;

/// A standard library that draws no backtraces, which are half of it.
pub const SMALL_STD: &str = "build-std-features=optimize_for_size";

/// How crates are built for a target other than the host.
pub struct Cross {
    toolchain: Option<&'static str>,
    build_std: bool,
    target: &'static str,
}

impl Cross {
    /// Rust's standard library for `target`: rustup's, or Debian's compiler, which has it for arm64 and its source for
    /// the rest.
    ///
    /// # Errors
    /// What to install where neither can be had.
    pub fn find(target: &'static str) -> Result<Self, String> {
        let installed = || {
            output(command("rustup").args(["target", "list", "--installed"]))
                .is_some_and(|list| list.lines().any(|l| l == target))
        };
        if installed() || output(command("rustup").args(["target", "add", target])).is_some() && installed() {
            return Ok(Self { toolchain: None, build_std: false, target });
        }
        debian_rust()?;
        Ok(Self { toolchain: Some("+debian"), build_std: target != "aarch64-unknown-linux-gnu", target })
    }

    /// As [`Self::find`], to be built with a standard library of one's own, [`SMALL_STD`].
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn small(target: &'static str) -> Result<Self, String> {
        println!("adding rust-src to rustup's toolchain, unless it is there");
        if output(command("rustup").args(["component", "add", "rust-src"])).is_some() {
            return Ok(Self { toolchain: None, build_std: true, target });
        }
        debian_rust()?;
        Ok(Self { toolchain: Some("+debian"), build_std: true, target })
    }

    fn target_dir(&self) -> &'static str {
        if self.toolchain.is_some() { "target/debian" } else { "target/cross" }
    }

    /// Where what was built with a profile lies.
    pub fn built(&self, profile: &str) -> PathBuf {
        root().join(self.target_dir()).join(self.target).join(profile)
    }

    /// A cargo command for the target; `library` is what to build from source where it must be (core, or std).
    pub fn cargo(&self, subcommand: &str, library: &str) -> Command {
        let mut cargo = command("cargo");
        cargo.args(self.toolchain).args([subcommand, "--target", self.target]);
        if self.build_std {
            cargo.env("RUSTC_BOOTSTRAP", "1").args(["-Z", &format!("build-std={library}")]);
            if library.contains("panic_abort") {
                cargo.args(["-Z", SMALL_STD]);
            }
        }
        // Targets built side by side must not wait for each other's lock.
        cargo.args(["--target-dir", self.target_dir()]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        cargo
    }
}

/// Installs Debian packages that are missing.
///
/// # Errors
/// If apt-get fails or is not there.
pub fn debian(packages: &[&str]) -> Result<(), String> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|p| {
            output(command("dpkg-query").args(["-W", "-f=${Status}", p]))
                .is_none_or(|s| !s.contains("install ok installed"))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !has("apt-get") {
        return Err(format!("please install what Debian calls {}", missing.join(", ")));
    }
    println!("installing Debian packages: {}", missing.join(" "));
    if missing.iter().any(|p| p.ends_with(":arm64")) {
        arm64_packages()?;
    }
    sudo(&["apt-get", "update", "-q"])?;
    sudo(&[&["apt-get", "install", "-yq", "--no-install-recommends"][..], &missing].concat())
}

fn sudo(words: &[&str]) -> Result<(), String> {
    let root = output(command("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    let mut apt = if root { command(words[0]) } else { command("sudo") };
    apt.args(if root { &words[1..] } else { words }).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt)
}

/// Lets apt-get find packages for arm64.
fn arm64_packages() -> Result<(), String> {
    if output(command("dpkg").arg("--print-foreign-architectures")).is_some_and(|list| list.contains("arm64")) {
        return Ok(());
    }
    println!("adding arm64 to the architectures dpkg knows");
    sudo(&["dpkg", "--add-architecture", "arm64"])?;
    sudo(&["apt-get", "update", "-q"])
}

fn debian_rust() -> Result<(), String> {
    debian(&["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-dev", "libstd-rust-web-dev:arm64"])
        .map_err(|e| format!("rustup has no standard library for a target we test, and neither has this machine's package manager: {e}"))?;
    if output(command("rustup").args(["run", "debian", "rustc", "-V"])).is_none() {
        run(command("rustup").args(["toolchain", "link", "debian", "/usr"]))?;
    }
    Ok(())
}

/// The cross compiler and the emulator for arm64 Linux.
pub fn arm_linux() -> Result<(), String> {
    debian(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"])
}

/// Node with npm, and Chromium.
pub fn web() -> Result<(), String> {
    let wanted = [("node", "nodejs"), ("npm", "npm"), ("chromium", "chromium")];
    debian(&wanted.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect::<Vec<_>>())
}

/// An arm64 JVM with its libraries, unpacked below `target`, where it disturbs no installed one: root folder and program.
pub fn arm_jvm() -> Result<(PathBuf, PathBuf), String> {
    let folder = root().join("target/jre-arm64");
    let java = || {
        let machines = std::fs::read_dir(folder.join("usr/lib/jvm")).ok()?;
        machines.filter_map(|entry| Some(entry.ok()?.path().join("bin/java"))).find(|java| java.is_file())
    };
    if java().is_none() {
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        arm64_packages()?;
        let depends = output(command("apt-cache").args(["depends", "default-jre-headless"])).unwrap_or_default();
        let package =
            depends.split_whitespace().find(|word| word.starts_with("openjdk-") && word.ends_with("-jre-headless"));
        let package = package.ok_or("apt-cache knows no default-jre-headless")?;
        let packages = [package, "libc6", "zlib1g", "libstdc++6", "libgcc-s1"].map(|name| format!("{name}:arm64"));
        println!("unpacking into target/jre-arm64: {}", packages.join(" "));
        run(command("apt-get").args(["download", "-q"]).args(packages).current_dir(&folder))?;
        let list = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for archive in
            list.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "deb"))
        {
            run(command("dpkg").arg("-x").arg(&archive).arg(&folder))?;
        }
    }
    java().map(|java| (folder.clone(), java)).ok_or("the arm64 JVM has no program java".into())
}

/// A nightly toolchain with cargo-fuzz.
pub fn cargo_fuzz() -> Result<(), String> {
    nightly()?;
    if !has("cargo-fuzz") && output(command("cargo").args(["fuzz", "--version"])).is_none() {
        println!("installing cargo-fuzz from crates.io");
        run(command("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

/// A nightly toolchain.
pub fn nightly() -> Result<(), String> {
    if output(command("rustup").args(["run", "nightly", "rustc", "-V"])).is_some() {
        return Ok(());
    }
    println!("installing rustup's nightly toolchain");
    run(command("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))
}

/// A Python environment in `target/venv` with these packages.
pub fn python(packages: &[&str]) -> Result<String, String> {
    let python = crate::shell::root().join("target/venv/bin/python").display().to_string();
    let stamp = crate::shell::root().join("target/venv/installed");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    debian(&["python3", "python3-venv"]).or_else(|e| if has("python3") { Ok(()) } else { Err(e) })?;
    println!("installing from PyPI into target/venv: {wanted}");
    run(command("python3").args(["-m", "venv", "target/venv"]))?;
    run(command(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}
