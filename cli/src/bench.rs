//! `sparrow bench`.

use crate::fail::{Outcome, fail};
use crate::table::{bytes, millis, table};
use serde_json::{Value, json};
use sparrow::{Features, Model, Options, Session};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Measures a Sparrow file on noise.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The Sparrow file.
    pub model: PathBuf,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Runs before the measured ones.
    #[arg(long, default_value_t = 10)]
    pub warmup: usize,
    /// Measured runs.
    #[arg(long, default_value_t = 50)]
    pub runs: usize,
    /// Time every operator.
    #[arg(long)]
    pub profile: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// CPU features not to use, by comma: see `sparrow bench --help` for the names of this CPU's.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    pub without: Vec<String>,
}

/// Latencies in milliseconds, sorted.
pub struct Latency(Vec<f64>);

impl Latency {
    /// Runs a session and times every run; inputs are written anew before each, untimed, since a run may reuse their
    /// memory.
    pub fn measure(session: &mut Session, warmup: usize, runs: usize) -> Outcome<Self> {
        let inputs = session.inputs().len();
        let saved: Vec<Vec<u8>> =
            (0..inputs).map(|i| Ok(session.input_bytes_mut(i)?.to_vec())).collect::<Outcome<_>>()?;
        let mut times = Vec::with_capacity(runs);
        for run in 0..warmup + runs {
            for (i, bytes) in saved.iter().enumerate() {
                session.input_bytes_mut(i)?.copy_from_slice(bytes);
            }
            let begun = Instant::now();
            session.run()?;
            if run >= warmup {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(Self(times))
    }

    fn at(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    fn json(&self) -> Value {
        let mean = self.0.iter().sum::<f64>() / self.0.len() as f64;
        json!({ "min": self.at(0.0), "median": self.median(), "mean": mean, "p90": self.at(0.9), "p99": self.at(0.99), "max": self.at(1.0) })
    }
}

/// Fills float inputs with seeded noise in -1..1; others keep their zeros.
pub fn fill_inputs(session: &mut Session) -> Outcome {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for (index, info) in session.inputs().iter().enumerate() {
        if info.dtype == sparrow::DType::F32 {
            for x in session.input_mut::<f32>(index)? {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *x = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            }
        }
    }
    Ok(())
}

fn features(without: &[String]) -> Outcome<Features> {
    let mut features = sparrow::detect();
    for name in without {
        match Features::by_name(name) {
            Some(feature) => features = features.without(feature),
            None => {
                let names: Vec<_> =
                    Features::NAMES.iter().filter(|(_, f)| sparrow::detect().contains(*f)).map(|(n, _)| *n).collect();
                return fail(format!("--without {name}: there is no such feature; this CPU has {}", names.join(", ")));
            }
        }
    }
    Ok(features)
}

pub fn run(args: &Args) -> Outcome {
    if args.runs == 0 {
        return fail("--runs 0 measures nothing");
    }
    let features = features(&args.without)?;
    let begun = Instant::now();
    let model = Model::open(&args.model)?;
    let open_ms = begun.elapsed().as_secs_f64() * 1e3;
    let mut session = Session::new(&model, &Options { threads: args.threads, features, entry: 0 })?;
    fill_inputs(&mut session)?;
    let latency = Latency::measure(&mut session, args.warmup, args.runs)?;
    let mut kernels: BTreeMap<&str, usize> = BTreeMap::new();
    for kernel in session.op_kernels() {
        *kernels.entry(kernel.name).or_default() += 1;
    }
    let ops = if args.profile { profile(&mut session, args.runs)? } else { Vec::new() };
    let file_bytes = model.view().bytes().len();
    if args.json {
        let mut result = json!({ "model": args.model, "threads": args.threads, "runs": args.runs, "open_ms": open_ms, "latency_ms": latency.json(),
            "file_bytes": file_bytes, "arena_bytes": session.arena_size(), "kernels": kernels });
        if args.profile {
            let op = |o: &Timed| json!({ "name": o.name, "op": o.op, "kernel": o.kernel, "ms": o.ms });
            result["ops"] = ops.iter().map(op).collect();
        }
        println!("{result}");
        return Ok(());
    }
    println!(
        "{}: median {}  min {}  p90 {}  ({} runs, {} thread{})",
        args.model.display(),
        millis(latency.median()),
        millis(latency.at(0.0)),
        millis(latency.at(0.9)),
        args.runs,
        args.threads,
        if args.threads == 1 { "" } else { "s" }
    );
    println!(
        "open and validate {}  file {}  arena {}",
        millis(open_ms),
        bytes(file_bytes),
        bytes(session.arena_size())
    );
    let scalar = kernels.iter().filter(|(name, _)| name.ends_with("_scalar")).map(|(_, count)| count).sum::<usize>();
    println!(
        "kernels: {}",
        kernels.iter().map(|(name, count)| format!("{name} x{count}")).collect::<Vec<_>>().join(", ")
    );
    if scalar > 0 {
        println!(
            "{scalar} of {} operators run in scalar kernels: --profile shows what they cost",
            session.op_kernels().len()
        );
    }
    print_profile(&ops);
    Ok(())
}

/// Median time of one operator.
struct Timed {
    name: String,
    op: &'static str,
    kernel: &'static str,
    ms: f64,
}

fn profile(session: &mut Session, runs: usize) -> Outcome<Vec<Timed>> {
    let inputs = session.inputs().len();
    let saved: Vec<Vec<u8>> = (0..inputs).map(|i| Ok(session.input_bytes_mut(i)?.to_vec())).collect::<Outcome<_>>()?;
    let mut times: Vec<Vec<f64>> = Vec::new();
    let mut timed: Vec<Timed> = Vec::new();
    for _ in 0..runs {
        for (i, bytes) in saved.iter().enumerate() {
            session.input_bytes_mut(i)?.copy_from_slice(bytes);
        }
        let profile = session.profile()?;
        times.resize(profile.ops.len(), Vec::new());
        for (all, op) in times.iter_mut().zip(&profile.ops) {
            all.push(op.time.as_secs_f64() * 1e3);
        }
        timed = profile.ops.into_iter().map(|o| Timed { name: o.name, op: o.op, kernel: o.kernel, ms: 0.0 }).collect();
    }
    for (op, all) in timed.iter_mut().zip(&mut times) {
        all.sort_by(f64::total_cmp);
        op.ms = all[all.len() / 2];
    }
    Ok(timed)
}

fn print_profile(ops: &[Timed]) {
    if ops.is_empty() {
        return;
    }
    let total: f64 = ops.iter().map(|o| o.ms).sum();
    let mut rows = table(&["operator", "of", "kernel", "time", "share"], 3);
    for op in ops {
        rows.add_row([op.op, &op.name, op.kernel, &millis(op.ms), &format!("{:.1} %", op.ms / total * 100.0)]);
    }
    println!("{rows}");
}
