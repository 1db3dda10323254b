//! What an engine tells of itself: only what is exact, or cheap and said to be an estimate.

use super::Usages;
use super::erase::Erase;
use crate::domain::FencingToken;

/// How many entries of the index are looked at to count what is in doubt.
pub const MAX_COUNTED: usize = 10_000;

/// How many namespaces are told of at most.
pub const MAX_USAGES: usize = 1_000;

/// An engine at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// What it stores in: `rocksdb` or `memory`.
    pub store: &'static str,
    /// How many records there are, those included whose retention is over and that are not
    /// purged yet.
    pub records: u64,
    /// Whether that number is an estimate.
    pub records_estimated: bool,
    /// How many reservations are in doubt.
    pub in_doubt: usize,
    /// Whether there may be more of them: counting ended at [`MAX_COUNTED`] entries.
    pub in_doubt_capped: bool,
    /// How many calls are in the engine, waiting for their turn or for a sync.
    pub in_flight: usize,
    /// How many bytes they hold.
    pub in_flight_bytes: usize,
    /// How many calls are parked until somebody else's reservation ends. They are not in flight.
    pub parked: usize,
    /// What the first [`MAX_USAGES`] namespaces in the order of their names have on record, as it
    /// is counted for quotas: purged or not.
    pub usages: Usages,
    /// Whether there are more.
    pub usages_capped: bool,
    /// No fencing token above this one has been given; `None` where none was.
    pub fencing_high_water: Option<FencingToken>,
    /// Erases that have not ended, the oldest first.
    pub erases: Vec<Erase>,
}
