//! Every kernel of the catalogue against the scalar one, on the CPU at hand or the one qemu plays.
#![cfg(target_arch = "aarch64")]

use sparrow_kernels::{Catalogue, Features, Kernel, Op};
use sparrow_kernels_arm::{CATALOGUE, detect};
use sparrow_testkit::{Case, cases, compare_cases, conv};

/// Every instruction set of this crate, as kernel names end, with what it needs.
const SETS: [(&str, Features); 5] = [
    ("neon", Features::NEON),
    ("fp16", Features::NEON.union(Features::FP16)),
    ("dotprod", Features::NEON.union(Features::DOTPROD)),
    ("i8mm", Features::NEON.union(Features::DOTPROD).union(Features::I8MM)),
    ("sve", Features::SVE),
];

/// What this CPU has: `detect` leaves out SVE where NEON is as fast, but its kernels must be right there too.
fn all() -> Features {
    if std::arch::is_aarch64_feature_detected!("sve") { detect().union(Features::SVE) } else { detect() }
}

/// The kernels to compare and the cases for them: all, or those in one list with the set that
/// `SPARROW_COMPARED_SET` names.
fn compared() -> (Catalogue, Box<dyn Iterator<Item = Case>>) {
    let set = std::env::var("SPARROW_COMPARED_SET").unwrap_or_default();
    if set.is_empty() {
        return (CATALOGUE, cases());
    }
    let of_set = |kernels: &&[Kernel]| kernels.iter().any(|kernel| kernel.name.ends_with(&set));
    let compared: Vec<_> = CATALOGUE.iter().copied().filter(of_set).collect();
    assert!(!compared.is_empty(), "there is no set '{set}'");
    assert!(compared.iter().copied().flatten().all(|kernel| [Op::Conv, Op::Depthwise].contains(&kernel.op)));
    println!("kernels of {set} alone, and those in one list with them, are compared");
    (compared.leak(), Box::new(conv::cases().map(|case| case.to_case())))
}

/// Kernels of these features that a catalogue holds.
fn expected(catalogue: Catalogue, features: Features) -> usize {
    catalogue.iter().copied().flatten().filter(|kernel| features.contains(kernel.requires)).count()
}

/// The features whose kernels have to run: `SPARROW_EXPECTED_FEATURES`, names with commas between, where whoever starts the
/// test knows the CPU; otherwise what is found.
fn demanded() -> Features {
    let Ok(names) = std::env::var("SPARROW_EXPECTED_FEATURES") else { return all() };
    let feature = |name: &str| Features::by_name(name).unwrap_or_else(|| panic!("there is no feature '{name}'"));
    names.split(',').map(feature).fold(Features::NONE, Features::union)
}

#[test]
fn kernels_agree_with_scalar() {
    let features = all();
    assert_eq!(features, demanded(), "the CPU's features are not those that were expected");
    for (name, _) in SETS.iter().filter(|(_, set)| features.contains(*set)) {
        let ends_so = CATALOGUE.iter().copied().flatten().any(|kernel| kernel.name.ends_with(name));
        assert!(ends_so, "the catalogue was built without kernels for {name}");
    }
    let (catalogue, cases) = compared();
    let report = compare_cases(catalogue, features, cases);
    println!("{report}");
    let executed = report.kernels.iter().filter(|kernel| kernel.cases > 0).count();
    assert_eq!(executed, expected(catalogue, features), "never ran: {:?}", report.idle().collect::<Vec<_>>());
    assert!(report.ok(), "{report}");
}

#[test]
fn masked_features_are_not_used() {
    let full = all();
    for (name, feature) in SETS.iter().skip(1).map(|(name, _)| (name, Features::by_name(name).unwrap())) {
        let features = full.without(feature);
        let report = compare_cases(CATALOGUE, features, cases().take(40));
        let skipped: Vec<_> = report.skipped().collect();
        assert_eq!(skipped.len(), report.kernels.len() - expected(CATALOGUE, features));
        assert!(
            report.kernels.iter().all(|kernel| kernel.name.ends_with(name) <= kernel.skipped),
            "{name}: {skipped:?}"
        );
    }
}

#[test]
fn detection_agrees_with_the_standard_library() {
    let found = [
        (Features::NEON, std::arch::is_aarch64_feature_detected!("neon")),
        (Features::FP16, std::arch::is_aarch64_feature_detected!("fp16")),
        (Features::DOTPROD, std::arch::is_aarch64_feature_detected!("dotprod")),
        (Features::I8MM, std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    for (feature, there) in found {
        assert_eq!(detect().contains(feature), there, "{feature:?}");
    }
}

#[test]
fn sve_is_named_where_its_vectors_are_long() {
    let bytes: u64;
    if !std::arch::is_aarch64_feature_detected!("sve") {
        return assert!(!detect().contains(Features::SVE));
    }
    // SAFETY: the CPU has SVE.
    unsafe { std::arch::asm!(".arch_extension sve", "cntb {}", out(reg) bytes) };
    assert_eq!(detect().contains(Features::SVE), bytes > 32, "{bytes} bytes");
}

#[test]
fn names_follow_the_grammar() {
    let operations = [
        ("conv", Op::Conv),
        ("spconv", Op::Conv),
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
        let (_, set) =
            SETS.iter().find(|(set, _)| name.ends_with(set)).unwrap_or_else(|| panic!("{name}: instruction set"));
        assert!(kernel.requires == *set, "{name}: features");
        if let Some((_, op)) = operations.iter().find(|(operation, _)| *operation == parts[0]) {
            assert!(kernel.op == *op && ["f32", "f16", "i8"].contains(&parts[1]), "{name}: operation and type");
            assert!(kernel.op != Op::Conv || ["b16", "b8", "b4"].contains(&parts[2]), "{name}: block");
        } else {
            assert_eq!(parts[0], kernel.op.name(), "{name}: operation");
        }
    }
}
