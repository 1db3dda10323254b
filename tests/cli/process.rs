//! Processes for a test: servers, and commands that talk to them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// When a test gives up and fails.
const PATIENCE: Duration = Duration::from_secs(60);

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
        Self::start_in_memory_with(&[])
    }

    /// The same with more arguments.
    pub fn start_in_memory_with(more: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", "memory:", more)
    }

    /// A server whose records outlive it.
    pub fn start_in(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more settings.
    pub fn start_with(data: &Path, more: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", &store_in(data), more)
    }

    /// A server that comes back to `address`.
    pub fn restart_in(data: &Path, address: &str) -> Self {
        Self::start_on(address, &store_in(data), &[])
    }

    /// Returns once the server says that it listens.
    fn start_on(listen: &str, store: &str, more: &[&str]) -> Self {
        let mut process = onced()
            .args(["serve", "--listen", listen, "--store", store, "--runtimes", "1"])
            .args(["--drain-grace", "0s", "--restart-grace", "0s"])
            .args(more)
            // Many servers run at the same time.
            .args(["--metrics-listen", "off"])
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
    pub fn client(&self, arguments: &[&str]) -> Command {
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
        Running::start(&mut self.client(arguments))
    }

    /// Starts a command as `wrapper` does, whose last argument is the program that it runs.
    pub fn begin_through(&self, wrapper: &[&str], arguments: &[&str]) -> Running {
        let client = self.client(arguments);
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(client.get_program()).args(client.get_args());
        for (name, value) in client.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Running::start(&mut command)
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
    complained: Arc<Complained>,
    complaining: JoinHandle<()>,
    said: String,
}

/// What a command has written to stderr so far.
#[derive(Default)]
struct Complained {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Running {
    /// Starts `command` with its input and output in the hands of the test.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let complained = Arc::<Complained>::default();
        let listener = complained.clone();
        let complaining = std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap() > 0 {
                listener.text.lock().unwrap().0.push_str(&line);
                listener.more.notify_all();
                line.clear();
            }
            listener.text.lock().unwrap().1 = true;
            listener.more.notify_all();
        });
        Self {
            stdin: process.stdin.take(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            complained,
            complaining,
            said: String::new(),
            process,
        }
    }

    /// Waits until the command has written `line` to stdout.
    pub fn wait_for(&mut self, line: &str) {
        self.wait_for_line(line, |read| read == line);
    }

    /// Waits until the command has written a line with `text` in it to stdout.
    pub fn wait_for_line_with(&mut self, text: &str) {
        self.wait_for_line(text, |read| read.contains(text));
    }

    fn wait_for_line(&mut self, wanted: &str, is_it: impl Fn(&str) -> bool) {
        let mut read = String::new();
        while !is_it(read.trim_end()) {
            read.clear();
            assert_ne!(self.stdout.read_line(&mut read).unwrap(), 0, "never said {wanted:?}");
            self.said.push_str(&read);
        }
    }

    /// Waits until the command has written `text` to stdout, and nothing behind it.
    pub fn wait_for_bytes(&mut self, text: &str) {
        let mut read = vec![0; text.len()];
        self.stdout.read_exact(&mut read).unwrap();
        assert_eq!(str::from_utf8(&read), Ok(text));
        self.said.push_str(text);
    }

    /// What the command has written to stdout, as far as it was waited for.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Waits until the command has written `text` to stderr.
    pub fn wait_for_complaint(&self, text: &str) {
        let written = self.complained.text.lock().unwrap();
        let goes_on =
            |(written, is_over): &mut (String, bool)| !written.contains(text) && !*is_over;
        let (written, _) =
            self.complained.more.wait_timeout_while(written, PATIENCE, goes_on).unwrap();
        assert!(written.0.contains(text), "never complained of {text:?}: {}", written.0);
    }

    /// Writes to the stdin of the command.
    pub fn say(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(&self.process, signal);
    }

    /// Sends `signal` again and again, with pauses, until the command has ended.
    pub fn signal_until_it_ends(&mut self, signal: Signal) {
        while self.process.try_wait().unwrap().is_none() {
            self.signal(signal);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Closes the stdin of the command, and waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        self.end_by_itself()
    }

    /// Waits for the end of the command, which can read on until then.
    pub fn end_by_itself(mut self) -> Ended {
        self.stdout.read_to_string(&mut self.said).unwrap();
        self.complaining.join().unwrap();
        let stderr = self.complained.text.lock().unwrap().0.clone();
        Ended { code: self.process.wait().unwrap().code(), stdout: self.said, stderr }
    }
}
