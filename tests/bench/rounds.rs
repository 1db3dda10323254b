//! What is measured in turns, A B C A B C: every load of the wanted groups, once in each round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::load::{Load, Window};
use crate::options::{Group, Options};
use crate::place::Place;
use crate::stage::{Kept, Stage, Subject};

/// A load on a subject.
pub type Entry = (Subject, Load);

/// How four connections and many are loaded, which is how services use gRPC, and how they do not.
pub const FOUR: Load = Load::new("reserve", 4, 64);
pub const MANY: Load = Load::new("reserve", 256, 1);
pub const ONE: Load = Load::new("reserve", 1, 1);
/// PostgreSQL's clients hold one connection for each call in flight.
pub const POOL: Load = Load::new("reserve", 64, 1);
/// 800 keys in flight in batches of a hundred; and as many with 16 commands at a time on each
/// connection, which is what `redis-benchmark -P 16` does.
pub const BATCH: Load = Load::new("batch", 2, 4);
pub const PIPELINED: Load = Load::new("reserve", 50, 16);

pub const WORKLOADS: [&str; 6] = ["duplicate", "replay", "noop", "lookup", "mix", "hot-key"];
/// A Reserve and then a Complete, with a small and with a larger response.
pub const CYCLE: Load = Load { response_bytes: 100, ..Load::new("cycle", 4, 64) };
pub const CYCLE_1K: Load = Load::new("cycle", 4, 64);

/// How many calls are in flight on all connections of the curves.
pub const CONCURRENCY: [u32; 5] = [1, 16, 64, 256, 1_024];

/// A load with so many calls in flight, as each subject is used: on four connections, and on
/// PostgreSQL on as many as calls.
pub fn concurrent(subject: Subject, workload: &'static str, calls: u32) -> Load {
    match (subject, calls) {
        (Subject::Postgres, _) => Load::new(workload, calls, 1),
        (_, 1) => Load::new(workload, 1, 1),
        _ => Load::new(workload, 4, calls / 4),
    }
}

/// Everything that was measured in rounds.
#[derive(Default, Serialize)]
pub struct Book {
    /// One window for each round.
    #[serde(serialize_with = "as_rows")]
    pub windows: BTreeMap<Entry, Vec<Window>>,
    /// One median for each round, in microseconds.
    pub fdatasync: Vec<f64>,
    /// What each server said after the last round.
    #[serde(serialize_with = "as_rows")]
    pub kept: BTreeMap<Subject, Kept>,
}

/// The entries of one round, in their order: what is compared follows each other.
pub fn entries(options: &Options, subjects: &BTreeSet<Subject>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut add = |subject, load| {
        if subjects.contains(&subject) && !entries.contains(&(subject, load)) {
            entries.push((subject, load));
        }
    };
    if options.wants(Group::Peers) {
        for load in [FOUR, MANY] {
            add(Subject::Onced, load);
            add(Subject::Onced, load.noop());
            add(Subject::Redis, load);
        }
        add(Subject::Etcd, FOUR);
        add(Subject::Onced, POOL);
        add(Subject::Onced, POOL.noop());
        add(Subject::Postgres, POOL);
        add(Subject::Onced, BATCH);
        add(Subject::Redis, PIPELINED);
        for subject in [Subject::Onced, Subject::Redis, Subject::Postgres, Subject::Etcd] {
            add(subject, ONE);
        }
    }
    if options.wants(Group::Workloads) {
        for load in [FOUR, CYCLE, CYCLE_1K] {
            add(Subject::Onced, load);
        }
        for workload in WORKLOADS {
            add(Subject::Onced, Load::new(workload, 4, 64));
        }
    }
    if options.wants(Group::Concurrency) {
        for calls in CONCURRENCY {
            add(Subject::Onced, concurrent(Subject::Onced, "reserve", calls));
            add(Subject::Onced, concurrent(Subject::Onced, "noop", calls));
            for subject in [Subject::Redis, Subject::Postgres, Subject::Etcd] {
                // One process for each of a thousand calls is no use of PostgreSQL.
                if subject != Subject::Postgres || calls <= 256 {
                    add(subject, concurrent(subject, "reserve", calls));
                }
            }
        }
    }
    if options.wants(Group::Features) {
        for load in [FOUR, FOUR.noop()] {
            for subject in [Subject::Onced, Subject::OncedTls, Subject::OncedMetrics] {
                add(subject, load);
            }
        }
    }
    if options.wants(Group::Records) {
        add(Subject::Onced, FOUR);
        add(Subject::OncedLarge, FOUR);
        add(Subject::Onced, CYCLE);
        add(Subject::OncedLarge, CYCLE);
    }
    entries
}

impl Book {
    /// Measures every entry once and writes it down.
    pub fn round(
        &mut self,
        stage: &mut Stage<'_>,
        place: &Place,
        entries: &[Entry],
    ) -> anyhow::Result<()> {
        for (subject, load) in entries {
            if *load == ONE && *subject == Subject::Onced {
                self.fdatasync.push(place.fdatasync_micros(Duration::from_secs(1))?);
            }
            let window = stage.measure(*subject, *load)?;
            eprintln!(
                "  {:<20} {:<9} {:>8}  {:>9.0}/s  p50 {:>7.0} µs  p99 {:>8.0} µs  CPU {:.1} + {:.1} µs",
                subject.name(),
                load.workload,
                load.shape(),
                window.rate,
                window.p50_micros,
                window.p99_micros,
                window.server_micros_per_call,
                window.client_micros_per_call,
            );
            self.windows.entry((*subject, *load)).or_default().push(window);
        }
        self.kept.extend(stage.close()?);
        Ok(())
    }

    /// A figure of every round in which it was measured.
    pub fn figures(&self, entry: Entry, figure: impl Fn(&Window) -> f64) -> Vec<f64> {
        self.windows.get(&entry).into_iter().flatten().map(figure).collect()
    }
}

/// A map whose keys are no text, as a list.
fn as_rows<K: Serialize, V: Serialize, S: serde::Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}
