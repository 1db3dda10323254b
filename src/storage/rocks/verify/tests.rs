//! Faults that are planted into a store, one at a time, and found.

use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::FlushOptions;
use uuid::Uuid;

use super::*;
use crate::clock::ManualClock;
use crate::domain::{
    Command, Fingerprint, IdempotencyKey, LeaseExpiryAction, Namespace, OwnerToken, RecordKey,
    Reserve, Span,
};
use crate::storage::erase::EraseOrder;
use crate::storage::rocks::RocksEngine;
use crate::storage::rocks::schema::{META, RECORDS};
use crate::storage::{Engine as _, StoreOptions, codec};

const NOON: Moment = Moment::from_millis(1_800_000_000_000);

/// A store on disk with a few records, one of them a hold.
struct Store {
    root: tempfile::TempDir,
}

fn key(namespace: &str, key: &str) -> RecordKey {
    RecordKey {
        namespace: Namespace::new(namespace.into()).unwrap(),
        key: IdempotencyKey::new(key.into()).unwrap(),
    }
}

fn reserve(lease_expiry_action: LeaseExpiryAction) -> Command {
    Command::Reserve(Reserve {
        fingerprint: Fingerprint::default(),
        owner_token: OwnerToken::from_bytes([7; 16]),
        lease: Span::from_secs(30),
        lease_expiry_action,
        retention: Span::from_secs(3_600),
        retry_failed: false,
        holder: "holder".to_owned(),
    })
}

impl Store {
    fn new() -> Self {
        let store = Self { root: tempfile::tempdir().unwrap() };
        let clock = Arc::new(ManualClock::at(NOON));
        let engine = RocksEngine::open(&store.path(), clock, &StoreOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 0..20 {
            let key = key("orders", &format!("order-{number:02}"));
            let command = reserve(LeaseExpiryAction::Takeover);
            runtime.block_on(engine.apply(key, command, None)).unwrap();
        }
        let hold = engine.apply(key("payments", "held"), reserve(LeaseExpiryAction::Hold), None);
        runtime.block_on(hold).unwrap();
        // One that is done: tenant-7 had a record.
        let gone = engine.apply(key("tenant-7", "gone"), reserve(LeaseExpiryAction::Hold), None);
        runtime.block_on(gone).unwrap();
        let order = EraseOrder {
            namespace: Namespace::new("tenant-7".into()).unwrap(),
            id: Uuid::new_v4(),
            operator: "olga".to_owned(),
            reason: "gone".to_owned(),
        };
        runtime.block_on(engine.erase(order)).unwrap();
        while engine.erase_step(100).unwrap().more {}
        engine.close();
        store
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Does something to the tables that no engine would do.
    fn plant(&self, harm: impl FnOnce(&Tables)) {
        let tables = Tables::open(&self.path(), &StoreOptions::default()).unwrap();
        harm(&tables);
        tables.sync().unwrap();
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        verify(&self.path(), |finding| findings.push(told(&finding))).unwrap();
        findings.sort();
        findings
    }
}

/// The kind of a finding, and what it is about.
fn told(finding: &Finding<'_>) -> String {
    let name = |record_key: &[u8]| match names_of(record_key) {
        Some((namespace, key)) => format!("{namespace}/{key}"),
        None => format!("{record_key:?}"),
    };
    match finding {
        Finding::DamagedRecord { record_key } => format!("damaged {}", name(record_key)),
        Finding::MissingEntry { index, record_key, .. } => {
            format!("missing {index:?} {}", name(record_key))
        }
        Finding::StrayEntry { index, record_key, .. } => {
            format!("stray {index:?} {}", name(record_key))
        }
        Finding::DamagedEntry { index, .. } => format!("damaged {index:?}"),
        Finding::WrongCounter { namespace, found, counter } => {
            let namespace = String::from_utf8_lossy(namespace);
            format!("counter {namespace} {} {}", found.keys, counter.keys)
        }
        Finding::UnknownFencingToken { record_key, .. } => format!("token {}", name(record_key)),
        Finding::FromTheFuture { record_key } => format!("future {}", name(record_key)),
        Finding::NotErased { record_key } => format!("not erased {}", name(record_key)),
        Finding::EraseAstray { namespace } => format!("astray {namespace}"),
        Finding::Unreadable { what } => format!("unreadable {what}"),
    }
}

fn stored(tables: &Tables, record_key: &[u8]) -> Stored {
    tables.view().record(record_key).unwrap().unwrap().0
}

fn put(tables: &Tables, record_key: &[u8], stored: &Stored) {
    tables.db.put_cf(tables.family(RECORDS), record_key, codec::encode(stored)).unwrap();
}

const ORDER: &[u8] = b"\x06ordersorder-07";
const HELD: &[u8] = b"\x08paymentsheld";

#[test]
fn a_store_that_was_left_alone_is_whole() {
    let store = Store::new();
    assert_eq!(store.findings(), Vec::<String>::new());
    let looked = verify(&store.path(), |_| {}).unwrap();
    assert_eq!((looked.records, looked.expiry_entries, looked.hold_entries), (21, 21, Some(1)));
    assert_eq!((looked.namespaces, looked.erases), (2, 1));
}

#[test]
fn a_record_that_cannot_be_read_is_found() {
    let store = Store::new();
    store.plant(|tables| {
        let bytes = codec::encode(&stored(tables, ORDER));
        let short = &bytes[..bytes.len() - 1];
        tables.db.put_cf(tables.family(RECORDS), ORDER, short).unwrap();
    });
    // Its bytes are one less than were counted.
    assert_eq!(store.findings(), ["counter orders 20 20", "damaged orders/order-07"]);
}

#[test]
fn entries_that_are_missing_are_found() {
    let store = Store::new();
    store.plant(|tables| {
        for (index, record_key) in [(Index::Expiry, ORDER), (Index::Holds, HELD)] {
            let at = index.place_of(&stored(tables, record_key)).unwrap();
            let entry = keys::expiry_key(at, record_key);
            tables.db.delete_cf(tables.family(index.family()), entry).unwrap();
        }
    });
    assert_eq!(store.findings(), ["missing Expiry orders/order-07", "missing Holds payments/held"]);
}

#[test]
fn entries_that_no_record_has_are_found() {
    let store = Store::new();
    store.plant(|tables| {
        for (index, at, record_key) in [
            // At another moment, of a record that is none of its kind, and of no record at all.
            (Index::Expiry, NOON, ORDER),
            (Index::Holds, NOON, ORDER),
            (Index::Expiry, NOON, &b"\x06ordersnone"[..]),
        ] {
            let entry = keys::expiry_key(at, record_key);
            tables.db.put_cf(tables.family(index.family()), entry, b"").unwrap();
        }
        tables.db.put_cf(tables.family(HOLDS), b"\x00", b"").unwrap();
    });
    let stray = ["stray Expiry orders/none", "stray Expiry orders/order-07"];
    assert_eq!(store.findings()[1..3], stray);
    assert_eq!(store.findings()[0], "damaged Holds");
    assert_eq!(store.findings()[3..], ["stray Holds orders/order-07"]);
}

#[test]
fn counters_that_are_wrong_are_found() {
    let store = Store::new();
    store.plant(|tables| {
        let record = stored(tables, HELD);
        tables.db.delete_cf(tables.family(RECORDS), HELD).unwrap();
        for index in [Index::Expiry, Index::Holds] {
            let entry = keys::expiry_key(index.place_of(&record).unwrap(), HELD);
            tables.db.delete_cf(tables.family(index.family()), entry).unwrap();
        }
        let usage = Usage { keys: 19, bytes: 1 }.to_bytes();
        tables.db.put_cf(tables.family(META), b"usage/orders", usage).unwrap();
    });
    assert_eq!(store.findings(), ["counter orders 20 19", "counter payments 0 1"]);
}

#[test]
fn records_from_beyond_the_marks_are_found() {
    let store = Store::new();
    store.plant(|tables| {
        let mut record = stored(tables, ORDER);
        let high_water = tables.meta().unwrap().fencing_high_water.unwrap();
        record.record.fencing_token = high_water.next();
        record.run = 2;
        put(tables, ORDER, &record);
    });
    let findings = store.findings();
    assert!(findings.contains(&"token orders/order-07".to_owned()), "{findings:?}");
    assert!(findings.contains(&"future orders/order-07".to_owned()), "{findings:?}");
}

#[test]
fn what_an_erase_has_left_behind_is_found() {
    let store = Store::new();
    store.plant(|tables| {
        let record = stored(tables, ORDER);
        put(tables, b"\x08tenant-7back", &record);
        let mut erase = tables.erases().unwrap().remove(0);
        erase.done_to = ORDER.to_vec();
        tables.db.put_cf(tables.family(META), b"erase/tenant-7", erase.encode()).unwrap();
    });
    let findings = store.findings();
    assert!(findings.contains(&"not erased tenant-7/back".to_owned()), "{findings:?}");
    assert!(findings.contains(&"astray tenant-7".to_owned()), "{findings:?}");
}

#[test]
fn a_bit_that_flipped_in_a_table_is_found() {
    let store = Store::new();
    store.plant(|tables| {
        for family in [RECORDS, EXPIRY, HOLDS, META] {
            tables.db.flush_cf_opt(tables.family(family), &FlushOptions::default()).unwrap();
        }
    });
    let entries = std::fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_table = |path: &PathBuf| path.extension().is_some_and(|it| it == "sst");
    let mut harmed = 0;
    for table in entries.filter(is_table) {
        let whole = std::fs::read(&table).unwrap();
        let mut bytes = whole.clone();
        bytes[10] ^= 1;
        std::fs::write(&table, bytes).unwrap();
        // One in the engine's own data leaves nothing to hold anything against.
        let mut findings = 0;
        match verify(&store.path(), |_| findings += 1) {
            Ok(_) => assert!(findings > 0, "{table:?}"),
            Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        }
        std::fs::write(&table, whole).unwrap();
        harmed += 1;
    }
    assert!(harmed >= 4, "{harmed}");
    assert_eq!(store.findings(), Vec::<String>::new());
}

#[test]
fn what_is_no_store_is_not_verified() {
    let root = tempfile::tempdir().unwrap();
    let refused = verify(root.path(), |_| {}).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
}
