//! The real binary under power cuts: what was not synced is really lost.
//!
//! A preloaded library ([`recorder`]) writes down what the server does to its files. When the
//! server is killed under load, a model of a disk ([`disk`]) says what a power cut at that
//! moment would have left, and the next server starts from that. Everything that a caller was
//! told by then has to be true of it ([`ledger`]): each grant, renewal, completion and
//! release, and that no fencing token comes twice.
//!
//! What this proves: no answer leaves before the syncs that it needs have returned, of files
//! and of folders, in steady work, while tables are written and logs recycled, while the store
//! is created and while it recovers; and the server finds its way in whatever else a disk
//! leaves, torn and reordered. What it does not: that a real disk does what it says when it
//! reports a sync as done, or that the kernel does.

#[path = "../harness/dice.rs"]
mod dice;
mod disk;
mod journal;
#[path = "../harness/ledger.rs"]
mod ledger;
#[path = "../harness/preload.rs"]
mod preload;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/proof.rs"]
mod proof;
mod recorder;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::dice::{Dice, seed};
use crate::disk::{Cut, Disk, Image, image_of, write_out};
use crate::ledger::Ledger;
use crate::process::Process;
use crate::proof::{Row, effort};
use crate::recorder::Recorder;

/// How many cuts one store lives through.
const CUTS_OF_A_STORE: u64 = 12;

/// So small that memtables are flushed and logs recycled all the time.
const SMALL: [&str; 2] = ["--memtable-bytes", "1MiB"];

/// One server after another on a disk that forgets.
struct Lives {
    recorder: Recorder,
    dir: TempDir,
    number: u32,
    /// What was on the disk when the current life began.
    before: Image,
}

impl Lives {
    fn new() -> Self {
        let before = Image::from([(String::new(), None)]);
        Self { recorder: Recorder::new(), dir: TempDir::new().unwrap(), number: 0, before }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join(self.number.to_string())
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Starts a server; its life has to be ended by [`Self::cut`].
    fn spawn(&self) -> Process {
        write_out(&self.before, &self.root());
        let command = self.recorder.record(&self.root(), &self.journal());
        Process::spawn(command, &self.root().join("data"), &SMALL)
    }

    fn start(&self) -> Process {
        let mut server = self.spawn();
        server.listens();
        server
    }

    /// What the life that has ended did to the disk.
    fn disk(&self) -> Disk {
        let mut disk = Disk::of(&self.before);
        for change in journal::read(&fs::read(self.journal()).unwrap_or_default()) {
            disk.apply(change);
        }
        disk
    }

    /// The power is cut: the next life begins with what is left.
    fn cut(&mut self, cut: Cut, dice: &mut Dice) {
        self.before = self.disk().cut(cut, dice);
        fs::remove_dir_all(self.root()).unwrap();
        let _ = fs::remove_file(self.journal());
        self.number += 1;
    }
}

fn kill(server: Process) {
    server.signal(Signal::KILL);
    server.wait();
}

/// Without this, a change that the recorder does not know would look like one that is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_is_all_that_was_done() {
    let lives = Lives::new();
    let mut ledger = Ledger::new(seed());
    let server = lives.start();
    ledger.work(server.address, || server.signal(Signal::TERM)).await;
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");

    let (recorded, real) = (lives.disk().current(), image_of(&lives.root()));
    assert_eq!(recorded.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
    for (path, content) in &real {
        assert!(recorded[path] == *content, "{path}");
    }
    assert!(real.keys().any(|path| path.ends_with(".sst")), "{:?}", real.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_where_only_what_was_synced_is_left() {
    cuts(Cut::Strict, "power cut under load: all that was not synced is lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_where_the_rest_is_torn_and_reordered() {
    cuts(Cut::Ragged, "power cut under load: any part of what was not synced is lost").await;
}

async fn cuts(cut: Cut, attack: &str) {
    let (cuts, mut dice) = (effort(4, 150), Dice(seed()));
    let (mut answered, mut in_recovery) = (0, 0);
    let mut lives = Lives::new();
    let mut ledger = Ledger::new(dice.roll());
    for number in 1..=cuts {
        let server = lives.start();
        ledger.check(server.address).await;
        ledger.work(server.address, || server.signal(Signal::KILL)).await;
        println!("cut {number}: {}", ledger.summary());
        server.wait();
        lives.cut(cut, &mut dice);
        while dice.below(3) == 0 {
            cut_in_recovery(&mut lives, cut, &mut dice).await;
            in_recovery += 1;
        }
        if number % CUTS_OF_A_STORE == 0 || number == cuts {
            let server = lives.start();
            ledger.check(server.address).await;
            kill(server);
            answered += ledger.answered();
            (lives, ledger) = (Lives::new(), Ledger::new(dice.roll()));
        }
    }
    Row {
        promise: "2 durable before answered, 3 fencing tokens rise",
        attack,
        times: &format!("{cuts} cuts under load, {in_recovery} in recovery, {answered} answers"),
        lost: 0,
    }
    .report();
}

/// Starts a server and cuts the power some time before or after it listens.
async fn cut_in_recovery(lives: &mut Lives, cut: Cut, dice: &mut Dice) {
    let server = lives.spawn();
    tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
    kill(server);
    lives.cut(cut, dice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_creation_was_cut_is_created_again() {
    let (cuts, mut dice) = (effort(6, 100), Dice(seed()));
    let mut listening = 0;
    for number in 0..cuts {
        let cut = if number % 2 == 0 { Cut::Strict } else { Cut::Ragged };
        let mut lives = Lives::new();
        cut_in_recovery(&mut lives, cut, &mut dice).await;
        let server = lives.start();
        let mut ledger = Ledger::new(dice.roll());
        ledger.work(server.address, || server.signal(Signal::KILL)).await;
        server.wait();
        lives.cut(cut, &mut dice);
        let server = lives.start();
        ledger.check(server.address).await;
        listening += 1;
        kill(server);
    }
    Row {
        promise: "2 durable before answered, 3 fencing tokens rise",
        attack: "power cut while the store is created, and again under its first load",
        times: &format!("{listening} stores"),
        lost: 0,
    }
    .report();
}
