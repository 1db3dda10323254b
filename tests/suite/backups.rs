//! Backups of an engine and what is made of them: everything that was acknowledged by then is
//! there, fencing tokens rise whatever is restored and however often, and what is not whole is
//! no backup.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use onced::domain::{Decision, FencingToken, Moment, OwnerToken, Phase, Span, phase_of};
use onced::storage::backup::{Backup, BackupError, BackupOptions};
use onced::storage::rocks::backup::list;
use onced::storage::rocks::restore::{Order, RestoreError, Restored, restore};
use onced::storage::rocks::verify::verify;
use onced::storage::{Condition, OpenError};

use crate::engines::{
    ANN, BOB, Kind, LEASE, Lab, Store, complete, complete_with, hold_for, release, reserve,
};

/// A store with a directory for its backups.
struct Site {
    lab: Lab,
    root: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let (mut lab, root) = (Lab::new(Kind::Rocks), tempfile::tempdir().unwrap());
        lab.options.backup = Some(BackupOptions { dir: root.path().join("backups"), keep: 3 });
        Self { lab, root }
    }

    fn backups(&self) -> PathBuf {
        self.root.path().join("backups")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Restores a backup to a directory of this name.
    fn try_restore(&self, id: Option<u32>, name: &str) -> Result<Restored, RestoreError> {
        let (backups, data) = (self.backups(), self.at(name));
        let now = onced::clock::Clock::wall(self.lab.clock.as_ref());
        restore(Order { backups: &backups, id, data: &data, fencing_above: None, now })
    }

    /// The same, and opens it.
    fn restored(&self, id: Option<u32>, name: &str) -> Store {
        self.try_restore(id, name).unwrap();
        is_whole(&self.at(name));
        self.lab.open_at(&self.at(name))
    }

    /// The tables that backups share, the largest first.
    fn tables(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.backups().join("shared_checksum")).unwrap();
        let mut tables: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        tables.sort_by_key(|table| std::cmp::Reverse(fs::metadata(table).unwrap().len()));
        tables
    }
}

fn back_up(store: &Store) -> Backup {
    try_back_up(store).unwrap()
}

fn try_back_up(store: &Store) -> Result<Backup, BackupError> {
    store.runtime.block_on(store.engine.back_up())
}

/// Nothing in a data directory contradicts anything else in it.
fn is_whole(data: &Path) {
    let mut findings = Vec::new();
    verify(data, |finding| findings.push(format!("{finding:?}"))).unwrap();
    assert_eq!(findings, Vec::<String>::new());
}

/// How many bytes there are below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => size(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[test]
fn a_restored_store_answers_as_the_store_did_when_the_backup_was_asked_for() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("held", reserve(ANN));
    store.granted("held too", hold_for(ANN, LEASE));
    store.granted("released", reserve(ANN));
    store.decide("released", release(ANN));
    store.granted("completed", reserve(ANN));
    let done = store.decide("completed", complete(ANN));
    let before: Vec<_> = ["held", "held too", "released", "completed"]
        .map(|key| store.lookup(key))
        .into_iter()
        .collect();
    back_up(&store);
    // What comes later is not in it, and is not there twice either.
    store.granted("later", reserve(ANN));
    store.decide("held", complete(ANN));
    drop(store);

    let restored = site.restored(None, "restored");
    for (key, before) in ["held too", "released", "completed"].iter().zip(&before[1..]) {
        assert_eq!(&restored.lookup(key), before, "{key}");
    }
    assert_eq!(restored.decide("completed", complete(ANN)), done);
    assert_eq!(restored.lookup("later"), None);
    // Its owner was told that it is done; the store that was restored does not know.
    let held = restored.lookup("held").unwrap();
    assert_eq!(phase_of(Some(&held), restored.now()), Phase::Held);
    assert_eq!(held.owner_token, ANN);
    assert!(matches!(restored.decide("held", reserve(BOB)), Decision::InProgress(_)));
    assert!(matches!(restored.decide("held", complete(ANN)), Decision::Completed(_)));
}

#[test]
fn fencing_tokens_rise_whichever_backup_is_restored_and_however_often() {
    let site = Site::new();
    let store = site.lab.open();
    let mut highest = store.granted("order", reserve(ANN)).fencing_token;
    store.decide("order", release(ANN));
    let old = back_up(&store);
    // Blocks of tokens are set aside and given out after it, and a restart skips some.
    let mut callers = 0_u128;
    let mut next = |store: &Store| {
        callers += 1;
        let holder = OwnerToken::from_bytes(callers.to_be_bytes());
        let token = store.granted("order", reserve(holder)).fencing_token;
        assert!(token > highest, "{token:?} after {highest:?}");
        highest = token;
        store.decide("order", release(holder));
    };
    for _ in 0..1_000 {
        next(&store);
    }
    drop(store);
    let store = site.lab.open();
    next(&store);
    let newer = back_up(&store);
    next(&store);
    drop(store);

    // The same old backup again and again, and a newer one in between.
    for (round, id) in [old.id, old.id, newer.id, old.id, newer.id].into_iter().enumerate() {
        site.lab.clock.advance(Span::from_millis(1));
        let restored = site.restored(Some(id), &format!("restored-{round}"));
        for _ in 0..200 {
            next(&restored);
        }
    }
    // A backup of a restored store, too.
    let restored = site.lab.open_at(&site.at("restored-0"));
    let again = back_up(&restored);
    drop(restored);
    site.lab.clock.advance(Span::from_millis(1));
    next(&site.restored(Some(again.id), "restored-again"));
}

#[test]
fn a_clock_that_was_set_back_needs_somebody_who_knows_better() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("order", reserve(ANN));
    back_up(&store);
    drop(store);
    site.lab.clock.advance(Span::from_secs(3_600));
    site.restored(None, "first");

    let noon = onced::clock::Clock::wall(site.lab.clock.as_ref());
    site.lab.clock.step_to(Moment::from_millis(noon.as_millis() - 2 * 3_600_000));
    let refused = site.try_restore(None, "second").unwrap_err();
    assert!(matches!(refused, RestoreError::Clock { .. }), "{refused}");
    assert!(!site.at("second").join("CURRENT").exists());
    let (backups, data) = (site.backups(), site.at("second"));
    let now = onced::clock::Clock::wall(site.lab.clock.as_ref());
    let above = FencingToken::new(1 << 50);
    restore(Order { backups: &backups, id: None, data: &data, fencing_above: above, now }).unwrap();
    let restored = site.lab.open_at(&data);
    let token = restored.granted("another", reserve(BOB)).fencing_token;
    assert_eq!(token.get(), (1 << 50) + 1);
}

#[test]
fn leases_that_ended_since_the_backup_are_given_the_grace_of_a_restart() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("short", reserve(ANN));
    back_up(&store);
    drop(store);
    site.lab.clock.advance(Span::from_secs(24 * 60 * 60 - 60));
    let restored = site.restored(None, "restored");
    assert!(matches!(restored.decide("short", reserve(BOB)), Decision::InProgress(_)));
    site.lab.clock.advance(site.lab.options.restart_grace);
    assert!(restored.granted("short", reserve(BOB)).takeover);
}

#[test]
fn a_second_backup_has_only_what_is_new_and_no_more_than_some_are_kept() {
    let site = Site::new();
    let store = site.lab.open();
    for number in 0..200 {
        let key = format!("order-{number}");
        store.granted(&key, reserve(ANN));
        let noise = |byte: usize| (byte.wrapping_mul(0x9e37_79b9) >> 13) as u8;
        let payload: Vec<_> = (number * 20_000..(number + 1) * 20_000).map(noise).collect();
        store.decide(&key, complete_with(ANN, |it| it.response.payload = payload));
    }
    let first = back_up(&store);
    let taken = size(&site.backups());
    store.granted("one more", reserve(ANN));
    let second = back_up(&store);
    let more = size(&site.backups()) - taken;
    println!("the first took {taken} bytes, the second {more}");
    assert!(more < taken / 10, "{more} after {taken}");
    assert!(second.bytes > first.bytes / 2, "{first:?} {second:?}");

    for _ in 0..3 {
        back_up(&store);
    }
    let there = store.runtime.block_on(store.engine.backups()).unwrap();
    let ids: Vec<_> = there.iter().map(|backup| backup.id).collect();
    assert_eq!(ids, [second.id + 1, second.id + 2, second.id + 3]);
    assert_eq!(there, list(&site.backups()).unwrap());
    assert!(there.iter().all(|backup| !backup.damaged && backup.made_at.is_some()));
    drop(store);
    assert!(site.restored(None, "restored").lookup("one more").is_some());
}

#[test]
fn what_is_not_whole_is_no_backup() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("order", reserve(ANN));
    let first = back_up(&store);
    store.granted("another", reserve(ANN));
    // When the next one was begun and never ended,
    let next = first.id + 1;
    fs::create_dir(site.backups().join(format!("private/{next}"))).unwrap();
    fs::write(site.backups().join(format!("private/{next}/MANIFEST-000005")), "half").unwrap();
    fs::write(site.backups().join(format!("meta/.{next}.tmp")), "half").unwrap();
    fs::write(site.backups().join("shared_checksum/.000099_sABC_10.sst.tmp"), "half").unwrap();
    // then it does not count,
    let ids = || list(&site.backups()).unwrap().iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids(), [first.id]);
    site.lab.clock.advance(Span::from_millis(1));
    assert_eq!(site.try_restore(None, "first").unwrap().backup.id, first.id);
    // and the next one is not harmed by what is left of it.
    let second = back_up(&store);
    assert_eq!(ids(), [first.id, second.id]);
    let left = fs::read_dir(site.backups().join("shared_checksum")).unwrap();
    let names: BTreeSet<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")), "{names:?}");
    drop(store);
    assert!(site.restored(None, "second").lookup("another").is_some());
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing_behind() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("order", reserve(ANN));
    let first = back_up(&store);
    for number in 0..1_000 {
        store.granted(&format!("order-{number}"), reserve(ANN));
    }
    let second = back_up(&store);
    drop(store);

    // Given a table of the second in which one bit is not what it was,
    let table = &site.tables()[0];
    let whole = fs::read(table).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 4;
    fs::write(table, bytes).unwrap();
    let refused = site.try_restore(None, "restored").unwrap_err();
    assert!(matches!(refused, RestoreError::Damaged { id, .. } if id == second.id), "{refused}");
    assert_eq!(fs::read_dir(site.at("restored")).unwrap().count(), 0);

    // or one that is cut short,
    fs::write(table, &whole[..whole.len() / 2]).unwrap();
    let refused = site.try_restore(None, "restored").unwrap_err();
    assert!(matches!(refused, RestoreError::Damaged { id, .. } if id == second.id), "{refused}");

    // or one that is missing, which shows without reading it: the backup is not passed over for
    // an older one, but that one can be asked for.
    fs::remove_file(table).unwrap();
    let there = list(&site.backups()).unwrap();
    assert_eq!(there.iter().map(|it| it.damaged).collect::<Vec<_>>(), [false, true]);
    let refused = site.try_restore(None, "restored").unwrap_err();
    assert!(matches!(refused, RestoreError::Damaged { id, .. } if id == second.id), "{refused}");
    site.restored(Some(first.id), "restored");
}

#[test]
fn nothing_is_restored_over_anything() {
    let site = Site::new();
    let store = site.lab.open();
    back_up(&store);
    for (name, file) in [("data", "CURRENT"), ("notes", "notes.txt"), ("half", "restoring/x")] {
        let path = site.at(name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let refused = site.try_restore(None, name).unwrap_err();
        assert!(matches!(refused, RestoreError::NotEmpty { .. }), "{refused}");
        assert_eq!(fs::read_to_string(path).unwrap(), "mine");
    }
    // A file system of its own has a folder of its own.
    fs::create_dir_all(site.at("mount/lost+found")).unwrap();
    site.restored(None, "mount");
}

#[test]
fn a_restore_that_was_cut_short_is_never_served() {
    let site = Site::new();
    let store = site.lab.open();
    store.granted("order", reserve(ANN));
    back_up(&store);
    drop(store);
    site.try_restore(None, "restored").unwrap();
    // As it is left at the first moment, and at the last.
    let files: Vec<_> = fs::read_dir(site.at("restored")).unwrap().map(|it| it.unwrap()).collect();
    fs::create_dir_all(site.at("early/restoring")).unwrap();
    fs::create_dir_all(site.at("late/restoring")).unwrap();
    for file in files {
        fs::copy(file.path(), site.at("early/restoring").join(file.file_name())).unwrap();
        fs::copy(file.path(), site.at("late").join(file.file_name())).unwrap();
    }
    for name in ["early", "late"] {
        let refused = site.lab.try_open_at(&site.at(name)).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("a restore into it was cut short"), "{refused}");
    }
}

#[test]
fn what_is_not_there_is_not_restored() {
    let site = Site::new();
    let refused = site.try_restore(None, "restored").unwrap_err();
    assert!(matches!(refused, RestoreError::Missing { .. }), "{refused}");
    let store = site.lab.open();
    let made = back_up(&store);
    let refused = site.try_restore(Some(made.id + 7), "restored").unwrap_err();
    assert!(matches!(refused, RestoreError::Unknown { .. }), "{refused}");
    assert!(!site.at("restored").exists());
}

#[test]
fn a_backup_that_may_not_be_made_is_refused_with_the_reason() {
    // No directory, or no disk at all.
    assert_eq!(try_back_up(&Lab::new(Kind::Rocks).open()), Err(BackupError::Off));
    let mut lab = Lab::new(Kind::Memory);
    let root = tempfile::tempdir().unwrap();
    let options = BackupOptions { dir: root.path().join("backups"), keep: 1 };
    lab.options.backup = Some(options.clone());
    assert_eq!(try_back_up(&lab.open()), Err(BackupError::Off));

    // Somebody else at it.
    let mut lab = Lab::new(Kind::Rocks);
    lab.options.backup = Some(options.clone());
    let store = lab.open();
    assert_eq!(store.runtime.block_on(store.engine.backups()), Ok(Vec::new()));
    back_up(&store);
    let lock = fs::File::open(options.dir.join("LOCK")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(try_back_up(&store), Err(BackupError::Busy));
    drop(lock);
    back_up(&store);
    drop(store);

    // No room beside what the store needs.
    lab.options.min_free_disk_bytes = u64::MAX;
    let store = lab.open();
    let refused = try_back_up(&store).unwrap_err();
    assert!(matches!(refused, BackupError::NoRoom { free_bytes: 0, .. }), "{refused}");
    assert_eq!(list(&options.dir).unwrap().len(), 1);

    // Something in the way.
    lab.options.min_free_disk_bytes = 0;
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    lab.options.backup = Some(BackupOptions { dir: file, keep: 1 });
    let store = lab.open_at(&root.path().join("elsewhere"));
    assert!(matches!(try_back_up(&store), Err(BackupError::Failed { .. })));
    assert_eq!(store.condition(), Condition::Serving);
    store.granted("order", reserve(ANN));
}
