//! How RocksDB is set: its logs, what it holds in memory, when it flushes, and what it compresses
//! and filters. Which tables there are, and what lies in them, is in [`super::schema`].

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options,
};

use super::schema::{EXPIRY, HOLDS, META, RECORDS};
use crate::storage::StoreOptions;

/// Logs are flushed to tables past this size, so that a restart after a kill replays little.
const MAX_LOG_BYTES: u64 = 128 << 20;

/// At least so many log files are written over instead of allocated anew: an fdatasync on blocks
/// that exist takes about half the time of one that also allocates.
const RECYCLED_LOGS: usize = 6;

/// A table on its way to the disk is handed to it in pieces of so many bytes. Handed over as a
/// whole, with its last sync, a commit of the log would have to wait behind all of it.
const TABLE_BYTES_PER_WRITEBACK: u64 = 1 << 20;

/// A piece waits until the one before it is written: tables are made faster than a disk takes them,
/// and a commit of the log would have to wait behind all that is queued. The binding has no method
/// for it, but takes RocksDB's options by their names.
const ONE_PIECE_AT_A_TIME: &str = "strict_bytes_per_sync=true";

/// Of the database, however it is opened.
pub fn database() -> Options {
    let named = Options::default().get_options_from_string(ONE_PIECE_AT_A_TIME);
    let mut options = named.expect("RocksDB has this option");
    // The engine writes under one mutex.
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(MAX_LOG_BYTES);
    options.set_bytes_per_sync(TABLE_BYTES_PER_WRITEBACK);
    // A torn tail is what a power cut leaves: nothing in it was acknowledged. This is also the
    // only mode that goes with recycled logs.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_keep_log_file_num(4);
    options.set_log_level(LogLevel::Warn);
    options
}

/// Of the database where it is written to, and made if there is none.
pub fn database_to_write(options: &StoreOptions) -> Options {
    let mut database = database();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_recycle_log_file_num(recycled_logs(options));
    database
}

/// Of all tables.
pub fn families(options: &StoreOptions) -> [ColumnFamilyDescriptor; 4] {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    [
        ColumnFamilyDescriptor::new(RECORDS, records_options(options, &cache)),
        ColumnFamilyDescriptor::new(EXPIRY, index_options(options, &cache)),
        ColumnFamilyDescriptor::new(HOLDS, holds_options(options, &cache)),
        ColumnFamilyDescriptor::new(META, table_options(options)),
    ]
}

/// As many as one flush lets go: a log begins with each memtable, of the records and of the index
/// of expiry, whose entries are half as large.
fn recycled_logs(options: &StoreOptions) -> usize {
    (usize::from(options.memtables_per_flush) * 3 / 2).max(RECYCLED_LOGS)
}

fn table_options(options: &StoreOptions) -> Options {
    let mut table = Options::default();
    table.set_write_buffer_size(options.memtable_bytes);
    table.set_max_write_buffer_number(options.memtables_per_table.into());
    table.set_min_write_buffer_number_to_merge(options.memtables_per_flush.into());
    // What is flushed is soon merged, and much of it is over by then: only what stays is compressed.
    table.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
    table
}

fn records_options(options: &StoreOptions, cache: &Cache) -> Options {
    let mut table = table_options(options);
    // Most reads look for a key that is absent: a bloom filter in front of the memtable, and
    // one in front of each table, answer them without a search. The filters stay in memory
    // with their tables, outside the cache; evicted filters cost nine tenths of the rate.
    table.set_memtable_whole_key_filtering(true);
    // About 20 bits for each record of a full memtable: a larger filter would leave the
    // processor's cache, and each look at it would cost more than it saves.
    table.set_memtable_prefix_bloom_ratio(0.02);
    let mut blocks = block_options(options, cache);
    blocks.set_bloom_filter(10.0, false);
    table.set_block_based_table_factory(&blocks);
    table
}

fn block_options(options: &StoreOptions, cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    if options.filters_in_cache {
        // They are the last to be evicted, and those of the youngest tables never are.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    }
    blocks
}

fn index_options(options: &StoreOptions, cache: &Cache) -> Options {
    let mut table = table_options(options);
    table.set_block_based_table_factory(&block_options(options, cache));
    table
}

fn holds_options(options: &StoreOptions, cache: &Cache) -> Options {
    let mut table = index_options(options, cache);
    // Entries go from the front: without this, whoever reads on from there would walk
    // over the remains of all that went before. In the index of expiry only the sweeper reads,
    // which knows how far it has come, and the merges that this asks for would cost more than
    // the one walk after a start.
    table.add_compact_on_deletion_collector_factory(4_096, 1_024, 0.5);
    table
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::storage::rocks::schema::Tables;

    /// What RocksDB says that it runs with, as lines of one section.
    fn said(path: &Path, section: &str) -> Vec<String> {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let latest = names.filter(|name| name.starts_with("OPTIONS-")).max();
        let text = fs::read_to_string(path.join(latest.expect("it writes them down"))).unwrap();
        let lines = text.lines().map(str::trim).skip_while(|line| *line != section).skip(1);
        lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
    }

    fn assert_says(path: &Path, section: &str, wanted: &[&str]) {
        let said = said(path, section);
        for wanted in wanted {
            assert!(
                said.iter().any(|line| line == wanted),
                "{wanted} is not in {section}: {said:#?}"
            );
        }
    }

    #[test]
    fn rocksdb_runs_with_what_promises_and_pauses_rest_on() {
        let directory = tempfile::tempdir().unwrap();
        let _tables = Tables::open(directory.path(), &StoreOptions::default()).unwrap();
        assert_says(
            directory.path(),
            "[DBOptions]",
            &[
                "wal_recovery_mode=kPointInTimeRecovery",
                "paranoid_checks=true",
                "manual_wal_flush=false",
                "max_total_wal_size=134217728",
                "recycle_log_file_num=24",
                "bytes_per_sync=1048576",
                "strict_bytes_per_sync=true",
            ],
        );
        for family in [RECORDS, EXPIRY, HOLDS, META] {
            assert_says(
                directory.path(),
                &format!("[CFOptions \"{family}\"]"),
                &[
                    "write_buffer_size=4194304",
                    "min_write_buffer_number_to_merge=16",
                    "max_write_buffer_number=33",
                ],
            );
        }
    }

    #[test]
    fn with_few_memtables_as_many_logs_are_written_over_as_ever() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            memtables_per_flush: 1,
            memtables_per_table: 2,
            ..StoreOptions::default()
        };
        let _tables = Tables::open(directory.path(), &options).unwrap();
        assert_says(directory.path(), "[DBOptions]", &["recycle_log_file_num=6"]);
        assert_says(
            directory.path(),
            "[CFOptions \"records\"]",
            &["min_write_buffer_number_to_merge=1", "max_write_buffer_number=2"],
        );
    }
}
