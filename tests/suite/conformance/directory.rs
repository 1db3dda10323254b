//! The data directory of the RocksDB engine: what it refuses to open, and why.
//!
//! No other test knows that there is RocksDB inside. This one has to, because it leaves
//! behind the engine's back what a newer build, or a dying disk, might leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onced::domain::{FencingToken, Phase, Span};
use onced::storage::fault::FaultPlan;
use onced::storage::list::Listing;
use onced::storage::rocks::inspect::Inspection;
use onced::storage::{OpenError, StoreUrl, open};
use rocksdb::{DB, Options};

use super::quotas::counters_and_counts;
use crate::engines::{ANN, FAULTS, Kind, Lab, Need, copy_files, hold_for, reserve};

/// The tables of this format.
const TABLES: [&str; 5] = ["default", "records", "expiry", "holds", "meta"];

/// Writes into one of the tables while no engine is open.
fn write_behind_its_back(directory: &Path, table: &str, key: &[u8], value: &[u8]) {
    let db = DB::open_cf(&Options::default(), directory, TABLES).unwrap();
    db.put_cf(db.cf_handle(table).unwrap(), key, value).unwrap();
}

/// Damages the record of a key of the default namespace.
pub fn spoil_record(directory: &Path, key: &str) {
    let record_key = [b"\x07default", key.as_bytes()].concat();
    write_behind_its_back(directory, "records", &record_key, b"\xff not a record");
}

#[test]
fn a_directory_in_use_is_not_opened_twice() {
    let lab = Lab::new(Kind::Rocks);
    let store = lab.open();
    assert!(matches!(lab.try_open(), Err(OpenError::InUse { .. })));

    // Which does the first no harm,
    store.granted("order-1", reserve(ANN));

    // and when it is gone, the next may.
    drop(store);
    assert!(lab.open().lookup("order-1").is_some());
}

#[test]
fn a_directory_of_another_format_is_not_touched() {
    // Given a store whose format a later build has raised.
    let lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Disk).unwrap();
    let token = {
        let store = lab.open();
        store.granted("order-1", reserve(ANN)).fencing_token
    };
    write_behind_its_back(&directory, "meta", b"format", &3_u32.to_be_bytes());

    // Then it is refused, for writing and for reading, with both formats named.
    let is_refused = || {
        let error = lab.try_open().err().unwrap();
        assert!(matches!(error, OpenError::Format { found: 3, supported: 2, .. }), "{error:?}");
        let error = Inspection::open(&directory).err().unwrap();
        assert!(matches!(error, OpenError::Format { found: 3, supported: 2, .. }), "{error:?}");
    };
    is_refused();

    // And it is left as it was: back in format 2, everything is there.
    write_behind_its_back(&directory, "meta", b"format", &2_u32.to_be_bytes());
    let marks = Inspection::open(&directory).unwrap().marks().unwrap();
    assert_eq!(marks.runs, 1);
    assert!(marks.fencing_high_water >= Some(token));
    assert!(lab.open().lookup("order-1").is_some());

    // The same where the later format has a table that this build does not know.
    write_behind_its_back(&directory, "meta", b"format", &3_u32.to_be_bytes());
    let mut db = DB::open_cf(&Options::default(), &directory, TABLES).unwrap();
    db.create_cf("later", &Options::default()).unwrap();
    drop(db);
    is_refused();
}

/// A directory of format 1, which has no counters, for the engine of this lab.
fn without_counters(lab: &Lab) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-directory-1");
    let directory = lab.directory(Need::Disk).unwrap();
    copy_files(&fixture, &directory);
    assert_eq!(Inspection::open(&directory).unwrap().usages(), Ok(None));
    directory
}

#[test]
fn a_directory_without_counters_is_counted_when_it_is_opened() {
    let lab = Lab::new(Kind::Rocks);
    let directory = without_counters(&lab);
    drop(lab.open());
    let [counters, counts] = counters_and_counts(&directory);
    assert_eq!(counters, counts);
    assert_eq!(counters[&b"default"[..]].keys, 15);

    // From then on they are kept, and an earlier build would say that it cannot.
    lab.open().granted("one more", reserve(ANN));
    let [counters, counts] = counters_and_counts(&directory);
    assert_eq!(counters, counts);
    assert_eq!(counters[&b"default"[..]].keys, 16);
}

#[test]
fn an_end_amid_the_counting_is_harmless() {
    for (operation, fault) in FAULTS {
        let mut lab = Lab::new(Kind::Rocks);
        let directory = without_counters(&lab);
        let plan = Arc::new(FaultPlan::default());
        lab.options.faults = Some(Arc::clone(&plan));

        // Given a start that ends as it writes the counters.
        plan.fail_next(operation, fault);
        let error = lab.try_open().err().unwrap();
        assert!(matches!(error, OpenError::Unavailable { .. }), "{error:?}");

        // Then the next one opens the store, and every record is counted once.
        let store = lab.open();
        store.granted("one more", reserve(ANN));
        drop(store);
        let [counters, counts] = counters_and_counts(&directory);
        assert_eq!(counters, counts);
        assert_eq!(counters[&b"default"[..]].keys, 16);
    }
}

#[test]
fn an_end_amid_a_migration_of_many_steps_is_harmless() {
    // Given a store of format 1 with more reservations that come in doubt than one step takes.
    const HELD: usize = 2_500;
    let mut lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Disk).unwrap();
    let keys: Vec<String> = (0..HELD).map(|number| format!("order-{number:04}")).collect();
    let store = lab.open();
    for keys in keys.chunks(1_000) {
        let holds = keys.iter().map(|key| (key.as_str(), hold_for(ANN, Span::from_secs(1))));
        assert!(store.all(holds.collect()).iter().all(Result::is_ok));
    }
    drop(store);
    let mut db = DB::open_cf(&Options::default(), &directory, TABLES).unwrap();
    db.drop_cf("holds").unwrap();
    let meta = db.cf_handle("meta").unwrap();
    db.delete_cf(meta, b"usage/default").unwrap();
    db.put_cf(meta, b"format", 1_u32.to_be_bytes()).unwrap();
    drop(db);

    // When each of its starts but the last one ends on the way,
    let plan = Arc::new(FaultPlan::default());
    lab.options.faults = Some(Arc::clone(&plan));
    for (operation, fault) in FAULTS {
        plan.fail_next(operation, fault);
        let error = lab.try_open().err().unwrap();
        assert!(matches!(error, OpenError::Unavailable { .. }), "{error:?}");
    }

    // Then that one has everything once.
    let store = lab.open();
    lab.clock.advance(Span::from_secs(60));
    let in_doubt = Listing {
        namespace: None,
        key_prefix: String::new(),
        phase: Some(Phase::InDoubt),
        limit: 1_000,
        after: None,
    };
    let wanted: Vec<_> = keys.iter().map(|key| format!("default/{key}")).collect();
    assert_eq!(store.list(in_doubt).0, wanted);
    drop(store);
    let [counters, counts] = counters_and_counts(&directory);
    assert_eq!(counters, counts);
    assert_eq!(counters[&b"default"[..]].keys, HELD as u64);
}

#[test]
fn counters_of_an_earlier_counting_do_not_stay() {
    // Given a store that was counted and went back to a build without counters.
    let lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Disk).unwrap();
    lab.open().granted("order-1", reserve(ANN));
    write_behind_its_back(&directory, "meta", b"format", &1_u32.to_be_bytes());
    write_behind_its_back(&directory, "meta", b"usage/gone", &[0, 0, 0, 0, 0, 0, 0, 9].repeat(2));
    write_behind_its_back(&directory, "records", b"\x04mailone", b"by the other build");

    drop(lab.open());
    let [counters, counts] = counters_and_counts(&directory);
    assert_eq!(counters, counts);
    assert_eq!(counters.len(), 2);
}

#[test]
fn a_directory_whose_own_data_is_unreadable_is_damaged() {
    let lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Disk).unwrap();
    drop(lab.open());
    for (name, value) in [
        (&b"fencing_high_water"[..], &b"seven"[..]),
        (b"fencing_high_water", &(-1_i64).to_be_bytes()),
        (b"format", b"1"),
    ] {
        write_behind_its_back(&directory, "meta", name, value);
        let error = lab.try_open().err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
}

#[test]
fn a_creation_that_was_cut_short_is_made_good() {
    // Given a directory in which somebody got as far as the tables, and not to a format.
    let lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Disk).unwrap();
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, &directory, ["default", "records"]).unwrap());

    let granted = lab.open().granted("order-1", reserve(ANN));
    assert_eq!(granted.fencing_token, FencingToken::FIRST);
    assert!(lab.open().lookup("order-1").is_some());
}

/// RocksDB would take it for an empty directory, and every operation for a new one.
#[test]
fn a_store_that_has_lost_what_leads_to_its_files_does_not_begin_anew() {
    for lost in ["CURRENT", "MANIFEST"] {
        let lab = Lab::new(Kind::Rocks);
        let directory = lab.directory(Need::Disk).unwrap();
        lab.open().granted("order-1", reserve(ANN));
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(lost) {
                fs::remove_file(path).unwrap();
            }
        }
        // However often somebody tries.
        for _ in 0..3 {
            let error = lab.try_open().err().unwrap();
            assert!(matches!(error, OpenError::Damaged { .. }), "{lost}: {error:?}");
        }
    }
}

#[test]
fn only_a_lock_that_is_held_means_in_use() {
    // Given a path that has "lock" in its name, and something in it that cannot be read.
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("blocks");
    fs::create_dir_all(directory.join("CURRENT")).unwrap();
    let url = StoreUrl::RocksDb(directory);
    let lab = Lab::new(Kind::Rocks);

    // Then nobody is told to stop another server.
    let error = open(&url, lab.clock.clone(), &lab.options).err().unwrap();
    assert!(!matches!(error, OpenError::InUse { .. }), "{error}");
}
