//! Asking for the right to run the command, waiting while another caller has it, and giving
//! it back.
//!
//! A server parks a call that says how long it may wait, and answers it when the other
//! caller has ended. One that does not, or has too many of them, answers at once; then this
//! asks again after the delay that the answer names.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::lease::Lease;
use super::notice::{Notices, by};
use crate::cli::exit::is_transport_failure;
use crate::cli::failure;
use crate::cli::remote::{Client, Remote, whole_millis, wire};
use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{Granted, InProgress, ReleaseRequest, ReserveRequest, ReserveResponse};

/// The longest that one call waits inside the server: a connection that broke silently is
/// noticed by then.
const TURN: Duration = Duration::from_secs(30);
/// How much longer than it waits a call may take.
const MARGIN: Duration = Duration::from_secs(5);
/// The pause after a call that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the end of this process is put off to give a reservation back.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(1);

/// The answer to a Reserve.
pub(super) struct Reserved {
    pub answer: ReserveResponse,
    /// When the call was sent that it answers.
    asked_at: Instant,
    /// Whether that call may have been parked.
    may_have_waited: bool,
}

impl Reserved {
    /// The lease of `granted`, which is what was answered.
    pub(super) fn lease(&self, granted: &Granted, asked: Duration) -> Lease {
        let (expire, decide) = (&granted.lease_expire_time, &self.answer.decide_time);
        let of = |since| Lease::of(expire.as_ref(), decide.as_ref(), asked, since);
        if self.may_have_waited {
            // The grant is younger than the call, and how much is not known: it may count
            // from now on, and is renewed at once, after which it surely does.
            of(Instant::now()).due_at_once()
        } else {
            of(self.asked_at)
        }
    }
}

/// Reserves; where another caller is at it, tries again for as long as `wait` says. Every try
/// is the same Reserve by the same owner token, so none meets the grant of an earlier one as
/// somebody else's. The first never waits, so that people learn what is waited for.
pub(super) async fn reserve(
    remote: &Remote,
    request: &ReserveRequest,
    wait: Duration,
    notices: Notices,
) -> Result<Reserved, Status> {
    let until = Instant::now() + wait;
    let mut remote = remote.clone();
    let mut parks = true;
    let mut told = false;
    loop {
        let asked_at = Instant::now();
        let left = until.saturating_duration_since(asked_at);
        let turn = if told && parks { whole_millis(left.min(TURN)) } else { Duration::ZERO };
        let request = ReserveRequest {
            wait_timeout: (!turn.is_zero()).then(|| wire(turn)),
            ..request.clone()
        };
        let limit = remote.timeout().max(if turn.is_zero() { turn } else { turn + MARGIN });
        let answered = remote
            .call_within(limit, request, async |mut client: Client, request| {
                client.reserve(request).await
            })
            .await;
        let left = until.saturating_duration_since(Instant::now());
        let pause = match answered {
            Err(status) if !turn.is_zero() && refuses_to_wait(&status) => {
                parks = false;
                continue;
            }
            Err(status) if !left.is_zero() && may_come_back(&status) => {
                // It was told once that the server is away.
                remote = remote.silent();
                PAUSE
            }
            Err(status) => return Err(status),
            Ok(ReserveResponse { outcome: Some(Outcome::InProgress(running)), .. })
                if !left.is_zero() =>
            {
                if !told {
                    tell_of_wait(&running, left, notices);
                    told = true;
                    continue;
                }
                // None, where the server took its time.
                let delay = running.retry_delay.and_then(|delay| delay.try_into().ok());
                delay.unwrap_or(PAUSE).saturating_sub(asked_at.elapsed())
            }
            Ok(answer) => {
                return Ok(Reserved { answer, asked_at, may_have_waited: !turn.is_zero() });
            }
        };
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// Gives back what `request` may have been granted meanwhile: the command was not started.
pub(super) async fn withdraw(remote: &Remote, request: &ReserveRequest) {
    // It is refused where nothing was granted, and where it fails the lease lapses.
    let _ = release(&remote.silent(), request, WITHDRAW_LIMIT).await;
}

/// Gives back what `request` was granted: the command certainly did nothing.
pub(super) async fn release(
    remote: &Remote,
    request: &ReserveRequest,
    limit: Duration,
) -> Result<(), Status> {
    let release = ReleaseRequest {
        namespace: request.namespace.clone(),
        key: request.key.clone(),
        owner_token: request.owner_token.clone(),
    };
    remote
        .call_within(limit, release, async |mut client: Client, request| {
            client.release(request).await
        })
        .await?;
    Ok(())
}

fn tell_of_wait(running: &InProgress, left: Duration, notices: Notices) {
    let attempt = running.attempt;
    let holder = by(&running.holder);
    let left = humantime::format_duration(Duration::from_secs(left.as_secs_f64().ceil() as u64));
    notices.tell(&format!("attempt {attempt} is in progress{holder}; waiting up to {left} for it"));
}

/// Whether a server does not know how to wait.
fn refuses_to_wait(status: &Status) -> bool {
    failure::reason(status).is_some_and(|reason| reason == "INVALID_FIELD")
        && status.get_details_bad_request().is_some_and(|request| {
            request.field_violations.iter().any(|violation| violation.field == "wait_timeout")
        })
}

/// Whether the server may answer later what it did not answer here.
fn may_come_back(status: &Status) -> bool {
    is_transport_failure(status)
        || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}
