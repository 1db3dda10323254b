//! Processes for a test: servers, and commands that talk to them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The binary, without any setting that this environment happens to have.
fn onced() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onced"));
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("ONCED_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command
}

fn send_signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What it wrote to stdout, which is one JSON value, after it ended with `code`.
    #[track_caller]
    pub fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it wrote to stdout, after it ended with `code`.
    #[track_caller]
    pub fn text(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        &self.stdout
    }

    /// What it wrote to stderr, after it ended with `code` and wrote nothing to stdout.
    #[track_caller]
    pub fn complaint(&self, code: i32) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        &self.stderr
    }
}

/// Runs the binary to its end, without a server that it would find by itself.
pub fn alone(arguments: &[&str]) -> Ended {
    ended(onced().args(arguments).stdin(Stdio::null()))
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A server process, killed when it is dropped.
pub struct Server {
    process: Child,
    pub address: String,
}

impl Server {
    /// A server with its records in memory.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0", "memory:")
    }

    /// A server whose records outlive it.
    pub fn start_in(data: &Path) -> Self {
        Self::start_on("127.0.0.1:0", &store_in(data))
    }

    /// A server that comes back to `address`.
    pub fn restart_in(data: &Path, address: &str) -> Self {
        Self::start_on(address, &store_in(data))
    }

    /// Returns once the server says that it listens.
    fn start_on(listen: &str, store: &str) -> Self {
        let mut process = onced()
            .args(["serve", "--listen", listen, "--store", store, "--runtimes", "1"])
            .args(["--drain-grace", "0s", "--restart-grace", "0s"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let from = said.len();
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "ended early:\n{said}");
            let line = said[from..].trim_end();
            if line.contains("listening") {
                break line.split_once("address=").unwrap().1.to_owned();
            }
        };
        // Or else a talkative server would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The binary, with this server for its own.
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = onced();
        command.args(arguments).env("ONCED_SERVER", self.url());
        command
    }

    /// Runs a command against this server to its end.
    pub fn onced(&self, arguments: &[&str]) -> Ended {
        ended(self.client(arguments).stdin(Stdio::null()))
    }

    /// Runs a command that finds its owner token in the environment.
    pub fn onced_as(&self, owner_token: &str, arguments: &[&str]) -> Ended {
        let mut command = self.client(arguments);
        ended(command.env("ONCED_OWNER_TOKEN", owner_token).stdin(Stdio::null()))
    }

    /// Runs a command that reads `input`.
    pub fn onced_with_input(&self, input: &str, arguments: &[&str]) -> Ended {
        let mut running = self.begin(arguments);
        running.say(input);
        running.end()
    }

    /// Starts a command whose input and output are in the hands of the test.
    pub fn begin(&self, arguments: &[&str]) -> Running {
        let mut process = self
            .client(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = process.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Running {
            stdin: process.stdin.take(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            stderr,
            said: String::new(),
            process,
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks the server to stop, and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        send_signal(&self.process, Signal::TERM);
        self.process.wait().unwrap().code()
    }
}

fn store_in(data: &Path) -> String {
    format!("rocksdb:{}", data.display())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs.
pub struct Running {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<String>,
    said: String,
}

impl Running {
    /// Waits until the command has written `line` to stdout.
    pub fn wait_for(&mut self, line: &str) {
        let mut read = String::new();
        while read.trim_end() != line {
            read.clear();
            assert_ne!(self.stdout.read_line(&mut read).unwrap(), 0, "never said {line:?}");
            self.said.push_str(&read);
        }
    }

    /// Writes to the stdin of the command.
    pub fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(&self.process, signal);
    }

    /// Closes the stdin of the command, and waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        self.stdout.read_to_string(&mut self.said).unwrap();
        let stderr = self.stderr.join().unwrap();
        Ended { code: self.process.wait().unwrap().code(), stdout: self.said, stderr }
    }
}
