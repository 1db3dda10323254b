//! From decisions and records to answers.

use std::collections::HashMap;

use uuid::Uuid;

use super::policy::{Described, Policies};
use super::shadow::WouldBe;
use crate::domain::{
    Completion, FencingToken, Granted, InDoubt, InProgress, LeaseExpiryAction, Moment, Namespace,
    Outcome, OwnerToken, Phase, Record, Response, Span, State, phase_of,
};
use crate::pb::v1;
use crate::storage::Usage;
use crate::storage::backup::Backup;
use crate::storage::erase::Erase;
use crate::storage::stats::Stats;

/// The shortest and the longest hint to a caller that met a running reservation.
const RETRY_DELAY: (Span, Span) = (Span::from_millis(50), Span::from_secs(5));

/// A moment as the wire has it.
pub fn timestamp(moment: Moment) -> prost_types::Timestamp {
    let millis = moment.as_millis();
    prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: i32::try_from(millis.rem_euclid(1_000)).expect("less than a thousand") * 1_000_000,
    }
}

fn duration(span: Span) -> prost_types::Duration {
    let millis = span.as_millis();
    prost_types::Duration {
        seconds: millis / 1_000,
        nanos: i32::try_from(millis % 1_000).expect("less than a thousand") * 1_000_000,
    }
}

fn attempt(attempt: u32) -> i32 {
    i32::try_from(attempt).unwrap_or(i32::MAX)
}

/// An owner token as its owner has it.
pub fn owner_token(token: OwnerToken) -> String {
    Uuid::from_bytes(*token.as_bytes()).to_string()
}

/// The right to run the operation.
pub fn granted(granted: Granted) -> v1::Granted {
    v1::Granted {
        owner_token: owner_token(granted.owner_token),
        fencing_token: granted.fencing_token.get(),
        lease_expire_time: Some(timestamp(granted.lease_until)),
        attempt: attempt(granted.attempt),
        takeover: granted.takeover,
        checkpoint: granted.checkpoint,
        shadow: false,
    }
}

/// Somebody else's running reservation, seen at `now`.
pub fn in_progress(in_progress: InProgress, now: Moment) -> v1::InProgress {
    let tenth = Span::from_millis(in_progress.lease_until.since(now).as_millis() / 10);
    v1::InProgress {
        lease_expire_time: Some(timestamp(in_progress.lease_until)),
        retry_delay: Some(duration(tenth.clamp(RETRY_DELAY.0, RETRY_DELAY.1))),
        attempt: attempt(in_progress.attempt),
        holder: in_progress.holder,
    }
}

/// A reservation whose owner vanished.
pub fn in_doubt(in_doubt: InDoubt) -> v1::InDoubt {
    v1::InDoubt {
        lease_expire_time: Some(timestamp(in_doubt.lease_until)),
        attempt: attempt(in_doubt.attempt),
        holder: in_doubt.holder,
        checkpoint: in_doubt.checkpoint,
    }
}

/// How an operation ended.
pub fn result(outcome: Outcome) -> v1::Result {
    match outcome {
        Outcome::Succeeded => v1::Result::Succeeded,
        Outcome::Failed => v1::Result::Failed,
    }
}

/// The answer to the operation itself.
pub fn response(response: &Response) -> v1::Response {
    let metadata: HashMap<_, _> =
        response.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    v1::Response {
        payload: response.payload.clone(),
        content_type: response.content_type.clone(),
        status_code: response.status_code,
        metadata,
    }
}

/// The stored end of an operation.
pub fn completion(completion: &Completion) -> v1::Completion {
    v1::Completion {
        result: result(completion.result).into(),
        response: Some(response(&completion.response)),
        complete_time: Some(timestamp(completion.completed_at)),
        expire_time: Some(timestamp(completion.retained_until)),
        attempt: attempt(completion.attempt),
        fencing_token: completion.fencing_token.get(),
        late: completion.late,
        response_omitted: completion.response_omitted,
        response_digest: completion.response_digest.to_vec(),
        response_size_bytes: i64::try_from(completion.response_size_bytes).unwrap_or(i64::MAX),
    }
}

/// A record as it stood at `now`, without its owner token.
pub fn record(record: Record, now: Moment) -> v1::Record {
    let state = state(phase_of(Some(&record), now));
    let (lease_expire_time, stored_completion) = match &record.state {
        State::Reserved { lease_until, .. } => (Some(timestamp(*lease_until)), None),
        State::Released { .. } => (None, None),
        State::Completed(end) => (None, Some(completion(end))),
    };
    v1::Record {
        state: state.into(),
        fingerprint: record.fingerprint.as_bytes().to_vec(),
        attempt: attempt(record.attempt),
        fencing_token: record.fencing_token.get(),
        create_time: Some(timestamp(record.created_at)),
        lease_expire_time,
        completion: stored_completion,
        expire_time: Some(timestamp(record.retained_until())),
        holder: record.holder,
        checkpoint: record.checkpoint,
    }
}

/// What applies in `namespace`.
pub fn policy(namespace: &Namespace, described: Described) -> v1::NamespacePolicy {
    let Described { policy, listed, served } = described;
    let limits = policy.limits;
    let lease_expiry_action = match limits.lease_expiry_action {
        LeaseExpiryAction::Takeover => v1::LeaseExpiryAction::Takeover,
        LeaseExpiryAction::Hold => v1::LeaseExpiryAction::Hold,
    };
    v1::NamespacePolicy {
        namespace: namespace.as_str().to_owned(),
        listed,
        served,
        lease_min: Some(duration(limits.lease.min)),
        lease_default: Some(duration(limits.lease.default)),
        lease_max: Some(duration(limits.lease.max)),
        lease_expiry_action: lease_expiry_action.into(),
        retention_min: Some(duration(limits.retention.min)),
        retention_default: Some(duration(limits.retention.default)),
        retention_max: Some(duration(limits.retention.max)),
        max_response_bytes: count(limits.max_response_bytes as u64),
        fingerprint_required: policy.fingerprint_required,
        shadow: policy.shadow,
        quota_keys: policy.quota.keys.map(count),
        quota_bytes: policy.quota.bytes.map(count),
    }
}

/// A phase as the state of a record; unspecified where there is no record.
pub fn state(phase: Phase) -> v1::RecordState {
    match phase {
        Phase::Vacant => v1::RecordState::Unspecified,
        Phase::Held => v1::RecordState::Held,
        Phase::Lapsed => v1::RecordState::Lapsed,
        Phase::InDoubt => v1::RecordState::InDoubt,
        Phase::Released => v1::RecordState::Released,
        Phase::Completed => v1::RecordState::Completed,
    }
}

/// A fencing token where there may be none, which is 0.
pub fn fencing_token(token: Option<FencingToken>) -> i64 {
    token.map_or(0, FencingToken::get)
}

/// How far an erase has come.
pub fn erase(erase: Erase) -> v1::Erase {
    v1::Erase {
        namespace: erase.order.namespace.as_str().to_owned(),
        erase_id: erase.order.id.to_string(),
        operator: erase.order.operator,
        reason: erase.order.reason,
        done: erase.ended_at.is_some(),
        erased_records: count(erase.erased),
        unreadable_records: count(erase.unreadable),
        fencing_token_ceiling: fencing_token(erase.ceiling),
        begin_time: Some(timestamp(erase.began_at)),
        end_time: erase.ended_at.map(timestamp),
    }
}

/// A backup.
pub fn backup(backup: Backup) -> v1::Backup {
    v1::Backup {
        backup_id: i64::from(backup.id),
        create_time: backup.made_at.map(timestamp),
        size_bytes: count(backup.bytes),
        files: i64::from(backup.files),
        damaged: backup.damaged,
    }
}

/// What a store told of itself at `now`.
pub fn stats(stats: Stats, policies: &Policies, now: Moment) -> v1::StoreStats {
    let usages = stats.usages.into_iter().map(|(name, usage)| usage_of(name, usage, policies));
    v1::StoreStats {
        kind: stats.store.to_owned(),
        records: count(stats.records),
        records_estimated: stats.records_estimated,
        in_doubt_records: count(stats.in_doubt as u64),
        in_doubt_capped: stats.in_doubt_capped,
        calls_in_flight: count(stats.in_flight as u64),
        bytes_in_flight: count(stats.in_flight_bytes as u64),
        fencing_high_water: fencing_token(stats.fencing_high_water),
        erases: stats.erases.into_iter().map(erase).collect(),
        decide_time: Some(timestamp(now)),
        parked_calls: count(stats.parked as u64),
        namespaces: usages.collect(),
        namespaces_capped: stats.usages_capped,
    }
}

fn usage_of(name: Vec<u8>, usage: Usage, policies: &Policies) -> v1::NamespaceUsage {
    let namespace = String::from_utf8_lossy(&name).into_owned();
    // A name that is none, which only damage can bring about, has no quota either.
    let quota = Namespace::new(namespace.clone())
        .map(|namespace| policies.describe(&namespace).policy.quota)
        .unwrap_or_default();
    v1::NamespaceUsage {
        namespace,
        keys: count(usage.keys),
        bytes: count(usage.bytes),
        quota_keys: quota.keys.map(count),
        quota_bytes: quota.bytes.map(count),
    }
}

/// What callers of each shadowed namespace would have been told.
pub fn shadows(policies: &Policies) -> Vec<v1::ShadowStats> {
    let tallies = policies.shadow_tallies().into_iter();
    tallies
        .map(|(namespace, tally)| v1::ShadowStats {
            namespace: namespace.as_str().to_owned(),
            would_be: WouldBe::ALL
                .into_iter()
                .map(|would_be| (would_be.name().to_owned(), count(tally.of(would_be))))
                .filter(|(_, times)| *times > 0)
                .collect(),
        })
        .collect()
}

/// How long something has taken so far.
pub fn elapsed(span: std::time::Duration) -> prost_types::Duration {
    duration(Span::from_millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
