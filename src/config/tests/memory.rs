//! One limit on memory, and what it comes to beside settings that are given; and where backups
//! may not lie.

use super::*;

fn in_force(sources: &Sources, name: &str) -> (String, String) {
    let resolved = Resolved::of(sources).unwrap();
    let effective = resolved.effective.iter().find(|effective| effective.name == name).unwrap();
    (effective.value.clone(), effective.origin.to_string())
}

fn said(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

#[test]
fn without_a_limit_nothing_is_shared_out() {
    assert_eq!(Settings::default().memory_limit, None);
    let plan = MemoryPlan::within(None);
    assert_eq!((plan.max_calls, plan.small_message_bytes), (usize::MAX, 64 << 10));
    assert!(!plan.filters_in_cache);
    assert_eq!(plan.records_read_together, 32);
}

#[test]
fn a_limit_is_shared_out_to_what_is_not_given() {
    let sources = flags(&[("memory_limit", "512MiB"), ("max_connections", "100")]);
    assert_eq!(in_force(&sources, "memory_limit"), said("512MiB", "--memory-limit"));
    assert_eq!(in_force(&sources, "block_cache_bytes"), said("89MiB", "memory_limit"));
    assert_eq!(in_force(&sources, "memtable_bytes"), said("5MiB", "memory_limit"));
    assert_eq!(in_force(&sources, "max_connections"), said("100", "--max-connections"));
    assert_eq!(in_force(&sources, "max_in_flight"), said("16384", "default"));
    assert_eq!(MemoryPlan::within(Some(512 << 20)).records_read_together, 1);
}

#[test]
fn every_limit_within_its_bounds_can_be_shared_out() {
    for limit in ["384MiB", "500MiB", "1GiB", "100GiB", "1TiB"] {
        Settings::resolve(&flags(&[("memory_limit", limit)])).unwrap();
    }
    assert_eq!(faults(&flags(&[("memory_limit", "383MiB")])).len(), 1);
}

#[test]
fn what_takes_more_than_the_limit_leaves_is_a_fault() {
    let sources = flags(&[("memory_limit", "512MiB"), ("block_cache_bytes", "400MiB")]);
    let found = faults(&sources);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("block_cache_bytes (from --block-cache-bytes): "), "{found:?}");
    assert!(found[0].contains("above memory_limit; give less, or a higher memory_limit"));

    // One may take more where another takes less.
    let sources = flags(&[
        ("memory_limit", "512MiB"),
        ("block_cache_bytes", "100MiB"),
        ("max_large_message_bytes", "16MiB"),
    ]);
    assert!(Settings::resolve(&sources).is_ok());
}

#[test]
fn a_limit_above_that_of_the_control_group_is_a_fault() {
    let group =
        ControlGroup { path: PathBuf::from("/sys/fs/cgroup/memory.max"), limit_bytes: 1 << 29 };
    let within = |limit: &str| Sources {
        control_group: Some(group.clone()),
        ..flags(&[("memory_limit", limit)])
    };
    let found = faults(&within("513MiB"));
    assert_eq!(
        found,
        ["memory_limit (from --memory-limit): \"513MiB\" is more than the 536870912 bytes that \
          /sys/fs/cgroup/memory.max leaves to the process; give less"]
    );
    assert!(Settings::resolve(&within("512MiB")).is_ok());
    assert!(
        Settings::resolve(&Sources { control_group: Some(group), ..Sources::default() }).is_ok()
    );
}

#[test]
fn backups_and_the_store_lie_apart() {
    let with = |store: &str, dir: &str| flags(&[("store", store), ("backup_dir", dir)]);
    let settings = Settings::resolve(&with("rocksdb:/var/data", "/var/backups")).unwrap();
    assert_eq!(settings.backup_dir, Some(PathBuf::from("/var/backups")));
    assert_eq!(Settings::default().backup_dir, None);
    for (store, dir) in [
        ("rocksdb:/var/data", "/var/data"),
        ("rocksdb:/var/data", "/var/data/backups"),
        ("rocksdb:/var/data", "/var"),
        ("rocksdb:./data", "data"),
        ("memory:", "/var/backups"),
        ("rocksdb:/var/data", ""),
    ] {
        let found = faults(&with(store, dir));
        assert_eq!(found.len(), 1, "{store} {dir}");
        assert!(found[0].starts_with("backup_dir (from --backup-dir): "), "{found:?}");
    }
    // Names that only begin alike are apart.
    assert!(Settings::resolve(&with("rocksdb:/var/data", "/var/data-backups")).is_ok());
}
