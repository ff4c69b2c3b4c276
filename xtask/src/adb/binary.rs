//! The program to push: `sparrow` for the device's ABI, built here or given.

use crate::shell::{command, has, root, run};
use std::path::{Path, PathBuf};

/// An ABI as Android calls it, as ELF numbers its machine, and as Rust calls the target.
struct Abi {
    name: &'static str,
    machine: u16,
    target: &'static str,
}

/// Those that Sparrow has kernels for: phones; emulators and Chromebooks. Both are 64-bit and little-endian.
const ABIS: [Abi; 2] = [
    Abi { name: "arm64-v8a", machine: 183, target: "aarch64-linux-android" },
    Abi { name: "x86_64", machine: 62, target: "x86_64-linux-android" },
];

/// The program for a device: `given`, else built with the NDK.
///
/// # Errors
/// An ABI we do not serve, a program of another one or one that Android cannot start, no NDK, a failed build.
pub fn find(given: Option<&Path>, abi: &str) -> Result<PathBuf, String> {
    let Some(abi) = ABIS.iter().find(|a| a.name == abi) else {
        let names = ABIS.map(|a| a.name).join(" and ");
        return Err(format!("the device's ABI is {abi}; sparrow is measured on {names}"));
    };
    let program = match given {
        Some(program) => program.to_owned(),
        None => build(abi)?,
    };
    let bytes = std::fs::read(&program).map_err(|e| format!("{}: {e}", program.display()))?;
    check(&bytes, abi).map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(program)
}

fn build(abi: &Abi) -> Result<PathBuf, String> {
    // It finds the NDK where Android Studio puts it, or by ANDROID_NDK_HOME, and says so if there is none.
    if !has("cargo-ndk") {
        return Err(format!(
            "no cargo-ndk to build sparrow for {0}: install Android's NDK, then rustup target add {1} && \
             cargo install cargo-ndk; or give a program with --binary (bench/android/README.md)",
            abi.name, abi.target
        ));
    }
    run(command("cargo").args(["ndk", "-t", abi.name, "--platform", "24", "build", "--release", "-p", "sparrow-cli"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(abi.target).join("release/sparrow"))
}

/// Whether Android starts this program on this ABI: what the ELF header and the name of its loader say.
fn check(bytes: &[u8], abi: &Abi) -> Result<(), String> {
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        usize::try_from(bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b))).ok()
    };
    if !bytes.starts_with(b"\x7fELF") {
        return Err("not a program for Linux or Android (no ELF header)".into());
    }
    let machine = number(18, 2).unwrap_or_default();
    // 64 bits, little-endian.
    if bytes.get(4..6) != Some(&[2, 1]) || machine != usize::from(abi.machine) {
        let built = ABIS.iter().find(|a| machine == usize::from(a.machine) && bytes.get(4) == Some(&2));
        let built = built.map_or_else(|| format!("another ABI (ELF machine {machine})"), |a| a.name.to_owned());
        return Err(format!("built for {built}, but the device's ABI is {}", abi.name));
    }
    const INTERPRETER: usize = 3;
    let headers = (|| Some((number(32, 8)?, number(54, 2)?, number(56, 2)?)))();
    let (start, size, count) = headers.ok_or("a truncated program")?;
    for at in (0..count).filter_map(|i| start.checked_add(i * size)) {
        if number(at, 4) == Some(INTERPRETER) {
            let name = (|| bytes.get(number(at + 8, 8)?..)?.split(|b| *b == 0).next())().unwrap_or_default();
            if !name.starts_with(b"/system/") {
                return Err(format!(
                    "needs {}, which Android does not have: build it with the NDK, or static (-C target-feature=+crt-static)",
                    String::from_utf8_lossy(name)
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program's header with one program header, of a loader's name.
    fn program(class: u8, machine: u16, loader: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        (bytes[32], bytes[54], bytes[56]) = (64, 56, 1);
        (bytes[64], bytes[72]) = (3, 120);
        bytes.extend(loader);
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_program_android_cannot_start_is_refused() {
        let android = b"/system/bin/linker64";
        let cases: [(Vec<u8>, &str); 7] = [
            (program(2, 183, android), ""),
            (program(2, 62, android), "built for x86_64, but the device's ABI is arm64-v8a"),
            (program(1, 40, android), "another ABI (ELF machine 40)"),
            (program(2, 183, b"/lib/ld-linux-aarch64.so.1"), "needs /lib/ld-linux-aarch64.so.1"),
            (program(2, 183, android)[..40].to_vec(), "truncated"),
            (b"#!/bin/sh\n".to_vec(), "no ELF header"),
            (Vec::new(), "no ELF header"),
        ];
        for (bytes, expected) in cases {
            match check(&bytes, &ABIS[0]) {
                Ok(()) => assert_eq!(expected, ""),
                Err(message) => assert!(!expected.is_empty() && message.contains(expected), "{message}"),
            }
        }
        assert!(find(None, "armeabi-v7a").unwrap_err().contains("armeabi-v7a"));
    }
}
