//! Every status that onced gives, provoked over a real channel: code, reason, details, the
//! retry hint where there is one, and that none of them tells a secret.
//!
//! What a correct caller meets in normal operation is an outcome; that is in `story.rs`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use onced::api::status::{DOMAIN, RETRY_PUSHBACK};
use onced::clock::SystemClock;
use onced::domain::{Command, Decision, IdempotencyKey, Namespace, Record, RecordKey};
use onced::pb::v1;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::storage::erase::{EraseOrder, EraseStep, Erasing};
use onced::storage::fault::{Fault, FaultPlan, Operation};
use onced::storage::list::{Listing, Page};
use onced::storage::measured::Measured;
use onced::storage::memory::MemoryEngine;
use onced::storage::rocks::RocksEngine;
use onced::storage::rocks::batch::{Change, Source as _};
use onced::storage::rocks::schema::{Meta, Tables};
use onced::storage::stats::Stats;
use onced::storage::{
    Answering, Condition, Engine, EngineError, Patience, Purged, Quota, StoreOptions,
};
use prost::Message as _;
use prost_types::Duration as Span;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::server::{ServedEngine, TestServer, settings};
use crate::stalled::StalledStore;

/// The reasons, their codes, and the details that go with them besides the ErrorInfo.
const TABLE: [(&str, Code, &[&str]); 15] = [
    ("INVALID_FIELD", Code::InvalidArgument, &["BadRequest"]),
    ("FINGERPRINT_MISMATCH", Code::FailedPrecondition, &["PreconditionFailure"]),
    ("RESULT_CONFLICT", Code::FailedPrecondition, &["PreconditionFailure"]),
    ("ALREADY_COMPLETED", Code::FailedPrecondition, &["PreconditionFailure"]),
    ("LEASE_LOST", Code::Aborted, &[]),
    ("RECORD_CHANGED", Code::Aborted, &[]),
    ("RESERVATION_NOT_FOUND", Code::NotFound, &["ResourceInfo"]),
    ("DEADLINE_TOO_SHORT", Code::DeadlineExceeded, &[]),
    ("QUOTA_EXCEEDED", Code::ResourceExhausted, &["QuotaFailure", "RetryInfo"]),
    ("STORE_FULL", Code::ResourceExhausted, &["QuotaFailure", "RetryInfo"]),
    ("OVERLOADED", Code::Unavailable, &["RetryInfo"]),
    ("DRAINING", Code::Unavailable, &["RetryInfo"]),
    ("STORE_UNAVAILABLE", Code::Unavailable, &["RetryInfo"]),
    ("OUTCOME_UNKNOWN", Code::Unavailable, &["RetryInfo"]),
    ("STORE_CORRUPTED", Code::DataLoss, &[]),
];

// What no status may tell. Every request in here is made of these.
const KEY: &str = "card 4929-1234-5678-9012";
const FINGERPRINT: &[u8] = b"\xd1\xce\x5c\x07 the digest of a body \x99\xfe";
const OWNER: &str = "6f1c2a9e-5b1d-4c3e-9a77-0d5e8c4b2f10";
const STRANGER: &str = "c0ffee00-17aa-4e0b-8f27-5d3b6a1e9c44";
const PAYLOAD: &[u8] = b"{\"iban\": \"DE89 3704 0044 0532 0130 00\"}";
const CHECKPOINT: &[u8] = b"cursor:the-customer-after-mrs-doe";

type Client = IdempotencyServiceClient<Channel>;

fn reserve() -> v1::ReserveRequest {
    v1::ReserveRequest {
        namespace: "orders".into(),
        key: KEY.into(),
        fingerprint: FINGERPRINT.into(),
        owner_token: OWNER.into(),
        ..Default::default()
    }
}

fn complete() -> v1::CompleteRequest {
    v1::CompleteRequest {
        namespace: "orders".into(),
        key: KEY.into(),
        owner_token: OWNER.into(),
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response { payload: PAYLOAD.into(), ..Default::default() }),
        retention: None,
    }
}

fn release() -> v1::ReleaseRequest {
    v1::ReleaseRequest { namespace: "orders".into(), key: KEY.into(), owner_token: OWNER.into() }
}

fn renew() -> v1::RenewRequest {
    v1::RenewRequest {
        namespace: "orders".into(),
        key: KEY.into(),
        owner_token: OWNER.into(),
        lease: None,
        checkpoint: Some(CHECKPOINT.into()),
    }
}

fn lookup() -> v1::LookupRequest {
    v1::LookupRequest { namespace: "orders".into(), key: KEY.into(), wait_timeout: None }
}

/// Checks everything that a status with this reason has to carry, and nothing else.
#[track_caller]
fn expect(status: &Status, reason: &str) -> ErrorDetails {
    let (_, code, kinds) = TABLE.iter().find(|(name, ..)| *name == reason).unwrap();
    assert_eq!(status.code(), *code, "{status:?}");
    let sent = tonic_types::Status::decode(status.details()).unwrap();
    assert_eq!((sent.code, sent.message.as_str()), (*code as i32, status.message()));
    let mut sent: Vec<_> = sent.details.iter().map(|detail| name_of(&detail.type_url)).collect();
    sent.sort_unstable();
    let mut expected = [&["ErrorInfo"], *kinds].concat();
    expected.sort_unstable();
    assert_eq!(sent, expected, "{status:?}");

    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, DOMAIN));
    if let Some(retry) = details.retry_info() {
        assert!(retry.retry_delay.unwrap() > Duration::ZERO);
    }
    let pushback = status.metadata().get(RETRY_PUSHBACK).map(|value| value.to_str().unwrap());
    if *code == Code::Unavailable {
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(pushback, Some(delay.as_millis().to_string().as_str()));
    } else {
        assert_eq!(pushback, None);
    }
    tells_no_secret(status);
    details
}

fn name_of(type_url: &str) -> &str {
    type_url.strip_prefix("type.googleapis.com/google.rpc.").unwrap()
}

#[track_caller]
fn tells_no_secret(status: &Status) {
    let mut told = [status.message().as_bytes(), status.details()].concat();
    for (name, value) in status.metadata().clone().into_headers().iter() {
        told.extend_from_slice(name.as_str().as_bytes());
        told.extend_from_slice(value.as_bytes());
    }
    let told_in_lower_case = told.to_ascii_lowercase();
    let mut secrets = Vec::new();
    for secret in [KEY.as_bytes(), FINGERPRINT, PAYLOAD, CHECKPOINT] {
        secrets.push(secret.to_vec());
        secrets.push(hex(secret));
    }
    for token in [OWNER, STRANGER] {
        let bare: String = token.split('-').collect();
        secrets.push(uuid::Uuid::parse_str(token).unwrap().as_bytes().to_vec());
        secrets.extend([token.into(), bare.into()]);
    }
    for secret in secrets {
        let found = told.windows(secret.len()).any(|part| part == secret)
            || told_in_lower_case.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{:?} is told by {status:?}", secret.escape_ascii().to_string());
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// How a record may be named: enough to find it in a log, not enough to learn the key.
fn named() -> String {
    format!("orders/sha256:{}", String::from_utf8(hex(&Sha256::digest(KEY)[..8])).unwrap())
}

/// Makes each of the five calls and expects this reason from all of them.
async fn expect_from_every_call(client: &mut Client, reason: &str) {
    expect(&client.reserve(reserve()).await.unwrap_err(), reason);
    expect(&client.complete(complete()).await.unwrap_err(), reason);
    expect(&client.release(release()).await.unwrap_err(), reason);
    expect(&client.renew(renew()).await.unwrap_err(), reason);
    expect(&client.lookup(lookup()).await.unwrap_err(), reason);
}

async fn grant(client: &mut Client, request: v1::ReserveRequest) -> v1::Granted {
    let answer = client.reserve(request).await.unwrap().into_inner();
    let Some(Outcome::Granted(granted)) = answer.outcome else { panic!("{answer:?}") };
    granted
}

async fn state(client: &mut Client) -> v1::RecordState {
    client.lookup(lookup()).await.unwrap().into_inner().record.unwrap().state()
}

/// An engine in memory and a client of it, for what depends on the record alone.
async fn in_memory() -> Client {
    let engine =
        Arc::new(MemoryEngine::new(Arc::new(SystemClock::new()), &StoreOptions::default()));
    ServedEngine::start(engine).await.client().await
}

fn open(dir: &Path, options: &StoreOptions) -> Arc<RocksEngine> {
    Arc::new(RocksEngine::open(dir, Arc::new(SystemClock::new()), options).unwrap())
}

#[tokio::test]
async fn an_invalid_request_learns_of_all_its_faults_at_once() {
    let mut client = in_memory().await;
    let fields_of = |status: Status| {
        let details = expect(&status, "INVALID_FIELD");
        let violations = details.bad_request().unwrap().field_violations.clone();
        assert!(violations.iter().all(|violation| !violation.description.is_empty()));
        let fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
        assert!(fields.iter().all(|field| status.message().contains(field)), "{status:?}");
        fields
    };
    let negative = Some(Span { seconds: -1, nanos: 0 });

    let refused = client
        .reserve(v1::ReserveRequest {
            namespace: "Orders".into(),
            key: format!("{KEY}\n"),
            fingerprint: FINGERPRINT.repeat(3),
            owner_token: format!("{OWNER}?"),
            lease: negative,
            lease_expiry_action: 99,
            wait_timeout: negative,
            retry_failed: false,
            holder: "\u{7}".repeat(129),
        })
        .await
        .unwrap_err();
    assert_eq!(
        fields_of(refused),
        [
            "namespace",
            "key",
            "fingerprint",
            "owner_token",
            "lease",
            "lease_expiry_action",
            "wait_timeout",
            "holder",
            "holder",
        ]
    );

    let refused = client
        .complete(v1::CompleteRequest {
            namespace: "a".repeat(64),
            key: String::new(),
            owner_token: format!("{OWNER}{STRANGER}"),
            result: v1::Result::Unspecified.into(),
            retention: negative,
            ..complete()
        })
        .await
        .unwrap_err();
    assert_eq!(fields_of(refused), ["namespace", "key", "owner_token", "result", "retention"]);

    let refused = client
        .release(v1::ReleaseRequest {
            namespace: "or/ders".into(),
            key: format!("{KEY}\u{e9}"),
            owner_token: String::new(),
        })
        .await
        .unwrap_err();
    assert_eq!(fields_of(refused), ["namespace", "key", "owner_token"]);

    let refused = client
        .renew(v1::RenewRequest {
            namespace: "or ders".into(),
            key: KEY.repeat(11),
            owner_token: uuid::Uuid::nil().to_string(),
            lease: Some(Span { seconds: 1, nanos: 1_000_000_000 }),
            checkpoint: Some(CHECKPOINT.repeat(2_000)),
        })
        .await
        .unwrap_err();
    assert_eq!(fields_of(refused), ["namespace", "key", "owner_token", "lease", "checkpoint"]);

    let refused = client
        .lookup(v1::LookupRequest {
            namespace: "\u{f6}rders".into(),
            key: String::new(),
            wait_timeout: negative,
        })
        .await
        .unwrap_err();
    assert_eq!(fields_of(refused), ["namespace", "key", "wait_timeout"]);
}

#[tokio::test]
async fn an_invalid_request_leaves_nothing_behind() {
    let mut client = in_memory().await;
    let negative = Some(Span { seconds: 0, nanos: -1 });
    let refused = client.reserve(v1::ReserveRequest { lease: negative, ..reserve() }).await;
    expect(&refused.unwrap_err(), "INVALID_FIELD");
    expect(&client.lookup(lookup()).await.unwrap_err(), "RESERVATION_NOT_FOUND");
}

#[tokio::test]
async fn another_fingerprint_is_refused_in_every_phase_that_has_one() {
    let mut client = in_memory().await;
    grant(&mut client, reserve()).await;
    let others = [b"another body".to_vec(), Vec::new(), FINGERPRINT[1..].to_vec()];
    let same_owner = [OWNER, STRANGER, ""];

    for phase in ["held", "released", "completed"] {
        match phase {
            "released" => drop(client.release(release()).await.unwrap()),
            "completed" => {
                grant(
                    &mut client,
                    v1::ReserveRequest { owner_token: STRANGER.into(), ..reserve() },
                )
                .await;
                let end = v1::CompleteRequest { owner_token: STRANGER.into(), ..complete() };
                client.complete(end).await.unwrap();
            }
            _ => {}
        }
        for (fingerprint, owner_token) in others.iter().zip(same_owner) {
            let other = v1::ReserveRequest {
                fingerprint: fingerprint.clone(),
                owner_token: owner_token.into(),
                ..reserve()
            };
            let details = expect(&client.reserve(other).await.unwrap_err(), "FINGERPRINT_MISMATCH");
            let violation = &details.precondition_failure().unwrap().violations[0];
            assert_eq!(
                (&*violation.r#type, violation.subject.clone()),
                ("FINGERPRINT_MISMATCH", named()),
                "{phase}"
            );
        }
    }
}

#[tokio::test]
async fn a_full_fingerprint_is_refused_against_an_empty_one() {
    let mut client = in_memory().await;
    grant(&mut client, v1::ReserveRequest { fingerprint: Vec::new(), ..reserve() }).await;
    expect(&client.reserve(reserve()).await.unwrap_err(), "FINGERPRINT_MISMATCH");
}

#[tokio::test]
async fn another_result_is_a_conflict_and_the_first_one_stands() {
    let mut client = in_memory().await;
    grant(&mut client, reserve()).await;
    let first = client.complete(complete()).await.unwrap().into_inner().completion;

    let failed = v1::CompleteRequest { result: v1::Result::Failed.into(), ..complete() };
    let other_body = v1::CompleteRequest {
        response: Some(v1::Response { payload: b"{}".to_vec(), ..Default::default() }),
        ..complete()
    };
    let other_status = v1::CompleteRequest {
        response: Some(v1::Response {
            payload: PAYLOAD.into(),
            status_code: 500,
            ..Default::default()
        }),
        ..complete()
    };
    for other in [failed, other_body, other_status] {
        let details = expect(&client.complete(other).await.unwrap_err(), "RESULT_CONFLICT");
        let violation = &details.precondition_failure().unwrap().violations[0];
        assert_eq!((&*violation.r#type, violation.subject.clone()), ("RESULT_CONFLICT", named()));
    }
    assert_eq!(client.complete(complete()).await.unwrap().into_inner().completion, first);
}

#[tokio::test]
async fn what_is_completed_can_be_neither_released_nor_renewed() {
    let mut client = in_memory().await;
    grant(&mut client, reserve()).await;
    client.complete(complete()).await.unwrap();
    let statuses =
        [client.release(release()).await.unwrap_err(), client.renew(renew()).await.unwrap_err()];
    for status in statuses {
        let details = expect(&status, "ALREADY_COMPLETED");
        let violation = &details.precondition_failure().unwrap().violations[0];
        assert_eq!((&*violation.r#type, violation.subject.clone()), ("ALREADY_COMPLETED", named()));
    }
}

#[tokio::test]
async fn a_token_that_is_not_on_record_has_lost_the_lease() {
    let mut client = in_memory().await;
    grant(&mut client, reserve()).await;
    let owner_token = STRANGER.to_owned();
    for _phase in ["held", "completed"] {
        let end = v1::CompleteRequest { owner_token: owner_token.clone(), ..complete() };
        expect(&client.complete(end).await.unwrap_err(), "LEASE_LOST");
        let back = v1::ReleaseRequest { owner_token: owner_token.clone(), ..release() };
        expect(&client.release(back).await.unwrap_err(), "LEASE_LOST");
        let longer = v1::RenewRequest { owner_token: owner_token.clone(), ..renew() };
        expect(&client.renew(longer).await.unwrap_err(), "LEASE_LOST");
        client.complete(complete()).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_released_is_spent() {
    let mut client = in_memory().await;
    grant(&mut client, reserve()).await;
    client.release(release()).await.unwrap();

    expect(&client.reserve(reserve()).await.unwrap_err(), "LEASE_LOST");
    expect(&client.complete(complete()).await.unwrap_err(), "LEASE_LOST");
    expect(&client.renew(renew()).await.unwrap_err(), "LEASE_LOST");
    client.release(release()).await.unwrap();
    assert_eq!(state(&mut client).await, v1::RecordState::Released);
}

#[tokio::test]
async fn what_is_not_on_record_is_not_found() {
    let mut client = in_memory().await;
    let statuses = [
        client.complete(complete()).await.unwrap_err(),
        client.release(release()).await.unwrap_err(),
        client.renew(renew()).await.unwrap_err(),
        client.lookup(lookup()).await.unwrap_err(),
    ];
    for status in statuses {
        let details = expect(&status, "RESERVATION_NOT_FOUND");
        let resource = details.resource_info().unwrap();
        assert_eq!(
            (&*resource.resource_type, resource.resource_name.clone()),
            ("onced.v1.Record", named())
        );
    }
}

/// An engine that takes so long that whoever has less than a minute has too little.
struct Slow(Arc<RocksEngine>);

impl Slow {
    fn seen(deadline: Option<Instant>) -> Option<Instant> {
        deadline.map(|deadline| {
            deadline.checked_sub(Duration::from_secs(60)).unwrap_or_else(Instant::now)
        })
    }
}

impl Engine for Slow {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        self.0.apply(key, command, Self::seen(deadline))
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        self.0.lookup(key, Self::seen(deadline))
    }

    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision> {
        self.0.apply_waiting(key, command, Self::seen(deadline), patience)
    }

    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>> {
        self.0.apply_all(commands, Self::seen(deadline))
    }

    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>> {
        self.0.lookup_waiting(key, Self::seen(deadline), patience)
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        self.0.purge(limit)
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        self.0.list(listing)
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        self.0.erase(order)
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        self.0.erase_step(limit)
    }

    fn stats(&self) -> Answering<'_, Stats> {
        self.0.stats()
    }

    fn measured(&self) -> Measured {
        self.0.measured()
    }

    fn condition(&self) -> tokio::sync::watch::Receiver<Condition> {
        self.0.condition()
    }

    fn close(&self) {
        self.0.close();
    }
}

/// The request of a caller who waits for ten seconds, and tells so in `grpc-timeout`.
fn impatient<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_secs(10));
    request
}

#[tokio::test]
async fn with_too_short_a_deadline_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path(), &StoreOptions::default());
    let mut client = ServedEngine::start(Arc::new(Slow(engine))).await.client().await;
    let reason = "DEADLINE_TOO_SHORT";

    expect(&client.reserve(impatient(reserve())).await.unwrap_err(), reason);
    expect(&client.lookup(lookup()).await.unwrap_err(), "RESERVATION_NOT_FOUND");

    grant(&mut client, reserve()).await;
    let before = client.lookup(lookup()).await.unwrap().into_inner().record;
    expect(&client.lookup(impatient(lookup())).await.unwrap_err(), reason);
    expect(&client.renew(impatient(renew())).await.unwrap_err(), reason);
    expect(&client.complete(impatient(complete())).await.unwrap_err(), reason);
    expect(&client.release(impatient(release())).await.unwrap_err(), reason);
    assert_eq!(client.lookup(lookup()).await.unwrap().into_inner().record, before);
}

#[tokio::test]
async fn past_the_bound_every_call_is_refused_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let engine = open(dir.path(), &StoreOptions { max_in_flight: 1, ..StoreOptions::default() });
    let mut client = ServedEngine::start(engine.clone()).await.client().await;

    // A call that has come, and has not been decided.
    let key = RecordKey {
        namespace: Namespace::default(),
        key: IdempotencyKey::new("another order".into()).unwrap(),
    };
    let mut in_flight = engine.lookup(key, None);
    poll_fn(|cx| {
        assert!(in_flight.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    expect_from_every_call(&mut client, "OVERLOADED").await;

    assert_eq!(in_flight.await.unwrap().answer, None);
    assert_eq!(grant(&mut client, reserve()).await.attempt, 1);
}

#[tokio::test]
async fn an_engine_that_is_closed_is_draining() {
    let dir = TempDir::new().unwrap();
    let engines: [Arc<dyn Engine>; 2] = [
        open(dir.path(), &StoreOptions::default()),
        Arc::new(MemoryEngine::new(Arc::new(SystemClock::new()), &StoreOptions::default())),
    ];
    for engine in engines {
        let mut client = ServedEngine::start(engine.clone()).await.client().await;
        grant(&mut client, reserve()).await;
        engine.close();
        expect_from_every_call(&mut client, "DRAINING").await;
    }
}

#[tokio::test]
async fn a_store_that_recovers_is_unavailable() {
    let store = StalledStore::new();
    let server = TestServer::start(settings(&format!("rocksdb:{}", store.path().display())));
    let recovering = store.is_being_opened().await;
    let mut client = IdempotencyServiceClient::new(server.channel().await);
    expect_from_every_call(&mut client, "STORE_UNAVAILABLE").await;

    drop(recovering);
    let mut client = server.client().await;
    assert_eq!(grant(&mut client, reserve()).await.attempt, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_commit_the_outcome_is_unknown_and_the_store_unavailable() {
    let faults = [
        (Operation::Write, Fault::NotDone),
        (Operation::Write, Fault::DoneButReported),
        (Operation::Sync, Fault::NotDone),
        (Operation::Sync, Fault::DoneButReported),
    ];
    for (operation, fault) in faults {
        let dir = TempDir::new().unwrap();
        let plan = Arc::new(FaultPlan::default());
        let options = StoreOptions { faults: Some(plan.clone()), ..StoreOptions::default() };
        let engine = open(dir.path(), &options);
        let served = ServedEngine::start(engine.clone()).await;
        let mut client = served.client().await;

        plan.fail_next(operation, fault);
        expect(&client.reserve(reserve()).await.unwrap_err(), "OUTCOME_UNKNOWN");
        expect_from_every_call(&mut client, "STORE_UNAVAILABLE").await;
        assert_eq!(*engine.condition().borrow(), Condition::Poisoned);
        drop((client, engine));
        served.stop().await;

        // The same call, sent again, is right whatever became of the first.
        let engine = open(dir.path(), &StoreOptions::default());
        let mut client = ServedEngine::start(engine).await.client().await;
        let granted = grant(&mut client, reserve()).await;
        assert_eq!((granted.attempt, granted.owner_token.as_str()), (1, OWNER));
    }
}

#[tokio::test]
async fn a_full_disk_takes_no_new_attempt_and_everything_that_ends_one() {
    let dir = TempDir::new().unwrap();
    let to_release = v1::ReserveRequest { key: "released".into(), ..reserve() };
    let to_retry = v1::ReserveRequest { key: "retried".into(), ..reserve() };
    let engine = open(dir.path(), &StoreOptions::default());
    let served = ServedEngine::start(engine).await;
    let mut client = served.client().await;
    let granted = grant(&mut client, reserve()).await;
    grant(&mut client, to_release.clone()).await;
    grant(&mut client, to_retry.clone()).await;
    let failed = v1::CompleteRequest {
        key: to_retry.key.clone(),
        result: v1::Result::Failed.into(),
        ..complete()
    };
    client.complete(failed).await.unwrap();
    drop(client);
    served.stop().await;

    let full = StoreOptions { min_free_disk_bytes: u64::MAX, ..StoreOptions::default() };
    let engine = open(dir.path(), &full);
    let mut client = ServedEngine::start(engine.clone()).await.client().await;
    let retried =
        v1::ReserveRequest { owner_token: STRANGER.into(), retry_failed: true, ..to_retry };
    let new = v1::ReserveRequest { key: "new".into(), ..reserve() };
    for refused in [retried, new] {
        let details = expect(&client.reserve(refused).await.unwrap_err(), "STORE_FULL");
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "disk");
    }
    assert_eq!(*engine.condition().borrow(), Condition::Full);

    assert_eq!(grant(&mut client, reserve()).await, granted);
    client.complete(complete()).await.unwrap();
    assert_eq!(state(&mut client).await, v1::RecordState::Completed);
    let back = v1::ReleaseRequest { key: to_release.key.clone(), ..release() };
    client.release(back).await.unwrap();
    let again = v1::ReserveRequest { owner_token: STRANGER.into(), ..to_release };
    expect(&client.reserve(again).await.unwrap_err(), "STORE_FULL");
}

#[tokio::test]
async fn a_quota_that_is_used_up_names_the_namespace_and_which_quota_it_is() {
    for (quota, subject) in [
        (Quota { keys: Some(1), bytes: None }, "orders/quota_keys"),
        (Quota { keys: None, bytes: Some(200) }, "orders/quota_bytes"),
    ] {
        let quotas = [(Namespace::new("orders".into()).unwrap(), quota)].into_iter().collect();
        let engine = MemoryEngine::new(
            Arc::new(SystemClock::new()),
            &StoreOptions { quotas, ..StoreOptions::default() },
        );
        let mut client = ServedEngine::start(Arc::new(engine)).await.client().await;
        grant(&mut client, reserve()).await;
        let one_more = v1::ReserveRequest { key: "one more".into(), ..reserve() };
        let details = expect(&client.reserve(one_more).await.unwrap_err(), "QUOTA_EXCEEDED");
        let [violation] = &details.quota_failure().unwrap().violations[..] else { panic!() };
        assert_eq!(violation.subject, subject);
        client.complete(complete()).await.unwrap();
    }
}

/// Stores under the key what no build of onced stores: an attempt that is not positive.
fn damage(dir: &Path) {
    let record_key = [b"\x06orders", KEY.as_bytes()].concat();
    let tables = Tables::open(dir, &StoreOptions::default()).unwrap();
    let (mut stored, _) = tables.read(&record_key).unwrap().unwrap();
    stored.record.attempt = 0;
    tables.write(&[Change::Put { record_key, stored }], &Meta::default()).unwrap();
    tables.sync().unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_told_and_harms_no_other() {
    let dir = TempDir::new().unwrap();
    let served = ServedEngine::start(open(dir.path(), &StoreOptions::default())).await;
    let mut client = served.client().await;
    grant(&mut client, reserve()).await;
    client.complete(complete()).await.unwrap();
    drop(client);
    served.stop().await;
    damage(dir.path());

    let engine = open(dir.path(), &StoreOptions::default());
    let mut client = ServedEngine::start(engine.clone()).await.client().await;
    expect_from_every_call(&mut client, "STORE_CORRUPTED").await;
    let other = v1::ReserveRequest { key: "unharmed".into(), ..reserve() };
    assert_eq!(grant(&mut client, other).await.attempt, 1);
    assert_eq!(*engine.condition().borrow(), Condition::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_response_above_the_bound_is_omitted_and_its_digest_kept() {
    let server = TestServer::start(settings("memory:"));
    let mut client = server.client().await;
    // Just above what is stored, and just below what gRPC takes.
    for (key, size) in [("large", (1 << 20) + 1), ("huge", (16 << 20) - 1_024)] {
        let payload = vec![b'x'; size];
        let granted = grant(&mut client, v1::ReserveRequest { key: key.into(), ..reserve() }).await;
        let end = v1::CompleteRequest {
            key: key.into(),
            owner_token: granted.owner_token,
            response: Some(v1::Response {
                payload: payload.clone(),
                content_type: "text/plain".into(),
                status_code: 201,
                metadata: HashMap::from([("etag".into(), "x".into())]),
            }),
            ..complete()
        };
        let stored = client.complete(end.clone()).await.unwrap().into_inner().completion.unwrap();
        assert!(stored.response_omitted);
        assert_eq!(stored.response_digest, Sha256::digest(&payload).to_vec());
        assert_eq!(stored.response_size_bytes, i64::try_from(size).unwrap());
        let kept = v1::Response { status_code: 201, ..Default::default() };
        assert_eq!(stored.response, Some(kept));

        let again = client.complete(end).await.unwrap().into_inner().completion;
        assert_eq!(again.as_ref(), Some(&stored));
        let replay = client.reserve(v1::ReserveRequest { key: key.into(), ..reserve() }).await;
        assert_eq!(replay.unwrap().into_inner().outcome, Some(Outcome::Completed(stored)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_above_sixteen_mebibytes_is_refused_by_grpc_itself() {
    let server = TestServer::start(settings("memory:"));
    let mut client = server.client().await;
    grant(&mut client, reserve()).await;
    let response = v1::Response { payload: vec![b'x'; 16 << 20], ..Default::default() };
    let end = v1::CompleteRequest { response: Some(response), ..complete() };
    let refused = client.complete(end).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert!(refused.get_details_error_info().is_none());
    assert_eq!(state(&mut client).await, v1::RecordState::Held);
}

#[tokio::test]
async fn what_an_operator_is_refused_has_the_same_statuses() {
    let engine =
        Arc::new(MemoryEngine::new(Arc::new(SystemClock::new()), &StoreOptions::default()));
    let server = ServedEngine::start(engine).await;
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    let force_release = |fencing_token| v1::ForceReleaseRequest {
        namespace: "orders".into(),
        key: KEY.into(),
        reason: "it never happened".into(),
        operator: "olga".into(),
        fencing_token,
    };
    let force_complete = || v1::ForceCompleteRequest {
        namespace: "orders".into(),
        key: KEY.into(),
        reason: "it did".into(),
        operator: "olga".into(),
        fencing_token: 0,
        result: v1::Result::Failed.into(),
        response: Some(v1::Response { payload: PAYLOAD.into(), ..Default::default() }),
        retention: None,
    };
    let nothing = admin.force_release(force_release(0)).await.unwrap_err();
    let details = expect(&nothing, "RESERVATION_NOT_FOUND");
    assert_eq!(details.resource_info().unwrap().resource_name, named());
    let nothing = admin.force_complete(force_complete()).await.unwrap_err();
    expect(&nothing, "RESERVATION_NOT_FOUND");

    grant(&mut client, reserve()).await;
    let changed = admin.force_release(force_release(4_711)).await.unwrap_err();
    expect(&changed, "RECORD_CHANGED");
    client.complete(complete()).await.unwrap();
    let completed = admin.force_release(force_release(0)).await.unwrap_err();
    expect(&completed, "ALREADY_COMPLETED");
    let conflict = admin.force_complete(force_complete()).await.unwrap_err();
    expect(&conflict, "RESULT_CONFLICT");

    // Every fault at once, in each call.
    let mut faults = Vec::new();
    let malformed = v1::ForceReleaseRequest { fencing_token: -1, ..Default::default() };
    faults.push((admin.force_release(malformed).await.unwrap_err(), 4));
    let malformed = v1::ForceCompleteRequest { fencing_token: -1, ..Default::default() };
    faults.push((admin.force_complete(malformed).await.unwrap_err(), 5));
    let malformed = v1::DeleteRecordRequest { operator: "\n".into(), ..Default::default() };
    faults.push((admin.delete_record(malformed).await.unwrap_err(), 3));
    let malformed = v1::EraseNamespaceRequest { erase_id: "x".into(), ..Default::default() };
    faults.push((admin.erase_namespace(malformed).await.unwrap_err(), 4));
    let malformed = v1::ListRecordsRequest { page_size: -1, state: 9, ..Default::default() };
    faults.push((admin.list_records(malformed).await.unwrap_err(), 2));
    for (status, count) in faults {
        let details = expect(&status, "INVALID_FIELD");
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations.len(), count, "{violations:?}");
    }
}

#[tokio::test]
async fn an_operator_is_told_how_a_store_is_that_answers_nothing() {
    let dir = TempDir::new().unwrap();
    let faults = Arc::new(FaultPlan::default());
    let options = StoreOptions { faults: Some(Arc::clone(&faults)), ..Default::default() };
    let server = ServedEngine::start(open(dir.path(), &options)).await;
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    let stats = admin.get_stats(v1::GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.condition(), v1::StoreCondition::Serving);
    assert_eq!(stats.store.unwrap().kind, "rocksdb");

    faults.fail_next(Operation::Sync, Fault::NotDone);
    client.reserve(reserve()).await.unwrap_err();
    let stats = admin.get_stats(v1::GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.condition(), v1::StoreCondition::Unavailable);
    assert_eq!(stats.store, None);
    let listed = admin.list_records(v1::ListRecordsRequest::default()).await.unwrap_err();
    expect(&listed, "STORE_UNAVAILABLE");
}
