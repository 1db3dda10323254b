//! What is known of one key, and the phase that it is in at a moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{FencingToken, Fingerprint, Moment, OwnerToken, Span};

/// Everything on record for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the key is bound to.
    pub fingerprint: Fingerprint,
    /// Who owns, or last owned, the reservation.
    pub owner_token: OwnerToken,
    /// The fencing token of the latest attempt.
    pub fencing_token: FencingToken,
    /// The latest attempt, from 1.
    pub attempt: u32,
    /// Whether the latest attempt took over from a lapsed one.
    pub takeover: bool,
    /// What the latest holder called itself.
    pub holder: String,
    /// When the key was first reserved.
    pub created_at: Moment,
    /// What the latest attempt left for the next.
    pub checkpoint: Vec<u8>,
    /// How long the record outlives a release, or a lapse that nobody took over.
    pub retention: Span,
    /// What became of the latest attempt.
    pub state: State,
}

/// What became of the latest attempt. Whether a lease is over is not a state but a
/// question of the moment: see [`Phase`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was granted and has not ended.
    Reserved {
        /// When its lease ends: the first moment at which it no longer runs.
        lease_until: Moment,
        /// What becomes of it then.
        lease_expiry_action: LeaseExpiryAction,
    },
    /// It was given back.
    Released {
        /// When.
        released_at: Moment,
    },
    /// It was completed. Shared, because replays hand it out and responses may be large.
    Completed(Arc<Completion>),
}

/// What becomes of a reservation whose lease ends without a completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LeaseExpiryAction {
    /// The next caller is granted it.
    #[default]
    Takeover,
    /// Nobody is granted it: it is in doubt.
    Hold,
}

/// How an operation ended; both are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect.
    Succeeded,
    /// It ended in a failure that is itself the answer.
    Failed,
}

/// The stored end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// How it ended.
    pub result: Outcome,
    /// What is replayed.
    pub response: Response,
    /// Whether the response was too large to store; only its status code is kept then.
    pub response_omitted: bool,
    /// SHA-256 of the payload as the owner sent it.
    pub response_digest: [u8; 32],
    /// The size of the payload as the owner sent it, in bytes.
    pub response_size_bytes: u64,
    /// When it was completed.
    pub completed_at: Moment,
    /// When its retention is over: the first moment at which the key is vacant.
    pub retained_until: Moment,
    /// Which attempt completed it.
    pub attempt: u32,
    /// The fencing token of that attempt.
    pub fencing_token: FencingToken,
    /// Whether it arrived after the lease had ended.
    pub late: bool,
}

impl Completion {
    /// The same without its response.
    #[must_use]
    pub fn without_response(&self) -> Self {
        Self { response: Response::default(), ..*self }
    }

    /// The same without what makes it large: of its response nothing but the status code.
    #[must_use]
    pub fn without_body(&self) -> Self {
        let status_code = self.response.status_code;
        Self { response: Response { status_code, ..Response::default() }, ..*self }
    }
}

/// The answer to the operation itself, opaque to onced and kept out of its logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The body.
    pub payload: Vec<u8>,
    /// What the payload is.
    pub content_type: String,
    /// A status in the caller's own terms.
    pub status_code: i32,
    /// Anything else to replay.
    pub metadata: BTreeMap<String, String>,
}

impl Response {
    /// What it takes: payload, content type and metadata, in bytes.
    pub fn bytes(&self) -> usize {
        let metadata: usize =
            self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.content_type.len() + metadata
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} bytes, status code {})", self.payload.len(), self.status_code)
    }
}

/// Where a key stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No record, or its retention is over.
    Vacant,
    /// Reserved, and the lease is running.
    Held,
    /// Reserved, the lease is over, and the next caller takes over.
    Lapsed,
    /// Reserved, the lease is over, and nobody takes over.
    InDoubt,
    /// Given back.
    Released,
    /// Done.
    Completed,
}

/// The phase of `record` at `now`: the only place that compares a record with a moment.
pub fn phase_of(record: Option<&Record>, now: Moment) -> Phase {
    let Some(record) = record else {
        return Phase::Vacant;
    };
    if now >= record.retained_until() {
        return Phase::Vacant;
    }
    match &record.state {
        State::Reserved { lease_until, .. } if now < *lease_until => Phase::Held,
        State::Reserved { lease_expiry_action: LeaseExpiryAction::Takeover, .. } => Phase::Lapsed,
        State::Reserved { lease_expiry_action: LeaseExpiryAction::Hold, .. } => Phase::InDoubt,
        State::Released { .. } => Phase::Released,
        State::Completed(_) => Phase::Completed,
    }
}

impl Record {
    /// When the retention of this record is over: the first moment at which its key is
    /// vacant, unless something happens to it before.
    pub fn retained_until(&self) -> Moment {
        match &self.state {
            State::Reserved { lease_until, .. } => lease_until.plus(self.retention),
            State::Released { released_at } => released_at.plus(self.retention),
            State::Completed(completion) => completion.retained_until,
        }
    }

    /// When this record comes in doubt, unless something happens to it before: the end of its
    /// lease, where nobody takes over. `None` where it never does.
    pub fn in_doubt_from(&self) -> Option<Moment> {
        match &self.state {
            State::Reserved { lease_until, lease_expiry_action: LeaseExpiryAction::Hold } => {
                Some(*lease_until)
            }
            State::Reserved { .. } | State::Released { .. } | State::Completed(_) => None,
        }
    }
}
