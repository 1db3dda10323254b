//! From a backup to a store: copied, checked, and stamped so that its fencing tokens go on above
//! all that were ever given out.
//!
//! # Why in a folder within the folder
//!
//! A store that was copied but not stamped looks like any other, and would give fencing tokens
//! out twice; a directory in which nothing was put yet looks like an empty store, and would
//! begin anew. So everything happens in a folder within the data directory, which no server
//! opens as long as that folder is there. The files move to their place when all of it is
//! durable, and the folder goes last. Next to the data directory there may be another disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::ErrorKind;
use rocksdb::backup::RestoreOptions;
use rustix::fs::FlockOperation;

use super::backup;
use super::directory::{self, RESTORING};
use super::schema::{DiskError, Meta, Tables};
use crate::clock::EngineClock;
use crate::domain::{FencingToken, Moment};
use crate::storage::backup::{Backup, BackupError};
use crate::storage::{OpenError, StoreOptions};

/// What a restore is to do.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The directory of backups.
    pub backups: &'a Path,
    /// Which of them; `None`: the latest.
    pub id: Option<u32>,
    /// The data directory, which is empty or not there.
    pub data: &'a Path,
    /// A fencing token that none is larger of; where it is given, the clock need not be right.
    pub fencing_above: Option<FencingToken>,
    /// The time of day.
    pub now: Moment,
}

/// What a restore has done.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// What it was made of.
    pub backup: Backup,
    /// No moment that the store had shown by the time of the backup is later; `None`: it had
    /// shown none.
    pub clock_high_water: Option<Moment>,
    /// No fencing token above this one had been given out by the time of the backup.
    pub fencing_high_water: Option<FencingToken>,
    /// All fencing tokens are larger than this one from now on.
    pub fencing_above: FencingToken,
}

/// Why nothing was restored, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no backup.
    #[error("{dir:?} holds no backup")]
    Missing {
        /// Where.
        dir: PathBuf,
    },
    /// There is no such backup.
    #[error("{dir:?} holds no backup {id}; it has {there}")]
    Unknown {
        /// Where.
        dir: PathBuf,
        /// Which.
        id: u32,
        /// Those that there are.
        there: String,
    },
    /// It is not what was written.
    #[error("backup {id} is damaged: {cause}; choose another one")]
    Damaged {
        /// Which.
        id: u32,
        /// What the storage library says.
        cause: String,
    },
    /// There is something already.
    #[error("{data:?} is not empty; choose another directory, or move away what is in it")]
    NotEmpty {
        /// The data directory.
        data: PathBuf,
    },
    /// Fencing tokens cannot go on by the clock.
    #[error(
        "{cause}, so fencing tokens cannot go on by the clock; set it, or give a fencing token \
         that is larger than all that were given out"
    )]
    Clock {
        /// What is the matter with the clock.
        cause: &'static str,
    },
    /// What came out cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backups cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The data directory cannot be written.
    #[error("{path:?} cannot be written: {cause}")]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

/// Makes a store of a backup.
pub fn restore(order: Order<'_>) -> Result<Restored, RestoreError> {
    let Order { backups, id, data, fencing_above, now } = order;
    let unwritable = |error: io::Error| unwritable(data, &error);
    let backup = choose(backups, id)?;
    if !is_empty(data).map_err(unwritable)? {
        return Err(RestoreError::NotEmpty { data: data.to_owned() });
    }
    directory::make_durably(&std::path::absolute(data).map_err(unwritable)?).map_err(unwritable)?;
    let staged = data.join(RESTORING);
    directory::make_durably(&std::path::absolute(&staged).map_err(unwritable)?)
        .map_err(unwritable)?;
    let stamped = extract(backups, backup.id, &staged)
        .and_then(|()| stamp(&staged, backup, fencing_above, now));
    if stamped.is_err() {
        let _ = fs::remove_dir_all(&staged);
    }
    let restored = stamped?;
    // Where that fails half-way, the folder stays and keeps servers away.
    settle(&staged, data).map_err(unwritable)?;
    Ok(restored)
}

/// Copies backup `id` of `backups` to `to`, each file held against its checksum.
pub fn extract(backups: &Path, id: u32, to: &Path) -> Result<(), RestoreError> {
    let _lock = backup::lock(backups, FlockOperation::NonBlockingLockShared)?;
    let mut engine = backup::open(backups)?;
    let options = RestoreOptions::default();
    engine.restore_from_backup(to, to, &options, id).map_err(|error| match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound => {
            RestoreError::Damaged { id, cause: error.into_string() }
        }
        _ => RestoreError::Backup(BackupError::Failed { cause: error.into_string() }),
    })
}

/// The backup with this number, or else the latest. That one is never passed over for an older
/// one because it is damaged: somebody has to know.
pub fn choose(dir: &Path, id: Option<u32>) -> Result<Backup, RestoreError> {
    let backups = backup::list(dir)?;
    let there = || backups.iter().map(|it| it.id.to_string()).collect::<Vec<_>>().join(", ");
    let chosen = match id {
        _ if backups.is_empty() => return Err(RestoreError::Missing { dir: dir.to_owned() }),
        Some(id) => backups
            .iter()
            .find(|backup| backup.id == id)
            .ok_or_else(|| RestoreError::Unknown { dir: dir.to_owned(), id, there: there() })?,
        None => backups.last().expect("there are some"),
    };
    if chosen.damaged {
        let cause = "a file of it is missing".to_owned();
        return Err(RestoreError::Damaged { id: chosen.id, cause });
    }
    Ok(*chosen)
}

/// Makes sure that the store in `staged` gives no fencing token out that may have been given.
fn stamp(
    staged: &Path,
    backup: Backup,
    fencing_above: Option<FencingToken>,
    now: Moment,
) -> Result<Restored, RestoreError> {
    // A store of an earlier format becomes one of this build's on the way.
    let tables = Tables::open(staged, &StoreOptions::default())?;
    let found = tables.meta().map_err(|_| RestoreError::Damaged {
        id: backup.id,
        cause: "its high-water marks are unreadable".to_owned(),
    })?;
    let above = fencing_above_all(&found, fencing_above, now)?;
    let stamp = Meta { fencing_high_water: Some(above), ..Meta::default() };
    tables.write(&[], &stamp).and_then(|()| tables.sync()).map_err(|DiskError| {
        RestoreError::Unwritable {
            path: staged.to_owned(),
            cause: "the storage library failed".to_owned(),
        }
    })?;
    Ok(Restored {
        backup,
        clock_high_water: found.clock_high_water,
        fencing_high_water: found.fencing_high_water,
        fencing_above: above,
    })
}

/// A token that is not smaller than any that was given out, by whichever store had to do with
/// the backup.
fn fencing_above_all(
    found: &Meta,
    given: Option<FencingToken>,
    now: Moment,
) -> Result<FencingToken, RestoreError> {
    let by_clock = FencingToken::surely_new_at(now);
    if let Some(given) = given {
        return Ok(given
            .max(found.fencing_high_water.unwrap_or(given))
            .max(by_clock.unwrap_or(given)));
    }
    let behind = |cause| Err(RestoreError::Clock { cause });
    let Some(by_clock) = by_clock else {
        return behind("the clock of this machine is not set");
    };
    // The stored clock may be a moment ahead, and NTP may take some of it back.
    let is_behind = |mark: Moment| mark.since(now) > EngineClock::STANDSTILL;
    if found.clock_high_water.is_some_and(is_behind) {
        return behind("the clock of this machine is behind the one that the backup was made by");
    }
    // Then they went on by a clock once already, and that was ahead of this one.
    if found.fencing_high_water.is_some_and(|mark| mark >= by_clock) {
        return behind("the clock of this machine is behind the fencing tokens of the backup");
    }
    Ok(by_clock)
}

/// Moves what is staged to its place.
fn settle(staged: &Path, data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staged)? {
        let name = entry?.file_name();
        let is_left = name.to_string_lossy().starts_with("LOG") || name == "LOCK";
        if name != "CURRENT" && !is_left {
            fs::rename(staged.join(&name), data.join(&name))?;
        }
    }
    directory::sync(data)?;
    fs::rename(staged.join("CURRENT"), data.join("CURRENT"))?;
    directory::sync(data)?;
    fs::remove_dir_all(staged)?;
    directory::sync(data)
}

/// Whether nothing is at `data`; the folder that a new file system brings along is nothing.
fn is_empty(data: &Path) -> io::Result<bool> {
    match fs::read_dir(data) {
        Ok(mut entries) => {
            let is_nothing = |entry: io::Result<fs::DirEntry>| {
                entry.map(|entry| entry.file_name() == "lost+found")
            };
            entries.try_fold(true, |all, entry| Ok(all && is_nothing(entry)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> RestoreError {
    RestoreError::Unwritable { path: path.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: i64) -> FencingToken {
        FencingToken::new(number).unwrap()
    }

    /// Tuesday noon, and what tokens go on behind then.
    const NOON: Moment = Moment::from_millis(1_800_000_000_000);

    fn backup_of(clock: Moment, fencing: i64) -> Meta {
        Meta {
            clock_high_water: Some(clock),
            fencing_high_water: Some(token(fencing)),
            ..Meta::default()
        }
    }

    fn above(found: &Meta, given: Option<i64>, now: Moment) -> Result<i64, String> {
        let above = fencing_above_all(found, given.map(token), now);
        above.map(FencingToken::get).map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_go_on_by_the_clock() {
        let by_clock = FencingToken::surely_new_at(NOON).unwrap().get();
        assert_eq!(above(&backup_of(NOON, 10_000), None, NOON), Ok(by_clock));
        assert_eq!(above(&Meta::default(), None, NOON), Ok(by_clock));
        // A second that the stored clock is ahead is not a clock that was set back.
        let a_second_later = NOON.plus(crate::domain::Span::from_secs(1));
        assert_eq!(above(&backup_of(a_second_later, 10_000), None, NOON), Ok(by_clock));
    }

    #[test]
    fn a_clock_that_is_behind_is_not_believed() {
        let an_hour_later = NOON.plus(crate::domain::Span::from_secs(3_600));
        let by_clock = FencingToken::surely_new_at(NOON).unwrap().get();
        for (found, now, cause) in [
            (backup_of(an_hour_later, 10_000), NOON, "behind the one that the backup was made by"),
            (backup_of(NOON, by_clock), NOON, "behind the fencing tokens of the backup"),
            (Meta::default(), Moment::from_millis(1_000), "is not set"),
        ] {
            let refused = above(&found, None, now).unwrap_err();
            assert!(refused.contains(cause), "{refused}");
            // Somebody who knows better may say so; nothing goes below what is known.
            let given = above(&found, Some(1), now).unwrap();
            assert!(given >= found.fencing_high_water.map_or(1, FencingToken::get));
            assert_eq!(above(&found, Some(1 << 60), now), Ok(1 << 60));
        }
    }
}
