//! The real binary as a process of its own: started, watched by its log, signalled, reaped.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// When a test gives up and fails; every limit of a server is shorter.
const PATIENCE: Duration = Duration::from_secs(90);

/// The binary, untouched by the settings of whoever runs the tests.
pub fn onced() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_onced")))
}

/// `command`, untouched by the settings of whoever runs the tests. Many servers run at the same
/// time, so none has the default port for metrics.
pub fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONCED_") {
            command.env_remove(name);
        }
    }
    command.env("ONCED_METRICS_LISTEN", "off");
    command
}

/// A server that is killed when it is dropped.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts a server on `store` and waits until it listens.
    pub fn serve(store: &Path, more: &[&str]) -> Self {
        Self::start(onced(), store, more)
    }

    /// Like [`Process::serve`], with a command that comes to running the binary.
    pub fn start(command: Command, store: &Path, more: &[&str]) -> Self {
        let mut process = Self::spawn(command, store, more);
        process.listens();
        process
    }

    /// Waits until it listens; its address is known then.
    pub fn listens(&mut self) {
        let line = self.wait_for_line("address=");
        let (_, address) = line.split_once("address=").unwrap();
        self.address = address.split(' ').next().unwrap().parse().unwrap();
    }

    /// Where its metrics are, for a server that has `--metrics-listen 127.0.0.1:0`.
    pub fn metrics(&self) -> SocketAddr {
        let line = self.wait_for_line("metrics=http://");
        let (_, address) = line.split_once("metrics=http://").unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    /// Starts a server that keeps nothing.
    pub fn in_memory(more: &[&str]) -> Self {
        let mut process = Self::spawn_on(onced(), "memory:", more);
        process.listens();
        process
    }

    /// Starts a server on `store` and does not wait for anything: its address is not known.
    pub fn spawn(command: Command, store: &Path, more: &[&str]) -> Self {
        Self::spawn_on(command, &format!("rocksdb:{}", store.display()), more)
    }

    fn spawn_on(mut command: Command, url: &str, more: &[&str]) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", url]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.written.lock().unwrap().lines.push(line);
                written.changed.notify_all();
            }
            written.written.lock().unwrap().ended = true;
            written.changed.notify_all();
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { address, child, log }
    }

    /// Waits until it listens; `None` where it ends before that.
    pub fn listens_or_ends(mut self) -> Option<Self> {
        let listens = |it: &Written| it.lines.iter().any(|line| line.contains("address="));
        let ended = self.wait_until(|it| it.ended || listens(it)).ended;
        if ended {
            return None;
        }
        self.listens();
        Some(self)
    }

    /// Waits for a line of the log with `text` in it.
    pub fn wait_for_line(&self, text: &str) -> String {
        let line = |written: &Written| written.lines.iter().find(|it| it.contains(text)).cloned();
        let written = self.wait_until(|written| written.ended || line(written).is_some());
        let log = || panic!("{text:?} is not in the log: {}", written.lines.join("\n"));
        line(&written).unwrap_or_else(log)
    }

    /// The lines of the log so far that have `text` in them.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let written = self.log.written.lock().unwrap();
        written.lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// The most memory that it ever held, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it holds, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The CPU that it used so far, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name of the program, in brackets, may have spaces.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = |field: &str| field.parse::<u64>().unwrap();
        Duration::from_millis(10 * fields.split(' ').skip(11).take(2).map(ticks).sum::<u64>())
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns how it ended and what it logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let log = {
            let written = self.wait_until(|written| written.ended);
            assert!(written.ended, "the server does not end: {}", written.lines.join("\n"));
            written.lines.join("\n")
        };
        (self.child.wait().unwrap(), log)
    }

    /// Waits until the log is as wanted, or until something is wrong.
    fn wait_until(&self, wanted: impl Fn(&Written) -> bool) -> MutexGuard<'_, Written> {
        let written = self.log.written.lock().unwrap();
        self.log
            .changed
            .wait_timeout_while(written, PATIENCE, |written| !wanted(written))
            .unwrap()
            .0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
