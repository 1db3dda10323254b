//! How one limit on memory becomes many: what each part of the server may take of it, and what
//! settings that were given would take all the same.
//!
//! | part | share | what it comes to |
//! |---|---|---|
//! | the program, its threads | 64 MiB | |
//! | RocksDB's block cache, filters and indices in it | 20 % of the rest | `block_cache_bytes` |
//! | RocksDB's memtables: 8, two of which a batch may have made larger | 20 % | `memtable_bytes` |
//! | large messages, of which there may be three copies | 15 % | `max_large_message_bytes` |
//! | what commands bring and answers carry in the engine, and a copy of it | 10 % | |
//! | open calls, 16 KiB each | 10 % | calls in all; `max_waiting` is at most half of them |
//! | connections, 96 KiB each with what they have sent and nobody has read | 15 % | `max_connections` |
//! | what allocators keep | 10 % | |
//!
//! Sizes were measured (see the README) and rounded up. A setting that is given is taken as it
//! is, and does not change the shares of others; what all of them come to must not be more than
//! the limit.
//!
//! # Why small memtables, and no write buffer manager
//!
//! A random key finds its place sooner among fewer others, and what is flushed together is compacted
//! less often: so memtables are small, and where memory has no limit several are flushed as one.
//!
//! RocksDB stops writers when all memtables of a table are full, so their number and size are a
//! bound that holds. Its write buffer manager is either only a hint to flush early, or it stops
//! writers until a flush has ended, also where that flush has failed and never will.

use super::value::{Size, Value as _};
use super::{Setting, Settings};

/// What is not shared out.
const PROGRAM: usize = 64 << 20;

/// How many memtables each of four tables may have where memory has a limit: each of them may be
/// larger by a batch, so there are few.
const MEMTABLES_PER_TABLE: u8 = 2;
const MEMTABLES: usize = 4 * MEMTABLES_PER_TABLE as usize;

/// The most that one of them has by itself where memory has a limit: they are flushed one by one,
/// and a table that is too small is merged too often.
const MAX_MEMTABLE: usize = 16 << 20;

/// How many copies of a large message there may be: as it arrives, as it is decided, and as it
/// is written.
const COPIES: usize = 3;

/// What an open call takes, with a message that is not large.
const CALL: usize = 16 << 10;

/// What a connection takes.
const CONNECTION: usize = 96 << 10;

/// What a message may have before it counts as large, where memory has a limit.
const SMALL_MESSAGE: usize = 8 << 10;

/// The most that a caller may send before the server has read it, on one connection; with and
/// without a limit. h2 closes a connection whose small unread frames outrun half of it: the
/// smaller one leaves room for a thousand.
const WINDOWS: (usize, usize) = (512 << 10, 16 << 20);

/// What memory is for, as far as no setting says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What commands on their way bring and answers carry in the engine, in bytes.
    pub max_in_flight_bytes: usize,
    /// How many calls may be open, all connections together.
    pub max_calls: usize,
    /// What each message may have before it counts as large, in bytes.
    pub small_message_bytes: usize,
    /// The flow-control window of a connection, in bytes.
    pub connection_window_bytes: usize,
    /// How many memtables each table may have.
    pub memtables_per_table: u8,
    /// How many of them are flushed together.
    pub memtables_per_flush: u8,
    /// How many records, each of any size, are read together where several are reserved, or over.
    pub records_read_together: u8,
    /// Whether filters and indices of tables lie in the block cache, where they are bounded and
    /// may have to be read again.
    pub filters_in_cache: bool,
}

impl MemoryPlan {
    /// The plan for this limit.
    pub fn within(limit: Option<usize>) -> Self {
        let Some(limit) = limit else {
            return Self {
                max_in_flight_bytes: 256 << 20,
                max_calls: usize::MAX,
                small_message_bytes: 64 << 10,
                connection_window_bytes: WINDOWS.1,
                memtables_per_table: 33,
                memtables_per_flush: 16,
                records_read_together: 32,
                filters_in_cache: false,
            };
        };
        let unit = twentieth_of(limit);
        Self {
            max_in_flight_bytes: unit,
            max_calls: (2 * unit / CALL).max(1),
            small_message_bytes: SMALL_MESSAGE,
            connection_window_bytes: WINDOWS.0,
            memtables_per_table: MEMTABLES_PER_TABLE,
            memtables_per_flush: 1,
            records_read_together: 1,
            filters_in_cache: true,
        }
    }
}

/// A twentieth of what is shared out: all shares are some of them.
fn twentieth_of(limit: usize) -> usize {
    limit.saturating_sub(PROGRAM) / 20
}

/// What settings come to that are not given, by their names. None is more than its default,
/// but for memtables, of which there are fewer, and the block cache, which has use for whatever
/// there is.
pub(super) fn derived(limit: usize) -> Vec<(&'static str, String)> {
    let unit = twentieth_of(limit);
    let mebibytes = |bytes: usize| Size((bytes >> 20 << 20).max(1 << 20)).show();
    let at_most = |name: &str, number: usize| {
        let default = Setting::named(name).expect("it is a setting").default;
        let default = default.parse().expect("its default is a number");
        number.clamp(1, default).to_string()
    };
    vec![
        ("block_cache_bytes", mebibytes(4 * unit)),
        ("memtable_bytes", mebibytes((2 * unit / MEMTABLES).min(MAX_MEMTABLE))),
        ("max_large_message_bytes", mebibytes(3 * unit / COPIES)),
        ("max_waiting", at_most("max_waiting", 2 * unit / CALL / 2)),
        ("max_connections", at_most("max_connections", 3 * unit / CONNECTION)),
    ]
}

/// What settings take of the limit: the name of each, how many bytes it comes to, and its share.
fn taken(settings: &Settings, unit: usize) -> [(&'static str, usize, usize); 5] {
    let times = |number: usize, bytes: usize| number.saturating_mul(bytes);
    let memtables = times(settings.memtable_bytes, MEMTABLES).saturating_add(2 * unit);
    [
        ("block_cache_bytes", settings.block_cache_bytes, 4 * unit),
        ("memtable_bytes", memtables, 4 * unit),
        ("max_large_message_bytes", times(settings.max_large_message_bytes, COPIES), 3 * unit),
        // They are open calls, and have their share with all others.
        ("max_waiting", times(settings.max_waiting, 2 * CALL), 2 * unit),
        ("max_connections", times(settings.max_connections, CONNECTION), 3 * unit),
    ]
}

/// Which settings take more than their share, and why that is too much: none where all of them
/// together come to no more than the limit.
pub(super) fn excess(settings: &Settings, limit: usize) -> Vec<(&'static str, String)> {
    let unit = twentieth_of(limit);
    let taken = taken(settings, unit);
    // What is in the engine, and what allocators keep, is no setting.
    let others = PROGRAM + 4 * unit;
    let sum = taken.iter().fold(others, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
    if sum <= limit {
        return Vec::new();
    }
    let mebibytes = |bytes: usize| format!("{} MiB", bytes.div_ceil(1 << 20));
    let above = taken.into_iter().filter(|(_, bytes, share)| bytes > share);
    above
        .map(|(name, bytes, share)| {
            let problem = format!(
                "comes to {} of memory, where its share is {}, and all together to {}, which is \
                 above memory_limit; give less, or a higher memory_limit",
                mebibytes(bytes),
                mebibytes(share),
                mebibytes(sum),
            );
            (name, problem)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived_of(limit: usize, wanted: &str) -> String {
        derived(limit).into_iter().find(|(name, _)| *name == wanted).unwrap().1
    }

    #[test]
    fn half_a_gibibyte_is_shared_out() {
        let limit = 512 << 20;
        assert_eq!(derived_of(limit, "block_cache_bytes"), "89MiB");
        assert_eq!(derived_of(limit, "memtable_bytes"), "5MiB");
        assert_eq!(derived_of(limit, "max_large_message_bytes"), "22MiB");
        assert_eq!(derived_of(limit, "max_waiting"), "1433");
        assert_eq!(derived_of(limit, "max_connections"), "716");
        let plan = MemoryPlan::within(Some(limit));
        assert_eq!(plan.max_calls, 2_867);
        assert_eq!(plan.max_in_flight_bytes >> 20, 22);
    }

    #[test]
    fn more_memory_than_the_defaults_need_goes_to_the_cache() {
        let limit = 64 << 30;
        assert_eq!(derived_of(limit, "memtable_bytes"), "16MiB");
        assert_eq!(derived_of(limit, "max_connections"), "16384");
        assert_eq!(derived_of(limit, "max_waiting"), "16384");
        assert_eq!(derived_of(limit, "block_cache_bytes"), "13094MiB");
    }

    #[test]
    fn what_is_derived_is_within_bounds_and_within_the_limit() {
        for limit in [384 << 20, 500 << 20, 1 << 30, 64 << 30, 1 << 40] {
            for (name, value) in derived(limit) {
                let setting = Setting::named(name).unwrap();
                let (min, max) = setting.bounds.unwrap();
                let read = |text: &str| Size::read(text).unwrap().0;
                assert!((read(min)..=read(max)).contains(&read(&value)), "{name} = {value}");
            }
        }
    }
}
