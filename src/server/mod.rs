//! The composition root: everything is put together here, and taken apart again.
//!
//! One acceptor (`connection.rs`) hands connections in turn to one single-threaded runtime
//! per core (`runtimes.rs`), where every call passes through `calls.rs` and its answer leaves
//! together with others (`cork.rs`); `health.rs` tells orchestrators what the engine's condition
//! means, `notify.rs` tells the service manager, `metrics` is a port of its own for those who watch;
//! `recovery.rs` answers while the store is still being opened; `security.rs` is what stands between
//! the port and its callers: TLS (`handshake.rs`), and who may call (`gate.rs`).
//!
//! # Why one runtime per core
//!
//! A call never changes threads on its way through, and the engine decides on the thread
//! that received it. Measured for a call that does nothing, this brings 1.7 times the rate
//! of one multi-threaded runtime. The acceptor deals connections out itself, because the
//! kernel's way to spread them (SO_REUSEPORT) hashes, and a few connections then often share
//! a core.
//!
//! # How it ends
//!
//! NOT_SERVING, answers to everybody who waits for somebody else's reservation, a grace for load
//! balancers to notice, GOAWAY on every connection, answers to every call that was received, the
//! engine's last sync, and the end. A second signal or the limit ends it at once; what was
//! acknowledged is durable then too.

mod budget;
mod calls;
mod connection;
mod cork;
mod gate;
mod handshake;
mod health;
mod metrics;
mod noop;
mod notify;
mod recovery;
mod runtimes;
mod security;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tonic::service::Routes;
use tracing::{info, warn};

use self::budget::Budget;
use self::calls::{Calls, MAX_REQUEST_BYTES};
use self::connection::Acceptor;
use self::health::Health;
use self::metrics::{Sources, Watch};
use self::notify::ServiceManager;
use self::recovery::RecoveringEngine;
use self::runtimes::{Runtimes, Stage};
use self::security::Security;
use crate::api::shadow::ShadowLog;
use crate::api::{
    Access, AdminApi, CallMeters, IdempotencyApi, Limits, Observed, Observer, Policies, Policy,
    SlowLog, Waits,
};
use crate::clock::SystemClock;
use crate::config::{ConfigError, MemoryPlan, NamespaceSettings, Settings};
use crate::log::LogControl;
use crate::pb::v1;
use crate::pb::v1::admin_service_server::AdminServiceServer;
use crate::storage::backup::BackupOptions;
use crate::storage::{self, Engine, StoreOptions, StoreUrl, Sweeper, WaitingBounds};
use crate::trace::Traces;

pub use self::noop::NOOP_PATH;

/// How often it is logged what callers of shadowed namespaces would have been told.
const SHADOW_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long runtimes may take to end once their connections are cut off.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Checks what only the files can tell that the settings name: certificates, keys, credentials.
///
/// # Errors
///
/// If any of them is at fault, with all faults.
pub fn check(settings: &Settings) -> Result<(), ConfigError> {
    Security::load(settings).map(drop)
}

/// Serves until SIGTERM or SIGINT, and returns once everything acknowledged is durable and
/// the store is closed. A second signal ends the process at once.
///
/// # Errors
///
/// If an address, the store or a file cannot be had, with a message that says what to change.
pub fn serve(settings: &Settings, log: Option<LogControl>) -> anyhow::Result<()> {
    let listeners = Listeners::bind(settings)?;
    let runtime = runtime()?;
    // Before any other runtime runs: each of them hands signals on, also those that nobody
    // listens for yet.
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen().context("cannot listen for signals")?
    };
    let shutdown = async {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            warn!("second signal: ending at once");
            std::process::exit(1);
        });
    };
    runtime.block_on(run(listeners, settings, log, shutdown))
}

/// The ports of a server.
pub struct Listeners {
    /// For calls.
    pub calls: TcpListener,
    /// For metrics and probes, if they are served.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Those of the settings. A port for metrics that somebody else has ends the start: a server
    /// that nobody watches looks like one that is well.
    fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let bind = |address: SocketAddr, what: &str, remedy: &str| {
            TcpListener::bind(address).with_context(|| {
                format!(
                    "cannot listen on {address}{what}; is another server running there? {remedy}"
                )
            })
        };
        let calls = bind(settings.listen, "", "choose another `listen`")?;
        let metrics = settings.metrics_listen.map(|address| {
            bind(address, " for metrics", "choose another `metrics_listen`, or off")
        });
        Ok(Self { calls, metrics: metrics.transpose()? })
    }
}

impl From<TcpListener> for Listeners {
    /// For calls alone.
    fn from(calls: TcpListener) -> Self {
        Self { calls, metrics: None }
    }
}

/// Serves on `listeners`, and not where the settings say, until `shutdown` resolves. Blocks.
///
/// # Errors
///
/// If the store cannot be opened or a thread cannot be started.
pub fn serve_on(
    listeners: impl Into<Listeners>,
    settings: &Settings,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    runtime()?.block_on(run(listeners.into(), settings, None, shutdown))
}

/// The runtime of the acceptor; calls are served by others.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn run(
    listeners: Listeners,
    settings: &Settings,
    log: Option<LogControl>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let address = listeners.calls.local_addr()?;
    let security = Security::load(settings)?;
    let engine = RecoveringEngine::new();
    let health = Health::not_serving(settings.admin).await;
    let mut manager = ServiceManager::starting();
    let (set_stage, stage) = watch::channel(Stage::Serving);
    let (set_draining, draining) = watch::channel(false);
    let waits = Waits::until(draining);
    let policies = Arc::new(policies(settings));
    let shadow_log = tokio::spawn(log_shadows(Arc::clone(&policies), SHADOW_LOG_INTERVAL));
    let (traces, exporting) = match &settings.otlp_endpoint {
        Some(endpoint) => Traces::start(endpoint, settings.otlp_sampling.get())
            .map(|(traces, exporting)| (Some(traces), Some(exporting)))?,
        None => (None, None),
    };
    let observer = Arc::new(observer(settings, traces));
    let observed = Arc::clone(&observer);
    let api = Served {
        engine: Arc::new(engine.clone()),
        policies: Arc::clone(&policies),
        access: security.guard().map_or(Access::Open, Access::Guarded),
        observer,
        log,
    };
    let plan = MemoryPlan::within(settings.memory_limit);
    let budget =
        Budget::new(settings.max_large_message_bytes, plan.small_message_bytes, plan.max_calls);
    let calls = calls(settings, api, waits, &health, &budget)?;
    let runtimes = Runtimes::start(settings, &security, calls, &stage)?;
    let counts = Arc::clone(&security.counts);
    let watching = tokio::spawn(security.watch());
    let acceptor = Acceptor::new(listeners.calls, settings.max_connections)?;
    if let Some(listener) = listeners.metrics {
        let address = listener.local_addr()?;
        let watch = Watch::new(Sources {
            observer: observed,
            policies,
            engine: engine.clone(),
            health: health.clone(),
            budget,
            connections: acceptor.meters(),
            access: counts,
            settings: settings.clone(),
        });
        metrics::serve(listener, watch)?;
        info!(metrics = %format!("http://{address}/metrics"), "watching");
    }
    let accepting = tokio::spawn(acceptor.run(runtimes.clone(), stage));

    let mut shutdown = pin!(shutdown);
    let mut opening = pin!(open(settings));
    let (store, told_to_stop) = tokio::select! {
        store = &mut opening => (store?, false),
        // Recovery cannot be cut short in order, so it is awaited; then there is no more to do.
        () = &mut shutdown => (opening.await?, true),
    };
    engine.opened(Arc::clone(&store));
    let sweeper = Sweeper::start(Arc::clone(&store))?;
    if !told_to_stop {
        health.follow(store.condition());
        manager.ready(store.condition());
        announce(address, settings);
        shutdown.await;
    }
    info!(grace = ?settings.drain_grace, limit = ?settings.drain_limit, "draining");
    health.stop().await;
    manager.stopping().await;
    set_draining.send_replace(true);
    tokio::time::sleep(settings.drain_grace).await;
    set_stage.send_replace(Stage::GoingAway);
    let _ = accepting.await;
    health.end_watches().await;
    if !ended(&runtimes, settings.drain_limit).await {
        warn!("the drain took too long: connections are cut off");
        set_stage.send_replace(Stage::Cut);
        ended(&runtimes, CUT_LIMIT).await;
    }
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    drop(sweeper);
    watching.abort();
    shadow_log.abort();
    let _ = shadow_log.await;
    // Blocks until the last answers are durable; there is nothing else left to run here.
    store.close();
    info!("stopped");
    Ok(())
}

/// Opens the store off the runtime, so that health is answered meanwhile.
async fn open(settings: &Settings) -> anyhow::Result<Arc<dyn Engine>> {
    let (url, options) = (settings.store.clone(), store_options(settings));
    let opening = tokio::task::spawn_blocking(move || {
        storage::open(&url, Arc::new(SystemClock::new()), &options)
    });
    Ok(opening.await??)
}

fn store_options(settings: &Settings) -> StoreOptions {
    let plan = MemoryPlan::within(settings.memory_limit);
    StoreOptions {
        restart_grace: settings.restart_grace,
        max_in_flight: settings.max_in_flight,
        max_in_flight_bytes: plan.max_in_flight_bytes,
        filters_in_cache: plan.filters_in_cache,
        waiting: WaitingBounds {
            max: settings.max_waiting,
            max_per_key: settings.max_waiting_per_key,
        },
        memtable_bytes: settings.memtable_bytes,
        memtables_per_table: plan.memtables_per_table,
        memtables_per_flush: plan.memtables_per_flush,
        records_read_together: plan.records_read_together,
        block_cache_bytes: settings.block_cache_bytes,
        min_free_disk_bytes: settings.min_free_disk_bytes,
        quotas: settings
            .namespaces
            .iter()
            .map(|(name, namespace)| (name.clone(), namespace.quota))
            .collect(),
        backup: settings
            .backup_dir
            .clone()
            .map(|dir| BackupOptions { dir, keep: settings.backup_keep }),
        ..StoreOptions::default()
    }
}

/// What applies in which namespace.
fn policies(settings: &Settings) -> Policies {
    let unlisted = Limits {
        lease: settings.lease,
        retention: settings.retention,
        lease_expiry_action: settings.lease_expiry_action,
        wait_max: settings.wait_max,
        max_response_bytes: settings.max_response_bytes,
    };
    let listed = settings.namespaces.iter().map(|(name, namespace)| {
        let limits = Limits {
            lease: namespace.lease,
            retention: namespace.retention,
            lease_expiry_action: namespace.lease_expiry_action,
            wait_max: settings.wait_max,
            max_response_bytes: namespace.max_response_bytes,
        };
        let NamespaceSettings { fingerprint_required, shadow, quota, .. } = *namespace;
        (name.clone(), Policy { limits, fingerprint_required, shadow, quota })
    });
    Policies::new(unlisted, settings.strict, listed)
}

/// Logs what callers of shadowed namespaces would have been told, every `interval`, and for
/// the last time when it is dropped.
async fn log_shadows(policies: Arc<Policies>, interval: Duration) {
    let mut log = LastWords { log: ShadowLog::default(), policies };
    loop {
        tokio::time::sleep(interval).await;
        log.write();
    }
}

/// A log that is written to once more at its end.
struct LastWords {
    log: ShadowLog,
    policies: Arc<Policies>,
}

impl LastWords {
    fn write(&mut self) {
        self.log.write(&self.policies);
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.write();
    }
}

/// What is seen of calls.
fn observer(settings: &Settings, traces: Option<Arc<Traces>>) -> Observer {
    Observer {
        meters: CallMeters::new(settings.runtimes, settings.namespaces.keys()),
        slow: settings.slow_call.map(SlowLog::new),
        traces,
        wait_max: settings.wait_max.to_std(),
    }
}

/// What services are made of.
struct Served {
    engine: Arc<dyn Engine>,
    policies: Arc<Policies>,
    access: Access,
    observer: Arc<Observer>,
    log: Option<LogControl>,
}

/// Everything that is served on one port.
fn calls(
    settings: &Settings,
    served: Served,
    waits: Waits,
    health: &Health,
    budget: &Arc<Budget>,
) -> anyhow::Result<Calls> {
    let Served { engine, policies, access, observer, log } = served;
    let mut others = Routes::new(health.service());
    if settings.admin {
        let api = AdminApi::new(Arc::clone(&engine), Arc::clone(&policies))
            .with_access(access.clone())
            .with_log(log);
        let admin = AdminServiceServer::new(Observed::new(api, Arc::clone(&observer)))
            .max_decoding_message_size(MAX_REQUEST_BYTES);
        others = others.add_service(admin);
    }
    if settings.reflection {
        // Tools are divided between the two versions.
        let configure = || {
            let mut builder = tonic_reflection::server::Builder::configure();
            if settings.admin {
                builder =
                    builder.register_encoded_file_descriptor_set(v1::ADMIN_FILE_DESCRIPTOR_SET);
            }
            builder
                .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that grpcurl shows the details of a status.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        others =
            others.add_service(configure().build_v1()?).add_service(configure().build_v1alpha()?);
    }
    Ok(Calls {
        api: IdempotencyApi::new(engine, policies, waits).with_access(access),
        observer,
        has_noop: settings.noop_call,
        others: others.prepare(),
        budget: Arc::clone(budget),
    })
}

/// Waits for the runtimes to end. The flag says whether they did within `limit`.
async fn ended(runtimes: &Runtimes, limit: Duration) -> bool {
    let runtimes = runtimes.clone();
    tokio::task::spawn_blocking(move || runtimes.join(limit)).await.unwrap_or(false)
}

/// The signals that end a server. One pair of streams for both of them: a second signal that
/// comes on the heels of the first is kept, and not lost between two registrations.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM"),
            _ = self.interrupt.recv() => info!("SIGINT"),
        }
    }
}

fn announce(address: SocketAddr, settings: &Settings) {
    match &settings.store {
        StoreUrl::RocksDb(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            info!(data = %path.display(), "every answer is synced to disk before it is sent");
        }
        StoreUrl::Memory => warn!("records are kept in memory and are gone with this process"),
    }
    if settings.credentials.is_some() && settings.tls_cert.is_none() {
        warn!(
            "credentials travel in clear; set tls_cert and tls_key unless something else encrypts"
        );
    }
    if settings.credentials.is_none() && !address.ip().to_canonical().is_loopback() {
        warn!("whoever reaches {address} may do everything: there are no credentials");
    }
    let encryption = match settings.tls_cert {
        Some(_) => "-cacert CA.pem",
        None => "-plaintext",
    };
    let token = match settings.credentials {
        Some(_) => " -H \"authorization: Bearer $ONCED_TOKEN\"",
        None => "",
    };
    info!(%address, "listening; a first call:");
    info!(
        "grpcurl {encryption}{token} -d '{{\"key\": \"order-1\"}}' {address} \
         onced.v1.IdempotencyService/Reserve"
    );
}
