//! Android's own `adb` client, run as a child process.
//!
//! What it prints and how it ends is all we go by, and the exit status of `adb shell` is not enough: a client whose
//! connection breaks may end with status 0 and half of the output. So a question to the device carries its own end
//! marker, and the folder's keeper (see `folder`) tells a broken connection from a program that failed.
//!
//! Children run in process groups of their own: Ctrl-C in a terminal reaches us alone, and we end them in order.

use crate::shell::has;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Set by Ctrl-C; every wait ends early then.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a short question may take.
const QUESTION: Duration = Duration::from_secs(30);

/// Takes Ctrl-C (and a request to terminate) as a wish to stop and clean up.
///
/// # Errors
/// If the system refuses a handler.
pub fn catch_interrupts() -> Result<(), String> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).map_err(|e| format!("no handler for Ctrl-C: {e}"))
}

/// Fails after a Ctrl-C.
///
/// # Errors
/// That it was pressed.
pub fn check_interrupt() -> Result<(), String> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err("interrupted".into()) } else { Ok(()) }
}

/// The client, and the one device it speaks to.
pub struct Adb {
    program: PathBuf,
    serial: String,
}

/// How a client ended and what it printed.
pub struct Reply {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Reply {
    /// What it had to say, on one line.
    pub fn complaint(&self) -> String {
        let lines = self.stderr.lines().chain(self.stdout.lines()).map(str::trim);
        let text = lines.filter(|l| !l.is_empty() && !l.starts_with('*')).collect::<Vec<_>>().join("; ");
        if text.is_empty() { "no message".into() } else { text }
    }
}

impl Adb {
    /// The client on the path or in the SDK, speaking to the device called `serial`, else to the only one.
    ///
    /// # Errors
    /// No client; no device, several, or one that is not ready: each with its remedy.
    pub fn connect(serial: Option<String>) -> Result<Self, String> {
        let mut adb = Self { program: find()?, serial: String::new() };
        let list = adb.devices()?;
        let asked = serial.or_else(|| std::env::var("ANDROID_SERIAL").ok().filter(|s| !s.is_empty()));
        adb.serial = choose(&parse(&list), asked.as_deref())?;
        Ok(adb)
    }

    /// Every device and its state, a line each.
    ///
    /// # Errors
    /// No client, or what it says.
    pub fn list() -> Result<String, String> {
        let list = Self { program: find()?, serial: String::new() }.devices()?;
        Ok(parse(&list).iter().map(|(serial, state)| format!("{serial}\t{state}\n")).collect())
    }

    fn devices(&self) -> Result<String, String> {
        let list = self.finish(self.client(["devices"]), "adb devices", QUESTION)?;
        if list.success { Ok(list.stdout) } else { Err(format!("adb devices: {}", list.complaint())) }
    }

    pub fn serial(&self) -> &str {
        &self.serial
    }

    fn client<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A client for this device.
    pub fn on_device<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.client(["-s", &self.serial]);
        command.args(args);
        command
    }

    /// Runs a client to its end.
    ///
    /// # Errors
    /// Ctrl-C, or no end within `limit`.
    pub fn finish(&self, mut command: Command, what: &str, limit: Duration) -> Result<Reply, String> {
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.program.display()))?;
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let status = wait(&mut child, limit);
        if !matches!(status, Ok(Some(_))) {
            end(&mut child);
        }
        check_interrupt()?;
        let status = status?.ok_or_else(|| format!("{what}: no answer within {} s", limit.as_secs()))?;
        let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
        Ok(Reply { success: status.success(), stdout: text(stdout), stderr: text(stderr) })
    }

    /// What a short shell command prints on the device, whether it succeeds or not; `what` says what it is for.
    ///
    /// # Errors
    /// Where the answer does not arrive in full.
    pub fn ask(&self, what: &str, command: &str) -> Result<String, String> {
        const END: &str = "=end=";
        let script = format!("{command}\necho {END}");
        let reply = self.finish(self.on_device(["shell", &script]), what, QUESTION)?;
        let text = reply.stdout.replace('\r', "");
        match text.trim_end().strip_suffix(END) {
            Some(answer) => Ok(answer.to_owned()),
            None => {
                Err(format!("lost the connection to {}, or it refused: {what}: {}", self.serial, reply.complaint()))
            }
        }
    }
}

/// Ends a child that still runs.
pub fn end(child: &mut Child) {
    // Either may fail only if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for a child's end; `None` at the limit or after a Ctrl-C.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>, String> {
    let begun = Instant::now();
    while begun.elapsed() < limit && check_interrupt().is_ok() {
        if let Some(status) = child.try_wait().map_err(|e| format!("adb: {e}"))? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

fn drain(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is still worth showing.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn find() -> Result<PathBuf, String> {
    if has("adb") {
        return Ok("adb".into());
    }
    let sdks = ["ANDROID_HOME", "ANDROID_SDK_ROOT"].iter().filter_map(std::env::var_os);
    let programs = sdks.map(|sdk| Path::new(&sdk).join("platform-tools/adb"));
    programs.into_iter().find(|p| p.is_file()).ok_or_else(|| {
        "there is no adb on the path: install Android's platform-tools (Debian: apt-get install adb), or set ANDROID_HOME"
            .into()
    })
}

/// Serial and state of every line of `adb devices`.
fn parse(list: &str) -> Vec<(&str, &str)> {
    list.lines().filter_map(|line| line.split_once('\t')).map(|(serial, state)| (serial.trim(), state.trim())).collect()
}

fn choose(devices: &[(&str, &str)], asked: Option<&str>) -> Result<String, String> {
    let list = || devices.iter().map(|(serial, state)| format!("{serial} ({state})")).collect::<Vec<_>>().join(", ");
    let (serial, state) = match (asked, devices) {
        (_, []) => {
            return Err(
                "adb sees no device: plug one in with USB debugging switched on (Settings, Developer options), \
                        or adb connect HOST:PORT"
                    .into(),
            );
        }
        (Some(asked), all) => match all.iter().find(|(serial, _)| *serial == asked) {
            Some(found) => *found,
            None => return Err(format!("adb sees no device {asked}; there are: {}", list())),
        },
        (None, [one]) => *one,
        (None, _) => return Err(format!("several devices: choose one with --serial: {}", list())),
    };
    let remedy = match state.split_whitespace().next().unwrap_or_default() {
        "device" => return Ok(serial.to_owned()),
        "unauthorized" | "authorizing" => {
            "unlock it and allow USB debugging for this computer; if it does not ask, revoke authorizations in its \
             Developer options and plug it in again"
        }
        "offline" | "connecting" => "plug it in again, or adb reconnect offline (adb connect for one on the network)",
        "no" => {
            "this user may not open the USB device: install the udev rules (Debian: android-sdk-platform-tools-common)"
        }
        "recovery" | "sideload" | "bootloader" | "rescue" => "boot it into Android",
        _ => "see adb devices -l",
    };
    Err(format!("device {serial} is {state}: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The devices, the one asked for, and the serial or a part of the message.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Result<&'a str, &'a str>);

    const LIST: &str = "List of devices attached\nA1\tdevice\n127.0.0.1:5555\toffline\nB2\tunauthorized\n\n";

    #[test]
    fn a_device_is_chosen_or_the_remedy_named() {
        let all = parse(LIST);
        assert_eq!(all, [("A1", "device"), ("127.0.0.1:5555", "offline"), ("B2", "unauthorized")]);
        let cases: [Case; 9] = [
            (&all, Some("A1"), Ok("A1")),
            (&all[..1], None, Ok("A1")),
            (&all, None, Err("--serial: A1 (device), 127.0.0.1:5555 (offline)")),
            (&[], None, Err("no device")),
            (&[], Some("A1"), Err("no device")),
            (&all, Some("C3"), Err("no device C3; there are: A1")),
            (&all, Some("B2"), Err("allow USB debugging")),
            (&all, Some("127.0.0.1:5555"), Err("plug it in again")),
            (&[("A1", "no permissions (user in plugdev group; are your udev rules wrong?)")], None, Err("udev")),
        ];
        for (devices, asked, expected) in cases {
            match (choose(devices, asked), expected) {
                (Ok(serial), Ok(expected)) => assert_eq!(serial, expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (result, expected) => panic!("{devices:?} {asked:?}: {result:?}, not {expected:?}"),
            }
        }
    }
}
