//! What the device is: its ABI, CPU features and cores, and which of them to use.

use super::client::Adb;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A device's facts, as they stand in a saved result.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Device {
    pub serial: String,
    pub model: String,
    pub android: String,
    pub abi: String,
    /// By Sparrow's names.
    pub features: Vec<String>,
    pub cores: Vec<Core>,
    /// Thermal zones that say something of the CPU, else all; by number.
    #[serde(skip)]
    pub zones: Vec<usize>,
    #[serde(skip)]
    pub has_taskset: bool,
}

/// A core that is switched on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Core {
    pub id: usize,
    /// Its highest frequency by cpufreq; none where the device does not say.
    pub max_mhz: Option<f64>,
}

/// Sparrow's features and the words of `/proc/cpuinfo` that a CPU must list to have them.
const FEATURES: [(&str, &[&str]); 11] = [
    ("neon", &["asimd"]),
    ("fp16", &["asimdhp"]),
    ("dotprod", &["asimddp"]),
    ("i8mm", &["i8mm"]),
    ("sve", &["sve"]),
    ("avx2", &["avx2"]),
    ("fma", &["fma"]),
    ("f16c", &["f16c"]),
    ("avx512", &["avx512f", "avx512bw", "avx512dq", "avx512vl"]),
    ("vnni", &["avx512_vnni"]),
    ("vbmi", &["avx512vbmi"]),
];

/// One script, so that a slow connection costs one round trip. Unreadable files are no error: `grep -s`.
const PROBE: &str = r#"echo abi=$(getprop ro.product.cpu.abi)
echo model=$(getprop ro.product.model)
echo android=$(getprop ro.build.version.release)
echo taskset=$(command -v taskset)
echo online=$(cat /sys/devices/system/cpu/online)
grep -sH "" /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq
grep -sH "" /sys/class/thermal/thermal_zone[0-9]*/type
cat /proc/cpuinfo"#;

impl Device {
    /// Asks the device.
    ///
    /// # Errors
    /// If it does not answer in full, or is older than Android 7, whose shell tells no exit status.
    pub fn probe(adb: &Adb) -> Result<Self, String> {
        let limit = std::time::Duration::from_secs(30);
        let offers = adb.finish(adb.on_device(["features"]), "adb features", limit)?;
        if !offers.success {
            return Err(format!("{}: {}", adb.serial(), offers.complaint()));
        }
        if !offers.stdout.lines().any(|l| l.trim() == "shell_v2") {
            return Err(format!(
                "{} offers no shell with exit status (shell_v2): Android 7 or newer is needed",
                adb.serial()
            ));
        }
        let device = Self { serial: adb.serial().to_owned(), ..parse(&adb.ask("asking for its properties", PROBE)?) };
        if device.abi.is_empty() {
            return Err(format!("{} does not say its ABI (getprop ro.product.cpu.abi)", adb.serial()));
        }
        Ok(device)
    }

    /// Fails unless the CPU has every feature of `needed`, and NEON on Arm.
    ///
    /// # Errors
    /// Which are missing and which are there, or a name that is no feature.
    pub fn require(&self, needed: &[String]) -> Result<(), String> {
        let names = || FEATURES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = needed.iter().find(|n| FEATURES.iter().all(|(name, _)| name != n)) {
            return Err(format!("--need {unknown}: there is no such feature; there are {}", names()));
        }
        let basic = ["neon".to_owned()];
        let basic = if self.abi.starts_with("arm") { &basic[..] } else { &[] };
        let missing: Vec<_> = needed.iter().chain(basic).filter(|n| !self.features.contains(n)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} ({}) lacks {}; /proc/cpuinfo lists {}: take another device, or ask for less with --need",
            self.serial,
            self.model,
            missing.join(", "),
            if self.features.is_empty() { "none that Sparrow uses".into() } else { self.features.join(", ") }
        ))
    }

    /// The cores to run on: `all` that are switched on, `none` for no pinning, a list as `4-7` or `0,4-5`, or by default
    /// whole clusters from the fastest down until there is a core for each thread. Empty means no pinning.
    ///
    /// # Errors
    /// A core that is not there, a list that is none, a device without `taskset`.
    pub fn choose_cores(&self, asked: Option<&str>, threads: usize) -> Result<Vec<usize>, String> {
        let chosen = match asked {
            None => self.fastest(threads),
            Some("none") => Vec::new(),
            Some("all") => self.cores.iter().map(|c| c.id).collect(),
            Some(list) => {
                let ids =
                    ranges(list).ok_or_else(|| format!("--cores {list}: say all, none, or a list as 4-7 or 0,4"))?;
                if let Some(id) = ids.iter().find(|id| self.cores.iter().all(|c| c.id != **id)) {
                    return Err(format!(
                        "--cores {list}: core {id} is not there or switched off; there are {}",
                        self.list_cores()
                    ));
                }
                ids
            }
        };
        if !chosen.is_empty() && !self.has_taskset {
            return Err(format!(
                "{} has no taskset, so cores cannot be pinned: --cores none runs without",
                self.serial
            ));
        }
        Ok(chosen)
    }

    fn fastest(&self, threads: usize) -> Vec<usize> {
        let speed = |c: &Core| c.max_mhz.unwrap_or_default();
        let mut clusters: Vec<f64> = self.cores.iter().map(speed).collect();
        clusters.sort_by(|a, b| b.total_cmp(a));
        // The speed of the slowest core that is needed takes its whole cluster.
        let Some(least) = clusters.get(threads.clamp(1, clusters.len().max(1)) - 1) else { return Vec::new() };
        self.cores.iter().filter(|c| speed(c) >= *least).map(|c| c.id).collect()
    }

    /// Cores and their speeds, for people: `0-3 (1800 MHz), 4-7 (2800 MHz)`.
    pub fn list_cores(&self) -> String {
        let cluster = |cores: &[Core]| {
            let [first, .., last] = cores else { return cores.iter().map(|c| c.id.to_string()).collect() };
            format!("{}-{}", first.id, last.id)
        };
        let speed = |cores: &[Core]| cores[0].max_mhz.map(|mhz| format!(" ({mhz:.0} MHz)")).unwrap_or_default();
        let clusters = self.cores.chunk_by(|a, b| a.id + 1 == b.id && a.max_mhz == b.max_mhz);
        clusters.map(|cores| cluster(cores) + &speed(cores)).collect::<Vec<_>>().join(", ")
    }
}

/// `taskset`'s mask of some cores, in hexadecimal.
pub fn mask(cores: &[usize]) -> String {
    format!("{:x}", cores.iter().filter(|id| **id < 128).fold(0u128, |mask, id| mask | 1 << id))
}

/// The numbers of a list as the kernel writes them: `0-3,6`.
fn ranges(list: &str) -> Option<Vec<usize>> {
    let mut ids = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // The mask's width; no phone has as many.
        if first > last || last >= 128 {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids.into_iter().collect())
}

/// `.../NAME7/...:value` as (7, value).
pub fn numbered<'a>(line: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let (path, value) = line.split_once(':')?;
    let number = path.split('/').find_map(|part| part.strip_prefix(name)?.parse().ok())?;
    Some((number, value.trim()))
}

fn parse(answer: &str) -> Device {
    let value = |key: &str| {
        answer.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().trim().to_owned()
    };
    let ending = |end: &'static str| {
        move |line: &&str| line.starts_with("/sys/") && line.split(':').next().is_some_and(|p| p.ends_with(end))
    };
    let speeds: Vec<(usize, f64)> = answer
        .lines()
        .filter(ending("/cpuinfo_max_freq"))
        .filter_map(|l| numbered(l, "cpu"))
        .filter_map(|(id, khz)| Some((id, khz.parse::<f64>().ok()? / 1e3)))
        .collect();
    let max_mhz = |id: usize| speeds.iter().find(|(core, _)| *core == id).map(|(_, mhz)| *mhz);
    let online = ranges(&value("online")).unwrap_or_else(|| speeds.iter().map(|(id, _)| *id).collect());
    let zones: Vec<(usize, &str)> =
        answer.lines().filter(ending("/type")).filter_map(|l| numbered(l, "thermal_zone")).collect();
    Device {
        serial: String::new(),
        model: value("model"),
        android: value("android"),
        abi: value("abi"),
        features: features(answer),
        cores: online.into_iter().map(|id| Core { id, max_mhz: max_mhz(id) }).collect(),
        zones: cpu_zones(&zones),
        has_taskset: !value("taskset").is_empty(),
    }
}

/// Features that every core lists.
fn features(cpuinfo: &str) -> Vec<String> {
    let words = |line: &str| -> Option<BTreeSet<String>> {
        let (key, value) = line.split_once(':')?;
        ["Features", "flags"].contains(&key.trim()).then(|| value.split_whitespace().map(str::to_owned).collect())
    };
    let common = cpuinfo.lines().filter_map(words).reduce(|a, b| &a & &b).unwrap_or_default();
    let has = |(_, words): &&(&str, &[&str])| words.iter().all(|w| common.contains(*w));
    FEATURES.iter().filter(has).map(|(name, _)| (*name).to_owned()).collect()
}

/// Vendors name zones as they like; those of the CPU mostly say so, Qualcomm's older ones `tsens`, MediaTek's `mtktscpu`.
fn cpu_zones(zones: &[(usize, &str)]) -> Vec<usize> {
    for part in ["cpu", "soc", "tsens", ""] {
        let found: Vec<usize> =
            zones.iter().filter(|(_, kind)| kind.to_lowercase().contains(part)).map(|(id, _)| *id).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `--cores` says, threads, and the cores or none for an error.
    type Case<'a> = (Option<&'a str>, usize, Option<&'a [usize]>);

    const ANSWER: &str = "abi=arm64-v8a\nmodel=Pixel 6\nandroid=14\ntaskset=/system/bin/taskset\nonline=0-3,4-7\n\
        /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq:1803000\n\
        /sys/devices/system/cpu/cpu4/cpufreq/cpuinfo_max_freq:2253000\n\
        /sys/devices/system/cpu/cpu5/cpufreq/cpuinfo_max_freq:2253000\n\
        /sys/devices/system/cpu/cpu6/cpufreq/cpuinfo_max_freq:2802000\n\
        /sys/devices/system/cpu/cpu7/cpufreq/cpuinfo_max_freq:2802000\n\
        /sys/class/thermal/thermal_zone0/type:battery\n/sys/class/thermal/thermal_zone3/type:CPU-big\n\
        processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp crc32\n\nprocessor\t: 1\nFeatures\t: fp asimd asimddp\n";

    #[test]
    fn facts_are_read_from_the_probe() {
        let device = parse(ANSWER);
        assert_eq!(
            (device.abi.as_str(), device.model.as_str(), device.android.as_str()),
            ("arm64-v8a", "Pixel 6", "14")
        );
        assert_eq!(device.features, ["neon", "dotprod"], "only what every core has");
        assert_eq!((device.cores.len(), device.zones.clone(), device.has_taskset), (8, vec![3], true));
        assert_eq!(device.cores[7], Core { id: 7, max_mhz: Some(2802.0) });
        assert!(device.require(&["dotprod".into()]).is_ok());
        assert!(device.require(&["i8mm".into()]).unwrap_err().contains("lacks i8mm"));
        assert!(device.require(&["mmx".into()]).unwrap_err().contains("no such feature"));
    }

    #[test]
    fn the_fastest_cluster_that_holds_the_threads_is_chosen() {
        let device = parse(ANSWER);
        let cases: [Case; 9] = [
            (None, 1, Some(&[6, 7])),
            (None, 2, Some(&[6, 7])),
            (None, 3, Some(&[4, 5, 6, 7])),
            (None, 99, Some(&[0, 1, 2, 3, 4, 5, 6, 7])),
            (Some("none"), 1, Some(&[])),
            (Some("0,2-3"), 1, Some(&[0, 2, 3])),
            (Some("8"), 1, None),
            (Some("3-1"), 1, None),
            (Some("big"), 1, None),
        ];
        for (asked, threads, expected) in cases {
            assert_eq!(device.choose_cores(asked, threads).ok().as_deref(), expected, "{asked:?} {threads}");
        }
        assert_eq!(mask(&[6, 7]), "c0");
        assert_eq!(device.list_cores(), "0 (1803 MHz), 1-3, 4-5 (2253 MHz), 6-7 (2802 MHz)");
        let without = Device { has_taskset: false, ..device };
        assert!(without.choose_cores(None, 1).unwrap_err().contains("--cores none"));
    }
}
