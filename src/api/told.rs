//! What a caller is told of a decision: the decision itself, a status where it is a refusal, or
//! in a shadowed namespace what lets the caller go on. One place for calls that come alone and
//! for the items of a batch.

use tonic::Status;

use super::policy::Policies;
use super::service::{Kept, LargeAnswer};
use super::shadow::Instead;
use super::{encode, status};
use crate::domain::{Decision, Moment};
use crate::pb::v1::{self, reserve_response};
use crate::storage::EngineError;

/// What a caller is told, where it is not a status.
pub(super) enum Told {
    /// What was decided.
    Decided(Decision),
    /// What lets it go on, in a shadowed namespace.
    Instead(Instead),
}

impl Told {
    /// What the caller is told of whom this is kept. The command is needed in a shadowed namespace
    /// only, where the answer may be made from it.
    pub(super) fn of(
        policies: &Policies,
        Kept { key, shadowed }: Kept,
        decision: Decision,
        now: Moment,
    ) -> Result<Self, Status> {
        if let (Some(counts), Some(command)) = (policies.shadow(&key.namespace), shadowed)
            && let Some(instead) = counts.instead(&key.namespace, *command, &decision, now)
        {
            return Ok(Self::Instead(instead));
        }
        match decision {
            Decision::Refused(refusal) => Err(status::refused(refusal, &key)),
            decision => Ok(Self::Decided(decision)),
        }
    }

    /// How much stored data the answer carries, in bytes.
    pub(super) fn stored_bytes(&self) -> usize {
        match self {
            Self::Decided(decision) => decision.stored_bytes(),
            // It goes back as large as it came.
            Self::Instead(Instead::Completed(completion)) => {
                completion.response.as_ref().map_or(0, |response| response.payload.len())
            }
            Self::Instead(_) => 0,
        }
    }

    /// The same for whoever bounds what answers hold; nothing where nothing is carried.
    pub(super) fn large(&self) -> Option<LargeAnswer> {
        let otherwise = match self {
            Self::Decided(Decision::Replayed(_)) => EngineError::Overloaded,
            // It is done: sent again, the call finds it so.
            Self::Decided(Decision::Completed(_)) | Self::Instead(Instead::Completed(_)) => {
                EngineError::OutcomeUnknown
            }
            _ => return None,
        };
        Some(LargeAnswer { bytes: self.stored_bytes(), otherwise })
    }

    /// The answer to a Reserve.
    pub(super) fn reserved(self, now: Moment) -> Result<v1::ReserveResponse, Status> {
        let outcome = match self {
            Self::Decided(Decision::Granted(granted)) => {
                reserve_response::Outcome::Granted(encode::granted(granted))
            }
            Self::Decided(Decision::InProgress(in_progress)) => {
                reserve_response::Outcome::InProgress(encode::in_progress(in_progress, now))
            }
            Self::Decided(Decision::Replayed(completion)) => {
                reserve_response::Outcome::Completed(encode::completion(&completion))
            }
            Self::Decided(Decision::InDoubt(in_doubt)) => {
                reserve_response::Outcome::InDoubt(encode::in_doubt(in_doubt))
            }
            Self::Instead(Instead::Granted(granted)) => reserve_response::Outcome::Granted(granted),
            _ => return Err(mismatched()),
        };
        let decide_time = Some(encode::timestamp(now));
        Ok(v1::ReserveResponse { outcome: Some(outcome), decide_time })
    }

    /// The answer to a Complete.
    pub(super) fn completed(self, now: Moment) -> Result<v1::CompleteResponse, Status> {
        let completion = match self {
            Self::Decided(Decision::Completed(completion)) => encode::completion(&completion),
            Self::Instead(Instead::Completed(completion)) => completion,
            _ => return Err(mismatched()),
        };
        let decide_time = Some(encode::timestamp(now));
        Ok(v1::CompleteResponse { completion: Some(completion), decide_time })
    }

    /// The answer to a Release.
    pub(super) fn released(self, now: Moment) -> Result<v1::ReleaseResponse, Status> {
        match self {
            Self::Decided(Decision::Released) | Self::Instead(Instead::Released) => {
                Ok(v1::ReleaseResponse { decide_time: Some(encode::timestamp(now)) })
            }
            _ => Err(mismatched()),
        }
    }

    /// The answer to a Renew.
    pub(super) fn renewed(self, now: Moment) -> Result<v1::RenewResponse, Status> {
        match self {
            Self::Decided(Decision::Renewed { lease_until })
            | Self::Instead(Instead::Renewed { lease_until }) => Ok(v1::RenewResponse {
                lease_expire_time: Some(encode::timestamp(lease_until)),
                decide_time: Some(encode::timestamp(now)),
            }),
            _ => Err(mismatched()),
        }
    }
}

/// An engine answers a command with a decision of its kind; anything else is a bug in it.
pub(super) fn mismatched() -> Status {
    tracing::error!("the engine answered another command");
    Status::internal("the engine answered another command")
}
