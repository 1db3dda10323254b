//! A disk in memory that stands in for the tables: what was written is a list of batches, and
//! what is durable is a prefix of it.

use std::collections::HashMap;
use std::sync::Mutex;

use super::threads::pause;
use crate::domain::{Moment, Record};
use crate::storage::codec::{self, Stored};
use crate::storage::rocks::batch::{Change, Found, Source};
pub use crate::storage::rocks::schema::{DiskError, Meta};
use crate::storage::{EngineError, Usage};

/// The stand-in. Its mutex is not one of shuttle's: each step on it is atomic, and where a
/// real disk takes its time there is a pause.
#[derive(Default)]
pub struct Tables(Mutex<Disk>);

#[derive(Default)]
struct Disk {
    log: Vec<Vec<Change>>,
    records: HashMap<Vec<u8>, Stored>,
    usages: HashMap<Vec<u8>, Usage>,
    synced: usize,
    good_writes: Option<usize>,
    good_syncs: Option<usize>,
    failed: bool,
}

/// What one step writes.
pub struct Prepared(Vec<Change>);

impl Tables {
    /// A disk whose syncs fail after so many.
    pub fn failing_after(good_syncs: usize) -> Self {
        Self(Mutex::new(Disk { good_syncs: Some(good_syncs), ..Disk::default() }))
    }

    /// A disk whose writes fail after so many.
    pub fn full_after(good_writes: usize) -> Self {
        Self(Mutex::new(Disk { good_writes: Some(good_writes), ..Disk::default() }))
    }

    pub fn write<'a>(
        &self,
        changes: impl IntoIterator<Item = &'a Change>,
        meta: &Meta,
    ) -> Result<(), DiskError> {
        self.write_prepared(self.prepare(changes, meta))
    }

    pub fn prepare<'a>(&self, changes: impl IntoIterator<Item = &'a Change>, _: &Meta) -> Prepared {
        Prepared(changes.into_iter().cloned().collect())
    }

    pub fn write_prepared(&self, Prepared(changes): Prepared) -> Result<(), DiskError> {
        pause();
        let mut disk = self.0.lock().unwrap();
        if let Some(left) = &mut disk.good_writes {
            let Some(fewer) = left.checked_sub(1) else {
                assert!(!disk.failed, "a write after a failed one");
                disk.failed = true;
                return Err(DiskError);
            };
            *left = fewer;
        }
        for change in &changes {
            match change {
                Change::Put { record_key, stored } => {
                    disk.records.insert(record_key.clone(), stored.clone());
                }
                Change::Delete { record_key } => {
                    disk.records.remove(record_key);
                }
                Change::Count { namespace, usage } => {
                    disk.usages.insert(namespace.clone(), *usage);
                }
                Change::Index { .. }
                | Change::Unindex { .. }
                | Change::Hold { .. }
                | Change::Unhold { .. } => {}
            }
        }
        disk.log.push(changes);
        Ok(())
    }

    pub fn write_format(&self) -> Result<(), DiskError> {
        Ok(())
    }

    /// A disk in memory has no log that a start reads again.
    pub fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    /// Covers what was written before it began, and nothing else.
    pub fn sync(&self) -> Result<(), DiskError> {
        let covered = self.0.lock().unwrap().log.len();
        pause();
        pause();
        let mut disk = self.0.lock().unwrap();
        assert!(!disk.failed || disk.good_syncs.is_none(), "a sync after a failed one");
        if let Some(left) = &mut disk.good_syncs {
            if *left == 0 {
                disk.failed = true;
                return Err(DiskError);
            }
            *left -= 1;
        }
        disk.synced = covered;
        Ok(())
    }

    pub fn meta(&self) -> Result<Meta, EngineError> {
        Ok(Meta::default())
    }

    pub fn read_once(&self, record_key: &[u8]) -> Result<Option<(Stored, usize)>, EngineError> {
        self.read(record_key)
    }

    pub fn read_once_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        self.read_together(record_keys)
    }

    pub fn background_errors(&self) -> u64 {
        0
    }

    /// Whether everything that was written is durable.
    pub fn is_synced(&self) -> bool {
        let disk = self.0.lock().unwrap();
        disk.synced == disk.log.len()
    }

    /// What the key has had on record, as far as it is durable.
    pub fn durable_records(&self, key: &[u8]) -> Vec<Record> {
        let disk = self.0.lock().unwrap();
        let changes = disk.log[..disk.synced].iter().flatten();
        let records = changes.filter_map(|change| match change {
            Change::Put { record_key, stored } if record_key == key => Some(stored.record.clone()),
            _ => None,
        });
        records.collect()
    }
}

impl Source for Tables {
    fn read(&self, record_key: &[u8]) -> Result<Found, EngineError> {
        pause();
        let stored = self.0.lock().unwrap().records.get(record_key).cloned();
        Ok(stored.map(|it| {
            let bytes = codec::encoded_len(&it.record, it.indexed_at, it.run);
            (it, bytes)
        }))
    }

    fn read_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        record_keys.iter().map(|record_key| self.read(record_key).ok()).collect()
    }

    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError> {
        Ok(self.0.lock().unwrap().usages.get(namespace).copied().unwrap_or_default())
    }

    /// Every record, so that a purge has something to look at: at its place in the index, or, where
    /// that is still to come, at an entry that it has left behind.
    fn due(
        &self,
        _: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError> {
        let disk = self.0.lock().unwrap();
        let due =
            disk.records.iter().map(|(key, stored)| (stored.indexed_at.min(now), key.clone()));
        Ok(due.take(limit).collect())
    }
}
