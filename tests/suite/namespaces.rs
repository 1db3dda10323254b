//! Namespaces as policy, over a real channel: what the settings file says of each is what its
//! callers meet.

use std::path::PathBuf;

use onced::config::{ConfigFile, Settings, Sources};
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, DeleteRecordRequest, DescribeNamespaceRequest, GetStatsRequest, Granted,
    LookupRequest, RecordState, ReleaseRequest, RenewRequest, ReserveRequest, Response,
    Result as OperationResult,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::server::{TestServer, settings};

type Client = IdempotencyServiceClient<Channel>;

/// A server with this settings file, and records in memory.
fn server(file: &str) -> TestServer {
    server_on("memory:", file)
}

fn server_on(store: &str, file: &str) -> TestServer {
    let file = ConfigFile { path: PathBuf::from("onced.toml"), text: Ok(file.to_owned()) };
    let sources = Sources { file: Some(file), ..Sources::default() };
    let Settings { strict, namespaces, .. } = Settings::resolve(&sources).unwrap();
    TestServer::start(Settings { strict, namespaces, ..settings(store) })
}

fn order(namespace: &str, key: &str) -> ReserveRequest {
    ReserveRequest {
        namespace: namespace.into(),
        key: key.into(),
        fingerprint: b"body".to_vec(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    }
}

fn done(order: &ReserveRequest, payload: &[u8]) -> CompleteRequest {
    CompleteRequest {
        namespace: order.namespace.clone(),
        key: order.key.clone(),
        owner_token: order.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: payload.into(), ..Default::default() }),
        retention: None,
    }
}

fn renewed(order: &ReserveRequest) -> RenewRequest {
    RenewRequest {
        namespace: order.namespace.clone(),
        key: order.key.clone(),
        owner_token: order.owner_token.clone(),
        lease: None,
        checkpoint: Some(b"half".to_vec()),
    }
}

fn given_back(order: &ReserveRequest) -> ReleaseRequest {
    ReleaseRequest {
        namespace: order.namespace.clone(),
        key: order.key.clone(),
        owner_token: order.owner_token.clone(),
    }
}

fn look(order: &ReserveRequest) -> LookupRequest {
    LookupRequest { namespace: order.namespace.clone(), key: order.key.clone(), wait_timeout: None }
}

async fn reserve(client: &mut Client, order: &ReserveRequest) -> Outcome {
    client.reserve(order.clone()).await.unwrap().into_inner().outcome.unwrap()
}

async fn granted(client: &mut Client, order: &ReserveRequest) -> Granted {
    match reserve(client, order).await {
        Outcome::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

/// The one violation of an INVALID_FIELD.
#[track_caller]
fn violation(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD");
    let [one] = &details.bad_request().unwrap().field_violations[..] else { panic!("{status:?}") };
    (one.field.clone(), one.description.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_strict_server_refuses_every_call_in_a_namespace_that_it_does_not_list() {
    let server = server("strict = true\n[namespaces.orders]\n[namespaces.secret-project]\n");
    let mut client = server.client().await;
    granted(&mut client, &order("orders", "order-1")).await;

    for namespace in ["mail", ""] {
        let stray = order(namespace, "order-1");
        for status in [
            client.reserve(stray.clone()).await.unwrap_err(),
            client.complete(done(&stray, b"")).await.unwrap_err(),
            client.renew(renewed(&stray)).await.unwrap_err(),
            client.release(given_back(&stray)).await.unwrap_err(),
            client.lookup(look(&stray)).await.unwrap_err(),
        ] {
            let (field, description) = violation(&status);
            assert_eq!(field, "namespace");
            assert_eq!(description, "is not listed by this server, which takes listed ones only");
            assert!(!format!("{status:?}").contains("secret-project"), "{status:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_namespace_that_requires_a_fingerprint_refuses_a_reserve_without_one() {
    let server = server("[namespaces.orders]\nfingerprint_required = true");
    let mut client = server.client().await;
    let without = |namespace| ReserveRequest { fingerprint: vec![], ..order(namespace, "order-1") };
    let refused = client.reserve(without("orders")).await.unwrap_err();
    let told = ("fingerprint".to_owned(), "is empty; this namespace requires one".to_owned());
    assert_eq!(violation(&refused), told);
    granted(&mut client, &order("orders", "order-1")).await;
    granted(&mut client, &without("mail")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_namespace_that_holds_leaves_a_vanished_owner_in_doubt() {
    let server = server(
        "[namespaces.payments]\nlease_expiry_action = \"hold\"\nlease_max = \"100ms\"\n\
         lease_default = \"100ms\"\n[namespaces.mail]\nlease_default = \"100ms\"",
    );
    let mut client = server.client().await;
    for namespace in ["payments", "mail"] {
        // An hour is cut to what the namespace allows.
        let lease =
            (namespace == "payments").then_some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        let first = ReserveRequest { lease, ..order(namespace, "order-1") };
        granted(&mut client, &first).await;
        loop {
            let record = client.lookup(look(&first)).await.unwrap().into_inner().record.unwrap();
            match record.state() {
                RecordState::Held => continue,
                RecordState::InDoubt => assert_eq!(namespace, "payments"),
                RecordState::Lapsed => assert_eq!(namespace, "mail"),
                other => panic!("{other:?}"),
            }
            break;
        }
    }
    let later = order("payments", "order-1");
    assert!(matches!(reserve(&mut client, &later).await, Outcome::InDoubt(_)));
    assert!(granted(&mut client, &order("mail", "order-1")).await.takeover);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_quota_refuses_one_key_too_many_until_another_one_is_over() {
    let dir = TempDir::new().unwrap();
    for store in ["memory:".to_owned(), format!("rocksdb:{}", dir.path().join("data").display())] {
        let server = server_on(&store, "[namespaces.orders]\nquota_keys = 2");
        let mut client = server.client().await;
        let (first, second) = (order("orders", "order-1"), order("orders", "order-2"));
        granted(&mut client, &first).await;
        granted(&mut client, &second).await;

        let third = order("orders", "order-3");
        let refused = client.reserve(third.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "QUOTA_EXCEEDED");
        let violations = &details.quota_failure().unwrap().violations;
        assert_eq!(violations[0].subject, "orders/quota_keys");
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(!delay.is_zero());
        granted(&mut client, &order("mail", "order-3")).await;

        // What is there goes on, and ends; and once it is over, it makes room.
        let retention = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
        let brief = CompleteRequest { retention, ..done(&first, b"") };
        client.complete(brief).await.unwrap();
        let freed = loop {
            match client.reserve(third.clone()).await {
                Ok(answer) => break answer.into_inner().outcome.unwrap(),
                Err(refused) => assert_eq!(refused.code(), Code::ResourceExhausted),
            }
        };
        assert!(matches!(freed, Outcome::Granted(_)), "{freed:?}");
        drop(client);
        server.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn in_a_shadowed_namespace_a_quota_stops_nobody() {
    let server = server("[namespaces.orders]\nshadow = true\nquota_keys = 1");
    let mut client = server.client().await;
    assert!(!granted(&mut client, &order("orders", "order-1")).await.shadow);
    let beyond = order("orders", "order-2");
    assert!(granted(&mut client, &beyond).await.shadow);
    client.complete(done(&beyond, b"done")).await.unwrap();
    let nothing = client.lookup(look(&beyond)).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn in_a_shadowed_namespace_nobody_waits_and_items_of_a_batch_go_on_too() {
    use onced::pb::v1::{
        BatchCompleteRequest, BatchReserveRequest, batch_complete_item, batch_reserve_item,
    };
    let server = server("[namespaces.mail]\nshadow = true\n");
    let mut client = server.client().await;
    let (first, second) = (order("mail", "m-1"), order("mail", "m-1"));
    granted(&mut client, &first).await;

    // Whoever would be parked is told at once what lets it go on.
    let wait_timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let waiting = ReserveRequest { wait_timeout, ..second.clone() };
    assert!(granted(&mut client, &waiting).await.shadow);

    let items = vec![second.clone(), order("mail", "m-2")];
    let answer = client.batch_reserve(BatchReserveRequest { items }).await.unwrap().into_inner();
    let shadows: Vec<_> = answer
        .items
        .into_iter()
        .map(|item| match item.result {
            Some(batch_reserve_item::Result::Response(answer)) => match answer.outcome {
                Some(Outcome::Granted(granted)) => granted.shadow,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shadows, [true, false]);

    let items = vec![done(&second, b"second"), done(&first, b"first")];
    let answer = client.batch_complete(BatchCompleteRequest { items }).await.unwrap().into_inner();
    for item in &answer.items {
        let is_done = matches!(item.result, Some(batch_complete_item::Result::Response(_)));
        assert!(is_done, "{item:?}");
    }
    let record = client.lookup(look(&first)).await.unwrap().into_inner().record.unwrap();
    assert_eq!(record.completion.unwrap().response.unwrap().payload, b"first");
    drop(client);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn in_a_shadowed_namespace_two_callers_both_run_and_the_record_is_the_first_ones() {
    let server = server("[namespaces.orders]\nshadow = true");
    let mut client = server.client().await;
    let (first, second) = (order("orders", "order-1"), order("orders", "order-1"));

    // The first is granted as anywhere.
    let real = granted(&mut client, &first).await;
    assert!(!real.shadow && real.fencing_token > 0);

    // The second would have been told to wait, and is granted all the same.
    let shadow = granted(&mut client, &second).await;
    assert_eq!(
        (shadow.owner_token.as_str(), shadow.fencing_token, shadow.attempt, shadow.shadow),
        (second.owner_token.as_str(), 0, 0, true)
    );
    assert!(shadow.lease_expire_time.is_some() && !shadow.takeover);

    // Whatever it does then is taken, and changes nothing.
    client.renew(renewed(&second)).await.unwrap();
    let told = client.complete(done(&second, b"second")).await.unwrap().into_inner();
    let completion = told.completion.unwrap();
    assert_eq!(completion.response.unwrap().payload, b"second");
    assert_eq!((completion.fencing_token, completion.attempt), (0, 0));
    client.release(given_back(&second)).await.unwrap();
    let record = client.lookup(look(&first)).await.unwrap().into_inner().record.unwrap();
    assert_eq!((record.state(), record.fencing_token), (RecordState::Held, real.fencing_token));
    assert!(record.checkpoint.is_empty());

    // The first completes as anywhere,
    let told = client.complete(done(&first, b"first")).await.unwrap().into_inner();
    assert_eq!(told.completion.unwrap().fencing_token, real.fencing_token);

    // and whoever comes later runs as well: another request, one that would be replayed.
    let other_body =
        ReserveRequest { fingerprint: b"other".to_vec(), ..order("orders", "order-1") };
    for late in [other_body, order("orders", "order-1")] {
        assert!(granted(&mut client, &late).await.shadow);
        client.complete(done(&late, b"late")).await.unwrap();
    }
    // What was completed stays so for its owner too.
    client.release(given_back(&first)).await.unwrap();
    client.complete(done(&first, b"changed its mind")).await.unwrap();
    let record = client.lookup(look(&first)).await.unwrap().into_inner().record.unwrap();
    let stored = record.completion.unwrap();
    assert_eq!(stored.response.unwrap().payload, b"first");

    // Nothing on record at all is no obstacle either; but nonsense is.
    client.release(given_back(&order("orders", "order-2"))).await.unwrap();
    let nonsense = ReserveRequest { owner_token: "me".into(), ..order("orders", "order-1") };
    assert_eq!(violation(&client.reserve(nonsense).await.unwrap_err()).0, "owner_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shadow_falls_on_its_own_namespace_only() {
    let server = server("[namespaces.orders]\nshadow = true\n[namespaces.mail]\n");
    let mut client = server.client().await;
    for namespace in ["mail", "unlisted", ""] {
        granted(&mut client, &order(namespace, "order-1")).await;
        let second = order(namespace, "order-1");
        assert!(matches!(reserve(&mut client, &second).await, Outcome::InProgress(_)));
        let lost = client.complete(done(&second, b"")).await.unwrap_err();
        assert_eq!(lost.code(), Code::Aborted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_operator_sees_what_applies_and_what_is_there_and_strict_stops_none() {
    // Given records of a namespace that the server does not take any more.
    let directory = TempDir::new().unwrap();
    let store = format!("rocksdb:{}", directory.path().join("data").display());
    let first = server_on(&store, "");
    granted(&mut first.client().await, &order("old", "order-1")).await;
    first.stop().await.unwrap();
    let server = server_on(
        &store,
        "strict = true\n[namespaces.orders]\nshadow = true\nquota_keys = 1\nlease_default = \"7s\"",
    );
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    client.reserve(order("old", "order-2")).await.unwrap_err();
    assert!(!granted(&mut client, &order("orders", "order-1")).await.shadow);
    assert!(granted(&mut client, &order("orders", "order-2")).await.shadow);

    // Then an operator is told what applies in both,
    let mut described = Vec::new();
    for namespace in ["old", "orders"] {
        let request = DescribeNamespaceRequest { namespace: namespace.into() };
        let answer = admin.describe_namespace(request).await.unwrap().into_inner();
        described.push(answer.policy.unwrap());
    }
    assert_eq!(described.iter().map(|it| it.served).collect::<Vec<_>>(), [false, true]);
    assert_eq!((described[1].shadow, described[1].quota_keys), (true, Some(1)));
    assert_eq!(described[1].lease_default.unwrap().seconds, 7);
    let wrong = DescribeNamespaceRequest { namespace: "Orders".into() };
    let refused = admin.describe_namespace(wrong).await.unwrap_err();
    assert_eq!(refused.get_error_details().bad_request().unwrap().field_violations.len(), 1);

    // what there is, what there may be, and what callers would have been told,
    let stats = admin.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    let shadow = &stats.shadows[0];
    assert_eq!((stats.shadows.len(), shadow.namespace.as_str()), (1, "orders"));
    let would_be =
        [("granted", 1), ("quota_exceeded", 1)].map(|(it, times)| (it.to_owned(), times));
    assert_eq!(shadow.would_be, would_be.into_iter().collect());
    let store = stats.store.unwrap();
    let usages: Vec<_> = store.namespaces.iter().collect();
    assert!(usages.iter().all(|it| it.bytes > 0) && !store.namespaces_capped);
    let usages: Vec<_> =
        usages.iter().map(|it| (it.namespace.as_str(), it.keys, it.quota_keys)).collect();
    assert_eq!(usages, [("old", 1, None), ("orders", 1, Some(1))]);
    assert_eq!(store.parked_calls, 0);

    // and may end what nobody else can.
    let delete = DeleteRecordRequest {
        namespace: "old".into(),
        key: "order-1".into(),
        reason: "the service is gone".into(),
        operator: "olga".into(),
        fencing_token: 0,
    };
    let deleted = admin.delete_record(delete).await.unwrap().into_inner();
    assert_eq!(deleted.state_before(), RecordState::Held);
    let stats = admin.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.store.unwrap().namespaces.len(), 1);
}
