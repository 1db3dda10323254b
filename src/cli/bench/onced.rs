//! The requests of onced's own service, made once and then only given other numbers, and what
//! its answers say.

use prost::Message;

use super::call::{Answer, BATCH_ITEMS, Call, Messages, Step};
use super::keys::{FINGERPRINT_BYTES, KEY_BYTES, Keys};
use super::protobuf::Fields;
use crate::pb::v1::{
    BatchReserveRequest, CompleteRequest, LookupRequest, ReleaseRequest, ReserveRequest, Response,
    Result as OperationResult,
};
use crate::server::NOOP_PATH;

const NAMESPACE: &str = "bench";

/// What stands for a key, an owner token and a fingerprint until a call is written.
const KEY: [u8; KEY_BYTES] = [b'K'; KEY_BYTES];
const OWNER_TOKEN: [u8; KEY_BYTES] = [b'T'; KEY_BYTES];
const FINGERPRINT: [u8; FINGERPRINT_BYTES] = [0xf1; FINGERPRINT_BYTES];

/// What a stored response is filled with.
const FILLING: u8 = b'x';

/// How long a key stays held that others are to find so; a server may cut it.
const LONG_LEASE_SECONDS: i64 = 24 * 60 * 60;

/// The messages of a run.
pub struct Onced {
    keys: Keys,
    payload: Vec<u8>,
    reserve: Template,
    hold: Template,
    complete: Template,
    release: Template,
    lookup: Template,
    batch: Template,
}

/// A request, and where in it each of its items has its key, owner token and fingerprint.
struct Template {
    bytes: Vec<u8>,
    items: Vec<Places>,
}

#[derive(Clone, Copy)]
struct Places {
    key: usize,
    owner_token: Option<usize>,
    fingerprint: Option<usize>,
}

impl Onced {
    /// With these keys, responses of so many bytes, and completions that are kept so long.
    pub fn new(keys: Keys, response_bytes: usize, retention_seconds: i64) -> Self {
        let key = || String::from_utf8(KEY.to_vec()).expect("ASCII");
        let owner_token = || String::from_utf8(OWNER_TOKEN.to_vec()).expect("ASCII");
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let reserve = ReserveRequest {
            namespace: NAMESPACE.into(),
            key: key(),
            owner_token: owner_token(),
            fingerprint: FINGERPRINT.to_vec(),
            ..ReserveRequest::default()
        };
        let hold = ReserveRequest { lease: seconds(LONG_LEASE_SECONDS), ..reserve.clone() };
        let payload = vec![FILLING; response_bytes];
        let complete = CompleteRequest {
            namespace: NAMESPACE.into(),
            key: key(),
            owner_token: owner_token(),
            result: OperationResult::Succeeded.into(),
            response: Some(Response {
                payload: payload.clone(),
                content_type: "text/plain".into(),
                ..Response::default()
            }),
            retention: seconds(retention_seconds),
        };
        let release =
            ReleaseRequest { namespace: NAMESPACE.into(), key: key(), owner_token: owner_token() };
        let lookup = LookupRequest { namespace: NAMESPACE.into(), key: key(), wait_timeout: None };
        let items = vec![reserve.clone(); BATCH_ITEMS as usize];
        Self {
            keys,
            payload,
            reserve: Template::of(&reserve),
            hold: Template::of(&hold),
            complete: Template::of(&complete),
            release: Template::of(&release),
            lookup: Template::of(&lookup),
            batch: Template::of(&BatchReserveRequest { items }),
        }
    }

    fn template(&self, step: Step) -> &Template {
        match step {
            // The no-op call is sent the bytes of a Reserve.
            Step::Reserve | Step::Duplicate | Step::Replay | Step::Compete | Step::Noop => {
                &self.reserve
            }
            Step::Hold => &self.hold,
            Step::Complete => &self.complete,
            Step::Release => &self.release,
            Step::Lookup => &self.lookup,
            Step::Batch => &self.batch,
        }
    }

    /// Whether a message has the completion that was stored in this field.
    fn completion(&self, message: &[u8], field: u64) -> Option<Answer> {
        let completion = Fields(message).bytes(field)?;
        let payload = Fields(completion).bytes(2).and_then(|response| Fields(response).bytes(1));
        Some(if payload.unwrap_or_default() == self.payload {
            Answer::Completed
        } else {
            Answer::Wrong("the stored response is another one")
        })
    }

    fn reserved(&self, answer: &[u8]) -> Option<Answer> {
        match Fields(answer).next()?.0 {
            1 => Some(Answer::Granted),
            2 => Some(Answer::InProgress),
            3 => self.completion(answer, 3),
            4 => Some(Answer::Wrong("it is in doubt")),
            _ => None,
        }
    }

    fn batch(&self, answer: &[u8]) -> Option<Answer> {
        let mut granted = 0;
        for (_, item) in Fields(answer) {
            let super::protobuf::Value::Bytes(item) = item else { return None };
            match Fields(item).bytes(1).and_then(|response| self.reserved(response)) {
                Some(Answer::Granted) => granted += 1,
                _ => return Some(Answer::Wrong("an item was not granted")),
            }
        }
        let all = granted == BATCH_ITEMS;
        Some(if all { Answer::Granted } else { Answer::Wrong("items are missing") })
    }
}

impl Messages for Onced {
    fn path(&self, step: Step) -> &'static str {
        match step {
            Step::Reserve | Step::Hold | Step::Duplicate | Step::Replay | Step::Compete => {
                "/onced.v1.IdempotencyService/Reserve"
            }
            Step::Complete => "/onced.v1.IdempotencyService/Complete",
            Step::Release => "/onced.v1.IdempotencyService/Release",
            Step::Lookup => "/onced.v1.IdempotencyService/Lookup",
            Step::Batch => "/onced.v1.IdempotencyService/BatchReserve",
            Step::Noop => NOOP_PATH,
        }
    }

    fn write(&self, call: &Call, request: &mut Vec<u8>) {
        self.template(call.step).write(self.keys, call.key, call.owner, request);
    }

    fn read(&self, call: &Call, answer: &[u8]) -> Answer {
        let answer = match call.step {
            Step::Reserve | Step::Hold | Step::Duplicate | Step::Replay | Step::Compete => {
                self.reserved(answer)
            }
            Step::Complete => self.completion(answer, 1),
            Step::Lookup => Fields(answer).bytes(1).and_then(|record| self.completion(record, 9)),
            Step::Release => Fields(answer).bytes(1).map(|_| Answer::Released),
            Step::Batch => self.batch(answer),
            Step::Noop => Fields(answer).bytes(1).map(|_| Answer::Nothing),
        };
        answer.unwrap_or(Answer::Wrong("an answer that says nothing"))
    }
}

impl Template {
    fn of(request: &impl Message) -> Self {
        let bytes = request.encode_to_vec();
        let owner_tokens = places(&bytes, &OWNER_TOKEN);
        let fingerprints = places(&bytes, &FINGERPRINT);
        let items = places(&bytes, &KEY)
            .into_iter()
            .enumerate()
            .map(|(item, key)| Places {
                key,
                owner_token: owner_tokens.get(item).copied(),
                fingerprint: fingerprints.get(item).copied(),
            })
            .collect();
        Self { bytes, items }
    }

    /// Appends the request. The items of a batch have numbers that follow each other.
    fn write(&self, keys: Keys, key: u64, owner: u64, request: &mut Vec<u8>) {
        let begin = request.len();
        request.extend_from_slice(&self.bytes);
        let bytes = &mut request[begin..];
        for (item, places) in (0..).zip(&self.items) {
            let number = key.wrapping_add(item);
            bytes[places.key..][..KEY_BYTES].copy_from_slice(&keys.key(number));
            if let Some(at) = places.owner_token {
                let owner_token = keys.owner_token(owner.wrapping_add(item));
                bytes[at..][..KEY_BYTES].copy_from_slice(&owner_token);
            }
            if let Some(at) = places.fingerprint {
                bytes[at..][..FINGERPRINT_BYTES].copy_from_slice(&keys.fingerprint(number));
            }
        }
    }
}

/// Where `pattern` is in `bytes`.
fn places(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = 0;
    while at + pattern.len() <= bytes.len() {
        if bytes[at..].starts_with(pattern) {
            places.push(at);
            at += pattern.len();
        } else {
            at += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::pb::v1::batch_reserve_item::Result as Item;
    use crate::pb::v1::reserve_response::Outcome;
    use crate::pb::v1::{
        BatchReserveItem, BatchReserveResponse, CompleteResponse, Completion, Granted, InDoubt,
        InProgress, LookupResponse, Record, ReserveResponse,
    };

    fn call(step: Step) -> Call {
        Call { caller: 0, step, key: 70, owner: 80, due_at: Instant::now() }
    }

    fn onced() -> Onced {
        Onced::new(Keys::new(), 100, 600)
    }

    fn request<M: Message + Default>(onced: &Onced, step: Step) -> M {
        let mut bytes = Vec::new();
        onced.write(&call(step), &mut bytes);
        M::decode(&*bytes).unwrap()
    }

    fn text<const N: usize>(bytes: [u8; N]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn requests_have_the_key_the_owner_token_and_the_fingerprint_of_their_numbers() {
        let onced = onced();
        let reserve: ReserveRequest = request(&onced, Step::Reserve);
        assert_eq!(reserve.namespace, "bench");
        assert_eq!(reserve.key, text(onced.keys.key(70)));
        assert_eq!(reserve.owner_token, text(onced.keys.owner_token(80)));
        assert_eq!(reserve.fingerprint, onced.keys.fingerprint(70));
        assert_eq!(reserve.lease, None);
        let hold: ReserveRequest = request(&onced, Step::Hold);
        assert_eq!(hold.lease.unwrap().seconds, LONG_LEASE_SECONDS);
        let complete: CompleteRequest = request(&onced, Step::Complete);
        assert_eq!(complete.key, text(onced.keys.key(70)));
        assert_eq!(complete.owner_token, text(onced.keys.owner_token(80)));
        assert_eq!(complete.response.unwrap().payload, [FILLING; 100]);
        let release: ReleaseRequest = request(&onced, Step::Release);
        assert_eq!(release.owner_token, text(onced.keys.owner_token(80)));
        let lookup: LookupRequest = request(&onced, Step::Lookup);
        assert_eq!(lookup.key, text(onced.keys.key(70)));
    }

    #[test]
    fn each_item_of_a_batch_has_numbers_of_its_own() {
        let onced = onced();
        let batch: BatchReserveRequest = request(&onced, Step::Batch);
        assert_eq!(batch.items.len() as u64, BATCH_ITEMS);
        for (item, number) in batch.items.iter().zip(0..) {
            assert_eq!(item.key, text(onced.keys.key(70 + number)));
            assert_eq!(item.owner_token, text(onced.keys.owner_token(80 + number)));
            assert_eq!(item.fingerprint, onced.keys.fingerprint(70 + number));
        }
    }

    fn completion(bytes: usize) -> Completion {
        let payload = vec![FILLING; bytes];
        Completion {
            response: Some(Response { payload, ..Response::default() }),
            ..Completion::default()
        }
    }

    fn reserved(outcome: Outcome) -> ReserveResponse {
        let decide_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        ReserveResponse { outcome: Some(outcome), decide_time }
    }

    #[test]
    fn every_outcome_is_told_from_the_others() {
        let onced = onced();
        let read = |outcome| onced.read(&call(Step::Reserve), &reserved(outcome).encode_to_vec());
        assert_eq!(read(Outcome::Granted(Granted::default())), Answer::Granted);
        assert_eq!(read(Outcome::InProgress(InProgress::default())), Answer::InProgress);
        assert_eq!(read(Outcome::Completed(completion(100))), Answer::Completed);
        assert!(matches!(read(Outcome::Completed(completion(99))), Answer::Wrong(_)));
        assert!(matches!(read(Outcome::InDoubt(InDoubt::default())), Answer::Wrong(_)));
        assert!(matches!(onced.read(&call(Step::Reserve), b""), Answer::Wrong(_)));
    }

    #[test]
    fn a_lookup_and_a_complete_show_the_stored_response() {
        let onced = onced();
        let found = |completion| LookupResponse {
            record: Some(Record { attempt: 1, completion, ..Record::default() }),
            decide_time: None,
        };
        let lookup = |it: LookupResponse| onced.read(&call(Step::Lookup), &it.encode_to_vec());
        assert_eq!(lookup(found(Some(completion(100)))), Answer::Completed);
        assert!(matches!(lookup(found(Some(completion(7)))), Answer::Wrong(_)));
        assert!(matches!(lookup(found(None)), Answer::Wrong(_)));
        let completed = CompleteResponse { completion: Some(completion(100)), decide_time: None };
        let complete = onced.read(&call(Step::Complete), &completed.encode_to_vec());
        assert_eq!(complete, Answer::Completed);
    }

    #[test]
    fn a_batch_is_granted_where_all_its_items_are() {
        let onced = onced();
        let item = |outcome| BatchReserveItem { result: Some(Item::Response(reserved(outcome))) };
        let granted = item(Outcome::Granted(Granted::default()));
        let read =
            |items| onced.read(&call(Step::Batch), &BatchReserveResponse { items }.encode_to_vec());
        let mut items = vec![granted; BATCH_ITEMS as usize];
        assert_eq!(read(items.clone()), Answer::Granted);
        items[50] = item(Outcome::InProgress(InProgress::default()));
        assert!(matches!(read(items.clone()), Answer::Wrong(_)));
        items.truncate(50);
        assert!(matches!(read(items), Answer::Wrong(_)));
    }
}
