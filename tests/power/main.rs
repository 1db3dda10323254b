//! The real server under power cuts: what was not synced is really lost.
//!
//! A library that is preloaded into the server ([`recorder`]) notes everything that it does to
//! its files and folders, and each sync with its begin and its end. A model of a disk ([`disk`])
//! says for any point of that [`journal`] what a power cut there would have left, and a server
//! that is started on it has to hold to every answer that had arrived by then ([`survival`]).
//! Callers write down how long the journal was when an answer had arrived ([`load`], [`book`]),
//! so a cut can fall on that very point ([`cuts`]). One life of a server, from its start to its
//! orderly end, is cut in many places: while the store is created, while it recovers from the
//! cut before, under load, and while it closes.
//!
//! What this proves: no answer, refusals and lookups included, leaves before the syncs that it
//! needs have ended, of files and of folders, in everything that the load makes RocksDB do
//! (see the counts that the test prints); and recovery copes with what may be left of the rest,
//! in order or out of order, whole or torn between sectors.
//!
//! What it does not: that the kernel and the disk keep what a sync promised (nothing is really
//! synced here), that a disk returns what was written to it, or that the directory survives
//! changes by others. A sync that fails is met in the engine's own tests. An unsynced change of
//! one file may survive without one that was made earlier to another; real file systems are
//! kinder. But of an unsynced end of a MANIFEST only a beginning survives here: where its length
//! does and its bytes do not, RocksDB finds a damaged record and the server does not start until
//! somebody has looked. Nothing is answered wrongly then, but nothing is answered either. Only one order of the operations is tried per life, that in which they happened.

#[path = "../harness/dice.rs"]
mod dice;
#[path = "../harness/preload.rs"]
mod preload;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;

mod book;
mod cuts;
mod disk;
mod journal;
mod layers;
mod load;
mod recorder;
mod survival;

use std::net::SocketAddr;
use std::path::PathBuf;

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::cuts::{Counted, SURVIVALS, Store};
use crate::dice::seed;
use crate::process::{Process, onced};
use crate::proof::{Row, effort};

/// What each of [`SURVIVALS`] stands for in the table.
const ATTACKS: [&str; SURVIVALS.len()] = [
    "power cut under load; only what was synced survives",
    "power cut under load; of the rest the first part of each file and folder survives",
    "power cut under load; of the rest any part survives, torn between sectors \
     (of a MANIFEST the first part)",
];

type Client = IdempotencyServiceClient<Channel>;

async fn connect(address: SocketAddr, connections: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(format!("http://{address}")).await.unwrap());
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let mut store = Store::new(seed());
    // Stores, lives of each, cuts of each life, answers in each, and bytes in a response.
    let small = effort((1, 3, 4, 1_500, 12_000), (17, 4, 9, 3_000, 12_000));
    // So much that logs are written over, which begins at 128 MiB.
    let large = effort(None, Some((1, 2, 8, 2_500, 800_000)));
    for (stores, lives, cuts, answers, bytes) in [Some(small), large].into_iter().flatten() {
        for _ in 0..stores {
            store.forget();
            for _ in 0..lives {
                let life = store.live(answers, bytes).await;
                store.cut(&life, cuts).await;
            }
        }
    }
    let Counted { cuts, answers, tables, recycled_logs } = store.counted;
    println!("{tables} tables written, {recycled_logs} logs written over");
    assert!(tables > 0, "the load was too light to be an attack");
    assert!(large.is_none() || recycled_logs > 0, "the load was too light to be an attack");
    for (which, attack) in ATTACKS.into_iter().enumerate() {
        Row {
            promise: "2 durable before answered, 3 fencing tokens rise",
            attack,
            times: &format!("{} cuts, {} answers", cuts[which], answers[which]),
            lost: 0,
        }
        .report();
    }
}

/// The names of a store's own directory, and of those above it, lie outside of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_cannot_take_the_directory_of_a_new_store() {
    let mut store = Store::new(seed());
    let life = store.live(1, 1).await;
    store.cut_at_first_answer(&life).await;
}

/// What [`disk`] therefore leaves out: no answer is wrong, but there is none either. A change of
/// RocksDB that copes with it makes this test fail, and the exception superfluous.
#[test]
fn a_manifest_that_ends_in_zeros_is_refused_and_one_that_is_short_is_not() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("onced");
    drop(Process::serve(&data, &[]));
    let is_manifest = |path: &PathBuf| path.to_string_lossy().contains("MANIFEST");
    let mut paths = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let manifest = paths.find(is_manifest).unwrap();
    let whole = std::fs::read(&manifest).unwrap();
    let short = &whole[..whole.len() - 20];

    std::fs::write(&manifest, [short, &[0; 20]].concat()).unwrap();
    let (status, log) = Process::spawn(onced(), &data, &[]).wait();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("is damaged"), "{log}");

    std::fs::write(&manifest, short).unwrap();
    drop(Process::serve(&data, &[]));
}
