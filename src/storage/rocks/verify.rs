//! Whether a store says the same in all of its places: offline, in one pass over the records and
//! one over each index.
//!
//! Every record must be readable, have its entries in the indices and be counted; every entry
//! must lead to the record that it was made for; what the engine knows of itself must be ahead of
//! whatever is on record. RocksDB holds every block that it reads against its checksum, and all
//! of them are read. What is wrong is told and nothing is mended: which of two places is right
//! is for somebody to say who knows what happened.
//!
//! Not seen: damage in the midst of a log, which looks like the torn tail that a power cut
//! leaves, and whatever is consistent and untrue.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::census::Census;
use super::inspect::Marks;
use super::schema::{EXPIRY, HOLDS, Tables, read_error};
use crate::domain::{FencingToken, Moment};
use crate::storage::codec::Stored;
use crate::storage::erase::Erase;
use crate::storage::{EngineError, OpenError, Usage, keys};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// A record that cannot be read, or whose key cannot.
    DamagedRecord {
        /// The bytes of its key.
        record_key: &'a [u8],
    },
    /// A record without its entry in an index.
    MissingEntry {
        /// Which index.
        index: Index,
        /// The moment that the entry should have.
        at: Moment,
        /// The bytes of the record's key.
        record_key: &'a [u8],
    },
    /// An entry of an index that no record has.
    StrayEntry {
        /// Which index.
        index: Index,
        /// Its moment.
        at: Moment,
        /// The bytes of the key that it leads to.
        record_key: &'a [u8],
    },
    /// An entry of an index that cannot be read.
    DamagedEntry {
        /// Which index.
        index: Index,
        /// Its bytes.
        entry: &'a [u8],
    },
    /// A counter that does not say what was found.
    WrongCounter {
        /// The bytes of the name of the namespace.
        namespace: &'a [u8],
        /// What was found.
        found: Usage,
        /// What the counter says.
        counter: Usage,
    },
    /// A record with a fencing token that was never given out.
    UnknownFencingToken {
        /// The bytes of its key.
        record_key: &'a [u8],
        /// Its token.
        fencing_token: FencingToken,
    },
    /// A record that was stored by a run that has not been, or made at a moment that has not.
    FromTheFuture {
        /// The bytes of its key.
        record_key: &'a [u8],
    },
    /// A record that an erase says it has taken away.
    NotErased {
        /// The bytes of its key.
        record_key: &'a [u8],
    },
    /// An erase that has come further than its namespace goes.
    EraseAstray {
        /// The namespace.
        namespace: &'a str,
    },
    /// A table that cannot be read to its end, because a checksum is wrong or a file is not
    /// what it was.
    Unreadable {
        /// What is in it.
        what: &'static str,
    },
}

/// The namespace and the idempotency key of the bytes of a record's key; `None` where they cannot
/// be read.
pub fn names_of(record_key: &[u8]) -> Option<(&str, &str)> {
    keys::split_record_key(record_key)
}

/// An index of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Which record to look at when.
    Expiry,
    /// Which reservation comes in doubt when.
    Holds,
}

impl Index {
    const fn family(self) -> &'static str {
        match self {
            Self::Expiry => EXPIRY,
            Self::Holds => HOLDS,
        }
    }

    /// The moment of the entry that `stored` has in it.
    fn place_of(self, stored: &Stored) -> Option<Moment> {
        match self {
            Self::Expiry => Some(stored.indexed_at),
            Self::Holds => stored.record.in_doubt_from(),
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// What the engine stored of itself.
    pub marks: Marks,
    /// How many records there are.
    pub records: u64,
    /// How many bytes of keys and records.
    pub bytes: u64,
    /// How many namespaces have records.
    pub namespaces: u64,
    /// How many entries the index of expiry has.
    pub expiry_entries: u64,
    /// How many the index of holds has; `None`: the format has no such index.
    pub hold_entries: Option<u64>,
    /// How many erases are remembered.
    pub erases: u64,
}

/// Looks at everything in `path`, and calls `tell` with whatever is wrong.
///
/// # Errors
///
/// If a server has it open, if it cannot be opened, or if what the engine knows of itself
/// cannot be read: then nothing can be held against it.
pub fn verify(path: &Path, mut tell: impl FnMut(Finding<'_>)) -> Result<Looked, OpenError> {
    let _lock = keep_servers_away(path)?;
    let tables = Tables::open_read_only(path)?;
    let damaged = |cause: &str| OpenError::Damaged { path: path.to_owned(), cause: cause.into() };
    let meta = tables.meta().map_err(|_| damaged("its high-water marks are unreadable"))?;
    let marks = Marks {
        fencing_high_water: meta.fencing_high_water,
        clock_high_water: meta.clock_high_water,
        runs: meta.run.unwrap_or(0),
    };
    let erases = tables.erases().map_err(|_| damaged("an erase is unreadable"))?;
    let has_counters = tables.has_counters().map_err(|_| damaged("its own data is unreadable"))?;
    let counters = match has_counters {
        true => Some(tables.usages().map_err(|_| damaged("a counter is unreadable"))?),
        false => None,
    };
    for erase in erases.iter().filter(|erase| is_astray(erase)) {
        tell(Finding::EraseAstray { namespace: erase.order.namespace.as_str() });
    }
    let mut looked = Looked {
        marks,
        records: 0,
        bytes: 0,
        namespaces: 0,
        expiry_entries: 0,
        hold_entries: None,
        erases: erases.len() as u64,
    };
    let mut census = Census::against(counters);
    look_at_records(&tables, &erases, &mut looked, &mut census, &mut tell);
    for namespace in census.wrong().unwrap_or_default() {
        let (found, counter) = (census.found(namespace), census.counter(namespace));
        let counter = counter.unwrap_or_default();
        tell(Finding::WrongCounter { namespace, found, counter });
    }
    looked.namespaces = census.namespaces().len() as u64;
    looked.expiry_entries = look_at_entries(&tables, Index::Expiry, &mut tell).unwrap_or(0);
    looked.hold_entries = look_at_entries(&tables, Index::Holds, &mut tell);
    Ok(looked)
}

/// Holds every record against the indices, the marks and the erases, and counts it.
fn look_at_records(
    tables: &Tables,
    erases: &[Erase],
    looked: &mut Looked,
    census: &mut Census,
    tell: &mut impl FnMut(Finding<'_>),
) {
    let marks = looked.marks;
    let scanned = tables.scan(|record_key, bytes, stored| {
        let bytes = (record_key.len() + bytes) as u64;
        looked.records += 1;
        looked.bytes += bytes;
        census.count(keys::namespace_of(record_key), bytes);
        let (Ok(stored), Some(_)) = (stored, keys::split_record_key(record_key)) else {
            tell(Finding::DamagedRecord { record_key });
            return true;
        };
        for index in [Index::Expiry, Index::Holds] {
            if let Some(at) = index.place_of(&stored)
                && tables.has_entry(index.family(), at, record_key) == Ok(false)
            {
                tell(Finding::MissingEntry { index, at, record_key });
            }
        }
        let fencing_token = stored.record.fencing_token;
        if Some(fencing_token) > marks.fencing_high_water {
            tell(Finding::UnknownFencingToken { record_key, fencing_token });
        }
        if stored.run > marks.runs || Some(stored.record.created_at) > marks.clock_high_water {
            tell(Finding::FromTheFuture { record_key });
        }
        if erases.iter().any(|erase| should_have_taken(erase, record_key, fencing_token)) {
            tell(Finding::NotErased { record_key });
        }
        true
    });
    if scanned.is_err() {
        census.cut_short();
        tell(Finding::Unreadable { what: "records" });
    }
}

/// Holds every entry of `index` against the record that it leads to, and counts them. `None`:
/// the format has no such index.
fn look_at_entries(
    tables: &Tables,
    index: Index,
    tell: &mut impl FnMut(Finding<'_>),
) -> Option<u64> {
    let mut count = 0;
    let view = tables.view();
    let scanned = tables.entries(index.family(), |entry| {
        count += 1;
        let Some((at, record_key)) = keys::split_expiry_key(entry) else {
            tell(Finding::DamagedEntry { index, entry });
            return;
        };
        let place = match view.record(record_key) {
            Ok(Some((stored, _))) => index.place_of(&stored),
            Ok(None) => None,
            // The record was told of already.
            Err(_) => return,
        };
        if place != Some(at) {
            tell(Finding::StrayEntry { index, at, record_key });
        }
    });
    match scanned {
        Ok(true) => Some(count),
        Ok(false) => None,
        Err(_) => {
            let what = match index {
                Index::Expiry => "the index of expiry",
                Index::Holds => "the index of holds",
            };
            tell(Finding::Unreadable { what });
            Some(count)
        }
    }
}

impl Tables {
    /// Whether an index has the entry of `record_key` at this moment, or there is no such index.
    fn has_entry(&self, family: &str, at: Moment, record_key: &[u8]) -> Result<bool, EngineError> {
        let Some(family) = self.db.cf_handle(family) else { return Ok(true) };
        let entry = self.db.get_pinned_cf(family, keys::expiry_key(at, record_key));
        Ok(entry.map_err(|error| read_error(&error))?.is_some())
    }

    /// Calls `visit` with every entry of an index. The flag says whether there is one.
    fn entries(&self, family: &str, mut visit: impl FnMut(&[u8])) -> Result<bool, EngineError> {
        let Some(family) = self.db.cf_handle(family) else { return Ok(false) };
        let mut entries = self.db.raw_iterator_cf(family);
        entries.seek_to_first();
        while let Some(entry) = entries.key() {
            visit(entry);
            entries.next();
        }
        entries.status().map_err(|error| read_error(&error))?;
        Ok(true)
    }
}

/// Whether the place that an erase has come to is not one of its namespace.
fn is_astray(erase: &Erase) -> bool {
    let all = keys::namespace_prefix(&erase.order.namespace, "");
    !erase.done_to.is_empty() && !erase.done_to.starts_with(&all)
}

/// Whether an erase has passed a record, or ended, and should have taken it along.
fn should_have_taken(erase: &Erase, record_key: &[u8], fencing_token: FencingToken) -> bool {
    erase.ceiling.is_some_and(|ceiling| fencing_token <= ceiling)
        && record_key.starts_with(&keys::namespace_prefix(&erase.order.namespace, ""))
        && (erase.ended_at.is_some() || record_key <= erase.done_to.as_slice())
}

/// Takes RocksDB's own lock on `path`, as far as there is one that this process may take: no
/// server starts as long as the file is open.
fn keep_servers_away(path: &Path) -> Result<Option<File>, OpenError> {
    let Ok(lock) = File::options().read(true).write(true).open(path.join("LOCK")) else {
        return Ok(None);
    };
    match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(OpenError::InUse { path: path.to_owned() }),
        // A file system without locks has not been locked by a server either.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
