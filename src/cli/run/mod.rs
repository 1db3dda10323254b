//! `onced run KEY -- COMMAND…`: runs a command at most once, and replays its output and its
//! exit code to whoever comes later.
//!
//! Reserve, run the command while the lease is renewed (`lease.rs`, `child.rs`), Complete
//! with what it printed (`output.rs`; `replay.rs` is for those who come later). A command
//! that cannot be started certainly did not run, so its reservation is released. Whatever
//! happens after it was started, its reservation is never released.
//!
//! At most once holds as long as leases do: where this process is killed or cut off from
//! the server for longer than the lease, the next caller takes over, though the command may
//! still be running. `--hold` closes that gap: the key is in doubt then, for people to
//! decide.

mod child;
mod identity;
mod lease;
mod output;
mod replay;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use tonic::Status;
use uuid::Uuid;

use self::child::Ended;
use self::identity::{digest, this_process};
use self::lease::Lease;
use self::output::Recorded;
use self::replay::replay;
use super::args::{self, FingerprintArgs, KeyArgs};
use super::failure::{self, Failure};
use super::remote::{Client, Remote, RemoteArgs, wire};
use super::{Exit, print, text};
use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{self, CompleteRequest, Completion, Granted, ReleaseRequest, ReserveRequest};

/// The longest that a result is offered to the server, unless `--timeout` is longer.
const COMPLETE_LIMIT: Duration = Duration::from_secs(60);

/// Run a command at most once, and replay its output and exit code afterwards
///
/// The first caller runs the command; its lease is renewed as long as the command runs.
/// Later callers get what it wrote to stdout and stderr, and its exit code, without running
/// it. Callers in between are told that it is in progress, and exit with 1.
///
/// The key is bound to the command and its arguments: another command under the same key is
/// refused. Up to 500 KiB each of stdout and stderr are kept.
///
/// The exit code is that of the command; 128 + n if signal n killed it, 127 if it was not
/// found, 126 if it could not be started. Where the command did not run: 1 if the key
/// refused it, 2 for usage, 3 if the server is unavailable. 3 is also the exit code if the
/// command succeeded and its result could not be stored.
///
/// The command finds ONCED_RUN_ATTEMPT, ONCED_RUN_FENCING_TOKEN and ONCED_RUN_TAKEOVER
/// (true or false) in its environment.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced run nightly-2026-08-01 -- pg_dump --file /backup/nightly.sql shop
  onced run charge-4711 --hold --retention 90d -- ./charge 4711")]
pub(super) struct Run {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    fingerprint: FingerprintArgs,
    /// How long the server waits for a sign of life; renewed every third of it
    #[arg(long, value_name = "DURATION", value_parser = args::duration, default_value = "30s")]
    lease: Duration,
    /// Let nobody take over if this process vanishes: the key is in doubt then
    #[arg(long)]
    hold: bool,
    /// How long the result is kept; the server's default otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    retention: Option<Duration>,
    /// Run again where the stored result is a failure
    #[arg(long)]
    retry_failed: bool,
    /// What others are shown as the one who is at it [default: HOSTNAME:PID]
    #[arg(long, value_name = "TEXT")]
    holder: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Run {
    pub(super) async fn execute(self) -> Exit {
        let remote = self.remote.remote();
        let request = match self.reservation() {
            Ok(request) => request,
            Err(failure) => return failure.report(false),
        };
        let owner_token = request.owner_token.clone();
        let asked_at = Instant::now();
        let reserved = remote
            .call(request, async |mut client: Client, request| client.reserve(request).await)
            .await;
        let answer = match reserved {
            Ok(answer) => answer,
            Err(status) => return Failure::from(status).report(false),
        };
        match answer.outcome {
            Some(Outcome::Granted(granted)) => {
                let lease = Lease::of(
                    granted.lease_expire_time.as_ref(),
                    answer.decide_time.as_ref(),
                    self.lease,
                    asked_at,
                );
                self.run(&remote, owner_token, granted, lease).await
            }
            Some(Outcome::Completed(completion)) => replay(&completion),
            Some(Outcome::InProgress(running)) => {
                let holder = who(&running.holder);
                let until = running.lease_expire_time.unwrap_or_default();
                say(&format!(
                    "attempt {} is in progress{holder}; its lease runs until {until}, and longer \
                     if it is renewed",
                    running.attempt
                ));
                Exit::Refused
            }
            Some(Outcome::InDoubt(doubt)) => {
                let holder = who(&doubt.holder);
                let since = doubt.lease_expire_time.unwrap_or_default();
                say(&format!(
                    "in doubt since {since}: attempt {}{holder} vanished, and the \
                     command may have run",
                    doubt.attempt
                ));
                Exit::Refused
            }
            None => {
                say("the server answered with an outcome that this version does not know");
                Exit::Unavailable
            }
        }
    }

    fn reservation(&self) -> Result<ReserveRequest, Failure> {
        let fingerprint = self.fingerprint.read()?.unwrap_or_else(|| digest(&self.command));
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

    /// Runs the command under the reservation that was granted.
    async fn run(
        &self,
        remote: &Remote,
        owner_token: String,
        granted: Granted,
        lease: Lease,
    ) -> Exit {
        if granted.takeover {
            say(&format!(
                "attempt {}: the lease of an earlier attempt lapsed, and its command \
                 may have run or be running",
                granted.attempt
            ));
        }
        let started = child::start(&self.command, &granted);
        let child = match started {
            Ok(child) => child,
            Err(error) => return self.not_started(remote, owner_token, &error).await,
        };
        let renewal = lease.renewal(&self.key, &owner_token, self.lease);
        let ended = tokio::select! {
            ended = child.ended() => ended,
            never = lease.keep(remote, renewal) => match never {},
        };
        let Ended { code, stdout, stderr } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // It is unknown how the command ended, so its lease has to lapse.
                say(&format!("cannot wait for the command: {error}"));
                return Exit::Unavailable;
            }
        };
        let recorded = Recorded { code, stdout, stderr };
        match self.complete(remote, owner_token, &recorded).await {
            Ok(completion) => {
                if completion.response_omitted {
                    say("the output is larger than the server stores; only the exit code was kept");
                }
                if completion.late {
                    say("completed after the lease had lapsed; nobody had taken over");
                }
                Exit::Command(code)
            }
            Err(status) => {
                say(&format!(
                    "WARNING: the command ended with exit code {code}, and that was not \
                     stored: {}",
                    failure::describe(&status)
                ));
                match Exit::of(&status) {
                    Exit::Unavailable if code == 0 => Exit::Unavailable,
                    _ => Exit::Command(code),
                }
            }
        }
    }

    async fn complete(
        &self,
        remote: &Remote,
        owner_token: String,
        recorded: &Recorded,
    ) -> Result<Completion, Status> {
        let result = if recorded.code == 0 { v1::Result::Succeeded } else { v1::Result::Failed };
        let request = CompleteRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            owner_token,
            result: result.into(),
            response: Some(recorded.to_response()),
            retention: self.retention.map(wire),
        };
        // The work is done: losing the result now would be the one way to do it twice.
        let limit = self.remote.timeout.max(COMPLETE_LIMIT);
        let answer = remote
            .call_within(limit, request, async |mut client: Client, request| {
                client.complete(request).await
            })
            .await?;
        Ok(answer.completion.unwrap_or_default())
    }

    /// Releases the reservation of a command that could not be started.
    async fn not_started(&self, remote: &Remote, owner_token: String, error: &io::Error) -> Exit {
        let program = self.command[0].to_string_lossy();
        say(&format!("cannot start \"{}\": {error}", text::shown(&program)));
        let request = ReleaseRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            owner_token,
        };
        let released = remote
            .call(request, async |mut client: Client, request| client.release(request).await)
            .await;
        if let Err(status) = released {
            let why = failure::describe(&status);
            say(&format!("the reservation stays until its lease lapses: {why}"));
        }
        match error.kind() {
            io::ErrorKind::NotFound => Exit::Command(127),
            _ => Exit::Command(126),
        }
    }
}

fn who(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" by {}", text::shown(holder)) }
}

/// Tells people something. Stdout belongs to the command.
fn say(message: &str) {
    print::complain(&format!("onced run: {message}"));
}
