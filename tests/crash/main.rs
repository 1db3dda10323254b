//! The real binary, as an operator and a power cut without a power cut know it: killed,
//! signalled, started twice, started wrong, with a disk that takes no more.
//!
//! `kill -9` shows recovery, not fsync: what the process wrote is in the page cache and
//! survives it, synced or not. So these tests prove that a server that is started anew finds
//! and understands everything it had acknowledged, at whatever point it was cut off, and they
//! would not notice an answer that leaves before its sync. The engine's tests show that, with
//! syncs that fail.

mod backups;
#[path = "../harness/dice.rs"]
mod dice;
#[path = "../harness/ledger.rs"]
mod ledger;
mod log;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
#[path = "../suite/stalled.rs"]
mod stalled;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, DeleteRecordRequest, Erase, EraseNamespaceRequest, ForceCompleteRequest,
    ForceReleaseRequest, Granted, ListRecordsRequest, ReserveRequest, Response,
    Result as OperationResult,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::dice::seed;
use crate::ledger::Ledger;
use crate::process::{Process, onced, without_settings};
use crate::proof::{Row, effort};
use crate::stalled::StalledStore;

type Client = IdempotencyServiceClient<Channel>;

fn order(key: &str) -> ReserveRequest {
    ReserveRequest { key: key.into(), owner_token: Uuid::new_v4().into(), ..Default::default() }
}

async fn client(server: &Process) -> Client {
    Client::connect(format!("http://{}", server.address)).await.unwrap()
}

async fn grant(client: &mut Client, order: ReserveRequest) -> Granted {
    let answer = client.reserve(order).await.unwrap().into_inner();
    let Some(Outcome::Granted(granted)) = answer.outcome else { panic!("{answer:?}") };
    granted
}

/// Where a server of this test keeps its data.
fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

/// What the counters of a directory say is what a count of its records says.
fn counters_are_right(directory: &Path) {
    let inspected = run(onced().arg("inspect").arg(directory).args(["--limit", "0", "--json"]));
    let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(report["wrong_counters"], 0, "{report}");
    assert_eq!(inspected.status.code(), Some(0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_changed_by_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut ledger = Ledger::new(seed());
    // So small that memtables are flushed and logs recycled all the time.
    let small = ["--memtable-bytes", "256KiB"];
    let mut server = Process::serve(&data(&dir), &small);
    let rounds = effort(4, 40);
    for round in 1..=rounds {
        ledger.work(server.address, || server.signal(Signal::KILL)).await;
        println!("round {round}: {}", ledger.summary());
        let (status, log) = server.wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{log}");
        counters_are_right(&data(&dir));

        server = Process::serve(&data(&dir), &small);
        ledger.check(server.address).await;
    }
    Row {
        promise: "2 durable before answered, 3 fencing tokens rise",
        attack: "killed with -9 under load of 24 callers, and restarted",
        times: &format!("{rounds} kills, {} answers", ledger.answered()),
        lost: 0,
    }
    .report();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_signal_under_load() {
    let dir = TempDir::new().unwrap();
    let mut ledger = Ledger::new(seed());
    for signal in [Signal::TERM, Signal::INT] {
        let server = Process::serve(&data(&dir), &["--drain-grace", "0s"]);
        ledger.work(server.address, || server.signal(signal)).await;
        println!("{signal:?}: {}", ledger.summary());
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");

        let server = Process::serve(&data(&dir), &[]);
        ledger.check(server.address).await;
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = TempDir::new().unwrap();
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let server = Process::serve(&data(&dir), &["--drain-grace", "60s"]);
        server.signal(first);
        server.wait_for_line("draining");
        server.signal(second);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("second signal"), "{log}");
    }
}

#[tokio::test]
async fn a_signal_that_comes_while_it_recovers_is_obeyed_in_order() {
    let store = StalledStore::new();
    let server = Process::spawn(onced(), store.path(), &["--drain-grace", "0s"]);
    let recovering = store.is_being_opened().await;
    server.signal(Signal::TERM);
    drop(recovering);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{status}: {log}");
    assert!(log.contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_second_server_on_the_same_store_gives_up_and_harms_nothing() {
    let dir = TempDir::new().unwrap();
    let first = Process::serve(&data(&dir), &[]);
    let mut client = client(&first).await;
    let held = order("order-1");
    let granted = grant(&mut client, held.clone()).await;

    let url = format!("rocksdb:{}", data(&dir).display());
    let second = run(onced().args(["serve", "--listen", "127.0.0.1:0", "--store", &url]));
    assert_eq!(second.status.code(), Some(3), "{second:?}");
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("is in use by another server"), "{message}");
    assert!(message.contains(&data(&dir).display().to_string()), "{message}");

    assert_eq!(grant(&mut client, held).await, granted);
    grant(&mut client, order("order-2")).await;
}

#[tokio::test]
async fn a_second_server_on_the_same_address_gives_up_before_it_touches_its_store() {
    let dir = TempDir::new().unwrap();
    let first = Process::serve(&data(&dir), &[]);
    let (address, untouched) = (first.address.to_string(), dir.path().join("untouched"));
    let url = format!("rocksdb:{}", untouched.display());
    let second = run(onced().args(["serve", "--listen", &address, "--store", &url]));
    assert_eq!(second.status.code(), Some(3), "{second:?}");
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains(&format!("cannot listen on {address}")), "{message}");
    assert!(!untouched.exists());
    grant(&mut client(&first).await, order("order-1")).await;
}

#[test]
fn a_port_for_metrics_that_somebody_has_ends_the_start_before_the_store_is_touched() {
    let dir = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, untouched) = (taken.local_addr().unwrap().to_string(), data(&dir));
    let url = format!("rocksdb:{}", untouched.display());
    let refused = run(onced()
        .args(["serve", "--listen", "127.0.0.1:0", "--store", &url])
        .args(["--metrics-listen", &address]));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains(&format!("cannot listen on {address} for metrics")), "{message}");
    assert!(message.contains("choose another `metrics_listen`, or off"), "{message}");
    assert!(!untouched.exists());
}

#[test]
fn faulty_settings_are_told_all_at_once() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("onced.toml");
    std::fs::write(&file, "max_in_flight = 0\nkeepalive = \"60s\"\n").unwrap();
    let url = format!("rocksdb:{}", data(&dir).display());
    let refused = run(onced()
        .args(["serve", "--store", &url, "--listen", "localhost", "--lease-default", "30"])
        .arg("--config")
        .arg(&file)
        .env("ONCED_RETENTION_MAX", "for ever")
        .env("ONCED_MAX_CONECTIONS", "7"));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.starts_with("onced: the settings have 6 faults:\n"), "{message}");
    let faults = [
        "listen (from --listen)",
        "lease_default (from --lease-default)",
        "retention_max (from ONCED_RETENTION_MAX)",
        "ONCED_MAX_CONECTIONS",
        "ONCED_MAX_CONNECTIONS",
        "max_in_flight",
        "keepalive",
    ];
    for fault in faults {
        assert!(message.contains(fault), "{fault} is missing: {message}");
    }
    assert!(!data(&dir).exists());
}

/// A server whose log is lines of JSON.
fn serve_with_json(dir: &TempDir, more: &[&str]) -> Process {
    let more = [&["--log-format", "json"], more].concat();
    let mut server = Process::spawn(onced(), &data(dir), &more);
    let line = server.wait_for_line("\"address\"");
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    server.address = told["address"].as_str().unwrap().parse().unwrap();
    server
}

/// Begins an erase, or asks how far it has come.
async fn erase(server: &Process, order: &EraseNamespaceRequest) -> Erase {
    let mut admin =
        AdminServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    admin.erase_namespace(order.clone()).await.unwrap().into_inner().erase.unwrap()
}

/// How many records a namespace has.
async fn count(server: &Process, namespace: &str) -> usize {
    let mut admin =
        AdminServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let mut request =
        ListRecordsRequest { namespace: namespace.into(), page_size: 1_000, ..Default::default() };
    let mut count = 0;
    loop {
        let page = admin.list_records(request.clone()).await.unwrap().into_inner();
        count += page.records.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return count;
        }
    }
}

/// Reserves so many keys in a namespace, all at once.
async fn fill(client: &Client, namespace: &str, keys: std::ops::Range<usize>) {
    let mut calls = tokio::task::JoinSet::new();
    for number in keys {
        let (mut client, namespace) = (client.clone(), namespace.to_owned());
        calls.spawn(async move {
            let request = ReserveRequest { namespace, ..order(&format!("order-{number:05}")) };
            grant(&mut client, request).await
        });
    }
    while let Some(granted) = calls.join_next().await {
        granted.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erase_that_is_killed_goes_on_by_itself_and_takes_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut server = serve_with_json(&dir, &[]);
    let client = client(&server).await;
    for (namespace, records) in [("tenant-7", 12_000), ("tenant-70", 50), ("tenant", 50)] {
        fill(&client, namespace, 0..records).await;
    }
    let order = EraseNamespaceRequest {
        namespace: "tenant-7".into(),
        reason: "contract \"ended\"".into(),
        operator: "olga".into(),
        erase_id: Uuid::new_v4().into(),
    };
    let begun = erase(&server, &order).await;
    assert!(!begun.done);
    let line = server.wait_for_line("onced::audit");
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["action"], "erase_namespace");
    assert_eq!(told["outcome"], "begun");

    // What is granted from now on is to stay.
    fill(&client, "tenant-7", 12_000..12_020).await;
    drop(client);
    // Never with all of it gone: whoever writes the end down has to live to log it, and be asked.
    const KILLS: i64 = 3;
    let mut kills = 0;
    let done = loop {
        // When it is killed somewhere on the way, again and again,
        let far = loop {
            let found = erase(&server, &order).await;
            if found.done || (kills < KILLS && found.erased_records >= 3_000 * (kills + 1)) {
                break found;
            }
        };
        if far.done {
            break far;
        }
        server.signal(Signal::KILL);
        server.wait();
        kills += 1;
        server = serve_with_json(&dir, &[]);
        // then it is no less far than it was said to be,
        let found = erase(&server, &order).await;
        assert!(found.erased_records >= far.erased_records, "{found:?} after {far:?}");
    };
    assert!(kills >= 1, "it was faster than the kill");

    // and in the end everything is gone that was there, and nothing else.
    assert_eq!((done.erased_records, done.unreadable_records), (12_000, 0));
    assert_eq!(done.begin_time, begun.begin_time);
    for (namespace, records) in [("tenant-7", 20), ("tenant-70", 50), ("tenant", 50)] {
        assert_eq!(count(&server, namespace).await, records, "{namespace}");
    }
    let line = server.wait_for_line("onced::audit");
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&told["target"], &told["level"]), (&"onced::audit".into(), &"INFO".into()));
    let fields = &told;
    assert_eq!(fields["outcome"], "done");
    assert_eq!(fields["reason"], "contract \"ended\"");
    assert_eq!((&fields["operator"], &fields["namespace"]), (&"olga".into(), &"tenant-7".into()));
    assert_eq!(fields["erased_records"], 12_000);
    assert_eq!(fields["erase_id"], order.erase_id);
}

#[tokio::test]
async fn everything_that_is_forced_is_one_line_of_the_log() {
    let dir = TempDir::new().unwrap();
    // Also where the rest of the log is not wanted.
    let quiet = ["--log", "warn,onced::server=info,onced::audit=info"];
    let server = serve_with_json(&dir, &quiet);
    let mut client = client(&server).await;
    let mut admin =
        AdminServiceClient::connect(format!("http://{}", server.address)).await.unwrap();

    let secret = "card 4929-1234-5678-9012";
    let granted = grant(&mut client, order(secret)).await;
    let (reason, operator) = ("it \"never\" happened".to_owned(), "olga@desk-7".to_owned());
    let release = ForceReleaseRequest {
        key: secret.into(),
        reason: reason.clone(),
        operator: operator.clone(),
        ..Default::default()
    };
    admin.force_release(release.clone()).await.unwrap();
    let complete = ForceCompleteRequest {
        key: secret.into(),
        reason: reason.clone(),
        operator: operator.clone(),
        result: OperationResult::Succeeded.into(),
        ..Default::default()
    };
    admin.force_complete(complete).await.unwrap();
    admin.force_release(release).await.unwrap_err();
    let delete = DeleteRecordRequest { key: secret.into(), reason, operator, ..Default::default() };
    admin.delete_record(delete.clone()).await.unwrap();
    admin.delete_record(delete).await.unwrap();
    drop((client, admin));

    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains(secret) && !log.contains("4929"), "{log}");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("onced::audit"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let fields = line;
            assert_eq!(line["target"], "onced::audit");
            assert_eq!(fields["operator"], "olga@desk-7");
            assert_eq!(fields["reason"], "it \"never\" happened");
            assert_eq!(fields["namespace"], "default");
            assert!(fields["key"].as_str().unwrap().starts_with("sha256:"), "{line}");
            let text = |name: &str| fields[name].as_str().unwrap().to_owned();
            let fencing_token = fields["fencing_token"].as_i64().unwrap();
            (text("action"), text("phase_before"), text("outcome"), fencing_token)
        })
        .collect();
    let line = |action: &str, before: &str, outcome: &str, token| {
        (action.to_owned(), before.to_owned(), outcome.to_owned(), token)
    };
    let token = granted.fencing_token;
    assert_eq!(
        told,
        [
            line("force_release", "held", "released", token),
            line("force_complete", "released", "completed", token),
            line("force_release", "completed", "refused: ALREADY_COMPLETED", token),
            line("delete_record", "completed", "deleted", token),
            line("delete_record", "vacant", "deleted", 0),
        ]
    );
}

/// A server whose files may not grow past a mebibyte: its disk fails in earnest.
fn with_a_small_disk() -> Command {
    let mut shell = without_settings(Command::new("sh"));
    // Without the trap the signal would end the process before the write could fail.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_onced"));
    shell
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failed_write_stops_the_service_and_costs_nothing_acknowledged() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(with_a_small_disk(), &data(&dir), &["--drain-grace", "0s"]);
    let mut client = client(&server).await;
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let request = HealthCheckRequest::default();
    let mut watch = health.watch(request).await.unwrap().into_inner();

    let mut orders = Vec::new();
    for number in 0..40 {
        orders.push(order(&format!("order-{number}")));
        grant(&mut client, orders[number].clone()).await;
    }
    let mut completed = Vec::new();
    let mut orders = orders.into_iter();
    let (unanswered, status) = loop {
        let order = orders.next().expect("the disk fails before that");
        let end = CompleteRequest {
            key: order.key.clone(),
            owner_token: order.owner_token.clone(),
            result: OperationResult::Succeeded.into(),
            response: Some(Response { payload: vec![b'x'; 60_000], ..Default::default() }),
            ..Default::default()
        };
        match client.complete(end.clone()).await {
            Ok(answer) => completed.push((order, answer.into_inner().completion.unwrap())),
            Err(status) => break (end, status),
        }
    };
    let reason = |status: tonic::Status| status.get_details_error_info().unwrap().reason;
    assert_eq!(reason(status), "OUTCOME_UNKNOWN");
    let refused = client.reserve(order("another")).await.unwrap_err();
    assert_eq!(reason(refused), "STORE_UNAVAILABLE");
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    drop((client, health, watch));
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    assert!(completed.len() > 1);
    let server = Process::serve(&data(&dir), &[]);
    let mut client = self::client(&server).await;
    for (order, completion) in completed {
        let answer = client.reserve(order).await.unwrap().into_inner();
        assert_eq!(answer.outcome, Some(Outcome::Completed(completion)));
    }
    let settled = client.complete(unanswered.clone()).await.unwrap().into_inner();
    assert_eq!(settled.completion.unwrap().response, unanswered.response);
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}
