//! Watches frequency, temperature and governor while programs run on the device, and judges whether it throttled.
//!
//! One shell loop on the device prints the kernel's files a few times a second, on cores that the benchmark does not
//! use, and ends with our folder. Samples carry the host's time of arrival, so any span of a run can be looked at later.

use super::client::{Adb, end};
use super::device::{Core, Device, mask, numbered};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Above this a phone's thermal engine soon caps frequencies: vendors' limits lie between 70 and 95 degrees.
const HOT: f64 = 80.0;

/// A core whose frequency falls below this share of what it just had, under the same load, is held back.
const HELD: f64 = 0.9;

/// What the device's files said at one moment; for several cores or zones the highest.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: Option<Instant>,
    mhz: Option<f64>,
    /// The highest frequency that each core is allowed now.
    caps: Vec<(usize, f64)>,
    celsius: Option<f64>,
    governor: Option<String>,
}

/// Frequency and temperature during a model's runs, and before and after all runs; none where the device does not let us
/// read.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Conditions {
    pub governor: Option<String>,
    pub mhz_before: Option<f64>,
    /// Median, and the lowest tenth.
    pub mhz_during: Option<f64>,
    pub mhz_low: Option<f64>,
    pub mhz_after: Option<f64>,
    pub celsius_before: Option<f64>,
    pub celsius_peak: Option<f64>,
    pub celsius_after: Option<f64>,
    /// Samples during the runs.
    pub samples: usize,
    /// Whether the device held its cores back.
    pub throttled: bool,
    /// What to know before trusting the times.
    pub warnings: Vec<String>,
}

pub struct Watch {
    child: Child,
    samples: Arc<Mutex<Vec<Sample>>>,
    /// What the watched cores can do.
    cores: Vec<Core>,
}

impl Watch {
    /// Begins to watch `cores` (all if empty) until `folder` is removed.
    ///
    /// # Errors
    /// If adb cannot be started.
    pub fn start(adb: &Adb, device: &Device, cores: &[usize], folder: &str) -> Result<Self, String> {
        let watched = device.cores.iter().filter(|c| cores.is_empty() || cores.contains(&c.id));
        let watched: Vec<Core> = watched.cloned().collect();
        let others: Vec<usize> = device.cores.iter().map(|c| c.id).filter(|id| !cores.contains(id)).collect();
        let core_files = watched.iter().flat_map(|core| {
            ["scaling_cur_freq", "scaling_max_freq", "scaling_governor"]
                .map(|file| format!("/sys/devices/system/cpu/cpu{}/cpufreq/{file}", core.id))
        });
        let zone_files = device.zones.iter().map(|zone| format!("/sys/class/thermal/thermal_zone{zone}/temp"));
        let files = core_files.chain(zone_files).collect::<Vec<_>>().join(" ");
        let aside = match (device.has_taskset, others.is_empty()) {
            (true, false) => format!("taskset -p {} $$ > /dev/null 2>&1; ", mask(&others)),
            _ => String::new(),
        };
        let script = format!("{aside}while [ -d {folder} ]; do grep -sH \"\" /dev/null {files}; echo; sleep 0.2; done");
        let mut child = adb.on_device(["shell", &script]).spawn().map_err(|e| format!("adb shell: {e}"))?;
        let samples = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            let samples = Arc::clone(&samples);
            std::thread::spawn(move || collect(stdout, &samples));
        }
        let watch = Self { child, samples, cores: watched };
        watch.wait_until(Instant::now());
        Ok(watch)
    }

    fn samples(&self) -> MutexGuard<'_, Vec<Sample>> {
        // A sample is pushed whole or not at all.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a sample later than `moment`, for two seconds at most.
    fn wait_until(&self, moment: Instant) {
        let begun = Instant::now();
        let later = || self.samples().last().is_some_and(|s| s.at > Some(moment));
        while begun.elapsed() < Duration::from_secs(2) && !later() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends watching and says how it was during each model's spans.
    pub fn finish(self, spans: &[Vec<(Instant, Instant)>]) -> Vec<Conditions> {
        // The first sample after the end may have been taken before it.
        self.wait_until(Instant::now());
        self.wait_until(Instant::now());
        let samples = self.samples().clone();
        spans.iter().map(|spans| judge(&samples, spans, &self.cores)).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn collect(stdout: impl Read, samples: &Mutex<Vec<Sample>>) {
    let mut sample = Sample::default();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if !line.trim().is_empty() {
            read(&mut sample, line.trim());
            continue;
        }
        sample.at = Some(Instant::now());
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut sample));
    }
}

/// Adds a line `/sys/...:value` to a sample.
fn read(sample: &mut Sample, line: &str) {
    let higher = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old.max(new)));
    if let Some((_, value)) = numbered(line, "thermal_zone") {
        // Thousandths of a degree by the kernel's rule, degrees by some vendors'; and sensors that are off say anything.
        let celsius = value.parse().map(|t: f64| if t.abs() > 1000.0 { t / 1e3 } else { t });
        if let Some(celsius) = celsius.ok().filter(|t| (-20.0..150.0).contains(t) && *t != 0.0) {
            sample.celsius = higher(sample.celsius, celsius);
        }
    } else if let Some((core, value)) = numbered(line, "cpu") {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        match (file, value.parse::<f64>()) {
            ("scaling_cur_freq", Ok(khz)) => sample.mhz = higher(sample.mhz, khz / 1e3),
            ("scaling_max_freq", Ok(khz)) => sample.caps.push((core, khz / 1e3)),
            ("scaling_governor", _) => sample.governor = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// The value at a share of the sorted list.
fn at(sorted: &[f64], share: f64) -> Option<f64> {
    sorted.get((sorted.len().checked_sub(1)? as f64 * share).round() as usize).copied()
}

fn judge(samples: &[Sample], spans: &[(Instant, Instant)], cores: &[Core]) -> Conditions {
    let within = |s: &&Sample| s.at.is_some_and(|t| spans.iter().any(|(from, to)| (*from..=*to).contains(&t)));
    let during: Vec<&Sample> = samples.iter().filter(within).collect();
    let (before, after) = (samples.first().cloned().unwrap_or_default(), samples.last().cloned().unwrap_or_default());
    let sorted = |value: fn(&Sample) -> Option<f64>| {
        let mut values: Vec<f64> = during.iter().filter_map(|s| value(s)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (mhz, heat) = (sorted(|s| s.mhz), sorted(|s| s.celsius));
    let capped = during.iter().flat_map(|s| &s.caps).filter_map(|(id, cap)| {
        let max = cores.iter().find(|c| c.id == *id)?.max_mhz?;
        (*cap < max * 0.98).then_some((*cap, max))
    });
    let capped = capped.min_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let mut result = Conditions {
        governor: during.iter().find_map(|s| s.governor.clone()).or(before.governor),
        mhz_before: before.mhz,
        mhz_during: at(&mhz, 0.5),
        mhz_low: at(&mhz, 0.1),
        mhz_after: after.mhz,
        celsius_before: before.celsius,
        celsius_peak: at(&heat, 1.0),
        celsius_after: after.celsius,
        samples: during.len(),
        throttled: false,
        warnings: Vec::new(),
    };
    warn(&mut result, capped, at(&mhz, 0.9));
    let governors: Vec<_> = during.iter().chain([&&after]).filter_map(|s| s.governor.as_ref()).collect();
    if let Some(other) = governors.iter().find(|g| Some(**g) != result.governor.as_ref()) {
        result.warnings.push(format!("the governor changed to {other} during the runs"));
    }
    result
}

fn warn(result: &mut Conditions, capped: Option<(f64, f64)>, high: Option<f64>) {
    let warnings = &mut result.warnings;
    if let Some((cap, max)) = capped {
        warnings.push(format!(
            "throttled: a core was capped to {cap:.0} of {max:.0} MHz; let the device cool, switch battery saver off"
        ));
        result.throttled = true;
    }
    if let (Some(low), Some(high)) = (result.mhz_low, high)
        && low < high * HELD
    {
        warnings.push(format!("throttled: the frequency fell from {high:.0} to {low:.0} MHz during the runs"));
        result.throttled = true;
    }
    if let Some(peak) = result.celsius_peak.filter(|t| *t >= HOT) {
        warnings.push(format!("hot: {peak:.0} °C; above {HOT:.0} °C phones begin to throttle"));
    }
    if result.governor.as_deref() == Some("powersave") {
        warnings.push("the governor is powersave, which holds the lowest frequency: switch battery saver off".into());
    }
    if result.samples == 0 {
        warnings.push("no sample was taken during the runs, so throttling cannot be seen: try --seconds 5".into());
    } else if result.mhz_during.is_none() && result.celsius_peak.is_none() {
        warnings
            .push("the device lets adb read neither frequency nor temperature, so throttling cannot be seen".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, mhz: f64, cap: f64, celsius: f64) -> Sample {
        Sample {
            at: Some(at),
            mhz: Some(mhz),
            caps: vec![(7, cap)],
            celsius: Some(celsius),
            governor: Some("schedutil".into()),
        }
    }

    #[test]
    fn files_are_read() {
        let mut s = Sample::default();
        for line in [
            "/sys/devices/system/cpu/cpu6/cpufreq/scaling_cur_freq:1803000",
            "/sys/devices/system/cpu/cpu7/cpufreq/scaling_cur_freq:2802000",
            "/sys/devices/system/cpu/cpu7/cpufreq/scaling_governor:performance",
            "/sys/class/thermal/thermal_zone1/temp:41500",
            "/sys/class/thermal/thermal_zone2/temp:40",
            "/sys/class/thermal/thermal_zone3/temp:-273000",
            "grep: something else",
        ] {
            read(&mut s, line);
        }
        assert_eq!((s.mhz, s.celsius, s.governor.as_deref()), (Some(2802.0), Some(41.5), Some("performance")));
    }

    #[test]
    fn throttling_is_told_from_idling() {
        let start = Instant::now();
        let second = |s: u64| start + Duration::from_secs(s);
        // Idle, twenty seconds under load, idle.
        let run = |mhz: &dyn Fn(u64) -> f64, cap: f64, celsius: f64| {
            let mut all = vec![sample(second(0), 300.0, 2800.0, 30.0)];
            all.extend((1..=20).map(|s| sample(second(s), mhz(s), cap, celsius)));
            all.push(sample(second(21), 300.0, 2800.0, 35.0));
            judge(&all, &[(second(1), second(20))], &[Core { id: 7, max_mhz: Some(2800.0) }])
        };
        let calm = run(&|_| 2800.0, 2800.0, 50.0);
        assert!(!calm.throttled && calm.warnings.is_empty(), "{:?}", calm.warnings);
        assert_eq!((calm.mhz_before, calm.mhz_during, calm.mhz_after), (Some(300.0), Some(2800.0), Some(300.0)));
        assert_eq!((calm.celsius_before, calm.celsius_peak, calm.celsius_after), (Some(30.0), Some(50.0), Some(35.0)));
        assert!(
            !run(&|s| if s == 20 { 300.0 } else { 2800.0 }, 2800.0, 50.0).throttled,
            "one late sample is no throttling"
        );
        assert!(run(&|s| if s > 10 { 2000.0 } else { 2800.0 }, 2800.0, 50.0).throttled);
        assert!(run(&|_| 1800.0, 1800.0, 50.0).throttled, "a cap from the start");
        let hot = run(&|_| 2800.0, 2800.0, 91.0);
        assert!(!hot.throttled && hot.warnings[0].starts_with("hot"), "{:?}", hot.warnings);
        assert!(judge(&[], &[(second(0), second(1))], &[]).warnings[0].contains("no sample"));
    }
}
