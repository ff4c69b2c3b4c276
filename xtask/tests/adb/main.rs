//! `cargo xtask adb-bench` end to end: the real program, the real adb client and server, and a phone made of threads
//! (`phone`) that runs the arm64 `sparrow` under qemu. `cargo xtask test adb` prepares what it needs and runs it.
//!
//! Every test has an adb server, a home folder and a phone of its own, so a developer's server is left alone.

mod phone;

use phone::{Fault, Phone, Traits};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Short, since these times are no one's figures.
const QUICK: [&str; 6] = ["--repeats", "2", "--seconds", "0.6", "--warmup", "0.1"];

/// A file that `cargo xtask test adb` makes.
fn prepared(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test adb`"))
}

fn program() -> String {
    prepared("SPARROW_ADB_PROGRAM")
}

fn model(name: &str) -> String {
    format!("{}/{name}.spw", prepared("SPARROW_ADB_MODELS"))
}

/// This computer: an adb server of its own and a folder for everything.
struct Host {
    folder: PathBuf,
    port: u16,
}

impl Host {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("sparrow-adb-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let host = Self { folder, port };
        let started = host.adb(&["start-server"]);
        assert!(started.status.success(), "{}", text(&started));
        host
    }

    fn environment(&self, mut command: Command) -> Command {
        for variable in ["ANDROID_SERIAL", "ADB_VENDOR_KEYS", "ADB_SERVER_SOCKET", "ANDROID_HOME", "ANDROID_SDK_ROOT"] {
            command.env_remove(variable);
        }
        command
            .env("ANDROID_ADB_SERVER_PORT", self.port.to_string())
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder)
            // Emulators of this machine are not our devices.
            .env("ADB_LOCAL_TRANSPORT_MAX_PORT", "5000");
        command
    }

    fn adb(&self, args: &[&str]) -> Output {
        let mut command = self.environment(Command::new("adb"));
        command.args(args).stdin(Stdio::null()).output().expect("adb is installed")
    }

    fn phone(&self, traits: Traits) -> Phone {
        let root = (0..).map(|n| self.folder.join(format!("phone{n}"))).find(|p| !p.exists()).expect("a name");
        let fault = traits.fault;
        let phone = Phone::start(&root, traits).expect("a phone");
        let connected = self.adb(&["connect", &phone.serial()]);
        if !matches!(fault, Fault::Unauthorized | Fault::Silent) {
            assert!(text(&connected).contains("connected to"), "{}", text(&connected));
        }
        phone
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.environment(Command::new(env!("CARGO_BIN_EXE_xtask")));
        command.arg("adb-bench").args(args).stdin(Stdio::null());
        command
    }

    /// Runs adb-bench with the arm64 program.
    fn bench(&self, args: &[&str]) -> Output {
        self.command(&["--binary", &program()]).args(QUICK).args(args).output().expect("xtask runs")
    }

    /// Runs adb-bench, which must fail and say all of `parts`.
    #[track_caller]
    fn refuses(&self, args: &[&str], parts: &[&str]) {
        let output = self.bench(args);
        assert!(!output.status.success(), "{}", text(&output));
        for part in parts {
            assert!(text(&output).contains(part), "'{part}' is not said: {}", text(&output));
        }
        assert!(output.stdout.is_empty(), "a failure prints no result: {}", text(&output));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.adb(&["kill-server"]);
        // The server writes its log until it has ended.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&self.folder).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing of ours on the phone; a phone whose connection broke may need a moment.
#[track_caller]
fn nothing_left(phone: &Phone) {
    wait_for("cleaning up", || phone.files().is_empty() && phone.load() == 0);
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a saved file")).expect("JSON")
}

#[test]
fn measures_saves_and_compares() {
    let host = Host::new();
    let phone = host.phone(Traits::default());
    let saved = host.folder.join("before.json");
    let save = saved.to_str().expect("a plain path");
    let first = host.bench(&[&model("fashion"), &model("fashion-int8"), "--need", "dotprod,fp16", "--save", save]);
    assert!(first.status.success(), "{}", text(&first));
    nothing_left(&phone);
    let table = String::from_utf8_lossy(&first.stdout).into_owned();
    for part in [
        "Test Phone (Android 14, arm64-v8a, neon fp16 dotprod)",
        "cores 4,5,6,7",
        "fashion-int8 kernels: ",
        "schedutil",
    ] {
        assert!(table.contains(part), "'{part}' is not in {table}");
    }
    // Programs on the big cores, the watch on the others.
    assert!(phone.pinned().contains("f0 ") && phone.pinned().contains("-p f "), "{}", phone.pinned());

    let result = json(&saved);
    let size = std::fs::metadata(model("fashion")).expect("the model").len();
    let row = &result["models"][0];
    assert_eq!((&row["model"], &row["file_bytes"]), (&"fashion".into(), &size.into()));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number: {value} in {result}"));
    assert!(number(&row["min_ms"]) > 0.0 && number(&row["min_ms"]) <= number(&row["median_ms"]));
    assert!(number(&row["median_ms"]) <= number(&row["p90_ms"]));
    assert_eq!(row["medians_ms"].as_array().map(Vec::len), Some(2));
    assert!(row["kernels"].as_object().is_some_and(|k| !k.is_empty()));
    let seen = &row["conditions"];
    assert_eq!(
        (number(&seen["mhz_before"]), number(&seen["mhz_during"]), number(&seen["mhz_after"])),
        (500.0, 2800.0, 500.0)
    );
    assert_eq!((number(&seen["celsius_before"]), number(&seen["celsius_peak"])), (35.0, 45.0));
    assert_eq!((&seen["throttled"], &seen["warnings"]), (&false.into(), &Value::Array(Vec::new())));

    // Again, of one model, after making the earlier run look ten times as fast.
    let mut faster = result.clone();
    for key in ["median_ms", "p90_ms", "min_ms"] {
        faster["models"][0][key] = (number(&row[key]) / 10.0).into();
    }
    faster["models"][0]["medians_ms"] = vec![number(&row["median_ms"]) / 10.0; 2].into();
    std::fs::write(&saved, faster.to_string()).expect("written");
    let second = host.bench(&[&model("fashion"), "--cores", "0-3", "--threads", "2", "--against", save, "--json"]);
    assert!(second.status.success(), "{}", text(&second));
    let compared: Value = serde_json::from_slice(&second.stdout).expect("JSON alone on standard output");
    let verdict = &compared["against"][0];
    assert!(number(&verdict["ratio"]) > 2.0 && number(&verdict["noise"]) >= 0.02, "{verdict}");
    let remarks = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        remarks.contains("had cores [4, 5, 6, 7], this one [0, 1, 2, 3]") && remarks.contains("had threads 1"),
        "{remarks}"
    );
    assert!(phone.pinned().contains("\nf /") && phone.pinned().contains("-p f0 "), "{}", phone.pinned());
    nothing_left(&phone);
}

#[test]
fn the_device_must_be_one_and_ready() {
    let host = Host::new();
    let model = model("fashion");
    host.refuses(&[&model], &["adb sees no device: plug one in"]);
    let locked = host.phone(Traits { fault: Fault::Unauthorized, ..Traits::default() });
    // The server tries its keys again and again: authorizing, unauthorized, authorizing.
    wait_for("refusing", || text(&host.adb(&["devices"])).contains("authoriz"));
    host.refuses(&[&model], &[&locked.serial(), "authoriz", "allow USB debugging"]);
    let phones = [0, 1].map(|_| host.phone(Traits::default()));
    host.refuses(&[&model], &["several devices", "--serial", &phones[0].serial(), &phones[1].serial()]);
    let list = host.command(&["--list"]).output().expect("xtask runs");
    assert!(list.status.success() && text(&list).contains(&phones[0].serial()), "{}", text(&list));
    host.refuses(&[&model, "--serial", "nowhere"], &["no device nowhere", &phones[0].serial()]);
    let silent = Host::new();
    let mute = silent.phone(Traits { fault: Fault::Silent, ..Traits::default() });
    silent.refuses(&[&model, "--serial", &mute.serial()], &[&mute.serial(), "plug it in again"]);
    nothing_left(&phones[0]);
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_copied() {
    let host = Host::new();
    let net = model("fashion");
    let check = |traits: Traits, args: &[&str], parts: &[&str]| {
        let phone = host.phone(traits);
        host.refuses(&[&[net.as_str(), "--serial", &phone.serial()], args].concat(), parts);
        nothing_left(&phone);
    };
    let usual = Traits::default;
    check(usual(), &["--need", "i8mm"], &["lacks i8mm", "neon, fp16, dotprod"]);
    check(usual(), &["--need", "mmx"], &["no such feature"]);
    check(Traits { features: "fp crc32", ..usual() }, &[], &["lacks neon"]);
    check(Traits { abi: "armeabi-v7a", ..usual() }, &[], &["the device's ABI is armeabi-v7a"]);
    check(Traits { abi: "x86_64", ..usual() }, &[], &["built for arm64-v8a, but the device's ABI is x86_64"]);
    check(usual(), &["--cores", "4-9"], &["core 8 is not there", "0-3 (1800 MHz), 4-7 (2800 MHz)"]);
    check(Traits { taskset: false, ..usual() }, &[], &["no taskset", "--cores none"]);
    check(Traits { shell_v2: false, ..usual() }, &[], &["shell_v2", "Android 7"]);
    check(usual(), &["--save", "/nowhere/x.json"], &["there is no folder /nowhere"]);
    check(usual(), &["--against", "/nowhere/x.json"], &["/nowhere/x.json", "No such file"]);
    let phone = host.phone(usual());
    std::fs::remove_dir(phone.storage()).expect("empty");
    host.refuses(&[&net, "--serial", &phone.serial()], &["cannot make a folder in /data/local/tmp", "mkdir: "]);
    let host_program = env!("CARGO_BIN_EXE_xtask");
    let output =
        host.command(&["--serial", &phone.serial(), "--binary", host_program, &net]).output().expect("xtask runs");
    assert!(text(&output).contains("but the device's ABI is arm64-v8a"), "{}", text(&output));
    nothing_left(&phone);
}

#[test]
fn a_full_disk_and_a_damaged_model_leave_nothing() {
    let host = Host::new();
    let full = host.phone(Traits { capacity: 1_000_000, ..Traits::default() });
    let saved = host.folder.join("kept.json");
    std::fs::write(&saved, "as it was").expect("written");
    let save = ["--save", saved.to_str().expect("a plain path"), "--serial"];
    let args = |phone: &Phone, model: &str| {
        [&[model], &save[..], &[&phone.serial()]].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let refuses = |phone: &Phone, model: &str, parts: &[&str]| {
        let args = args(phone, model);
        host.refuses(&args.iter().map(String::as_str).collect::<Vec<_>>(), parts);
        nothing_left(phone);
        assert_eq!(std::fs::read_to_string(&saved).expect("still there"), "as it was");
    };
    refuses(&full, &model("fashion"), &["the device is full: free at least", "nothing is left"]);
    let damaged = host.folder.join("damaged.spw");
    std::fs::write(&damaged, [7; 5000]).expect("written");
    let phone = host.phone(Traits::default());
    refuses(&phone, damaged.to_str().expect("a plain path"), &["measuring damaged: sparrow: ", "nothing is left"]);
}

#[test]
fn a_lost_connection_leaves_nothing() {
    let host = Host::new();
    for (fault, step) in [(Fault::LosePush, "copying"), (Fault::LoseRun, "measuring fashion")] {
        let phone = host.phone(Traits { fault, ..Traits::default() });
        host.refuses(
            &[&model("fashion"), "--serial", &phone.serial()],
            &[step, "lost the connection to", &phone.serial()],
        );
        nothing_left(&phone);
    }
}

/// Runs adb-bench until `moment`, sends it a signal and waits for its end.
fn stopped(host: &Host, signal: &str, mut moment: impl FnMut() -> bool) -> Output {
    let mut command = host.command(&["--binary", &program(), &model("fashion"), "--seconds", "60"]);
    let mut child: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xtask runs");
    wait_for("the moment", || moment() || child.try_wait().is_ok_and(|ended| ended.is_some()));
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|s| s.success()), "it has ended before the moment");
    let begun = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(20), "it takes long to stop");
    output
}

#[test]
fn an_interrupt_leaves_nothing() {
    for (fault, signal) in
        [(Fault::SlowPush, "-INT"), (Fault::None, "-INT"), (Fault::None, "-TERM"), (Fault::None, "-KILL")]
    {
        let host = Host::new();
        let phone = host.phone(Traits { fault, ..Traits::default() });
        let pushing = || phone.files().iter().any(|f| f.join("sparrow").exists());
        let running = || phone.load() > 0 && phone.pinned().contains("-p");
        let output = stopped(&host, signal, || if fault == Fault::SlowPush { pushing() } else { running() });
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output));
        if signal != "-KILL" {
            assert!(text(&output).contains("interrupted; nothing is left on the device"), "{}", text(&output));
        }
        nothing_left(&phone);
    }
}

#[test]
fn throttling_is_said_and_makes_comparisons_unclear() {
    let host = Host::new();
    let phone = host.phone(Traits { fault: Fault::Throttle, ..Traits::default() });
    let saved = host.folder.join("hot.json");
    let save = saved.to_str().expect("a plain path");
    let output = host.bench(&[&model("fashion"), "--save", save]);
    assert!(output.status.success(), "{}", text(&output));
    for part in ["warning: fashion: throttled: a core was capped to 1200 of 2800 MHz", "hot: 93 °C"] {
        assert!(text(&output).contains(part), "'{part}' is not said: {}", text(&output));
    }
    assert_eq!(json(&saved)["models"][0]["conditions"]["throttled"], true);
    let again = host.bench(&[&model("fashion"), "--against", save]);
    assert!(text(&again).contains("unclear: the device throttled"), "{}", text(&again));
    nothing_left(&phone);
}

#[test]
fn what_a_reboot_left_is_removed_and_other_runs_are_not() {
    let host = Host::new();
    let phone = host.phone(Traits::default());
    let tmp = phone.storage();
    let folder = |name: &str, keeper: u32| {
        std::fs::create_dir(tmp.join(name)).expect("made");
        std::fs::write(tmp.join(name).join("keeper"), format!("{keeper}\n")).expect("written");
    };
    // No process has this number: it is beyond Linux's largest.
    folder("sparrow-dead", 4_194_305);
    folder("sparrow-running", std::process::id());
    let output = host.bench(&[&model("fashion")]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(phone.files(), [tmp.join("sparrow-running")]);
}
