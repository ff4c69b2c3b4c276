//! One-instruction shims for what stable Rust offers no intrinsic for, and loads and stores of part of a vector.
//!
//! Each shim names the extension it needs with `.arch_extension`, so that functions need no target feature and inline
//! everywhere; that the CPU has it is the promise of the kernel's `requires`. Multiplications by lane are not declared
//! pure: so the compiler leaves them, and the loads between them, in the order of the source, which in-order cores need. Half-precision vectors are carried as
//! `uint16x8_t`: their bits, not their values.

use core::arch::aarch64::*;
use core::arch::asm;

/// Eight half-precision numbers.
pub type H8 = uint16x8_t;
/// Four half-precision numbers.
pub type H4 = uint16x4_t;

macro_rules! shim {
    ($(#[$doc:meta])* $name:ident: $extension:literal $code:literal ($($arg:ident: $type:ty),*) -> $out:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has the extension.
        #[inline(always)]
        pub unsafe fn $name($($arg: $type),*) -> $out {
            let out: $out;
            // SAFETY: a computation on registers; the extension is there by the caller's promise.
            unsafe {
                asm!(concat!(".arch_extension ", $extension), $code, out = lateout(vreg) out, $($arg = in(vreg) $arg,)* options(pure, nomem, nostack, preserves_flags));
            }
            out
        }
    };
    ($(#[$doc:meta])* $name:ident: $extension:literal $code:literal lane $class:ident ($acc:ty, $w:ty, $x:ty)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has the extension; the lane exists.
        #[inline(always)]
        pub unsafe fn $name<const LANE: i32>(mut acc: $acc, w: $w, x: $x) -> $acc {
            // SAFETY: a computation on registers; the extension is there by the caller's promise.
            unsafe {
                asm!(concat!(".arch_extension ", $extension), $code, acc = inout(vreg) acc, w = in(vreg) w, x = in($class) x, lane = const LANE, options(nomem, nostack, preserves_flags));
            }
            acc
        }
    };
    ($(#[$doc:meta])* $name:ident: $extension:literal $code:literal acc ($acc:ty, $w:ty)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has the extension.
        #[inline(always)]
        pub unsafe fn $name(mut acc: $acc, w: $w, x: $w) -> $acc {
            // SAFETY: a computation on registers; the extension is there by the caller's promise.
            unsafe {
                asm!(concat!(".arch_extension ", $extension), $code, acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
            }
            acc
        }
    };
}

shim! {
    /// `acc[i] += w[4i..4i+4] . x[4 LANE..4 LANE+4]`.
    sdot_lane: "dotprod" "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]" lane vreg (int32x4_t, int8x16_t, int8x16_t)
}
shim! {
    /// `acc[i] += w[4i..4i+4] . x[4i..4i+4]`.
    sdot: "dotprod" "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b" acc (int32x4_t, int8x16_t)
}
shim! {
    /// `acc[2i+j] += w[8i..8i+8] . x[8j..8j+8]`.
    smmla: "i8mm" "smmla {acc:v}.4s, {w:v}.16b, {x:v}.16b" acc (int32x4_t, int8x16_t)
}
shim! {
    /// `acc + w * x[LANE]`, rounded once. Part of the base architecture.
    fmla_lane_s4: "simd" "fmla {acc:v}.4s, {w:v}.4s, {x:v}.s[{lane}]" lane vreg (float32x4_t, float32x4_t, float32x4_t)
}
shim! {
    /// `acc + w * x[LANE]`, rounded once.
    fmla_lane_h8: "fp16" "fmla {acc:v}.8h, {w:v}.8h, {x:v}.h[{lane}]" lane vreg_low16 (H8, H8, H8)
}
shim! {
    /// `acc + w * x[LANE]`, rounded once.
    fmla_lane_h4: "fp16" "fmla {acc:v}.4h, {w:v}.4h, {x:v}.h[{lane}]" lane vreg_low16 (H4, H4, H8)
}
shim! {
    /// `acc + w * x`, rounded once.
    fmla_h8: "fp16" "fmla {acc:v}.8h, {w:v}.8h, {x:v}.8h" acc (H8, H8)
}
shim! {
    /// The greater of each; a number rather than NaN.
    fmaxnm_h8: "fp16" "fmaxnm {out:v}.8h, {a:v}.8h, {b:v}.8h" (a: H8, b: H8) -> H8
}
shim! {
    /// The lesser of each; a number rather than NaN.
    fminnm_h8: "fp16" "fminnm {out:v}.8h, {a:v}.8h, {b:v}.8h" (a: H8, b: H8) -> H8
}
shim! {
    /// Sum.
    fadd_h8: "fp16" "fadd {out:v}.8h, {a:v}.8h, {b:v}.8h" (a: H8, b: H8) -> H8
}
shim! {
    /// Widened. Part of the base architecture.
    widen: "simd" "fcvtl {out:v}.4s, {a:v}.4h" (a: H4) -> float32x4_t
}
shim! {
    /// Rounded to half precision, ties to even. Part of the base architecture.
    narrow: "simd" "fcvtn {out:v}.4h, {a:v}.4s" (a: float32x4_t) -> H4
}

/// Four bytes `even` from a place and four bytes `odd` from it, in the low half. The compiler would load the second word into
/// its lane, which waits for the first, and would hold the words of several calls at a time.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub unsafe fn load_words(from: *const u8, even: usize, odd: usize) -> int64x2_t {
    let words: int64x2_t;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr {a:s}, [{from}, {even}]",
            "ldr {b:s}, [{from}, {odd}]",
            "zip1 {a:v}.2s, {a:v}.2s, {b:v}.2s",
            a = out(vreg) words, b = out(vreg) _, from = in(reg) from, even = in(reg) even, odd = in(reg) odd,
            options(readonly, nostack, preserves_flags)
        );
    }
    words
}

/// `start + a * b + c`, rounded twice, of two vectors, and of the results' words the low halves. One instruction to the
/// compiler, so that sums leave registers in the order of the source.
///
/// # Safety
/// None beyond the base architecture.
#[inline(always)]
pub unsafe fn fmla_halves(
    start: &[float32x4_t; 2],
    a: [float32x4_t; 2],
    b: [float32x4_t; 2],
    c: float32x4_t,
) -> int16x8_t {
    let halves;
    // SAFETY: reads what the reference holds.
    unsafe {
        asm!(
            "ldr {s0:q}, [{start}]",
            "ldr {s1:q}, [{start}, #16]",
            "fmla {s0:v}.4s, {a0:v}.4s, {b0:v}.4s",
            "fmla {s1:v}.4s, {a1:v}.4s, {b1:v}.4s",
            "fadd {s0:v}.4s, {s0:v}.4s, {c:v}.4s",
            "fadd {s1:v}.4s, {s1:v}.4s, {c:v}.4s",
            "uzp1 {s0:v}.8h, {s0:v}.8h, {s1:v}.8h",
            start = in(reg) start, a0 = in(vreg) a[0], a1 = in(vreg) a[1], b0 = in(vreg) b[0], b1 = in(vreg) b[1],
            c = in(vreg) c, s0 = out(vreg) halves, s1 = out(vreg) _,
            options(readonly, nostack, preserves_flags)
        );
    }
    halves
}

/// `start + a * b`, each rounded once, of four vectors. The starts are loaded here: copies would take a pipe of the products,
/// and loads that the compiler places it places early, by which registers run out.
///
/// # Safety
/// None beyond the base architecture.
#[inline(always)]
pub unsafe fn fmla_from(start: &[float32x4_t; 4], a: [float32x4_t; 4], b: &[float32x4_t; 4]) -> [float32x4_t; 4] {
    let (s0, s1, s2, s3);
    // SAFETY: reads what the reference holds.
    unsafe {
        asm!(
            "ldr {s0:q}, [{start}]",
            "ldr {s1:q}, [{start}, #16]",
            "ldr {s2:q}, [{start}, #32]",
            "ldr {s3:q}, [{start}, #48]",
            "fmla {s0:v}.4s, {a0:v}.4s, {b0:v}.4s",
            "fmla {s1:v}.4s, {a1:v}.4s, {b1:v}.4s",
            "fmla {s2:v}.4s, {a2:v}.4s, {b2:v}.4s",
            "fmla {s3:v}.4s, {a3:v}.4s, {b3:v}.4s",
            start = in(reg) start,
            a0 = in(vreg) a[0], a1 = in(vreg) a[1], a2 = in(vreg) a[2], a3 = in(vreg) a[3],
            b0 = in(vreg) b[0], b1 = in(vreg) b[1], b2 = in(vreg) b[2], b3 = in(vreg) b[3],
            s0 = out(vreg) s0, s1 = out(vreg) s1, s2 = out(vreg) s2, s3 = out(vreg) s3,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [s0, s1, s2, s3]
}

/// No load moves across this place. Without it the compiler begins the next turn of a loop with the loads that this one makes
/// ahead, and an in-order core waits for them.
#[inline(always)]
pub fn in_order() {
    // SAFETY: no instruction.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// The address, in a register of its own. The compiler would add up what one address is from another in each turn of a loop.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // Nothing is read.
pub fn own(mut address: *const u8) -> *const u8 {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
    address
}

/// What is there, loaded once more rather than copied from a register, which would take a pipe of the products; and by an
/// instruction of its own, since two vectors a load cost more than two loads.
#[inline(always)]
pub fn again<T: Copy>(place: &T) -> T {
    // SAFETY: a reference is readable.
    unsafe { core::ptr::from_ref(place).read_volatile() }
}

/// Two vectors rounded to half precision.
///
/// # Safety
/// None beyond the base architecture.
#[inline(always)]
pub unsafe fn narrow_pair(low: float32x4_t, high: float32x4_t) -> H8 {
    // SAFETY: base architecture.
    unsafe { vcombine_u16(narrow(low), narrow(high)) }
}

/// The first `n <= 16` bytes at `from`, zeros behind them.
///
/// # Safety
/// `n` bytes are readable.
#[inline(always)]
pub unsafe fn load_bytes(from: *const u8, n: usize) -> uint8x16_t {
    let mut bytes = [0u8; 16];
    // SAFETY: `n <= 16` bytes are readable.
    unsafe {
        core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), n.min(16));
        vld1q_u8(bytes.as_ptr())
    }
}

/// Writes the first `n <= 16` bytes of `v`.
///
/// # Safety
/// `n` bytes are writable.
#[inline(always)]
pub unsafe fn store_bytes(to: *mut u8, v: uint8x16_t, n: usize) {
    let mut bytes = [0u8; 16];
    // SAFETY: `n <= 16` bytes are writable.
    unsafe {
        vst1q_u8(bytes.as_mut_ptr(), v);
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n.min(16));
    }
}
