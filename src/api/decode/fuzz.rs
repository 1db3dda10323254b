//! Messages as they may arrive: each becomes a command within all bounds, or a list of faults
//! that quotes no secret.

use bolero::TypeGenerator;
use prost::Message;

use super::*;
use crate::fuzz::{Harm, Tally, Text, time};

/// What the fields of any request may be.
#[derive(Clone, Debug, TypeGenerator)]
struct Draft {
    namespace: Option<Text>,
    key: Text,
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..70_usize))]
    fingerprint: Vec<u8>,
    owner_token: Token,
    span: Option<Duration>,
    #[generator(-1..4_i32)]
    choice: i32,
    retry_failed: bool,
    holder: Text,
    checkpoint: Option<u32>,
    response: Option<Answer>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Token {
    Uuid([u8; 16]),
    Absent,
    Text(Text),
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Duration {
    Likely(#[generator(0..100_000_i64)] i64, #[generator(0..1_000_000_000_i32)] i32),
    Any(i64, i32),
}

#[derive(Clone, Debug, TypeGenerator)]
struct Answer {
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..80_usize))]
    payload: Vec<u8>,
    content_type: Text,
    status_code: i32,
    #[generator(bolero::produce_with::<Vec<(Text, Text)>>().len(0..3_usize))]
    metadata: Vec<(Text, Text)>,
}

impl Draft {
    fn namespace(&self) -> String {
        self.namespace.as_ref().map(Text::to_text).unwrap_or_default()
    }

    fn owner_token(&self) -> String {
        match &self.owner_token {
            Token::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string(),
            Token::Absent => String::new(),
            Token::Text(text) => text.to_text(),
        }
    }

    fn span(&self) -> Option<prost_types::Duration> {
        self.span.map(|span| match span {
            Duration::Likely(seconds, nanos) | Duration::Any(seconds, nanos) => {
                prost_types::Duration { seconds, nanos }
            }
        })
    }

    fn reserve(&self) -> Vec<u8> {
        v1::ReserveRequest {
            namespace: self.namespace(),
            key: self.key.to_text(),
            fingerprint: self.fingerprint.clone(),
            owner_token: self.owner_token(),
            lease: self.span(),
            lease_expiry_action: self.choice,
            wait_timeout: self.span(),
            retry_failed: self.retry_failed,
            holder: self.holder.to_text(),
        }
        .encode_to_vec()
    }

    fn complete(&self) -> Vec<u8> {
        v1::CompleteRequest {
            namespace: self.namespace(),
            key: self.key.to_text(),
            owner_token: self.owner_token(),
            result: self.choice,
            response: self.response.as_ref().map(Answer::message),
            retention: self.span(),
        }
        .encode_to_vec()
    }

    fn renew(&self) -> Vec<u8> {
        // A byte for each bit is enough to be above the bound, now and then.
        let checkpoint = |bits: u32| vec![7; (MAX_CHECKPOINT_BYTES >> (bits % 8)) + 1];
        v1::RenewRequest {
            namespace: self.namespace(),
            key: self.key.to_text(),
            owner_token: self.owner_token(),
            lease: self.span(),
            checkpoint: self.checkpoint.map(checkpoint),
        }
        .encode_to_vec()
    }

    fn release(&self) -> Vec<u8> {
        v1::ReleaseRequest {
            namespace: self.namespace(),
            key: self.key.to_text(),
            owner_token: self.owner_token(),
        }
        .encode_to_vec()
    }

    fn lookup(&self) -> Vec<u8> {
        v1::LookupRequest {
            namespace: self.namespace(),
            key: self.key.to_text(),
            wait_timeout: self.span(),
        }
        .encode_to_vec()
    }
}

impl Answer {
    fn message(&self) -> v1::Response {
        let named = |(name, value): &(Text, Text)| (name.to_text(), value.to_text());
        v1::Response {
            payload: self.payload.clone(),
            content_type: self.content_type.to_text(),
            status_code: self.status_code,
            metadata: self.metadata.iter().map(named).collect(),
        }
    }
}

#[derive(Clone, Debug, TypeGenerator)]
struct Input {
    draft: Draft,
    harm: Option<Harm>,
}

/// So small that some responses are above it.
const LIMIT: usize = 100;

fn policies() -> Policies {
    Policies::from(Limits { max_response_bytes: LIMIT, ..Limits::default() })
}

/// Damages `bytes`, lets prost read them, and decodes what comes out of it.
fn arrive<M: Message + Default + Clone, T: Checked>(
    mut bytes: Vec<u8>,
    harm: Option<&Harm>,
    key: impl Fn(&M) -> &str,
    decode: impl Fn(M, &Policies) -> Result<T, Violations>,
) -> bool {
    if let Some(harm) = harm {
        harm.apply(&mut bytes);
    }
    let Ok(request) = M::decode(bytes.as_slice()) else { return false };
    match decode(request.clone(), &policies()) {
        Ok(decoded) => {
            decoded.check();
            true
        }
        Err(violations) => {
            assert!(!violations.is_empty());
            for Violation { field, description } in violations {
                assert!(!field.is_empty() && description.len() < 100, "{field} {description}");
                let key = key(&request);
                assert!(key.len() < 12 || !description.contains(key), "{field} {description}");
            }
            false
        }
    }
}

/// What has to hold for everything that the edge lets in.
trait Checked {
    fn check(&self);
}

impl Checked for RecordKey {
    fn check(&self) {
        assert!((1..=63).contains(&self.namespace.as_str().len()));
        assert!((1..=255).contains(&self.key.as_str().len()));
        assert!(self.key.as_str().bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
    }
}

/// What waits, and how long.
impl<T: Checked> Checked for (T, Span) {
    fn check(&self) {
        self.0.check();
        assert!(self.1 <= Limits::default().wait_max);
    }
}

impl Checked for (RecordKey, Command) {
    fn check(&self) {
        self.0.check();
        let within = |span: Span, bounds: SpanBounds| bounds.min <= span && span <= bounds.max;
        match &self.1 {
            Command::Reserve(reserve) => {
                assert!(within(reserve.lease, SpanBounds::LEASE));
                assert!(within(reserve.retention, SpanBounds::RETENTION));
                assert!(reserve.fingerprint.as_bytes().len() <= 64);
                assert!(reserve.holder.chars().count() <= MAX_HOLDER_CHARS);
                assert!(!reserve.holder.chars().any(char::is_control));
            }
            Command::Complete(complete) => {
                assert!(within(complete.retention, SpanBounds::RETENTION));
                let Response { payload, content_type, metadata, .. } = &complete.response;
                let metadata: usize =
                    metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
                assert!(payload.len() + content_type.len() + metadata <= LIMIT);
                if !complete.response_omitted {
                    assert_eq!(complete.response_size_bytes, payload.len() as u64);
                    assert_eq!(complete.response_digest, *Sha256::digest(payload));
                }
            }
            Command::Renew(renew) => {
                assert!(within(renew.lease, SpanBounds::LEASE));
                assert!(renew.checkpoint.as_ref().map_or(0, Vec::len) <= MAX_CHECKPOINT_BYTES);
            }
            Command::Release(_) => {}
            Command::ForceRelease(_) | Command::ForceComplete(_) | Command::Delete(_) => {
                unreachable!("a caller forces nothing")
            }
        }
    }
}

#[test]
fn a_request_becomes_a_command_within_all_bounds_or_a_list_of_faults() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<Input>().with_test_time(time()).for_each(
        |Input { draft, harm }| {
            let harm = harm.as_ref();
            let waiting = |it, policies: &Policies| {
                reserve(it, policies).map(|(key, command, wait)| ((key, command), wait))
            };
            TALLY.count(arrive(draft.reserve(), harm, |it: &v1::ReserveRequest| &it.key, waiting));
            TALLY.count(arrive(
                draft.complete(),
                harm,
                |it: &v1::CompleteRequest| &it.key,
                complete,
            ));
            TALLY.count(arrive(draft.renew(), harm, |it: &v1::RenewRequest| &it.key, renew));
            TALLY.count(arrive(draft.release(), harm, |it: &v1::ReleaseRequest| &it.key, release));
            TALLY.count(arrive(draft.lookup(), harm, |it: &v1::LookupRequest| &it.key, lookup));
        },
    );
    TALLY.report("requests on the wire");
}

/// The header is the caller's as well.
#[test]
fn a_timeout_is_read_or_ignored() {
    static TALLY: Tally = Tally::new();
    bolero::check!().with_type::<(u32, u8, Option<Text>)>().with_test_time(time()).for_each(
        |(number, unit, text)| {
            let unit = char::from(b"HMSmun?"[usize::from(*unit) % 7]);
            let header = text.as_ref().map_or_else(|| format!("{number}{unit}"), Text::to_text);
            let Ok(header) = header.parse() else { return };
            let read = timeout(&[(TIMEOUT, header)].into_iter().collect());
            TALLY.count(read.is_some());
            assert!(read.is_none_or(|read| read.as_secs() <= 99_999_999 * 3_600));
        },
    );
    TALLY.report("the header grpc-timeout");
}
