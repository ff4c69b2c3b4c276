//! Compiles the SVE kernels, which are C: Rust has no stable SVE types.
//!
//! Only for 64-bit Arm Linux and Android (Apple's cores have no SVE outside streaming mode), and only where a C compiler
//! for the target is found (`CC_<target>` or what the crate `cc` looks for); otherwise the crate goes without them.

use std::env::var;

/// The sources, and how each is optimized: the tiles are loops in the order they want, the rest is better small.
const SOURCES: [(&str, &str); 3] = [("conv", "2"), ("depthwise", "s"), ("last", "s")];

fn main() {
    println!("cargo:rerun-if-changed=sve");
    println!("cargo:rustc-check-cfg=cfg(sparrow_sve)");
    let [arch, os] = ["CARGO_CFG_TARGET_ARCH", "CARGO_CFG_TARGET_OS"].map(|name| var(name).unwrap_or_default());
    if arch != "aarch64" || !["linux", "android"].contains(&os.as_str()) {
        return;
    }
    let compiled = SOURCES.iter().try_for_each(|(name, level)| {
        cc::Build::new()
            .file(format!("sve/{name}.c"))
            .flag("-march=armv8.2-a+sve")
            // It calls nothing, so it needs no C library: none of its headers either.
            .flag("-ffreestanding")
            // Results must be the same everywhere: no fused multiply-add that the source does not ask for.
            .flag("-ffp-contract=off")
            // Operands are bytes that hold what their types say.
            .flag("-fno-strict-aliasing")
            .flag("-fvisibility=hidden")
            // GCC would need more registers in another order.
            .flag_if_supported("-fno-schedule-insns")
            .opt_level_str(level)
            .warnings(true)
            .try_compile(&format!("sparrow_sve_{name}"))
    });
    match compiled {
        Ok(()) => println!("cargo:rustc-cfg=sparrow_sve"),
        Err(error) => println!(
            "cargo:warning=built without SVE kernels: no working C compiler for the target ({error}); set CC_<target>"
        ),
    }
}
