//! `cargo xtask adb-bench`: measures Sparrow files on a phone, over Android's own `adb` client.
//!
//! What a phone's figure is worth depends on the core it ran on, at which frequency, and how hot it was. So the program
//! is pinned to the fastest cores, warmed up until the governor has raised the frequency, measured in several processes
//! (models taking turns, so that a phone that warms up slows all of them alike), and watched all the while. The spread
//! between processes is the noise that a comparison has to exceed.
//!
//! Every path ends with the device as it was: see `folder`. `bench/android/README.md` is the user's page.

mod binary;
mod client;
mod device;
mod folder;
mod report;
mod watch;

use client::{Adb, catch_interrupts, check_interrupt};
use device::{Device, mask};
use folder::Folder;
use report::{Bench, Report, Row, Settings};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use watch::Watch;

/// Measures Sparrow files on an Android device.
#[derive(clap::Args)]
pub struct Args {
    /// Sparrow files (.spw).
    #[arg(required_unless_present = "list")]
    models: Vec<PathBuf>,
    /// List the devices that adb sees and their states, nothing else.
    #[arg(long)]
    list: bool,
    /// The device, as `adb devices` calls it; needed where there are several (also: ANDROID_SERIAL).
    #[arg(long)]
    serial: Option<String>,
    /// The program `sparrow` for the device; without it, built with the NDK.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Cores to run on: all, none (no pinning) or a list as 4-7; by default the fastest clusters that hold the threads.
    #[arg(long)]
    cores: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// CPU features that the device must have, by comma: neon, fp16, dotprod, i8mm, sve, ...
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    need: Vec<String>,
    /// CPU features not to use, by comma.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    without: Vec<String>,
    /// Seconds to warm up in each process.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds to measure in each process.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Processes for each model: their spread is the noise.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    repeats: u16,
    /// Keep the result in this file.
    #[arg(long, value_name = "FILE.json")]
    save: Option<PathBuf>,
    /// Compare with a result kept earlier.
    #[arg(long, value_name = "FILE.json")]
    against: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, saves and compares.
///
/// # Errors
/// What is wrong and the remedy; nothing is left on the device then, and no file is written here.
pub fn bench(args: &Args) -> Result<(), String> {
    catch_interrupts()?;
    if args.list {
        print!("{}", Adb::list()?);
        return Ok(());
    }
    let names = names(&args.models)?;
    check_seconds(args)?;
    let earlier = args.against.as_deref().map(Report::load).transpose()?;
    if let Some(folder) =
        args.save.as_deref().and_then(Path::parent).filter(|f| !f.as_os_str().is_empty() && !f.is_dir())
    {
        return Err(format!("--save: there is no folder {}", folder.display()));
    }
    let adb = Adb::connect(args.serial.clone())?;
    let device = Device::probe(&adb)?;
    eprintln!("{} {}: {}; cores {}", device.serial, device.model, device.abi, device.list_cores());
    device.require(&args.need)?;
    let cores = device.choose_cores(args.cores.as_deref(), args.threads.into())?;
    let program = binary::find(args.binary.as_deref(), &device.abi)?;

    let mut folder = Folder::open(&adb)?;
    let job = Job { args, names: &names, adb: &adb, device: &device, cores: &cores };
    let measured = job.measure(&mut folder, &program);
    let closed = folder.close();
    let mut report = match (measured, closed) {
        (Ok(report), Ok(())) => report,
        (Err(message), Ok(())) => return Err(format!("{message}; nothing is left on the device")),
        (Ok(_), Err(message)) => return Err(message),
        (Err(message), Err(also)) => return Err(format!("{message}; {also}")),
    };
    let remarks = earlier.as_ref().map(|earlier| report.compare(earlier)).unwrap_or_default();
    if args.json {
        println!("{}", report.json())
    } else {
        print!("{}", report.text())
    }
    remarks.iter().for_each(|remark| eprintln!("note: {remark}"));
    match &args.save {
        Some(path) => report.save(path),
        None => Ok(()),
    }
}

/// The models' names, by which results are compared.
fn names(models: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut seen = BTreeSet::new();
    let name = |path: &PathBuf| {
        let shown = path.display();
        if path.extension().is_some_and(|e| e == "onnx") {
            let to = path.with_extension("spw");
            return Err(format!("{shown}: convert it first: sparrow convert {shown} -o {}", to.display()));
        }
        if !path.is_file() {
            return Err(format!("{shown}: there is no such file"));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if seen.insert(name.clone()) { Ok(name) } else { Err(format!("two models are called {name}: rename one")) }
    };
    models.iter().map(name).collect()
}

fn check_seconds(args: &Args) -> Result<(), String> {
    let sane = |s: f64| s.is_finite() && (0.0..=3600.0).contains(&s);
    if sane(args.warmup) && sane(args.seconds) && args.seconds > 0.0 {
        Ok(())
    } else {
        Err("--seconds and --warmup are seconds, at most 3600".into())
    }
}

/// A word for the device's shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What stays the same during a measurement.
struct Job<'a> {
    args: &'a Args,
    names: &'a [String],
    adb: &'a Adb,
    device: &'a Device,
    cores: &'a [usize],
}

impl Job<'_> {
    fn measure(&self, folder: &mut Folder, program: &Path) -> Result<Report, String> {
        eprintln!("copying {} and {} model(s)", program.display(), self.names.len());
        folder.push(program, "sparrow")?;
        for (index, model) in self.args.models.iter().enumerate() {
            folder.push(model, &format!("{index}.spw"))?;
        }
        let sparrow = format!("{}/sparrow", folder.path());
        self.adb.ask("making the program executable", &format!("chmod 755 {sparrow}"))?;
        let version = format!("{sparrow} --version");
        let version = folder.run("starting sparrow on the device", &version, Duration::from_secs(60))?.stdout;

        let runs = (0..self.names.len()).map(|model| self.calibrate(folder, model)).collect::<Result<Vec<_>, _>>()?;
        let (processes, spans) = self.rounds(folder, &runs)?;
        let (processes, conditions) = (processes.into_iter(), spans.into_iter());
        let rows = self.names.iter().zip(runs).zip(processes.zip(conditions));
        let row = |((name, runs), (processes, seen)): ((&String, Runs), (Vec<Bench>, _))| {
            Row::new(name.clone(), runs.measured, processes, seen)
        };
        let settings = Settings {
            sparrow: version.trim().to_owned(),
            cores: self.cores.to_vec(),
            threads: self.args.threads.into(),
            without: self.args.without.clone(),
        };
        Ok(Report::new(self.device.clone(), settings, rows.filter_map(row).collect()))
    }

    /// Every model in turn, several times, watched.
    fn rounds(&self, folder: &mut Folder, runs: &[Runs]) -> Result<(Vec<Vec<Bench>>, Vec<watch::Conditions>), String> {
        let watch = Watch::start(self.adb, self.device, self.cores, folder.path())?;
        let mut results: Vec<Vec<Bench>> = runs.iter().map(|_| Vec::new()).collect();
        let mut spans: Vec<Vec<(Instant, Instant)>> = runs.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.args.repeats {
            for model in 0..runs.len() {
                eprintln!("round {round} of {}: {}", self.args.repeats, self.names[model]);
                // What comes before is warming up.
                let begun = Instant::now() + Duration::from_secs_f64(self.args.warmup);
                results[model].push(self.bench(folder, model, &runs[model])?);
                spans[model].push((begun, Instant::now()));
            }
        }
        check_interrupt()?;
        Ok((results, watch.finish(&spans)))
    }

    /// How many runs fill the asked time.
    fn calibrate(&self, folder: &mut Folder, model: usize) -> Result<Runs, String> {
        let first = self.bench(folder, model, &Runs { warmup: 1, measured: 3 })?;
        let fill = |seconds: f64| (seconds * 1e3 / first.latency_ms.min.max(1e-3)).ceil() as usize;
        Ok(Runs { warmup: fill(self.args.warmup).max(1), measured: fill(self.args.seconds).max(10) })
    }

    fn bench(&self, folder: &mut Folder, model: usize, runs: &Runs) -> Result<Bench, String> {
        let path = folder.path().to_owned();
        let pinned = if self.cores.is_empty() { String::new() } else { format!("taskset {} ", mask(self.cores)) };
        let mut command = format!(
            "{pinned}{path}/sparrow bench {path}/{model}.spw --json --threads {} --warmup {} --runs {}",
            self.args.threads, runs.warmup, runs.measured
        );
        if !self.args.without.is_empty() {
            command += &format!(" --without {}", quote(&self.args.without.join(",")));
        }
        let what = format!("measuring {}", self.names[model]);
        // A slow device may take long for ten runs of a large network.
        let limit = Duration::from_secs_f64(300.0 + 10.0 * (self.args.warmup + self.args.seconds));
        let reply = folder.run(&what, &command, limit)?;
        serde_json::from_str(&reply.stdout).map_err(|e| {
            let why = folder.why(&what, &reply);
            format!("{why} (its result cannot be read: {e})")
        })
    }
}

/// Numbers of runs in one process.
struct Runs {
    warmup: usize,
    measured: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_or_refused() {
        let cases = [("net.onnx", "sparrow convert net.onnx -o net.spw"), ("nowhere.spw", "no such file")];
        for (path, expected) in cases {
            let message = names(&[path.into()]).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(quote("a'b"), r"'a'\''b'");
    }
}
