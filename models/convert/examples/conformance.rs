//! Runs ONNX's operator cases: `conformance DIR [--expect LIST] [--write LIST]`. The list names the cases that pass; one
//! that no longer does fails the run, and so does one that is converted and wrong.

use sparrow_convert::conformance::{Outcome, run};
use sparrow_kernels::Kernels;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| words.iter().position(|w| w == name).and_then(|i| words.get(i + 1));
    let Some(folder) = words.first() else {
        eprintln!("conformance DIR [--expect LIST] [--write LIST]; get DIR with models/zoo/fetch conformance");
        return ExitCode::from(2);
    };
    let report = match run(Path::new(folder), &Kernels::scalar()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{folder}: {error}; get it with models/zoo/fetch conformance");
            return ExitCode::from(2);
        }
    };
    let mut passing = BTreeSet::new();
    let mut wrong = 0;
    println!("{:32} passed failed not supported", "operator");
    for (operator, cases) in &report.operators {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        let count = |wanted: fn(&Outcome) -> bool| cases.values().filter(|o| wanted(o)).count();
        let (good, bad) = (count(|o| matches!(o, Outcome::Passed)), count(|o| matches!(o, Outcome::Failed(_))));
        for (name, outcome) in cases {
            match outcome {
                Outcome::Passed => drop(passing.insert(name.clone())),
                Outcome::Failed(reason) => println!("FAILED {name}: {reason}"),
                Outcome::Unsupported(reason) => *reasons.entry(reason.as_str()).or_default() += 1,
            }
        }
        println!("{operator:32} {good:6} {bad:6} {:6}", cases.len() - good - bad);
        wrong += bad;
        if words.iter().any(|w| w == "--reasons") {
            reasons.iter().for_each(|(reason, count)| println!("    {count} x {reason}"));
        }
    }
    let list = passing.iter().map(|name| format!("{name}\n")).collect::<String>();
    if let Some(path) = option("--write")
        && let Err(error) = sparrow_convert::write::write_file(Path::new(path), list.as_bytes())
    {
        eprintln!("{path}: {error}");
        return ExitCode::from(2);
    }
    let expected =
        option("--expect").map(|path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}")));
    let lost: Vec<&str> =
        expected.iter().flat_map(|list| list.lines()).filter(|name| !passing.contains(*name)).collect();
    lost.iter().for_each(|name| println!("LOST {name}: it is in the list of passing cases"));
    let [passed, failed, unsupported] = report.totals();
    println!("conformance: {passed} passed, {failed} failed, {unsupported} not supported, {} lost", lost.len());
    if wrong == 0 && lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
