//! A phone made of threads: it speaks adb's transport protocol on a TCP port, as a phone's adbd does on the network, and
//! runs arm64 programs under qemu. The real adb server connects to it with `adb connect`.
//!
//! Its storage, `/sys` and `/proc/cpuinfo` are a folder on this machine: paths in shell commands are mapped into it and
//! those in their output back. Commands see the few tools that are linked into its `bin`, all of which Android has. A
//! pushed arm64 program is put aside, and a script that starts it under qemu takes its place: what binfmt_misc would do.
//!
//! Source: AOSP, packages/modules/adb: protocol.txt (messages), SYNC.TXT (files), shell_protocol.h (shell,v2).

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a phone is and how it misbehaves.
#[derive(Clone)]
pub struct Traits {
    pub model: &'static str,
    pub abi: &'static str,
    /// Of `/proc/cpuinfo`.
    pub features: &'static str,
    /// Offered to adb.
    pub shell_v2: bool,
    pub taskset: bool,
    /// Bytes its storage holds.
    pub capacity: i64,
    pub fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// Never accepts this computer's key.
    Unauthorized,
    /// Takes the connection and says nothing.
    Silent,
    /// Drops the connection in the middle of a file, and can be reached again at once.
    LosePush,
    /// Drops the connection while a benchmark runs, and cannot be reached any more.
    LoseRun,
    /// Takes a file slowly enough to interrupt it.
    SlowPush,
    /// Caps its frequency and becomes hot after half a second under load.
    Throttle,
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            model: "Test Phone",
            abi: "arm64-v8a",
            features: "fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp",
            shell_v2: true,
            taskset: true,
            capacity: 1 << 30,
            fault: Fault::None,
        }
    }
}

/// Kilohertz of a big and a little core, at most and idle, and of a throttled big one.
const BIG: (usize, usize) = (2_800_000, 500_000);
const LITTLE: (usize, usize) = (1_800_000, 300_000);
const CAPPED: usize = 1_200_000;

pub struct Phone {
    pub port: u16,
    inner: Arc<Inner>,
    life: Option<thread::JoinHandle<()>>,
}

struct Inner {
    root: PathBuf,
    traits: Traits,
    free: AtomicI64,
    programs: AtomicUsize,
    /// Benchmarks that run now.
    load: Mutex<usize>,
    /// Moments under load so far.
    loaded: AtomicUsize,
    /// No longer takes connections.
    gone: AtomicBool,
    off: AtomicBool,
}

impl Phone {
    /// Switches a phone on; `root` is the folder that stands for its files.
    pub fn start(root: &Path, traits: Traits) -> io::Result<Self> {
        furnish(root, &traits)?;
        let inner = Arc::new(Inner {
            root: root.to_owned(),
            free: traits.capacity.into(),
            traits,
            programs: 0.into(),
            load: 0.into(),
            loaded: 0.into(),
            gone: false.into(),
            off: false.into(),
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let phone = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten().take_while(|_| !phone.off.load(SeqCst)) {
                if !phone.gone.load(SeqCst) {
                    let phone = Arc::clone(&phone);
                    thread::spawn(move || serve(&phone, stream));
                }
            }
        });
        inner.set_loads(0);
        let phone = Arc::clone(&inner);
        let life = thread::spawn(move || {
            while !phone.off.load(SeqCst) {
                thread::sleep(Duration::from_millis(50));
                phone.set_loads(0);
            }
        });
        Ok(Self { port, inner, life: Some(life) })
    }

    pub fn serial(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder that is /data/local/tmp.
    pub fn storage(&self) -> PathBuf {
        self.inner.root.join("data/local/tmp")
    }

    /// What lies in it.
    pub fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.storage()).into_iter().flatten().flatten().map(|e| e.path()).collect()
    }

    /// Benchmarks that run now.
    pub fn load(&self) -> usize {
        *self.inner.load.lock().expect("no one panics with it")
    }

    /// What `taskset` was asked for.
    pub fn pinned(&self) -> String {
        fs::read_to_string(self.inner.root.join("pinned")).unwrap_or_default()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.inner.off.store(true, SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        // Its folder is removed next: nothing may write there any more.
        let _ = self.life.take().map(thread::JoinHandle::join);
    }
}

fn executable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Android's folders, tools and facts.
fn furnish(root: &Path, traits: &Traits) -> io::Result<()> {
    for folder in ["bin", "programs", "proc", "data/local/tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for tool in ["sh", "cat", "grep", "rm", "mkdir", "chmod", "sleep", "qemu-aarch64"] {
        let found = std::env::split_paths(&path).map(|p| p.join(tool)).find(|p| p.is_file());
        symlink(found.ok_or_else(|| io::Error::other(format!("there is no {tool}")))?, root.join("bin").join(tool))?;
    }
    let getprop = format!(
        "#!/bin/sh\ncase $1 in ro.product.cpu.abi) echo {};; ro.product.model) echo {};; ro.build.version.release) echo 14;; esac\n",
        traits.abi, traits.model
    );
    executable(&root.join("bin/getprop"), &getprop)?;
    if traits.taskset {
        let pinned = root.join("pinned");
        let taskset = format!(
            "#!/bin/sh\necho \"$@\" >> {}\n[ \"$1\" = -p ] && exit 0\ncase $1 in *[!0-9a-f]*) exit 1;; esac\nshift\nexec \"$@\"\n",
            pinned.display()
        );
        executable(&root.join("bin/taskset"), &taskset)?;
    }
    let core = |id: usize| format!("processor\t: {id}\nFeatures\t: {}\nCPU part\t: 0xd0b\n\n", traits.features);
    fs::write(root.join("proc/cpuinfo"), (0..8).map(core).collect::<String>())?;
    for id in 0..8 {
        let folder = root.join(format!("sys/devices/system/cpu/cpu{id}/cpufreq"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("cpuinfo_max_freq"), format!("{}\n", if id < 4 { LITTLE.0 } else { BIG.0 }))?;
        fs::write(folder.join("scaling_governor"), "schedutil\n")?;
    }
    fs::write(root.join("sys/devices/system/cpu/online"), "0-7\n")?;
    for (id, kind) in ["battery", "cpu-big"].iter().enumerate() {
        let folder = root.join(format!("sys/class/thermal/thermal_zone{id}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("type"), format!("{kind}\n"))?;
    }
    Ok(())
}

impl Inner {
    /// Begins (1) or ends (-1) a benchmark; frequencies and temperatures follow before this returns.
    fn set_loads(&self, change: isize) {
        let mut load = self.load.lock().expect("no one panics with it");
        *load = load.saturating_add_signed(change);
        let busy = *load > 0;
        let loaded = self.loaded.fetch_add(usize::from(busy), SeqCst);
        let throttled = self.traits.fault == Fault::Throttle && loaded > 10;
        for id in 0..8 {
            let (max, idle) = if id < 4 { LITTLE } else { BIG };
            let cap = if throttled && id >= 4 { CAPPED } else { max };
            let folder = format!("devices/system/cpu/cpu{id}/cpufreq");
            self.set(&format!("{folder}/scaling_max_freq"), cap);
            self.set(&format!("{folder}/scaling_cur_freq"), if busy && id >= 4 { cap } else { idle });
        }
        let celsius = if throttled { 93 } else { 35 + 10 * usize::from(busy) };
        self.set("class/thermal/thermal_zone0/temp", 30_000);
        self.set("class/thermal/thermal_zone1/temp", celsius * 1000);
    }

    /// Changes a file of /sys at once: a reader sees the old value or the new one.
    fn set(&self, file: &str, value: usize) {
        let (path, beside) = (self.root.join("sys").join(file), self.root.join("sys/next"));
        // The folder is gone once its test has ended.
        let _ = fs::write(&beside, format!("{value}\n")).and_then(|()| fs::rename(&beside, path));
    }

    /// A path or a command of the phone as this machine must see it.
    fn inward(&self, text: &str) -> String {
        let root = self.root.display();
        let mapped = |text: String, path: &str| text.replace(path, &format!("{root}{path}"));
        ["/data/local/tmp", "/sys/", "/proc/cpuinfo"].into_iter().fold(text.to_owned(), mapped)
    }

    fn outward(&self, text: &[u8]) -> Vec<u8> {
        String::from_utf8_lossy(text).replace(&self.root.display().to_string(), "").into_bytes()
    }
}

/// A message of the transport: six little-endian words, then the payload.
struct Message {
    command: [u8; 4],
    args: [u32; 2],
    payload: Vec<u8>,
}

/// The version from which on payloads carry no checksum, and the largest payload.
const VERSION: u32 = 0x0100_0001;
const MAX_PAYLOAD: u32 = 256 * 1024;

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

fn receive(stream: &mut impl Read) -> io::Result<Message> {
    let mut head = [0; 24];
    stream.read_exact(&mut head)?;
    let command = [head[0], head[1], head[2], head[3]];
    if word(&head[20..]) != !word(&command) || word(&head[12..]) > MAX_PAYLOAD {
        return Err(io::Error::other("not a message of adb's protocol"));
    }
    let mut payload = vec![0; word(&head[12..]) as usize];
    stream.read_exact(&mut payload)?;
    Ok(Message { command, args: [word(&head[4..]), word(&head[8..])], payload })
}

/// The sending half of a connection.
struct Link(Mutex<TcpStream>);

impl Link {
    fn send(&self, command: &[u8; 4], args: [u32; 2], payload: &[u8]) -> io::Result<()> {
        let sum: u32 = payload.iter().map(|b| u32::from(*b)).sum();
        let words = [word(command), args[0], args[1], payload.len() as u32, sum, !word(command)];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(payload);
        self.0.lock().expect("no sender panics").write_all(&bytes)
    }

    fn drop_connection(&self) {
        let _ = self.0.lock().expect("no sender panics").shutdown(Shutdown::Both);
    }
}

/// One stream of a connection, as the service at its end sees it. Its receivers end when the stream or the connection does.
struct Outlet {
    link: Arc<Link>,
    ids: [u32; 2],
    acknowledged: Mutex<Receiver<()>>,
}

impl Outlet {
    /// Sends data and waits until the host has taken it, as the protocol demands before more may follow.
    fn write(&self, data: &[u8]) -> io::Result<()> {
        let acknowledged = self.acknowledged.lock().expect("no writer panics");
        for chunk in data.chunks(MAX_PAYLOAD as usize) {
            self.link.send(b"WRTE", self.ids, chunk)?;
            acknowledged.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

/// Speaks with one adb server until the connection ends.
fn serve(phone: &Arc<Inner>, mut stream: TcpStream) {
    let Ok(sender) = stream.try_clone() else { return };
    let link = Arc::new(Link(Mutex::new(sender)));
    let mut streams: HashMap<u32, (Sender<Vec<u8>>, Sender<()>)> = HashMap::new();
    let mut next = 1;
    // What cannot be sent ends the connection; the next message cannot be received then either.
    while let Ok(Message { command, args: [remote, local], payload }) = receive(&mut stream) {
        match &command {
            b"CNXN" | b"AUTH" => drop(greet(&phone.traits, &link)),
            b"OPEN" => {
                let ((data, incoming), (ack, acknowledged)) = (channel(), channel());
                streams.insert(next, (data, ack));
                let acknowledged = Mutex::new(acknowledged);
                let outlet = Outlet { link: Arc::clone(&link), ids: [next, remote], acknowledged };
                next += 1;
                let phone = Arc::clone(phone);
                thread::spawn(move || open(&phone, &Arc::new(outlet), incoming, &payload));
            }
            b"WRTE" => {
                let known = streams.get(&local).is_some_and(|(data, _)| data.send(payload).is_ok());
                let _ = link.send(if known { b"OKAY" } else { b"CLSE" }, [local, remote], &[]);
            }
            b"OKAY" => drop(streams.get(&local).map(|(_, ack)| ack.send(()))),
            b"CLSE" => drop(streams.remove(&local)),
            _ => break,
        }
    }
}

fn greet(traits: &Traits, link: &Link) -> io::Result<()> {
    match traits.fault {
        Fault::Silent => Ok(()),
        // A token to sign, whatever the host has sent.
        Fault::Unauthorized => link.send(b"AUTH", [1, 0], &[7; 20]),
        _ => {
            let features = if traits.shell_v2 { "shell_v2" } else { "cmd" };
            let name = traits.model.replace(' ', "_");
            let banner = format!(
                "device::ro.product.name={name};ro.product.model={name};ro.product.device={name};features={features}"
            );
            link.send(b"CNXN", [VERSION, MAX_PAYLOAD], banner.as_bytes())
        }
    }
}

/// Runs the service that a stream asks for, then closes it.
fn open(phone: &Arc<Inner>, outlet: &Arc<Outlet>, incoming: Receiver<Vec<u8>>, service: &[u8]) {
    let service = String::from_utf8_lossy(service).trim_end_matches('\0').to_owned();
    let kind = service.split([':', ',']).next().unwrap_or_default();
    let known = matches!(kind, "shell" | "sync");
    if known && outlet.link.send(b"OKAY", outlet.ids, &[]).is_ok() {
        // A broken connection is the only failure, and whoever could be told is gone with it.
        let _ = match (kind, service.split_once(':')) {
            ("shell", Some((options, command))) => {
                shell(phone, outlet, incoming, command, options.split(',').any(|o| o == "v2"))
            }
            _ => sync(phone, outlet, Bytes { incoming, buffer: Vec::new() }),
        };
    }
    let _ = outlet.link.send(b"CLSE", outlet.ids, &[]);
}

/// Packets of `shell,v2`: a type, a length, data.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;
const CLOSE_STDIN: u8 = 4;

fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind], &(data.len() as u32).to_le_bytes()[..], data].concat()
}

fn shell(
    phone: &Arc<Inner>,
    outlet: &Arc<Outlet>,
    incoming: Receiver<Vec<u8>>,
    text: &str,
    v2: bool,
) -> io::Result<()> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(phone.inward(text)).current_dir(&phone.root).env_clear().env("PATH", phone.root.join("bin"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let bench = text.contains(" bench ");
    if bench {
        phone.set_loads(1);
        if phone.traits.fault == Fault::LoseRun {
            lose(phone, outlet);
        }
    }
    let out = pump(phone, outlet, child.stdout.take(), v2.then_some(STDOUT));
    let err = pump(phone, outlet, child.stderr.take(), v2.then_some(STDERR));
    let (ended, stdin, id) = (Arc::new(AtomicBool::new(false)), child.stdin.take(), child.id());
    let flag = Arc::clone(&ended);
    thread::spawn(move || {
        feed(Bytes { incoming, buffer: Vec::new() }, stdin);
        if !flag.load(SeqCst) {
            // As adbd tells a program that its connection is gone.
            let _ = Command::new("kill").args(["-HUP", &id.to_string()]).stderr(Stdio::null()).status();
        }
    });
    let status = child.wait()?;
    ended.store(true, SeqCst);
    if bench {
        phone.set_loads(-1);
    }
    let _ = (out.join(), err.join());
    let code = status.code().unwrap_or(129) as u8;
    if v2 { outlet.write(&packet(EXIT, &[code])) } else { Ok(()) }
}

/// Breaks the connection a little later, for good.
fn lose(phone: &Arc<Inner>, outlet: &Arc<Outlet>) {
    let (phone, link) = (Arc::clone(phone), Arc::clone(&outlet.link));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        phone.gone.store(true, SeqCst);
        link.drop_connection();
    });
}

/// Sends what a program prints, line by line; `kind` is its packet type where there are packets.
fn pump(
    phone: &Arc<Inner>,
    outlet: &Arc<Outlet>,
    from: Option<impl Read + Send + 'static>,
    kind: Option<u8>,
) -> thread::JoinHandle<()> {
    let (phone, outlet) = (Arc::clone(phone), Arc::clone(outlet));
    thread::spawn(move || {
        let mut from = BufReader::new(from.expect("piped"));
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = phone.outward(&line);
            let sent = outlet.write(&kind.map_or_else(|| text.clone(), |kind| packet(kind, &text)));
            if sent.is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Passes the host's input to a program until the stream ends.
fn feed(mut bytes: Bytes, mut stdin: Option<std::process::ChildStdin>) {
    while let Some(head) = bytes.take(5) {
        let Some(data) = bytes.take(word(&head[1..]) as usize) else { return };
        match head[0] {
            STDIN => drop(stdin.as_mut().map(|s| s.write_all(&data))),
            CLOSE_STDIN => stdin = None,
            _ => {}
        }
    }
}

/// What arrives on a stream, in pieces of the size asked for.
struct Bytes {
    incoming: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Bytes {
    /// `None` if the stream ends before.
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.buffer.extend(self.incoming.recv().ok()?);
        }
        let rest = self.buffer.split_off(count);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// A request's name and its number.
    fn request(&mut self) -> Option<(Vec<u8>, u32)> {
        let head = self.take(8)?;
        Some((head[..4].to_vec(), word(&head[4..])))
    }
}

/// The file service: what `adb push` needs of it.
fn sync(phone: &Inner, outlet: &Outlet, mut bytes: Bytes) -> io::Result<()> {
    while let Some((name, length)) = bytes.request() {
        if name == b"QUIT" {
            break;
        }
        let Some(text) = bytes.take(length as usize) else { break };
        let text = phone.inward(&String::from_utf8_lossy(&text));
        match &name[..] {
            b"STAT" => {
                // Zeros say that there is no such file.
                let found = fs::metadata(&text).map(|m| [m.mode(), m.len() as u32, m.mtime() as u32]);
                let words = found.unwrap_or_default();
                outlet.write(&[&b"STAT"[..], &words.map(u32::to_le_bytes).concat()].concat())?;
            }
            b"SEND" => {
                let Some(result) = take_file(phone, outlet, &mut bytes, &text) else { break };
                let (name, message) = match &result {
                    Ok(()) => (b"OKAY", ""),
                    Err(message) => (b"FAIL", message.as_str()),
                };
                let length = (message.len() as u32).to_le_bytes();
                outlet.write(&[&name[..], &length, message.as_bytes()].concat())?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Stores a file: what failed if it does not fit; `None` if the stream ends. The part that arrived stays.
fn take_file(phone: &Inner, outlet: &Outlet, bytes: &mut Bytes, target: &str) -> Option<Result<(), String>> {
    let (path, mode) = target.rsplit_once(',')?;
    let mode = fs::Permissions::from_mode(mode.parse::<u32>().ok()? & 0o777);
    let mut file = fs::File::create(path).ok()?;
    let mut result = Ok(());
    loop {
        let (name, length) = bytes.request()?;
        if name == b"DONE" {
            break;
        }
        let data = bytes.take(length as usize)?;
        if phone.free.fetch_sub(data.len() as i64, SeqCst) < data.len() as i64 {
            result = Err("write failed: No space left on device".to_owned());
            continue;
        }
        file.write_all(&data).ok()?;
        match phone.traits.fault {
            Fault::LosePush => {
                outlet.link.drop_connection();
                return None;
            }
            Fault::SlowPush => thread::sleep(Duration::from_millis(100)),
            _ => {}
        }
    }
    drop(file);
    if result.is_ok() {
        install(phone, Path::new(path), mode).ok()?;
    }
    Some(result)
}

/// Puts an arm64 program aside and a script in its place.
fn install(phone: &Inner, path: &Path, mode: fs::Permissions) -> io::Result<()> {
    let mut head = [0; 20];
    let program =
        fs::File::open(path)?.read_exact(&mut head).is_ok() && head.starts_with(b"\x7fELF") && head[18] == 183;
    if program {
        let aside = phone.root.join(format!("programs/{}", phone.programs.fetch_add(1, SeqCst)));
        fs::rename(path, &aside)?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755))?;
        fs::write(path, format!("#!/bin/sh\nexec qemu-aarch64 -cpu cortex-a76 {} \"$@\"\n", aside.display()))?;
    }
    fs::set_permissions(path, mode)
}
