//! What the CPU has, asked of the operating system: `getauxval` on Linux and Android, `sysctlbyname` on Apple's systems.
//! An unknown system gets NEON, which every 64-bit Arm has.
//!
//! SVE is named only where its vectors are longer than 256 bits. Cores with shorter ones (Cortex-A710 and X2 with 128, Neoverse
//! V1 with 256) do as much a cycle with NEON, whose kernels keep more of a tile in registers and load less.

use sparrow_kernels::Features;

/// The features of this CPU that kernels of this crate may require. Cheap enough to call once a model; no state.
pub fn detect() -> Features {
    if cfg!(target_arch = "aarch64") { Features::NEON.union(system::optional()) } else { Features::NONE }
}

#[cfg(all(target_arch = "aarch64", any(target_os = "linux", target_os = "android")))]
mod system {
    use core::ffi::c_ulong;
    use sparrow_kernels::Features;

    const AT_HWCAP: c_ulong = 16;
    const AT_HWCAP2: c_ulong = 26;
    /// Linux `asm/hwcap.h`: word (0: HWCAP, 1: HWCAP2), bit.
    const BITS: [(usize, u32, Features); 3] =
        [(0, 10, Features::FP16), (0, 20, Features::DOTPROD), (1, 13, Features::I8MM)];
    /// SVE, in HWCAP.
    const SVE: u32 = 22;
    /// Bytes of a vector up to which NEON is as fast.
    const NO_GAIN: u64 = 32;

    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }

    pub fn optional() -> Features {
        let words = [getauxval(AT_HWCAP), getauxval(AT_HWCAP2)];
        let bits = BITS.iter().filter(|(word, bit, _)| words[*word] >> bit & 1 == 1);
        let found = bits.fold(Features::NONE, |all, (_, _, one)| all.union(*one));
        // SAFETY: asked for only where the CPU has SVE.
        let long = words[0] >> SVE & 1 == 1 && unsafe { vector_bytes() } > NO_GAIN;
        if long { found.union(Features::SVE) } else { found }
    }

    /// Bytes of an SVE vector.
    ///
    /// # Safety
    /// The CPU has SVE.
    unsafe fn vector_bytes() -> u64 {
        let bytes;
        // SAFETY: reads a constant of the CPU, which has SVE by the caller's promise.
        unsafe {
            core::arch::asm!(".arch_extension sve", "cntb {}", out(reg) bytes, options(pure, nomem, nostack, preserves_flags))
        };
        bytes
    }
}

#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
mod system {
    use core::ffi::{CStr, c_char, c_int, c_void};
    use sparrow_kernels::Features;

    const NAMES: [(&CStr, Features); 3] = [
        (c"hw.optional.arm.FEAT_FP16", Features::FP16),
        (c"hw.optional.arm.FEAT_DotProd", Features::DOTPROD),
        (c"hw.optional.arm.FEAT_I8MM", Features::I8MM),
    ];

    unsafe extern "C" {
        fn sysctlbyname(
            name: *const c_char,
            old: *mut c_void,
            old_len: *mut usize,
            new: *mut c_void,
            new_len: usize,
        ) -> c_int;
    }

    fn has(name: &CStr) -> bool {
        let (mut value, mut len) = (0 as c_int, size_of::<c_int>());
        // SAFETY: `name` ends in NUL; `value` and `len` are valid for writes and `len` is `value`'s size.
        let failed =
            unsafe { sysctlbyname(name.as_ptr(), (&raw mut value).cast(), &raw mut len, core::ptr::null_mut(), 0) };
        failed == 0 && value == 1
    }

    pub fn optional() -> Features {
        NAMES.iter().filter(|(name, _)| has(name)).fold(Features::NONE, |all, (_, one)| all.union(*one))
    }
}

#[cfg(not(all(target_arch = "aarch64", any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
mod system {
    pub fn optional() -> sparrow_kernels::Features {
        sparrow_kernels::Features::NONE
    }
}
