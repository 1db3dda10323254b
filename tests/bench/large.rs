//! The store with many records: how it is filled, what a call costs on the way there, and how
//! long a server takes to start on it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::contestant::Contestant as _;
use crate::figures::{Bar, Judged, Spread};
use crate::load::{Load, Run};
use crate::onced::Onced;
use crate::options::Options;
use crate::place::Place;
use crate::process::without_settings;
use crate::rounds::{CYCLE, FOUR};

/// Rates over the number of records, by what was called.
pub type Curves = Vec<(String, Vec<(f64, f64)>)>;

/// Fills the store in `directory` with as many records as the options say, unless an earlier run
/// did, and measures at steps on the way.
pub fn fill(options: &Options, place: &Place, directory: &Path) -> anyhow::Result<Curves> {
    let steps = [100_000, 1_000_000, 3_000_000, options.records];
    let mut curves: Curves =
        vec![("Reserve".to_owned(), Vec::new()), ("Reserve then Complete".to_owned(), Vec::new())];
    fs::create_dir_all(directory)?;
    let server = Onced::start(&options.binary, directory, &[])?;
    for records in steps.into_iter().filter(|step| *step <= options.records) {
        let missing = records.saturating_sub(server.keys()?);
        if missing > 0 {
            let began_at = Instant::now();
            let mut bench = without_settings(Command::new(&options.binary));
            bench.args(["bench", "--json", "--workload", "batch", "--connections", "2"]);
            bench.args(["--in-flight", "8", "--calls", &missing.div_ceil(100).to_string()]);
            bench.args(["--address", &server.address().to_string()]);
            let output = bench.output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let rate = missing as f64 / began_at.elapsed().as_secs_f64();
            eprintln!("  filled up to {records} records, {rate:.0}/s");
        }
        for (load, (_, points)) in [FOUR, CYCLE].into_iter().zip(&mut curves) {
            let windows = (0..3).map(|_| Ok(measure(options, place, load).on(&server)?.rate));
            let rates = windows.collect::<anyhow::Result<Vec<_>>>()?;
            let rate = Spread::of(rates).context("three windows")?.median;
            eprintln!("  {records} records: {} {rate:.0}/s", load.workload);
            points.push((records as f64, rate));
        }
    }
    server.stop()?;
    Ok(curves)
}

fn measure<'a>(options: &'a Options, place: &'a Place, load: Load) -> Run<'a> {
    let length = options.window();
    let (binary, server) = (options.binary.as_path(), "onced");
    Run { binary, server, place, load, length, rate: None, more: &[] }
}

/// Starts a server on the store in `directory` again and again: how long until it serves, after it
/// was stopped in order, and after it was killed under load.
pub fn restart(options: &Options, directory: &Path) -> anyhow::Result<Vec<Judged>> {
    let (mut stopped, mut killed) = (Vec::new(), Vec::new());
    let mut server = start(options, directory)?.0;
    for _ in 0..options.rounds {
        load_a_while(options, &server)?.wait()?;
        server.stop()?;
        let (again, took) = start(options, directory)?;
        stopped.push(took);
        let mut load = load_a_while(options, &again)?;
        thread::sleep(Duration::from_secs(2));
        drop(again); // Which kills it.
        load.wait()?;
        let (again, took) = start(options, directory)?;
        killed.push(took);
        server = again;
    }
    let keys = server.keys()?;
    server.stop()?;
    let judge = |what: &str, seconds: Vec<f64>, bar| -> anyhow::Result<Judged> {
        Ok(Judged {
            what: what.to_owned(),
            measured: format!("{} records", crate::figures::thousands(keys as f64)),
            figure: Spread::of(seconds).context("there are rounds")?,
            unit: "s",
            bar: Bar::AtMost(bar),
        })
    };
    Ok(vec![
        judge("start to SERVING after SIGTERM", stopped, 1.0)?,
        judge("start to SERVING after kill -9 under load", killed, 3.0)?,
    ])
}

fn start(options: &Options, directory: &Path) -> anyhow::Result<(Onced, f64)> {
    let began_at = Instant::now();
    let server = Onced::start(&options.binary, directory, &[])?;
    Ok((server, began_at.elapsed().as_secs_f64()))
}

/// A load that runs beside this, for as long as two windows.
fn load_a_while(options: &Options, server: &Onced) -> anyhow::Result<std::process::Child> {
    let mut bench = without_settings(Command::new(&options.binary));
    bench.args(["bench", "--workload", "cycle", "--duration", "3s"]);
    bench.args(["--address", &server.address().to_string()]);
    bench.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Ok(bench.spawn()?)
}
