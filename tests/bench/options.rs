//! What `make bench ARGS="…"` can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measure onced, the call that does nothing, and what people use instead
#[derive(Debug, Parser)]
#[command(name = "make bench ARGS=…", no_binary_name = true)]
pub struct Options {
    /// Measure these groups only
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Group>,
    /// How often everything is measured, in turns
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// How many seconds one measurement takes
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub window: f64,
    /// How many seconds the run for the worst pause takes
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub length: f64,
    /// How many records the large store has
    #[arg(long, default_value = "10000000")]
    pub records: u64,
    /// Where the data of all servers goes: on a disk [default: bench-data in the target directory,
    /// or for root, where others may not enter that, a temporary one in /var/tmp]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where JSON, table and plots go [default: bench in the target directory]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The server and load generator that are measured [default: the optimised binary]
    #[arg(long, env = "ONCED_TEST_BENCH_BINARY")]
    pub binary: PathBuf,
    /// Put the table and the plots into the README
    #[arg(long)]
    pub readme: bool,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Group {
    /// Reserve of new keys against the no-op call, Redis, PostgreSQL and etcd
    Peers,
    /// Cycles, duplicates, replays, lookups, a mix, a hot key
    Workloads,
    /// The same with 1 to 1,024 calls in flight
    Concurrency,
    /// TLS and metrics, on against off
    Features,
    /// A store of ten million records
    Records,
    /// From the start to SERVING with ten million records
    Restart,
    /// The worst pause in a long run
    Pause,
    /// Instructions per call, server side
    Instructions,
    /// The load generator against redis-benchmark, h2load and ghz
    Crosscheck,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, from 0.01 to 86400".to_owned()),
    }
}

impl Options {
    /// Whether a group is to be measured.
    pub fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    /// How long one measurement takes.
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.window)
    }
}
