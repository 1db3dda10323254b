//! A step of the sweeper: what is due is read without the engine's mutex, and decided under it.
//!
//! Reading is most of the work: the records lie anywhere in the tables, and were last asked for
//! long ago. Callers do not wait for it. What makes it right is that the writer notes which
//! records batches write while a step reads; those are read again under the mutex. Every other
//! record is then what it was when it was read, and so are its entries in the indices, since
//! they change with it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Core;
use super::batch::{Batch, Change, Found, Source};
use super::schema::{DiskError, Tables};
use super::together::Together;
use super::unwritten::Shown;
use crate::domain::Moment;
use crate::storage::{EngineError, Purged, Usage, keys};

/// How many records written during a step are told apart. A step takes milliseconds; past this
/// number all that it read counts as written.
const MAX_TOUCHED: usize = 8_192;

/// The records that batches write while a step of the sweeper reads.
#[derive(Default)]
pub struct Touched(HashSet<Vec<u8>>);

impl Touched {
    /// Notes what a batch writes.
    pub fn note(&mut self, changes: &[Change]) {
        let records = changes.iter().filter_map(|change| match change {
            Change::Put { record_key, .. } | Change::Delete { record_key } => Some(record_key),
            // Where an entry goes alone, it is one that no record has.
            _ => None,
        });
        for record_key in records {
            if self.0.len() == MAX_TOUCHED {
                return;
            }
            self.0.insert(record_key.clone());
        }
    }

    fn may_hold(&self, record_key: &[u8]) -> bool {
        self.0.len() == MAX_TOUCHED || self.0.contains(record_key)
    }
}

/// What a record was found to be: itself and its size, none, or not to be read.
type Read = Result<Found, EngineError>;

/// Records as they were found beforehand, and whatever else there is.
pub struct ReadAhead<S> {
    records: RefCell<HashMap<Vec<u8>, Read>>,
    others: S,
}

impl<S: Source> Source for ReadAhead<S> {
    fn read(&self, record_key: &[u8]) -> Read {
        let known = self.records.borrow_mut().remove(record_key);
        known.unwrap_or_else(|| self.others.read(record_key))
    }

    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError> {
        self.others.usage(namespace)
    }

    fn due(
        &self,
        from: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError> {
        self.others.due(from, now, limit)
    }
}

impl Core {
    /// Follows index entries that are due, at most `limit`. Nobody who waits is served here: a
    /// record whose retention is over has no lease that runs, so whoever waited for it is due
    /// already, and granted the same with the record and without it.
    pub(super) fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        let mut together = self.sweeping.lock().unwrap();
        let (tables, swept_to, seen_at) = {
            let (mut writer, _writing) = self.alone()?;
            let setting = writer.setting();
            let tables = Arc::clone(&writer.tables);
            if writer.disk.failed_in_background(tables.background_errors(), setting.now) {
                warn!("a flush or a compaction failed");
                self.sync.poison();
                return Err(EngineError::Unavailable);
            }
            self.show_disk(writer.disk.is_nearly_full());
            writer.touched = Some(Touched::default());
            (tables, setting.swept_to, setting.now)
        };
        let due = tables.due(&swept_to, seen_at, limit);
        let mut records = read_due(&tables, due.as_deref().unwrap_or_default(), &mut together);

        let mut writer = self.writer()?;
        let began_at = Instant::now();
        let touched = writer.touched.take().unwrap_or_default();
        let due = due?;
        records.retain(|record_key, _| !touched.may_hold(record_key));
        let unwritten = writer.unwritten();
        let others = Shown { tables: &tables, unwritten, writing: &self.writing };
        let ahead = ReadAhead { records: RefCell::new(records), others };
        let setting = writer.setting();
        let now = setting.now;
        let mut batch = Batch::new(&ahead, setting);
        let mut records = 0;
        for (at, record_key) in &due {
            match batch.follow(*at, record_key) {
                Ok(gone) => records += usize::from(gone),
                // A record that cannot be read keeps its space until somebody has looked.
                Err(EngineError::Corrupted) => {}
                Err(error) => return Err(error),
            }
        }
        let ended = writer.end(batch, now);
        let more = due.len() == limit;
        if let Some((at, record_key)) = due.last() {
            // New entries lie in the future, so nothing will ever appear before this one.
            writer.swept_to = keys::expiry_key(*at, record_key);
            writer.swept_to.push(0);
        }
        if let Err(DiskError) = self.write(writer, ended) {
            return Err(EngineError::OutcomeUnknown);
        }
        self.sync.meters.swept(records, now, due.last().filter(|_| more).map(|(at, _)| *at));
        Ok(Purged { records, more, kept_out: began_at.elapsed() })
    }
}

/// Reads the records that `due` is about, as many `together` as may be.
fn read_due(
    tables: &Tables,
    due: &[(Moment, Vec<u8>)],
    together: &mut Together,
) -> HashMap<Vec<u8>, Read> {
    let record_keys = due.iter().map(|(_, record_key)| record_key.as_slice());
    let mut records = HashMap::with_capacity(due.len());
    let read = |record_keys: &[&[u8]]| tables.read_once_together(record_keys);
    together.read(record_keys.clone().collect(), read, |record_key, found| {
        records.insert(record_key.to_vec(), Ok(found));
    });
    for record_key in record_keys {
        if !records.contains_key(record_key) {
            records.insert(record_key.to_vec(), tables.read_once(record_key));
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_its_bound_every_record_counts_as_written() {
        let delete = |number: usize| Change::Delete { record_key: number.to_be_bytes().to_vec() };
        let mut touched = Touched::default();
        touched.note(&(1..MAX_TOUCHED).map(delete).collect::<Vec<_>>());
        assert!(touched.may_hold(&1_usize.to_be_bytes()));
        assert!(!touched.may_hold(b"another"));
        touched.note(&[delete(MAX_TOUCHED), delete(MAX_TOUCHED + 1)]);
        assert!(touched.may_hold(b"another"));
        assert_eq!(touched.0.len(), MAX_TOUCHED, "no more are remembered");
    }
}
