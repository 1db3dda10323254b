//! Keeping a lease while the command runs: a Renew every third of it, and loud words when
//! that fails. What the lease is worth is judged on this machine's monotonic clock, from the
//! moment at which the request was sent, so that it never looks longer than it is.

use std::convert::Infallible;
use std::future;
use std::time::{Duration, Instant};

use prost_types::Timestamp;

use super::say;
use crate::cli::Exit;
use crate::cli::args::KeyArgs;
use crate::cli::failure::describe;
use crate::cli::remote::{Client, Remote, wire};
use crate::pb::v1::RenewRequest;

/// A lease as the server granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// How long it is, which may be less or more than what was asked for.
    length: Duration,
    /// Until when it surely runs.
    until: Instant,
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
        Self { length, until: asked_at + length }
    }

    /// The request that renews it.
    pub(super) fn renewal(self, key: &KeyArgs, owner_token: &str, lease: Duration) -> RenewRequest {
        RenewRequest {
            namespace: key.namespace.clone(),
            key: key.key.clone(),
            owner_token: owner_token.to_owned(),
            lease: Some(wire(lease)),
            checkpoint: None,
        }
    }

    /// Renews the lease for ever. Once the key refuses, nothing is left to renew, and the
    /// command is let finish: half of its work would be worse than all of it.
    pub(super) async fn keep(mut self, remote: &Remote, renewal: RenewRequest) -> Infallible {
        let remote = remote.silent();
        let asked = self.length;
        let mut complained = false;
        loop {
            let interval = self.length / 3;
            tokio::time::sleep(interval).await;
            let asked_at = Instant::now();
            let renewed = remote
                .call_within(interval, renewal.clone(), async |mut client: Client, request| {
                    client.renew(request).await
                })
                .await;
            match renewed {
                Ok(answer) => {
                    self = Self::of(
                        answer.lease_expire_time.as_ref(),
                        answer.decide_time.as_ref(),
                        asked,
                        asked_at,
                    );
                    if complained {
                        say("the lease is renewed again");
                    }
                    complained = false;
                }
                Err(status) if Exit::of(&status) == Exit::Refused => {
                    say(&format!(
                        "WARNING: the lease is lost, and another caller may run the command as \
                         well; letting this one finish: {}",
                        describe(&status)
                    ));
                    return future::pending().await;
                }
                Err(status) => {
                    let why = describe(&status);
                    if Instant::now() >= self.until {
                        say(&format!(
                            "WARNING: the lease has lapsed, and another caller may take over; \
                             still trying to renew it: {why}"
                        ));
                    } else if !complained {
                        say(&format!("cannot renew the lease; still trying: {why}"));
                    }
                    complained = true;
                }
            }
        }
    }
}
