//! RocksDB's own figures, as properties: cheap to ask for, and asked for only when somebody
//! looks. What they mean is said at [`RocksFigures`].

use super::schema::{FAMILIES, RECORDS, Tables};
use crate::storage::measured::{RocksFigures, TableFigures};

/// How many levels RocksDB has unless it is told otherwise.
const LEVELS: usize = 7;

impl Tables {
    /// What RocksDB tells of itself.
    pub fn figures(&self) -> RocksFigures {
        // All tables share one cache, and what concerns the database is told by any of them.
        let of = |property| self.figure(RECORDS, property);
        RocksFigures {
            block_cache_bytes: of("rocksdb.block-cache-usage"),
            block_cache_capacity_bytes: of("rocksdb.block-cache-capacity"),
            running_compactions: of("rocksdb.num-running-compactions"),
            running_flushes: of("rocksdb.num-running-flushes"),
            background_errors: of("rocksdb.background-errors"),
            write_stopped: of("rocksdb.is-write-stopped") > 0,
            delayed_write_rate: of("rocksdb.actual-delayed-write-rate"),
            tables: FAMILIES.iter().map(|name| self.table_figures(name)).collect(),
        }
    }

    fn table_figures(&self, name: &'static str) -> TableFigures {
        let of = |property: &str| self.figure(name, property);
        let stalls = self
            .db
            .property_value_cf(self.family(name), "rocksdb.cf-write-stall-stats")
            .ok()
            .flatten()
            .unwrap_or_default();
        let levels = (0..LEVELS).map(|level| of(&format!("rocksdb.num-files-at-level{level}")));
        TableFigures {
            name,
            memtable_bytes: of("rocksdb.cur-size-all-mem-tables"),
            immutable_memtables: of("rocksdb.num-immutable-mem-table"),
            compaction_pending: of("rocksdb.compaction-pending") > 0,
            pending_compaction_bytes: of("rocksdb.estimate-pending-compaction-bytes"),
            live_bytes: of("rocksdb.live-sst-files-size"),
            reader_bytes: of("rocksdb.estimate-table-readers-mem"),
            delays: stall_count(&stalls, "total-delays"),
            stops: stall_count(&stalls, "total-stops"),
            level_files: levels.collect(),
        }
    }

    /// A number that RocksDB gives under this name, or else 0.
    fn figure(&self, family: &str, property: &str) -> u64 {
        let figure = self.db.property_int_value_cf(self.family(family), property);
        figure.ok().flatten().unwrap_or(0)
    }
}

/// The count under `name` in RocksDB's line about stalls, `name: 3, other-name: 4`.
fn stall_count(stalls: &str, name: &str) -> u64 {
    let counts = stalls.split(", ").filter_map(|pair| pair.rsplit_once(": "));
    let mut named = counts.filter(|(before, _)| before.ends_with(name));
    named.next().and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreOptions;

    #[test]
    fn the_figures_of_an_open_store_are_those_of_its_tables_and_settings() {
        let root = tempfile::tempdir().unwrap();
        let options = StoreOptions { block_cache_bytes: 5 << 20, ..StoreOptions::default() };
        let tables = Tables::open(&root.path().join("data"), &options).unwrap();
        let figures = tables.figures();
        assert_eq!(figures.block_cache_capacity_bytes, 5 << 20);
        let names: Vec<_> = figures.tables.iter().map(|table| table.name).collect();
        assert_eq!(names, ["records", "expiry", "holds", "meta"]);
        assert!(figures.tables.iter().all(|table| table.memtable_bytes > 0));
        assert!(figures.tables.iter().all(|table| table.level_files.len() == LEVELS));
        assert!(!figures.write_stopped && figures.delayed_write_rate == 0);

        // A figure that RocksDB does not know is 0 and would look like one that is.
        let known = |property| tables.db.property_int_value(property).unwrap().is_some();
        for property in [
            "rocksdb.block-cache-usage",
            "rocksdb.num-running-compactions",
            "rocksdb.num-running-flushes",
            "rocksdb.background-errors",
            "rocksdb.is-write-stopped",
            "rocksdb.actual-delayed-write-rate",
            "rocksdb.num-immutable-mem-table",
            "rocksdb.compaction-pending",
            "rocksdb.estimate-pending-compaction-bytes",
            "rocksdb.live-sst-files-size",
            "rocksdb.estimate-table-readers-mem",
            "rocksdb.num-files-at-level6",
        ] {
            assert!(known(property), "{property}");
        }
        let stalls = tables.db.property_value("rocksdb.cf-write-stall-stats").unwrap().unwrap();
        assert!(
            stalls.contains("total-delays: 0") && stalls.contains("total-stops: 0"),
            "{stalls}"
        );
    }

    #[test]
    fn stalls_are_counted_by_their_names() {
        let stalls =
            "Write Stall (count): memtable-limit-stops: 2, total-delays: 7, total-stops: 9\n";
        assert_eq!(
            (stall_count(stalls, "total-delays"), stall_count(stalls, "total-stops")),
            (7, 9)
        );
        assert_eq!(stall_count(stalls, "memtable-limit-stops"), 2);
        assert_eq!((stall_count(stalls, "unheard-of"), stall_count("", "total-stops")), (0, 0));
    }
}
