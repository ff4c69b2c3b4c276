//! Every kernel against the scalar one on a machine that is only emulated: Bochs knows AVX-512 with VNNI where this
//! machine's CPU, and qemu, do not.
//!
//! There is no operating system to boot, which an emulator of a hundredth of a CPU's speed would spend minutes on. Bochs
//! takes this program's reset vector as its BIOS and puts the rest into memory at 1 MiB:
//!
//! ```text
//! 0xffff0000  .reset   16-bit code: to protected mode and away        boot.s, bare.ld
//! 0x00100000  .text .rodata .data .bss    long mode, XCR0, `start`; one page of 1 GiB maps everything
//!             heap
//! 0x1ff00000  stack, downwards
//! ```
//!
//! Text goes to port 0xe9, which Bochs prints; `cargo xtask test avx512` builds, runs and judges it. The feature `bare`
//! holds what only a program without std has, so that a build of the whole workspace finds a plain library here.
#![no_std]
#![cfg(target_arch = "x86_64")]

extern crate alloc;

#[cfg(feature = "bare")]
mod machine;

use alloc::vec::Vec;
use core::fmt::{self, Write};
use sparrow_kernels::{Features, Kernel};
use sparrow_kernels_x86::{CATALOGUE, detect};

/// Compares the kernels that need AVX-512, as the others run anywhere, and prints the report, then a verdict on a line of
/// its own.
///
/// # Errors
/// The text could not be written.
pub fn compare(text: &mut impl Write) -> fmt::Result {
    if !detect().contains(Features::AVX512.union(Features::VNNI)) {
        return writeln!(text, "verdict: no AVX-512 VNNI here");
    }
    let wide = |family: &&'static [Kernel]| family.iter().all(|kernel| kernel.requires.contains(Features::AVX512));
    let families: Vec<&'static [Kernel]> = CATALOGUE.iter().copied().filter(wide).collect();
    let report = sparrow_testkit::compare(families.leak(), detect());
    writeln!(text, "report:")?;
    let verdict = if report.ok() { "agreed" } else { "DIFFERENT" };
    writeln!(text, "{report}verdict: {verdict}")
}
