//! What a comparison found.

use crate::{Case, Order};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use sparrow_kernels::{Catalogue, Features, Kernel, MAX_OUTPUTS};

/// Failures of one kernel that are kept in words.
const KEPT: usize = 5;

/// What was seen of one kernel.
#[derive(Clone, Debug)]
pub struct KernelReport {
    /// Its name.
    pub name: &'static str,
    /// Whether the CPU lacks what it requires, so that it was not run.
    pub skipped: bool,
    /// Cases it accepted and ran.
    pub cases: usize,
    /// Cases it failed.
    pub failed: usize,
    /// The first few failures.
    pub failures: Vec<String>,
}

/// What was seen of a catalogue. Its `Display` is a line a kernel and the first failures of each.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every kernel of the catalogue.
    pub kernels: Vec<KernelReport>,
    /// Cases the contract's check refused: mistakes of the generators.
    pub refused: Vec<String>,
}

impl Report {
    /// Whether every kernel whose features are there accepted some case, and none failed.
    pub fn ok(&self) -> bool {
        self.refused.is_empty() && self.kernels.iter().all(|kernel| kernel.failed == 0) && self.idle().next().is_none()
    }

    /// Kernels the CPU can run that never accepted a case.
    pub fn idle(&self) -> impl Iterator<Item = &'static str> {
        self.kernels.iter().filter(|kernel| !kernel.skipped && kernel.cases == 0).map(|kernel| kernel.name)
    }

    /// Kernels the CPU cannot run.
    pub fn skipped(&self) -> impl Iterator<Item = &'static str> {
        self.kernels.iter().filter(|kernel| kernel.skipped).map(|kernel| kernel.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for kernel in &self.kernels {
            let KernelReport { name, cases, failed, .. } = kernel;
            match (kernel.skipped, cases) {
                (true, _) => writeln!(f, "{name:<40} skipped: the CPU lacks its features")?,
                (false, 0) => writeln!(f, "{name:<40} NEVER ACCEPTED A CASE")?,
                _ => writeln!(f, "{name:<40} {cases} cases, {failed} failed")?,
            }
            for failure in &kernel.failures {
                writeln!(f, "    {failure}")?;
            }
        }
        self.refused.iter().try_for_each(|case| writeln!(f, "refused by the check: {case}"))
    }
}

/// Runs every case of [`crate::cases`] through every kernel of `catalogue` that `features` can run.
/// `features` must be ones the CPU has.
pub fn compare(catalogue: Catalogue, features: Features) -> Report {
    compare_cases(catalogue, features, crate::cases())
}

/// As [`compare`], on cases of one's own.
pub fn compare_cases(catalogue: Catalogue, features: Features, cases: impl Iterator<Item = Case>) -> Report {
    let all: Vec<&Kernel> = catalogue.iter().copied().flatten().collect();
    let kernels = all.iter().map(|kernel| KernelReport {
        name: kernel.name,
        skipped: !features.contains(kernel.requires),
        cases: 0,
        failed: 0,
        failures: Vec::new(),
    });
    let mut report = Report { kernels: kernels.collect(), refused: Vec::new() };
    for case in cases.filter(|case| all.iter().any(|kernel| kernel.op == case.op)) {
        let want = match scalar(&case) {
            Ok(want) => want,
            Err(error) => {
                report.refused.push(alloc::format!("{}: {error}", case.name));
                continue;
            }
        };
        for (kernel, report) in all.iter().zip(&mut report.kernels) {
            if report.skipped || !case.accepted_by(kernel) {
                continue;
            }
            report.cases += 1;
            if let Err(error) = agree(&case, kernel, &want) {
                report.failed += 1;
                if report.failures.len() < KEPT {
                    report.failures.push(alloc::format!("{}: {error}", case.name));
                }
            }
        }
    }
    report
}

/// The scalar kernel's result.
fn scalar(case: &Case) -> Result<[Vec<u8>; MAX_OUTPUTS], String> {
    let kernels = sparrow_kernels::CATALOGUE.iter().copied().flatten();
    case.check().map_err(|refusal| alloc::format!("{refusal:?}"))?;
    let kernel = kernels.into_iter().find(|kernel| case.accepted_by(kernel)).ok_or("no scalar kernel")?;
    case.run(kernel, Order::Together)
}

fn agree(case: &Case, kernel: &Kernel, want: &[Vec<u8>; MAX_OUTPUTS]) -> Result<(), String> {
    let got = case.run(kernel, Order::Together)?;
    case.difference(want, &got).map_or(Ok(()), Err)?;
    let again = case.run(kernel, Order::Backwards)?;
    if again == got { Ok(()) } else { Err("another result with other units or other bytes around the operands".into()) }
}
