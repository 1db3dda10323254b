//! Answers as JSON. The shape is an interface: fields are added, never renamed.
//!
//! Names are those of the proto in snake_case. Moments are RFC 3339, spans are whole
//! milliseconds (`…_ms`), digests are hex. Bytes are base64, with a sibling `…_text` that is
//! `null` where they are not UTF-8. Enums are lower-case words without their prefix. What is
//! absent is `null`; no field comes and goes. The first field of a Reserve is its `outcome`:
//! `granted`, `in_progress`, `completed` or `in_doubt`, and the others depend on it.

mod admin;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_types::{Duration, Timestamp};
use serde_json::{Map, Value, json};

use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{
    CompleteResponse, Completion, LookupResponse, Record, RecordState, ReleaseResponse,
    RenewResponse, ReserveResponse, Response, Result,
};

pub(super) use admin::{
    backup, delete_record, erase, force_complete, force_release, listed, log_filter, policy, stats,
};

pub(super) fn reserve(answer: &ReserveResponse) -> Value {
    let mut value = match &answer.outcome {
        Some(Outcome::Granted(granted)) => json!({
            "outcome": "granted",
            "owner_token": granted.owner_token,
            "fencing_token": granted.fencing_token,
            "lease_expire_time": moment(granted.lease_expire_time.as_ref()),
            "attempt": granted.attempt,
            "shadow": granted.shadow,
            "takeover": granted.takeover,
            "checkpoint": bytes(&granted.checkpoint),
            "checkpoint_text": text(&granted.checkpoint),
        }),
        Some(Outcome::InProgress(running)) => json!({
            "outcome": "in_progress",
            "lease_expire_time": moment(running.lease_expire_time.as_ref()),
            "retry_delay_ms": millis(running.retry_delay.as_ref()),
            "attempt": running.attempt,
            "holder": running.holder,
        }),
        Some(Outcome::Completed(done)) => json!({
            "outcome": "completed",
            "completion": completion(done),
        }),
        Some(Outcome::InDoubt(doubt)) => json!({
            "outcome": "in_doubt",
            "lease_expire_time": moment(doubt.lease_expire_time.as_ref()),
            "attempt": doubt.attempt,
            "holder": doubt.holder,
            "checkpoint": bytes(&doubt.checkpoint),
            "checkpoint_text": text(&doubt.checkpoint),
        }),
        None => json!({ "outcome": null }),
    };
    value["decide_time"] = moment(answer.decide_time.as_ref());
    value
}

pub(super) fn complete(answer: &CompleteResponse) -> Value {
    json!({
        "completion": answer.completion.as_ref().map(completion),
        "decide_time": moment(answer.decide_time.as_ref()),
    })
}

pub(super) fn release(answer: &ReleaseResponse) -> Value {
    json!({ "state": "released", "decide_time": moment(answer.decide_time.as_ref()) })
}

pub(super) fn renew(answer: &RenewResponse) -> Value {
    json!({
        "lease_expire_time": moment(answer.lease_expire_time.as_ref()),
        "decide_time": moment(answer.decide_time.as_ref()),
    })
}

pub(super) fn lookup(answer: &LookupResponse) -> Value {
    let mut value = record(&answer.record.clone().unwrap_or_default());
    value["decide_time"] = moment(answer.decide_time.as_ref());
    value
}

/// The word for a state; `null` where there is no record.
pub(super) fn state(state: RecordState) -> Value {
    match state {
        RecordState::Unspecified => Value::Null,
        RecordState::Held => json!("held"),
        RecordState::Lapsed => json!("lapsed"),
        RecordState::InDoubt => json!("in_doubt"),
        RecordState::Released => json!("released"),
        RecordState::Completed => json!("completed"),
    }
}

pub(super) fn record(record: &Record) -> Value {
    json!({
        "state": state(record.state()),
        "fingerprint": hex(&record.fingerprint),
        "attempt": record.attempt,
        "fencing_token": record.fencing_token,
        "holder": record.holder,
        "create_time": moment(record.create_time.as_ref()),
        "lease_expire_time": moment(record.lease_expire_time.as_ref()),
        "checkpoint": bytes(&record.checkpoint),
        "checkpoint_text": text(&record.checkpoint),
        "completion": record.completion.as_ref().map(completion),
        "expire_time": moment(record.expire_time.as_ref()),
    })
}

pub(super) fn completion(completion: &Completion) -> Value {
    json!({
        "result": match completion.result() {
            Result::Unspecified => Value::Null,
            Result::Succeeded => json!("succeeded"),
            Result::Failed => json!("failed"),
        },
        "response": response(&completion.response.clone().unwrap_or_default()),
        "complete_time": moment(completion.complete_time.as_ref()),
        "expire_time": moment(completion.expire_time.as_ref()),
        "attempt": completion.attempt,
        "fencing_token": completion.fencing_token,
        "late": completion.late,
        "response_omitted": completion.response_omitted,
        "response_digest": hex(&completion.response_digest),
        "response_size_bytes": completion.response_size_bytes,
    })
}

fn response(response: &Response) -> Value {
    // A hash map has no order of its own; an answer should look the same each time.
    let mut metadata: Vec<_> = response.metadata.iter().collect();
    metadata.sort();
    let metadata: Map<String, Value> =
        metadata.into_iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "payload": bytes(&response.payload),
        "payload_text": text(&response.payload),
        "content_type": response.content_type,
        "status_code": response.status_code,
        "metadata": metadata,
    })
}

pub(super) fn moment(moment: Option<&Timestamp>) -> Value {
    moment.map_or(Value::Null, |moment| json!(moment.to_string()))
}

pub(super) fn millis(span: Option<&Duration>) -> Value {
    span.map_or(Value::Null, |span| {
        json!(span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos / 1_000_000)))
    })
}

fn bytes(bytes: &[u8]) -> Value {
    json!(BASE64_STANDARD.encode(bytes))
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or(Value::Null, |text| json!(text))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
