//! Keeping a lease while the command runs: a Renew every third of it, and loud words when
//! that fails. What the lease is worth is judged on this machine's monotonic clock, from the
//! moment at which the request was sent, so that it never looks longer than it is.
//!
//! While the server is away it is asked again and again: leases that end meanwhile are
//! prolonged when it comes back, so the sooner it hears of this one the better.

use std::convert::Infallible;
use std::future;
use std::time::{Duration, Instant};

use prost_types::Timestamp;
use tonic::Status;

use super::notice::say;
use crate::cli::Exit;
use crate::cli::failure::describe;
use crate::cli::remote::{Client, Remote};
use crate::pb::v1::RenewRequest;

/// The longest pause between two tries to renew a lease when one has failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The shortest time that a try has to be answered.
const SHORTEST_TRY: Duration = Duration::from_millis(10);

/// A lease as the server granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// How long it is, which may be less or more than what was asked for.
    length: Duration,
    /// Until when it surely runs.
    until: Instant,
    /// When it is to be renewed.
    due_at: Instant,
}

/// What went wrong with a lease, from bad to worse. Each is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    NotRenewed,
    Lapsed,
}

impl Lease {
    /// The lease that ends at `expire_time` and was decided at `decide_time`, both on the
    /// server's clock, in answer to a request that was sent at `asked_at`.
    pub(super) fn of(
        expire_time: Option<&Timestamp>,
        decide_time: Option<&Timestamp>,
        asked: Duration,
        asked_at: Instant,
    ) -> Self {
        let length = expire_time.zip(decide_time).and_then(|(expire, decide)| {
            let nanos = |moment: &Timestamp| {
                i128::from(moment.seconds) * 1_000_000_000 + i128::from(moment.nanos)
            };
            let left = u64::try_from(nanos(expire) - nanos(decide)).ok()?;
            Some(Duration::from_nanos(left))
        });
        // A lease of nothing would renew without a pause.
        let length = length.unwrap_or(asked).max(Duration::from_millis(3));
        Self { length, until: asked_at + length, due_at: asked_at + length / 3 }
    }

    /// The same lease, renewed at once.
    pub(super) fn due_at_once(self) -> Self {
        Self { due_at: Instant::now(), ..self }
    }

    /// Renews the lease for ever. Calls `lost` when another caller may be granted the key:
    /// once the server says that this one is not its owner, and, unless it `is_held` then,
    /// once the lease has lapsed.
    pub(super) async fn keep(
        mut self,
        remote: &Remote,
        renewal: RenewRequest,
        is_held: bool,
        lost: impl Fn(),
    ) -> Infallible {
        let remote = remote.silent();
        let asked = self.length;
        let mut trouble = Trouble::None;
        loop {
            tokio::time::sleep_until(self.due_at.into()).await;
            let asked_at = Instant::now();
            let left = self.until.saturating_duration_since(asked_at);
            // A try ends with the lease, so that its end is noticed then.
            let limit = if left.is_zero() { self.length / 3 } else { left.min(self.length / 3) };
            let renewed = remote
                .call_within(
                    limit.max(SHORTEST_TRY),
                    renewal.clone(),
                    async |mut client: Client, request| client.renew(request).await,
                )
                .await;
            match renewed {
                Ok(answer) => {
                    self = Self::of(
                        answer.lease_expire_time.as_ref(),
                        answer.decide_time.as_ref(),
                        asked,
                        asked_at,
                    );
                    if trouble > Trouble::None {
                        say("the lease is renewed again");
                    }
                    trouble = Trouble::None;
                }
                Err(status) if Exit::of(&status) == Exit::Refused => {
                    say(&format!(
                        "WARNING: the lease is lost, and another caller may run the command as \
                         well: {}",
                        describe(&status)
                    ));
                    lost();
                    // Nothing is left to renew.
                    return future::pending().await;
                }
                Err(status) => {
                    trouble = self.complain(trouble, &status, is_held, &lost);
                    self.due_at = Instant::now() + (self.length / 3).min(LONGEST_PAUSE);
                    if trouble < Trouble::Lapsed {
                        self.due_at = self.due_at.min(self.until);
                    }
                }
            }
        }
    }

    /// Says what is wrong after a try that failed, if that is worse than `before`.
    fn complain(self, before: Trouble, status: &Status, is_held: bool, lost: impl Fn()) -> Trouble {
        let why = describe(status);
        let is_over = Instant::now() >= self.until;
        let trouble = before.max(if is_over { Trouble::Lapsed } else { Trouble::NotRenewed });
        if trouble == before {
            return trouble;
        }
        match trouble {
            Trouble::None => {}
            Trouble::NotRenewed => say(&format!("cannot renew the lease; still trying: {why}")),
            Trouble::Lapsed if is_held => say(&format!(
                "WARNING: the lease has lapsed, and the key may be in doubt; still trying to \
                 renew it: {why}"
            )),
            Trouble::Lapsed => {
                say(&format!(
                    "WARNING: the lease has lapsed, and another caller may take over; still \
                     trying to renew it: {why}"
                ));
                lost();
            }
        }
        trouble
    }
}
