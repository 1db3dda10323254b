//! `onced bench`: a load on a running server, and what it measured.
//!
//! The load comes from a client of its own (`load.rs`), because a full gRPC client costs
//! several times what the server spends on a call and would measure itself. Every answer is
//! decoded and checked: a server that answers wrongly fails the run.

mod load;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::load::{Load, Measured};
use super::failure::Failure;
use super::{Exit, args, print};

/// Put a load on a running server and print what it measured
///
/// Each connection keeps a number of calls in flight and sends the next when one is answered
/// (a closed loop: in a stall of the server the load pauses as well, so the slowest latencies
/// are of calls that were sent, not of calls that would have been). Records go to the
/// namespace "bench", with keys of this run alone; completions are kept for ten minutes,
/// reservations as long as the server's settings say.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced bench --workload cycle --connections 4 --in-flight 64 --duration 10s")]
pub(super) struct Bench {
    /// What is called
    #[arg(long, value_enum, default_value = "reserve")]
    workload: Workload,
    /// How many connections
    #[arg(long, value_name = "NUMBER", default_value = "4")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How many calls are in flight on each
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,
    /// How long it measures; before, it warms up for a tenth of that
    #[arg(long, value_name = "DURATION", value_parser = args::timeout, default_value = "5s")]
    duration: Duration,
    /// The size of a completed response in bytes
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    response_bytes: u32,
    /// Where the server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051")]
    address: std::net::SocketAddr,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is called, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// Reserve of a new key
    Reserve,
    /// Reserve of a new key, then Complete; a call is either of them
    Cycle,
    /// BatchReserve of a hundred new keys
    Batch,
    /// Reserve of a key that somebody else holds
    Duplicate,
    /// Reserve of a completed key
    Replay,
    /// Lookup of a completed key
    Lookup,
}

impl Bench {
    pub(super) fn execute(self) -> Exit {
        let load = Load {
            workload: self.workload,
            connections: self.connections,
            in_flight: self.in_flight,
            duration: self.duration,
            response_bytes: self.response_bytes as usize,
            address: self.address,
        };
        match load.run() {
            Ok(measured) => {
                print::answer(&self.report(&measured), self.json);
                Exit::Done
            }
            Err(error) => {
                Failure::from(tonic::Status::unavailable(format!("{error:#}"))).report(self.json);
                Exit::Unavailable
            }
        }
    }

    fn report(&self, measured: &Measured) -> serde_json::Value {
        let micros = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let seconds = measured.took.as_secs_f64();
        json!({
            "workload": self.workload.to_possible_value().map(|value| value.get_name().to_owned()),
            "connections": self.connections,
            "in_flight_each": self.in_flight,
            "seconds": (seconds * 100.0).round() / 100.0,
            "calls": measured.latency.len(),
            "items_per_call": if self.workload == Workload::Batch { load::BATCH_ITEMS } else { 1 },
            "calls_per_second": (measured.latency.len() as f64 / seconds).round(),
            "p50_micros": micros(0.5).round(),
            "p99_micros": micros(0.99).round(),
            "p999_micros": micros(0.999).round(),
            "max_micros": micros(1.0).round(),
        })
    }
}
