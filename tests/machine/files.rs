//! A data directory that somebody or something has damaged, and one of a later build.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::caller::{Caller, granted, order, refusal};
use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::process::Process;
use crate::proof::{Row, effort};
use crate::{refuses_to_serve, survived};

fn files(data: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .filter(|entry| wanted(entry.file_name().to_str().unwrap()))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in files(from, |_| true) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// What a power cut may leave behind the last record: half of another one, or anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_tail_is_passed_over() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut dice = Dice(seed());
    let mut ledger = Ledger::new(dice.roll());
    let times = effort(3, 40);
    for _ in 0..times {
        let server = Process::serve(&data, &[]);
        ledger.check(server.address).await;
        ledger.work(server.address, || server.signal(Signal::KILL)).await;
        server.wait();
        let newest = files(&data, |name| name.ends_with(".log")).pop().unwrap();
        let log = fs::read(&newest).unwrap();
        let mut newest = File::options().append(true).open(newest).unwrap();
        let tail = match dice.below(3) {
            0 => dice.bytes(5_000),
            1 => vec![0; dice.below(40_000) as usize],
            // The beginning of a real record, and less than the whole of it.
            _ => log[..1 + dice.below(20) as usize].to_vec(),
        };
        newest.write_all(&tail).unwrap();
    }
    let server = Process::serve(&data, &[]);
    ledger.check(server.address).await;
    survived("a torn log tail", &format!("{times} tails, {} answers", ledger.answered()));
}

/// A directory whose records lie in tables, all of them completed: the keys.
async fn directory_of_tables(data: &Path) -> Vec<onced::pb::v1::ReserveRequest> {
    let mut orders = Vec::new();
    for half in 0..2 {
        let server = Process::serve(data, &["--drain-grace", "0s"]);
        let mut caller = Caller::of(&server).await;
        for number in 0..60 {
            let order = order(&format!("order-{half}-{number}"));
            granted(caller.reserve(&order).await.unwrap());
            caller.complete(&order, 500).await.unwrap();
            orders.push(order);
        }
        drop(caller);
        server.signal(Signal::TERM);
        server.wait();
    }
    // What lies in the log goes to tables on the next start.
    let server = Process::serve(data, &["--drain-grace", "0s"]);
    server.signal(Signal::TERM);
    server.wait();
    orders
}

/// What became of a damaged directory.
#[derive(Debug, Default)]
struct Verdicts {
    refused: u32,
    corrupted: u32,
    unharmed: u32,
}

/// No damage to a table or to the files that list them makes an operation run twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_or_manifest_is_reported_and_never_misread() {
    let dir = TempDir::new().unwrap();
    let whole = dir.path().join("whole");
    let orders = directory_of_tables(&whole).await;
    let mut dice = Dice(seed());
    let (times, mut verdicts) = (effort(8, 150), Verdicts::default());
    for number in 0..times {
        let damaged = dir.path().join(number.to_string());
        copy(&whole, &damaged);
        let is_vital = |name: &str| {
            name.ends_with(".sst") || name.starts_with("MANIFEST") || name == "CURRENT"
        };
        let vital = files(&damaged, is_vital);
        let file = &vital[dice.below(vital.len() as u64) as usize];
        let harm = harm(file, &mut dice);
        println!("{} {harm}", file.file_name().unwrap().to_str().unwrap());
        is_honest(&damaged, &orders, &mut verdicts).await;
        fs::remove_dir_all(damaged).unwrap();
    }
    println!("{verdicts:?}");
    assert!(verdicts.refused > 0, "{verdicts:?}");
    Row {
        promise: "2 durable before answered",
        attack: "bits flipped in, bytes cut off, or loss of a table, MANIFEST or CURRENT",
        times: &format!(
            "{times} damaged directories: {} not started, {} with STORE_CORRUPTED, {} read in full",
            verdicts.refused, verdicts.corrupted, verdicts.unharmed
        ),
        lost: 0,
    }
    .report();
}

fn harm(file: &Path, dice: &mut Dice) -> &'static str {
    let mut bytes = fs::read(file).unwrap();
    let at = dice.below(bytes.len() as u64) as usize;
    match dice.below(6) {
        0 => {
            fs::remove_file(file).unwrap();
            return "lost";
        }
        1 => {
            bytes.truncate(at);
            fs::write(file, bytes).unwrap();
            return "cut";
        }
        _ => {}
    }
    bytes[at] ^= 1 << dice.below(8);
    fs::write(file, bytes).unwrap();
    "with a bit flipped"
}

/// Each answer is the right one, or none is given.
async fn is_honest(data: &Path, orders: &[onced::pb::v1::ReserveRequest], verdicts: &mut Verdicts) {
    let server = Process::spawn(crate::process::onced(), data, &["--drain-grace", "0s"]);
    let Some(server) = server.listens_or_ends() else {
        let (code, message) = refuses_to_serve(data);
        assert_eq!(code, Some(3), "{message}");
        assert!(message.contains(data.to_str().unwrap()), "{message}");
        assert!(message.contains("restore a copy"), "{message}");
        verdicts.refused += 1;
        return;
    };
    let mut caller = Caller::of(&server).await;
    let mut corrupted = false;
    for order in orders {
        let stranger = crate::caller::order(&order.key);
        match caller.reserve(&stranger).await {
            Ok(answer) => {
                use onced::pb::v1::reserve_response::Outcome;
                let Some(Outcome::Completed(done)) = answer.outcome else { panic!("{answer:?}") };
                assert_eq!(done.response.unwrap().payload, [b'x'; 500]);
            }
            refused => {
                assert_eq!(refusal(refused).1, "STORE_CORRUPTED");
                corrupted = true;
            }
        }
    }
    match corrupted {
        true => verdicts.corrupted += 1,
        false => verdicts.unharmed += 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_a_later_format_is_left_to_the_build_that_wrote_it() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let held = order("held");
    let server = Process::serve(&data, &["--drain-grace", "0s"]);
    let token = granted(Caller::of(&server).await.reserve(&held).await.unwrap());
    server.signal(Signal::TERM);
    server.wait();
    let write_format = |format: u32| {
        let tables = ["default", "records", "expiry", "holds", "meta"];
        let db = DB::open_cf(&Options::default(), &data, tables).unwrap();
        db.put_cf(db.cf_handle("meta").unwrap(), b"format", format.to_be_bytes()).unwrap();
    };

    write_format(3);
    let (code, message) = refuses_to_serve(&data);
    assert_eq!(code, Some(3), "{message}");
    let advice = "has format 3, this build reads format 2; use the build that wrote it";
    assert!(message.contains(advice), "{message}");

    write_format(2);
    let server = Process::serve(&data, &[]);
    let again = Caller::of(&server).await.reserve(&held).await.unwrap();
    assert_eq!(granted(again), token);
}
