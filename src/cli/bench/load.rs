//! A load on a server: its threads, its phases, and what they measured together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::link::Target;
use super::plan::Workload;
use super::worker::Worker;

/// How long connections and keys may take to be prepared.
const PREPARATION_LIMIT: Duration = Duration::from_secs(120);

/// What to do to a server.
#[derive(Clone, Copy)]
pub struct Load {
    pub workload: Workload,
    pub connections: u32,
    pub in_flight: u32,
    /// Calls per second in an open loop; none: a closed one.
    pub rate: Option<u32>,
    pub length: Length,
    /// How many threads it comes from, and no more than connections.
    pub threads: usize,
}

/// When it ends.
#[derive(Clone, Copy)]
pub enum Length {
    /// After this time, behind a tenth of it to warm up.
    Time(Duration),
    /// After so many calls; nothing warms up.
    Calls(u64),
}

/// What came of it.
pub struct Measured {
    /// Of each call with the right answer, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How many operations ended while it was measured.
    pub operations: u64,
    /// How many new keys the server acknowledged, also before it was measured.
    pub stored: u64,
    /// Answers that were wrong or never came, and how often.
    pub faults: BTreeMap<String, u64>,
    /// How long it was measured.
    pub took: Duration,
    /// What this process used of the CPU meanwhile.
    pub cpu: Duration,
}

/// What all threads share.
pub struct Run {
    pub load: Load,
    pub target: Arc<dyn Target>,
    prepared: AtomicUsize,
    began_at: OnceLock<Instant>,
    ended_at: OnceLock<Instant>,
}

impl Run {
    /// When it began to be measured.
    pub fn began_at(&self) -> Option<Instant> {
        self.began_at.get().copied()
    }

    /// When it ended: no call begins after that.
    pub fn ended_at(&self) -> Option<Instant> {
        self.ended_at.get().copied()
    }

    /// A thread has prepared its callers.
    pub fn one_is_prepared(&self) {
        self.prepared.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Puts the load on `target`.
    ///
    /// # Errors
    ///
    /// If a connection breaks, if the preparation fails, or if no call was answered.
    pub fn run(self, target: Arc<dyn Target>) -> anyhow::Result<Measured> {
        let run = Arc::new(Run {
            load: self,
            target,
            prepared: AtomicUsize::new(0),
            began_at: OnceLock::new(),
            ended_at: OnceLock::new(),
        });
        if let Length::Calls(_) = self.length {
            // Nothing warms up, so everything counts, from the first call on.
            run.began_at.get_or_init(Instant::now);
        }
        let threads = self.threads.min(self.connections as usize);
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let run = Arc::clone(&run);
                thread::spawn(move || Worker::new(run, index, threads)?.run())
            })
            .collect();
        // A thread that fails is done before its time, and with it the run.
        let until = |limit: Duration, done: &dyn Fn() -> bool| {
            let began_at = Instant::now();
            let failed = || {
                matches!(self.length, Length::Time(_)) && workers.iter().any(|it| it.is_finished())
            };
            while began_at.elapsed() < limit && !done() && !failed() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let all_prepared = || run.prepared.load(Ordering::Relaxed) == threads;
        let all_finished = || workers.iter().all(|it| it.is_finished());
        until(PREPARATION_LIMIT, &|| all_prepared() || all_finished());
        let is_prepared = all_prepared();
        if let Length::Time(duration) = self.length {
            until(duration / 10, &|| !is_prepared);
        }
        let (began_at, cpu) = (*run.began_at.get_or_init(Instant::now), cpu_time());
        match self.length {
            Length::Time(duration) => until(duration, &|| !is_prepared),
            Length::Calls(_) => until(Duration::MAX, &|| all_finished() || !is_prepared),
        }
        let cpu = cpu_time() - cpu;
        let took = run.ended_at.get_or_init(Instant::now).duration_since(began_at);
        let mut measured = Measured {
            latency: histogram()?,
            operations: 0,
            stored: 0,
            faults: BTreeMap::new(),
            took,
            cpu,
        };
        for worker in workers {
            let tally = worker.join().map_err(|_| anyhow!("a thread panicked"))??;
            measured.latency.add(tally.latency)?;
            measured.operations += tally.operations;
            measured.stored += tally.stored;
            for (fault, times) in tally.faults {
                *measured.faults.entry(fault).or_default() += times;
            }
        }
        if self.workload == Workload::HotKey && !measured.latency.is_empty() {
            // It was new once, whoever was granted it first.
            measured.stored += 1;
        }
        ensure!(is_prepared, "the preparation took longer than {PREPARATION_LIMIT:?}");
        ensure!(
            !measured.latency.is_empty() || !measured.faults.is_empty(),
            "no call was answered while it was measured"
        );
        Ok(measured)
    }
}

/// A histogram of nanoseconds: from a microsecond to two minutes, to a thousandth.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 120_000_000_000, 3)?)
}

/// What this process has used of the CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
