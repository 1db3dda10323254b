//! Instructions per call, server side, counted by valgrind: a figure that does not depend on what
//! else the machine does.
//!
//! Two runs of different length on the same server program; what one call costs is their
//! difference, so that the start and the end of the server are not in it. What was counted of the
//! long one stays beside the data, for callgrind_annotate.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::contestant::{Contestant as _, kept};
use crate::figures::thousands;
use crate::onced::Onced;
use crate::options::Options;
use crate::place::Place;
use crate::process::without_settings;
use crate::stage::empty;

/// Calls of the short and of the long run.
const CALLS: [u64; 2] = [2_000, 10_000];

const WORKLOADS: [&str; 6] = ["noop", "reserve", "cycle", "duplicate", "lookup", "batch"];

/// What calls of a workload cost.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    pub workload: &'static str,
    /// For each call; of a batch for each key.
    pub instructions: f64,
}

pub fn count(options: &Options, place: &Place) -> anyhow::Result<Vec<Counted>> {
    let directory = place.directory.join("instructions");
    WORKLOADS
        .into_iter()
        .map(|workload| {
            let (calls, items) =
                if workload == "batch" { (CALLS.map(|it| it / 100), 100) } else { (CALLS, 1) };
            let counts = place.directory.join(format!("callgrind-{workload}"));
            let run = |calls| run(options, &directory, &counts, workload, calls);
            let (short, long) = (run(calls[0])?, run(calls[1])?);
            let instructions =
                (long.saturating_sub(short)) as f64 / ((calls[1] - calls[0]) * items) as f64;
            eprintln!("  {workload}: {instructions:.0} instructions");
            Ok(Counted { workload, instructions })
        })
        .collect()
}

fn run(
    options: &Options,
    directory: &Path,
    counts: &Path,
    workload: &str,
    calls: u64,
) -> anyhow::Result<u64> {
    empty(directory)?;
    let mut valgrind = kept("valgrind".as_ref(), None);
    valgrind.args(["--tool=callgrind", &format!("--callgrind-out-file={}", counts.display())]);
    valgrind.arg(&options.binary);
    // One runtime: valgrind runs one thread at a time, and it is the fewer to switch between.
    let more = ["--runtimes", "1", "--keepalive-interval", "off"].map(str::to_owned);
    let server = Onced::start_by(valgrind, &options.binary, directory, &more)?;
    let mut bench = without_settings(Command::new(&options.binary));
    bench.args(["bench", "--json", "--workload", workload, "--connections", "1"]);
    bench.args(["--in-flight", if workload == "batch" { "1" } else { "64" }]);
    bench.args(["--calls", &calls.to_string(), "--response-bytes", "100"]);
    let output = bench.args(["--address", &server.address().to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop()?;
    let counts = fs::read_to_string(counts).context("valgrind wrote no counts")?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("valgrind wrote no total")?.trim().parse()?)
}

pub fn table(counted: &[Counted]) -> String {
    let mut table = "| call | instructions, server side |\n|---|---|\n".to_owned();
    for Counted { workload, instructions } in counted {
        let what = match *workload {
            "noop" => "the no-op call",
            "reserve" => "Reserve of a new key",
            "cycle" => "Reserve or Complete, 100 bytes, the mean of both",
            "duplicate" => "duplicate in progress",
            "lookup" => "Lookup, 100 bytes",
            _ => "BatchReserve of 100, for each key",
        };
        let _ = writeln!(table, "| {what} | {} |", thousands(*instructions));
    }
    table
}
