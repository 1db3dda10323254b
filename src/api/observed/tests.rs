//! What observing a call costs, and that a call is the same with it.

use std::time::Instant;

use super::*;
use crate::pb::v1::idempotency_service_server::IdempotencyService;

/// A service that grants everything and does nothing.
struct Grants;

#[tonic::async_trait]
impl IdempotencyService for Grants {
    async fn reserve(
        &self,
        _: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let outcome = Some(reserve_response::Outcome::Granted(v1::Granted::default()));
        Ok(Response::new(v1::ReserveResponse { outcome, decide_time: None }))
    }

    async fn complete(
        &self,
        _: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        std::future::pending().await
    }

    async fn release(
        &self,
        _: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        Err(Status::internal("a bug"))
    }

    async fn renew(
        &self,
        _: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        Err(Status::internal("a bug"))
    }

    async fn lookup(
        &self,
        _: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        Err(Status::internal("a bug"))
    }

    async fn batch_reserve(
        &self,
        _: Request<v1::BatchReserveRequest>,
    ) -> Result<Response<v1::BatchReserveResponse>, Status> {
        Err(Status::internal("a bug"))
    }

    async fn batch_complete(
        &self,
        _: Request<v1::BatchCompleteRequest>,
    ) -> Result<Response<v1::BatchCompleteResponse>, Status> {
        Err(Status::internal("a bug"))
    }
}

fn observer(slow: Option<Duration>) -> Arc<Observer> {
    Arc::new(Observer {
        meters: CallMeters::new(1, []),
        slow: slow.map(SlowLog::new),
        traces: None,
        wait_max: Duration::from_secs(60),
    })
}

fn request() -> Request<v1::ReserveRequest> {
    Request::new(v1::ReserveRequest {
        namespace: "orders".to_owned(),
        key: "order-2026-11-25-0000004711".to_owned(),
        ..Default::default()
    })
}

/// How long one call takes, in nanoseconds: the shortest of several rounds, since other work
/// makes it longer and never shorter.
async fn nanos(service: &impl IdempotencyService) -> u128 {
    const CALLS: u32 = 2_000;
    let mut shortest = u128::MAX;
    for _ in 0..20 {
        let requests: Vec<_> = (0..CALLS).map(|_| request()).collect();
        let began_at = Instant::now();
        for request in requests {
            service.reserve(request).await.unwrap();
        }
        shortest = shortest.min(began_at.elapsed().as_nanos() / u128::from(CALLS));
    }
    shortest
}

#[tokio::test]
async fn observing_a_call_costs_this() {
    let bare = nanos(&Grants).await;
    let counted = Observed::new(Grants, observer(None));
    let with_slow = Observed::new(Grants, observer(Some(Duration::from_secs(60))));
    let (counting, all) = (nanos(&counted).await, nanos(&with_slow).await);
    println!(
        "a call that does nothing: {bare} ns, counted: {counting} ns, with slow_call: {all} ns"
    );
    for observed in [&counted, &with_slow] {
        let meters = &observed.observer.meters;
        assert_eq!(meters.calls(Method::Reserve, End::GRANTED), 40_000);
        assert_eq!(meters.durations(Method::Reserve, false).count(), 40_000);
        assert_eq!(meters.slow_calls(Method::Reserve), 0);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_is_one_that_its_caller_left() {
    let observed = Observed::new(Grants, observer(None));
    let calling = observed.complete(Request::new(v1::CompleteRequest::default()));
    assert!(tokio::time::timeout(Duration::from_millis(1), calling).await.is_err());
    assert_eq!(observed.observer.meters.calls(Method::Complete, End::LEFT), 1);
}

#[tokio::test]
async fn a_status_is_handed_on_and_counted() {
    let observed = Observed::new(Grants, observer(Some(Duration::ZERO)));
    let status = observed.release(Request::new(v1::ReleaseRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "a bug"));
    let failed = End::of(&Status::internal("a bug"));
    assert_eq!(observed.observer.meters.calls(Method::Release, failed), 1);
    // Everything takes longer than nothing.
    assert_eq!(observed.observer.meters.slow_calls(Method::Release), 1);
}

#[test]
fn names_that_are_too_long_are_not_kept() {
    let (long, key) = ("n".repeat(64), "k".repeat(256));
    assert!(Names::of((&long, "order-1")).is_none() && Names::of(("orders", &key)).is_none());
    let names = Names::of(("", "order-1")).unwrap();
    assert_eq!((names.namespace(), names.key().len()), ("default", "sha256:".len() + 16));
    let names = Names::of(("orders", "")).unwrap();
    assert_eq!((names.namespace(), names.key()), ("orders", String::new()));
}
