//! Running other programs, announced.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// A command that runs in the workspace's root.
pub fn command(program: &str) -> Command {
    let program = if program.contains('/') { root().join(program).into_os_string() } else { program.into() };
    let mut command = Command::new(program);
    command.current_dir(root());
    // `cargo xtask` sets these for itself; a cargo of another toolchain must not inherit them.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
        command.env_remove(variable);
    }
    command
}

/// The default toolchain's cargo.
pub fn cargo() -> Command {
    command("cargo")
}

/// Prints and runs a command; fails if it does.
pub fn run(command: &mut Command) -> Result<(), String> {
    // What a command prints may be read by a machine; what we say of it is for people.
    eprintln!("$ {}", text(command));
    let status = command.status().map_err(|e| format!("{}: {e}", text(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", text(command))) }
}

/// Runs commands that have nothing to do with each other, as many at a time as there are processors; prints each with all it
/// said when it ends. Fails if one does, after all have run.
pub fn run_all(commands: Vec<Command>) -> Result<(), String> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    let (rest, failures) = (Mutex::new(commands.into_iter()), Mutex::new(Vec::new()));
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(mut command) = next() {
            let result = command.output();
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("$ {}", text(&command));
            match result {
                Ok(output) => {
                    print!("{}", String::from_utf8_lossy(&output.stdout));
                    eprint!("{}", String::from_utf8_lossy(&output.stderr));
                    if !output.status.success() {
                        failures.push(format!("{} failed: {}", text(&command), output.status));
                    }
                }
                Err(error) => failures.push(format!("{}: {error}", text(&command))),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// What a command prints, `None` if it fails or is not there.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn text(command: &Command) -> String {
    let environment =
        command.get_envs().filter_map(|(k, v)| Some(format!("{}={} ", k.to_string_lossy(), v?.to_string_lossy())));
    let words =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy().into_owned());
    environment.collect::<String>() + &words.collect::<Vec<_>>().join(" ")
}
