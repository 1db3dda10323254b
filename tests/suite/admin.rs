//! What an operator lives through over a real channel, on both engines: a work list, a decision
//! for each entry, and a namespace that goes.

use std::time::Duration;

use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, DeleteRecordRequest, EraseNamespaceRequest, ForceCompleteRequest,
    ForceReleaseRequest, Granted, LeaseExpiryAction, ListRecordsRequest, RecordState,
    ReserveRequest, Response, Result as OperationResult,
};
use prost_types::Duration as Span;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::server::{TestServer, settings};

type Admin = AdminServiceClient<Channel>;
type Client = onced::pb::v1::idempotency_service_client::IdempotencyServiceClient<Channel>;

fn payment(key: &str) -> ReserveRequest {
    ReserveRequest {
        namespace: "payments".into(),
        key: key.into(),
        owner_token: Uuid::new_v4().into(),
        // The shortest.
        lease: Some(Span { seconds: 0, nanos: 100_000_000 }),
        lease_expiry_action: LeaseExpiryAction::Hold.into(),
        ..Default::default()
    }
}

async fn reserve(client: &mut Client, request: ReserveRequest) -> Outcome {
    client.reserve(request).await.unwrap().into_inner().outcome.unwrap()
}

async fn grant(client: &mut Client, request: ReserveRequest) -> Granted {
    match reserve(client, request).await {
        Outcome::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

/// The keys of everything in `state` in all namespaces, in pages of two.
async fn list(admin: &mut Admin, state: RecordState) -> Vec<String> {
    let mut request = ListRecordsRequest {
        namespace: "*".into(),
        state: state.into(),
        page_size: 2,
        ..Default::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = admin.list_records(request.clone()).await.unwrap().into_inner();
        keys.extend(page.records.into_iter().map(|listed| {
            assert_eq!(listed.record.unwrap().state(), state);
            listed.key
        }));
        if page.next_page_token.is_empty() {
            return keys;
        }
        request.page_token = page.next_page_token;
    }
}

async fn work_list(admin: &mut Admin, length: usize) -> Vec<String> {
    loop {
        let keys = list(admin, RecordState::InDoubt).await;
        if keys.len() == length {
            return keys;
        }
        // Leases are running out; nothing tells when they have.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn tell(store: &str) {
    let server = TestServer::start(settings(store));
    let (mut client, mut admin) = (server.client().await, server.admin().await);

    // Given owners that vanished, one after another.
    let mut lost = Vec::new();
    for key in ["c", "a", "b"] {
        let request = payment(key);
        let granted = grant(&mut client, request.clone()).await;
        lost.push((request, granted));
        work_list(&mut admin, lost.len()).await;
    }
    assert!(matches!(reserve(&mut client, payment("a")).await, Outcome::InDoubt(_)));

    // Then they are on the work list, oldest first.
    assert_eq!(work_list(&mut admin, 3).await, ["c", "a", "b"]);

    // When it turns out that one did not happen, its owner has lost it and another may try.
    let (reason, operator) = ("the bank says so".to_owned(), "olga@desk-7".to_owned());
    let release = ForceReleaseRequest {
        namespace: "payments".into(),
        key: "c".into(),
        reason: reason.clone(),
        operator: operator.clone(),
        fencing_token: lost[0].1.fencing_token,
    };
    let released = admin.force_release(release.clone()).await.unwrap().into_inner();
    assert_eq!(released.state_before(), RecordState::InDoubt);
    assert_eq!(released.fencing_token, lost[0].1.fencing_token);
    let again = admin.force_release(release.clone()).await.unwrap().into_inner();
    assert_eq!(again.state_before(), RecordState::Released);
    let complete = |(request, _): &(ReserveRequest, Granted), payload: &[u8]| CompleteRequest {
        namespace: request.namespace.clone(),
        key: request.key.clone(),
        owner_token: request.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: payload.to_vec(), ..Default::default() }),
        retention: None,
    };
    let too_late = client.complete(complete(&lost[0], b"paid")).await.unwrap_err();
    assert_eq!(too_late.get_details_error_info().unwrap().reason, "LEASE_LOST");
    let next = grant(&mut client, payment("c")).await;
    assert_eq!((next.attempt, next.takeover), (2, false));
    assert!(next.fencing_token > lost[0].1.fencing_token);
    // And the first decision is not taken for one about the second attempt.
    let changed = admin.force_release(release).await.unwrap_err();
    assert_eq!(changed.code(), Code::Aborted);
    assert_eq!(changed.get_details_error_info().unwrap().reason, "RECORD_CHANGED");

    // When another did happen, everybody is told so, its owner too.
    let force = ForceCompleteRequest {
        namespace: "payments".into(),
        key: "a".into(),
        reason: reason.clone(),
        operator: operator.clone(),
        fencing_token: 0,
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: b"paid".to_vec(), ..Default::default() }),
        retention: None,
    };
    let end = admin.force_complete(force.clone()).await.unwrap().into_inner();
    assert_eq!(end.state_before(), RecordState::InDoubt);
    let shown = end.completion.unwrap();
    assert_eq!((shown.late, shown.response_size_bytes), (true, 4));
    assert_eq!(shown.response.unwrap().payload, b"", "a caller gets it, an operator has it");
    let Outcome::Completed(replay) = reserve(&mut client, payment("a")).await else {
        panic!("not replayed")
    };
    assert_eq!(replay.response.unwrap().payload, b"paid");
    let owner = client.complete(complete(&lost[1], b"paid")).await.unwrap().into_inner();
    assert_eq!(owner.completion.unwrap().complete_time, replay.complete_time);
    let other = client.complete(complete(&lost[1], b"not paid")).await.unwrap_err();
    assert_eq!(other.get_details_error_info().unwrap().reason, "RESULT_CONFLICT");

    // When the last never mattered, its key is vacant.
    let delete = DeleteRecordRequest {
        namespace: "payments".into(),
        key: "b".into(),
        reason: reason.clone(),
        operator: operator.clone(),
        fencing_token: 0,
    };
    let gone = admin.delete_record(delete.clone()).await.unwrap().into_inner();
    assert_eq!(gone.state_before(), RecordState::InDoubt);
    let gone = admin.delete_record(delete).await.unwrap().into_inner();
    assert_eq!((gone.state_before(), gone.fencing_token), (RecordState::Unspecified, 0));
    let anew = grant(&mut client, payment("b")).await;
    assert_eq!(anew.attempt, 1);
    assert!(anew.fencing_token > next.fencing_token);

    // When the namespace goes, the others stay.
    let elsewhere = ReserveRequest { namespace: "refunds".into(), ..payment("a") };
    grant(&mut client, ReserveRequest { lease: None, ..elsewhere }).await;
    let erase = EraseNamespaceRequest {
        namespace: "payments".into(),
        reason,
        operator,
        erase_id: Uuid::new_v4().into(),
    };
    let erased = loop {
        let answer = admin.erase_namespace(erase.clone()).await.unwrap().into_inner();
        let erase = answer.erase.unwrap();
        if erase.done {
            break erase;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((erased.erased_records, erased.erase_id), (3, erase.erase_id));
    let everything = ListRecordsRequest { namespace: "*".into(), ..Default::default() };
    let left = admin.list_records(everything).await.unwrap().into_inner().records;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].namespace.as_str(), left[0].key.as_str()), ("refunds", "a"));
    drop((client, admin));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_operator_decides_what_is_in_doubt_in_memory() {
    tell("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_operator_decides_what_is_in_doubt_on_rocksdb() {
    let dir = TempDir::new().unwrap();
    tell(&format!("rocksdb:{}", dir.path().join("data").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_page_token_is_good_for_its_own_listing_only() {
    let server = TestServer::start(settings("memory:"));
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    for key in ["a", "b", "c"] {
        grant(&mut client, payment(key)).await;
    }
    let first =
        ListRecordsRequest { namespace: "payments".into(), page_size: 1, ..Default::default() };
    let page = admin.list_records(first.clone()).await.unwrap().into_inner();
    let rest = ListRecordsRequest { page_token: page.next_page_token, ..first };
    // A page of another size is the same listing.
    let larger = ListRecordsRequest { page_size: 10, ..rest.clone() };
    let page = admin.list_records(larger).await.unwrap().into_inner();
    let keys: Vec<_> = page.records.into_iter().map(|listed| listed.key).collect();
    assert_eq!(keys, ["b", "c"]);

    for other in [
        ListRecordsRequest { namespace: "*".into(), ..rest.clone() },
        ListRecordsRequest { key_prefix: "a".into(), ..rest.clone() },
        ListRecordsRequest { state: RecordState::InDoubt.into(), ..rest.clone() },
        ListRecordsRequest { page_token: "none".into(), ..rest.clone() },
        ListRecordsRequest { page_token: rest.page_token[1..].to_owned(), ..rest },
    ] {
        let refused = admin.list_records(other).await.unwrap_err();
        let details = refused.get_error_details();
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!((fields.len(), fields[0].field.as_str()), (1, "page_token"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn switched_off_nobody_is_an_operator() {
    let off = onced::config::Settings { admin: false, ..settings("memory:") };
    let server = TestServer::start(off);
    let mut admin = server.admin().await;
    let refused = admin.get_stats(onced::pb::v1::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_log_of_a_process_that_is_not_the_servers_is_left_alone() {
    let server = TestServer::start(settings("memory:"));
    let mut admin = server.admin().await;
    let request = onced::pb::v1::SetLogFilterRequest {
        filter: "debug".into(),
        reason: "ticket 4711".into(),
        operator: "olga".into(),
        duration: None,
    };
    let refused = admin.set_log_filter(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "LOG_NOT_CHANGEABLE");
}
