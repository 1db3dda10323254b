//! The signals that reach this process, from the moment on at which they are listened for.
//!
//! They no longer end it then: before the command runs they end the wait, while it runs
//! they are the command's, and afterwards its result is still to be stored.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{Signal, getpgrp};
use tokio::signal::unix::{self, SignalKind, signal};

/// What ends a process that does not listen for it.
const ENDING: [Signal; 6] =
    [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2];
/// What stops a process and lets it go on.
const STOPPING: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// Signals that are listened for.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Listens for what would end this process. Signals that whoever started it has it
    /// ignore, as nohup does, stay ignored, and the command inherits that.
    pub(super) fn listen() -> io::Result<Self> {
        let mut signals = Self(Vec::new());
        signals.add(&ENDING)?;
        Ok(signals)
    }

    /// Listens for job control as well. Where there is a terminal, its shell stops this
    /// process and the command together, and nobody has to listen.
    pub(super) fn listen_for_stops(&mut self) -> io::Result<()> {
        self.add(&STOPPING)
    }

    fn add(&mut self, added: &[Signal]) -> io::Result<()> {
        let ignored = ignored_signals();
        for &number in added {
            if ignored & (1 << (number.as_raw() - 1)) == 0 {
                self.0.push((number, signal(SignalKind::from_raw(number.as_raw()))?));
            }
        }
        Ok(())
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut came = self.0.iter_mut();
            came.find_map(|(number, stream)| {
                stream.poll_recv(context).is_ready().then_some(*number)
            })
            .map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next signal that would end a process that does not listen for it.
    pub(super) async fn next_ending(&mut self) -> Signal {
        loop {
            let number = self.next().await;
            if ENDING.contains(&number) {
                return number;
            }
        }
    }
}

/// The signals that this process ignores, signal n as bit n - 1; none where the system does
/// not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether this process has a terminal, whose shell does job control.
pub(super) fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the keys of the terminal send `signal` to the command as well, which is in the
/// same process group: twice would be once too often.
pub(super) fn comes_from_keys(signal: Signal) -> bool {
    [Signal::INT, Signal::QUIT].contains(&signal)
        && File::open("/dev/tty").is_ok_and(|terminal| {
            rustix::termios::tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
        })
}
