//! The command as a child process: started, told by signals, and waited for.
//!
//! Why a process group of its own only without a terminal: there, signals come to this
//! process alone, and a shell that runs further programs would not hand them on. With a
//! terminal, a group of its own would be in the background: it could not read what is
//! typed, and the keys and the shell's job control would not reach it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::capture::Capture;
use super::signals::{Signals, comes_from_keys, has_terminal};
use super::stream::stream;

/// How long a command has to end that was asked to, before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// A command that is running.
pub(super) struct Child {
    process: tokio::process::Child,
    /// Whether it leads a process group, which all of its signals go to.
    leads_group: bool,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; 128 + n if signal n killed it.
    pub code: u8,
    /// Whether it was told to end before it did.
    pub was_terminated: bool,
    /// Whether another process still holds its output.
    pub was_outlived: bool,
    pub stdout: Capture,
    pub stderr: Capture,
}

/// Starts `command`, whose first word is the program, with `variables` in its environment.
/// An error says that it certainly did not run.
pub(super) fn start(
    command: &[OsString],
    variables: &[(&str, String)],
    signals: &mut Signals,
) -> io::Result<Child> {
    let leads_group = !has_terminal();
    let mut starting = Command::new(&command[0]);
    starting.args(&command[1..]).envs(variables.iter().map(|(name, value)| (name, value)));
    starting.stdout(Stdio::piped()).stderr(Stdio::piped());
    if leads_group {
        // Before the start: what came in between would stop this process alone.
        signals.listen_for_stops()?;
        starting.process_group(0);
    }
    end_with_this_process(&mut starting);
    Ok(Child { process: starting.spawn()?, leads_group })
}

/// Has the command told to end if this process is killed: nobody would renew its lease, and
/// it would go on beside whoever takes over.
#[cfg(target_os = "linux")]
fn end_with_this_process(starting: &mut Command) {
    use rustix::process::{getppid, set_parent_process_death_signal};

    let this_process = rustix::process::getpid();
    // SAFETY: between fork and exec only what is async-signal-safe may be called. These are
    // two system calls, and an error made of a number: nothing allocates and nothing locks.
    unsafe {
        starting.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // Killed before it was asked to tell.
            if getppid() != Some(this_process) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_this_process(_: &mut Command) {}

impl Child {
    /// Waits until the command has ended and its output has gone through. Signals are handed
    /// on meanwhile, and once `terminate` is over, it is made to end. Of each stream
    /// `max_output` bytes are kept.
    pub(super) async fn ended(
        mut self,
        signals: &mut Signals,
        terminate: impl Future<Output = ()>,
        max_output: usize,
    ) -> io::Result<Ended> {
        let stdout = self.process.stdout.take().expect("stdout is piped");
        let stderr = self.process.stderr.take().expect("stderr is piped");
        let (ended, at) = watch::channel(None);
        let wait = async {
            let status = self.wait(signals, terminate).await;
            ended.send_replace(Some(Instant::now()));
            status
        };
        let (status, stdout, stderr) = tokio::join!(
            wait,
            stream(stdout, tokio::io::stdout(), Capture::new(max_output), at.clone()),
            stream(stderr, tokio::io::stderr(), Capture::new(max_output), at),
        );
        let (status, was_terminated) = status?;
        Ok(Ended {
            code: code_of(status),
            was_terminated,
            was_outlived: stdout.was_abandoned || stderr.was_abandoned,
            stdout: stdout.capture,
            stderr: stderr.capture,
        })
    }

    /// Waits for the process, and says whether it was told to end.
    async fn wait(
        &mut self,
        signals: &mut Signals,
        terminate: impl Future<Output = ()>,
    ) -> io::Result<(ExitStatus, bool)> {
        let mut terminate = pin!(terminate);
        let mut kill_at = None;
        loop {
            let kill = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let was_terminated = kill_at.is_some();
            tokio::select! {
                status = self.process.wait() => return Ok((status?, was_terminated)),
                number = signals.next() => {
                    if self.leads_group || !comes_from_keys(number) {
                        self.signal(number);
                    }
                }
                () = &mut terminate, if !was_terminated => {
                    self.signal(Signal::TERM);
                    // One that is stopped would not notice.
                    self.signal(Signal::CONT);
                    kill_at = Some(Instant::now() + KILL_AFTER);
                }
                () = kill => {
                    self.signal(Signal::KILL);
                    kill_at = Some(Instant::now() + KILL_AFTER);
                }
            }
        }
    }

    /// Sends `number` to the command. There is a pid as long as the process was not waited
    /// for, so this never hits another process that got its number.
    fn signal(&self, number: Signal) {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        // It fails where the command has just ended, which is about to be noticed.
        let _ = match pid {
            Some(pid) if self.leads_group => kill_process_group(pid, number),
            Some(pid) => kill_process(pid, number),
            None => Ok(()),
        };
    }
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
