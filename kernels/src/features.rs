//! CPU features a kernel may require. A set of them is a plain mask, so a host can switch any of them off for a test.

/// A set of CPU features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features(pub u32);

macro_rules! features {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $name:literal;)*) => {
        impl Features {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*
            /// Every feature with its name, as `--cpu-mask` and `inspect` spell it.
            pub const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$constant)),*];
        }
    };
}

features! {
    /// Armv8-A Advanced SIMD.
    NEON = 0, "neon";
    /// Armv8.2-A half-precision arithmetic.
    FP16 = 1, "fp16";
    /// Armv8.2-A SDOT and UDOT.
    DOTPROD = 2, "dotprod";
    /// Armv8.6-A SMMLA.
    I8MM = 3, "i8mm";
    /// Scalable vectors of any length.
    SVE = 4, "sve";
    /// x86 AVX2.
    AVX2 = 8, "avx2";
    /// x86 fused multiply-add.
    FMA = 9, "fma";
    /// x86 half-precision conversions.
    F16C = 10, "f16c";
    /// x86 AVX-512 F, BW, DQ and VL together.
    AVX512 = 11, "avx512";
    /// x86 AVX-512 VNNI.
    VNNI = 12, "vnni";
    /// x86 AVX-512 VBMI.
    VBMI = 13, "vbmi";
    /// WebAssembly fixed-width SIMD.
    SIMD128 = 16, "simd128";
    /// WebAssembly relaxed SIMD.
    RELAXED = 17, "relaxed-simd";
    /// The engine's relaxed dot takes its second operand as a full signed byte (probed once).
    DOT_SIGNED = 18, "dot-signed";
    /// The engine's relaxed dot takes its second operand as a full unsigned byte, sums unsaturated (probed once).
    DOT_UNSIGNED = 19, "dot-unsigned";
}

impl Features {
    /// No feature: scalar kernels only.
    pub const NONE: Self = Self(0);

    /// Features of either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Features of `self` that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every feature of `other` is here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The feature called `name`, `None` if there is none.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, feature)| *feature)
    }
}
