//! A record between its domain shape and its stored one.
//!
//! Stored numbers are written out here and never reused. Anything that this build does not
//! know is damage, never a default: a record that was misread could run an operation twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::{Message as _, length_delimiter_len};

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
pub fn encode(entry: &Stored) -> Vec<u8> {
    let mut message = without_payload(&entry.record, entry.indexed_at, entry.run);
    if let (Some(stored::record::State::Completed(completed)), State::Completed(completion)) =
        (&mut message.state, &entry.record.state)
    {
        completed.payload.clone_from(&completion.response.payload);
    }
    message.encode_to_vec()
}

/// How many bytes [`encode`] makes of a record, without copying its payload.
pub fn encoded_len(record: &Record, indexed_at: Moment, run: i64) -> usize {
    let message = without_payload(record, indexed_at, run);
    let bytes = message.encoded_len();
    let (Some(stored::record::State::Completed(completed)), State::Completed(completion)) =
        (&message.state, &record.state)
    else {
        return bytes;
    };
    let payload = completion.response.payload.len();
    if payload == 0 {
        return bytes;
    }
    // The payload itself, its length and one byte of its tag; and the length of the message
    // around it may take more bytes than before.
    let inner = completed.encoded_len();
    let field = 1 + length_delimiter_len(payload) + payload;
    bytes + field + length_delimiter_len(inner + field) - length_delimiter_len(inner)
}

fn without_payload(record: &Record, indexed_at: Moment, run: i64) -> stored::Record {
    let state = match &record.state {
        State::Reserved { lease_until, lease_expiry_action } => {
            stored::record::State::Reserved(stored::Reserved {
                lease_until_ms: lease_until.as_millis(),
                lease_expiry_action: match lease_expiry_action {
                    LeaseExpiryAction::Takeover => TAKEOVER,
                    LeaseExpiryAction::Hold => HOLD,
                },
            })
        }
        State::Released { released_at } => stored::record::State::Released(stored::Released {
            released_at_ms: released_at.as_millis(),
        }),
        State::Completed(completion) => {
            stored::record::State::Completed(encode_completion(completion))
        }
    };
    stored::Record {
        fingerprint: record.fingerprint.as_bytes().to_vec(),
        owner_token: record.owner_token.as_bytes().to_vec(),
        fencing_token: record.fencing_token.get(),
        attempt: i32::try_from(record.attempt).unwrap_or(i32::MAX),
        takeover: record.takeover,
        holder: record.holder.clone(),
        created_at_ms: record.created_at.as_millis(),
        checkpoint: record.checkpoint.clone(),
        retention_ms: record.retention.as_millis(),
        indexed_at_ms: indexed_at.as_millis(),
        run,
        state: Some(state),
    }
}

fn encode_completion(completion: &Completion) -> stored::Completed {
    let response = &completion.response;
    stored::Completed {
        result: match completion.result {
            Outcome::Succeeded => SUCCEEDED,
            Outcome::Failed => FAILED,
        },
        completed_at_ms: completion.completed_at.as_millis(),
        retained_until_ms: completion.retained_until.as_millis(),
        late: completion.late,
        response_omitted: completion.response_omitted,
        response_digest: completion.response_digest.to_vec(),
        response_size_bytes: i64::try_from(completion.response_size_bytes).unwrap_or(i64::MAX),
        payload: Vec::new(),
        content_type: response.content_type.clone(),
        status_code: response.status_code,
        metadata: response
            .metadata
            .iter()
            .map(|(name, value)| stored::Metadata { name: name.clone(), value: value.clone() })
            .collect(),
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

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
