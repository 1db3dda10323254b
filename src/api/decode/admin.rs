//! From an operator's requests to listings, commands and orders.
//!
//! Operators are not held to the list of a strict server: a namespace that it refuses now may
//! have records from before, and they are for somebody to see and to end.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{BoundedResponse, Faults, Policies, Violations};
use crate::domain::{
    Command, Delete, FencingToken, ForceComplete, ForceRelease, IdempotencyKey, Namespace, Phase,
    RecordKey,
};
use crate::pb::v1;
use crate::storage::erase::EraseOrder;
use crate::storage::list::{Listing, Place};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The length of the longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 512;

/// The length of the longest name of an operator, in characters.
pub const MAX_OPERATOR_CHARS: usize = 128;

/// How many records a page holds at most, and where the request does not say.
const PAGE_SIZE: (usize, usize) = (1_000, 100);

/// The length of the longest log filter, in bytes.
const MAX_FILTER_BYTES: usize = 1_024;

/// How long a log filter may be in force that ends by itself.
const FILTER_SPAN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// The namespace that stands for all of them; no namespace has this name.
pub const ALL_NAMESPACES: &str = "*";

/// What page tokens begin with.
const TOKEN_VERSION: u8 = 1;

/// How many bytes of a page token say which listing it belongs to.
const LISTING_BYTES: usize = 8;

/// Who forces something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who, in the caller's own words.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// The listing in a ListRecordsRequest.
pub fn list(request: v1::ListRecordsRequest) -> Result<Listing, Violations> {
    let mut faults = Faults::default();
    let namespace = match request.namespace.as_str() {
        ALL_NAMESPACES => Some(None),
        _ => faults.named(request.namespace).map(Some),
    };
    if !request.key_prefix.is_empty() {
        faults.check("key_prefix", IdempotencyKey::new(request.key_prefix.clone()));
    }
    let phase = match v1::RecordState::try_from(request.state) {
        Ok(v1::RecordState::Unspecified) => Some(None),
        Ok(v1::RecordState::Held) => Some(Some(Phase::Held)),
        Ok(v1::RecordState::Lapsed) => Some(Some(Phase::Lapsed)),
        Ok(v1::RecordState::InDoubt) => Some(Some(Phase::InDoubt)),
        Ok(v1::RecordState::Released) => Some(Some(Phase::Released)),
        Ok(v1::RecordState::Completed) => Some(Some(Phase::Completed)),
        Err(unknown) => faults.refuse("state", format!("{unknown}")),
    };
    let (max, default) = PAGE_SIZE;
    let limit = match usize::try_from(request.page_size) {
        Ok(0) => default,
        Ok(size) => size.min(max),
        Err(_) => {
            faults.add("page_size", "is negative; must be 0 or more".to_owned());
            default
        }
    };
    let listing = (|| {
        let mut listing = Listing {
            namespace: namespace?,
            key_prefix: request.key_prefix,
            phase: phase?,
            limit,
            after: None,
        };
        if !request.page_token.is_empty() {
            match place(&listing, &request.page_token) {
                Some(place) => listing.after = Some(place),
                None => faults.add(
                    "page_token",
                    "is not of this listing; send the other fields as they were, or no token"
                        .to_owned(),
                ),
            }
        }
        Some(listing)
    })();
    match listing {
        Some(listing) if faults.0.is_empty() => Ok(listing),
        _ => Err(faults.0),
    }
}

/// The token for the page of `listing` that begins at `place`.
pub fn page_token(listing: &Listing, place: &Place) -> String {
    let mut bytes = vec![TOKEN_VERSION];
    bytes.extend(name_of(listing));
    bytes.extend(&place.0);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The place in a page token, if it is one of this listing.
fn place(listing: &Listing, token: &str) -> Option<Place> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (name, place) = rest.split_first_chunk::<LISTING_BYTES>()?;
    let is_ours = *version == TOKEN_VERSION && *name == name_of(listing) && !place.is_empty();
    is_ours.then(|| Place(place.to_vec()))
}

/// What tells a listing from others: everything but how large its pages are and where they
/// begin.
fn name_of(listing: &Listing) -> [u8; LISTING_BYTES] {
    let Listing { namespace, key_prefix, phase, limit: _, after: _ } = listing;
    let namespace = namespace.as_ref().map_or(ALL_NAMESPACES, Namespace::as_str);
    let text = format!("{namespace}\n{key_prefix}\n{phase:?}");
    let digest: [u8; 32] = Sha256::digest(text).into();
    *digest.first_chunk().expect("a digest is longer")
}

/// The command in a ForceReleaseRequest.
pub fn force_release(
    request: v1::ForceReleaseRequest,
) -> Result<(RecordKey, (Command, Account)), Violations> {
    let mut faults = Faults::default();
    let key = faults.any_record_key(request.namespace, request.key);
    let fencing_token = faults.seen(request.fencing_token);
    let account = faults.account(request.operator, request.reason);
    let command = Command::ForceRelease(ForceRelease { fencing_token });
    faults.unless_any(key, Some((command, account)))
}

/// The command in a ForceCompleteRequest, bounded as a completion by the owner would be.
pub fn force_complete(
    request: v1::ForceCompleteRequest,
    policies: &Policies,
) -> Result<(RecordKey, (Command, Account)), Violations> {
    let mut faults = Faults::default();
    let key = faults.any_record_key(request.namespace, request.key);
    let fencing_token = faults.seen(request.fencing_token);
    let account = faults.account(request.operator, request.reason);
    let result = faults.result(request.result);
    let retention = faults.span("retention", request.retention);
    let namespace = key.as_ref().map(|key| &key.namespace);
    let limits = policies.describe(namespace.unwrap_or(&Namespace::default())).policy.limits;
    let bounded =
        BoundedResponse::of(request.response.unwrap_or_default(), limits.max_response_bytes);
    let command = result.map(|result| {
        Command::ForceComplete(ForceComplete {
            fencing_token,
            result,
            response: bounded.response,
            response_omitted: bounded.omitted,
            response_digest: bounded.digest,
            response_size_bytes: bounded.size_bytes,
            retention: limits.retention.settle(retention),
        })
    });
    faults.unless_any(key, command.map(|command| (command, account)))
}

/// The command in a DeleteRecordRequest.
pub fn delete_record(
    request: v1::DeleteRecordRequest,
) -> Result<(RecordKey, (Command, Account)), Violations> {
    let mut faults = Faults::default();
    let key = faults.any_record_key(request.namespace, request.key);
    let fencing_token = faults.seen(request.fencing_token);
    let account = faults.account(request.operator, request.reason);
    let command = Command::Delete(Delete { fencing_token });
    faults.unless_any(key, Some((command, account)))
}

/// The order in an EraseNamespaceRequest. A namespace that is not named is not erased.
pub fn erase_namespace(request: v1::EraseNamespaceRequest) -> Result<EraseOrder, Violations> {
    let mut faults = Faults::default();
    let namespace = faults.check("namespace", Namespace::new(request.namespace));
    let account = faults.account(request.operator, request.reason);
    let id = match Uuid::parse_str(&request.erase_id) {
        Ok(id) if !id.is_nil() => Some(id),
        Ok(_) => faults.refuse("erase_id", "is the nil UUID; must be a random one".to_owned()),
        Err(_) if request.erase_id.is_empty() => Some(Uuid::new_v4()),
        Err(_) => faults
            .refuse("erase_id", format!("has {} bytes and is not a UUID", request.erase_id.len())),
    };
    match (namespace, id) {
        (Some(namespace), Some(id)) if faults.0.is_empty() => {
            let Account { operator, reason } = account;
            Ok(EraseOrder { namespace, id, operator, reason })
        }
        _ => Err(faults.0),
    }
}

/// Who asks for a backup in a CreateBackupRequest. It changes nothing on record, so nobody has
/// to say why.
pub fn create_backup(request: v1::CreateBackupRequest) -> Result<Account, Violations> {
    let mut faults = Faults::default();
    let v1::CreateBackupRequest { reason, operator } = request;
    faults.text("reason", &reason, 0..=MAX_REASON_CHARS);
    faults.text("operator", &operator, 1..=MAX_OPERATOR_CHARS);
    match faults.0.is_empty() {
        true => Ok(Account { operator, reason }),
        false => Err(faults.0),
    }
}

/// The namespace in a DescribeNamespaceRequest.
pub fn describe_namespace(request: v1::DescribeNamespaceRequest) -> Result<Namespace, Violations> {
    let mut faults = Faults::default();
    match faults.named(request.namespace) {
        Some(namespace) => Ok(namespace),
        None => Err(faults.0),
    }
}

/// What is to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The directives; empty for those of the settings.
    pub directives: String,
    /// How long; `None` until the next change.
    pub duration: Option<Duration>,
}

/// The filter in a SetLogFilterRequest.
pub fn set_log_filter(
    request: v1::SetLogFilterRequest,
) -> Result<(LogFilter, Account), Violations> {
    let mut faults = Faults::default();
    if request.filter.len() > MAX_FILTER_BYTES {
        let bytes = request.filter.len();
        faults.add("filter", format!("has {bytes} bytes; must have at most {MAX_FILTER_BYTES}"));
    } else if request.filter.contains(['[', '{']) {
        // There are no spans in this log; and a pattern for their fields, compiled, may take any
        // amount of memory.
        let shown = "names spans or fields; give a level or MODULE=LEVEL".to_owned();
        faults.add("filter", shown);
    } else if !request.filter.is_empty()
        && let Err(problem) = crate::log::filter(&request.filter)
    {
        let shown = format!("\"{}\" {problem}; give a level or MODULE=LEVEL", request.filter);
        faults.add("filter", shown);
    }
    let (min, max) = FILTER_SPAN;
    let duration = faults.span("duration", request.duration);
    let duration = duration.map(|span| span.to_std().clamp(min, max));
    let account = faults.account(request.operator, request.reason);
    match faults.0.is_empty() {
        true => Ok((LogFilter { directives: request.filter, duration }, account)),
        false => Err(faults.0),
    }
}

impl Faults {
    /// The key, in whatever namespace.
    fn any_record_key(&mut self, namespace: String, key: String) -> Option<RecordKey> {
        let namespace = self.named(namespace);
        let key = self.check("key", IdempotencyKey::new(key));
        Some(RecordKey { namespace: namespace?, key: key? })
    }

    fn account(&mut self, operator: String, reason: String) -> Account {
        self.text("reason", &reason, 1..=MAX_REASON_CHARS);
        self.text("operator", &operator, 1..=MAX_OPERATOR_CHARS);
        Account { operator, reason }
    }

    /// The fencing token that an operator has seen; 0 is none.
    fn seen(&mut self, number: i64) -> Option<FencingToken> {
        match number {
            0 => None,
            _ => FencingToken::new(number).or_else(|| {
                self.refuse("fencing_token", "is negative; must be 0 or more".to_owned())
            }),
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
