//! The phases of a run, and what they came to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::probe::{Latency, Probe};
use crate::process::Process;
use crate::samples::{Sample, Sampler, median};
use crate::shim::Shim;

/// How much there is to do.
pub struct Plan {
    /// Keys that expire at once.
    pub keys: u64,
    /// How long it is measured before they do, and at least after.
    pub quiet: Duration,
    /// How long the mixed load lasts.
    pub mixed: Duration,
}

/// What a run came to.
pub struct Report {
    pub began_at: Instant,
    /// The name of each phase, and when it began.
    pub phases: Vec<(&'static str, Instant)>,
    pub samples: Vec<Sample>,
    pub latencies: Vec<Latency>,
    pub probes: usize,
    pub levels: String,
    pub table: String,
}

/// Keys of the first phase are kept for an hour, those of the mixed load for seconds.
const HOUR: [&str; 4] = ["--retention-default", "1h", "--retention-max", "1h"];
const SECONDS: [&str; 4] = ["--retention-default", "5s", "--retention-max", "5s"];
const COMMON: [&str; 8] = [
    "--lease-default",
    "500ms",
    "--restart-grace",
    "0s",
    "--drain-grace",
    "0s",
    "--log",
    "info,onced::storage::sweep=debug",
];

struct Run {
    shim: Shim,
    data: PathBuf,
    binary: PathBuf,
    report: Report,
    server: Option<Arc<Process>>,
    watching: Option<(Sampler, Probe)>,
}

/// Goes through all phases.
pub async fn run(plan: &Plan) -> Report {
    let dir = TempDir::new().unwrap();
    let began_at = Instant::now();
    let binary = std::env::var_os("ONCED_TEST_SOAK_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_onced").into(), PathBuf::from);
    let mut run = Run {
        shim: Shim::new(),
        data: dir.path().join("data"),
        binary,
        report: Report {
            began_at,
            phases: Vec::new(),
            samples: Vec::new(),
            latencies: Vec::new(),
            probes: 0,
            levels: String::new(),
            table: String::new(),
        },
        server: None,
        watching: None,
    };

    run.start("fill", &HOUR).await;
    run.fill(plan.keys).await;
    run.phase("filled");
    run.load("cycle", plan.quiet).await;
    run.stop().await;

    run.shim.set_clock(2 * 3_600);
    run.start("expiry", &HOUR).await;
    let swept = run.load_until_swept(plan).await;
    run.phase("expired");
    run.load("cycle", plan.quiet).await;
    run.stop().await;

    run.start("mixed", &SECONDS).await;
    run.mixed(plan.mixed).await;
    run.phase("rest");
    run.rests().await;
    run.stop().await;
    run.finish(plan, swept)
}

impl Run {
    fn phase(&mut self, name: &'static str) {
        println!("{:>7.1} s: {name}", self.report.began_at.elapsed().as_secs_f64());
        self.report.phases.push((name, Instant::now()));
    }

    async fn start(&mut self, phase: &'static str, settings: &[&str]) {
        let mut command = self.shim.onced();
        if std::env::var_os("ONCED_TEST_SOAK_BINARY").is_some() {
            command = self.shim.preloaded_into(&self.binary);
        }
        let settings = [&COMMON[..], settings].concat();
        let server = Arc::new(Process::start(command, &self.data, &settings));
        self.phase(phase);
        let probe = Probe::start(server.address).await;
        self.watching = Some((Sampler::start(&server, &self.data), probe));
        self.server = Some(server);
    }

    async fn stop(&mut self) {
        let (sampler, probe) = self.watching.take().unwrap();
        self.report.latencies.extend(probe.stop().await);
        self.report.samples.extend(sampler.stop().await);
        let server = Arc::into_inner(self.server.take().unwrap()).expect("nobody looks any more");
        server.signal(Signal::TERM);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address
    }

    /// Puts a load on the server: how many calls were answered.
    async fn load(&self, workload: &'static str, length: Duration) -> u64 {
        self.bench(workload, length, ["2", "8"]).await
    }

    async fn bench(&self, workload: &'static str, length: Duration, width: [&str; 2]) -> u64 {
        let mut bench = Command::new(&self.binary);
        bench
            .args(["bench", "--json", "--workload", workload, "--response-bytes", "300"])
            .args(["--connections", width[0], "--in-flight", width[1]])
            .args(["--duration", &format!("{}ms", length.as_millis())])
            .args(["--address", &self.address().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || bench.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        measured["calls"].as_u64().unwrap()
    }

    async fn fill(&self, keys: u64) {
        let mut filled = 0;
        while filled < keys {
            let slice = if keys < 100_000 { 500 } else { 10_000 };
            filled += self.bench("reserve", Duration::from_millis(slice), ["4", "64"]).await;
        }
    }

    /// How many records the sweeper has freed since the server was started, as its log says.
    fn swept(&self) -> u64 {
        let lines = self.server.as_ref().unwrap().lines_with("swept");
        let records = |line: &String| -> Option<u64> {
            line.split_once("records=")?.1.split(' ').next()?.parse().ok()
        };
        lines.iter().filter_map(records).sum()
    }

    /// Loads the server until the overdue keys are gone: how long that took.
    async fn load_until_swept(&self, plan: &Plan) -> Duration {
        let began_at = Instant::now();
        while self.swept() < plan.keys {
            assert!(
                began_at.elapsed() < Duration::from_secs(1_800),
                "the sweeper does not keep up"
            );
            self.load("cycle", Duration::from_millis(1_000)).await;
        }
        began_at.elapsed()
    }

    async fn mixed(&self, length: Duration) {
        let began_at = Instant::now();
        // Shorter than the retention: a key that is replayed is to outlive its run.
        let slice = (length / 8).min(Duration::from_secs(2));
        while began_at.elapsed() < length {
            for workload in ["cycle", "reserve", "replay", "lookup"] {
                self.bench(workload, slice, ["4", "16"]).await;
            }
        }
    }

    /// Waits until all short-lived keys are gone but those of the probe: the sweeper kept up.
    async fn rests(&self) {
        let began_at = Instant::now();
        loop {
            let before = self.swept();
            tokio::time::sleep(Duration::from_secs(2)).await;
            // 200 keys a second come from the probe, and as many go.
            if self.swept() - before < 2_000 {
                return;
            }
            assert!(began_at.elapsed() < Duration::from_secs(120), "the sweeper does not keep up");
        }
    }

    fn finish(self, plan: &Plan, swept: Duration) -> Report {
        let mut report = self.report;
        report.probes = report.latencies.len();
        let ends = report.phases.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
        let phases: Vec<_> = report
            .phases
            .iter()
            .zip(ends)
            .map(|((name, from), until)| (*name, *from, until))
            .collect();
        let mut table = format!(
            "{} keys overdue at once were swept in {:.1} s\n\n{:<8} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>6}\n",
            plan.keys,
            swept.as_secs_f64(),
            "phase",
            "seconds",
            "p50 ms",
            "p99 ms",
            "max ms",
            "MiB memory",
            "MiB disk",
            "files",
        );
        for (name, from, until) in &phases {
            let latency = histogram(&report.latencies, *from, *until);
            let millis = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
            let samples = within(&report.samples, *from, *until);
            table += &format!(
                "{name:<8} {:>8.1} {:>10.2} {:>10.2} {:>10.2} {:>10} {:>10} {:>6}\n",
                (*until - *from).as_secs_f64(),
                millis(0.5),
                millis(0.99),
                millis(1.0),
                median(&samples, |it| it.memory) >> 20,
                median(&samples, |it| it.disk) >> 20,
                median(&samples, |it| it.files),
            );
        }
        report.table = table;
        let (_, from, until) = *phases.iter().find(|(name, ..)| *name == "mixed").unwrap();
        report.levels = levels(&within(&report.samples, from, until), plan.mixed);
        report
    }
}

fn within(samples: &[Sample], from: Instant, until: Instant) -> Vec<Sample> {
    samples.iter().filter(|it| from <= it.at && it.at < until).copied().collect()
}

/// In microseconds.
pub fn histogram(latencies: &[Latency], from: Instant, until: Instant) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    for (due_at, took) in latencies.iter().filter(|(due_at, _)| from <= *due_at && *due_at < until)
    {
        let _ = due_at;
        histogram.record(u64::try_from(took.as_micros()).unwrap()).unwrap();
    }
    histogram
}

/// Says what the mixed load held in its second and in its last quarter. They have to be on a
/// level where the run is long enough to tell.
fn levels(samples: &[Sample], length: Duration) -> String {
    let quarter = samples.len() / 4;
    let (second, last) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let mut levels = Vec::new();
    type Of = fn(&Sample) -> u64;
    let kinds: [(&str, Of, u64, u32); 4] = [
        ("MiB of memory", |it| it.memory, 48 << 20, 20),
        ("MiB on disk", |it| it.disk, 192 << 20, 20),
        ("files on disk", |it| it.files, 16, 0),
        ("open files", |it| it.open_files, 32, 0),
    ];
    for (name, of, slack, shift) in kinds {
        let (early, late) = (median(second, of), median(last, of));
        levels.push(format!("{} then {} {name}", early >> shift, late >> shift));
        let long_enough = length >= Duration::from_secs(60);
        assert!(!long_enough || late <= early + early / 4 + slack, "no level: {levels:?}");
    }
    levels.join(", ")
}
