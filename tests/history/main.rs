//! Linearizability per key, over real gRPC: whatever many callers were told together could have
//! been told to one after another, by [`onced::domain::decide`], in an order that agrees with
//! real time and with the moments in the answers.
//!
//! Callers compete for few keys with every command, owner tokens of each other, other
//! fingerprints, leases that lapse and retentions that end, while the server is restarted or
//! killed. Each call is recorded with the moments at which it was sent and answered; a call
//! without an answer may have taken effect at any later moment, or never. [`checker`] searches
//! for the order. Some callers wait for whoever is at it: such a call, too, takes effect at one
//! moment between the two, the one that its answer names. Some make several calls in one: each is
//! a call of its own, sent and answered with the others.
//!
//! The decisions are compared as the wire shows them, through the server's own translation,
//! which other tests check. Restart grace is 0 here: an outage counts in full.

mod callers;
mod calls;
mod checker;
#[path = "../harness/dice.rs"]
mod dice;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
mod tally;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::callers::{Round, settings};
use crate::calls::Call;
use crate::dice::{Dice, seed};
use crate::process::Process;
use crate::proof::{Row, effort};
use crate::tally::Tally;

/// What happens to the server in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Nothing,
    Restart(Signal),
}

async fn rounds(engine: &str, breaks: Break, rounds: u64, start: impl Fn() -> Process) {
    let mut dice = Dice(seed());
    let mut tally = Tally::default();
    let mut steps = 0;
    let with_breaks = breaks != Break::Nothing;
    let mut server = start();
    // What happens is a matter of timing too: some more rounds reach what these did not.
    for number in 0..rounds * 5 {
        if number >= rounds && tally.missing(with_breaks).is_empty() {
            break;
        }
        let mut round = Round::new(number, dice.roll());
        match breaks {
            Break::Nothing => round.run(server.address, || {}).await,
            Break::Restart(signal) => {
                round.run(server.address, || server.signal(signal)).await;
                let (_, log) = server.wait();
                assert!(!log.contains("panicked"), "{log}");
                server = start();
                round.run(server.address, || {}).await;
            }
        }
        round.ask_once_more(server.address).await;
        for (key, calls) in round.history() {
            tally.add(&calls);
            if !with_breaks {
                calls.iter().for_each(Call::waited_as_long_as_it_said);
            }
            match checker::check(&calls) {
                Ok(taken) => steps = taken.max(steps),
                Err(story) => panic!("the history of {key} is not linearizable:\n{story}"),
            }
        }
    }
    println!("{engine}: {tally:?}, at most {steps} steps to an order");
    assert_eq!(tally.missing(with_breaks), [""; 0], "these were never met");
    Row {
        promise: "1 linearizable per key, 3 fencing tokens rise, 4 expiry is judged when read",
        attack: &format!("histories of competing callers, {engine}"),
        times: &format!("{} calls on {} keys, {tally}", tally.calls(), tally.keys()),
        lost: 0,
    }
    .report();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_in_memory_are_linearizable() {
    rounds("memory", Break::Nothing, effort(4, 100), || Process::in_memory(&settings())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_on_rocksdb_are_linearizable_across_restarts() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let start = || Process::serve(&data, &settings());
    rounds("RocksDB restarted in order", Break::Restart(Signal::TERM), effort(4, 100), start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_on_rocksdb_are_linearizable_across_kills() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let start = || Process::serve(&data, &settings());
    rounds("RocksDB killed with -9", Break::Restart(Signal::KILL), effort(4, 100), start).await;
}
