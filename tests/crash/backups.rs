//! Backups of a server under load that is killed: what was acknowledged before a backup was asked
//! for is in it, and half of one never counts.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::{Backup, CreateBackupRequest};
use onced::storage::rocks::backup::list;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::Status;

use crate::dice::{Dice, seed};
use crate::ledger::Ledger;
use crate::process::{Process, onced};
use crate::proof::{Row, effort};
use crate::{client, data, grant, order, run};

async fn back_up(address: std::net::SocketAddr) -> Result<Backup, Status> {
    let client = AdminServiceClient::connect(format!("http://{address}")).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = CreateBackupRequest { operator: "olga".into(), ..Default::default() };
    Ok(client.create_backup(request).await?.into_inner().backup.unwrap())
}

/// Makes a store of a backup, and holds everything in it against everything else.
fn restore(backups: &Path, id: u32, to: &Path) {
    let restored = run(onced().arg("restore").arg(backups).arg(to).args(["--id", &id.to_string()]));
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    let verified = run(onced().arg("verify").arg(to));
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_what_was_acknowledged_before_it_and_a_kill_leaves_no_half_of_one() {
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    let settings = [
        "--memtable-bytes",
        "256KiB",
        "--drain-grace",
        "0s",
        "--backup-keep",
        "1000",
        "--backup-dir",
        backups.to_str().unwrap(),
    ];
    let mut dice = Dice(seed());
    let mut ledger = Ledger::new(dice.roll());
    let (rounds, mut known, mut checked) = (effort(4, 30), BTreeSet::new(), 0);
    for round in 0..rounds {
        let server = Process::serve(&data(&dir), &settings);
        ledger.check(server.address).await;
        let acknowledged = ledger.completions();
        let (told, made) = mpsc::channel();
        let pause = Duration::from_millis(dice.below(30));
        let strike = || {
            let address = server.address;
            tokio::spawn(async move { told.send(back_up(address).await) });
            match round % 2 {
                // Killed at any moment of it,
                0 => std::thread::sleep(pause),
                // or when there is one.
                _ => drop(made.recv().unwrap().unwrap()),
            }
            server.signal(Signal::KILL);
        };
        ledger.work(server.address, strike).await;
        server.wait();

        for backup in list(&backups).unwrap() {
            assert!(!backup.damaged, "{backup:?}");
            if !known.insert(backup.id) {
                continue;
            }
            let restored = dir.path().join(format!("restored-{}", backup.id));
            restore(&backups, backup.id, &restored);
            let server = Process::serve(&restored, &[]);
            Ledger::are_replayed(server.address, &acknowledged).await;
            // Nobody was ever given a larger fencing token than whoever comes now.
            let granted = grant(&mut client(&server).await, order("another")).await;
            assert!(granted.fencing_token > ledger.highest_fencing_token(), "{granted:?}");
            checked += acknowledged.len();
        }
    }
    assert!(known.len() >= rounds as usize / 2, "{known:?}");

    // And with nobody at work the restored store is the same in everything that was told.
    let server = Process::serve(&data(&dir), &settings);
    ledger.check(server.address).await;
    let last = back_up(server.address).await.unwrap();
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let audit = log.lines().find(|line| line.contains("onced::audit")).unwrap();
    assert!(audit.contains("create_backup") && audit.contains("operator=\"olga\""), "{audit}");
    let restored = dir.path().join("restored");
    restore(&backups, u32::try_from(last.backup_id).unwrap(), &restored);
    let server = Process::serve(&restored, &[]);
    ledger.check(server.address).await;
    Row {
        promise: "2 durable before answered, 3 fencing tokens rise",
        attack: "backups of a server under load that is killed with -9, restored",
        times: &format!(
            "{rounds} kills, {} backups restored, {checked} completions looked for in them",
            known.len() + 1
        ),
        lost: 0,
    }
    .report();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_ends_in_order_while_a_backup_is_made() {
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    let settings = ["--drain-grace", "0s", "--backup-dir", backups.to_str().unwrap()];
    let mut ledger = Ledger::new(seed());
    for _ in 0..effort(3, 20) {
        let server = Process::serve(&data(&dir), &settings);
        ledger.check(server.address).await;
        let strike = || {
            tokio::spawn(back_up(server.address));
            server.signal(Signal::TERM);
        };
        ledger.work(server.address, strike).await;
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
    let server = Process::serve(&data(&dir), &settings);
    ledger.check(server.address).await;
    back_up(server.address).await.unwrap();
}
