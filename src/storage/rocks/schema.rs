//! The tables on disk: their names, how they are opened, read and written. How RocksDB is set for
//! them is in [`super::settings`].
//!
//! Names and persisted numbers are written out here and never reused. What is decided about
//! their content is not here: see `batch.rs`.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    ColumnFamily, DB, DBAccess, DBRawIteratorWithThreadMode, ErrorKind, FlushOptions, ReadOptions,
    WriteBatch, WriteOptions,
};
use tracing::error;

use super::batch::{Change, Found, GraceWindow, Source};
use super::{directory, migrate, settings, view};
use crate::domain::{FencingToken, Moment, Namespace};
use crate::storage::codec::{self, Stored};
use crate::storage::erase::Erase;
use crate::storage::fault::{Fault, FaultPlan, Operation};
use crate::storage::keys;
use crate::storage::{EngineError, OpenError, StoreOptions, Usage, Usages};

/// The record of each key.
pub const RECORDS: &str = "records";
/// Which record to look at when.
pub(super) const EXPIRY: &str = "expiry";
/// Which reservation comes in doubt when; since format 2.
pub const HOLDS: &str = "holds";
/// What the engine knows of itself.
pub const META: &str = "meta";
/// All of them.
pub const FAMILIES: [&str; 4] = [RECORDS, EXPIRY, HOLDS, META];

/// The format that this build writes. It brings what it opens in an earlier one to it.
const FORMAT: u32 = 2;
/// The first format: it has no index of holds, no counters and no erases, which a build of it
/// would not keep.
const FIRST_FORMAT: u32 = 1;

const META_FORMAT: &[u8] = b"format";
/// No token up to this number may be given out again; big-endian i64.
const META_FENCING: &[u8] = b"fencing_high_water";
/// No moment before this one may be shown again; big-endian i64, milliseconds.
const META_CLOCK: &[u8] = b"clock_high_water";
/// How leases are prolonged after outages: windows, one after another.
const META_GRACE: &[u8] = b"grace_windows";
/// The number of the latest run; big-endian i64.
const META_RUN: &[u8] = b"run";
/// What begins the counter of a namespace; its name follows; since format 2. Two big-endian u64, keys and bytes.
/// A namespace without records has none.
const META_USAGE: &[u8] = b"usage/";
/// What the progress of an erase is stored under, followed by its namespace; since format 2.
const META_ERASE: &[u8] = b"erase/";

/// A larger record that was read with others is let go, and read again when it is asked for: whoever
/// asks may have left, or there may be no room for the answer.
const MAX_BYTES_READ_AHEAD: usize = 4 << 10;

/// What the engine knows of itself, as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// No fencing token up to this one may be given out again.
    pub fencing_high_water: Option<FencingToken>,
    /// No moment before this one may be shown again.
    pub clock_high_water: Option<Moment>,
    /// The number of the latest run.
    pub run: Option<i64>,
    /// How leases are prolonged after outages, in the order of the runs.
    pub grace: Option<Arc<[GraceWindow]>>,
    /// How far an erase has come. Written only: [`Tables::erases`] reads them all.
    pub erase: Option<Erase>,
    /// Namespaces whose erases are forgotten. Written only.
    pub forgotten_erases: Vec<Namespace>,
}

/// The open database.
pub struct Tables {
    pub(super) db: DB,
    write_options: WriteOptions,
    /// Of reads of single records: made once, because each of them is an object of C++.
    read_options: ReadOptions,
    read_once_options: ReadOptions,
    faults: Option<Arc<FaultPlan>>,
}

/// An operation on the disk that failed. Its cause is logged where it is met.
#[derive(Debug)]
pub struct DiskError;

impl Tables {
    /// Opens the database in `path`, and creates it if there is none.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, OpenError> {
        directory::make(path)?;
        let database = settings::database_to_write(options);
        let families = settings::families(options);
        let db = match DB::open_cf_descriptors(&database, path, families) {
            Ok(db) => db,
            Err(error) => {
                // A later format may have tables that RocksDB does not open without a name;
                // for reading it does, and then the format says what is the matter.
                if error.kind() == ErrorKind::InvalidArgument {
                    Self::open_read_only(path)?;
                }
                return Err(open_error(path, &error));
            }
        };
        let tables = Self::of(db, options.faults.clone());
        if tables.format(path)? == Some(FIRST_FORMAT) {
            migrate::from_format_1(&tables, path)?;
        }
        Ok(tables)
    }

    /// Opens the database in `path` for reading, also while no server runs on it.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        if !path.join("CURRENT").exists() {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let options = settings::database();
        let there = DB::list_cf(&options, path).map_err(|error| open_error(path, &error))?;
        let is_there = |name: &&str| *name != HOLDS || there.iter().any(|it| it == HOLDS);
        let families = [RECORDS, EXPIRY, HOLDS, META].into_iter().filter(is_there);
        let db = DB::open_cf_for_read_only(&options, path, families, false)
            .map_err(|error| open_error(path, &error))?;
        let tables = Self::of(db, None);
        tables.format(path)?;
        Ok(tables)
    }

    fn of(db: DB, faults: Option<Arc<FaultPlan>>) -> Self {
        let mut read_once_options = ReadOptions::default();
        read_once_options.fill_cache(false);
        Self {
            db,
            write_options: WriteOptions::default(),
            read_options: ReadOptions::default(),
            read_once_options,
            faults,
        }
    }

    /// The format on disk, if it is one that this build reads.
    fn format(&self, path: &Path) -> Result<Option<u32>, OpenError> {
        let damaged = || OpenError::Damaged {
            path: path.to_owned(),
            cause: "its format is unreadable".into(),
        };
        let stored = self
            .db
            .get_cf(self.family(META), META_FORMAT)
            .map_err(|error| open_error(path, &error))?;
        let Some(bytes) = stored else {
            // A database without a format is one whose creation was cut short before its
            // first commit: nothing was acknowledged from it.
            return Ok(None);
        };
        let found = u32::from_be_bytes(bytes.try_into().map_err(|_| damaged())?);
        match found {
            FIRST_FORMAT | FORMAT => Ok(Some(found)),
            _ => Err(OpenError::Format { path: path.to_owned(), found, supported: FORMAT }),
        }
    }

    /// What the engine stored of itself.
    pub fn meta(&self) -> Result<Meta, EngineError> {
        let number = |name| -> Result<Option<i64>, EngineError> {
            match self.meta_bytes(name)? {
                Some(bytes) => Ok(Some(i64::from_be_bytes(
                    bytes.try_into().map_err(|_| EngineError::Corrupted)?,
                ))),
                None => Ok(None),
            }
        };
        let fencing_high_water = match number(META_FENCING)? {
            Some(found) => Some(FencingToken::new(found).ok_or(EngineError::Corrupted)?),
            None => None,
        };
        let grace = match self.meta_bytes(META_GRACE)? {
            Some(bytes) => {
                let windows = bytes.chunks(GraceWindow::STORED_BYTES).map(GraceWindow::from_bytes);
                Some(windows.collect::<Option<Arc<[_]>>>().ok_or(EngineError::Corrupted)?)
            }
            None => None,
        };
        Ok(Meta {
            fencing_high_water,
            clock_high_water: number(META_CLOCK)?.map(Moment::from_millis),
            run: number(META_RUN)?,
            grace,
            ..Meta::default()
        })
    }

    /// How far each erase has come.
    pub fn erases(&self) -> Result<Vec<Erase>, EngineError> {
        let mut found = self.db.raw_iterator_cf(self.family(META));
        found.seek(META_ERASE);
        let mut erases = Vec::new();
        while let Some((key, value)) = found.item()
            && key.starts_with(META_ERASE)
        {
            erases.push(Erase::decode(value).map_err(|damage| {
                error!(%damage, "the progress of an erase cannot be read");
                EngineError::Corrupted
            })?);
            found.next();
        }
        found.status().map_err(|error| read_error(&error))?;
        Ok(erases)
    }

    fn meta_bytes(&self, name: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.db.get_cf(self.family(META), name).map_err(|error| {
            error!(%error, "cannot read the engine's own data");
            EngineError::Unavailable
        })
    }

    /// Writes `changes` and `meta` in one atomic step. They are in the log then, but not yet
    /// durable.
    pub fn write<'a>(
        &self,
        changes: impl IntoIterator<Item = &'a Change>,
        meta: &Meta,
    ) -> Result<(), DiskError> {
        self.write_prepared(self.prepare(changes, meta))
    }

    /// The first half of [`Tables::write`], which may be done while something else is written. In
    /// the order of their keys, changes spare RocksDB most of the search for the place of each:
    /// next to the one before.
    pub fn prepare<'a>(
        &self,
        changes: impl IntoIterator<Item = &'a Change>,
        meta: &Meta,
    ) -> Prepared {
        let mut batch = WriteBatch::default();
        self.put_all(&mut batch, changes);
        let family = self.family(META);
        if let Some(token) = meta.fencing_high_water {
            batch.put_cf(family, META_FENCING, token.get().to_be_bytes());
        }
        if let Some(moment) = meta.clock_high_water {
            batch.put_cf(family, META_CLOCK, moment.as_millis().to_be_bytes());
        }
        if let Some(grace) = &meta.grace {
            let bytes: Vec<u8> = grace.iter().flat_map(|window| window.to_bytes()).collect();
            batch.put_cf(family, META_GRACE, bytes);
        }
        if let Some(run) = meta.run {
            batch.put_cf(family, META_RUN, run.to_be_bytes());
        }
        for namespace in &meta.forgotten_erases {
            batch.delete_cf(family, erase_name(namespace));
        }
        if let Some(erase) = &meta.erase {
            batch.put_cf(family, erase_name(&erase.order.namespace), erase.encode());
        }
        Prepared(batch)
    }

    /// The second half.
    pub fn write_prepared(&self, Prepared(batch): Prepared) -> Result<(), DiskError> {
        self.perform(Operation::Write, || self.db.write_opt(batch, &self.write_options))
    }

    fn put_all<'a>(&self, batch: &mut WriteBatch, changes: impl IntoIterator<Item = &'a Change>) {
        let families = Families {
            records: self.family(RECORDS),
            expiry: self.family(EXPIRY),
            holds: self.family(HOLDS),
            meta: self.family(META),
        };
        let mut bytes = Vec::new();
        for change in changes {
            families.put(batch, change, &mut bytes);
        }
    }

    /// Makes `changes`, with the only counters that there are from then on, and the format the
    /// one of this build, in one atomic and durable step.
    pub fn begin_format(&self, changes: &[Change]) -> Result<(), DiskError> {
        let mut batch = WriteBatch::default();
        for namespace in self.usages().map_err(|_| DiskError)?.into_keys() {
            batch.delete_cf(self.family(META), usage_name(&namespace));
        }
        self.put_all(&mut batch, changes);
        batch.put_cf(self.family(META), META_FORMAT, FORMAT.to_be_bytes());
        self.perform(Operation::Write, || self.db.write_opt(batch, &self.write_options))?;
        self.sync()
    }

    /// The counters of all namespaces.
    pub fn usages(&self) -> Result<Usages, EngineError> {
        read_usages(self.db.raw_iterator_cf(self.family(META)), usize::MAX)
    }

    /// Whether there are counters: not before the first commit of this format.
    pub fn has_counters(&self) -> Result<bool, EngineError> {
        let format = self.meta_bytes(META_FORMAT)?;
        Ok(format.is_some_and(|format| format == FORMAT.to_be_bytes()))
    }

    /// Marks the database as one of this build's format.
    pub fn write_format(&self) -> Result<(), DiskError> {
        self.perform(Operation::Write, || {
            self.db.put_cf(self.family(META), META_FORMAT, FORMAT.to_be_bytes())
        })
    }

    /// Makes everything that was written before this call durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.perform(Operation::Sync, || self.db.flush_wal(true))
    }

    /// Brings what is in memory to tables on disk, so that the next start finds nothing in the
    /// log that it has to do again. What is in the log is durable without it.
    pub fn flush(&self) -> Result<(), DiskError> {
        let families = [RECORDS, EXPIRY, HOLDS, META].map(|name| self.family(name));
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| {
            error!(%error, "the tables could not be flushed");
            DiskError
        })
    }

    /// How often a flush or a compaction failed in the background.
    pub fn background_errors(&self) -> u64 {
        let errors = self.db.property_int_value("rocksdb.background-errors");
        errors.ok().flatten().unwrap_or(u64::MAX)
    }

    /// How many bytes the memtables take.
    pub fn memtable_bytes(&self) -> u64 {
        let of_family = |name| {
            let bytes =
                self.db.property_int_value_cf(self.family(name), "rocksdb.cur-size-all-mem-tables");
            bytes.ok().flatten().unwrap_or(0)
        };
        [RECORDS, EXPIRY, HOLDS, META].map(of_family).iter().sum()
    }

    fn perform(
        &self,
        operation: Operation,
        act: impl FnOnce() -> Result<(), rocksdb::Error>,
    ) -> Result<(), DiskError> {
        let fault = self.faults.as_ref().and_then(|faults| faults.meet(operation));
        if fault == Some(Fault::NotDone) {
            return Err(DiskError);
        }
        act().map_err(|error| {
            error!(%error, ?operation, "the disk failed");
            DiskError
        })?;
        match fault {
            Some(Fault::NotDone | Fault::DoneButReported) => Err(DiskError),
            None => Ok(()),
        }
    }

    /// Calls `visit` with the key of every record, the size of what is stored under it in bytes,
    /// and the record, in the order of the keys, until it says no.
    pub fn scan(
        &self,
        mut visit: impl FnMut(&[u8], usize, Result<Stored, EngineError>) -> bool,
    ) -> Result<(), EngineError> {
        let mut records = self.db.raw_iterator_cf(self.family(RECORDS));
        records.seek_to_first();
        while let Some((key, value)) = records.item() {
            let stored = codec::decode(value).map_err(|_| EngineError::Corrupted);
            if !visit(key, value.len(), stored) {
                return Ok(());
            }
            records.next();
        }
        records.status().map_err(|error| read_error(&error))
    }

    /// The same as [`Source::read`] for a record that nobody is expected to read again soon: the
    /// cache is left to others.
    pub fn read_once(&self, record_key: &[u8]) -> Result<Found, EngineError> {
        self.read_as(record_key, &self.read_once_options)
    }

    /// The same as [`Source::read_together`] for such records.
    pub fn read_once_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        self.read_together_as(record_keys, &self.read_once_options)
    }

    fn read_together_as(&self, record_keys: &[&[u8]], options: &ReadOptions) -> Vec<Option<Found>> {
        if self.faults.as_ref().is_some_and(|faults| faults.awaits(Operation::Read)) {
            return vec![None; record_keys.len()];
        }
        let records = self.family(RECORDS);
        let read = self.db.batched_multi_get_cf_opt(records, record_keys, true, options);
        let found = read.into_iter().map(|read| match read {
            Ok(None) => Some(None),
            Ok(Some(bytes)) if bytes.len() <= MAX_BYTES_READ_AHEAD => {
                view::decode(&bytes).ok().map(|stored| Some((stored, bytes.len())))
            }
            Ok(Some(_)) | Err(_) => None,
        });
        found.collect()
    }

    fn read_as(&self, record_key: &[u8], options: &ReadOptions) -> Result<Found, EngineError> {
        if self.faults.as_ref().is_some_and(|faults| faults.meet(Operation::Read).is_some()) {
            return Err(EngineError::Unavailable);
        }
        match self.db.get_pinned_cf_opt(self.family(RECORDS), record_key, options) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => view::decode(&bytes).map(|stored| Some((stored, bytes.len()))),
            Err(error) => Err(read_error(&error)),
        }
    }

    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family was opened")
    }
}

/// What one atomic step writes, as the log will have it.
pub struct Prepared(WriteBatch);

/// The tables that a change may be made to.
struct Families<'a> {
    records: &'a ColumnFamily,
    expiry: &'a ColumnFamily,
    holds: &'a ColumnFamily,
    meta: &'a ColumnFamily,
}

impl Families<'_> {
    /// `bytes` is scratch space.
    fn put(&self, batch: &mut WriteBatch, change: &Change, bytes: &mut Vec<u8>) {
        bytes.clear();
        match change {
            Change::Put { record_key, stored } => {
                codec::encode_to(stored, bytes);
                batch.put_cf(self.records, record_key, &bytes);
            }
            Change::Delete { record_key } => batch.delete_cf(self.records, record_key),
            Change::Index { at, record_key } => {
                keys::expiry_key_to(*at, record_key, bytes);
                batch.put_cf(self.expiry, &bytes, b"");
            }
            Change::Unindex { at, record_key } => {
                keys::expiry_key_to(*at, record_key, bytes);
                batch.delete_cf(self.expiry, &bytes);
            }
            Change::Hold { at, record_key } => {
                keys::expiry_key_to(*at, record_key, bytes);
                batch.put_cf(self.holds, &bytes, b"");
            }
            Change::Unhold { at, record_key } => {
                keys::expiry_key_to(*at, record_key, bytes);
                batch.delete_cf(self.holds, &bytes);
            }
            Change::Count { namespace, usage } => {
                let name = usage_name(namespace);
                match *usage == Usage::default() {
                    true => batch.delete_cf(self.meta, name),
                    false => batch.put_cf(self.meta, name, usage.to_bytes()),
                }
            }
        }
    }
}

impl Source for Tables {
    fn read(&self, record_key: &[u8]) -> Result<Found, EngineError> {
        self.read_as(record_key, &self.read_options)
    }

    fn read_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        self.read_together_as(record_keys, &self.read_options)
    }

    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError> {
        match self.meta_bytes(&usage_name(namespace))? {
            Some(bytes) => Usage::from_bytes(&bytes).ok_or(EngineError::Corrupted),
            None => Ok(Usage::default()),
        }
    }

    fn due(
        &self,
        from: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::expiry_bound(Moment::from_millis(
            now.as_millis().saturating_add(1),
        )));
        let mut entries = self.db.raw_iterator_cf_opt(self.family(EXPIRY), options);
        entries.seek(from);
        let mut due = Vec::new();
        while let Some(key) = entries.key() {
            if due.len() == limit {
                break;
            }
            match keys::split_expiry_key(key) {
                Some((at, record_key)) => due.push((at, record_key.to_vec())),
                // Its record keeps its space; the sweeper goes on.
                None => error!("an entry of the expiry index is damaged"),
            }
            entries.next();
        }
        entries.status().map_err(|error| read_error(&error))?;
        Ok(due)
    }
}

/// The first `limit` counters that `entries` of the own data show, in the order of the names.
pub(super) fn read_usages<D: DBAccess>(
    mut entries: DBRawIteratorWithThreadMode<'_, D>,
    limit: usize,
) -> Result<Usages, EngineError> {
    let mut usages = Usages::new();
    entries.seek(META_USAGE);
    while let Some((name, bytes)) = entries.item()
        && let Some(namespace) = name.strip_prefix(META_USAGE)
        && usages.len() < limit
    {
        let usage = Usage::from_bytes(bytes).ok_or(EngineError::Corrupted)?;
        usages.insert(namespace.to_vec(), usage);
        entries.next();
    }
    entries.status().map_err(|error| read_error(&error))?;
    Ok(usages)
}

fn usage_name(namespace: &[u8]) -> Vec<u8> {
    [META_USAGE, namespace].concat()
}

fn erase_name(namespace: &Namespace) -> Vec<u8> {
    [META_ERASE, namespace.as_str().as_bytes()].concat()
}

pub(super) fn read_error(error: &rocksdb::Error) -> EngineError {
    error!(%error, "cannot read");
    match error.kind() {
        ErrorKind::Corruption => EngineError::Corrupted,
        _ => EngineError::Unavailable,
    }
}

fn open_error(path: &Path, error: &rocksdb::Error) -> OpenError {
    let (path, cause) = (path.to_owned(), error.to_string());
    match error.kind() {
        // RocksDB reports a held lock as an I/O error and tells it only in words.
        ErrorKind::IOError
            if cause.contains("lock hold by current process")
                || cause.contains("While lock file") =>
        {
            OpenError::InUse { path }
        }
        ErrorKind::Corruption => OpenError::Damaged { path, cause },
        // The directory is there, so this is a file that the store wrote and that has gone.
        ErrorKind::IOError if cause.contains("No such file or directory") => {
            OpenError::Damaged { path, cause }
        }
        _ => OpenError::Unavailable { path, cause },
    }
}
