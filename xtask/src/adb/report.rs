//! What was measured: the table, the saved file, and the comparison with an earlier one.

use super::device::Device;
use super::watch::Conditions;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// The layout of a saved file; another number is refused.
const FORMAT: u32 = 1;

/// Below this two results count as equal whatever their noise: code and memory placement alone move more than repeats show.
const FLOOR: f64 = 0.02;

/// A run of `cargo xtask adb-bench`.
#[derive(Serialize, Deserialize)]
pub struct Report {
    format: u32,
    pub device: Device,
    pub settings: Settings,
    pub models: Vec<Row>,
    /// Each model beside the earlier run's of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<Comparison>,
}

/// What a result depends on beside the device and the model.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct Settings {
    /// `sparrow --version`.
    pub sparrow: String,
    /// Pinned cores; empty: not pinned.
    pub cores: Vec<usize>,
    pub threads: usize,
    pub without: Vec<String>,
}

/// What `sparrow bench --json` prints, as far as it is used.
#[derive(Deserialize)]
pub struct Bench {
    pub latency_ms: Latency,
    pub open_ms: f64,
    pub file_bytes: u64,
    pub arena_bytes: u64,
    pub kernels: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
pub struct Latency {
    pub min: f64,
    pub median: f64,
    pub p90: f64,
}

/// One model's result over several processes.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub model: String,
    /// Milliseconds: the median of the processes' medians, of their 90th percentiles, and the least of all runs.
    pub median_ms: f64,
    pub p90_ms: f64,
    pub min_ms: f64,
    /// Every process's median.
    pub medians_ms: Vec<f64>,
    /// Runs measured in each process.
    pub runs: usize,
    pub open_ms: f64,
    pub file_bytes: u64,
    pub arena_bytes: u64,
    /// Kernels and how many operators each runs.
    pub kernels: BTreeMap<String, usize>,
    pub conditions: Conditions,
}

/// A model now and earlier.
#[derive(Serialize, Deserialize)]
pub struct Comparison {
    pub model: String,
    pub before_ms: f64,
    pub now_ms: f64,
    /// Now divided by before: below 1 is faster.
    pub ratio: f64,
    /// What the ratio must differ from 1 by to count.
    pub noise: f64,
    pub verdict: String,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// Puts the processes' results together.
    pub fn new(model: String, runs: usize, processes: Vec<Bench>, conditions: Conditions) -> Option<Self> {
        let of = |value: fn(&Latency) -> f64| processes.iter().map(|b| value(&b.latency_ms)).collect::<Vec<_>>();
        let medians_ms = of(|l| l.median);
        Some(Self {
            model,
            median_ms: median(medians_ms.clone()),
            p90_ms: median(of(|l| l.p90)),
            min_ms: of(|l| l.min).into_iter().fold(f64::INFINITY, f64::min),
            medians_ms,
            runs,
            open_ms: median(processes.iter().map(|b| b.open_ms).collect()),
            file_bytes: processes.first()?.file_bytes,
            arena_bytes: processes.first()?.arena_bytes,
            kernels: processes.into_iter().next()?.kernels,
            conditions,
        })
    }

    /// How far the processes' medians lie apart, as a share of their median.
    fn noise(&self) -> f64 {
        let highest = self.medians_ms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lowest = self.medians_ms.iter().copied().fold(f64::INFINITY, f64::min);
        (highest - lowest) / self.median_ms
    }

    fn compare(&self, earlier: &Self) -> Comparison {
        let ratio = self.median_ms / earlier.median_ms;
        let noise = (self.noise() + earlier.noise()).max(FLOOR);
        let verdict = match () {
            () if self.conditions.throttled || earlier.conditions.throttled => "unclear: the device throttled".into(),
            () if (ratio - 1.0).abs() <= noise => "no difference beyond noise".into(),
            () if ratio < 1.0 => format!("{:.2}x faster", 1.0 / ratio),
            () => format!("{ratio:.2}x slower"),
        };
        let (before_ms, now_ms) = (earlier.median_ms, self.median_ms);
        Comparison { model: self.model.clone(), before_ms, now_ms, ratio, noise, verdict }
    }
}

impl Report {
    pub fn new(device: Device, settings: Settings, models: Vec<Row>) -> Self {
        Self { format: FORMAT, device, settings, models, against: Vec::new() }
    }

    /// Reads a saved run.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours.
    pub fn load(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        let ours = |e| format!("{name}: not saved by adb-bench --save of this version ({e})");
        let value: serde_json::Value = serde_json::from_str(&text).map_err(ours)?;
        if value["format"] != FORMAT {
            return Err(format!("{name}: not saved by adb-bench --save of this version (format is not {FORMAT})"));
        }
        serde_json::from_value(value).map_err(ours)
    }

    /// Writes the run beside its place first, so that nobody finds half of it.
    ///
    /// # Errors
    /// If it cannot be written; then what was there before is still there.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let written = std::fs::write(&beside, self.json() + "\n").and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|e| {
            // It may not even exist.
            let _ = std::fs::remove_file(&beside);
            format!("{}: {e}", path.display())
        })
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings as keys and finite numbers")
    }

    /// Compares with an earlier run; what makes the two hard to compare is said in words.
    pub fn compare(&mut self, earlier: &Self) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut differs = |what: &str, before: &dyn std::fmt::Debug, now: &dyn std::fmt::Debug| {
            remarks.push(format!("the earlier run had {what} {before:?}, this one {now:?}"));
        };
        let (old, new) = (&earlier.device, &self.device);
        if (&old.model, &old.serial) != (&new.model, &new.serial) {
            differs("device", &format!("{} {}", old.model, old.serial), &format!("{} {}", new.model, new.serial));
        }
        if old.android != new.android {
            differs("Android", &old.android, &new.android);
        }
        let (old, new) = (&earlier.settings, &self.settings);
        if old.sparrow != new.sparrow {
            differs("program", &old.sparrow, &new.sparrow);
        }
        if old.cores != new.cores {
            differs("cores", &old.cores, &new.cores);
        }
        if old.threads != new.threads {
            differs("threads", &old.threads, &new.threads);
        }
        if old.without != new.without {
            differs("--without", &old.without, &new.without);
        }
        for row in &self.models {
            match earlier.models.iter().find(|m| m.model == row.model) {
                Some(before) => self.against.push(row.compare(before)),
                None => remarks.push(format!("the earlier run has no {}", row.model)),
            }
        }
        remarks
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let device = &self.device;
        let cores = match &self.settings.cores[..] {
            [] => "not pinned".to_owned(),
            cores => format!("cores {}", cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} (Android {}, {}, {}), {} thread{}, {cores}; {}",
            device.model,
            device.android,
            device.abi,
            device.features.join(" "),
            self.settings.threads,
            if self.settings.threads == 1 { "" } else { "s" },
            self.settings.sparrow
        );
        let _ = writeln!(text, "{}", self.table());
        for row in &self.models {
            let kernels = row.kernels.iter().map(|(name, count)| format!("{name} x{count}"));
            let _ = writeln!(text, "{} kernels: {}", row.model, kernels.collect::<Vec<_>>().join(", "));
        }
        for row in &self.models {
            for warning in &row.conditions.warnings {
                let _ = writeln!(text, "warning: {}: {warning}", row.model);
            }
        }
        if !self.against.is_empty() {
            let _ = writeln!(text, "{}", self.comparisons());
        }
        text
    }

    fn table(&self) -> Table {
        let header = ["model", "median", "p90", "min", "noise", "runs", "file", "arena", "MHz", "°C", "governor"];
        let mut table = table(&header);
        for row in &self.models {
            let seen = &row.conditions;
            table.add_row([
                row.model.clone(),
                millis(row.median_ms),
                millis(row.p90_ms),
                millis(row.min_ms),
                format!("{:.1} %", row.noise() * 100.0),
                format!("{}x{}", row.medians_ms.len(), row.runs),
                bytes(row.file_bytes),
                bytes(row.arena_bytes),
                steps([seen.mhz_before, seen.mhz_during, seen.mhz_after]),
                steps([seen.celsius_before, seen.celsius_peak, seen.celsius_after]),
                seen.governor.clone().unwrap_or_else(|| "?".into()),
            ]);
        }
        table
    }

    fn comparisons(&self) -> Table {
        let mut table = table(&["model", "before", "now", "ratio", "noise", "verdict"]);
        for row in &self.against {
            table.add_row([
                row.model.clone(),
                millis(row.before_ms),
                millis(row.now_ms),
                format!("{:.3}", row.ratio),
                format!("{:.1} %", row.noise * 100.0),
                row.verdict.clone(),
            ]);
        }
        table
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(header.to_vec());
    table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
    table
}

/// Before, during and after.
fn steps(values: [Option<f64>; 3]) -> String {
    values.map(|v| v.map_or_else(|| "?".into(), |v| format!("{v:.0}"))).join(" → ")
}

fn millis(ms: f64) -> String {
    if ms < 1.0 { format!("{ms:.3} ms") } else { format!("{ms:.2} ms") }
}

fn bytes(count: u64) -> String {
    if count < 10_000_000 { format!("{:.1} kB", count as f64 / 1e3) } else { format!("{:.1} MB", count as f64 / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(medians: &[f64], throttled: bool) -> Row {
        let bench = |m: &f64| Bench {
            latency_ms: Latency { min: m * 0.9, median: *m, p90: m * 1.1 },
            open_ms: 0.1,
            file_bytes: 1000,
            arena_bytes: 2000,
            kernels: BTreeMap::from([("conv_f32_neon".into(), 3)]),
        };
        let conditions = Conditions { throttled, ..Default::default() };
        Row::new("net".into(), 50, medians.iter().map(bench).collect(), conditions).expect("a process")
    }

    #[test]
    fn a_verdict_respects_the_noise() {
        let cases: [(&[f64], &[f64], bool, &str); 6] = [
            (&[1.0, 1.0, 1.0], &[1.0, 1.01, 1.0], false, "no difference beyond noise"),
            (&[1.0, 1.01, 1.02], &[1.3, 1.31, 1.32], false, "1.30x slower"),
            (&[2.0, 2.0, 2.0], &[1.0, 1.0, 1.0], false, "2.00x faster"),
            (&[1.0, 1.2, 1.4], &[1.3, 1.4, 1.5], false, "no difference beyond noise"),
            (&[1.0, 1.0, 1.0], &[1.015, 1.015, 1.015], false, "no difference beyond noise"),
            (&[1.0, 1.0, 1.0], &[2.0, 2.0, 2.0], true, "unclear: the device throttled"),
        ];
        for (before, now, throttled, verdict) in cases {
            assert_eq!(row(now, throttled).compare(&row(before, false)).verdict, verdict, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let settings = |threads| Settings { sparrow: "sparrow 1".into(), cores: vec![7], threads, without: Vec::new() };
        let path = std::env::temp_dir().join(format!("adb-bench-{}.json", std::process::id()));
        Report::new(Device::default(), settings(1), vec![row(&[1.0, 1.1], false)]).save(&path).expect("saved");
        let earlier = Report::load(&path);
        std::fs::write(&path, "{\"format\":1}").expect("written");
        let broken = Report::load(&path);
        std::fs::remove_file(&path).expect("removed");
        assert!(broken.is_err_and(|e| e.contains("not saved by adb-bench")));
        let mut now = Report::new(Device::default(), settings(2), vec![row(&[2.0, 2.2], false)]);
        let remarks = now.compare(&earlier.expect("read"));
        assert_eq!(remarks, ["the earlier run had threads 1, this one 2"]);
        assert_eq!(now.against[0].ratio, 2.0);
        assert!(now.text().contains("slower"), "{}", now.text());
    }
}
