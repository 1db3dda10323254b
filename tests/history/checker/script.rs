//! Histories written by hand. Moments of the service and of the callers run alike in them:
//! both count milliseconds from the same beginning, so each call is decided while it is made.

use std::ops::RangeInclusive;

use onced::api::encode::timestamp;
use onced::domain::{Moment, Refusal};
use onced::pb::v1;
use onced::pb::v1::reserve_response::Outcome;
use prost_types::{Duration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::check;
use crate::calls::{Answer, Call, End, Request, Window};

/// Owner tokens.
pub const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
pub const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";
pub const C: &str = "cccccccc-0000-4000-8000-000000000000";

/// The lease of every request here.
pub const LEASE: i64 = 100;
/// The retention of every Complete here.
pub const KEPT: i64 = 300;

/// Fails with the story where these calls are refused.
pub fn legal(calls: &[Call]) {
    if let Err(story) = check(calls) {
        panic!("{story}");
    }
}

/// Fails where these calls are accepted, or where they are refused for another reason than the
/// last of them: without it they must be legal.
pub fn illegal(calls: &[Call]) {
    let (_, before) = calls.split_last().unwrap();
    legal(before);
    assert!(check(calls).is_err(), "it was taken for linearizable");
}

/// A call that was sent and answered within `during`.
pub fn call(during: RangeInclusive<u64>, request: Request, answer: Answer) -> Call {
    let at = during.end() * 1_000_000;
    let called_at = during.start() * 1_000_000;
    let decided = window(*during.start(), Some(*during.end()));
    Call { request, called_at, end: End::Answered { at, answer }, decided }
}

/// A call that was never answered.
pub fn open(called_at: u64, request: Request) -> Call {
    let decided = window(called_at, None);
    Call { request, called_at: called_at * 1_000_000, end: End::Open, decided }
}

fn window(from: u64, until: Option<u64>) -> Window {
    let moment = |millis| Moment::from_millis(i64::try_from(millis).unwrap());
    Window { from: moment(from), until: until.map(moment) }
}

fn millis(millis: i64) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: i32::try_from(millis * 1_000_000).unwrap() })
}

fn at(moment: i64) -> Option<Timestamp> {
    Some(timestamp(Moment::from_millis(moment)))
}

pub fn reserve(owner: &str) -> Request {
    Request::Reserve(v1::ReserveRequest {
        key: "key".into(),
        fingerprint: vec![1],
        owner_token: owner.into(),
        lease: millis(LEASE),
        lease_expiry_action: v1::LeaseExpiryAction::Takeover.into(),
        holder: owner.into(),
        ..Default::default()
    })
}

/// A Reserve with one field otherwise.
pub fn reserve_but(owner: &str, change: impl Fn(&mut v1::ReserveRequest)) -> Request {
    let Request::Reserve(mut request) = reserve(owner) else { unreachable!() };
    change(&mut request);
    Request::Reserve(request)
}

pub fn reserve_hold(owner: &str) -> Request {
    reserve_but(owner, |it| it.lease_expiry_action = v1::LeaseExpiryAction::Hold.into())
}

pub fn complete(owner: &str, payload: &str) -> Request {
    Request::Complete(v1::CompleteRequest {
        key: "key".into(),
        owner_token: owner.into(),
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response { payload: payload.into(), ..Default::default() }),
        retention: millis(KEPT),
        ..Default::default()
    })
}

pub fn complete_failed(owner: &str) -> Request {
    let Request::Complete(mut request) = complete(owner, "no") else { unreachable!() };
    request.result = v1::Result::Failed.into();
    Request::Complete(request)
}

pub fn release(owner: &str) -> Request {
    let owner_token = owner.into();
    Request::Release(v1::ReleaseRequest { key: "key".into(), owner_token, ..Default::default() })
}

pub fn renew(owner: &str, checkpoint: &str) -> Request {
    Request::Renew(v1::RenewRequest {
        key: "key".into(),
        owner_token: owner.into(),
        lease: millis(LEASE),
        checkpoint: Some(checkpoint.into()),
        ..Default::default()
    })
}

pub fn lookup() -> Request {
    Request::Lookup(v1::LookupRequest { key: "key".into(), ..Default::default() })
}

fn reserved(decided: i64, outcome: Outcome) -> Answer {
    Answer::Reserve(v1::ReserveResponse { outcome: Some(outcome), decide_time: at(decided) })
}

/// Granted for the first time, or again, until a lease from then on is over.
pub fn granted(decided: i64, owner: &str, fencing_token: i64, attempt: i32) -> Answer {
    grant(
        decided,
        v1::Granted {
            owner_token: owner.into(),
            fencing_token,
            lease_expire_time: at(decided + LEASE),
            attempt,
            ..Default::default()
        },
    )
}

/// Granted after a lease had lapsed.
pub fn taken_over(decided: i64, owner: &str, fencing_token: i64, attempt: i32) -> Answer {
    but(granted(decided, owner, fencing_token, attempt), |it| it.takeover = true)
}

/// A grant with something otherwise.
pub fn but(answer: Answer, change: impl Fn(&mut v1::Granted)) -> Answer {
    let Answer::Reserve(mut response) = answer else { unreachable!() };
    let Some(Outcome::Granted(granted)) = &mut response.outcome else { unreachable!() };
    change(granted);
    Answer::Reserve(response)
}

fn grant(decided: i64, granted: v1::Granted) -> Answer {
    reserved(decided, Outcome::Granted(granted))
}

/// Granted again, of a grant that was decided `first`.
pub fn granted_again(decided: i64, first: i64, owner: &str, token: i64, attempt: i32) -> Answer {
    but(granted(decided, owner, token, attempt), |it| it.lease_expire_time = at(first + LEASE))
}

pub fn in_progress(decided: i64, until: i64, holder: &str, attempt: i32) -> Answer {
    reserved(
        decided,
        Outcome::InProgress(v1::InProgress {
            lease_expire_time: at(until),
            retry_delay: millis(50),
            attempt,
            holder: holder.into(),
        }),
    )
}

pub fn in_doubt(decided: i64, until: i64, holder: &str) -> Answer {
    reserved(
        decided,
        Outcome::InDoubt(v1::InDoubt {
            lease_expire_time: at(until),
            attempt: 1,
            holder: holder.into(),
            checkpoint: Vec::new(),
        }),
    )
}

/// A completion of the first attempt.
pub fn completion(completed: i64, fencing_token: i64, payload: &str) -> v1::Completion {
    v1::Completion {
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response { payload: payload.into(), ..Default::default() }),
        complete_time: at(completed),
        expire_time: at(completed + KEPT),
        attempt: 1,
        fencing_token,
        response_digest: Sha256::digest(payload).to_vec(),
        response_size_bytes: payload.len() as i64,
        ..Default::default()
    }
}

pub fn late(completion: v1::Completion) -> v1::Completion {
    v1::Completion { late: true, ..completion }
}

pub fn failed(completed: i64, fencing_token: i64) -> v1::Completion {
    let result = v1::Result::Failed.into();
    v1::Completion { result, ..completion(completed, fencing_token, "no") }
}

pub fn completed(decided: i64, completion: v1::Completion) -> Answer {
    let completion = Some(completion);
    Answer::Complete(v1::CompleteResponse { completion, decide_time: at(decided) })
}

pub fn replayed(decided: i64, completion: v1::Completion) -> Answer {
    reserved(decided, Outcome::Completed(completion))
}

pub fn released(decided: i64) -> Answer {
    Answer::Release(v1::ReleaseResponse { decide_time: at(decided) })
}

pub fn renewed(decided: i64) -> Answer {
    let lease_expire_time = at(decided + LEASE);
    Answer::Renew(v1::RenewResponse { lease_expire_time, decide_time: at(decided) })
}

/// A first attempt that was granted at `since` and has not been renewed.
pub fn found_held(decided: i64, since: i64, holder: &str, fencing_token: i64) -> Answer {
    let record = v1::Record {
        state: v1::RecordState::Held.into(),
        fingerprint: vec![1],
        attempt: 1,
        fencing_token,
        holder: holder.into(),
        create_time: at(since),
        lease_expire_time: at(since + LEASE),
        expire_time: at(since + LEASE + crate::callers::RETENTION),
        ..Default::default()
    };
    Answer::Lookup(v1::LookupResponse { record: Some(record), decide_time: at(decided) })
}

pub const fn refused(refusal: Refusal) -> Answer {
    Answer::Refused(refusal)
}
