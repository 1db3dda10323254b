//! The story that every caller lives, over a real channel: order, duplicate, replay, another
//! body refused, on both engines and across a restart.

use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, LookupRequest, RecordState, ReleaseRequest, RenewRequest, ReserveRequest,
    Response, Result as OperationResult,
};
use tempfile::TempDir;
use tonic::Code;

use crate::server::{TestServer, settings};

fn order(key: &str) -> ReserveRequest {
    ReserveRequest {
        namespace: "orders".into(),
        key: key.into(),
        fingerprint: b"body-1".to_vec(),
        holder: "shop-1".into(),
        ..Default::default()
    }
}

fn paid() -> Response {
    Response {
        payload: b"{\"paid\": true}\0\xff".to_vec(),
        content_type: "application/json".into(),
        status_code: 201,
        metadata: [("location".to_owned(), "/orders/1".to_owned())].into(),
    }
}

async fn tell(store: &str) {
    let server = TestServer::start(settings(store));
    let mut client = server.client().await;

    let reserved = client.reserve(order("order-1")).await.unwrap().into_inner();
    let Some(Outcome::Granted(granted)) = reserved.outcome else { panic!("{reserved:?}") };
    assert_eq!((granted.attempt, granted.takeover), (1, false));
    assert!(granted.fencing_token > 0);

    let again = client
        .reserve(ReserveRequest { owner_token: granted.owner_token.clone(), ..order("order-1") })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.outcome, Some(Outcome::Granted(granted.clone())));

    let duplicate = client.reserve(order("order-1")).await.unwrap().into_inner();
    let Some(Outcome::InProgress(busy)) = duplicate.outcome else { panic!("{duplicate:?}") };
    assert_eq!((busy.attempt, busy.holder.as_str()), (1, "shop-1"));
    assert!(busy.retry_delay.unwrap().nanos > 0 || busy.retry_delay.unwrap().seconds > 0);

    let renewed = client
        .renew(RenewRequest {
            namespace: "orders".into(),
            key: "order-1".into(),
            owner_token: granted.owner_token.clone(),
            lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            checkpoint: Some(b"half".to_vec()),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(
        renewed.lease_expire_time.unwrap().seconds > granted.lease_expire_time.unwrap().seconds
    );

    let complete = CompleteRequest {
        namespace: "orders".into(),
        key: "order-1".into(),
        owner_token: granted.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(paid()),
        retention: None,
    };
    let completed = client.complete(complete.clone()).await.unwrap().into_inner();
    let completion = completed.completion.unwrap();
    assert_eq!(completion.response, Some(paid()));
    assert_eq!(completion.fencing_token, granted.fencing_token);
    assert!(!completion.late && !completion.response_omitted);
    let repeated = client.complete(complete).await.unwrap().into_inner();
    assert_eq!(repeated.completion.as_ref(), Some(&completion));

    let replay = client.reserve(order("order-1")).await.unwrap().into_inner();
    assert_eq!(replay.outcome, Some(Outcome::Completed(completion.clone())));

    let other_body = ReserveRequest { fingerprint: b"body-2".to_vec(), ..order("order-1") };
    assert_eq!(client.reserve(other_body).await.unwrap_err().code(), Code::FailedPrecondition);

    let looked_up = client
        .lookup(LookupRequest {
            namespace: "orders".into(),
            key: "order-1".into(),
            wait_timeout: None,
        })
        .await
        .unwrap()
        .into_inner()
        .record
        .unwrap();
    assert_eq!(looked_up.state(), RecordState::Completed);
    assert_eq!(looked_up.completion, Some(completion.clone()));
    assert_eq!(looked_up.fingerprint, b"body-1");

    let held = client.reserve(order("order-2")).await.unwrap().into_inner();
    let Some(Outcome::Granted(held)) = held.outcome else { panic!("{held:?}") };
    let released = client.reserve(order("order-3")).await.unwrap().into_inner();
    let Some(Outcome::Granted(released)) = released.outcome else { panic!("{released:?}") };
    client
        .release(ReleaseRequest {
            namespace: "orders".into(),
            key: "order-3".into(),
            owner_token: released.owner_token,
        })
        .await
        .unwrap();
    let next = client.reserve(order("order-3")).await.unwrap().into_inner();
    let Some(Outcome::Granted(next)) = next.outcome else { panic!("{next:?}") };
    assert_eq!((next.attempt, next.takeover), (2, false));
    assert!(next.fencing_token > released.fencing_token);
    drop(client);
    server.stop().await.unwrap();

    if store == "memory:" {
        return;
    }
    let server = TestServer::start(settings(store));
    let mut client = server.client().await;
    let replay = client.reserve(order("order-1")).await.unwrap().into_inner();
    assert_eq!(replay.outcome, Some(Outcome::Completed(completion)));
    let again = client
        .reserve(ReserveRequest { owner_token: held.owner_token.clone(), ..order("order-2") })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.outcome, Some(Outcome::Granted(held)));
    let later = client.reserve(order("order-4")).await.unwrap().into_inner();
    let Some(Outcome::Granted(later)) = later.outcome else { panic!("{later:?}") };
    assert!(later.fencing_token > next.fencing_token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_is_placed_once_in_memory() {
    tell("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_is_placed_once_on_rocksdb_and_across_a_restart() {
    let dir = TempDir::new().unwrap();
    tell(&format!("rocksdb:{}", dir.path().join("data").display())).await;
}
