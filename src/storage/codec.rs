//! A record between its domain shape and its stored one.
//!
//! Stored numbers are written out here and never reused. Anything that this build does not
//! know is damage, never a default: a record that was misread could run an operation twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use self::message::{Fields, Message};
use crate::domain::{
    Completion, FencingToken, Fingerprint, LeaseExpiryAction, Moment, Outcome, OwnerToken, Record,
    Response, Span, State,
};
use crate::pb::storage as stored;

const TAKEOVER: i32 = 1;
const HOLD: i32 = 2;

const SUCCEEDED: i32 = 1;
const FAILED: i32 = 2;

/// A record with the moment of its entry in the expiry index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// Where in the index it is found. Not always when its retention is over: see
    /// `rocks/batch.rs`.
    pub indexed_at: Moment,
    /// The run of the engine that stored it.
    pub run: i64,
}

/// Bytes that are not a stored record, or not what else was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored is damaged: {0}")]
pub struct Damage(pub &'static str);

/// The stored form of `entry`.
#[cfg(test)]
pub fn encode(entry: &Stored) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_to(entry, &mut bytes);
    bytes
}

/// Appends the stored form of `entry` to `bytes`.
pub fn encode_to(entry: &Stored, bytes: &mut Vec<u8>) {
    let Stored { record, indexed_at, run } = entry;
    Whole { record, indexed_at: *indexed_at, run: *run }.fields(bytes);
}

/// How many bytes [`encode`] makes of a record.
pub fn encoded_len(record: &Record, indexed_at: Moment, run: i64) -> usize {
    message::encoded_len(&Whole { record, indexed_at, run })
}

/// `Record` of `record.proto`.
struct Whole<'a> {
    record: &'a Record,
    indexed_at: Moment,
    run: i64,
}

impl Message for Whole<'_> {
    fn fields(&self, to: &mut impl Fields) {
        let record = self.record;
        to.bytes(1, record.fingerprint.as_bytes());
        to.bytes(2, record.owner_token.as_bytes());
        to.number(3, record.fencing_token.get());
        to.number(4, i64::from(i32::try_from(record.attempt).unwrap_or(i32::MAX)));
        to.number(5, i64::from(record.takeover));
        to.bytes(6, record.holder.as_bytes());
        to.number(7, record.created_at.as_millis());
        to.bytes(8, &record.checkpoint);
        to.number(9, record.retention.as_millis());
        to.number(10, self.indexed_at.as_millis());
        to.number(11, self.run);
        match &record.state {
            State::Reserved { lease_until, lease_expiry_action } => {
                to.message(12, &Reserved(*lease_until, *lease_expiry_action));
            }
            State::Released { released_at } => to.message(13, &Released(*released_at)),
            State::Completed(completion) => to.message(14, &Completed(completion)),
        }
    }
}

/// `Reserved` of `record.proto`.
struct Reserved(Moment, LeaseExpiryAction);

impl Message for Reserved {
    fn fields(&self, to: &mut impl Fields) {
        to.number(1, self.0.as_millis());
        let action = match self.1 {
            LeaseExpiryAction::Takeover => TAKEOVER,
            LeaseExpiryAction::Hold => HOLD,
        };
        to.number(2, i64::from(action));
    }
}

/// `Released` of `record.proto`.
struct Released(Moment);

impl Message for Released {
    fn fields(&self, to: &mut impl Fields) {
        to.number(1, self.0.as_millis());
    }
}

/// `Completed` of `record.proto`.
struct Completed<'a>(&'a Completion);

impl Message for Completed<'_> {
    fn fields(&self, to: &mut impl Fields) {
        let Self(completion) = self;
        let response = &completion.response;
        let result = match completion.result {
            Outcome::Succeeded => SUCCEEDED,
            Outcome::Failed => FAILED,
        };
        to.number(1, i64::from(result));
        to.number(2, completion.completed_at.as_millis());
        to.number(3, completion.retained_until.as_millis());
        to.number(4, i64::from(completion.late));
        to.number(5, i64::from(completion.response_omitted));
        to.bytes(6, &completion.response_digest);
        to.number(7, i64::try_from(completion.response_size_bytes).unwrap_or(i64::MAX));
        to.bytes(8, &response.payload);
        to.bytes(9, response.content_type.as_bytes());
        to.number(10, i64::from(response.status_code));
        for (name, value) in &response.metadata {
            to.message(11, &Metadata(name, value));
        }
    }
}

/// `Metadata` of `record.proto`.
struct Metadata<'a>(&'a str, &'a str);

impl Message for Metadata<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.bytes(1, self.0.as_bytes());
        to.bytes(2, self.1.as_bytes());
    }
}

/// The record that `bytes` hold.
pub fn decode(bytes: &[u8]) -> Result<Stored, Damage> {
    let raw = stored::Record::decode(bytes).map_err(|_| Damage("it is not a record message"))?;
    // prost skips fields that it does not know, which shows in the length.
    if raw.encoded_len() != bytes.len() {
        return Err(Damage("it has a field that this build does not know"));
    }
    let fencing_token =
        FencingToken::new(raw.fencing_token).ok_or(Damage("its fencing token is not positive"))?;
    let attempt = positive(raw.attempt)?;
    let state = match raw.state.ok_or(Damage("it has no state"))? {
        stored::record::State::Reserved(reserved) => State::Reserved {
            lease_until: moment(reserved.lease_until_ms)?,
            lease_expiry_action: match reserved.lease_expiry_action {
                TAKEOVER => LeaseExpiryAction::Takeover,
                HOLD => LeaseExpiryAction::Hold,
                _ => return Err(Damage("its lease expiry action is unknown")),
            },
        },
        stored::record::State::Released(released) => {
            State::Released { released_at: moment(released.released_at_ms)? }
        }
        stored::record::State::Completed(completed) => {
            State::Completed(Arc::new(decode_completion(completed, attempt, fencing_token)?))
        }
    };
    Ok(Stored {
        record: Record {
            fingerprint: Fingerprint::new(raw.fingerprint)
                .map_err(|_| Damage("its fingerprint is too long"))?,
            owner_token: OwnerToken::from_bytes(
                raw.owner_token.try_into().map_err(|_| Damage("its owner token is no UUID"))?,
            ),
            fencing_token,
            attempt,
            takeover: raw.takeover,
            holder: raw.holder,
            created_at: moment(raw.created_at_ms)?,
            checkpoint: raw.checkpoint,
            retention: span(raw.retention_ms)?,
            state,
        },
        indexed_at: moment(raw.indexed_at_ms)?,
        run: raw.run,
    })
}

fn decode_completion(
    raw: stored::Completed,
    attempt: u32,
    fencing_token: FencingToken,
) -> Result<Completion, Damage> {
    Ok(Completion {
        result: match raw.result {
            SUCCEEDED => Outcome::Succeeded,
            FAILED => Outcome::Failed,
            _ => return Err(Damage("its result is unknown")),
        },
        response: Response {
            payload: raw.payload,
            content_type: raw.content_type,
            status_code: raw.status_code,
            metadata: metadata(raw.metadata)?,
        },
        response_omitted: raw.response_omitted,
        response_digest: raw
            .response_digest
            .try_into()
            .map_err(|_| Damage("its response digest is not SHA-256"))?,
        response_size_bytes: u64::try_from(raw.response_size_bytes)
            .map_err(|_| Damage("its response size is negative"))?,
        completed_at: moment(raw.completed_at_ms)?,
        retained_until: moment(raw.retained_until_ms)?,
        attempt,
        fencing_token,
        late: raw.late,
    })
}

fn metadata(entries: Vec<stored::Metadata>) -> Result<BTreeMap<String, String>, Damage> {
    let mut metadata = BTreeMap::new();
    for entry in entries {
        if metadata.insert(entry.name, entry.value).is_some() {
            return Err(Damage("it has two values for one name of metadata"));
        }
    }
    Ok(metadata)
}

fn positive(number: i32) -> Result<u32, Damage> {
    match u32::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Damage("its attempt is not positive")),
    }
}

fn moment(millis: i64) -> Result<Moment, Damage> {
    if millis < 0 {
        return Err(Damage("a moment is before 1970"));
    }
    Ok(Moment::from_millis(millis))
}

fn span(millis: i64) -> Result<Span, Damage> {
    if millis < 0 {
        return Err(Damage("a span is negative"));
    }
    Ok(Span::from_millis(millis))
}

mod message;

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
