//! The settings of `onced serve`: what there is to set, and how flags, the environment and
//! a file become one [`Settings`].
//!
//! One table ([`SETTINGS`]) lists every setting with its default, its bounds and its help
//! text; the flags of the command line, the names in the environment and in the file, the
//! output of `--check` and the reference table all come from it. Nothing in here parses
//! command lines: `cli/serve.rs` hands the flags over.

mod control_group;
mod fault;
mod given;
mod memory;
mod namespaces;
mod resolve;
mod sources;
mod table;
mod value;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{LeaseExpiryAction, Namespace, Span, SpanBounds};
use crate::storage::StoreUrl;

pub use control_group::ControlGroup;
pub use fault::{ConfigError, Fault};
pub use given::Origin;
pub use memory::MemoryPlan;
pub use namespaces::NamespaceSettings;
pub use resolve::{Effective, Resolved};
pub use sources::{ConfigFile, Sources};
pub use table::{Kind, SETTINGS, Setting, namespace_table, reference_table};
pub use value::{LogFormat, Ratio, TlsClientAuth};

pub(crate) use given::{in_file, in_order, suggest};
pub(crate) use namespaces::quoted;
pub(crate) use sources::read_named;
pub(crate) use value::{Size, Timespan};

/// Everything that can be set about the server, checked: each value is within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens. Default 127.0.0.1:50051.
    pub listen: SocketAddr,
    /// Where records are kept. Default `rocksdb:./onced-data`.
    pub store: StoreUrl,
    /// Single-threaded runtimes that connections are spread over, 1 to 256. Default: one
    /// per core.
    pub runtimes: usize,
    /// What the lease of a request is held to; each bound is from 1 ms to 366 days, and
    /// they are in order. Default [`SpanBounds::LEASE`].
    pub lease: SpanBounds,
    /// What the retention of a request is held to; each bound is from 1 ms to 3660 days,
    /// and they are in order. Default [`SpanBounds::RETENTION`].
    pub retention: SpanBounds,
    /// What becomes of a reservation whose lease ends, where the request does not say.
    /// Default: takeover.
    pub lease_expiry_action: LeaseExpiryAction,
    /// What the server may have in memory, in bytes, 384 MiB to 1 TiB; `None`: as much as the
    /// other limits come to. Default: none.
    pub memory_limit: Option<usize>,
    /// The largest response that is stored: payload, content type and metadata, in bytes,
    /// 0 to 8 MiB. Default 1 MiB.
    pub max_response_bytes: usize,
    /// How long after the start leases end that ended while the server was down, 0 to 1 h.
    /// Default 10 s.
    pub restart_grace: Span,
    /// How long health says NOT_SERVING before connections are told to go, 0 to 5 min.
    /// Default 1 s.
    pub drain_grace: Duration,
    /// How long the drain may take once connections were told to go, 1 s to 1 h; after
    /// that the process ends. Default 30 s.
    pub drain_limit: Duration,
    /// Commands that may wait for the engine, 1 to 1,000,000; more are refused with
    /// OVERLOADED. Default 16,384.
    pub max_in_flight: usize,
    /// How long a call may wait for somebody else's reservation, 0 to 1 h. Default 60 s.
    pub wait_max: Span,
    /// Calls that may wait for somebody else's reservation, 0 to 1,000,000; more are answered
    /// at once. Default 16,384.
    pub max_waiting: usize,
    /// How many of them for one key, 0 to 1,000,000. Default 2,048.
    pub max_waiting_per_key: usize,
    /// How many of them on one connection, 0 to 1,000,000, and less than
    /// `max_concurrent_streams` in any case. Default 768.
    pub max_waiting_per_connection: usize,
    /// Connections at a time, 1 to 1,000,000. Default 16,384.
    pub max_connections: usize,
    /// Calls at a time on one connection, 1 to 1,000,000. Default 1,024.
    pub max_concurrent_streams: u32,
    /// What large messages may hold in memory, all connections together, in bytes, 16 MiB to
    /// 1 TiB: whatever a request or an answer has beyond 64 KiB. Default 256 MiB.
    pub max_large_message_bytes: usize,
    /// How old a connection may become before its client is told to open another one, 1 s
    /// to 30 days; `None` for ever. Default 30 min.
    pub connection_max_age: Option<Duration>,
    /// How long a connection may be silent before the server pings it, 1 s to 1 h; `None`
    /// never. Default 60 s.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to a ping may take before the connection counts as lost, 1 s to
    /// 10 min. Default 20 s.
    pub keepalive_timeout: Duration,
    /// Whether `onced.v1.AdminService` is served. Default: yes.
    pub admin: bool,
    /// Whether the reflection service is served. Default: yes.
    pub reflection: bool,
    /// Whether a call that does nothing is served as well, for `make bench`. Never set but by
    /// the hidden flag of `onced serve`.
    pub noop_call: bool,
    /// Whether namespaces that are not in `namespaces` are refused. Default: no.
    pub strict: bool,
    /// The file of the server's certificate chain; with it the port speaks TLS, and there is a
    /// `tls_key`. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// The file of the key to that certificate. Default: none.
    pub tls_key: Option<PathBuf>,
    /// The file of the CAs that client certificates come from. Default: callers are asked for
    /// none.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether callers need a certificate where they are asked for one. Default: required.
    pub tls_client_auth: TlsClientAuth,
    /// How long a TLS handshake may take, 100 ms to 5 min. Default 10 s.
    pub tls_handshake_timeout: Duration,
    /// The file of principals. Default: none, and whoever reaches the port may do everything.
    pub credentials: Option<PathBuf>,
    /// Whether the server listens elsewhere than on loopback without credentials. Default: no.
    pub insecure_any_interface: bool,
    /// The namespaces that the file lists. All others are held to the settings in here.
    pub namespaces: BTreeMap<Namespace, NamespaceSettings>,
    /// Where metrics and probes are served over HTTP; `None` nowhere. Default 127.0.0.1:9464.
    pub metrics_listen: Option<SocketAddr>,
    /// Where spans are exported to, an `http://` URL; `None` nowhere. Default: nowhere.
    pub otlp_endpoint: Option<String>,
    /// The share of calls that are traced, of those that are part of no trace. Default 0.01.
    pub otlp_sampling: Ratio,
    /// What is logged: the directives of a `tracing_subscriber::EnvFilter`. Default `info`.
    pub log: String,
    /// The shape of log lines. Default: text.
    pub log_format: LogFormat,
    /// How long a call may take, besides waits that it asked for, before it is a line of the log,
    /// 1 ms to 1 h; `None` any time. Default 1 s.
    pub slow_call: Option<Duration>,
    /// The size of a RocksDB memtable in bytes, 256 KiB to 1 GiB. Default 4 MiB.
    pub memtable_bytes: usize,
    /// The size of RocksDB's block cache in bytes, 1 MiB to 1 TiB. Default 64 MiB.
    pub block_cache_bytes: usize,
    /// With less free disk than this many bytes, new reservations are refused, 0 to 1 TiB.
    /// Default 256 MiB.
    pub min_free_disk_bytes: u64,
    /// The directory that backups are made in; `None`: none are made. Default: none.
    pub backup_dir: Option<PathBuf>,
    /// How many backups are kept, 1 to 10,000. Default 7.
    pub backup_keep: usize,
}

/// Every setting at its default.
impl Default for Settings {
    fn default() -> Self {
        match Self::resolve(&Sources::default()) {
            Ok(settings) => settings,
            Err(error) => panic!("the defaults are within their bounds: {error}"),
        }
    }
}
