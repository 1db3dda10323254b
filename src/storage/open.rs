//! From a URL to an engine: the one place that lists what onced can store in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::backup::BackupOptions;
use super::fault::FaultPlan;
use super::memory::MemoryEngine;
use super::rocks::RocksEngine;
use super::{Engine, Quotas, WaitingBounds};
use crate::clock::Clock;
use crate::domain::Span;

/// Where records are kept, as the setting `store` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `rocksdb:PATH`: an embedded RocksDB in that directory.
    RocksDb(PathBuf),
    /// `memory:`: the memory of this process; gone with it.
    Memory,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("rocksdb", path)) if !path.is_empty() => Ok(Self::RocksDb(PathBuf::from(path))),
            _ => Err(StoreUrlError),
        }
    }
}

/// A URL that names no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUrlError;

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a store; give rocksdb:PATH or memory:")
    }
}

impl std::error::Error for StoreUrlError {}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RocksDb(path) => write!(f, "rocksdb:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How long owners have to renew leases that ended while the server was down; from its
    /// start on. Zero: such leases have lapsed.
    pub restart_grace: Span,
    /// How many calls may wait for the engine.
    pub max_in_flight: usize,
    /// How many bytes the waiting calls may hold together.
    pub max_in_flight_bytes: usize,
    /// How many calls may wait for somebody else's reservation.
    pub waiting: WaitingBounds,
    /// The size of one memtable in bytes; the batch that fills it may make it larger.
    pub memtable_bytes: usize,
    /// How many memtables there may be for each of four tables, at least two: one that is written
    /// to, and others that are being flushed. Writers wait where all of them are full.
    pub memtables_per_table: u8,
    /// How many memtables of a table are flushed together, once they are full: less than there may
    /// be. Where the log gets too long they are flushed earlier.
    pub memtables_per_flush: u8,
    /// How many records are read together where several are reserved, and beside that where they
    /// are over. Each may be as large as a response may be; one at a time takes longer and least
    /// memory. RocksDB takes no more than 32.
    pub records_read_together: u8,
    /// The size of the block cache in bytes.
    pub block_cache_bytes: usize,
    /// Whether filters and indices of tables lie in the block cache: then they are bounded, and may
    /// have to be read again. Otherwise they stay in memory with their tables, whatever that
    /// takes.
    pub filters_in_cache: bool,
    /// With less free disk than this many bytes, new reservations are refused.
    pub min_free_disk_bytes: u64,
    /// How much each namespace may have on record; those that are not in here, anything.
    pub quotas: Quotas,
    /// Where backups are kept; `None`: none are made.
    pub backup: Option<BackupOptions>,
    /// What goes wrong on purpose; only tests have a plan.
    pub faults: Option<Arc<FaultPlan>>,
}

impl StoreOptions {
    /// How many bytes of memtables one flush brings to a table.
    pub fn flush_bytes(&self) -> usize {
        self.memtable_bytes.saturating_mul(self.memtables_per_flush.into())
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            restart_grace: Span::from_secs(10),
            max_in_flight: 16_384,
            max_in_flight_bytes: 256 << 20,
            waiting: WaitingBounds { max: 16_384, max_per_key: 2_048 },
            memtable_bytes: 4 << 20,
            memtables_per_table: 33,
            memtables_per_flush: 16,
            records_read_together: 32,
            block_cache_bytes: 64 << 20,
            filters_in_cache: false,
            min_free_disk_bytes: 256 << 20,
            quotas: Quotas::default(),
            backup: None,
            faults: None,
        }
    }
}

/// Why a store cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path:?} is in use by another server; stop it, or give this one another `store`")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// There is nothing to open.
    #[error("{path:?} holds no store")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// It was written in another format.
    #[error(
        "{path:?} has format {found}, this build reads format {supported}; use the build that wrote it"
    )]
    Format {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this build.
        supported: u32,
    },
    /// It cannot be read.
    #[error("{path:?} is damaged: {cause}; restore a copy, or move it away to start empty")]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What the storage library says.
        cause: String,
    },
    /// It cannot be reached.
    #[error("{path:?} cannot be opened: {cause}")]
    Unavailable {
        /// The data directory.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

/// Opens the store that `url` names.
pub fn open(
    url: &StoreUrl,
    clock: Arc<dyn Clock>,
    options: &StoreOptions,
) -> Result<Arc<dyn Engine>, OpenError> {
    match url {
        StoreUrl::RocksDb(path) => Ok(Arc::new(RocksEngine::open(path, clock, options)?)),
        StoreUrl::Memory => Ok(Arc::new(MemoryEngine::new(clock, options))),
    }
}
