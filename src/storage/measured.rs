//! What an engine measures while it works, and what it shows of that at one moment: figures
//! that cost nothing to speak of, unlike [`super::stats`], which reads tables. They are there
//! also where an engine is poisoned, when they are wanted most.
//!
//! Counted once for each batch, sync and step of the sweeper, never for each command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::Moment;
use crate::measure::{COUNTS, Histogram, SECONDS, Tally};

/// The counters of one engine.
#[derive(Debug)]
pub struct Meters {
    batches: Histogram,
    syncs: Histogram,
    swept: AtomicU64,
    /// In milliseconds.
    sweep_lag: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            batches: Histogram::new(&COUNTS),
            syncs: Histogram::new(&SECONDS),
            swept: AtomicU64::new(0),
            sweep_lag: AtomicU64::new(0),
        }
    }
}

impl Meters {
    /// A batch of so many commands was decided.
    pub fn decided(&self, commands: usize) {
        self.batches.observe(commands as u64);
    }

    /// A sync took so long.
    pub fn synced(&self, took: Duration) {
        self.syncs.observe_span(took);
    }

    /// A step of the sweeper freed so many `records`. Where it left any that are due at `now`,
    /// the last that it looked at was due at `reached`.
    pub fn swept(&self, records: usize, now: Moment, reached: Option<Moment>) {
        self.swept.fetch_add(records as u64, Ordering::Relaxed);
        let lag = reached.map_or(0, |reached| now.since(reached).as_millis().unsigned_abs());
        self.sweep_lag.store(lag, Ordering::Relaxed);
    }

    /// What was measured so far.
    pub fn measured(&self) -> Measured {
        Measured {
            batches: self.batches.tally(),
            syncs: self.syncs.tally(),
            swept: self.swept.load(Ordering::Relaxed),
            sweep_lag: Duration::from_millis(self.sweep_lag.load(Ordering::Relaxed)),
            in_flight: 0,
            in_flight_bytes: 0,
            disk: None,
            rocksdb: None,
        }
    }
}

/// What an engine measured, at one moment.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How many commands each batch had. Empty in memory, where there are none.
    pub batches: Tally,
    /// How long each sync took. Empty in memory.
    pub syncs: Tally,
    /// How many records the sweeper has freed since the start.
    pub swept: u64,
    /// How far the sweeper was behind when it last came by: how long ago the retention of the
    /// last record was over that it looked at. Zero where nothing was left.
    pub sweep_lag: Duration,
    /// How many calls wait for their turn or for a sync.
    pub in_flight: usize,
    /// How many bytes they hold.
    pub in_flight_bytes: usize,
    /// The disk under the data directory, where there is one that can be looked at.
    pub disk: Option<Disk>,
    /// What RocksDB tells of itself, where it is one.
    pub rocksdb: Option<RocksFigures>,
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// How many bytes are free for this process.
    pub free_bytes: u64,
    /// How large it is.
    pub size_bytes: u64,
}

/// What RocksDB tells of itself. A figure that it does not give is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RocksFigures {
    /// What the block cache that the tables share holds, in bytes.
    pub block_cache_bytes: u64,
    /// What it may hold.
    pub block_cache_capacity_bytes: u64,
    /// Compactions that are running.
    pub running_compactions: u64,
    /// Flushes that are running.
    pub running_flushes: u64,
    /// Background errors since the start: the engine is poisoned by the first.
    pub background_errors: u64,
    /// Whether writes are stopped until a flush or a compaction has caught up.
    pub write_stopped: bool,
    /// The rate that writes are slowed down to, in bytes a second; 0: they are not.
    pub delayed_write_rate: u64,
    /// Each table.
    pub tables: Vec<TableFigures>,
}

/// What RocksDB tells of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFigures {
    /// Its name.
    pub name: &'static str,
    /// What its memtables hold, those that wait for a flush included, in bytes.
    pub memtable_bytes: u64,
    /// How many memtables wait for a flush.
    pub immutable_memtables: u64,
    /// Whether a compaction is due.
    pub compaction_pending: bool,
    /// How much is to be compacted, roughly, in bytes.
    pub pending_compaction_bytes: u64,
    /// How much its live files take, in bytes.
    pub live_bytes: u64,
    /// What filters and indexes take outside the block cache, roughly, in bytes.
    pub reader_bytes: u64,
    /// How often writes were slowed down since the start.
    pub delays: u64,
    /// How often writes were stopped since the start.
    pub stops: u64,
    /// How many files each level has, from level 0.
    pub level_files: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_last_step_and_what_was_swept_adds_up() {
        let meters = Meters::default();
        let at = Moment::from_millis;
        meters.swept(3, at(10_000), Some(at(4_000)));
        assert_eq!(meters.measured().sweep_lag, Duration::from_secs(6));
        meters.swept(2, at(10_000), None);
        let measured = meters.measured();
        assert_eq!((measured.swept, measured.sweep_lag), (5, Duration::ZERO));
    }
}
