//! Packages for phones: the Android archive and the Apple framework.
//!
//! Both build with what the machine has. Without the NDK, Android's libraries are linked against stand-ins for the
//! system's: good for looking at (exports, size, alignment), not for a device, and that is said.

use crate::hosts::javac;
use crate::shell::{command, output, root, run};
use crate::tools::{self, Cross, SMALL_STD};
use std::path::{Path, PathBuf};
use std::process::Command;

/// For which processors.
#[derive(clap::Args)]
pub struct AarArgs {
    /// The ABIs, as Android calls them.
    #[arg(long, value_delimiter = ',', default_value = "arm64-v8a,x86_64,armeabi-v7a")]
    abi: Vec<String>,
}

const API: &str = "24";
/// ABI, Rust's target, clang's.
const ABIS: [(&str, &str, &str); 3] = [
    ("arm64-v8a", "aarch64-linux-android", "aarch64-linux-android"),
    ("x86_64", "x86_64-linux-android", "x86_64-linux-android"),
    ("armeabi-v7a", "armv7-linux-androideabi", "armv7a-linux-androideabi"),
];
/// Largest pages of 64-bit Android.
const PAGE: u64 = 16 << 10;

fn make(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn fresh(name: &str) -> Result<PathBuf, String> {
    let folder = root().join("target").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    make(&folder).map(|()| folder)
}

/// What is left out of a library in which nothing unwinds, on the oldest Android that is supported. Cargo's `strip` does not
/// reach a package that the profile has an entry for. A panic is one instruction: with a message it takes the texts, what
/// formats them, and the walk up the stack, for which the NDK links its libunwind.
const LEAN: &str = "-Cstrip=symbols -Zunstable-options -Cpanic=immediate-abort -Cforce-unwind-tables=no \
                    -Clink-arg=-Wl,--pack-dyn-relocs=android -Clink-arg=-Wl,--icf=all";
/// What of the standard library is built: [`SMALL_STD`] of it.
const STD: &str = "std,panic_abort";

/// Builds a package's library for one ABI with the NDK; where it lies.
fn with_ndk(abi: &str, target: &str, package: &str) -> Result<PathBuf, String> {
    if output(command("cargo").args(["ndk", "--version"])).is_none() {
        return Err("the NDK is here, cargo-ndk is not: cargo install cargo-ndk".into());
    }
    run(command("rustup").args(["target", "add", target]))?;
    run(command("rustup").args(["component", "add", "rust-src"]))?;
    run(command("cargo")
        .args(["ndk", "-t", abi, "--platform", API, "build", "--profile", "small", "-p", package])
        .args(["-Z", &format!("build-std={STD}"), "-Z", SMALL_STD])
        .env("RUSTFLAGS", LEAN)
        .env("RUSTC_BOOTSTRAP", "1"))?;
    Ok(root().join("target").join(target).join("small").join(file_name(package)))
}

fn file_name(package: &str) -> String {
    format!("lib{}.so", package.replace('-', "_"))
}

/// The libraries every link for Android names, and of each what a library of ours may leave to it. Nothing is in a list but
/// what Rust's standard library was seen to take and the maps of [`API`]'s libraries have: a device that lacks a symbol does
/// not load the library, and no link against stand-ins would say so.
const ANDROID: [(&str, &str); 6] = [
    (
        "libc.so",
        "__errno abort clock_gettime close free fstat getauxval getenv malloc memcmp memcpy memset mmap64 munmap open \
         posix_memalign prctl pthread_attr_destroy pthread_attr_init pthread_attr_setstacksize pthread_create pthread_detach \
         pthread_getspecific pthread_join pthread_key_create pthread_key_delete pthread_setspecific realloc sched_yield \
         strerror_r strlen syscall sysconf",
    ),
    ("libdl.so", ""),
    // The NDK would link it statically.
    ("libunwind.so", ""),
    ("libm.so", ""),
    ("liblog.so", ""),
    ("libgcc.so", ""),
];

/// The symbols that a library leaves to others and [`ANDROID`] does not know, by its dynamic symbols as `readelf` prints them.
/// Weak ones may be missing where it is loaded.
fn unknown(symbols: &str) -> Result<Vec<&str>, String> {
    let words = symbols.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let left = words.filter(|words| words.get(4) == Some(&"GLOBAL") && words.get(6) == Some(&"UND"));
    let mut left: Vec<&str> = left.filter_map(|words| words.get(7)?.split('@').next()).collect();
    if left.is_empty() {
        return Err("readelf lists no symbol that the library takes from libc".into());
    }
    left.retain(|name| !ANDROID.iter().any(|(_, has)| has.split(' ').any(|known| known == *name)));
    Ok(left)
}

/// Libraries with the names of Android's and functions that do nothing.
fn stand_ins(clang: &str) -> Result<PathBuf, String> {
    let folder = root().join("target/android-stand-ins").join(clang);
    make(&folder)?;
    for (name, has) in ANDROID {
        let source = folder.join(name).with_extension("c");
        let functions: String = has.split_whitespace().map(|name| format!("void {name}(void) {{}}\n")).collect();
        write(&source, &functions)?;
        let soname = format!("-Wl,-soname,{name}");
        let mut compiler = stand_in_compiler(clang);
        compiler.args(["-shared", "-w", "-ffreestanding", &soname, "-o"]).arg(folder.join(name)).arg(&source);
        run(&mut compiler)?;
    }
    Ok(folder)
}

fn stand_in_compiler(clang: &str) -> Command {
    let mut compiler = command("clang-22");
    compiler.arg(format!("--target={clang}{API}")).args(["-fuse-ld=lld-22", "-nostdlib"]);
    compiler
}

fn with_stand_ins(target: &'static str, clang: &str, package: &str) -> Result<PathBuf, String> {
    tools::debian(&["clang-22", "lld-22"])?;
    let libraries = stand_ins(clang)?;
    let flags = format!(
        "{LEAN} -Clink-arg=--target={clang}{API} -Clink-arg=-fuse-ld=lld-22 -Clink-arg=-nostdlib -Lnative={}",
        libraries.display()
    );
    let name = target.replace('-', "_");
    let upper = name.to_uppercase();
    let cross = Cross::small(target)?;
    let mut cargo = cross.cargo("build", STD);
    cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), "clang-22");
    cargo.env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), flags);
    cargo.env(format!("CC_{name}"), "clang-22").env(format!("CFLAGS_{name}"), format!("--target={clang}{API}"));
    run(cargo.args(["--profile", "small", "-p", package]))?;
    Ok(cross.built("small").join(file_name(package)))
}

/// Builds a package's library for one ABI and proves that Android has what it leaves undefined; where it lies.
fn build(abi: &str, package: &str) -> Result<PathBuf, String> {
    let known = ABIS.iter().find(|(name, ..)| *name == abi);
    let (name, target, clang) = known.ok_or(format!("there is no ABI '{abi}': {}", ABIS.map(|a| a.0).join(", ")))?;
    let library = if has_ndk() { with_ndk(name, target, package) } else { with_stand_ins(target, clang, package) }?;
    tools::debian(&["binutils"])?;
    match unknown(&readelf("--dyn-syms", &library)?)?[..] {
        [] => Ok(library),
        ref names => {
            Err(format!("{abi}: {package} leaves symbols undefined that Android may lack: {}", names.join(", ")))
        }
    }
}

fn readelf(option: &str, library: &Path) -> Result<String, String> {
    output(command("readelf").args(["-W", option]).arg(library)).ok_or("readelf failed".into())
}

fn has_ndk() -> bool {
    ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Prints the sizes of the libraries for 64-bit Android.
///
/// # Errors
/// As [`aar`].
pub fn size() -> Result<(), String> {
    for package in ["sparrow-c", "sparrow-jni"] {
        let library = build(ABIS[0].0, package)?;
        let size = std::fs::metadata(&library).map_err(|e| format!("{}: {e}", library.display()))?.len();
        println!("{size:>9} {}", library.display());
    }
    Ok(())
}

/// Refuses a library that Android could not load: wrong alignment, missing methods, a C++ runtime.
fn check_library(abi: &str, library: &Path) -> Result<(), String> {
    let headers = readelf("-l", library)?;
    let loads = headers.lines().map(str::split_whitespace).filter(|words| words.clone().next() == Some("LOAD"));
    let aligns: Vec<u64> =
        loads.filter_map(|words| u64::from_str_radix(words.last()?.trim_start_matches("0x"), 16).ok()).collect();
    if aligns.is_empty() || aligns.iter().any(|align| *align < PAGE) {
        return Err(format!("{abi}: segments are aligned to {aligns:x?}, 4000 is needed"));
    }
    let symbols = readelf("--dyn-syms", library)?;
    let methods = symbols.matches("Java_dev_sparrow_Native_").count();
    let source = std::fs::read_to_string(root().join("bindings/jni/java/dev/sparrow/Native.java")).unwrap_or_default();
    let declared = source.matches("static native").count();
    if methods != declared {
        return Err(format!("{abi}: {methods} native methods are exported, Native.java declares {declared}"));
    }
    if readelf("-d", library)?.contains("libc++") {
        return Err(format!("{abi}: it needs libc++"));
    }
    let size = std::fs::metadata(library).map_err(|e| e.to_string())?.len();
    println!("{abi}: {size} bytes, {methods} methods, {} segments at multiples of 16 KiB", aligns.len());
    Ok(())
}

/// Packs `target/sparrow.aar`.
///
/// # Errors
/// What is missing, or what fails.
pub fn aar(args: &AarArgs) -> Result<(), String> {
    let folder = fresh("aar")?;
    for abi in &args.abi {
        let library = build(abi, "sparrow-jni")?;
        check_library(abi, &library)?;
        make(&folder.join("jni").join(abi))?;
        copy(&library, &folder.join("jni").join(abi).join("libsparrow_jni.so"))?;
    }
    let classes = fresh("aar-classes")?;
    javac(&classes, None)?;
    run(command("jar").arg("--create").arg("--file").arg(folder.join("classes.jar")).arg("-C").arg(&classes).arg("."))?;
    for name in ["AndroidManifest.xml", "proguard.txt"] {
        copy(&root().join("bindings/jni/android").join(name), &folder.join(name))?;
    }
    // An archive without resources still lists them.
    write(&folder.join("R.txt"), "")?;
    let archive = root().join("target/sparrow.aar");
    run(command("jar").args(["--create", "--no-manifest", "--file"]).arg(&archive).arg("-C").arg(&folder).arg("."))?;
    println!("{}", archive.display());
    if !has_ndk() {
        println!("NOT for a device: without the NDK (ANDROID_NDK_HOME) the libraries are linked against stand-ins.");
    }
    Ok(())
}

/// The framework's slices: its identifier, Rust's target, and, for a simulator, the variant.
const SLICES: [(&str, &str, &str); 2] =
    [("ios-arm64", "aarch64-apple-ios", ""), ("ios-arm64-simulator", "aarch64-apple-ios-sim", "simulator")];

fn slice_plist((identifier, _, variant): &(&str, &str, &str)) -> String {
    let variant = match *variant {
        "" => String::new(),
        variant => format!("<key>SupportedPlatformVariant</key><string>{variant}</string>"),
    };
    format!(
        "<dict><key>LibraryIdentifier</key><string>{identifier}</string><key>LibraryPath</key><string>libsparrow_c.a</string>\
         <key>HeadersPath</key><string>Headers</string><key>SupportedArchitectures</key><array><string>arm64</string></array>\
         <key>SupportedPlatform</key><string>ios</string>{variant}</dict>\n"
    )
}

/// Makes `bindings/swift/CSparrow.xcframework`: static libraries, the header and its module map. An XCFramework is a
/// folder with a list of contents, so no tool of Apple's is needed to make one.
///
/// # Errors
/// What is missing, or what fails.
pub fn xcframework() -> Result<(), String> {
    let folder = root().join("bindings/swift/CSparrow.xcframework");
    for (identifier, target, _) in SLICES {
        let cross = Cross::small(target)?;
        run(cross.cargo("rustc", STD).args(["--profile", "small", "-p", "sparrow-c", "--crate-type", "staticlib"]))?;
        let slice = folder.join(identifier);
        make(&slice.join("Headers"))?;
        copy(&cross.built("small").join("libsparrow_c.a"), &slice.join("libsparrow_c.a"))?;
        copy(&root().join("bindings/c/include/sparrow.h"), &slice.join("Headers/sparrow.h"))?;
        copy(&root().join("bindings/swift/CSparrow/module.modulemap"), &slice.join("Headers/module.modulemap"))?;
    }
    let libraries: String = SLICES.iter().map(slice_plist).collect();
    let plist = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\n<key>AvailableLibraries</key><array>\n\
         {libraries}</array>\n<key>CFBundlePackageType</key><string>XFWK</string>\n\
         <key>XCFrameworkFormatVersion</key><string>1.0</string>\n</dict></plist>\n"
    );
    write(&folder.join("Info.plist"), &plist)?;
    println!("{}", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_android_may_lack() {
        let table = |rows: &str| format!("\nSymbol table '.dynsym' contains 9 entries:\n   Num:    Value {rows}");
        let line = |bind: &str, at: &str, name: &str| {
            format!("\n 1: 0000000000000000     0 FUNC    {bind} DEFAULT  {at} {name}")
        };
        let known = line("GLOBAL", "UND", "malloc@LIBC (2)") + &line("GLOBAL", "UND", "memcpy");
        let ours = line("GLOBAL", "11", "sparrow_run") + &line("WEAK", "UND", "gettid") + &line("LOCAL", "UND", "");
        assert_eq!(unknown(&table(&(known.clone() + &ours))), Ok(vec![]));
        let missing = line("GLOBAL", "UND", "expf") + &line("GLOBAL", "UND", "__cxa_throw@CXXABI_1.3");
        assert_eq!(unknown(&table(&(known + &ours + &missing))), Ok(vec!["expf", "__cxa_throw"]));
        // A table that is read wrongly proves nothing.
        assert!(unknown(&table(&ours)).is_err());
    }
}
