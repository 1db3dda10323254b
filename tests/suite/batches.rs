//! Batches over a real channel: each item is answered as if its request had come alone.

use onced::pb::v1;
use onced::pb::v1::batch_complete_item::Result as Completed;
use onced::pb::v1::batch_reserve_item::Result as Reserved;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use prost::Message as _;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tonic_types::pb::Status as StatusMessage;

use crate::server::{TestServer, settings};

type Client = IdempotencyServiceClient<Channel>;

const ANN: &str = "0190b3b4-7f6e-4c6c-9d56-3f3f8d1f2a10";
const BOB: &str = "0190b3b4-7f6e-4c6c-9d56-3f3f8d1f2a11";

fn reserve(key: &str, owner_token: &str) -> v1::ReserveRequest {
    v1::ReserveRequest {
        key: key.into(),
        owner_token: owner_token.into(),
        fingerprint: b"body".to_vec(),
        ..Default::default()
    }
}

fn complete(key: &str, owner_token: &str, payload: &[u8]) -> v1::CompleteRequest {
    v1::CompleteRequest {
        key: key.into(),
        owner_token: owner_token.into(),
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response { payload: payload.to_vec(), ..Default::default() }),
        ..Default::default()
    }
}

async fn reserve_all(client: &mut Client, items: Vec<v1::ReserveRequest>) -> Vec<Reserved> {
    let answer = client.batch_reserve(v1::BatchReserveRequest { items }).await.unwrap();
    answer.into_inner().items.into_iter().map(|item| item.result.unwrap()).collect()
}

async fn complete_all(client: &mut Client, items: Vec<v1::CompleteRequest>) -> Vec<Completed> {
    let answer = client.batch_complete(v1::BatchCompleteRequest { items }).await.unwrap();
    answer.into_inner().items.into_iter().map(|item| item.result.unwrap()).collect()
}

/// The status that a call carries in its details.
fn message(status: &Status) -> StatusMessage {
    StatusMessage::decode(status.details()).unwrap()
}

fn reason(status: &StatusMessage) -> String {
    let details = status.encode_to_vec().into();
    let status = Status::with_details(Code::from(status.code), &status.message, details);
    status.get_details_error_info().unwrap().reason
}

fn outcome(item: &Reserved) -> &Outcome {
    match item {
        Reserved::Response(answer) => answer.outcome.as_ref().unwrap(),
        Reserved::Status(status) => panic!("{status:?}"),
    }
}

async fn tell(store: &str) {
    let server = TestServer::start(settings(store));
    let mut client = server.client().await;

    // Three messages, one of them twice.
    let items = vec![reserve("m-1", ANN), reserve("m-2", ANN), reserve("m-1", BOB)];
    let items = reserve_all(&mut client, items).await;
    let [Outcome::Granted(first), Outcome::Granted(second), Outcome::InProgress(twice)] =
        [outcome(&items[0]), outcome(&items[1]), outcome(&items[2])]
    else {
        panic!("{items:?}")
    };
    assert_eq!((first.attempt, second.attempt, twice.attempt), (1, 1, 1));
    assert_ne!(first.fencing_token, second.fencing_token);

    // Sent again, as after a lost answer, they are granted again.
    let again = reserve_all(&mut client, vec![reserve("m-1", ANN), reserve("m-2", ANN)]).await;
    assert_eq!(outcome(&again[0]), &Outcome::Granted(first.clone()));

    let items = vec![
        complete("m-1", ANN, b"one"),
        complete("m-2", BOB, b"two"),
        complete("m-2", ANN, b"two"),
        complete("m-1", ANN, b"one"),
    ];
    let items = complete_all(&mut client, items).await;
    let [Completed::Response(one), Completed::Status(lost), Completed::Response(_), again] =
        &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(again, &items[0]);
    assert_eq!(reason(lost), "LEASE_LOST");
    let one = one.completion.as_ref().unwrap();
    assert_eq!((&one.response, one.response_size_bytes), (&None, 3));

    // A redelivery is told what came of it, byte for byte.
    let items = reserve_all(&mut client, vec![reserve("m-1", BOB), reserve("m-3", BOB)]).await;
    let Outcome::Completed(replayed) = outcome(&items[0]) else { panic!("{items:?}") };
    assert_eq!(replayed.response.as_ref().unwrap().payload, b"one");
    assert_eq!(replayed.response_digest, one.response_digest);
    assert!(matches!(outcome(&items[1]), Outcome::Granted(_)));
    drop(client);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_reserved_completed_and_replayed_in_batches_in_memory() {
    tell("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_reserved_completed_and_replayed_in_batches_on_rocksdb() {
    let dir = TempDir::new().unwrap();
    tell(&format!("rocksdb:{}", dir.path().join("data").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fault_in_one_item_is_its_own_and_told_as_the_single_call_tells_it() {
    let server = TestServer::start(settings("memory:"));
    let mut client = server.client().await;
    client.reserve(reserve("taken", ANN)).await.unwrap();
    let faulty = [
        v1::ReserveRequest { key: String::new(), holder: "x".repeat(129), ..reserve("m", ANN) },
        v1::ReserveRequest { fingerprint: b"another".to_vec(), ..reserve("taken", BOB) },
        v1::ReserveRequest { namespace: "No".into(), ..reserve("m", "nobody") },
    ];
    let mut items = vec![reserve("right", ANN)];
    items.extend(faulty.clone());
    items.push(reserve("right too", ANN));

    let answers = reserve_all(&mut client, items).await;
    assert_eq!(answers.len(), 5);
    assert!(matches!(outcome(&answers[0]), Outcome::Granted(_)));
    assert!(matches!(outcome(&answers[4]), Outcome::Granted(_)));
    for (request, answer) in faulty.into_iter().zip(&answers[1..4]) {
        let alone = client.reserve(request).await.unwrap_err();
        assert_eq!(answer, &Reserved::Status(message(&alone)));
    }

    let faulty = [
        complete("nobody's", ANN, b""),
        complete("taken", BOB, b""),
        v1::CompleteRequest { result: 0, ..complete("taken", "", b"") },
    ];
    let answers = complete_all(&mut client, faulty.to_vec()).await;
    for (request, answer) in faulty.into_iter().zip(&answers) {
        let alone = client.complete(request).await.unwrap_err();
        assert_eq!(answer, &Completed::Status(message(&alone)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_batch_has_a_bound_and_does_not_wait() {
    let server = TestServer::start(settings("memory:"));
    let mut client = server.client().await;
    for count in [0, 1_001] {
        let items = (0..count).map(|number| reserve(&format!("m-{number}"), ANN)).collect();
        let refused = client.batch_reserve(v1::BatchReserveRequest { items }).await.unwrap_err();
        let items = vec![v1::CompleteRequest::default(); count];
        let too = client.batch_complete(v1::BatchCompleteRequest { items }).await.unwrap_err();
        for refused in [refused, too] {
            assert_eq!(refused.code(), Code::InvalidArgument);
            let violations = refused.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, "items");
            assert!(violations[0].description.contains("1 to 1000"), "{violations:?}");
        }
    }
    let items: Vec<_> = (0..1_000).map(|number| reserve(&format!("m-{number}"), ANN)).collect();
    let answers = reserve_all(&mut client, items).await;
    assert!(answers.iter().all(|item| matches!(outcome(item), Outcome::Granted(_))));

    let wait_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let waits = v1::ReserveRequest { wait_timeout, ..reserve("m-1", BOB) };
    let answers = reserve_all(&mut client, vec![waits, reserve("m-1", BOB)]).await;
    let Reserved::Status(status) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(reason(status), "INVALID_FIELD");
    assert!(matches!(outcome(&answers[1]), Outcome::InProgress(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_batch_that_no_item_of_can_be_let_in_is_refused_as_a_whole() {
    let dir = TempDir::new().unwrap();
    let store = format!("rocksdb:{}", dir.path().join("data").display());
    let settings = onced::config::Settings { max_in_flight: 2, ..settings(&store) };
    let server = TestServer::start(settings);
    let mut client = server.client().await;
    let items: Vec<_> = ["1", "2", "3"].map(|key| reserve(key, ANN)).into();
    let request = v1::BatchReserveRequest { items: items.clone() };
    let refused = client.batch_reserve(request).await.unwrap_err();
    assert_eq!(refused.get_details_error_info().unwrap().reason, "OVERLOADED");
    let two = reserve_all(&mut client, items[..2].to_vec()).await;
    assert!(two.iter().all(|item| matches!(outcome(item), Outcome::Granted(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_is_one_that_clients_can_read_however_much_is_stored() {
    let server = TestServer::start(settings("memory:"));
    let mut client = server.client().await;
    let keys: Vec<_> = (0..1_000).map(|number| format!("m-{number}")).collect();
    reserve_all(&mut client, keys.iter().map(|key| reserve(key, ANN)).collect()).await;
    let payload = vec![b'x'; 8 << 10];
    for keys in keys.chunks(250) {
        let items = keys.iter().map(|key| complete(key, ANN, &payload)).collect();
        let answers = complete_all(&mut client, items).await;
        assert!(answers.iter().all(|item| matches!(item, Completed::Response(_))));
    }

    // 8 MiB are stored, and clients of gRPC read 4 unless they are told otherwise.
    let mut left: Vec<_> = keys.iter().map(String::as_str).collect();
    while !left.is_empty() {
        let items = left.iter().map(|key| reserve(key, BOB)).collect();
        let answers = reserve_all(&mut client, items).await;
        let mut cut = Vec::new();
        for (key, answer) in left.iter().zip(&answers) {
            match answer {
                Reserved::Response(_) => {
                    let Outcome::Completed(end) = outcome(answer) else { panic!("{answer:?}") };
                    assert!(end.response.as_ref().unwrap().payload == payload);
                }
                Reserved::Status(status) => {
                    assert_eq!(reason(status), "ANSWER_TOO_LARGE");
                    assert_eq!(Code::from(status.code), Code::ResourceExhausted);
                    cut.push(*key);
                }
            }
        }
        assert!(cut.len() < left.len(), "each call brings some of them");
        left = cut;
    }
}
