//! A process that may not open more files, and one that is killed before it is ready.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::caller::{Caller, granted, order};
use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::process::{Process, without_settings};
use crate::proof::effort;
use crate::survived;

/// A server that may have this many files open.
fn with_files(limit: u32) -> Command {
    let mut shell = without_settings(Command::new("sh"));
    shell.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_onced"));
    shell
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_of_open_files_wait_and_harm_nobody() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(with_files(128), &dir.path().join("data"), &[]);
    let mut caller = Caller::of(&server).await;
    granted(caller.reserve(&order("before")).await.unwrap());

    // More than it may open, and no more than the kernel keeps for it meanwhile.
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for number in 0..20 {
        granted(caller.reserve(&order(&format!("meanwhile-{number}"))).await.unwrap());
    }
    assert_eq!(caller.health().await, Serving);

    drop(flood);
    let mut later = Caller::of(&server).await;
    granted(later.reserve(&order("after")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_cannot_open_for_want_of_files_costs_nothing_acknowledged() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let poisoned = &["OUTCOME_UNKNOWN", "STORE_UNAVAILABLE"];
    let mut ledger = Ledger::of_a_server_that_says(seed(), poisoned);
    let times = effort(1, 10);
    for _ in 0..times {
        let server = Process::start(with_files(100), &data, &["--memtable-bytes", "256KiB"]);
        ledger.check(server.address).await;
        let mut flood = Vec::new();
        // RocksDB and connections draw on the same limit: sooner or later one of them meets it.
        // Whether the store is poisoned by then or goes on, nobody is told anything untrue.
        let strike = || {
            flood.extend((0..150).filter_map(|_| TcpStream::connect(server.address).ok()));
            std::thread::sleep(Duration::from_millis(300));
            server.signal(Signal::KILL);
        };
        ledger.work(server.address, strike).await;
        let (_, log) = server.wait();
        assert!(!log.contains("panicked"), "{log}");
    }
    let server = Process::serve(&data, &[]);
    ledger.check(server.address).await;
    survived(
        "too many open files under load",
        &format!("{times} times, {} answers", ledger.answered()),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_is_killed_begins_again() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut dice = Dice(seed());
    let mut ledger = Ledger::new(dice.roll());
    let small = ["--memtable-bytes", "256KiB"];
    let (rounds, mut kills) = (effort(2, 20), 0);
    for _ in 0..rounds {
        let server = Process::serve(&data, &small);
        ledger.check(server.address).await;
        ledger.work(server.address, || server.signal(Signal::KILL)).await;
        server.wait();
        for _ in 0..dice.below(6) {
            let recovering = Process::spawn(crate::process::onced(), &data, &small);
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            recovering.signal(Signal::KILL);
            recovering.wait();
            kills += 1;
        }
    }
    let server = Process::serve(&data, &small);
    ledger.check(server.address).await;
    survived(
        "kill -9 during recovery",
        &format!("{kills} kills in recovery, {rounds} under load, {} answers", ledger.answered()),
    );
}
