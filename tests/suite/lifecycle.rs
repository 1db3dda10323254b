//! The server from its start to its end: recovery, health, reflection, many callers at once,
//! callers that leave or fall silent, and the drain.
//!
//! What needs the real process, such as signals, is in `tests/crash`.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onced::config::Settings;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, Granted, LookupRequest, RecordState, ReserveRequest, ReserveResponse,
    Result as OperationResult,
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1, v1alpha};
use uuid::Uuid;

use crate::http2::{self, Peer};
use crate::server::{TestServer, settings};
use crate::stalled::StalledStore;

const SERVICE: &str = "onced.v1.IdempotencyService";
const ADMIN: &str = "onced.v1.AdminService";
const LIVENESS: &str = "liveness";

fn rocksdb(path: &Path) -> String {
    format!("rocksdb:{}", path.display())
}

fn order(key: &str) -> ReserveRequest {
    ReserveRequest {
        key: key.into(),
        fingerprint: b"body".to_vec(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    }
}

fn done(order: &ReserveRequest) -> CompleteRequest {
    CompleteRequest {
        key: order.key.clone(),
        owner_token: order.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        ..Default::default()
    }
}

#[track_caller]
fn granted(answer: ReserveResponse) -> Granted {
    match answer.outcome {
        Some(Outcome::Granted(granted)) => granted,
        other => panic!("{other:?}"),
    }
}

async fn health_of(server: &TestServer, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    let mut client = HealthClient::new(server.channel().await);
    client.check(request).await.unwrap().into_inner().status()
}

async fn watch(channel: Channel, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel).watch(request).await.unwrap().into_inner()
}

/// Reads on until health is `status`.
async fn wait_for(status: ServingStatus, watch: &mut Streaming<HealthCheckResponse>) {
    while watch.message().await.unwrap().expect("the watch goes on").status() != status {}
}

// Health and reflection.

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_tells_recovery_service_and_the_end() {
    let store = StalledStore::new();
    let mut server = TestServer::start(settings(&rocksdb(store.path())));
    let recovering = store.is_being_opened().await;
    let mut watches = Vec::new();
    for service in ["", SERVICE, ADMIN] {
        assert_eq!(health_of(&server, service).await, ServingStatus::NotServing);
        watches.push(watch(server.channel().await, service).await);
    }
    assert_eq!(health_of(&server, LIVENESS).await, ServingStatus::Serving);
    let mut liveness = watch(server.channel().await, LIVENESS).await;

    drop(recovering);
    for watch in &mut watches {
        wait_for(ServingStatus::Serving, watch).await;
    }
    for service in ["", SERVICE, ADMIN] {
        assert_eq!(health_of(&server, service).await, ServingStatus::Serving);
    }

    server.begin_stop();
    for watch in &mut watches {
        wait_for(ServingStatus::NotServing, watch).await;
        assert_eq!(watch.message().await.unwrap(), None);
    }
    // No restart would have helped at any time.
    while let Some(answer) = liveness.message().await.unwrap() {
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_does_not_know_what_is_not_served() {
    let server = TestServer::start(Settings { admin: false, ..settings("memory:") });
    let mut client = HealthClient::new(server.channel().await);
    let unknown = HealthCheckRequest { service: ADMIN.into() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_tells_a_full_disk() {
    let dir = TempDir::new().unwrap();
    let full = Settings { min_free_disk_bytes: u64::MAX, ..settings(&rocksdb(dir.path())) };
    let server = TestServer::start(full);
    // The disk was looked at as soon as there is this answer instead of STORE_UNAVAILABLE.
    let mut client = IdempotencyServiceClient::new(server.channel().await);
    while client.reserve(order("order-1")).await.unwrap_err().code() != Code::ResourceExhausted {}
    let mut watch = watch(server.channel().await, "").await;
    wait_for(ServingStatus::NotServing, &mut watch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reflection_shows_every_service_in_both_versions() {
    let server = TestServer::start(settings("memory:"));
    let services = ["grpc.health.v1.Health", SERVICE, ADMIN];

    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let ask = |message_request| {
        let request = v1::ServerReflectionRequest {
            message_request: Some(message_request),
            ..Default::default()
        };
        tokio_stream::once(request)
    };
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let list = ask(MessageRequest::ListServices(String::new()));
    let mut answers = client.server_reflection_info(list).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    for service in services {
        assert!(list.service.iter().any(|listed| listed.name == service), "{list:?}");
    }
    let find = ask(MessageRequest::FileContainingSymbol(SERVICE.into()));
    let mut answers = client.server_reflection_info(find).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer else { panic!("{answer:?}") };
    let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
    assert_eq!(file.name(), "onced/v1/idempotency.proto");

    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let list = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::once(list)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer
    else {
        panic!("{answer:?}")
    };
    for service in services {
        assert!(list.service.iter().any(|listed| listed.name == service), "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reflection_can_be_switched_off() {
    let server = TestServer::start(Settings { reflection: false, ..settings("memory:") });
    let asked = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await)
        .server_reflection_info(tokio_stream::once(v1::ServerReflectionRequest::default()))
        .await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
    let asked =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await)
            .server_reflection_info(tokio_stream::once(v1alpha::ServerReflectionRequest::default()))
            .await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
}

// Many callers, and callers that leave.

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_callers_that_race_for_a_key_exactly_one_is_granted_it() {
    const CALLERS: usize = 64;
    const KEYS: usize = 20;
    let dir = TempDir::new().unwrap();
    let server = TestServer::start(settings(&rocksdb(dir.path())));
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.client().await);
    }

    let start = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, start) = (clients[caller % clients.len()].clone(), start.clone());
        callers.spawn(async move {
            start.wait().await;
            let mut granted = Vec::new();
            for turn in 0..KEYS {
                let key = (caller + turn) % KEYS;
                let answer = client.reserve(order(&format!("order-{key}"))).await.unwrap();
                match answer.into_inner().outcome.unwrap() {
                    Outcome::Granted(grant) => granted.push((key, grant)),
                    Outcome::InProgress(busy) => assert_eq!(busy.attempt, 1),
                    other => panic!("{other:?}"),
                }
            }
            granted
        });
    }
    let granted = callers.join_all().await.concat();

    assert_eq!(granted.len(), KEYS);
    let by_key: HashMap<_, _> = granted.iter().map(|(key, grant)| (key, grant)).collect();
    assert_eq!(by_key.len(), KEYS);
    assert!(granted.iter().all(|(_, grant)| grant.attempt == 1 && !grant.takeover));
}

/// Checks that the order is either as if it had never been sent, or reserved as it was sent:
/// for its owner, who sends it again, it comes to the same.
async fn settle(client: &mut IdempotencyServiceClient<Channel>, order: ReserveRequest) {
    let looked_up =
        client.lookup(LookupRequest { key: order.key.clone(), ..Default::default() }).await;
    let before = match looked_up {
        Ok(found) => Some(found.into_inner().record.unwrap()),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => panic!("{status:?}"),
    };
    let grant = granted(client.reserve(order.clone()).await.unwrap().into_inner());
    assert_eq!((grant.attempt, &grant.owner_token), (1, &order.owner_token));
    if let Some(record) = before {
        assert_eq!((record.state(), record.attempt), (RecordState::Held, 1));
        assert_eq!(
            (record.fencing_token, record.fingerprint),
            (grant.fencing_token, order.fingerprint.clone())
        );
        assert_eq!(record.lease_expire_time, grant.lease_expire_time);
    }
    client.complete(done(&order)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_leaves_harms_nobody_and_leaves_nothing_half_done() {
    let dir = TempDir::new().unwrap();
    let server = TestServer::start(settings(&rocksdb(dir.path())));
    let mut client = server.client().await;

    let mut leaving = JoinSet::new();
    let mut staying = JoinSet::new();
    for number in 0..200 {
        let (mut client_that_leaves, mut client_that_stays) = (client.clone(), client.clone());
        let left = order(&format!("left-{number}"));
        leaving.spawn(async move {
            // Sooner or later on the way, from before the request is sent to after the answer.
            let patience = async {
                for _ in 0..number % 25 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = patience => {}
                answer = client_that_leaves.reserve(left.clone()) => drop(answer.unwrap()),
            }
            left
        });
        staying.spawn(async move {
            let stayed = order(&format!("stayed-{number}"));
            let grant =
                granted(client_that_stays.reserve(stayed.clone()).await.unwrap().into_inner());
            assert_eq!((grant.attempt, &grant.owner_token), (1, &stayed.owner_token));
            client_that_stays.complete(done(&stayed)).await.unwrap();
        });
    }
    staying.join_all().await;
    for order in leaving.join_all().await {
        settle(&mut client, order).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hundreds_of_calls_cancelled_in_one_packet_do_not_cost_the_connection() {
    let dir = TempDir::new().unwrap();
    let server = TestServer::start(settings(&rocksdb(dir.path())));
    let mut client = server.client().await;

    let orders: Vec<_> = (0..500).map(|number| order(&format!("cancelled-{number}"))).collect();
    let mut burst = Vec::new();
    for (call, order) in (1..).step_by(2).zip(&orders) {
        burst.extend(http2::begin(call, "Reserve"));
        burst.extend(http2::request(call, order));
        burst.extend(http2::cancel(call));
    }
    let mut peer = Peer::connect(server.address);
    peer.send(&burst);
    let (call, kept) = (1_001, order("kept"));
    peer.send(&[http2::begin(call, "Reserve"), http2::request(call, &kept)].concat());
    assert_eq!(granted(peer.answer(call)).owner_token, kept.owner_token);
    assert!(!peer.told_to_go);

    for order in orders {
        settle(&mut client, order).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_too_many_is_refused_and_the_others_go_on() {
    let server = TestServer::start(Settings { max_connections: 2, ..settings("memory:") });
    let mut first = server.client().await;
    let mut second = server.client().await;

    let mut third = TcpStream::connect(server.address).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_or(0), 0, "the server has nothing to say to it");
    granted(first.reserve(order("order-1")).await.unwrap().into_inner());
    granted(second.reserve(order("order-2")).await.unwrap().into_inner());

    // As soon as the server has noticed that there is room, the next one is served.
    drop(first);
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let url = format!("http://{}", server.address);
            let Ok(mut next) = IdempotencyServiceClient::connect(url).await else { continue };
            if let Ok(answer) = next.reserve(order("order-3")).await {
                return granted(answer.into_inner());
            }
        }
    })
    .await
    .unwrap();
    granted(second.reserve(order("order-4")).await.unwrap().into_inner());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_is_never_sent_whole_is_given_up_at_its_deadline() {
    let server = TestServer::start(settings("memory:"));
    drop(server.client().await);
    let mut peer = Peer::connect(server.address);
    let whole = order("order-1");
    peer.send(&http2::begin_with_timeout(1, "Reserve", "50m"));
    peer.send(
        &[http2::begin_with_timeout(3, "Reserve", "50S"), http2::request(3, &whole)].concat(),
    );
    assert_eq!(granted(peer.answer(3)).owner_token, whole.owner_token);
    assert_eq!(peer.body(1), b"", "a status and no message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_is_told_to_go_when_it_is_old() {
    let age = Some(Duration::from_millis(100));
    let server = TestServer::start(Settings { connection_max_age: age, ..settings("memory:") });
    drop(server.client().await);
    let mut peer = Peer::connect(server.address);
    let late = order("late");
    peer.send(&http2::begin(1, "Reserve"));
    peer.wait_until_told_to_go();
    peer.send(&http2::request(1, &late));
    assert_eq!(granted(peer.answer(1)).owner_token, late.owner_token);
    peer.wait_for_end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_silent_caller_is_asked_whether_it_is_still_there() {
    let interval = Some(Duration::from_millis(100));
    let server =
        TestServer::start(Settings { keepalive_interval: interval, ..settings("memory:") });
    drop(server.client().await);
    let mut peer = Peer::connect(server.address);
    peer.wait_until_asked();
    peer.wait_until_asked();
}

// The drain.

/// A call that the server has received for certain, and whose request is still to come.
fn call_in_flight(server: &TestServer) -> Peer {
    let mut peer = Peer::connect(server.address);
    let another = order("another");
    // Frames are read in order: what came before an answered call has been received.
    let calls =
        [http2::begin(1, "Reserve"), http2::begin(3, "Reserve"), http2::request(3, &another)];
    peer.send(&calls.concat());
    granted(peer.answer(3));
    peer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_answers_what_was_received_and_closes_everything() {
    let dir = TempDir::new().unwrap();
    let mut server = TestServer::start(settings(&rocksdb(dir.path())));
    let channel = server.client().await;
    let mut watch = watch(server.channel().await, SERVICE).await;
    wait_for(ServingStatus::Serving, &mut watch).await;
    let mut peer = call_in_flight(&server);

    server.begin_stop();
    wait_for(ServingStatus::NotServing, &mut watch).await;
    assert_eq!(watch.message().await.unwrap(), None);
    peer.wait_until_told_to_go();

    let late = order("late");
    peer.send(&http2::request(1, &late));
    let grant = granted(peer.answer(1));
    peer.wait_for_end();
    let address = server.address;
    server.stop().await.unwrap();
    assert!(TcpStream::connect(address).is_err());
    drop(channel);

    let server = TestServer::start(settings(&rocksdb(dir.path())));
    let again = server.client().await.reserve(late).await.unwrap().into_inner();
    assert_eq!(granted(again), grant);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_never_comes_to_an_end_does_not_keep_the_server() {
    let limit = Duration::from_millis(100);
    let server = TestServer::start(Settings { drain_limit: limit, ..settings("memory:") });
    drop(server.client().await);
    let peer = call_in_flight(&server);
    server.stop().await.unwrap();
    peer.wait_for_end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_stopped_while_it_recovers_ends_in_order() {
    let store = StalledStore::new();
    let mut server = TestServer::start(settings(&rocksdb(store.path())));
    let recovering = store.is_being_opened().await;
    server.begin_stop();
    drop(recovering);
    server.stop().await.unwrap();
}
