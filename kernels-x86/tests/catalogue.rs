//! Every kernel of the catalogue against the scalar one, with all of the CPU's features and with AVX-512 masked off.
#![cfg(target_arch = "x86_64")]

use sparrow_kernels::{Features, Layout, Op};
use sparrow_kernels_x86::{CATALOGUE, detect};
use sparrow_testkit::{compare, compare_cases, conv};

const AVX512: Features = Features::AVX512.union(Features::VNNI);

/// Compares at these features; every kernel they allow must have run.
fn check(features: Features) {
    let report = compare(CATALOGUE, features);
    println!("{report}");
    let expected = CATALOGUE.iter().copied().flatten().filter(|kernel| features.contains(kernel.requires)).count();
    let executed = report.kernels.iter().filter(|kernel| kernel.cases > 0).count();
    assert_eq!(
        executed,
        expected,
        "kernels the features allow, but that never ran: {:?}",
        report.idle().collect::<Vec<_>>()
    );
    assert!(report.ok(), "{report}");
}

#[test]
fn features_agree_with_the_standard_library() {
    let found = detect();
    let cases = [
        (Features::AVX2, is_x86_feature_detected!("avx2")),
        (Features::FMA, is_x86_feature_detected!("fma")),
        (Features::F16C, is_x86_feature_detected!("f16c")),
        (
            Features::AVX512,
            is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq"),
        ),
        (Features::VNNI, is_x86_feature_detected!("avx512vnni")),
        (Features::VBMI, is_x86_feature_detected!("avx512vbmi")),
    ];
    for (feature, expected) in cases {
        assert_eq!(found.contains(feature), expected, "{feature:?}");
    }
}

#[test]
fn avx2_kernels_agree_with_scalar() {
    check(detect().without(AVX512));
}

#[test]
fn all_kernels_agree_with_scalar() {
    if detect().contains(AVX512) {
        check(detect());
    } else {
        println!("no AVX-512 VNNI: its kernels are skipped");
    }
}

#[test]
fn the_pixels_of_a_row_may_be_one() {
    // As those of a row outside the picture are, which some kernels read elsewhere.
    let still = conv::cases().filter(|case| case.op == Op::Depthwise && case.params.oc == 32).map(|mut case| {
        case.params.x.pixel = 0;
        case.to_case()
    });
    let report = compare_cases(CATALOGUE, detect(), still);
    assert!(report.refused.is_empty() && report.kernels.iter().all(|kernel| kernel.failed == 0), "{report}");
    let ran = |kernel: &sparrow_testkit::KernelReport| kernel.name.starts_with("depthwise_i8") && kernel.cases > 5;
    assert!(report.kernels.iter().any(ran), "{report}");
}

#[test]
fn byte_products_are_exact() {
    // Pairs of weights whose sums lie around what 16 bits hold with the greatest activations, and the greatest of all.
    const PAIRS: [[f32; 2]; 8] = [
        [64.0, 64.0],
        [64.0, 65.0],
        [-64.0, -64.0],
        [-65.0, -64.0],
        [127.0, -128.0],
        [0.0, 1.0],
        [127.0, 127.0],
        [-128.0, -128.0],
    ];
    let dense = |case: &conv::ConvCase| case.layout == Layout::DenseI8 && case.params.kc >= 16;
    let cases = [127.0, 126.0, 76.0, 0.0, -1.0, -2.0, -128.0].into_iter().flat_map(|x| {
        conv::cases().filter(dense).map(move |mut case| {
            case.x.fill(x);
            for (n, weight) in case.weights.iter_mut().enumerate() {
                // The last pairs are rare, so that the kernel for small weights takes the case.
                let third = n / 6;
                let pair = if third % 41 < 2 { third % 8 } else { third % 6 };
                *weight = if n / 2 % 3 == 0 { PAIRS[pair][n % 2] } else { 1.0 };
            }
            case.to_case()
        })
    });
    let report = compare_cases(CATALOGUE, detect().without(AVX512), cases);
    assert!(report.kernels.iter().all(|kernel| kernel.failed == 0), "{report}");
    let ran = |kernel: &sparrow_testkit::KernelReport| kernel.name == "convbytes_i8_b16_avx2" && kernel.cases > 100;
    assert!(report.kernels.iter().any(ran), "{report}");
}

#[test]
fn names_follow_the_grammar() {
    let operations: &[(&str, Op)] = &[
        ("conv", Op::Conv),
        ("spconv", Op::Conv),
        ("convpx", Op::Conv),
        ("convbytes", Op::Conv),
        ("spconv28", Op::Conv),
        ("spconvpx", Op::Conv),
        ("spconvbytes", Op::Conv),
        ("winograd", Op::Conv),
        ("depthwise", Op::Depthwise),
        ("spdepthwise", Op::Depthwise),
    ];
    let mut seen = Vec::new();
    for kernel in CATALOGUE.iter().copied().flatten() {
        let name = kernel.name;
        assert!(!seen.contains(&name), "{name} twice");
        seen.push(name);
        let parts: Vec<&str> = name.split('_').collect();
        let (first, isa) = (parts[0], parts[parts.len() - 1]);
        assert!(operations.contains(&(first, kernel.op)) || first == kernel.op.name(), "{name}: operation");
        assert!(["f32", "f16", "i8", "u8", "i32", "x8"].contains(&parts[1]), "{name}: type");
        let blocks: &[&str] = if kernel.op == Op::Conv { &["b16", "b8", "b4"] } else { &[] };
        assert!(
            parts.len() == 3 && blocks.is_empty() || parts.len() == 4 && blocks.contains(&parts[2]),
            "{name}: block"
        );
        let features = kernel.requires;
        let expected = match (features.contains(Features::VNNI), features.contains(Features::AVX512)) {
            (true, _) => "avx512vnni",
            _ if features.contains(Features::VBMI) => "avx512vbmi",
            (false, true) => "avx512",
            _ => "avx2",
        };
        assert_eq!(isa, expected, "{name}: instruction set");
    }
}
