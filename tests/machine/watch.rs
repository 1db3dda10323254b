//! What those who watch a server are told of a machine that fails it: the port for metrics
//! answers whatever the disk does, and slow calls are in the log.

use serde_json::Value;
use tempfile::TempDir;

use crate::caller::{Caller, granted, order, refusal};
use crate::process::Process;
use crate::scrape::{Samples, get, scrape, scrape_until};
use crate::shim::{EIO, Shim};

const WATCHED: [&str; 6] =
    ["--metrics-listen", "127.0.0.1:0", "--drain-grace", "0s", "--min-free-disk-bytes", "0"];

/// Runs `look` off the runtime.
async fn off<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_is_shown_and_whoever_probes_for_life_restarts_the_server() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new();
    let server = Process::start(shim.onced(), &dir.path().join("data"), &WATCHED);
    let metrics = server.metrics();
    let mut caller = Caller::of(&server).await;
    granted(caller.reserve(&order("before")).await.unwrap());
    let probe = |path: &'static str| off(move || get(metrics, path));
    assert_eq!((probe("/livez").await.status, probe("/readyz").await.status), (200, 200));

    shim.fail_syncs(EIO);
    let (_, reason) = refusal(caller.reserve(&order("lost")).await);
    assert_eq!(reason, "OUTCOME_UNKNOWN");
    let samples = off(move || {
        let poisoned = [("state", "poisoned")];
        scrape_until(metrics, |samples| samples.value("onced_state", &poisoned) == 1.0)
    })
    .await;
    let unknown = [("outcome", "failed"), ("reason", "OUTCOME_UNKNOWN")];
    assert_eq!(samples.value("onced_calls_total", &unknown), 1.0);
    // What needs no store is still shown.
    assert!(samples.value("onced_sync_duration_seconds_count", &[]) >= 1.0);
    assert!(samples.value("onced_disk_free_bytes", &[]) > 0.0);
    let (live, ready) = (probe("/livez").await, probe("/readyz").await);
    assert_eq!((live.status, live.body.as_str()), (503, "poisoned\n"));
    assert_eq!((ready.status, ready.body.as_str()), (503, "poisoned\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_takes_no_metrics_with_it_and_its_victims_are_in_the_log() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new();
    let settings = [&WATCHED[..], &["--slow-call", "100ms", "--log-format", "json"]].concat();
    let server = Process::spawn(shim.onced(), &dir.path().join("data"), &settings);
    let line: Value = serde_json::from_str(&server.wait_for_line("\"metrics\"")).unwrap();
    let metrics = line["metrics"].as_str().unwrap();
    let metrics = metrics.trim_start_matches("http://").trim_end_matches("/metrics");
    let metrics: std::net::SocketAddr = metrics.parse().unwrap();
    let line: Value = serde_json::from_str(&server.wait_for_line("\"address\"")).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    let mut caller = Caller::at(address).await;
    granted(caller.reserve(&order("before")).await.unwrap());
    off(move || assert!(scrape(metrics).value("onced_store_look_age_seconds", &[]) < 60.0)).await;

    shim.stall_syncs(true);
    let victim = order("order-4711");
    let waiting = tokio::spawn({
        let (mut caller, victim) = (caller.clone(), victim.clone());
        async move { caller.reserve(&victim).await }
    });
    let stalled = |samples: &Samples| {
        samples.value("onced_calls_in_flight", &[]) >= 1.0
            && samples.value("onced_store_look_age_seconds", &[]) > 1.0
    };
    off(move || scrape_until(metrics, stalled)).await;
    shim.stall_syncs(false);
    granted(waiting.await.unwrap().unwrap());

    let line = server.wait_for_line("onced::slow");
    assert!(!line.contains("order-4711") && !line.contains(&victim.owner_token), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"slow call".into()));
    assert_eq!((&line["method"], &line["outcome"]), (&"Reserve".into(), &"granted".into()));
    // What sha256sum says of the key, the first eight bytes.
    assert_eq!(line["key"], "sha256:173d0ddbff034193");
    assert!(line["took_ms"].as_u64().unwrap() >= 100, "{line}");
    let slow = [("method", "Reserve")];
    let counted = |samples: &Samples| samples.value("onced_slow_calls_total", &slow) == 1.0;
    tokio::task::block_in_place(|| scrape_until(metrics, counted));
}
