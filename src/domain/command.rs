//! What a caller may ask of a key, as plain data with everything checked and settled.
//!
//! Spans are already clamped, digests computed and owner tokens minted: a command decides
//! the same way however often and wherever it is applied.

use super::{FencingToken, Fingerprint, LeaseExpiryAction, Outcome, OwnerToken, Response, Span};

/// One request to change a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Asks for the right to run the operation.
    Reserve(Reserve),
    /// Stores the result of the operation.
    Complete(Complete),
    /// Extends the lease.
    Renew(Renew),
    /// Gives the reservation back.
    Release(Release),
    /// An operator gives the reservation back in the place of its owner.
    ForceRelease(ForceRelease),
    /// An operator stores the result of the operation in the place of its owner.
    ForceComplete(ForceComplete),
    /// An operator takes the record away.
    Delete(Delete),
}

/// Asks for the right to run the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The digest of the request that the key stands for.
    pub fingerprint: Fingerprint,
    /// The proof of ownership, minted for this attempt.
    pub owner_token: OwnerToken,
    /// How long the owner may stay silent.
    pub lease: Span,
    /// What becomes of the reservation when the lease ends.
    pub lease_expiry_action: LeaseExpiryAction,
    /// How long the record outlives a release, or a lapse that nobody took over.
    pub retention: Span,
    /// Whether a stored failure is a licence to try again.
    pub retry_failed: bool,
    /// What the caller calls itself.
    pub holder: String,
}

/// Stores the result of the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// The proof of ownership.
    pub owner_token: OwnerToken,
    /// How the operation ended.
    pub result: Outcome,
    /// What is replayed; without payload, content type and metadata where it is omitted.
    pub response: Response,
    /// Whether the response was too large to store.
    pub response_omitted: bool,
    /// SHA-256 of the payload as the owner sent it.
    pub response_digest: [u8; 32],
    /// The size of the payload as the owner sent it, in bytes.
    pub response_size_bytes: u64,
    /// How long the completion is kept, from the moment of the decision on.
    pub retention: Span,
}

/// Extends the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// The proof of ownership.
    pub owner_token: OwnerToken,
    /// The length of the lease, from the moment of the decision on.
    pub lease: Span,
    /// What the next attempt should know; `None` keeps what is stored.
    pub checkpoint: Option<Vec<u8>>,
}

/// Gives the reservation back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The proof of ownership.
    pub owner_token: OwnerToken,
}

/// Gives the reservation back in the place of its owner: somebody has made sure that the
/// operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceRelease {
    /// What the operator has seen: a record with another fencing token is left alone. `None`
    /// takes whatever is there.
    pub fencing_token: Option<FencingToken>,
}

/// Stores the result of the operation in the place of its owner: somebody has made sure that
/// it happened, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceComplete {
    /// As in [`ForceRelease`].
    pub fencing_token: Option<FencingToken>,
    /// How the operation ended.
    pub result: Outcome,
    /// What is replayed; without payload, content type and metadata where it is omitted.
    pub response: Response,
    /// Whether the response was too large to store.
    pub response_omitted: bool,
    /// SHA-256 of the payload as the operator sent it.
    pub response_digest: [u8; 32],
    /// The size of the payload as the operator sent it, in bytes.
    pub response_size_bytes: u64,
    /// How long the completion is kept, from the moment of the decision on.
    pub retention: Span,
}

impl ForceComplete {
    /// The same as its owner would have sent it.
    pub fn by(&self, owner_token: OwnerToken) -> Complete {
        Complete {
            owner_token,
            result: self.result,
            response: self.response.clone(),
            response_omitted: self.response_omitted,
            response_digest: self.response_digest,
            response_size_bytes: self.response_size_bytes,
            retention: self.retention,
        }
    }
}

/// Takes the record away: the key is vacant then, and the operation may run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// As in [`ForceRelease`].
    pub fencing_token: Option<FencingToken>,
}
