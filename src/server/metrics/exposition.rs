//! What the figures are called, and how they are written for Prometheus: every name, its help
//! and its labels are in this file.
//!
//! Names follow Prometheus's conventions: base units, `_total` for what only rises. No label
//! holds what callers can make up: namespaces are named where the settings list them, and are
//! `other` together elsewhere; keys and owner tokens are in none.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::census::PHASES;
use super::look::{Seen, Sources, State, Watch, records};
use super::process::Process;
use crate::api::calls::{End, Method};
use crate::api::shadow::WouldBe;
use crate::measure::Tally;
use crate::storage::measured::{RocksFigures, TableFigures};
use crate::storage::stats::Stats;

/// What all namespaces are called together that the settings do not list.
const OTHERS: &str = "other";

/// The two formats that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own text format.
    Prometheus,
}

impl Format {
    /// The format for whoever sends this as `Accept`: OpenMetrics where it is named.
    pub fn for_whoever_accepts(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// How it is called in `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything, as text.
pub(super) fn render(watch: &Watch, seen: &Seen, format: Format) -> Option<String> {
    let mut text = String::with_capacity(64 << 10);
    let mut registry = Registry::default();
    // A registry keeps its collectors for ever, and what is seen lives as long as this call.
    let snapshot = Snapshot::of(watch, seen);
    registry.register_collector(Box::new(snapshot));
    match format {
        Format::OpenMetrics => text::encode(&mut text, &registry).ok()?,
        Format::Prometheus => prometheus_text::encode(&mut text, &registry).ok()?,
    }
    Some(text)
}

/// One metric with the values of all its labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Values {
    Counters(Vec<(Labels, u64)>),
    Seconds(f64),
    Gauges(Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, Tally)>),
}

/// All metrics at one moment.
#[derive(Debug, Default)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = match &self.values {
            Values::Counters(_) | Values::Seconds(_) => MetricType::Counter,
            Values::Gauges(_) => MetricType::Gauge,
            Values::Histograms(_) => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.values {
            Values::Counters(counters) => counters.iter().try_for_each(|(labels, value)| {
                ConstCounter::new(*value).encode(metric.encode_family(labels)?)
            }),
            Values::Seconds(value) => ConstCounter::new(*value).encode(metric),
            Values::Gauges(gauges) => gauges.iter().try_for_each(|(labels, value)| {
                ConstGauge::new(*value).encode(metric.encode_family(labels)?)
            }),
            Values::Histograms(tallies) => tallies.iter().try_for_each(|(labels, tally)| {
                let (sum, count, buckets) = (tally.sum(), tally.count(), tally.buckets());
                metric
                    .encode_family(labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }),
        }
    }
}

/// Labels from their names and values. One without a value is as good as none.
fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    let given = labels.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| (name, value.to_owned())).collect()
}

impl Snapshot {
    fn of(watch: &Watch, seen: &Seen) -> Self {
        let mut snapshot = Self::default();
        snapshot.of_server(watch, seen);
        snapshot.of_calls(&watch.sources);
        snapshot.of_transport(&watch.sources);
        snapshot.of_engine(&watch.sources, seen);
        if let Some((stats, age)) = &seen.stats {
            snapshot.of_records(&watch.sources, stats, *age, seen);
        }
        if let Some(figures) = &seen.measured.rocksdb {
            snapshot.of_rocksdb(figures);
        }
        snapshot.of_process(&Process::now());
        snapshot
    }

    fn add(&mut self, name: &'static str, help: &'static str, values: Values) {
        self.0.push(Family { name, help, values });
    }

    /// A counter without labels; `_total` is put behind its name.
    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, Values::Counters(vec![(Labels::new(), value)]));
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, Values::Gauges(vec![(Labels::new(), value)]));
    }

    fn count(&mut self, name: &'static str, help: &'static str, value: impl TryInto<u64>) {
        self.gauge(name, help, value.try_into().unwrap_or(u64::MAX) as f64);
    }

    fn of_server(&mut self, watch: &Watch, seen: &Seen) {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let build = labels([
            ("version", env!("CARGO_PKG_VERSION")),
            ("profile", profile),
            ("target", &target),
        ]);
        self.add(
            "onced_build_info",
            "What is running: always 1",
            Values::Gauges(vec![(build, 1.0)]),
        );
        let up = watch.up_since.elapsed().as_secs_f64();
        self.gauge("onced_uptime_seconds", "How long the server has been up", up);
        let states = State::ALL.map(|state| {
            let is_it = if state == seen.state { 1.0 } else { 0.0 };
            (labels([("state", state.name())]), is_it)
        });
        self.add(
            "onced_state",
            "1 for the state that the server is in, 0 for the others: recovering, serving, full \
             (the disk, nearly), poisoned (a commit failed: restart it), draining",
            Values::Gauges(states.into()),
        );
    }

    fn of_calls(&mut self, sources: &Sources) {
        let meters = &sources.observer.meters;
        let label = |method: Method, end: End| {
            let method = ("method", method.name());
            labels([method, ("outcome", end.outcome()), ("reason", end.reason())])
        };
        let of_method = |method: Method| labels([("method", method.name())]);
        let mut calls = Vec::new();
        let mut items = Vec::new();
        for method in Method::ALL {
            let ends = End::all().filter(|end| end.is_of(method));
            calls.extend(ends.map(|end| (label(method, end), meters.calls(method, end))));
            if let Some(item) = method.of_items() {
                let ends = End::all().filter(|end| end.is_of(item) && *end != End::LEFT);
                items.extend(ends.map(|end| (label(method, end), meters.batch_items(method, end))));
            }
        }
        self.add(
            "onced_calls",
            "Calls by what they came to; refused is for the caller or for what is on record, \
             failed for the server, left for callers that did not wait for the answer",
            Values::Counters(calls),
        );
        self.add("onced_batch_items", "What was in batches, likewise", Values::Counters(items));
        let took = |method| (of_method(method), meters.durations(method, false));
        self.add(
            "onced_call_duration_seconds",
            "How long calls took that did not ask to wait, from the decoded request to the answer",
            Values::Histograms(Method::ALL.map(took).into()),
        );
        let waiting = Method::ALL.into_iter().filter(|method| method.may_wait());
        let waited = waiting.map(|method| (of_method(method), meters.durations(method, true)));
        self.add(
            "onced_waiting_call_duration_seconds",
            "How long calls took that asked to wait for somebody else's reservation",
            Values::Histograms(waited.collect()),
        );
        let slow = |method| (of_method(method), meters.slow_calls(method));
        self.add(
            "onced_slow_calls",
            "Calls that took longer than slow_call, besides waits that they asked for",
            Values::Counters(Method::ALL.map(slow).into()),
        );
        let mut by_namespace = Vec::new();
        for (place, name) in meters.namespaces() {
            for end in End::all() {
                let count = meters.namespace_calls(place, end);
                // A thousand series that never were would only hide the others; those that
                // always are begin at zero.
                if count > 0 || end.reason().is_empty() {
                    let namespace = ("namespace", name.unwrap_or(OTHERS));
                    let (outcome, reason) = (end.outcome(), end.reason());
                    let label = labels([namespace, ("outcome", outcome), ("reason", reason)]);
                    by_namespace.push((label, count));
                }
            }
        }
        self.add(
            "onced_namespace_calls",
            "Calls about one namespace that is listed in the settings, or about any other; not \
             batches, which may be about several",
            Values::Counters(by_namespace),
        );
        let mut shadows = Vec::new();
        for (namespace, tally) in sources.policies.shadow_tallies() {
            shadows.extend(WouldBe::ALL.map(|would_be| {
                let name = ("would_be", would_be.name());
                (labels([("namespace", namespace.as_str()), name]), tally.of(would_be))
            }));
        }
        self.add(
            "onced_shadow_answers",
            "What callers of shadowed namespaces would have been told",
            Values::Counters(shadows),
        );
    }

    fn of_transport(&mut self, sources: &Sources) {
        let Sources { connections, access, budget, settings, observer, .. } = sources;
        self.count("onced_connections", "Open connections for calls", connections.open());
        self.count(
            "onced_connections_limit",
            "How many there may be: max_connections",
            settings.max_connections,
        );
        self.counter(
            "onced_connections_accepted",
            "Connections that were accepted",
            connections.accepted(),
        );
        self.counter(
            "onced_connections_refused",
            "Connections that were refused because there were too many",
            connections.refused(),
        );
        self.counter(
            "onced_tls_handshakes_failed",
            "TLS handshakes that came to nothing: no TLS, no trusted client certificate, no time",
            access.failed_handshakes(),
        );
        let turned_away = [
            (labels([("reason", "UNAUTHENTICATED")]), access.unauthenticated()),
            (labels([("reason", "PERMISSION_DENIED")]), access.denied()),
        ];
        self.add(
            "onced_callers_turned_away",
            "Calls, and items of batches, that were refused for who called",
            Values::Counters(turned_away.into()),
        );
        self.count(
            "onced_large_message_bytes",
            "What large messages hold in memory beyond 64 KiB each",
            budget.held(),
        );
        self.count(
            "onced_large_message_limit_bytes",
            "How much they may hold: max_large_message_bytes",
            settings.max_large_message_bytes,
        );
        self.counter(
            "onced_large_messages_refused",
            "Requests and answers for which there was no room; callers get OVERLOADED, or \
             OUTCOME_UNKNOWN for what is done",
            budget.refused(),
        );
        if let Some(traces) = &observer.traces {
            let exported = traces.exported();
            self.counter(
                "onced_trace_spans_exported",
                "Spans that the OTLP receiver took",
                exported.exported(),
            );
            let dropped = [
                (labels([("cause", "queue_full")]), exported.overflowed()),
                (labels([("cause", "export_failed")]), exported.failed()),
            ];
            self.add(
                "onced_trace_spans_dropped",
                "Spans that were dropped: too many waited, or the receiver did not take them",
                Values::Counters(dropped.into()),
            );
        }
    }

    fn of_engine(&mut self, sources: &Sources, seen: &Seen) {
        let measured = &seen.measured;
        self.count(
            "onced_calls_in_flight",
            "Calls that wait for their turn in the engine or for a sync",
            measured.in_flight,
        );
        self.count(
            "onced_calls_in_flight_limit",
            "How many there may be: max_in_flight",
            sources.settings.max_in_flight,
        );
        self.count("onced_calls_in_flight_bytes", "What they hold", measured.in_flight_bytes);
        self.add(
            "onced_batch_commands",
            "How many commands each batch of the engine had",
            Values::Histograms(vec![(Labels::new(), measured.batches.clone())]),
        );
        self.add(
            "onced_sync_duration_seconds",
            "How long each sync of the log to disk took",
            Values::Histograms(vec![(Labels::new(), measured.syncs.clone())]),
        );
        self.counter(
            "onced_purged_records",
            "Records whose space the sweeper has freed",
            measured.swept,
        );
        self.gauge(
            "onced_sweep_lag_seconds",
            "How far the sweeper is behind: how long ago the retention of the record was over \
             that it has come to; 0 where nothing is left",
            measured.sweep_lag.as_secs_f64(),
        );
        if let Some(disk) = measured.disk {
            self.count(
                "onced_disk_free_bytes",
                "Free space of the file system that the data directory is on",
                disk.free_bytes,
            );
            self.count("onced_disk_size_bytes", "How large it is", disk.size_bytes);
            self.count(
                "onced_disk_min_free_bytes",
                "With less free space new reservations are refused: min_free_disk_bytes",
                sources.settings.min_free_disk_bytes,
            );
        }
    }

    fn of_records(&mut self, sources: &Sources, stats: &Stats, age: Duration, seen: &Seen) {
        self.gauge(
            "onced_store_look_age_seconds",
            "How old the figures of the store are that have to be asked for: records, bytes, \
             parked, in doubt, erases. It rises where the store does not answer",
            age.as_secs_f64(),
        );
        self.count(
            "onced_records",
            "Records on record, those included that are over and not purged yet. Exact; with more \
             than 1,000 namespaces an estimate of the store",
            records(stats),
        );
        if let Some(phases) = seen.phases {
            let phases = PHASES.into_iter().zip(phases);
            let by_phase = phases.map(|(name, count)| (labels([("phase", name)]), count as f64));
            self.add(
                "onced_records_estimate",
                "Records by phase, from a walk that reads 1,000 records every ten seconds: exact \
                 for up to 1,000 records, a count of some minutes for up to 64,000, an estimate \
                 beyond",
                Values::Gauges(by_phase.collect()),
            );
        }
        self.count(
            "onced_records_in_doubt",
            "Reservations in doubt. Exact up to 10,000 leases with HOLD that have ended",
            stats.in_doubt,
        );
        let bytes: u64 = stats.usages.values().map(|usage| usage.bytes).sum();
        self.count(
            "onced_record_bytes",
            "Bytes of keys and stored records, as quotas count them; of the first 1,000 namespaces",
            bytes,
        );
        self.count(
            "onced_parked_calls",
            "Calls that are parked until somebody else's reservation ends",
            stats.parked,
        );
        self.count(
            "onced_parked_calls_limit",
            "How many there may be: max_waiting",
            sources.settings.max_waiting,
        );
        self.count("onced_erases", "Erases of namespaces that are not done", stats.erases.len());
        self.of_namespaces(sources, stats);
    }

    fn of_namespaces(&mut self, sources: &Sources, stats: &Stats) {
        let named: Vec<&str> =
            sources.observer.meters.namespaces().filter_map(|(_, name)| name).collect();
        if named.is_empty() {
            return;
        }
        let (mut keys, mut bytes, mut quota_keys, mut quota_bytes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut others = (0, 0);
        for (name, usage) in &stats.usages {
            if !named.iter().any(|listed| listed.as_bytes() == name.as_slice()) {
                others = (others.0 + usage.keys, others.1 + usage.bytes);
            }
        }
        let mut show = |name: &str, (count, size): (u64, u64)| {
            keys.push((labels([("namespace", name)]), count as f64));
            bytes.push((labels([("namespace", name)]), size as f64));
        };
        for name in &named {
            let usage = stats.usages.get(name.as_bytes()).copied().unwrap_or_default();
            show(name, (usage.keys, usage.bytes));
        }
        show(OTHERS, others);
        for (name, namespace) in &sources.settings.namespaces {
            let name = name.as_str();
            let is_named = named.contains(&name);
            if let Some(most) = namespace.quota.keys.filter(|_| is_named) {
                quota_keys.push((labels([("namespace", name)]), most as f64));
            }
            if let Some(most) = namespace.quota.bytes.filter(|_| is_named) {
                quota_bytes.push((labels([("namespace", name)]), most as f64));
            }
        }
        let by_namespace = [
            ("onced_namespace_keys", "Keys on record, as quotas count them", keys),
            ("onced_namespace_bytes", "Bytes of keys and records, as quotas count them", bytes),
            ("onced_namespace_quota_keys", "How many keys there may be", quota_keys),
            ("onced_namespace_quota_bytes", "How many bytes there may be", quota_bytes),
        ];
        for (name, help, values) in by_namespace {
            self.add(name, help, Values::Gauges(values));
        }
    }

    fn of_rocksdb(&mut self, figures: &RocksFigures) {
        self.count(
            "onced_rocksdb_block_cache_bytes",
            "What RocksDB's block cache holds",
            figures.block_cache_bytes,
        );
        self.count(
            "onced_rocksdb_block_cache_capacity_bytes",
            "What it may hold",
            figures.block_cache_capacity_bytes,
        );
        self.count(
            "onced_rocksdb_running_compactions",
            "Compactions that are running",
            figures.running_compactions,
        );
        self.count(
            "onced_rocksdb_running_flushes",
            "Flushes that are running",
            figures.running_flushes,
        );
        self.counter(
            "onced_rocksdb_background_errors",
            "Flushes and compactions that failed; the engine is poisoned by the first",
            figures.background_errors,
        );
        self.count(
            "onced_rocksdb_write_stopped",
            "1 while RocksDB takes no writes until a flush or a compaction has caught up",
            u64::from(figures.write_stopped),
        );
        self.count(
            "onced_rocksdb_delayed_write_bytes_per_second",
            "The rate that RocksDB slows writes down to; 0 where it does not",
            figures.delayed_write_rate,
        );
        let tables = &figures.tables;
        let by_table = |of: &dyn Fn(&TableFigures) -> u64| {
            let value = |table: &TableFigures| (labels([("table", table.name)]), of(table) as f64);
            Values::Gauges(tables.iter().map(value).collect())
        };
        self.add(
            "onced_rocksdb_memtable_bytes",
            "What the memtables of a table hold, those that wait for a flush included",
            by_table(&|table| table.memtable_bytes),
        );
        self.add(
            "onced_rocksdb_immutable_memtables",
            "Memtables that wait for a flush",
            by_table(&|table| table.immutable_memtables),
        );
        self.add(
            "onced_rocksdb_compaction_pending",
            "1 where a compaction is due",
            by_table(&|table| u64::from(table.compaction_pending)),
        );
        self.add(
            "onced_rocksdb_pending_compaction_bytes",
            "How much is to be compacted, roughly",
            by_table(&|table| table.pending_compaction_bytes),
        );
        self.add(
            "onced_rocksdb_live_sst_bytes",
            "What the live files of a table take",
            by_table(&|table| table.live_bytes),
        );
        self.add(
            "onced_rocksdb_table_reader_bytes",
            "What filters and indexes take outside the block cache, roughly",
            by_table(&|table| table.reader_bytes),
        );
        let levels = tables.iter().flat_map(|table| {
            table.level_files.iter().enumerate().map(|(level, files)| {
                (labels([("table", table.name), ("level", &level.to_string())]), *files as f64)
            })
        });
        self.add(
            "onced_rocksdb_level_files",
            "How many files a level of a table has",
            Values::Gauges(levels.collect()),
        );
        let stalls = tables.iter().flat_map(|table| {
            let stall = |kind, count| (labels([("table", table.name), ("kind", kind)]), count);
            [stall("delay", table.delays), stall("stop", table.stops)]
        });
        self.add(
            "onced_rocksdb_write_stalls",
            "How often RocksDB slowed writes down or stopped them",
            Values::Counters(stalls.collect()),
        );
    }

    fn of_process(&mut self, process: &Process) {
        if let Some(seconds) = process.cpu_seconds {
            self.add(
                "process_cpu_seconds",
                "CPU time that the process used",
                Values::Seconds(seconds),
            );
        }
        let figures = [
            (
                "process_resident_memory_bytes",
                "Memory that the process holds",
                process.resident_bytes.map(|it| it as f64),
            ),
            (
                "process_virtual_memory_bytes",
                "Its address space",
                process.virtual_bytes.map(|it| it as f64),
            ),
            (
                "process_open_fds",
                "Files and sockets that it has open",
                process.open_files.map(|it| it as f64),
            ),
            ("process_max_fds", "How many it may have open", process.max_files.map(|it| it as f64)),
            ("process_threads", "Its threads", process.threads.map(|it| it as f64)),
            (
                "process_start_time_seconds",
                "When it started, in seconds since 1970",
                process.started_at,
            ),
        ];
        for (name, help, value) in figures {
            if let Some(value) = value {
                self.gauge(name, help, value);
            }
        }
    }
}
