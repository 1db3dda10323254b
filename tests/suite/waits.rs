//! The story of duplicates that wait, over a real channel.
//!
//! A server takes the calls of one connection in the order in which they were sent: so a call
//! is parked once a later one on its connection was answered. The tests have one thread for their
//! clients, so that calls are sent in the order in which they are made, and another that waits
//! for servers to end.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use onced::config::Settings;
use onced::domain::Span;
use onced::pb::v1;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::server::{TestServer, settings};

type Client = IdempotencyServiceClient<Channel>;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn millis(millis: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 })
}

/// A Reserve that waits for a minute, which no test does.
fn order() -> v1::ReserveRequest {
    v1::ReserveRequest { key: "order-1".into(), wait_timeout: seconds(60), ..Default::default() }
}

async fn outcome(client: &mut Client, request: v1::ReserveRequest) -> Outcome {
    client.reserve(request).await.unwrap().into_inner().outcome.unwrap()
}

async fn grant(client: &mut Client, request: v1::ReserveRequest) -> v1::Granted {
    granted(outcome(client, request).await)
}

fn granted(outcome: Outcome) -> v1::Granted {
    match outcome {
        Outcome::Granted(granted) => granted,
        other => panic!("not granted but {other:?}"),
    }
}

async fn release(client: &mut Client, granted: &v1::Granted) {
    let request = v1::ReleaseRequest {
        key: "order-1".into(),
        owner_token: granted.owner_token.clone(),
        ..Default::default()
    };
    client.release(request).await.unwrap();
}

async fn complete(client: &mut Client, granted: &v1::Granted) -> v1::Completion {
    let request = v1::CompleteRequest {
        key: "order-1".into(),
        owner_token: granted.owner_token.clone(),
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response {
            payload: b"{\"paid\": true}\0\xff".to_vec(),
            content_type: "application/json".into(),
            status_code: 201,
            metadata: [("location".to_owned(), "/orders/1".to_owned())].into(),
        }),
        ..Default::default()
    };
    client.complete(request).await.unwrap().into_inner().completion.unwrap()
}

/// Sends so many waiting calls one after another, and returns when all are parked.
async fn park(
    client: &Client,
    count: usize,
    request: &v1::ReserveRequest,
) -> Vec<JoinHandle<Outcome>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        let (mut client, request) = (client.clone(), request.clone());
        calls.push(tokio::spawn(async move { outcome(&mut client, request).await }));
        tokio::task::yield_now().await;
    }
    all_have_arrived(client).await;
    calls
}

async fn all_have_arrived(client: &Client) {
    let request = v1::LookupRequest { key: "nobody's".into(), ..Default::default() };
    client.clone().lookup(request).await.unwrap_err();
}

/// The first of these calls that is answered, and the others.
async fn first_answered(
    mut calls: Vec<JoinHandle<Outcome>>,
) -> (Outcome, Vec<JoinHandle<Outcome>>) {
    let (number, answer) = poll_fn(|context| {
        for (number, call) in calls.iter_mut().enumerate() {
            if let Poll::Ready(answer) = pin!(call).poll(context) {
                return Poll::Ready((number, answer.unwrap()));
            }
        }
        Poll::Pending
    })
    .await;
    drop(calls.remove(number));
    (answer, calls)
}

async fn rocks(change: impl FnOnce(&mut Settings)) -> (TempDir, TestServer, Client) {
    let dir = TempDir::new().unwrap();
    let mut settings = settings(&format!("rocksdb:{}", dir.path().join("data").display()));
    change(&mut settings);
    let (server, client) = start(settings).await;
    (dir, server, client)
}

async fn start(settings: Settings) -> (TestServer, Client) {
    let server = TestServer::start(settings);
    let client = server.client().await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn duplicates_get_the_completion_the_moment_it_is_there() {
    let (_dir, server, mut client) = rocks(|_| {}).await;
    let owner = grant(&mut client, order()).await;
    let waiting = park(&client, 10, &order()).await;
    let elsewhere = park(&server.client().await, 10, &order()).await;
    let looking = tokio::spawn({
        let mut client = client.clone();
        let request = v1::LookupRequest {
            key: "order-1".into(),
            wait_timeout: seconds(60),
            ..Default::default()
        };
        async move { client.lookup(request).await.unwrap().into_inner().record.unwrap() }
    });
    all_have_arrived(&client).await;
    assert!(waiting.iter().chain(&elsewhere).all(|call| !call.is_finished()));
    assert!(!looking.is_finished());

    let completion = complete(&mut client, &owner).await;
    for call in waiting.into_iter().chain(elsewhere) {
        assert_eq!(call.await.unwrap(), Outcome::Completed(completion.clone()));
    }
    assert_eq!(looking.await.unwrap().completion, Some(completion));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_release_grants_one_after_another_in_the_order_of_their_arrival() {
    let (_dir, _server, mut client) = rocks(|_| {}).await;
    let mut owner = grant(&mut client, order()).await;
    let mut waiting = park(&client, 20, &order()).await;
    while !waiting.is_empty() {
        release(&mut client, &owner).await;
        let next = granted(waiting.remove(0).await.unwrap());
        assert_eq!((next.attempt, next.takeover), (owner.attempt + 1, false));
        assert!(next.fencing_token > owner.fencing_token);
        assert!(waiting.iter().all(|call| !call.is_finished()), "one at a time");
        owner = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lapse_grants_the_key_to_one_of_those_who_wait() {
    let (_dir, on_disk, client) = rocks(|_| {}).await;
    for (_server, mut client) in [(on_disk, client), start(settings("memory:")).await] {
        let short = v1::ReserveRequest { lease: millis(200), ..order() };
        grant(&mut client, short).await;
        let waiting = park(&client, 20, &order()).await;
        // The lease may be over before all have come, so which of them it is may differ.
        let (next, waiting) = first_answered(waiting).await;
        let next = granted(next);
        assert_eq!((next.attempt, next.takeover), (2, true));

        all_have_arrived(&client).await;
        assert!(waiting.iter().all(|call| !call.is_finished()));
        let completion = complete(&mut client, &next).await;
        for call in waiting {
            assert_eq!(call.await.unwrap(), Outcome::Completed(completion.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn everybody_learns_that_a_key_is_in_doubt() {
    let (_dir, _server, mut client) = rocks(|_| {}).await;
    let hold = v1::ReserveRequest {
        lease: millis(200),
        lease_expiry_action: v1::LeaseExpiryAction::Hold.into(),
        holder: "shop-1".into(),
        ..order()
    };
    grant(&mut client, hold).await;
    for call in park(&client, 5, &order()).await {
        let outcome = call.await.unwrap();
        assert!(matches!(&outcome, Outcome::InDoubt(it) if it.holder == "shop-1"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wait_ends_by_itself_and_before_the_deadline_of_its_call() {
    let (_dir, _server, mut client) = rocks(|_| {}).await;
    grant(&mut client, order()).await;
    let brief = v1::ReserveRequest { wait_timeout: millis(50), ..order() };
    assert!(matches!(outcome(&mut client, brief).await, Outcome::InProgress(_)));

    // A caller that waits for longer than its call may take gets an answer all the same.
    let mut hurried = Request::new(order());
    hurried.set_timeout(Duration::from_secs(1));
    let answer = client.reserve(hurried).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::InProgress(_))), "{answer:?}");
    let mut hurried = Request::new(v1::LookupRequest {
        key: "order-1".into(),
        wait_timeout: seconds(60),
        ..Default::default()
    });
    hurried.set_timeout(Duration::from_secs(1));
    let record = client.lookup(hurried).await.unwrap().into_inner().record.unwrap();
    assert_eq!(record.state(), v1::RecordState::Held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_on_record_and_another_fingerprint_are_told_at_once() {
    let (_dir, _server, mut client) = rocks(|_| {}).await;
    let lookup = v1::LookupRequest {
        key: "order-1".into(),
        wait_timeout: seconds(60),
        ..Default::default()
    };
    let vacant = client.lookup(lookup).await.unwrap_err();
    assert_eq!(vacant.get_details_error_info().unwrap().reason, "RESERVATION_NOT_FOUND");
    grant(&mut client, order()).await;
    let other = v1::ReserveRequest { fingerprint: vec![1], ..order() };
    let refused = client.reserve(other).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().reason, "FINGERPRINT_MISMATCH");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_hung_up_is_never_granted_anything() {
    let (_dir, _server, mut client) = rocks(|_| {}).await;
    let owner = grant(&mut client, order()).await;
    let (mine, theirs) = ("0190b3b4-7f6e-4c6c-9d56-3f3f8d1f2a10", order());
    let request = v1::ReserveRequest { owner_token: mine.into(), ..order() };
    let hung_up = park(&client, 1, &request).await.remove(0);
    let next = park(&client, 1, &theirs).await.remove(0);
    hung_up.abort();
    assert!(hung_up.await.unwrap_err().is_cancelled());
    all_have_arrived(&client).await;

    release(&mut client, &owner).await;
    let next = granted(next.await.unwrap());
    assert_eq!(next.attempt, 2, "nobody had an attempt in between");
    assert_ne!(next.owner_token, mine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_answers_everybody_who_waits() {
    let (_dir, mut server, mut client) = rocks(|_| {}).await;
    grant(&mut client, order()).await;
    let waiting = park(&client, 20, &order()).await;
    server.begin_stop();
    for call in waiting {
        let outcome = call.await.unwrap();
        assert!(matches!(outcome, Outcome::InProgress(_)), "{outcome:?}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_is_parked_while_the_server_drains() {
    let grace = |settings: &mut Settings| settings.drain_grace = Duration::from_secs(2);
    let (_dir, mut server, mut client) = rocks(grace).await;
    grant(&mut client, order()).await;
    let waiting = park(&client, 1, &order()).await.remove(0);
    server.begin_stop();
    assert!(matches!(waiting.await.unwrap(), Outcome::InProgress(_)));
    // The connection is open for two seconds more, and calls that would wait are answered.
    assert!(matches!(outcome(&mut client, order()).await, Outcome::InProgress(_)));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn past_a_bound_the_answer_is_in_progress_at_once() {
    let bounds = |settings: &mut Settings| {
        settings.max_waiting = 5;
        settings.max_waiting_per_key = 4;
        settings.max_waiting_per_connection = 3;
    };
    let (_dir, server, mut client) = rocks(bounds).await;
    let mut other = server.client().await;
    let second = v1::ReserveRequest { key: "order-2".into(), ..order() };
    grant(&mut client, order()).await;
    grant(&mut client, second.clone()).await;

    // Three on one connection, four for one key, five in all:
    let _first = park(&client, 3, &order()).await;
    assert!(matches!(outcome(&mut client, order()).await, Outcome::InProgress(_)));
    let _second = park(&other, 1, &order()).await;
    assert!(matches!(outcome(&mut other, order()).await, Outcome::InProgress(_)));
    let third = park(&other, 1, &second).await;
    assert!(matches!(outcome(&mut other, second.clone()).await, Outcome::InProgress(_)));

    // And whoever hangs up makes room.
    third[0].abort();
    all_have_arrived(&other).await;
    let again = park(&other, 1, &second).await;
    assert!(!again[0].is_finished());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn where_nobody_may_wait_the_answer_is_in_progress_at_once() {
    let (_dir, _server, mut client) = rocks(|settings| settings.wait_max = Span::default()).await;
    grant(&mut client, order()).await;
    assert!(matches!(outcome(&mut client, order()).await, Outcome::InProgress(_)));
}
