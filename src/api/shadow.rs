//! Shadowed namespaces: everything is decided and stored as always, and every caller is told
//! what lets it go on, as if onced were not there. So a service can be wired up and watched
//! before anything depends on it.
//!
//! What a caller would have been told is counted and logged, never with the key. Here is what
//! it is told instead:
//!
//! - Reserve, unless it was granted: a grant that no record backs. Its owner token is the
//!   caller's own (or the one that the server minted), its fencing token and its attempt are 0,
//!   and `shadow` is true.
//! - Complete, Renew and Release, where they were refused: OK, made from the request alone.
//!   A completion has the fencing token and the attempt 0.
//!
//! The record is touched by its owner only, here as everywhere: an owner token that no record
//! carries is refused by the engine, and it is that refusal which is turned into an OK.
//! What an operator forces is not shadowed: it is decided as it is, and told as it is.
//! Malformed requests, and statuses that mean that the server cannot serve, are not turned.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, info};

use super::encode;
use super::policy::Policies;
use crate::domain::{Command, Complete, Decision, Moment, Namespace, Refusal, Reserve};
use crate::pb::v1;

/// What a caller would have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WouldBe {
    /// Reserve: granted.
    Granted,
    /// Reserve: somebody else is at it.
    InProgress,
    /// Reserve: the stored response.
    Completed,
    /// Reserve: the owner vanished.
    InDoubt,
    /// Reserve: the key is bound to another request.
    FingerprintMismatch,
    /// Reserve: the quota is used up.
    QuotaExceeded,
    /// Any of them: the owner token is not, or no longer, the one on record.
    LeaseLost,
    /// Complete, Renew, Release: nothing is on record.
    NotFound,
    /// Complete: completed differently already.
    ResultConflict,
    /// Renew, Release: completed already.
    AlreadyCompleted,
}

impl WouldBe {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Granted,
        Self::InProgress,
        Self::Completed,
        Self::InDoubt,
        Self::FingerprintMismatch,
        Self::QuotaExceeded,
        Self::LeaseLost,
        Self::NotFound,
        Self::ResultConflict,
        Self::AlreadyCompleted,
    ];

    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::InDoubt => "in_doubt",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::QuotaExceeded => "quota_exceeded",
            Self::LeaseLost => "lease_lost",
            Self::NotFound => "not_found",
            Self::ResultConflict => "result_conflict",
            Self::AlreadyCompleted => "already_completed",
        }
    }

    /// `None` for what ends or keeps a reservation as asked: there is nothing to watch in it.
    fn of(decision: &Decision) -> Option<Self> {
        match decision {
            Decision::Granted(_) => Some(Self::Granted),
            Decision::InProgress(_) => Some(Self::InProgress),
            Decision::Replayed(_) => Some(Self::Completed),
            Decision::InDoubt(_) => Some(Self::InDoubt),
            Decision::Completed(_) | Decision::Renewed { .. } | Decision::Released => None,
            // Nor is an operator shadowed.
            Decision::Forced(_) => None,
            Decision::Refused(refusal) => Some(match refusal {
                Refusal::FingerprintMismatch => Self::FingerprintMismatch,
                Refusal::QuotaExceeded(_) => Self::QuotaExceeded,
                Refusal::LeaseLost => Self::LeaseLost,
                Refusal::NotFound => Self::NotFound,
                Refusal::ResultConflict => Self::ResultConflict,
                Refusal::AlreadyCompleted => Self::AlreadyCompleted,
                Refusal::RecordChanged => return None,
            }),
        }
    }
}

/// How often callers of one namespace would have been told what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowTally([u64; WouldBe::ALL.len()]);

impl ShadowTally {
    /// How often it was this.
    pub fn of(&self, would_be: WouldBe) -> u64 {
        self.0[would_be as usize]
    }

    fn since(&self, earlier: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }
}

/// The counters behind a [`ShadowTally`].
#[derive(Debug, Default)]
pub struct ShadowCounts([AtomicU64; WouldBe::ALL.len()]);

impl ShadowCounts {
    fn count(&self, would_be: WouldBe) {
        self.0[would_be as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the start of the server.
    pub fn tally(&self) -> ShadowTally {
        ShadowTally(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }

    /// Counts what the caller of `command` would have been told, and says what it is told
    /// instead; `None` where the decision itself lets it go on.
    pub fn instead(
        &self,
        namespace: &Namespace,
        command: Command,
        decision: &Decision,
        now: Moment,
    ) -> Option<Instead> {
        let would_be = WouldBe::of(decision)?;
        self.count(would_be);
        if would_be == WouldBe::Granted {
            return None;
        }
        debug!(namespace = namespace.as_str(), would_be = would_be.name(), "shadowed");
        Some(match command {
            Command::Reserve(reserve) => Instead::Granted(granted(&reserve, now)),
            Command::Complete(complete) => Instead::Completed(completion(complete, now)),
            Command::Renew(renew) => Instead::Renewed { lease_until: now.plus(renew.lease) },
            Command::Release(_) => Instead::Released,
            Command::ForceRelease(_) | Command::ForceComplete(_) | Command::Delete(_) => {
                return None;
            }
        })
    }
}

/// What the caller of a shadowed namespace is told in the place of a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    /// Reserve: a grant that no record backs.
    Granted(v1::Granted),
    /// Complete: what would be on record, had the caller owned the reservation.
    Completed(v1::Completion),
    /// Renew: as asked.
    Renewed {
        /// When the lease would end.
        lease_until: Moment,
    },
    /// Release: as asked.
    Released,
}

fn granted(reserve: &Reserve, now: Moment) -> v1::Granted {
    v1::Granted {
        owner_token: encode::owner_token(reserve.owner_token),
        fencing_token: 0,
        lease_expire_time: Some(encode::timestamp(now.plus(reserve.lease))),
        attempt: 0,
        takeover: false,
        checkpoint: Vec::new(),
        shadow: true,
    }
}

fn completion(complete: Complete, now: Moment) -> v1::Completion {
    v1::Completion {
        result: encode::result(complete.result).into(),
        complete_time: Some(encode::timestamp(now)),
        expire_time: Some(encode::timestamp(now.plus(complete.retention))),
        attempt: 0,
        fencing_token: 0,
        late: false,
        response_omitted: complete.response_omitted,
        response_digest: complete.response_digest.to_vec(),
        response_size_bytes: i64::try_from(complete.response_size_bytes).unwrap_or(i64::MAX),
        response: Some(encode::response(&complete.response)),
    }
}

/// Logs what shadowed callers would have been told, as far as it was not logged before.
#[derive(Debug, Default)]
pub struct ShadowLog(Vec<ShadowTally>);

impl ShadowLog {
    /// One line for each shadowed namespace that was called since the last time.
    pub fn write(&mut self, policies: &Policies) {
        let tallies = policies.shadow_tallies();
        self.0.resize(tallies.len(), ShadowTally::default());
        for ((namespace, tally), logged) in tallies.into_iter().zip(&mut self.0) {
            let more = tally.since(std::mem::replace(logged, tally));
            if more == ShadowTally::default() {
                continue;
            }
            info!(
                namespace = namespace.as_str(),
                granted = more.of(WouldBe::Granted),
                in_progress = more.of(WouldBe::InProgress),
                completed = more.of(WouldBe::Completed),
                in_doubt = more.of(WouldBe::InDoubt),
                fingerprint_mismatch = more.of(WouldBe::FingerprintMismatch),
                quota_exceeded = more.of(WouldBe::QuotaExceeded),
                lease_lost = more.of(WouldBe::LeaseLost),
                not_found = more.of(WouldBe::NotFound),
                result_conflict = more.of(WouldBe::ResultConflict),
                already_completed = more.of(WouldBe::AlreadyCompleted),
                "shadowed: what callers would have been told"
            );
        }
    }
}

#[cfg(test)]
mod tests;
