//! What callers that wait cost: memory and CPU while they are parked, and how long the last of
//! them waits for the answer once it is there.
//!
//! The figures are printed, and nothing about them is asserted but that everybody was parked and
//! everybody was answered. A machine of two cores runs server and clients.

#[path = "../harness/process.rs"]
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onced::pb::v1;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::process::Process;

type Client = IdempotencyServiceClient<Channel>;

/// How many callers are parked at a time, over how many connections, and for how many keys.
const PARKED: usize = 10_000;
const CONNECTIONS: usize = 20;
const KEYS: usize = 100;

/// How many wait for one key, and how often they are woken.
const WOKEN: usize = 1_000;
const ROUNDS: usize = 5;

/// How long the server is looked at while nothing happens.
const WATCHED: Duration = Duration::from_secs(5);

fn reserve(key: String) -> v1::ReserveRequest {
    let lease = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    v1::ReserveRequest { key, lease, ..Default::default() }
}

async fn granted(client: &mut Client, key: String) -> v1::CompleteRequest {
    let answer = client.reserve(reserve(key.clone())).await.unwrap().into_inner();
    let Some(Outcome::Granted(granted)) = answer.outcome else { panic!("{answer:?}") };
    v1::CompleteRequest {
        key,
        owner_token: granted.owner_token,
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response { payload: b"done".to_vec(), ..Default::default() }),
        ..Default::default()
    }
}

/// Parks a caller on each of these keys, in turn on each connection. Each returns when it was
/// answered.
async fn park(clients: &[Client], keys: impl Iterator<Item = String>) -> JoinSet<Instant> {
    let mut waiting = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    let wait_timeout = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    for (number, key) in keys.enumerate() {
        let mut client = clients[number % clients.len()].clone();
        let request = v1::ReserveRequest { wait_timeout, ..reserve(key) };
        let begun = Arc::clone(&begun);
        waiting.spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            let answer = client.reserve(request).await.unwrap().into_inner();
            assert!(matches!(answer.outcome, Some(Outcome::Completed(_))), "{answer:?}");
            Instant::now()
        });
    }
    while begun.load(Ordering::Relaxed) < waiting.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A caller that is in line behind them on each connection has its answer: they are parked.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for client in clients {
        let lookup = v1::LookupRequest { key: "nobody's".into(), ..Default::default() };
        client.clone().lookup(lookup).await.unwrap_err();
    }
    assert!(waiting.try_join_next().is_none(), "somebody was not parked");
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_wait_cost_little_and_are_woken_together() {
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&dir.path().join("data"), &["--wait-max", "600s"]);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(format!("http://{}", server.address)).await.unwrap());
    }
    let mut owner = clients[0].clone();

    // Many callers, parked.
    let mut completions = Vec::new();
    for key in 0..KEYS {
        completions.push(granted(&mut owner, format!("many-{key}")).await);
    }
    let before = server.resident_bytes();
    let keys = (0..PARKED).map(|number| format!("many-{}", number % KEYS));
    let waiting = park(&clients, keys).await;
    let parked = server.resident_bytes();
    let used = server.cpu_time();
    tokio::time::sleep(WATCHED).await;
    let idle = server.cpu_time() - used;
    println!(
        "{PARKED} callers parked: {:.1} MiB more resident memory, {:.1} KiB each; {:.0} ms of CPU in \
         {WATCHED:?}",
        parked.saturating_sub(before) as f64 / f64::from(1 << 20),
        parked.saturating_sub(before) as f64 / 1_024.0 / PARKED as f64,
        idle.as_secs_f64() * 1_000.0,
    );
    for completion in completions {
        owner.complete(completion).await.unwrap();
    }
    assert_eq!(waiting.join_all().await.len(), PARKED);

    // One key, and many that wait for it.
    for round in 0..ROUNDS {
        let key = format!("one-{round}");
        let completion = granted(&mut owner, key.clone()).await;
        let waiting = park(&clients[..4], (0..WOKEN).map(|_| key.clone())).await;
        let sent = Instant::now();
        owner.complete(completion).await.unwrap();
        let answered = Instant::now();
        let woken = waiting.join_all().await;
        let last = *woken.iter().max().unwrap();
        println!(
            "{WOKEN} callers woken: Complete answered after {:.1} ms, the last of them {:.1} ms later",
            (answered - sent).as_secs_f64() * 1_000.0,
            last.saturating_duration_since(answered).as_secs_f64() * 1_000.0,
        );
        assert_eq!(woken.len(), WOKEN);
    }
}
