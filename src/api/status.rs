//! Every status that onced sends, in one place: code, reason and details.
//!
//! What a correct caller meets in normal operation is not here; it is an outcome in an OK
//! answer. A status tells the caller what to do next. Owner tokens, full keys and stored
//! responses never appear in one: a key is named by a part of its digest.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{
    ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _,
};

use super::decode::Violations;
use crate::access::{Principal, Unknown};
use crate::domain::{QuotaKind, RecordKey, Refusal};
use crate::storage::EngineError;
use crate::storage::backup::BackupError;

/// The domain of every reason.
pub const DOMAIN: &str = "onced";

/// The trailer that gRPC clients with retries obey, from gRPC's retry design (A6).
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How soon a call is worth repeating when the server is busy, or may have done it.
const SOON: Duration = Duration::from_millis(100);
/// How soon when it is stopping or failing, and somebody has to start it again; or when a quota
/// is used up, and something has to go first.
const LATER: Duration = Duration::from_secs(1);
/// How soon when somebody has to make room on the disk.
const MUCH_LATER: Duration = Duration::from_secs(10);

/// Nobody knows who calls. What was shown is not repeated.
pub fn unauthenticated(unknown: Unknown) -> Status {
    let message = match unknown {
        Unknown::Nothing => {
            "the call has no credentials; send a bearer token, or show a client certificate"
        }
        Unknown::Malformed => "the header authorization is not one \"Bearer TOKEN\"",
        Unknown::Token => "no principal has this bearer token",
        Unknown::Certificate => "no principal, or more than one, has the names of the certificate",
    };
    Status::with_error_details(Code::Unauthenticated, message, reason("UNAUTHENTICATED"))
}

/// The caller is known, and may not make this call in any namespace.
pub fn role_denied(principal: &Principal, call: &str) -> Status {
    let (name, role) = (principal.name(), principal.role());
    denied(format!("{name:?} has the role {role}, which may not call {call}"))
}

/// The caller may not use the namespace, whether or not there is anything in it.
pub fn namespace_denied(principal: &Principal) -> Status {
    denied(format!("{:?} may not use this namespace", principal.name()))
}

fn denied(message: String) -> Status {
    Status::with_error_details(Code::PermissionDenied, message, reason("PERMISSION_DENIED"))
}

/// The request itself is wrong.
pub fn invalid(violations: Violations) -> Status {
    let fields: Vec<_> = violations.iter().map(|violation| violation.field).collect();
    let message = format!("invalid {}", fields.join(", "));
    let mut details = reason("INVALID_FIELD");
    details.set_bad_request(
        violations
            .into_iter()
            .map(|violation| FieldViolation::new(violation.field, violation.description))
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The record stands against it.
pub fn refused(refusal: Refusal, key: &RecordKey) -> Status {
    match refusal {
        Refusal::FingerprintMismatch => precondition(
            "FINGERPRINT_MISMATCH",
            "the key is bound to a request with another fingerprint",
            key,
        ),
        Refusal::ResultConflict => precondition(
            "RESULT_CONFLICT",
            "the operation was completed with another result already",
            key,
        ),
        Refusal::AlreadyCompleted => {
            precondition("ALREADY_COMPLETED", "the operation is completed already", key)
        }
        Refusal::LeaseLost => Status::with_error_details(
            Code::Aborted,
            "the owner token is not the one on record",
            reason("LEASE_LOST"),
        ),
        Refusal::RecordChanged => Status::with_error_details(
            Code::Aborted,
            "the record is not the one with the given fencing token",
            reason("RECORD_CHANGED"),
        ),
        Refusal::NotFound => not_found(key),
        Refusal::QuotaExceeded(kind) => {
            let (of, message) = match kind {
                QuotaKind::Keys => ("quota_keys", "the namespace's quota of keys is used up"),
                QuotaKind::Bytes => ("quota_bytes", "the namespace's quota of bytes is used up"),
            };
            let subject = format!("{}/{of}", key.namespace.as_str());
            exhausted("QUOTA_EXCEEDED", subject, message.to_owned(), LATER)
        }
    }
}

/// Nothing is on record.
pub fn not_found(key: &RecordKey) -> Status {
    let mut details = reason("RESERVATION_NOT_FOUND");
    details.set_resource_info("onced.v1.Record", resource_name(key), "", "nothing is on record");
    Status::with_error_details(Code::NotFound, "nothing is on record for the key", details)
}

/// The engine did not answer.
pub fn unanswered(error: EngineError) -> Status {
    match error {
        EngineError::Overloaded => unavailable("OVERLOADED", error.to_string(), SOON),
        EngineError::Closing => unavailable("DRAINING", error.to_string(), LATER),
        EngineError::Unavailable => unavailable("STORE_UNAVAILABLE", error.to_string(), LATER),
        EngineError::OutcomeUnknown => unavailable("OUTCOME_UNKNOWN", error.to_string(), SOON),
        EngineError::DeadlineTooShort => Status::with_error_details(
            Code::DeadlineExceeded,
            error.to_string(),
            reason("DEADLINE_TOO_SHORT"),
        ),
        EngineError::Full => {
            exhausted("STORE_FULL", "disk".to_owned(), error.to_string(), MUCH_LATER)
        }
        EngineError::AnswerTooLarge => Status::with_error_details(
            Code::ResourceExhausted,
            error.to_string(),
            reason("ANSWER_TOO_LARGE"),
        ),
        EngineError::Corrupted => {
            Status::with_error_details(Code::DataLoss, error.to_string(), reason("STORE_CORRUPTED"))
        }
    }
}

/// There is no backup.
pub fn not_backed_up(error: BackupError) -> Status {
    let message = error.to_string();
    match error {
        BackupError::Off => {
            let details = reason("BACKUPS_OFF");
            Status::with_error_details(Code::FailedPrecondition, message, details)
        }
        BackupError::Busy => unavailable("OVERLOADED", message, LATER),
        BackupError::NoRoom { .. } => {
            exhausted("STORE_FULL", "disk".to_owned(), message, MUCH_LATER)
        }
        BackupError::Failed { .. } => {
            Status::with_error_details(Code::Internal, message, reason("BACKUP_FAILED"))
        }
        BackupError::Engine(error) => unanswered(error),
    }
}

fn precondition(name: &'static str, message: &'static str, key: &RecordKey) -> Status {
    let mut details = reason(name);
    details.set_precondition_failure(vec![PreconditionViolation::new(
        name,
        resource_name(key),
        message,
    )]);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn exhausted(name: &'static str, subject: String, message: String, delay: Duration) -> Status {
    let mut details = reason(name);
    details.set_quota_failure(vec![QuotaViolation::new(subject, message.clone())]);
    details.set_retry_info(Some(delay));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn unavailable(name: &'static str, message: String, delay: Duration) -> Status {
    let mut details = reason(name);
    details.set_retry_info(Some(delay));
    let mut metadata = MetadataMap::new();
    let millis = delay.as_millis().to_string();
    metadata.insert(RETRY_PUSHBACK, millis.parse().expect("digits are ASCII"));
    Status::with_error_details_and_metadata(Code::Unavailable, message, details, metadata)
}

fn reason(name: &'static str) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(name, DOMAIN, HashMap::new());
    details
}

fn resource_name(key: &RecordKey) -> String {
    format!("{}/{}", key.namespace.as_str(), key_name(key))
}

/// The log is not one that can be changed at run time.
pub fn log_not_changeable() -> Status {
    Status::with_error_details(
        Code::FailedPrecondition,
        "the log of this process cannot be changed",
        reason("LOG_NOT_CHANGEABLE"),
    )
}

/// Enough to find the record in a log, and not enough to learn the key.
pub fn key_name(key: &RecordKey) -> String {
    digest_name(key.key.as_str())
}

/// The same for the text of a key.
///
/// The digest has no secret in it: whoever has a key can compute its name and look for it in
/// logs, traces and statuses of all servers. It hides keys that nobody could guess; that somebody
/// who can read the log guesses `order-1` and finds it confirmed is the price.
pub fn digest_name(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let mut name = "sha256:".to_owned();
    for byte in &digest[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}
