//! What can be typed after `onced run`, and what of it becomes a Reserve.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::identity::{digest, this_process};
use crate::cli::Exit;
use crate::cli::args::{self, FingerprintArgs, KeyArgs};
use crate::cli::failure::Failure;
use crate::cli::remote::{RemoteArgs, wire};
use crate::pb::v1::{self, ReserveRequest};

/// Run a command at most once, and replay its output and exit code afterwards
///
/// The first caller runs the command; its lease is renewed as long as the command runs, and
/// its output streams through. Later callers get what it wrote to stdout and stderr, byte
/// for byte, and its exit code, without running it. Callers in between are told that it is
/// in progress, or wait for its end with --wait.
///
/// The key is bound to the command and its arguments, so that hosts with the same line in
/// their crontabs agree: another command under the same key is refused.
///
/// What the command's end means:
///   exit code 0           it succeeded, which is final
///   any other, a signal   it failed, which is final as well, but for --retry-failed
///   one of --release-on   it certainly did nothing: the next caller runs it
///   it cannot be started  likewise
///
/// Signals (TERM, HUP, INT, QUIT, USR1, USR2) are handed on to the command. With a terminal,
/// its keys reach the command by themselves. Without one, as under cron or systemd, the
/// command has a process group of its own, all of which gets them, TSTP and CONT as well.
/// Before the command is started a signal ends the wait, and once it has ended two signals
/// give up its result. If onced run is killed with SIGKILL, the command gets SIGTERM (on
/// Linux; a set-user-ID program does not).
///
/// While the server is away the command goes on, and so do the tries to renew its lease.
///
/// The stdin of onced run is that of the command, which finds in its environment: ONCED_KEY,
/// ONCED_NAMESPACE, ONCED_ATTEMPT (from 1), ONCED_FENCING_TOKEN, and ONCED_TAKEOVER (true
/// where the lease of an earlier attempt lapsed and its work may be half done, or false).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[command(after_help = "\
Example:
  onced run nightly-2026-08-01 --wait 1h -- pg_dump --file /backup/nightly.sql shop
  onced run charge-4711 --hold --retention 90d -- ./charge 4711

In the crontab of any number of hosts (cron wants \\% for %):
  0 3 * * *  onced run report-$(date -u +\\%F) -q -E 0 --replay exit-code -- /opt/report

For a systemd timer (systemd wants %% for % and $$ for $):
  [Service]
  Type=oneshot
  KillMode=mixed
  ExecStart=/bin/sh -c 'exec onced run report-$$(date -u +%%F) --retry-failed -- /opt/report'

Exit codes are those of the command, run or replayed: 128 + n if signal n killed it, 127 if
it was not found, 126 if it could not be started. Where it was neither run nor replayed:
  1  another caller is at it (or --conflict-exit-code)
  1  the key is in doubt or bound to another command (or --error-exit-code)
  2  wrong usage (or --error-exit-code, where it is the server that finds it)
  3  the server is unavailable (or --error-exit-code), also if the command succeeded and
     its result could not be stored")]
pub(in crate::cli) struct Run {
    #[command(flatten)]
    pub(super) key: KeyArgs,
    #[command(flatten)]
    fingerprint: FingerprintArgs,
    /// Bind the key to nothing, instead of to the command and its arguments
    #[arg(long, conflicts_with = "fingerprint_source")]
    no_fingerprint: bool,
    /// How long the server waits for a sign of life; renewed every third of it
    #[arg(long, value_name = "DURATION", value_parser = args::duration, default_value = "30s")]
    pub(super) lease: Duration,
    /// Let nobody take over if this process vanishes: the key is in doubt then
    #[arg(long)]
    pub(super) hold: bool,
    /// What becomes of the command once another caller may run it as well
    #[arg(long, value_name = "ACTION", default_value = "continue")]
    pub(super) on_lease_lost: OnLeaseLost,
    /// How long to wait where another caller runs the command or the server is away, at most
    /// 24h; the last answer may take --timeout longer
    #[arg(long, value_name = "DURATION", value_parser = args::wait, default_value = "0s")]
    pub(super) wait: Duration,
    /// Run again where the stored result is a failure
    #[arg(long)]
    retry_failed: bool,
    /// Exit codes by which the command says that it certainly did nothing, such as 75
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) release_on: Vec<u8>,
    /// How long the result is kept; the server's default otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub(super) retention: Option<Duration>,
    /// How much of stdout and stderr together is kept, at most 8MiB: of more, the beginning
    /// and the end of each. Above its own bound (1MiB by default) the server keeps nothing
    /// of it but the exit code
    #[arg(long, value_name = "SIZE", value_parser = args::output_size, default_value = "1000KiB")]
    pub(super) max_output: usize,
    /// How long the result is offered to a server that is away
    #[arg(long, value_name = "DURATION", value_parser = args::timeout, default_value = "5m")]
    pub(super) complete_timeout: Duration,
    /// What others are shown as the one who is at it [default: HOSTNAME:PID]
    #[arg(long, value_name = "TEXT")]
    holder: Option<String>,
    /// What is replayed to those who come later
    #[arg(long, value_name = "WHAT", default_value = "all")]
    pub(super) replay: Replayed,
    /// Do not say that something is replayed, in progress or waited for
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// The exit code where another caller is at it, also after --wait
    #[arg(long, short = 'E', value_name = "CODE")]
    conflict_exit_code: Option<u8>,
    /// The exit code of everything else that kept the command from being run or replayed
    #[arg(long, value_name = "CODE")]
    error_exit_code: Option<u8>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// What becomes of a command whose lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnLeaseLost {
    /// Let it finish: half of its work would be worse than doing it twice
    Continue,
    /// Send it SIGTERM, and SIGKILL after 10s: twice would be worse than half of its work
    Terminate,
}

/// What a later caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Replayed {
    /// The output and the exit code
    All,
    /// The exit code alone
    ExitCode,
}

impl Run {
    /// The Reserve that these arguments make, with an owner token of its own.
    pub(super) fn reservation(&self) -> Result<ReserveRequest, Failure> {
        let fingerprint = match self.fingerprint.read()? {
            Some(fingerprint) => fingerprint,
            None if self.no_fingerprint => Vec::new(),
            None => digest(&self.command),
        };
        let action =
            if self.hold { v1::LeaseExpiryAction::Hold } else { v1::LeaseExpiryAction::Takeover };
        Ok(ReserveRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            fingerprint,
            owner_token: Uuid::new_v4().to_string(),
            lease: Some(wire(self.lease)),
            lease_expiry_action: action.into(),
            wait_timeout: None,
            retry_failed: self.retry_failed,
            holder: self.holder.clone().unwrap_or_else(this_process),
        })
    }

    /// How this ends where another caller is at it.
    pub(super) fn conflict(&self) -> Exit {
        self.conflict_exit_code.map_or(Exit::Refused, Exit::Command)
    }

    /// How this ends where something else went wrong that would end it with `exit`.
    pub(super) fn error(&self, exit: Exit) -> Exit {
        self.error_exit_code.map_or(exit, Exit::Command)
    }
}
