//! The real binary as a process of its own: started, watched by its log, signalled, reaped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// The binary, untouched by the settings of whoever runs the tests.
pub fn onced() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_onced")))
}

/// `command`, untouched by the settings of whoever runs the tests.
pub fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONCED_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server that is killed when it is dropped.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
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
        let line = process.wait_for_line("address=");
        let (_, address) = line.split_once("address=").unwrap();
        process.address = address.split(' ').next().unwrap().parse().unwrap();
        process
    }

    /// Starts a server on `store` and does not wait for anything: its address is not known.
    pub fn spawn(mut command: Command, store: &Path, more: &[&str]) -> Self {
        let url = format!("rocksdb:{}", store.display());
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", &url]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.written.lock().unwrap().lines.push(line);
                written.changed.notify_all();
            }
            written.written.lock().unwrap().ended = true;
            written.changed.notify_all();
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { address, child, log, reader: Some(reader) }
    }

    /// Waits for a line of the log with `text` in it.
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut written = self.log.written.lock().unwrap();
        loop {
            if let Some(line) = written.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(!written.ended, "the server ended: {}", written.lines.join("\n"));
            written = self.log.changed.wait(written).unwrap();
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns how it ended and what it logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log.written.lock().unwrap().lines.join("\n");
        (status, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
