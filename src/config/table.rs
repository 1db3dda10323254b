//! The table of settings: names, kinds, defaults, bounds and help texts, and nothing that
//! reads them. A setting is added here and in [`Settings`](super::Settings).
//!
//! From the name `lease_default` come the flag `--lease-default`, the variable
//! `ONCED_LEASE_DEFAULT` and the key `lease_default` in the file.

use std::fmt::Write as _;

/// One thing that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, which is also its key in the file.
    pub name: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// The value in force where none is given.
    pub default: &'static str,
    /// The smallest and the largest value.
    pub bounds: Option<(&'static str, &'static str)>,
    /// The heading that it stands under.
    pub group: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// What the values of a setting look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IP address with a port.
    Address,
    /// An IP address with a port, or `off`.
    AddressOrOff,
    /// A URL of a server, or `off`.
    UrlOrOff,
    /// A number from 0 to 1.
    Ratio,
    /// A store.
    Store,
    /// A whole number.
    Number,
    /// A whole number, or `off`.
    NumberOrOff,
    /// A whole number, or `cores`.
    PerCore,
    /// A length of time.
    Duration,
    /// A length of time, or `off`.
    DurationOrOff,
    /// A number of bytes.
    Size,
    /// A number of bytes, or `off`.
    SizeOrOff,
    /// `true` or `false`.
    Switch,
    /// A directory, or `off`.
    DirectoryOrOff,
    /// One of a few words.
    Choice(&'static str, &'static str),
    /// Directives that say what is logged.
    LogFilter,
    /// The path of a file, or `off`.
    FileOrOff,
}

const SERVER: &str = "Server";
const ACCESS: &str = "Who may call";
const LEASES: &str = "Leases and retention";
const LIMITS: &str = "Limits";
const CONNECTIONS: &str = "Connections";
const DRAIN: &str = "Restart and drain";
const METRICS: &str = "Metrics and traces";
const LOG: &str = "Log";
const ROCKSDB: &str = "RocksDB";
const BACKUPS: &str = "Backups";
const NAMESPACES: &str = "Namespaces";

const fn row(
    group: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, kind, default, bounds: None, group, help }
}

impl Setting {
    const fn within(self, min: &'static str, max: &'static str) -> Self {
        Self { bounds: Some((min, max)), ..self }
    }
}

use Kind::{
    Address, AddressOrOff, Choice, DirectoryOrOff, Duration, DurationOrOff, FileOrOff, LogFilter,
    Number, NumberOrOff, PerCore, Ratio, Size, SizeOrOff, Store, Switch, UrlOrOff,
};

/// Every setting of the server, in the order in which people read about them.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row(SERVER, "listen", Address, "127.0.0.1:50051",
        "Where the server listens"),
    row(SERVER, "store", Store, "rocksdb:./onced-data",
        "Where records are kept: rocksdb:PATH, or memory: for tests, which forgets everything"),
    row(SERVER, "runtimes", PerCore, "cores",
        "Single-threaded runtimes that connections are spread over; one per core")
        .within("1", "256"),
    row(SERVER, "admin", Switch, "true",
        "Serve onced.v1.AdminService, with which operators list, force and erase; without \
         credentials whoever reaches the port may call it"),
    row(SERVER, "reflection", Switch, "true",
        "Serve gRPC reflection, so that grpcurl needs no proto files"),
    row(SERVER, "strict", Switch, "false",
        "Refuse namespaces that the file does not list"),

    row(ACCESS, "tls_cert", FileOrOff, "off",
        "The server's certificate, and what it was issued by, in PEM; with it the port speaks TLS \
         alone. Read again when it changes, as are the other files"),
    row(ACCESS, "tls_key", FileOrOff, "off",
        "The private key to that certificate, in PEM"),
    row(ACCESS, "tls_client_ca", FileOrOff, "off",
        "The CAs that client certificates come from, in PEM; with it callers are asked for one"),
    row(ACCESS, "tls_client_auth", Choice("required", "optional"), "required",
        "Whether callers that are asked for a certificate need one, or may come with a token alone"),
    row(ACCESS, "tls_handshake_timeout", Duration, "10s",
        "How long a TLS handshake may take").within("100ms", "5m"),
    row(ACCESS, "credentials", FileOrOff, "off",
        "The principals that may call, in TOML; without it whoever reaches the port may do \
         everything"),
    row(ACCESS, "insecure_any_interface", Switch, "false",
        "Listen elsewhere than on loopback without credentials"),

    row(LEASES, "lease_default", Duration, "30s",
        "The lease of a request that names none").within("1ms", "366d"),
    row(LEASES, "lease_min", Duration, "100ms",
        "The shortest lease; shorter ones are raised to it").within("1ms", "366d"),
    row(LEASES, "lease_max", Duration, "24h",
        "The longest lease; longer ones are cut to it").within("1ms", "366d"),
    row(LEASES, "lease_expiry_action", Choice("takeover", "hold"), "takeover",
        "What becomes of a reservation whose lease ends, where the request does not say: the next \
         caller takes over, or it is held in doubt"),
    row(LEASES, "retention_default", Duration, "24h",
        "The retention of a request that names none").within("1ms", "3660d"),
    row(LEASES, "retention_min", Duration, "100ms",
        "The shortest retention; shorter ones are raised to it").within("1ms", "3660d"),
    row(LEASES, "retention_max", Duration, "90d",
        "The longest retention; longer ones are cut to it").within("1ms", "3660d"),

    row(LIMITS, "memory_limit", SizeOrOff, "off",
        "What the server may have in memory: it is shared out to caches, memtables, messages and \
         connections, as far as their settings are not given").within("384MiB", "1TiB"),
    row(LIMITS, "max_response_bytes", Size, "1MiB",
        "The largest response that is stored: payload, content type and metadata; of larger ones \
         only result, digest and size are kept").within("0", "8MiB"),
    row(LIMITS, "max_in_flight", Number, "16384",
        "Commands that may wait for the engine; more are refused with OVERLOADED")
        .within("1", "1000000"),
    row(LIMITS, "wait_max", Duration, "60s",
        "How long a call may wait for somebody else's reservation; longer waits are cut to it, and \
         with 0s nobody waits").within("0s", "1h"),
    row(LIMITS, "max_waiting", Number, "16384",
        "Calls that may wait for somebody else's reservation; more are answered at once")
        .within("0", "1000000"),
    row(LIMITS, "max_waiting_per_key", Number, "2048",
        "How many of them for one key").within("0", "1000000"),
    row(LIMITS, "max_waiting_per_connection", Number, "768",
        "How many of them on one connection; in any case less than max_concurrent_streams, so that \
         the call that ends the wait can come").within("0", "1000000"),
    row(LIMITS, "max_connections", Number, "16384",
        "Connections at a time").within("1", "1000000"),
    row(LIMITS, "max_concurrent_streams", Number, "1024",
        "Calls at a time on one connection").within("1", "1000000"),
    row(LIMITS, "max_large_message_bytes", Size, "256MiB",
        "What requests and answers may hold in memory beyond 64 KiB each, all connections \
         together; more is refused with OVERLOADED").within("16MiB", "1TiB"),

    row(CONNECTIONS, "connection_max_age", DurationOrOff, "30m",
        "How old a connection may become before its client is told to open another one, so that \
         load spreads over new servers").within("1s", "30d"),
    row(CONNECTIONS, "keepalive_interval", DurationOrOff, "60s",
        "How long a connection may be silent before the server pings it").within("1s", "1h"),
    row(CONNECTIONS, "keepalive_timeout", Duration, "20s",
        "How long the answer to a ping may take before the connection counts as lost")
        .within("1s", "10m"),

    row(DRAIN, "restart_grace", Duration, "10s",
        "How long after the start leases end that ended while the server was down: the time that \
         owners have to renew them").within("0s", "1h"),
    row(DRAIN, "drain_grace", Duration, "1s",
        "How long health says NOT_SERVING before connections are told to go").within("0s", "5m"),
    row(DRAIN, "drain_limit", Duration, "30s",
        "How long the drain may take once connections were told to go; after that the process ends")
        .within("1s", "1h"),

    row(METRICS, "metrics_listen", AddressOrOff, "127.0.0.1:9464",
        "Where /metrics (Prometheus), /livez and /readyz are served, to anybody, over plain HTTP"),
    row(METRICS, "otlp_endpoint", UrlOrOff, "off",
        "Where spans are exported to over OTLP/gRPC, such as http://127.0.0.1:4317"),
    row(METRICS, "otlp_sampling", Ratio, "0.01",
        "The share of calls that are traced, of those that bring no traceparent; of the others, \
         whoever began their trace has decided").within("0", "1"),

    row(LOG, "log", LogFilter, "info",
        "What is logged: a level, or directives such as warn,onced=debug"),
    row(LOG, "log_format", Choice("text", "json"), "text",
        "The shape of log lines, which go to stderr"),
    row(LOG, "slow_call", DurationOrOff, "1s",
        "A call that takes longer is a line of the log; waits that it asked for do not count")
        .within("1ms", "1h"),

    row(ROCKSDB, "memtable_bytes", Size, "4MiB",
        "The size of a memtable").within("256KiB", "1GiB"),
    row(ROCKSDB, "block_cache_bytes", Size, "64MiB",
        "The size of the block cache").within("1MiB", "1TiB"),
    row(ROCKSDB, "min_free_disk_bytes", Size, "256MiB",
        "With less free disk, new reservations are refused with STORE_FULL and health says \
         NOT_SERVING").within("0", "1TiB"),

    row(BACKUPS, "backup_dir", DirectoryOrOff, "off",
        "The directory on this machine that onced backup has backups made in; of one server only, \
         and outside of its data directory"),
    row(BACKUPS, "backup_keep", Number, "7",
        "How many backups are kept; where there is one more, the oldest goes")
        .within("1", "10000"),
];

/// The settings that a namespace may have otherwise than the server.
const PER_NAMESPACE: [&str; 6] = [
    "lease_default",
    "lease_max",
    "lease_expiry_action",
    "retention_default",
    "retention_max",
    "max_response_bytes",
];

/// The settings that only a namespace has.
#[rustfmt::skip]
const OF_NAMESPACES: &[Setting] = &[
    row(NAMESPACES, "fingerprint_required", Switch, "false",
        "Refuse a Reserve without a fingerprint"),
    row(NAMESPACES, "shadow", Switch, "false",
        "Decide, store and count, but answer every Reserve with Granted, and take whatever follows \
         it: a safe way in"),
    row(NAMESPACES, "quota_keys", NumberOrOff, "off",
        "How many keys may be on record; a Reserve of one more is refused with QUOTA_EXCEEDED")
        .within("1", "1000000000000"),
    row(NAMESPACES, "quota_bytes", SizeOrOff, "off",
        "How many bytes keys and records may take; a Reserve of one more is refused with \
         QUOTA_EXCEEDED").within("1", "1024TiB"),
];

/// Every setting that a table of the file such as `[namespaces.orders]` may have.
pub fn namespace_settings() -> impl Iterator<Item = &'static Setting> + Clone {
    let named = |name: &&str| Setting::named(name).expect("what is inherited is a setting");
    PER_NAMESPACE.iter().map(named).chain(OF_NAMESPACES)
}

impl Setting {
    /// The setting with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Its flag on the command line, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("ONCED_{}", self.name.to_ascii_uppercase())
    }

    /// What stands for its value in usage texts.
    pub fn placeholder(&self) -> String {
        match self.kind {
            Address => "ADDRESS:PORT".to_owned(),
            AddressOrOff => "ADDRESS:PORT|off".to_owned(),
            UrlOrOff => "URL|off".to_owned(),
            Ratio => "RATIO".to_owned(),
            Store => "URL".to_owned(),
            Number => "NUMBER".to_owned(),
            NumberOrOff => "NUMBER|off".to_owned(),
            PerCore => "NUMBER|cores".to_owned(),
            Duration => "DURATION".to_owned(),
            DurationOrOff => "DURATION|off".to_owned(),
            Size => "SIZE".to_owned(),
            SizeOrOff => "SIZE|off".to_owned(),
            Switch => "true|false".to_owned(),
            DirectoryOrOff => "DIRECTORY|off".to_owned(),
            Choice(one, other) => format!("{one}|{other}"),
            LogFilter => "DIRECTIVES".to_owned(),
            FileOrOff => "FILE|off".to_owned(),
        }
    }

    /// What to give, for a value that was refused.
    pub fn remedy(&self) -> String {
        let mut remedy = match self.kind {
            Address => "give one such as 127.0.0.1:50051 or [::]:50051".to_owned(),
            AddressOrOff => "give off or one such as 127.0.0.1:9464 or [::]:9464".to_owned(),
            UrlOrOff => "give off or one such as http://127.0.0.1:4317".to_owned(),
            Ratio => "give a number such as 0.01".to_owned(),
            Store => "give rocksdb:PATH or memory:".to_owned(),
            Number => "give a number".to_owned(),
            NumberOrOff => "give off or a number".to_owned(),
            PerCore => "give cores or a number".to_owned(),
            Duration => "give a duration such as 500ms, 30s or 24h".to_owned(),
            DurationOrOff => "give off or a duration such as 500ms, 30s or 24h".to_owned(),
            Size => "give a size such as 64KiB, 1MiB or a number of bytes".to_owned(),
            SizeOrOff => "give off or a size such as 64KiB, 1MiB or a number of bytes".to_owned(),
            Switch => "give true or false".to_owned(),
            DirectoryOrOff => "give off or a directory".to_owned(),
            Choice(one, other) => format!("give {one} or {other}"),
            FileOrOff => "give off or the path of a file".to_owned(),
            LogFilter => {
                "give off, error, warn, info, debug or trace, or MODULE=LEVEL, with commas between"
                    .to_owned()
            }
        };
        if let Some((min, max)) = self.bounds {
            let _ = write!(remedy, ", from {min} to {max}");
        }
        remedy
    }
}

/// The settings as a Markdown table, for the README.
pub fn reference_table() -> String {
    markdown(SETTINGS.iter(), |setting| format!("`{}`", setting.default))
}

/// The settings of a namespace as a Markdown table, for the README.
pub fn namespace_table() -> String {
    markdown(namespace_settings(), |setting| match Setting::named(setting.name) {
        Some(_) => "the server's".to_owned(),
        None => format!("`{}`", setting.default),
    })
}

fn markdown(
    settings: impl Iterator<Item = &'static Setting>,
    default: impl Fn(&Setting) -> String,
) -> String {
    let mut table = String::from("| setting | default | bounds | meaning |\n|---|---|---|---|\n");
    for setting in settings {
        let bounds = match (setting.kind, setting.bounds) {
            (DurationOrOff | NumberOrOff | SizeOrOff, Some((min, max))) => {
                format!("{min} to {max}, or off")
            }
            (_, Some((min, max))) => format!("{min} to {max}"),
            (Choice(one, other), None) => format!("{one}, {other}"),
            (Switch, None) => "true, false".to_owned(),
            (AddressOrOff | UrlOrOff, None) => "or off".to_owned(),
            (_, None) => String::new(),
        };
        let Setting { name, help, .. } = setting;
        let _ = writeln!(table, "| `{name}` | {} | {bounds} | {help} |", default(setting));
    }
    table
}
