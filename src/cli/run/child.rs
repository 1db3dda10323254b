//! The command as a child process: started, its output streamed through and kept, signals
//! handed on to it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::output::Captured;
use crate::pb::v1::Granted;

/// How long output is waited for once the command has ended: a daemon that it left behind
/// may keep the pipes open for ever.
const LINGER: Duration = Duration::from_secs(2);

/// A command that is running.
pub(super) struct Child {
    process: tokio::process::Child,
    signals: Signals,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; 128 + n if signal n killed it.
    pub code: u8,
    pub stdout: Captured,
    pub stderr: Captured,
}

/// Starts `command`, whose first word is the program. It is told about its grant by its
/// environment. An error says that it certainly did not run.
pub(super) fn start(command: &[OsString], granted: &Granted) -> io::Result<Child> {
    // Before the start: a signal that came in between would end this process alone.
    let signals = Signals::listen()?;
    let process = Command::new(&command[0])
        .args(&command[1..])
        .env("ONCED_RUN_ATTEMPT", granted.attempt.to_string())
        .env("ONCED_RUN_FENCING_TOKEN", granted.fencing_token.to_string())
        .env("ONCED_RUN_TAKEOVER", granted.takeover.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Child { process, signals })
}

impl Child {
    /// Waits until the command has ended and all its output has gone through.
    pub(super) async fn ended(mut self) -> io::Result<Ended> {
        let stdout = self.process.stdout.take().expect("stdout is piped");
        let stderr = self.process.stderr.take().expect("stderr is piped");
        let (ended, at) = watch::channel(None);
        let wait = async {
            let status = self.wait().await;
            ended.send_replace(Some(Instant::now()));
            status
        };
        let (status, stdout, stderr) = tokio::join!(
            wait,
            stream(stdout, tokio::io::stdout(), at.clone()),
            stream(stderr, tokio::io::stderr(), at.clone()),
        );
        Ok(Ended { code: code_of(status?), stdout, stderr })
    }

    /// Waits for the process, and hands signals on to it meanwhile.
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            let number = tokio::select! {
                status = self.process.wait() => return status,
                number = self.signals.next() => number,
            };
            // There is a pid as long as the process was not waited for, so this never hits
            // another process that got its number.
            let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            if let Some(pid) = pid {
                let _ = kill_process(pid, number);
            }
        }
    }
}

/// The signals that are handed on. Until the end of this process they no longer end it:
/// the command decides, and its result is still to be stored.
struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    hangup: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
    quit: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Signals that whoever started this process has it ignore, as nohup does, stay
    /// ignored, and the command inherits that.
    fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let listen = |kind: SignalKind| {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            if is_ignored { Ok(None) } else { signal(kind).map(Some) }
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// The next signal that the command would not get otherwise: what a terminal sends
    /// reaches it anyway, and twice would be once too often.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                () = came(&mut self.terminate) => return Signal::TERM,
                () = came(&mut self.hangup) => return Signal::HUP,
                () = came(&mut self.interrupt) => if !in_foreground() { return Signal::INT },
                () = came(&mut self.quit) => if !in_foreground() { return Signal::QUIT },
            }
        }
    }
}

async fn came(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => future::pending().await,
    }
}

/// The signals that this process ignores, signal n as bit n - 1; none where the system does
/// not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether this process, and so the command, is in the group that the terminal's keys send
/// signals to.
fn in_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| {
        rustix::termios::tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
    })
}

/// Passes everything from `pipe` on to `out`, and keeps its beginning. Where nobody reads
/// `out` any more the command is let finish all the same.
async fn stream(
    mut pipe: impl AsyncRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
    ended: watch::Receiver<Option<Instant>>,
) -> Captured {
    let mut captured = Captured::default();
    let mut chunk = vec![0; 16 << 10];
    let mut is_read = true;
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut chunk) => read,
            () = lingered(ended.clone()) => break,
        };
        let chunk = match read {
            Ok(0) | Err(_) => break,
            Ok(read) => &chunk[..read],
        };
        captured.push(chunk);
        if is_read {
            is_read = out.write_all(chunk).await.is_ok() && out.flush().await.is_ok();
        }
    }
    captured
}

/// Returns some time after the command has ended.
async fn lingered(mut ended: watch::Receiver<Option<Instant>>) {
    let at = match ended.wait_for(Option::is_some).await {
        Ok(at) => at.expect("was waited for"),
        Err(_) => return,
    };
    sleep_until(at + LINGER).await;
}

/// The exit code of a process as shells have it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(255)
}
