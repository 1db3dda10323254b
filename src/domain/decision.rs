//! What [`decide`](super::decide()) answers: the decision for the caller, the write for the
//! engine.

use std::sync::Arc;

use super::{Completion, FencingToken, Moment, OwnerToken, Phase, Record};

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The answer, which the engine holds back until what it rests on is durable.
    pub decision: Decision,
    /// What the engine has to store first.
    pub write: Write,
}

/// What becomes of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// It stays as it is.
    Keep,
    /// It is replaced, or created.
    Put(Record),
    /// It goes.
    Delete,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Reserve: the caller owns the reservation.
    Granted(Granted),
    /// Reserve: somebody else is at it.
    InProgress(InProgress),
    /// Reserve: the operation is done, and this is its end.
    Replayed(Arc<Completion>),
    /// Reserve: the owner vanished, and the operation must not be repeated blindly.
    InDoubt(InDoubt),
    /// Complete: this is on record.
    Completed(Arc<Completion>),
    /// Renew: the lease ends at this moment.
    Renewed {
        /// The first moment at which the lease no longer runs.
        lease_until: Moment,
    },
    /// Release: the reservation is given back.
    Released,
    /// ForceRelease, ForceComplete, Delete: what the operator came upon, and what it came to.
    Forced(Forced),
    /// The record stands against it, and stays as it is.
    Refused(Refusal),
}

impl Decision {
    /// How much stored data it carries, in bytes.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Self::Granted(granted) => granted.checkpoint.len(),
            Self::InDoubt(in_doubt) => in_doubt.checkpoint.len(),
            Self::Replayed(completion)
            | Self::Completed(completion)
            | Self::Forced(Forced { outcome: ForcedOutcome::Completed(completion), .. }) => {
                completion.response.bytes()
            }
            Self::InProgress(_)
            | Self::Renewed { .. }
            | Self::Released
            | Self::Forced(_)
            | Self::Refused(_) => 0,
        }
    }
}

/// The right to run the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The proof of ownership.
    pub owner_token: OwnerToken,
    /// The number for downstream systems.
    pub fencing_token: FencingToken,
    /// When the lease ends.
    pub lease_until: Moment,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether an earlier owner let its lease lapse.
    pub takeover: bool,
    /// What the last attempt left.
    pub checkpoint: Vec<u8>,
}

/// Somebody else's running reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InProgress {
    /// When its lease ends.
    pub lease_until: Moment,
    /// Which attempt is running.
    pub attempt: u32,
    /// What its holder called itself.
    pub holder: String,
}

/// A reservation whose owner vanished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// When its lease ended.
    pub lease_until: Moment,
    /// Which attempt is in doubt.
    pub attempt: u32,
    /// What its holder called itself.
    pub holder: String,
    /// What that attempt left.
    pub checkpoint: Vec<u8>,
}

/// The answer to an operator. What was there before goes with it, because an operator acts on
/// what it believes to be there, and the log of its doings has to say what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The phase that the key was in.
    pub phase_before: Phase,
    /// The fencing token of the record that was there; `None` where the key was vacant.
    pub fencing_token: Option<FencingToken>,
    /// What the command came to.
    pub outcome: ForcedOutcome,
}

/// What an operator's command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForcedOutcome {
    /// ForceRelease: the reservation is given back.
    Released,
    /// ForceComplete: this is on record.
    Completed(Arc<Completion>),
    /// Delete: nothing is on record.
    Deleted,
    /// The record stands against it, and stays as it is.
    Refused(Refusal),
}

/// Why a command is refused. Nothing was written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The key is bound to another request.
    FingerprintMismatch,
    /// The owner token is not, or no longer, the one on record.
    LeaseLost,
    /// Nothing is on record.
    NotFound,
    /// The operation was completed with another result.
    ResultConflict,
    /// The operation is completed, so there is nothing to renew or release.
    AlreadyCompleted,
    /// The record is not the one that the operator has seen.
    RecordChanged,
    /// The namespace has as much on record as it may have, and the key would be one more.
    /// [`decide`](super::decide()) knows one record and never says so: the engine does,
    /// which counts them.
    QuotaExceeded(QuotaKind),
}

/// What a namespace has as much of as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaKind {
    /// Keys.
    Keys,
    /// Bytes of keys and records.
    Bytes,
}
