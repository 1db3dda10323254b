//! A disk that is full, that fails, that may not be written to, or that takes its time.

use std::path::Path;
use std::time::Duration;

use onced::pb::v1::CreateBackupRequest;
use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::caller::{Caller, granted, order, refusal};
use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::mount::SmallDisk;
use crate::process::Process;
use crate::proof::effort;
use crate::shim::{EIO, ENOSPC, EROFS, Shim};
use crate::{refuses_to_serve, survived};

/// What a server says whose disk fails.
const POISONED: &[&str] = &["OUTCOME_UNKNOWN", "STORE_UNAVAILABLE"];

/// So small that memtables are flushed all the time, and for disks of any size.
const SMALL: [&str; 6] =
    ["--memtable-bytes", "256KiB", "--drain-grace", "0s", "--min-free-disk-bytes", "0"];

fn full(what: (Code, String)) {
    assert_eq!(what, (Code::ResourceExhausted, "STORE_FULL".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_takes_what_ends_a_reservation_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::new(64) else { return };
    let settings = ["--min-free-disk-bytes", "16MiB", "--memtable-bytes", "256KiB"];
    let server = Process::serve(&disk.path().join("data"), &settings);
    let mut caller = Caller::of(&server).await;
    let in_hand = order("in-hand");
    granted(caller.reserve(&in_hand).await.unwrap());

    disk.fill_up_to(12 << 20);
    caller.sees(NotServing).await;
    full(refusal(caller.reserve(&order("refused")).await));
    caller.complete(&in_hand, 60_000).await.unwrap();
    caller.lookup(&in_hand).await.unwrap();

    disk.make_room();
    caller.sees(Serving).await;
    granted(caller.reserve(&order("granted")).await.unwrap());
}

/// Owners who all complete at once, with large results, on a disk that has not got the room: those
/// that would make a write fail are told to come back, and the store goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_find_no_room_are_taken_once_there_is_some_without_a_restart() {
    let Some(disk) = SmallDisk::new(448) else { return };
    let data = disk.path().join("data");
    // The reserve is large against what is merged: a merge may take all that is left, and where a
    // write comes at that moment it fails.
    let settings =
        ["--min-free-disk-bytes", "64MiB", "--memtable-bytes", "1MiB", "--drain-grace", "0s"];
    let server = Process::serve(&data, &settings);
    let mut caller = Caller::of(&server).await;
    let orders: Vec<_> = (0..300).map(|number| order(&format!("order-{number}"))).collect();
    for order in &orders {
        granted(caller.reserve(order).await.unwrap());
    }
    disk.fill_up_to(44 << 20);
    caller.sees(NotServing).await;

    // Tables and logs that go make room again, so who is refused is not the same each time.
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for order in &orders {
        match caller.complete(order, 1_000_000).await {
            Ok(()) => done.push(order),
            answer => {
                let told = refusal(answer);
                let full = (Code::ResourceExhausted, "STORE_FULL".to_owned());
                assert_eq!(told, full, "{}", server.lines_with("").join("\n"));
                refused.push(order);
            }
        }
    }
    println!("{} results taken, {} told to come back", done.len(), refused.len());
    assert!(!done.is_empty() && refused.len() > 10);
    // Nothing has failed: what is on record is shown, and what was granted can be given back.
    let given_back = refused.pop().unwrap();
    caller.release(given_back).await.unwrap();
    for order in done.iter().chain(&refused) {
        caller.lookup(order).await.unwrap();
    }
    full(refusal(caller.reserve(&order("another")).await));

    disk.make_room();
    caller.sees(Serving).await;
    for order in &refused {
        caller.complete(order, 60_000).await.unwrap();
    }
    granted(caller.reserve(&order("another")).await.unwrap());
    stops_in_order(server);
    let server = Process::serve(&data, &settings);
    let mut caller = Caller::of(&server).await;
    for order in done.iter().chain(&refused) {
        let answer = caller.reserve(order).await.unwrap().outcome;
        assert!(matches!(answer, Some(Outcome::Completed(_))), "{answer:?}");
    }
}

/// A backup that would take the room that the store needs, or more than there is, is not begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_without_room_is_refused_and_harms_nothing() {
    let Some(disk) = SmallDisk::new(192) else { return };
    let backups = disk.path().join("backups");
    let settings = ["--min-free-disk-bytes", "32MiB", "--backup-dir", backups.to_str().unwrap()];
    let server = Process::serve(&disk.path().join("data"), &settings);
    let mut caller = Caller::of(&server).await;
    granted(caller.reserve(&order("before")).await.unwrap());
    let request = || CreateBackupRequest { operator: "olga".into(), ..Default::default() };
    let mut admin =
        AdminServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let first = admin.create_backup(request()).await.unwrap().into_inner().backup.unwrap();

    disk.fill_up_to(34 << 20);
    full(refusal(admin.create_backup(request()).await));
    assert_eq!(caller.health().await, Serving);
    granted(caller.reserve(&order("meanwhile")).await.unwrap());
    disk.make_room();
    let second = admin.create_backup(request()).await.unwrap().into_inner().backup.unwrap();
    assert!(second.backup_id > first.backup_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_to_the_last_byte_costs_nothing_acknowledged() {
    let Some(disk) = SmallDisk::new(96) else { return };
    let data = disk.path().join("data");
    let mut ledger = Ledger::of_a_server_that_says(seed(), POISONED);
    let times = effort(1, 10);
    for _ in 0..times {
        let server = Process::serve(&data, &SMALL);
        ledger.check(server.address).await;
        ledger.work(server.address, || disk.fill()).await;
        is_poisoned(&server).await;
        disk.make_room();
        is_poisoned(&server).await;
        stops_in_order(server);
    }
    came_back(&data, &mut ledger).await;
    survived(
        "a disk that runs full under load",
        &format!("{times} times, {} answers", ledger.answered()),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_costs_nothing_acknowledged() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let shim = Shim::new();
    let mut dice = Dice(seed());
    let mut ledger = Ledger::of_a_server_that_says(dice.roll(), POISONED);
    let times = effort(4, 40);
    for number in 0..times {
        let server = Process::start(shim.onced(), &data, &SMALL);
        ledger.check(server.address).await;
        let error = [EIO, ENOSPC, EROFS][dice.below(3) as usize];
        let strike = || match number % 2 {
            0 => shim.fail_writes(error),
            _ => shim.fail_syncs(error),
        };
        ledger.work(server.address, strike).await;
        is_poisoned(&server).await;
        // It does not come back by itself when the disk does: what failed stays in question.
        shim.fail_writes(0);
        shim.fail_syncs(0);
        is_poisoned(&server).await;
        stops_in_order(server);
    }
    assert!(shim.failed() >= times);
    came_back(&data, &mut ledger).await;
    survived(
        "writes or syncs that fail under load (EIO, ENOSPC, EROFS)",
        &format!("{times} times, {} answers", ledger.answered()),
    );
}

async fn is_poisoned(server: &Process) {
    let mut caller = Caller::of(server).await;
    caller.sees(NotServing).await;
    let (code, reason) = refusal(caller.reserve(&order("another")).await);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    let (code, reason) = refusal(caller.lookup(&order("another")).await);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
}

fn stops_in_order(server: Process) {
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

async fn came_back(data: &Path, ledger: &mut Ledger) {
    let server = Process::serve(data, &SMALL);
    ledger.check(server.address).await;
    assert_eq!(Caller::of(&server).await.health().await, Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_is_read_only_is_reported_and_left_as_it_is() {
    let Some(disk) = SmallDisk::new(64) else { return };
    let data = disk.path().join("data");
    let held = order("held");
    let server = Process::serve(&data, &SMALL);
    let token = granted(Caller::of(&server).await.reserve(&held).await.unwrap());
    stops_in_order(server);

    disk.make_read_only();
    let (code, message) = refuses_to_serve(&data);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("cannot be opened") && message.contains("Read-only"), "{message}");

    disk.make_writable();
    let server = Process::serve(&data, &SMALL);
    let again = Caller::of(&server).await.reserve(&held).await.unwrap();
    assert_eq!(granted(again), token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_delays_answers_and_brings_none_forward() {
    let dir = TempDir::new().unwrap();
    let shim = Shim::new();
    let server = Process::start(shim.onced(), &dir.path().join("data"), &SMALL);
    let mut caller = Caller::of(&server).await;
    let (patient, hasty) = (order("patient"), order("hasty"));
    granted(caller.reserve(&order("before")).await.unwrap());

    shim.stall_syncs(true);
    // The first sync of a quiet engine starts at once and stalls; everything waits for it.
    let mut waiting = tokio::spawn({
        let (mut caller, order) = (caller.clone(), patient.clone());
        async move { caller.reserve(&order).await }
    });
    let brief = Duration::from_millis(300);
    let status = caller.reserve_within(&hasty, brief).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(tokio::time::timeout(brief, &mut waiting).await.is_err(), "answered before its sync");
    assert_eq!(caller.health().await, Serving);

    shim.stall_syncs(false);
    let token = granted(waiting.await.unwrap().unwrap());
    assert_eq!(granted(caller.reserve(&patient).await.unwrap()), token);
    granted(caller.reserve(&hasty).await.unwrap());
}
