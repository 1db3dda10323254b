//! The answers to operators as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{completion, millis, moment, record, state};
use crate::pb::v1::{
    Backup, DeleteRecordResponse, DescribeNamespaceResponse, Erase, ForceCompleteResponse,
    ForceReleaseResponse, GetStatsResponse, LeaseExpiryAction, ListedRecord, NamespaceUsage,
    SetLogFilterResponse, ShadowStats, StoreCondition, StoreStats,
};

/// One record of a listing: as in a lookup, but for what a listing leaves out.
pub(in crate::cli) fn listed(listed: &ListedRecord) -> Value {
    let mut value = json!({ "namespace": listed.namespace, "key": listed.key });
    let Value::Object(mut fields) = record(&listed.record.clone().unwrap_or_default()) else {
        unreachable!("a record is an object")
    };
    fields.shift_remove("checkpoint");
    fields.shift_remove("checkpoint_text");
    if let Some(end) = fields.get_mut("completion") {
        *end = without_body(end.take());
    }
    value.as_object_mut().expect("it is one").extend(fields);
    value
}

pub(in crate::cli) fn log_filter(answer: &SetLogFilterResponse) -> Value {
    json!({
        "filter": answer.filter,
        "filter_before": answer.filter_before,
        "duration_ms": millis(answer.duration.as_ref()),
    })
}

/// A completion of whose response only the status code was sent.
fn without_body(mut completion: Value) -> Value {
    let status_code = completion["response"]["status_code"].take();
    if let Some(fields) = completion.as_object_mut() {
        fields.shift_remove("response");
        fields.insert("status_code".to_owned(), status_code);
    }
    completion
}

pub(in crate::cli) fn force_release(answer: &ForceReleaseResponse) -> Value {
    json!({
        "state": "released",
        "state_before": state(answer.state_before()),
        "fencing_token": answer.fencing_token,
        "decide_time": moment(answer.decide_time.as_ref()),
    })
}

pub(in crate::cli) fn force_complete(answer: &ForceCompleteResponse) -> Value {
    json!({
        "state": "completed",
        "state_before": state(answer.state_before()),
        "completion": answer.completion.as_ref().map(|end| without_body(completion(end))),
        "decide_time": moment(answer.decide_time.as_ref()),
    })
}

pub(in crate::cli) fn delete_record(answer: &DeleteRecordResponse) -> Value {
    json!({
        "state": null,
        "state_before": state(answer.state_before()),
        "fencing_token": answer.fencing_token,
        "decide_time": moment(answer.decide_time.as_ref()),
    })
}

pub(in crate::cli) fn erase(erase: &Erase) -> Value {
    json!({
        "namespace": erase.namespace,
        "erase_id": erase.erase_id,
        "done": erase.done,
        "erased_records": erase.erased_records,
        "unreadable_records": erase.unreadable_records,
        "operator": erase.operator,
        "reason": erase.reason,
        "fencing_token_ceiling": erase.fencing_token_ceiling,
        "begin_time": moment(erase.begin_time.as_ref()),
        "end_time": moment(erase.end_time.as_ref()),
    })
}

pub(in crate::cli) fn backup(backup: &Backup) -> Value {
    json!({
        "backup_id": backup.backup_id,
        "create_time": moment(backup.create_time.as_ref()),
        "size_bytes": backup.size_bytes,
        "files": backup.files,
        "damaged": backup.damaged,
    })
}

pub(in crate::cli) fn stats(answer: &GetStatsResponse) -> Value {
    json!({
        "version": answer.version,
        "build": answer.build,
        "uptime_ms": millis(answer.uptime.as_ref()),
        "condition": match answer.condition() {
            StoreCondition::Unspecified => Value::Null,
            StoreCondition::Serving => json!("serving"),
            StoreCondition::Full => json!("full"),
            StoreCondition::Unavailable => json!("unavailable"),
        },
        "store": answer.store.as_ref().map(store),
        "shadows": answer.shadows.iter().map(shadow).collect::<Vec<_>>(),
    })
}

fn shadow(shadow: &ShadowStats) -> Value {
    let would_be: BTreeMap<_, _> = shadow.would_be.iter().collect();
    json!({ "namespace": shadow.namespace, "would_be": would_be })
}

pub(in crate::cli) fn policy(answer: &DescribeNamespaceResponse) -> Value {
    let policy = answer.policy.clone().unwrap_or_default();
    json!({
        "namespace": policy.namespace,
        "listed": policy.listed,
        "served": policy.served,
        "lease_min_ms": millis(policy.lease_min.as_ref()),
        "lease_default_ms": millis(policy.lease_default.as_ref()),
        "lease_max_ms": millis(policy.lease_max.as_ref()),
        "lease_expiry_action": match policy.lease_expiry_action() {
            LeaseExpiryAction::Unspecified => Value::Null,
            LeaseExpiryAction::Takeover => json!("takeover"),
            LeaseExpiryAction::Hold => json!("hold"),
        },
        "retention_min_ms": millis(policy.retention_min.as_ref()),
        "retention_default_ms": millis(policy.retention_default.as_ref()),
        "retention_max_ms": millis(policy.retention_max.as_ref()),
        "max_response_bytes": policy.max_response_bytes,
        "fingerprint_required": policy.fingerprint_required,
        "shadow": policy.shadow,
        "quota_keys": policy.quota_keys,
        "quota_bytes": policy.quota_bytes,
    })
}

fn usage(usage: &NamespaceUsage) -> Value {
    json!({
        "namespace": usage.namespace,
        "keys": usage.keys,
        "bytes": usage.bytes,
        "quota_keys": usage.quota_keys,
        "quota_bytes": usage.quota_bytes,
    })
}

fn store(store: &StoreStats) -> Value {
    json!({
        "kind": store.kind,
        "records": store.records,
        "records_estimated": store.records_estimated,
        "in_doubt_records": store.in_doubt_records,
        "in_doubt_capped": store.in_doubt_capped,
        "calls_in_flight": store.calls_in_flight,
        "bytes_in_flight": store.bytes_in_flight,
        "parked_calls": store.parked_calls,
        "namespaces": store.namespaces.iter().map(usage).collect::<Vec<_>>(),
        "namespaces_capped": store.namespaces_capped,
        "fencing_high_water": store.fencing_high_water,
        "erases": store.erases.iter().map(erase).collect::<Vec<_>>(),
        "decide_time": moment(store.decide_time.as_ref()),
    })
}
