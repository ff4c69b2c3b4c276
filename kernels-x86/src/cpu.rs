//! What this CPU can do, read from `cpuid` without the standard library.

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use sparrow_kernels::Features;

/// The features this CPU has and its operating system saves on a task switch.
pub fn detect() -> Features {
    let bit = |word: u32, n: u32| word >> n & 1 == 1;
    if __cpuid(0).eax < 7 {
        return Features::NONE;
    }
    let (base, extended) = (__cpuid(1).ecx, __cpuid_count(7, 0));
    let (osxsave, avx) = (bit(base, 27), bit(base, 28));
    if !(osxsave && avx) {
        return Features::NONE;
    }
    let states = saved_states();
    let (ymm, zmm) = (states & 0x6 == 0x6, states & 0xe6 == 0xe6);
    // F, DQ, BW and VL.
    let avx512 = zmm && [16, 17, 30, 31].iter().all(|&n| bit(extended.ebx, n));
    let found = [
        (ymm && bit(extended.ebx, 5), Features::AVX2),
        (ymm && bit(base, 12), Features::FMA),
        (ymm && bit(base, 29), Features::F16C),
        (avx512, Features::AVX512),
        (avx512 && bit(extended.ecx, 11), Features::VNNI),
        (avx512 && bit(extended.ecx, 1), Features::VBMI),
    ];
    found.iter().filter(|(there, _)| *there).fold(Features::NONE, |all, (_, feature)| all.union(*feature))
}

/// The register states the operating system saves (XCR0).
fn saved_states() -> u64 {
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists where XGETBV does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: `detect` has seen OSXSAVE, which says that XGETBV is there.
    unsafe { xcr0() }
}
