//! From requests to commands: the edge at which bad input is met.
//!
//! Every fault of a request is reported at once, with its field, what is wrong with it and
//! the bound. Spans are settled here, by the policy of the request's namespace, so that a
//! command means the same wherever it is applied.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::policy::{Policies, Policy};
use crate::domain::{
    Command, Complete, Fingerprint, IdempotencyKey, LeaseExpiryAction, Namespace, Outcome,
    OwnerToken, RecordKey, Release, Renew, Reserve, Response, Span, SpanBounds,
};
use crate::pb::v1;

/// The length of the longest holder, in characters.
pub const MAX_HOLDER_CHARS: usize = 128;

/// The size of the largest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 64 << 10;

/// The header in which a caller says how long it will wait.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What requests are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The length of a lease.
    pub lease: SpanBounds,
    /// How long completions are kept; the default also for what ends without one.
    pub retention: SpanBounds,
    /// What becomes of a reservation whose caller did not say.
    pub lease_expiry_action: LeaseExpiryAction,
    /// How long a call may wait for somebody else's reservation.
    pub wait_max: Span,
    /// The size of the largest stored response: payload, content type and metadata together,
    /// in bytes.
    pub max_response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: SpanBounds::LEASE,
            retention: SpanBounds::RETENTION,
            lease_expiry_action: LeaseExpiryAction::default(),
            wait_max: Span::from_secs(60),
            max_response_bytes: 1 << 20,
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field.
    pub field: &'static str,
    /// What is wrong with its value, and the bound. It never quotes keys, tokens or payloads.
    pub description: String,
}

/// Everything that is wrong with a request.
pub type Violations = Vec<Violation>;

/// The command in a ReserveRequest, and how long its caller waits.
pub fn reserve(
    request: v1::ReserveRequest,
    policies: &Policies,
) -> Result<(RecordKey, Command, Span), Violations> {
    let mut faults = Faults::default();
    let (key, policy) = faults.record_key(request.namespace, request.key, policies);
    let limits = &policy.limits;
    if policy.fingerprint_required && request.fingerprint.is_empty() {
        faults.add("fingerprint", "is empty; this namespace requires one".to_owned());
    }
    let fingerprint = faults.check("fingerprint", Fingerprint::new(request.fingerprint));
    let owner_token = if request.owner_token.is_empty() {
        Some(OwnerToken::from_bytes(Uuid::new_v4().into_bytes()))
    } else {
        faults.owner_token(&request.owner_token)
    };
    let lease = faults.span("lease", request.lease);
    let lease_expiry_action = match v1::LeaseExpiryAction::try_from(request.lease_expiry_action) {
        Ok(v1::LeaseExpiryAction::Unspecified) => Some(limits.lease_expiry_action),
        Ok(v1::LeaseExpiryAction::Takeover) => Some(LeaseExpiryAction::Takeover),
        Ok(v1::LeaseExpiryAction::Hold) => Some(LeaseExpiryAction::Hold),
        Err(unknown) => faults.refuse("lease_expiry_action", format!("{unknown}")),
    };
    let wait = faults.wait(request.wait_timeout, limits);
    faults.text("holder", &request.holder, 0..=MAX_HOLDER_CHARS);
    let command = (|| {
        Some(Command::Reserve(Reserve {
            fingerprint: fingerprint?,
            owner_token: owner_token?,
            lease: limits.lease.settle(lease),
            lease_expiry_action: lease_expiry_action?,
            retention: limits.retention.default,
            retry_failed: request.retry_failed,
            holder: request.holder,
        }))
    })();
    faults.unless_any(key, command).map(|(key, command)| (key, command, wait))
}

/// The command in a ReserveRequest that is an item of a batch, which does not wait: the answers
/// to all of its items come at once.
pub fn batched_reserve(
    request: v1::ReserveRequest,
    policies: &Policies,
) -> Result<(RecordKey, Command), Violations> {
    let waits = request.wait_timeout.is_some_and(|wait| wait.seconds > 0 || wait.nanos > 0);
    let mut decoded = reserve(request, policies);
    if waits {
        let field = "wait_timeout";
        let description = "is more than 0; an item of a batch does not wait".to_owned();
        let mut faults = decoded.err().unwrap_or_default();
        if !faults.iter().any(|fault| fault.field == field) {
            faults.push(Violation { field, description });
        }
        decoded = Err(faults);
    }
    decoded.map(|(key, command, _)| (key, command))
}

/// The command in a CompleteRequest.
pub fn complete(
    request: v1::CompleteRequest,
    policies: &Policies,
) -> Result<(RecordKey, Command), Violations> {
    let mut faults = Faults::default();
    let (key, Policy { limits, .. }) = faults.record_key(request.namespace, request.key, policies);
    let owner_token = faults.owner_token(&request.owner_token);
    let result = faults.result(request.result);
    let retention = faults.span("retention", request.retention);
    let command = (|| {
        let bounded =
            BoundedResponse::of(request.response.unwrap_or_default(), limits.max_response_bytes);
        Some(Command::Complete(Complete {
            owner_token: owner_token?,
            result: result?,
            response: bounded.response,
            response_omitted: bounded.omitted,
            response_digest: bounded.digest,
            response_size_bytes: bounded.size_bytes,
            retention: limits.retention.settle(retention),
        }))
    })();
    faults.unless_any(key, command)
}

/// What is stored of a response. A completion never fails because of size: the work is done.
/// Past the bound only result, status code, size and digest are stored.
struct BoundedResponse {
    response: Response,
    omitted: bool,
    digest: [u8; 32],
    size_bytes: u64,
}

impl BoundedResponse {
    fn of(response: v1::Response, max_response_bytes: usize) -> Self {
        let metadata_bytes: usize =
            response.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = response.payload.len() + response.content_type.len() + metadata_bytes;
        let omitted = bytes > max_response_bytes;
        let digest = Sha256::digest(&response.payload).into();
        let size_bytes = response.payload.len() as u64;
        let status_code = response.status_code;
        let response = if omitted {
            Response { status_code, ..Response::default() }
        } else {
            Response {
                payload: response.payload,
                content_type: response.content_type,
                status_code,
                metadata: response.metadata.into_iter().collect(),
            }
        };
        Self { response, omitted, digest, size_bytes }
    }
}

/// The command in a ReleaseRequest.
pub fn release(
    request: v1::ReleaseRequest,
    policies: &Policies,
) -> Result<(RecordKey, Command), Violations> {
    let mut faults = Faults::default();
    let (key, _) = faults.record_key(request.namespace, request.key, policies);
    let owner_token = faults.owner_token(&request.owner_token);
    let command = owner_token.map(|owner_token| Command::Release(Release { owner_token }));
    faults.unless_any(key, command)
}

/// The command in a RenewRequest.
pub fn renew(
    request: v1::RenewRequest,
    policies: &Policies,
) -> Result<(RecordKey, Command), Violations> {
    let mut faults = Faults::default();
    let (key, Policy { limits, .. }) = faults.record_key(request.namespace, request.key, policies);
    let owner_token = faults.owner_token(&request.owner_token);
    let lease = faults.span("lease", request.lease);
    let bytes = request.checkpoint.as_ref().map_or(0, Vec::len);
    if bytes > MAX_CHECKPOINT_BYTES {
        faults
            .add("checkpoint", format!("has {bytes} bytes; must have 0 to {MAX_CHECKPOINT_BYTES}"));
    }
    let command = owner_token.map(|owner_token| {
        Command::Renew(Renew {
            owner_token,
            lease: limits.lease.settle(lease),
            checkpoint: request.checkpoint,
        })
    });
    faults.unless_any(key, command)
}

/// The key in a LookupRequest, and how long its caller waits.
pub fn lookup(
    request: v1::LookupRequest,
    policies: &Policies,
) -> Result<(RecordKey, Span), Violations> {
    let mut faults = Faults::default();
    let (key, policy) = faults.record_key(request.namespace, request.key, policies);
    let wait = faults.wait(request.wait_timeout, &policy.limits);
    faults.unless_any(key, Some(wait))
}

/// How long the caller will wait, as the header `grpc-timeout` has it: up to eight digits and
/// a unit. `None` where it is absent or malformed.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The faults of one request, as they are found. Each check returns `None` for what it
/// refused, so that one pass finds them all.
#[derive(Default)]
struct Faults(Violations);

impl Faults {
    fn add(&mut self, field: &'static str, description: String) {
        self.0.push(Violation { field, description });
    }

    fn refuse<T>(&mut self, field: &'static str, description: String) -> Option<T> {
        self.add(field, description);
        None
    }

    fn check<T, E: ToString>(&mut self, field: &'static str, checked: Result<T, E>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(error) => self.refuse(field, error.to_string()),
        }
    }

    /// The key, and what applies in its namespace.
    fn record_key<'p>(
        &mut self,
        namespace: String,
        key: String,
        policies: &'p Policies,
    ) -> (Option<RecordKey>, &'p Policy) {
        let (namespace, policy) = match self.namespace(namespace, policies) {
            Some((namespace, policy)) => (Some(namespace), policy),
            None => (None, policies.of_others()),
        };
        let key = self.check("key", IdempotencyKey::new(key));
        let record_key = (|| Some(RecordKey { namespace: namespace?, key: key? }))();
        (record_key, policy)
    }

    /// The namespace with this name; the empty one is the default.
    fn named(&mut self, name: String) -> Option<Namespace> {
        match name.is_empty() {
            true => Some(Namespace::default()),
            false => self.check("namespace", Namespace::new(name)),
        }
    }

    /// The namespace, if it is one that is served.
    fn namespace<'p>(
        &mut self,
        name: String,
        policies: &'p Policies,
    ) -> Option<(Namespace, &'p Policy)> {
        let namespace = self.named(name)?;
        match policies.of(&namespace) {
            Some(policy) => Some((namespace, policy)),
            // Which ones are listed is not everybody's business.
            None => self.refuse(
                "namespace",
                "is not listed by this server, which takes listed ones only".to_owned(),
            ),
        }
    }

    fn owner_token(&mut self, text: &str) -> Option<OwnerToken> {
        match Uuid::parse_str(text) {
            Ok(uuid) if !uuid.is_nil() => Some(OwnerToken::from_bytes(uuid.into_bytes())),
            Ok(_) => self.refuse("owner_token", "is the nil UUID; must be a random one".to_owned()),
            Err(_) if text.is_empty() => {
                self.refuse("owner_token", "is empty; must be a UUID".to_owned())
            }
            Err(_) => {
                self.refuse("owner_token", format!("has {} bytes and is not a UUID", text.len()))
            }
        }
    }

    fn span(&mut self, field: &'static str, span: Option<prost_types::Duration>) -> Option<Span> {
        let prost_types::Duration { seconds, nanos } = span?;
        if !(-999_999_999..=999_999_999).contains(&nanos) {
            return self.refuse(field, format!("has {nanos} nanos; must have 0 to 999999999"));
        }
        if seconds < 0 || nanos < 0 {
            return self.refuse(field, "is negative; must be 0 or more".to_owned());
        }
        let millis = seconds.saturating_mul(1_000).saturating_add(i64::from(nanos) / 1_000_000);
        Some(Span::from_millis(millis))
    }

    fn wait(&mut self, wait_timeout: Option<prost_types::Duration>, limits: &Limits) -> Span {
        self.span("wait_timeout", wait_timeout).unwrap_or_default().min(limits.wait_max)
    }

    fn result(&mut self, result: i32) -> Option<Outcome> {
        match v1::Result::try_from(result) {
            Ok(v1::Result::Succeeded) => Some(Outcome::Succeeded),
            Ok(v1::Result::Failed) => Some(Outcome::Failed),
            Ok(v1::Result::Unspecified) => {
                self.refuse("result", "must be RESULT_SUCCEEDED or RESULT_FAILED".to_owned())
            }
            Err(unknown) => self.refuse("result", format!("{unknown}")),
        }
    }

    /// Text for people: of so many characters, none of them a control character.
    fn text(&mut self, field: &'static str, text: &str, chars: RangeInclusive<usize>) {
        let (min, max) = (chars.start(), chars.end());
        let count = text.chars().count();
        if !chars.contains(&count) {
            self.add(field, format!("has {count} characters; must have {min} to {max}"));
        }
        if let Some(at) = text.chars().position(char::is_control) {
            self.add(field, format!("character {at} is a control character"));
        }
    }

    fn unless_any<T>(
        self,
        key: Option<RecordKey>,
        rest: Option<T>,
    ) -> Result<(RecordKey, T), Violations> {
        match (key, rest) {
            (Some(key), Some(rest)) if self.0.is_empty() => Ok((key, rest)),
            _ => Err(self.0),
        }
    }
}

pub mod admin;

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
