//! A call that failed, for people and as JSON: what happened, the reason that onced gives,
//! and which fields or preconditions stood against it.
//!
//! As JSON it is `{"error": {"code", "reason", "message", "violations": [{"subject",
//! "description"}], "retry_delay_ms", "owner_token"}}`; `reason` is `null` where the status
//! did not come from onced.

use std::error::Error;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Exit, print, text};

/// Why a command has no answer.
pub(super) enum Failure {
    /// An argument is wrong in a way that shows only when it is used, such as a file that
    /// cannot be read.
    Usage(String),
    /// The call failed.
    Call {
        /// How.
        status: Box<Status>,
        /// The owner token of a Reserve that may have been granted all the same.
        owner_token: Option<String>,
    },
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call { status: Box::new(status), owner_token: None }
    }
}

impl Failure {
    /// Prints the failure, and says which exit it is.
    pub(super) fn report(&self, json: bool) -> Exit {
        match self {
            _ if json => print::answer(&self.to_json(), true),
            _ => print::complain(&self.to_text()),
        }
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Call { status, .. } => Exit::of(status),
        }
    }

    pub(super) fn to_text(&self) -> String {
        let (status, owner_token) = match self {
            Self::Usage(problem) => return format!("onced: {problem}"),
            Self::Call { status, owner_token } => (status, owner_token),
        };
        let mut lines = format!("onced: {}", describe(status));
        for (subject, description) in violations(status) {
            let _ = write!(lines, "\n  {}: {}", text::shown(&subject), text::shown(&description));
        }
        if let Some(owner_token) = owner_token {
            let _ = write!(
                lines,
                "\nIf a try was granted and only its answer was lost, the same call finds it with\n  \
                 --owner-token {owner_token}"
            );
        }
        lines
    }

    pub(super) fn to_json(&self) -> Value {
        let (status, owner_token) = match self {
            Self::Usage(problem) => {
                return json!({ "error": { "code": "INVALID_ARGUMENT", "reason": null,
                    "message": problem, "violations": [], "retry_delay_ms": null,
                    "owner_token": null } });
            }
            Self::Call { status, owner_token } => (status, owner_token),
        };
        let violations: Vec<_> = violations(status)
            .into_iter()
            .map(|(subject, description)| json!({ "subject": subject, "description": description }))
            .collect();
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        json!({ "error": {
            "code": code_name(status.code()),
            "reason": reason(status),
            "message": message(status),
            "violations": violations,
            "retry_delay_ms": delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            "owner_token": owner_token,
        } })
    }
}

/// One line about `status`: its message, its code, and the reason that onced gives.
pub(super) fn describe(status: &Status) -> String {
    let message = text::shown(&message(status));
    let code = code_name(status.code());
    match reason(status) {
        Some(reason) => format!("{message} ({code}, {})", text::shown(&reason)),
        None => format!("{message} ({code})"),
    }
}

/// The reason of a status that came from onced.
pub(super) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The message of `status`. Where the transport failed, the last cause says most.
fn message(status: &Status) -> String {
    let mut cause: Option<&dyn Error> = status.source();
    let mut last = String::new();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    match status.message() {
        "" if last.is_empty() => status.code().description().to_owned(),
        "" => last,
        message if last.is_empty() || last == message => message.to_owned(),
        message => format!("{message}: {last}"),
    }
}

fn violations(status: &Status) -> Vec<(String, String)> {
    let mut violations = Vec::new();
    let details = status.get_error_details();
    for violation in details.bad_request().iter().flat_map(|fault| &fault.field_violations) {
        violations.push((violation.field.clone(), violation.description.clone()));
    }
    for violation in details.precondition_failure().iter().flat_map(|fault| &fault.violations) {
        violations.push((violation.subject.clone(), violation.description.clone()));
    }
    for violation in details.quota_failure().iter().flat_map(|fault| &fault.violations) {
        violations.push((violation.subject.clone(), violation.description.clone()));
    }
    if let Some(resource) = details.resource_info() {
        violations.push((resource.resource_name.clone(), resource.description.clone()));
    }
    violations
}

/// The name of `code` as gRPC writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
