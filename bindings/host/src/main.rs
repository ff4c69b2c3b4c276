//! `sparrow-host MODEL INPUT OUTPUT [RUNS [THREADS]]`
//!
//! Runs a model once on the bytes of a file and writes the bytes of its output. With RUNS, every one of THREADS threads
//! makes a session and runs it that often, comparing each output with the first; then prints, as every host does, one
//! line of JSON: nanoseconds of a run, and the process's memory in kB after a tenth of the runs and after all.

use sparrow::{Model, Options, Session};
use std::error::Error;
use std::sync::Barrier;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn run(session: &mut Session, input: &[u8]) -> Outcome<()> {
    session.input_bytes_mut(0)?.copy_from_slice(input);
    Ok(session.run()?)
}

/// One thread's runs: nanoseconds of each, and memory after a tenth of them.
fn soak(model: &Model, input: &[u8], expected: &[u8], runs: usize, start: &Barrier) -> Outcome<(Vec<u64>, u64)> {
    let mut session = Session::new(model, &Options::default())?;
    // Not zeros: those would be pages that appear one by one while it runs.
    let (mut times, mut before) = (vec![u64::MAX; runs], 0);
    start.wait();
    for (i, time) in times.iter_mut().enumerate() {
        if i == runs / 10 {
            before = rss();
        }
        let begun = Instant::now();
        run(&mut session, input)?;
        *time = begun.elapsed().as_nanos() as u64;
        if session.output_bytes(0)? != expected {
            return Err(format!("run {i} gives another output than the first").into());
        }
    }
    Ok((times, before))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (files, counts) = arguments.split_at(arguments.len().min(3));
    let [model, input, output] = files else {
        return Err("sparrow-host MODEL INPUT OUTPUT [RUNS [THREADS]]".into());
    };
    let (model, input) = (Model::open(model)?, std::fs::read(input)?);
    let mut session = Session::new(&model, &Options::default())?;
    run(&mut session, &input)?;
    let expected = session.output_bytes(0)?.to_vec();
    std::fs::write(output, &expected)?;
    let Some(runs) = counts.first() else { return Ok(()) };
    let (runs, threads) = (runs.parse()?, counts.get(1).map_or(Ok(1), |count| count.parse())?);
    let start = Barrier::new(threads);
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = || scope.spawn(|| soak(&model, &input, &expected, runs, &start));
        let handles: Vec<_> = (0..threads).map(|_| one()).collect();
        handles.into_iter().map(|handle| handle.join().expect("the thread ends by itself")).collect::<Outcome<_>>()
    })?;
    let after = rss();
    let before = results.iter().map(|(_, before)| *before).max().unwrap_or(0);
    let mut times: Vec<u64> = results.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_unstable();
    let (min, median) = (times[0], times[times.len() / 2]);
    println!(
        r#"{{"min_ns":{min},"median_ns":{median},"rss_before":{before},"rss_after":{after},"runs":{}}}"#,
        times.len()
    );
    Ok(())
}
