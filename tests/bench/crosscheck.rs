//! The load generator against others: redis-benchmark on Redis, h2load and ghz on the no-op call.
//!
//! Where one reaches the same rate with the same number of calls in flight, neither is what limits
//! it. ghz uses a full gRPC client, which on the same machine takes the CPU from the server; what
//! the server uses for a call is then what can be compared.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::contestant::{Contestant, cpu_seconds};
use crate::figures::thousands;
use crate::load::Load;
use crate::options::Options;
use crate::place::{Place, text};
use crate::rounds::{FOUR, PIPELINED};
use crate::stage::{Stage, Subject};

/// What a client measured.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    pub what: &'static str,
    pub client: &'static str,
    pub shape: String,
    pub rate: f64,
    pub server_micros_per_call: f64,
}

pub fn check(options: &Options, place: &Place) -> anyhow::Result<Vec<Checked>> {
    let mut stage = Stage::new(options, place);
    let mut all = Vec::new();
    for load in [FOUR, PIPELINED] {
        all.push(own(&mut stage, Subject::Redis, load, "Redis, SET NX PX")?);
        all.push(redis_benchmark(options, &mut stage, load)?);
    }
    let noop = FOUR.noop();
    all.push(own(&mut stage, Subject::Onced, noop, "the no-op call")?);
    all.push(h2load(options, place, &mut stage, noop)?);
    let reserve = "onced, Reserve of new keys";
    all.push(own(&mut stage, Subject::Onced, FOUR, reserve)?);
    match ghz(options, &mut stage, FOUR, reserve) {
        Ok(checked) => all.push(checked),
        Err(error) => eprintln!("  without ghz: {error:#}"),
    }
    for Checked { what, client, shape, rate, server_micros_per_call } in &all {
        eprintln!("  {what} {shape} by {client}: {rate:.0}/s, {server_micros_per_call:.1} µs");
    }
    Ok(all)
}

fn own(
    stage: &mut Stage<'_>,
    subject: Subject,
    load: Load,
    what: &'static str,
) -> anyhow::Result<Checked> {
    let window = stage.measure(subject, load)?;
    Ok(Checked {
        what,
        client: "onced bench",
        shape: load.shape(),
        rate: window.rate,
        server_micros_per_call: window.server_micros_per_call,
    })
}

fn redis_benchmark(
    options: &Options,
    stage: &mut Stage<'_>,
    load: Load,
) -> anyhow::Result<Checked> {
    let redis = stage.wake(Subject::Redis)?;
    let before = redis.keys()?;
    // Its range of random keys overflows above 2^31, and then it sets one key only.
    let commands = (options.window * 50_000.0) as u64;
    let numbers = [redis.address().port().into(), load.connections.into(), load.in_flight.into()];
    let [port, connections, pipeline] = numbers.map(|number: u64| number.to_string());
    let value = "x".repeat(68);
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &port, "-c", &connections, "-P", &pipeline, "--csv"]);
    benchmark.args(["-n", &commands.to_string(), "-r", "2000000000"]);
    benchmark.args(["SET", "key:__rand_int__", &value, "NX", "PX", "86400000"]);
    let (seconds, cpu, _) = timed(redis, &mut benchmark)?;
    let stored = redis.keys()? - before;
    ensure!(stored * 100 > commands * 95, "redis-benchmark set {stored} keys, not {commands}");
    Ok(Checked {
        what: "Redis, SET NX PX",
        client: "redis-benchmark",
        shape: load.shape(),
        rate: commands as f64 / seconds,
        server_micros_per_call: cpu * 1e6 / commands as f64,
    })
}

fn h2load(
    options: &Options,
    place: &Place,
    stage: &mut Stage<'_>,
    load: Load,
) -> anyhow::Result<Checked> {
    let onced = stage.wake(Subject::Onced)?;
    // A message of 160 bytes: one field of bytes, which is skipped.
    let body = [&[0, 0, 0, 0, 160][..], &[0x7a, 0x9d, 1], &[b'x'; 157]];
    let path = place.directory.join("h2load-body");
    fs::write(&path, body.concat())?;
    let calls = (options.window * 100_000.0) as u64;
    let url = format!("http://{}/onced.bench.Noop/Call", onced.address());
    let mut h2load = Command::new("h2load");
    h2load.args(["-n", &calls.to_string(), "-t", "2"]);
    h2load.args(["-c", &load.connections.to_string(), "-m", &load.in_flight.to_string()]);
    h2load.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    h2load.args(["-d", text(&path), &url]);
    let (seconds, cpu, printed) = timed(onced, &mut h2load)?;
    let all = format!("{calls} succeeded, 0 failed, 0 errored");
    ensure!(printed.contains(&all), "h2load: {printed}");
    Ok(Checked {
        what: "the no-op call",
        client: "h2load",
        shape: load.shape(),
        rate: calls as f64 / seconds,
        server_micros_per_call: cpu * 1e6 / calls as f64,
    })
}

fn ghz(
    options: &Options,
    stage: &mut Stage<'_>,
    load: Load,
    what: &'static str,
) -> anyhow::Result<Checked> {
    let onced = stage.wake(Subject::Onced)?;
    let mut ghz = Command::new("ghz");
    let (calls, length) = (load.connections * load.in_flight, options.window());
    ghz.args(["--insecure", "--format", "json", "--call", "onced.v1.IdempotencyService/Reserve"]);
    ghz.args(["--data", r#"{"namespace": "ghz", "key": "{{newUUID}}"}"#]);
    ghz.args(["--concurrency", &calls.to_string()]);
    ghz.args(["--connections", &load.connections.to_string()]);
    ghz.args(["--duration", &format!("{}ms", length.as_millis()), "--duration-stop", "wait"]);
    let (_, cpu, printed) = timed(onced, ghz.arg(onced.address().to_string()))?;
    let report: Value = serde_json::from_str(&printed)?;
    let done = report["statusCodeDistribution"]["OK"].as_f64().context("ghz counted nothing")?;
    Ok(Checked {
        what,
        client: "ghz",
        shape: load.shape(),
        rate: report["rps"].as_f64().context("ghz has no rate")?,
        server_micros_per_call: cpu * 1e6 / done,
    })
}

/// Runs a client: how long it took, what the server used of the CPU, and what was printed.
fn timed(server: &dyn Contestant, command: &mut Command) -> anyhow::Result<(f64, f64, String)> {
    let (began_at, cpu) = (Instant::now(), cpu_seconds(server));
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    let (seconds, cpu) = (began_at.elapsed().as_secs_f64(), cpu_seconds(server) - cpu);
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok((seconds, cpu, String::from_utf8(output.stdout)?))
}

pub fn table(checked: &[Checked]) -> String {
    let mut table =
        "| what | connections × in flight | client | per second | CPU of the server per call |\n\
                     |---|---|---|---|---|\n"
            .to_owned();
    for Checked { what, client, shape, rate, server_micros_per_call } in checked {
        let rate = thousands(*rate);
        let _ = writeln!(
            table,
            "| {what} | {shape} | {client} | {rate} | {server_micros_per_call:.1} µs |"
        );
    }
    table
}
