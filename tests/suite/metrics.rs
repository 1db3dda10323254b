//! What a scraper and a prober see of a server, over HTTP as they would: every figure that calls
//! bring about, the states, and what happens to requests that are none.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use onced::config::{ConfigFile, Settings, Sources};
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    BatchCompleteRequest, BatchReserveRequest, CompleteRequest, LeaseExpiryAction, LookupRequest,
    ReleaseRequest, ReserveRequest, Response, Result as OperationResult,
};
use prost_types::Duration as Span;
use tempfile::TempDir;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::scrape::{Samples, exchange, get, scrape, scrape_until};
use crate::server::{TestServer, settings};
use crate::stalled::StalledStore;

type Client = IdempotencyServiceClient<Channel>;

fn order(key: &str) -> ReserveRequest {
    ReserveRequest {
        key: key.into(),
        owner_token: Uuid::new_v4().into(),
        fingerprint: b"body".to_vec(),
        ..Default::default()
    }
}

fn done(order: &ReserveRequest) -> CompleteRequest {
    CompleteRequest {
        namespace: order.namespace.clone(),
        key: order.key.clone(),
        owner_token: order.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: b"a stored answer".to_vec(), ..Default::default() }),
        retention: None,
    }
}

async fn outcome(client: &mut Client, request: ReserveRequest) -> Outcome {
    client.reserve(request).await.unwrap().into_inner().outcome.unwrap()
}

fn calls(samples: &Samples, method: &str, outcome: &str, reason: &str) -> f64 {
    let mut labels = vec![("method", method), ("outcome", outcome)];
    labels.extend(Some(("reason", reason)).filter(|(_, reason)| !reason.is_empty()));
    samples.value("onced_calls_total", &labels)
}

/// Runs `look` off the runtime, whose server it asks.
async fn off<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.unwrap()
}

async fn count_every_call(store: &str) -> (TestServer, SocketAddr) {
    let (server, metrics) = TestServer::watched(settings(store));
    let mut client = server.client().await;

    // Given one call for each thing that can become of it.
    let first = order("order-1");
    assert!(matches!(outcome(&mut client, first.clone()).await, Outcome::Granted(_)));
    assert!(matches!(outcome(&mut client, order("order-1")).await, Outcome::InProgress(_)));
    client.complete(done(&first)).await.unwrap();
    assert!(matches!(outcome(&mut client, order("order-1")).await, Outcome::Completed(_)));
    let other = ReserveRequest { fingerprint: b"other".to_vec(), ..order("order-1") };
    client.reserve(other).await.unwrap_err();
    client.reserve(order("")).await.unwrap_err();
    let nobodys = LookupRequest { key: "nobody".into(), ..Default::default() };
    client.lookup(nobodys).await.unwrap_err();
    let not_mine = ReleaseRequest {
        key: "order-1".into(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    };
    client.release(not_mine).await.unwrap_err();
    let (second, malformed) = (order("order-2"), order(""));
    let items = vec![second.clone(), order("order-1"), malformed];
    client.batch_reserve(BatchReserveRequest { items }).await.unwrap();
    let items = vec![done(&second), done(&order("order-3"))];
    client.batch_complete(BatchCompleteRequest { items }).await.unwrap();

    // Then each is counted where it belongs, and nowhere else.
    let samples = off(move || scrape(metrics)).await;
    let expected = [
        ("Reserve", "granted", "", 1.0),
        ("Reserve", "in_progress", "", 1.0),
        ("Reserve", "completed", "", 1.0),
        ("Reserve", "in_doubt", "", 0.0),
        ("Reserve", "refused", "FINGERPRINT_MISMATCH", 1.0),
        ("Reserve", "refused", "INVALID_FIELD", 1.0),
        ("Reserve", "refused", "QUOTA_EXCEEDED", 0.0),
        ("Complete", "ok", "", 1.0),
        ("Lookup", "refused", "RESERVATION_NOT_FOUND", 1.0),
        ("Release", "refused", "LEASE_LOST", 1.0),
        ("BatchReserve", "ok", "", 1.0),
        ("BatchComplete", "ok", "", 1.0),
    ];
    for (method, outcome, reason, count) in expected {
        assert_eq!(calls(&samples, method, outcome, reason), count, "{method} {outcome} {reason}");
    }
    assert_eq!(samples.value("onced_calls_total", &[]), 10.0);
    let items = |method, outcome| {
        samples.value("onced_batch_items_total", &[("method", method), ("outcome", outcome)])
    };
    assert_eq!((items("BatchReserve", "granted"), items("BatchReserve", "completed")), (1.0, 1.0));
    assert_eq!((items("BatchReserve", "refused"), items("BatchComplete", "ok")), (1.0, 1.0));
    assert_eq!(items("BatchComplete", "refused"), 1.0);
    let durations = |suffix: &str| {
        let name = format!("onced_call_duration_seconds_{suffix}");
        samples.value(&name, &[("method", "Reserve")])
    };
    assert_eq!(durations("count"), 5.0);
    assert!(durations("sum") > 0.0 && durations("sum") < 60.0);
    let all = [("method", "Reserve"), ("le", "+Inf")];
    assert_eq!(samples.value("onced_call_duration_seconds_bucket", &all), 5.0);

    // And what is on record is what was left there.
    assert_eq!(samples.value("onced_records", &[]), 2.0);
    assert_eq!(samples.value("onced_records_estimate", &[("phase", "completed")]), 2.0);
    assert_eq!(samples.value("onced_records_estimate", &[("phase", "held")]), 0.0);
    assert!(samples.value("onced_record_bytes", &[]) > 30.0);

    // And no secret is in any of it, nor anything that callers make up.
    for secret in ["order-1", "a stored answer", &first.owner_token, "nobody"] {
        assert!(!samples.0.contains(secret), "{secret} in:\n{}", samples.0);
    }
    (server, metrics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_call_is_counted_by_method_outcome_and_reason_in_memory() {
    count_every_call("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_call_is_counted_and_the_engine_shows_its_figures_on_rocksdb() {
    let dir = TempDir::new().unwrap();
    let (_server, metrics) = count_every_call(&format!("rocksdb:{}", dir.path().display())).await;
    let samples = off(move || scrape(metrics)).await;
    // A malformed call never reached the engine; the others were in some batch, and synced.
    assert!(samples.value("onced_batch_commands_count", &[]) >= 8.0);
    assert!(samples.value("onced_batch_commands_sum", &[]) >= 11.0);
    let syncs = samples.value("onced_sync_duration_seconds_count", &[]);
    assert!(syncs >= 1.0, "{syncs}");
    assert!(samples.value("onced_disk_free_bytes", &[]) > 0.0);
    assert!(
        samples.value("onced_disk_size_bytes", &[]) >= samples.value("onced_disk_free_bytes", &[])
    );
    assert_eq!(samples.value("onced_disk_min_free_bytes", &[]), f64::from(256 << 20));
    for table in ["records", "expiry", "holds", "meta"] {
        assert!(samples.value("onced_rocksdb_memtable_bytes", &[("table", table)]) > 0.0);
        let level = [("table", table), ("level", "6")];
        assert_eq!(samples.value("onced_rocksdb_level_files", &level), 0.0);
    }
    assert_eq!(samples.value("onced_rocksdb_write_stalls_total", &[]), 0.0);
    assert_eq!(samples.value("onced_rocksdb_background_errors_total", &[]), 0.0);
    assert_eq!(samples.value("onced_rocksdb_block_cache_capacity_bytes", &[]), f64::from(64 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_shows_what_it_is_and_what_it_takes() {
    let (server, metrics) = TestServer::watched(settings("memory:"));
    let _client = server.client().await;
    let samples = off(move || scrape(metrics)).await;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(samples.value("onced_build_info", &version), 1.0);
    assert!(samples.value("onced_uptime_seconds", &[]) >= 0.0);
    assert!(samples.value("process_resident_memory_bytes", &[]) > 0.0);
    assert!(samples.value("process_open_fds", &[]) > 0.0);
    assert!(samples.value("process_cpu_seconds_total", &[]) >= 0.0);
    // The connection of the client, and that by which it was watched for.
    assert!(samples.value("onced_connections", &[]) >= 1.0);
    assert_eq!(samples.value("onced_connections_limit", &[]), 16_384.0);
    assert!(samples.value("onced_connections_accepted_total", &[]) >= 1.0);
    assert_eq!(samples.value("onced_connections_refused_total", &[]), 0.0);
    assert_eq!(samples.value("onced_calls_in_flight_limit", &[]), 16_384.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waits_that_were_asked_for_are_measured_apart_and_callers_that_leave_are_counted() {
    let (server, metrics) = TestServer::watched(settings("memory:"));
    let mut client = server.client().await;
    outcome(&mut client, order("order-1")).await;

    let waits =
        ReserveRequest { wait_timeout: Some(Span { seconds: 60, nanos: 0 }), ..order("order-1") };
    let mut leaving = client.clone();
    let waiting = tokio::spawn(async move { leaving.reserve(waits).await });
    let parked = |samples: &Samples| samples.value("onced_parked_calls", &[]) == 1.0;
    off(move || scrape_until(metrics, parked)).await;
    waiting.abort();
    let left = |samples: &Samples| calls(samples, "Reserve", "left", "") == 1.0;
    let samples = off(move || scrape_until(metrics, left)).await;

    let reserve = [("method", "Reserve")];
    assert_eq!(samples.value("onced_waiting_call_duration_seconds_count", &reserve), 1.0);
    assert_eq!(samples.value("onced_call_duration_seconds_count", &reserve), 1.0);
    let nobody = |samples: &Samples| samples.value("onced_parked_calls", &[]) == 0.0;
    off(move || scrape_until(metrics, nobody)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn namespaces_are_named_where_they_are_listed_and_no_caller_can_make_up_a_series() {
    let file = "
        [namespaces.orders]
        quota_keys = 2
        [namespaces.payments]
        shadow = true
    ";
    let file = ConfigFile { path: PathBuf::from("onced.toml"), text: Ok(file.to_owned()) };
    let sources = Sources { file: Some(file), ..Sources::default() };
    let Settings { namespaces, .. } = Settings::resolve(&sources).unwrap();
    let (server, metrics) = TestServer::watched(Settings { namespaces, ..settings("memory:") });
    let mut client = server.client().await;
    for (namespace, key) in
        [("orders", "a"), ("orders", "b"), ("orders", "c"), ("payments", "a"), ("payments", "a")]
    {
        let _ = client.reserve(ReserveRequest { namespace: namespace.into(), ..order(key) }).await;
    }
    for number in 0..5 {
        let made_up = format!("made-up-{number}");
        outcome(&mut client, ReserveRequest { namespace: made_up, ..order("a") }).await;
    }

    let samples = off(move || scrape(metrics)).await;
    let counted = |namespace, outcome| {
        let labels = [("namespace", namespace), ("outcome", outcome)];
        samples.value("onced_namespace_calls_total", &labels)
    };
    assert_eq!((counted("orders", "granted"), counted("orders", "refused")), (2.0, 1.0));
    assert_eq!((counted("payments", "granted"), counted("other", "granted")), (2.0, 5.0));
    let of = |name: &str, namespace| samples.value(name, &[("namespace", namespace)]);
    assert_eq!(
        (of("onced_namespace_keys", "orders"), of("onced_namespace_keys", "other")),
        (2.0, 5.0)
    );
    assert_eq!(of("onced_namespace_quota_keys", "orders"), 2.0);
    assert!(of("onced_namespace_bytes", "orders") > 0.0);
    let would_be = [("namespace", "payments"), ("would_be", "in_progress")];
    assert_eq!(samples.value("onced_shadow_answers_total", &would_be), 1.0);
    assert!(!samples.0.contains("made-up"), "{}", samples.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_in_doubt_and_what_the_sweeper_freed_is_shown() {
    let dir = TempDir::new().unwrap();
    let store = format!("rocksdb:{}", dir.path().display());
    let (server, metrics) = TestServer::watched(settings(&store));
    let mut client = server.client().await;
    let shortest = Some(Span { seconds: 0, nanos: 100_000_000 });
    let lost = ReserveRequest {
        lease: shortest,
        lease_expiry_action: LeaseExpiryAction::Hold.into(),
        ..order("lost")
    };
    outcome(&mut client, lost).await;
    let brief = order("brief");
    outcome(&mut client, brief.clone()).await;
    client.complete(CompleteRequest { retention: shortest, ..done(&brief) }).await.unwrap();

    let samples = off(move || {
        scrape_until(metrics, |samples| {
            samples.value("onced_records_in_doubt", &[]) == 1.0
                && samples.value("onced_purged_records_total", &[]) == 1.0
                && samples.value("onced_records", &[]) == 1.0
        })
    })
    .await;
    assert_eq!(samples.value("onced_sweep_lag_seconds", &[]), 0.0);
}

// Probes.

fn probe(metrics: SocketAddr, path: &'static str) -> (u16, String) {
    let answer = get(metrics, path);
    (answer.status, answer.body)
}

fn state(metrics: SocketAddr, state: &str) -> f64 {
    scrape(metrics).value("onced_state", &[("state", state)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_is_alive_from_the_start_and_ready_once_it_has_recovered_until_it_drains() {
    let store = StalledStore::new();
    let settings = Settings {
        drain_grace: Duration::from_secs(60),
        ..settings(&format!("rocksdb:{}", store.path().display()))
    };
    let (mut server, metrics) = TestServer::watched(settings);
    let recovering = store.is_being_opened().await;
    off(move || {
        assert_eq!(probe(metrics, "/livez"), (200, "ok\n".into()));
        assert_eq!(probe(metrics, "/readyz"), (503, "recovering\n".into()));
        assert_eq!(state(metrics, "recovering"), 1.0);
        assert_eq!(scrape(metrics).find("onced_records", &[]), None);
    })
    .await;
    drop(recovering);
    let _client = server.client().await;
    off(move || {
        assert_eq!(probe(metrics, "/readyz"), (200, "ok\n".into()));
        assert_eq!((state(metrics, "recovering"), state(metrics, "serving")), (0.0, 1.0));
    })
    .await;
    server.begin_stop();
    off(move || {
        scrape_until(metrics, |samples| {
            samples.value("onced_state", &[("state", "draining")]) == 1.0
        });
        assert_eq!(probe(metrics, "/readyz"), (503, "draining\n".into()));
        assert_eq!(probe(metrics, "/livez"), (200, "ok\n".into()));
    })
    .await;
    // Nobody waits for the end of its grace.
    std::mem::forget(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_whose_disk_is_nearly_full_is_alive_and_not_ready() {
    let dir = TempDir::new().unwrap();
    let store = format!("rocksdb:{}", dir.path().display());
    let full = Settings { min_free_disk_bytes: u64::MAX, ..settings(&store) };
    let (_server, metrics) = TestServer::watched(full);
    off(move || {
        let full = |it: &Samples| it.value("onced_state", &[("state", "full")]) == 1.0;
        scrape_until(metrics, full);
        assert_eq!(probe(metrics, "/readyz"), (503, "full\n".into()));
        assert_eq!(probe(metrics, "/livez"), (200, "ok\n".into()));
    })
    .await;
}

// The port.

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_scraper_gets_the_format_that_it_asks_for() {
    let (_server, metrics) = TestServer::watched(settings("memory:"));
    off(move || {
        let plain = get(metrics, "/metrics");
        assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{plain:?}");
        assert!(plain.body.contains("# TYPE onced_calls_total counter\n"), "{}", plain.body);
        let open = exchange(
            metrics,
            b"GET /metrics HTTP/1.1\r\nhost: a\r\n\
              accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.1\r\n\r\n",
        );
        assert!(open.head.contains("content-type: application/openmetrics-text"), "{open:?}");
        assert!(open.body.contains("# TYPE onced_calls counter\n"), "{}", open.body);
        assert!(open.body.ends_with("# EOF\n"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_are_none_are_refused_and_the_next_one_is_answered() {
    let (_server, metrics) = TestServer::watched(settings("memory:"));
    off(move || {
        assert_eq!(get(metrics, "/").status, 404);
        assert_eq!(get(metrics, "/metrics/").status, 404);
        let post = b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
        let refused = exchange(metrics, post);
        assert_eq!(refused.status, 405);
        assert!(refused.head.contains("allow: get, head"), "{refused:?}");
        assert_eq!(exchange(metrics, b"\x16\x03\x01 not http\r\n\r\n").status, 400);
        let head = b"HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
        let answered = exchange(metrics, head);
        assert_eq!((answered.status, answered.body.as_str()), (200, ""));

        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(64 << 10));
        assert!(!matches!(exchange(metrics, long.as_bytes()).status, 200..300));
        let many = "a: b\r\n".repeat(1_000);
        let many = format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        assert_eq!(exchange(metrics, many.as_bytes()).status, 431);
        assert_eq!(get(metrics, "/metrics").status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_say_nothing_make_room_for_those_that_do() {
    let (_server, metrics) = TestServer::watched(settings("memory:"));
    off(move || {
        // More than there may be at a time; the rest waits until these are given up.
        let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(metrics).unwrap()).collect();
        assert_eq!(get(metrics, "/livez").status, 200);
        drop(silent);
    })
    .await;
}
