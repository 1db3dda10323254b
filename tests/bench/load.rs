//! A load, which another process puts on a server, and what came of it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::contestant::{Contestant, cpu_seconds};
use crate::place::Place;
use crate::process::without_settings;

/// What is put on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Load {
    /// As `onced bench` calls it.
    pub workload: &'static str,
    pub connections: u32,
    pub in_flight: u32,
    /// The size of completed responses.
    pub response_bytes: u32,
}

/// What was measured of it, once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Window {
    /// Operations per second, or keys per second of batches.
    pub rate: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    pub p999_micros: f64,
    pub max_micros: f64,
    /// Wrong and missing answers.
    pub faults: u64,
    /// New keys that were acknowledged, also outside of the window.
    pub stored_keys: u64,
    /// What the server and the load used of the CPU for a call.
    pub server_micros_per_call: f64,
    pub client_micros_per_call: f64,
    /// How often the disk was told to keep what it has.
    pub flushes: Option<u64>,
}

/// How a load is run.
pub struct Run<'a> {
    /// The load generator.
    pub binary: &'a std::path::Path,
    /// What listens, as `onced bench` calls it.
    pub server: &'a str,
    pub place: &'a Place,
    pub load: Load,
    pub length: Duration,
    /// Calls per second in an open loop.
    pub rate: Option<u32>,
    /// More arguments.
    pub more: &'a [String],
}

impl Load {
    /// A load with responses of 1 KiB, where it has any.
    pub const fn new(workload: &'static str, connections: u32, in_flight: u32) -> Self {
        Self { workload, connections, in_flight, response_bytes: 1_024 }
    }

    /// As many calls at once that do nothing: the ceiling of what onced can answer.
    pub fn noop(self) -> Self {
        Self { workload: "noop", ..self }
    }

    /// As people write it: connections × calls in flight on each.
    pub fn shape(&self) -> String {
        format!("{} × {}", self.connections, self.in_flight)
    }
}

impl Run<'_> {
    /// Runs it. Wrong answers are counted; a load that cannot be run is an error.
    pub fn on(&self, contestant: &dyn Contestant) -> anyhow::Result<Window> {
        let mut command = without_settings(Command::new(self.binary));
        let Load { workload, connections, in_flight, response_bytes } = self.load;
        command.args(["bench", "--json", "--server", self.server, "--workload", workload]);
        command.args(["--connections", &connections.to_string()]);
        command.args(["--in-flight", &in_flight.to_string()]);
        command.args(["--response-bytes", &response_bytes.to_string()]);
        command.args(["--address", &contestant.address().to_string()]);
        command.args(["--duration", &format!("{}ms", self.length.as_millis())]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        command.args(self.more);
        let (flushes, cpu) = (self.place.flushes(), cpu_seconds(contestant));
        let output = command.output().context("the load cannot be run")?;
        let cpu = cpu_seconds(contestant) - cpu;
        let flushed = self.place.flushes().zip(flushes).map(|(after, before)| after - before);
        let problem = String::from_utf8_lossy(&output.stderr);
        let measured: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the load on {} failed: {problem}", self.server))?;
        ensure!(measured["calls"].is_u64(), "{workload} on {}: {measured}", self.server);
        if !problem.is_empty() {
            eprint!("{workload} on {}: {problem}", self.server);
        }
        let number = |name: &str| measured[name].as_f64().unwrap_or_default();
        // The warm-up is a tenth on top of what was measured, and costs the server as much.
        let all_calls = number("calls") * 1.1;
        Ok(Window {
            rate: number("operations_per_second") * number("items_per_call"),
            p50_micros: number("p50_micros"),
            p99_micros: number("p99_micros"),
            p999_micros: number("p999_micros"),
            max_micros: number("max_micros"),
            faults: number("faults") as u64,
            stored_keys: number("stored_keys") as u64,
            server_micros_per_call: cpu * 1e6 / all_calls.max(1.0),
            client_micros_per_call: number("client_cpu_micros_per_call"),
            flushes: flushed,
        })
    }
}
