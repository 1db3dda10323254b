//! The tables as they stand at one position of the log, for whoever reads much of them: it
//! sees no write that comes later, and holds nobody up.

use rocksdb::{ReadOptions, Snapshot};
use tracing::error;

use super::schema::{HOLDS, META, RECORDS, Tables, read_error, read_usages};
use crate::domain::Moment;
use crate::storage::codec::{self, Stored};
use crate::storage::{EngineError, Usages, keys};

/// The tables at one position.
pub struct View<'a> {
    tables: &'a Tables,
    snapshot: Snapshot<'a>,
}

impl Tables {
    /// The tables as they stand now. Takes microseconds.
    pub fn view(&self) -> View<'_> {
        View { tables: self, snapshot: self.db.snapshot() }
    }

    /// How many records there are, roughly: overwritten and deleted ones may count.
    pub fn estimated_records(&self) -> u64 {
        let keys = self.db.property_int_value_cf(self.family(RECORDS), "rocksdb.estimate-num-keys");
        keys.ok().flatten().unwrap_or(0)
    }
}

impl View<'_> {
    /// Calls `visit` with the stored bytes of every record from `from` on and before `to`, in
    /// the order of their keys, until it says no. The flag says whether it did.
    pub fn records(
        &self,
        from: &[u8],
        to: Option<Vec<u8>>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let mut records =
            self.snapshot.raw_iterator_cf_opt(self.tables.family(RECORDS), sequential(to));
        records.seek(from);
        while let Some((key, value)) = records.item() {
            if !visit(key, value) {
                return Ok(());
            }
            records.next();
        }
        records.status().map_err(|error| read_error(&error))
    }

    /// The keys of at most `limit` records from `from` on and before `to`, in their order.
    pub fn record_keys(
        &self,
        from: &[u8],
        to: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        let mut keys = Vec::new();
        self.records(from, to, |key, _| {
            keys.push(key.to_vec());
            keys.len() < limit
        })?;
        Ok(keys)
    }

    /// Calls `visit` with every entry of the index of holds from `from` on and before `to`: its
    /// bytes, the end of the lease, and the record key. Until it says no.
    pub fn holds(
        &self,
        from: &[u8],
        to: Vec<u8>,
        mut visit: impl FnMut(&[u8], Moment, &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let mut holds =
            self.snapshot.raw_iterator_cf_opt(self.tables.family(HOLDS), sequential(Some(to)));
        holds.seek(from);
        while let Some(key) = holds.key() {
            match keys::split_expiry_key(key) {
                Some((at, record_key)) => {
                    if !visit(key, at, record_key) {
                        return Ok(());
                    }
                }
                None => error!("an entry of the index of holds is damaged"),
            }
            holds.next();
        }
        holds.status().map_err(|error| read_error(&error))
    }

    /// The counters of the first `limit` namespaces in the order of their names.
    pub fn usages(&self, limit: usize) -> Result<Usages, EngineError> {
        let entries = self.snapshot.raw_iterator_cf_opt(self.tables.family(META), sequential(None));
        read_usages(entries, limit)
    }

    /// The record under `record_key`, and how many bytes it takes.
    pub fn record(&self, record_key: &[u8]) -> Result<Option<(Stored, usize)>, EngineError> {
        match self.snapshot.get_pinned_cf(self.tables.family(RECORDS), record_key) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => decode(&bytes).map(|stored| Some((stored, bytes.len()))),
            Err(error) => Err(read_error(&error)),
        }
    }
}

/// The record that `bytes` hold; damage is logged.
pub fn decode(bytes: &[u8]) -> Result<Stored, EngineError> {
    codec::decode(bytes).map_err(|damage| {
        error!(%damage, "a record cannot be read");
        EngineError::Corrupted
    })
}

/// A walk leaves the cache to those who look for one record.
fn sequential(to: Option<Vec<u8>>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    options
}
