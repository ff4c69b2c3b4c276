//! Our folder on the device, which removes itself.
//!
//! A keeper makes it: one shell command on the device that waits for the end of its input, then ends a program of ours
//! that still runs and removes the folder.
//! The input's other end is a pipe that this process holds, through adb's client and server. So whatever happens (we
//! close it, Ctrl-C, this process is killed, the cable is pulled), the device sees the input's end and cleans up by
//! itself. The keeper's end is also how a lost connection is told from a program that failed. Only a reboot leaves a
//! folder behind; the next run's keeper removes folders whose keeper is no more.

use super::client::{Adb, Reply, check_interrupt, end};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where Android lets the shell user write and execute.
const TEMPORARY: &str = "/data/local/tmp";

/// How long the device may take to make or remove the folder.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Folder<'a> {
    adb: &'a Adb,
    path: String,
    keeper: Child,
    says: Receiver<String>,
}

impl<'a> Folder<'a> {
    /// Makes a folder, and removes those that a reboot left behind.
    ///
    /// # Errors
    /// What the device says where it cannot.
    pub fn open(adb: &'a Adb) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = format!("{TEMPORARY}/sparrow-{now:x}-{:x}", std::process::id());
        let script = format!(
            r#"trap "" HUP INT TERM
for k in {TEMPORARY}/sparrow-*/keeper; do [ -f "$k" ] && ! kill -0 $(cat "$k") 2>/dev/null && rm -rf "${{k%/keeper}}"; done
mkdir {path} && echo $$ > {path}/keeper && echo ready && cat > /dev/null
[ -f {path}/running ] && p=$(cat {path}/running) && grep -qs {path} /proc/$p/cmdline && kill $p
rm -rf {path} && echo removed"#
        );
        let mut command = adb.on_device(["shell", &script]);
        command.stdin(Stdio::piped());
        let mut keeper = command.spawn().map_err(|e| format!("adb shell: {e}"))?;
        let says = lines(&mut keeper);
        let mut folder = Self { adb, path, keeper, says };
        let mut said = Vec::new();
        if folder.hear("ready", &mut said) {
            return Ok(folder);
        }
        let closed = folder.close();
        check_interrupt()?;
        said.retain(|line| line != "removed");
        let why = if said.is_empty() { "no answer".to_owned() } else { said.join("; ") };
        let also = closed.err().map(|e| format!("; {e}")).unwrap_or_default();
        Err(format!("cannot make a folder in {TEMPORARY} on {}: {why}{also}", adb.serial()))
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Copies a file into the folder.
    ///
    /// # Errors
    /// A full disk, a lost connection, or what adb says; Ctrl-C.
    pub fn push(&mut self, file: &Path, name: &str) -> Result<(), String> {
        let bytes = std::fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
        let remote = format!("{}/{name}", self.path);
        let what = format!("copying {} to the device", file.display());
        // A megabyte a second is slow even for USB 2 and wireless debugging.
        let limit = Duration::from_secs(60 + bytes / 1_000_000);
        let command = self.adb.on_device([Path::new("push"), file, Path::new(&remote)]);
        let reply = self.adb.finish(command, &what, limit)?;
        if reply.success {
            return Ok(());
        }
        if reply.complaint().contains("No space left on device") {
            return Err(format!(
                "{what}: the device is full: free at least {} MB of its storage (adb shell df -h {TEMPORARY})",
                bytes.div_ceil(1_000_000)
            ));
        }
        Err(self.why(&what, &reply))
    }

    /// Runs a program of the folder to its end and returns its standard output.
    ///
    /// # Errors
    /// What the program says, a lost connection, no end within `limit`; Ctrl-C.
    pub fn run(&mut self, what: &str, command: &str, limit: Duration) -> Result<Reply, String> {
        // exec: the signal that adbd sends when the connection ends must reach the program itself, and the keeper must
        // know its number.
        let script = format!("echo $$ > {}/running; exec {command}", self.path);
        let reply = self.adb.finish(self.adb.on_device(["shell", &script]), what, limit)?;
        if reply.success && !self.lost() { Ok(reply) } else { Err(self.why(what, &reply)) }
    }

    /// Whether the keeper has ended, and so the connection; a client that ends with it may be a moment ahead of it.
    fn lost(&mut self) -> bool {
        matches!(self.keeper.try_wait(), Ok(Some(_)))
    }

    /// What made a step fail, told apart: the connection or the step itself.
    pub fn why(&mut self, what: &str, reply: &Reply) -> String {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if self.lost() {
                return format!("{what}: lost the connection to {}: check cable or network", self.adb.serial());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        format!("{what}: {}", reply.complaint())
    }

    /// Waits until the keeper says `word`; collects what else it says.
    fn hear(&mut self, word: &str, said: &mut Vec<String>) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.says.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line == word => return true,
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        false
    }

    /// Removes the folder and all it holds, and makes sure.
    ///
    /// # Errors
    /// If the device does not confirm it.
    pub fn close(mut self) -> Result<(), String> {
        drop(self.keeper.stdin.take());
        let removed = self.hear("removed", &mut Vec::new());
        end(&mut self.keeper);
        if removed || self.gone_after_all() {
            return Ok(());
        }
        Err(format!(
            "{} does not answer; it removes {} by itself once it sees that the connection is lost",
            self.adb.serial(),
            self.path
        ))
    }

    /// After a lost connection: whether the device, if it comes back, has removed the folder.
    fn gone_after_all(&self) -> bool {
        let script = format!("[ -e {} ] && echo there || echo gone", self.path);
        (0..10).any(|_| {
            std::thread::sleep(Duration::from_millis(500));
            self.adb.ask("looking for our folder", &script).is_ok_and(|answer| answer.trim() == "gone")
        })
    }
}

/// What a child prints on either stream, line by line.
fn lines(child: &mut Child) -> Receiver<String> {
    let (send, receive) = channel();
    let out = child.stdout.take().map(|s| Box::new(s) as Box<dyn std::io::Read + Send>);
    let err = child.stderr.take().map(|s| Box::new(s) as Box<dyn std::io::Read + Send>);
    for stream in [out, err].into_iter().flatten() {
        let send = send.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if send.send(line.trim().to_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receive
}
