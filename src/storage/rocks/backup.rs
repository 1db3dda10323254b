//! Backups of a running store: made, listed, and kept within bounds. How one becomes a store
//! again is in `restore.rs`.
//!
//! # Why RocksDB's backup engine
//!
//! It copies tables that earlier backups have not got, with a checksum of each, and whatever the
//! logs hold beside them; a backup counts from the moment that its list of files is renamed into
//! place, and what a crash left of one is cleared away by the next. A checkpoint would be
//! cheaper: hard links to the tables. But then data and backup share every block of the disk, a
//! backup cannot lie on another one, and what makes copies from it safe would have to be
//! written here.
//!
//! # What is in a backup
//!
//! Everything that was acknowledged before it was asked for: such a command is in a memtable
//! and in the log. Memtables are flushed first, so that the copy of the log, which no other
//! backup can share, is short. It also may hold commands that were under way and whose callers
//! had no answer yet, as the log of a server that was killed does. Callers are served all the
//! while: neither the engine's mutex nor the sync thread is involved.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::backup::{BackupEngine, BackupEngineOptions};
use rocksdb::{Env, Error};
use rustix::fs::FlockOperation;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::disk::free_bytes;
use super::schema::Tables;
use super::{RocksEngine, directory};
use crate::domain::Moment;
use crate::storage::backup::{Backup, BackupError, BackupOptions};

/// The folder of the lists of files, one for each backup, named after its number.
const LISTS: &str = "meta";

/// The folder of the tables that backups share.
const TABLES: &str = "shared_checksum";

/// The file that whoever makes a backup locks, so that two servers that were given the same
/// directory do not clear away each other's work.
const LOCK: &str = "LOCK";

/// What a backup takes beside tables, memtables and logs: its lists and the MANIFEST.
const SMALL_FILES_BYTES: u64 = 4 << 20;

/// Makes backups of one store.
pub struct Backups {
    options: BackupOptions,
    /// Where the store itself is, and how much room it needs beside it.
    data: PathBuf,
    min_free_disk: u64,
}

impl Backups {
    /// Those of the store in `data`, which refuses new reservations below `min_free_disk` bytes.
    pub fn new(options: BackupOptions, data: &Path, min_free_disk: u64) -> Arc<Self> {
        Arc::new(Self { options, data: data.to_owned(), min_free_disk })
    }

    /// Makes one, and purges those that are too many then.
    fn make(&self, tables: &Tables) -> Result<Backup, BackupError> {
        let dir = &self.options.dir;
        directory::make_durably(&std::path::absolute(dir).map_err(failed)?).map_err(failed)?;
        let _lock = lock(dir, FlockOperation::NonBlockingLockExclusive)?;
        let flush = self.has_room(tables)?;
        let mut engine = open(dir)?;
        engine.create_new_backup_flush(&tables.db, flush).map_err(unwritten)?;
        // From here on it counts, whatever becomes of the rest.
        if let Err(error) = engine.purge_old_backups(self.options.keep) {
            warn!(%error, "backups that are too many cannot be purged");
        }
        let made = engine.get_backup_info().pop().map(|found| known(&found));
        made.ok_or(BackupError::Failed { cause: "it is not listed".to_owned() })
    }

    /// Refuses where there is no room. The flag says whether the store's own disk has room for
    /// a flush; where it has not, the log is copied instead.
    fn has_room(&self, tables: &Tables) -> Result<bool, BackupError> {
        let Backups { options: BackupOptions { dir, .. }, data, min_free_disk } = self;
        let memtables = tables.memtable_bytes();
        let needed_bytes = unshared(tables, &dir.join(TABLES)).map_err(failed)?
            + logs(data).map_err(failed)?
            + memtables
            + SMALL_FILES_BYTES;
        let is_same_disk =
            fs::metadata(dir).map_err(failed)?.dev() == fs::metadata(data).map_err(failed)?.dev();
        let kept = if is_same_disk { *min_free_disk } else { 0 };
        let spare = free_bytes(dir).unwrap_or(u64::MAX).saturating_sub(kept);
        if spare < needed_bytes {
            return Err(BackupError::NoRoom { needed_bytes, free_bytes: spare });
        }
        let beside = if is_same_disk { needed_bytes } else { 0 };
        let free = free_bytes(data).unwrap_or(u64::MAX);
        Ok(free >= min_free_disk.saturating_add(memtables).saturating_add(beside))
    }
}

impl RocksEngine {
    /// Makes a backup on a thread of its own, which nobody waits for when the engine closes: a
    /// process that ends leaves half of a backup, which does not count.
    pub(super) async fn make_backup(&self) -> Result<Backup, BackupError> {
        let backups = Arc::clone(self.backups.as_ref().ok_or(BackupError::Off)?);
        // A poisoned store may hold what it said it does not.
        drop(self.core.writer()?);
        let tables = Arc::clone(&self.tables);
        let (told, made) = oneshot::channel();
        std::thread::Builder::new()
            .name("onced-backup".into())
            .spawn(move || {
                let made = backups.make(&tables);
                if let Ok(Backup { id, bytes, .. }) = made {
                    info!(id, bytes, "a backup was made");
                }
                // Whoever asked may have left; the backup stays.
                let _ = told.send(made);
            })
            .map_err(failed)?;
        made.await.unwrap_or_else(|_| Err(BackupError::Failed { cause: "it panicked".to_owned() }))
    }

    /// What backups there are.
    pub(super) async fn list_backups(&self) -> Result<Vec<Backup>, BackupError> {
        let backups = self.backups.as_ref().ok_or(BackupError::Off)?;
        let dir = backups.options.dir.clone();
        let listing = tokio::task::spawn_blocking(move || list(&dir));
        listing
            .await
            .unwrap_or_else(|_| Err(BackupError::Failed { cause: "it panicked".to_owned() }))
    }
}

/// Whether `dir` looks like a directory of backups.
pub fn is_directory_of_backups(dir: &Path) -> bool {
    dir.join(LISTS).is_dir() && !dir.join("CURRENT").exists()
}

/// The backups in `dir`, the oldest first, damaged ones included; none where there is no such
/// directory. Nothing is read but names, sizes and lists of files.
pub fn list(dir: &Path) -> Result<Vec<Backup>, BackupError> {
    if !is_directory_of_backups(dir) {
        return Ok(Vec::new());
    }
    let mut backups: Vec<_> = open(dir)?.get_backup_info().iter().map(known).collect();
    // The engine passes over those that are not whole, and so an older one would be the latest.
    let whole: BTreeSet<_> = backups.iter().map(|backup| backup.id).collect();
    for entry in fs::read_dir(dir.join(LISTS)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let id = name.to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(id) = id.filter(|id| !whole.contains(id)) {
            backups.push(Backup { id, made_at: None, bytes: 0, files: 0, damaged: true });
        }
    }
    backups.sort_by_key(|backup| backup.id);
    Ok(backups)
}

/// Opens `dir`, which is there.
pub(super) fn open(dir: &Path) -> Result<BackupEngine, BackupError> {
    let options = BackupEngineOptions::new(dir).map_err(unwritten)?;
    let env = Env::new().map_err(unwritten)?;
    BackupEngine::open(&options, &env).map_err(unwritten)
}

/// Locks `dir` for as long as the file is open, against whoever makes a backup there. A
/// directory that was never locked, or that this process may not write to, is read without.
pub(super) fn lock(dir: &Path, how: FlockOperation) -> Result<Option<File>, BackupError> {
    let is_exclusive = matches!(how, FlockOperation::NonBlockingLockExclusive);
    let path = dir.join(LOCK);
    let opened = match is_exclusive {
        true => File::options().create(true).truncate(false).write(true).open(path).map(Some),
        false => match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        },
    };
    let Some(file) = opened.map_err(failed)? else { return Ok(None) };
    match rustix::fs::flock(&file, how) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::Busy),
        Err(error) => Err(failed(error.into())),
    }
}

fn known(found: &rocksdb::backup::BackupEngineInfo) -> Backup {
    Backup {
        id: found.backup_id,
        made_at: Some(Moment::from_millis(found.timestamp.saturating_mul(1_000))),
        bytes: found.size,
        files: found.num_files,
        damaged: false,
    }
}

/// How many bytes the tables have that no backup in `shared` has yet. Names there begin with
/// the number of the table and end with its size; where they ever should not, all tables count.
fn unshared(tables: &Tables, shared: &Path) -> io::Result<u64> {
    let mut there = BTreeSet::new();
    match fs::read_dir(shared) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let number = name.split('_').next().unwrap_or_default().to_owned();
                let size = name.trim_end_matches(".sst").rsplit('_').next().unwrap_or_default();
                there.insert((number, size.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let live = tables.db.live_files().map_err(|error| io::Error::other(error.to_string()))?;
    let is_new = |file: &&rocksdb::LiveFile| {
        let number = file.name.trim_matches('/').trim_end_matches(".sst").to_owned();
        !there.contains(&(number, file.size.to_string()))
    };
    Ok(live.iter().filter(is_new).map(|file| file.size as u64).sum())
}

/// How many bytes the logs in `data` have.
fn logs(data: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|it| it == "log") {
            // It may go while it is looked at.
            bytes += entry.metadata().map_or(0, |file| file.len());
        }
    }
    Ok(bytes)
}

fn failed(error: io::Error) -> BackupError {
    BackupError::Failed { cause: error.to_string() }
}

fn unwritten(error: Error) -> BackupError {
    BackupError::Failed { cause: error.into_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::{
        Command, Fingerprint, IdempotencyKey, LeaseExpiryAction, Namespace, OwnerToken, RecordKey,
        Reserve, Span,
    };
    use crate::storage::rocks::restore::{Order, restore};
    use crate::storage::rocks::verify::verify;
    use crate::storage::{Engine as _, StoreOptions};

    /// Where the store's own disk has no room for a flush.
    #[test]
    fn a_backup_without_a_flush_has_what_lies_in_the_logs() {
        let root = tempfile::tempdir().unwrap();
        let (data, dir) = (root.path().join("data"), root.path().join("backups"));
        let noon = Moment::from_millis(1_800_000_000_000);
        let options = StoreOptions { memtable_bytes: 1 << 20, ..StoreOptions::default() };
        let engine = RocksEngine::open(&data, Arc::new(ManualClock::at(noon)), &options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // More than a memtable, so that logs are closed and recycled meanwhile.
        for number in 0..6_000 {
            let key = RecordKey {
                namespace: Namespace::new("orders".into()).unwrap(),
                key: IdempotencyKey::new(format!("order-{number}")).unwrap(),
            };
            let command = Command::Reserve(Reserve {
                fingerprint: Fingerprint::default(),
                owner_token: OwnerToken::from_bytes([7; 16]),
                lease: Span::from_secs(30),
                lease_expiry_action: LeaseExpiryAction::Hold,
                retention: Span::from_secs(3_600),
                retry_failed: false,
                holder: "holder ".repeat(18),
            });
            runtime.block_on(engine.apply(key, command, None)).unwrap();
        }
        fs::create_dir(&dir).unwrap();
        open(&dir).unwrap().create_new_backup_flush(&engine.tables.db, false).unwrap();
        drop(engine);

        let again = root.path().join("again");
        let order = Order { backups: &dir, id: None, data: &again, fencing_above: None, now: noon };
        restore(order).unwrap();
        let mut findings = 0;
        let looked = verify(&again, |_| findings += 1).unwrap();
        assert_eq!((looked.records, looked.hold_entries, findings), (6_000, Some(6_000), 0));
    }

    #[test]
    fn tables_that_a_backup_has_take_no_room_again() {
        let root = tempfile::tempdir().unwrap();
        let (data, dir) = (root.path().join("data"), root.path().join("backups"));
        let tables = Tables::open(&data, &StoreOptions::default()).unwrap();
        tables.write_format().unwrap();
        assert_eq!(unshared(&tables, &dir.join(TABLES)).unwrap(), 0);
        fs::create_dir(&dir).unwrap();
        open(&dir).unwrap().create_new_backup_flush(&tables.db, true).unwrap();
        let live: usize = tables.db.live_files().unwrap().iter().map(|file| file.size).sum();
        assert!(live > 0);
        assert_eq!(unshared(&tables, &dir.join(TABLES)).unwrap(), 0);
        assert_eq!(unshared(&tables, &dir.join("nowhere")).unwrap(), live as u64);
    }
}
