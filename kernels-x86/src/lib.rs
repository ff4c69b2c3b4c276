//! Sparrow's kernels for x86-64, at two levels: AVX2 with FMA and F16C, and AVX-512 with VNNI.
//!
//! One algorithm per family is written once over a small trait of vectors ([`vector`]) or of multiply-add steps
//! ([`conv`]); an instruction set is an instance of it with its own tile size, in a shell that carries the
//! `#[target_feature]`. Everything between shell and intrinsic is `#[inline(always)]`, so that it is compiled with the
//! shell's features. What a shell may not forget is therefore one thing: to name every feature its instance uses.
//!
//! Empty on other architectures.
#![no_std]
#![cfg(target_arch = "x86_64")]

mod arithmetic;
mod conv;
mod cpu;
mod depthwise;
mod finish;
mod lookup;
mod pixels;
mod vector;
mod winograd;

pub use cpu::detect;

use sparrow_kernels::{Catalogue, Features};

/// What the AVX2 kernels require.
const AVX2: Features = Features::AVX2.union(Features::FMA).union(Features::F16C);
/// What the AVX-512 float kernels require.
const AVX512: Features = AVX2.union(Features::AVX512);
/// What the AVX-512 integer kernels require.
const VNNI: Features = AVX512.union(Features::VNNI);

sparrow_kernels::lanes! {
    /// The operators that are written once for all instruction sets, with AVX2.
    AVX2_LANES: vector::V8, "avx2", AVX2, "avx2,fma,f16c"
}

sparrow_kernels::lanes! {
    /// The same with AVX-512.
    AVX512_LANES: vector::V16, "avx512", AVX512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
}

/// Every kernel of this crate, the widest vectors first.
pub static CATALOGUE: Catalogue = &[
    winograd::CATALOGUE,
    conv::few::CATALOGUE,
    conv::pixels::CATALOGUE,
    conv::VNNI_CATALOGUE,
    conv::AVX512_CATALOGUE,
    conv::bytes::CATALOGUE,
    conv::AVX2_CATALOGUE,
    depthwise::VNNI_CATALOGUE,
    depthwise::AVX512_CATALOGUE,
    depthwise::AVX2_CATALOGUE,
    lookup::CATALOGUE,
    pixels::CATALOGUE,
    AVX512_LANES,
    AVX2_LANES,
];
