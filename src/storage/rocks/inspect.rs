//! Reads a data directory offline: what it holds, and whether every record can be read.

use std::path::Path;

use super::schema::Tables;
use crate::domain::{FencingToken, Moment, Record};
use crate::storage::{EngineError, OpenError, Usages, keys};

/// A data directory that no server is writing to, opened for reading.
pub struct Inspection {
    tables: Tables,
}

/// What the engine stored of itself.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// No fencing token up to this one will be given out again.
    pub fencing_high_water: Option<FencingToken>,
    /// No moment before this one will be shown again.
    pub clock_high_water: Option<Moment>,
    /// How often the store was opened for writing.
    pub runs: i64,
}

/// One entry of the table of records.
pub enum Found<'a> {
    /// A record.
    Record {
        /// Its namespace.
        namespace: &'a str,
        /// Its key.
        key: &'a str,
        /// What is stored.
        record: Record,
        /// How many bytes it counts for in its namespace.
        bytes: u64,
    },
    /// Something that cannot be read.
    Damaged {
        /// The bytes of its key.
        record_key: &'a [u8],
        /// The bytes of its namespace, or what there is of them.
        namespace: &'a [u8],
        /// How many bytes it counts for in its namespace.
        bytes: u64,
    },
}

impl Inspection {
    /// Opens the directory.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { tables: Tables::open_read_only(path)? })
    }

    /// What the engine stored of itself.
    pub fn marks(&self) -> Result<Marks, EngineError> {
        let meta = self.tables.meta()?;
        Ok(Marks {
            fencing_high_water: meta.fencing_high_water,
            clock_high_water: meta.clock_high_water,
            runs: meta.run.unwrap_or(0),
        })
    }

    /// What the counters say that each namespace has on record.
    /// `None`: the store has a format without counters, and is counted when a server opens it.
    pub fn usages(&self) -> Result<Option<Usages>, EngineError> {
        match self.tables.has_counters()? {
            true => self.tables.usages().map(Some),
            false => Ok(None),
        }
    }

    /// Calls `visit` with everything in the table of records, in the order of namespaces and
    /// keys, until it says no.
    pub fn scan(&self, mut visit: impl FnMut(Found<'_>) -> bool) -> Result<(), EngineError> {
        self.tables.scan(|record_key, bytes, stored| {
            let bytes = (record_key.len() + bytes) as u64;
            match (keys::split_record_key(record_key), stored) {
                (Some((namespace, key)), Ok(stored)) => {
                    visit(Found::Record { namespace, key, record: stored.record, bytes })
                }
                _ => {
                    let namespace = keys::namespace_of(record_key);
                    visit(Found::Damaged { record_key, namespace, bytes })
                }
            }
        })
    }
}
