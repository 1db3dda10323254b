//! `onced bench`: a load on a running server, and what it measured.
//!
//! The load comes from a client of its own, because a full gRPC client costs ten times what a
//! lean one does, and on the same machine would measure itself. Every answer is checked, and
//! what is wrong is counted. In reading order: what is called ([`plan`]), how calls become bytes
//! ([`onced`], [`http2`]), what people use instead ([`redis`] and its neighbours), and how calls
//! are sent and measured ([`worker`], [`load`]).

mod call;
mod keys;
mod plan;

mod hpack;
mod http2;
mod onced;
mod protobuf;

mod etcd;
mod postgres;
mod redis;

mod channel;
mod link;
mod load;
mod pace;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::call::{BATCH_ITEMS, Messages, Wire};
use self::channel::Trust;
use self::etcd::Etcd;
use self::http2::Http2;
use self::keys::Keys;
use self::link::Target;
use self::load::{Length, Load, Measured};
use self::onced::Onced;
use self::plan::Workload;
use self::postgres::Postgres;
use self::redis::Redis;
use super::failure::{self, Failure};
use super::{Exit, args, print};

/// Put a load on a running server and print what it measured
///
/// Each connection keeps a number of calls in flight and sends the next when one is answered (a
/// closed loop). With --rate calls are due at fixed moments instead (an open loop): they are
/// sent late where none of the calls in flight was answered yet, and their latency counts from
/// the moment at which they were due, so that a stall of the server counts for each call that it
/// delays. Records go to the namespace "bench", with keys of this run alone; completions are kept
/// for ten minutes after the run, reservations as long as the server's settings say.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced bench --workload cycle --connections 4 --in-flight 64 --duration 10s
  onced bench --workload mix --rate 20000")]
pub(super) struct Bench {
    /// What is called
    #[arg(long, value_enum, default_value = "reserve")]
    workload: Workload,
    /// What is listening; for a comparison with what people use instead, which knows only the
    /// workload "reserve"
    #[arg(long, value_enum, default_value = "onced")]
    server: Server,
    /// How many connections
    #[arg(long, value_name = "NUMBER", default_value = "4")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How many calls are in flight on each, at most with --rate
    #[arg(long, value_name = "NUMBER", default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// How many calls are due per second, all connections together
    #[arg(long, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// How long it measures; before, it warms up for a tenth of that
    #[arg(long, value_name = "DURATION", value_parser = args::timeout, default_value = "5s")]
    duration: Duration,
    /// End after so many calls instead
    #[arg(long, value_name = "NUMBER", conflicts_with = "duration")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    calls: Option<u64>,
    /// How many threads the load comes from [default: one per core]
    #[arg(long, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// The size of a completed response in bytes
    #[arg(long, value_name = "BYTES", default_value = "1024")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    response_bytes: u32,
    /// Where the server listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051")]
    address: SocketAddr,
    /// Speak TLS, and trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name in the server's certificate [default: its address]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a load can be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Server {
    /// onced
    Onced,
    /// Redis: SET with NX and PX
    Redis,
    /// PostgreSQL: INSERT … ON CONFLICT DO NOTHING RETURNING, into the table "reservation"
    Postgres,
    /// etcd: a transaction that puts a key where there is none
    Etcd,
}

/// How many calls may be in flight on all connections: each takes memory here.
const MAX_IN_FLIGHT: u64 = 1_000_000;

/// How long completions are kept once the run has ended.
const RETENTION: Duration = Duration::from_secs(600);

impl Bench {
    pub(super) fn execute(self) -> Exit {
        if self.server != Server::Onced && self.workload != Workload::Reserve {
            let problem = "only onced itself knows workloads other than \"reserve\"".to_owned();
            return Failure::Usage(problem).report(self.json);
        }
        if u64::from(self.connections) * u64::from(self.in_flight) > MAX_IN_FLIGHT {
            let problem = format!("more than {MAX_IN_FLIGHT} calls in flight are too many");
            return Failure::Usage(problem).report(self.json);
        }
        let trust = match self.trust() {
            Ok(trust) => trust,
            Err(error) => return Failure::Usage(format!("{error:#}")).report(self.json),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = Load {
            workload: self.workload,
            connections: self.connections,
            in_flight: self.in_flight,
            rate: self.rate,
            length: self.calls.map_or(Length::Time(self.duration), Length::Calls),
            threads: self.threads.map_or(cores, usize::from),
        };
        let measured = match load.run(self.target(trust)) {
            Ok(measured) => measured,
            Err(error) => {
                Failure::from(tonic::Status::unavailable(format!("{error:#}"))).report(self.json);
                return Exit::Unavailable;
            }
        };
        print::answer(&self.report(&measured), self.json);
        for (fault, times) in &measured.faults {
            print::complain(&format!("onced: {fault}: {times} times"));
        }
        if measured.faults.is_empty() { Exit::Done } else { Exit::Refused }
    }

    fn trust(&self) -> anyhow::Result<Option<Trust>> {
        let Some(path) = &self.tls_ca else { return Ok(None) };
        let address = self.address.ip().to_string();
        Trust::new(path, self.tls_name.as_deref().unwrap_or(&address)).map(Some)
    }

    fn target(&self, trust: Option<Trust>) -> Arc<dyn Target> {
        let (address, keys) = (self.address, Keys::new());
        match self.server {
            Server::Onced => {
                let kept = (self.duration + RETENTION).as_secs();
                let kept = i64::try_from(kept).unwrap_or(i64::MAX);
                let messages = Arc::new(Onced::new(keys, self.response_bytes as usize, kept));
                Arc::new(Grpc { address, trust, messages })
            }
            Server::Etcd => Arc::new(Grpc { address, trust, messages: Arc::new(Etcd { keys }) }),
            Server::Redis => Arc::new(Plain { address, trust, wire: move || Redis::new(keys) }),
            Server::Postgres => {
                Arc::new(Plain { address, trust, wire: move || Postgres::new(keys) })
            }
        }
    }

    fn report(&self, measured: &Measured) -> serde_json::Value {
        let micros = |quantile| {
            (measured.latency.value_at_quantile(quantile) as f64 / 1_000.0).round() as u64
        };
        let seconds = measured.took.as_secs_f64();
        let per_second = |number: u64| (number as f64 / seconds).round() as u64;
        let calls = measured.latency.len();
        let cpu_micros = measured.cpu.as_secs_f64() * 1e6 / (calls.max(1) as f64);
        json!({
            "server": self.server.to_possible_value().map(|value| value.get_name().to_owned()),
            "workload": self.workload.to_possible_value().map(|value| value.get_name().to_owned()),
            "connections": self.connections,
            "in_flight_each": self.in_flight,
            "rate": self.rate,
            "seconds": (seconds * 100.0).round() / 100.0,
            "calls": calls,
            "items_per_call": if self.workload == Workload::Batch { BATCH_ITEMS } else { 1 },
            "calls_per_second": per_second(calls),
            "operations_per_second": per_second(measured.operations),
            "p50_micros": micros(0.5),
            "p99_micros": micros(0.99),
            "p999_micros": micros(0.999),
            "max_micros": micros(1.0),
            "stored_keys": measured.stored,
            "faults": measured.faults.values().sum::<u64>(),
            "client_cpu_micros_per_call": (cpu_micros * 100.0).round() / 100.0,
        })
    }
}

/// A server that is spoken to over gRPC.
struct Grpc {
    address: SocketAddr,
    trust: Option<Trust>,
    messages: Arc<dyn Messages>,
}

impl Target for Grpc {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    fn wire(&self) -> Box<dyn Wire> {
        let (messages, authority) = (Arc::clone(&self.messages), self.address.to_string());
        Box::new(Http2::new(messages, &authority, self.trust.is_some()))
    }
}

/// A server with a protocol of its own.
struct Plain<F> {
    address: SocketAddr,
    trust: Option<Trust>,
    wire: F,
}

impl<W: Wire + 'static, F: Fn() -> W + Send + Sync> Target for Plain<F> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    fn wire(&self) -> Box<dyn Wire> {
        Box::new((self.wire)())
    }
}

/// The name of a gRPC status code.
fn code_name(code: u8) -> &'static str {
    failure::code_name(tonic::Code::from(i32::from(code)))
}
