//! `onced run KEY -- COMMAND…`: runs a command at most once, and replays its output and its
//! exit code to whoever comes later.
//!
//! Reserve (`reserve.rs`), run the command while its lease is renewed (`child.rs`,
//! `lease.rs`), Complete with what it printed (`store.rs`); `replay.rs` is for those who come
//! later. A command that cannot be started certainly did not run, so its reservation is
//! released. Once it was started, only an exit code that was said to mean just that
//! (`--release-on`) releases it.
//!
//! At most once holds as long as leases do: where this process is cut off from the server for
//! longer than the lease, the next caller takes over, though the command may still be
//! running. `--on-lease-lost terminate` ends the command then; `--hold` has nobody take over:
//! the key is in doubt, for people to decide.
//!
//! The owner token never leaves this process but to the server: the command does not get it.

mod identity;
mod notice;
mod options;
mod signals;

mod lease;
mod reserve;

mod capture;
mod child;
mod stream;

mod recording;
mod replay;
mod store;

#[cfg(test)]
mod tests;

use std::future;

use tokio::sync::watch;

pub(super) use self::options::Run;

use self::lease::Lease;
use self::notice::{Notices, by, say};
use self::options::OnLeaseLost;
use self::replay::replay;
use self::reserve::{reserve, withdraw};
use self::signals::Signals;
use super::Exit;
use super::failure::Failure;
use super::remote::{Remote, wire};
use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{Granted, InDoubt, InProgress, RenewRequest, ReserveRequest};

impl Run {
    pub(super) async fn execute(self) -> Exit {
        let request = match self.reservation() {
            Ok(request) => request,
            Err(failure) => return self.error(failure.report(false)),
        };
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => {
                say(&format!("cannot listen for signals: {error}"));
                return self.error(Exit::Unavailable);
            }
        };
        let notices = Notices { is_quiet: self.quiet };
        let remote = match self.remote.remote() {
            Ok(remote) => remote,
            Err(failure) => return self.error(failure.report(false)),
        };
        let reserved = tokio::select! {
            reserved = reserve(&remote, &request, self.wait, notices) => reserved,
            signal = signals.next_ending() => {
                withdraw(&remote, &request).await;
                let number = u8::try_from(signal.as_raw()).unwrap_or(127);
                return Exit::Command(128 + number);
            }
        };
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(status) => return self.error(Failure::from(status).report(false)),
        };
        match &reserved.answer.outcome {
            Some(Outcome::Granted(granted)) => {
                let lease = reserved.lease(granted, self.lease);
                self.run(&remote, &request, granted, lease, signals).await
            }
            Some(Outcome::Completed(completion)) => replay(completion, self.replay, notices),
            Some(Outcome::InProgress(running)) => {
                notices.tell(&in_progress(running));
                self.conflict()
            }
            Some(Outcome::InDoubt(doubt)) => {
                say(&in_doubt(doubt));
                self.error(Exit::Refused)
            }
            None => {
                say("the server answered with an outcome that this version does not know");
                self.error(Exit::Unavailable)
            }
        }
    }

    /// Runs the command under the reservation that was granted.
    async fn run(
        &self,
        remote: &Remote,
        reservation: &ReserveRequest,
        granted: &Granted,
        lease: Lease,
        mut signals: Signals,
    ) -> Exit {
        if granted.takeover {
            say(&format!(
                "attempt {}: the lease of an earlier attempt lapsed, and its command \
                 may have run or be running",
                granted.attempt
            ));
        }
        let variables = variables(reservation, granted);
        let child = match child::start(&self.command, &variables, &mut signals) {
            Ok(child) => child,
            Err(error) => {
                return self.not_started(remote, reservation, &error, &mut signals).await;
            }
        };
        let (lost, mut is_lost) = watch::channel(false);
        let terminate = async {
            match self.on_lease_lost {
                OnLeaseLost::Terminate if is_lost.wait_for(|is_lost| *is_lost).await.is_ok() => {
                    say("terminating the command");
                }
                OnLeaseLost::Terminate | OnLeaseLost::Continue => future::pending().await,
            }
        };
        let renewal = RenewRequest {
            namespace: reservation.namespace.clone(),
            key: reservation.key.clone(),
            owner_token: reservation.owner_token.clone(),
            lease: Some(wire(self.lease)),
            checkpoint: None,
        };
        let keep = lease.keep(remote, renewal, self.hold, || {
            lost.send_replace(true);
        });
        // No Renew is sent once the command has ended, so none meets its completion.
        let ended = tokio::select! {
            ended = child.ended(&mut signals, terminate, self.max_output) => ended,
            never = keep => match never {},
        };
        match ended {
            Ok(ended) => self.store(remote, reservation, ended, &mut signals).await,
            Err(error) => {
                // It is unknown how the command ended, so its lease has to lapse.
                say(&format!("cannot wait for the command: {error}"));
                self.error(Exit::Unavailable)
            }
        }
    }
}

/// What the command finds in its environment.
fn variables(reservation: &ReserveRequest, granted: &Granted) -> [(&'static str, String); 5] {
    [
        ("ONCED_KEY", reservation.key.clone()),
        ("ONCED_NAMESPACE", reservation.namespace.clone()),
        ("ONCED_ATTEMPT", granted.attempt.to_string()),
        ("ONCED_FENCING_TOKEN", granted.fencing_token.to_string()),
        ("ONCED_TAKEOVER", granted.takeover.to_string()),
    ]
}

fn in_progress(running: &InProgress) -> String {
    let attempt = running.attempt;
    let holder = by(&running.holder);
    let until = running.lease_expire_time.unwrap_or_default();
    format!(
        "attempt {attempt} is in progress{holder}; its lease runs until {until}, and longer if \
         it is renewed"
    )
}

fn in_doubt(doubt: &InDoubt) -> String {
    let attempt = doubt.attempt;
    let holder = by(&doubt.holder);
    let since = doubt.lease_expire_time.unwrap_or_default();
    format!(
        "in doubt since {since}: attempt {attempt}{holder} vanished, and the command may have run"
    )
}
