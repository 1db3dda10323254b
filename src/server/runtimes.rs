//! One single-threaded runtime per core, each serving the connections that it was handed.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};
use uuid::Uuid;

use super::calls::Calls;
use super::connection::{Accepted, Wire};
use super::cork::cork;
use super::gate::Gate;
use super::handshake::Handshakes;
use super::security::Security;
use crate::access::Guard;
use crate::api::WaitingPlaces;
use crate::config::{MemoryPlan, Settings};

/// The flow-control window of each call, in bytes. It is fixed, as that of a connection is: with
/// the adaptive window, h2 closes connections whose small unread frames outrun half of it.
const STREAM_WINDOW: u32 = 1 << 20;

/// How many cancelled calls may wait to be noticed. hyper's default of 20 sends GOAWAY to
/// every client that times out in a burst.
const MAX_PENDING_RESETS: usize = 2_048;

/// The size of the largest set of request headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// All runtimes of a server.
#[derive(Clone)]
pub struct Runtimes {
    handovers: Vec<mpsc::UnboundedSender<Accepted>>,
    running: Arc<(Mutex<usize>, Condvar)>,
}

/// How far the server is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not.
    Serving,
    /// Connections are told to go, and calls that were received are answered.
    GoingAway,
    /// The limit has passed: whatever is left is cut off.
    Cut,
}

/// What a runtime needs to serve a connection.
#[derive(Clone)]
struct Serving {
    calls: Calls,
    stage: watch::Receiver<Stage>,
    handshakes: Option<Handshakes>,
    guard: Option<Arc<Guard>>,
    http: http2::Builder<TokioExecutor>,
    max_waiting: usize,
    connection_max_age: Option<Duration>,
}

impl Runtimes {
    /// Starts as many as the settings say. They serve until `stage` is past serving, and until
    /// every connection is closed or cut off.
    pub fn start(
        settings: &Settings,
        security: &Security,
        calls: Calls,
        stage: &watch::Receiver<Stage>,
    ) -> io::Result<Self> {
        let serving = Serving {
            calls,
            stage: stage.clone(),
            handshakes: security.handshakes(),
            guard: security.guard(),
            http: http(settings),
            // Were all calls of a connection parked, the one that ends their wait could not come.
            max_waiting: settings
                .max_waiting_per_connection
                .min(settings.max_concurrent_streams as usize - 1),
            connection_max_age: settings.connection_max_age,
        };
        let running = Arc::new((Mutex::new(0), Condvar::new()));
        let mut handovers = Vec::new();
        for index in 0..settings.runtimes {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Unbounded, and yet bounded: each entry holds one of the places for connections.
            let (handover, incoming) = mpsc::unbounded_channel();
            let (serving, ended) = (serving.clone(), Ended::begun(&running));
            thread::Builder::new().name(format!("onced-{index}")).spawn(move || {
                let _ended = ended;
                runtime.block_on(serving.run(incoming));
            })?;
            handovers.push(handover);
        }
        Ok(Self { handovers, running })
    }

    /// Hands a connection to the runtime whose `turn` it is.
    pub fn hand_over(&self, turn: usize, accepted: Accepted) {
        if self.handovers[turn % self.handovers.len()].send(accepted).is_err() {
            warn!("a runtime has ended; a connection is closed");
        }
    }

    /// Waits until all have ended. The flag says whether they did within `limit`.
    pub fn join(&self, limit: Duration) -> bool {
        let (running, changed) = &*self.running;
        let running = running.lock().unwrap();
        let (running, _) =
            changed.wait_timeout_while(running, limit, |running| *running > 0).unwrap();
        *running == 0
    }
}

/// Counts a runtime for as long as it runs, however it ends.
struct Ended(Arc<(Mutex<usize>, Condvar)>);

impl Ended {
    fn begun(running: &Arc<(Mutex<usize>, Condvar)>) -> Self {
        *running.0.lock().unwrap() += 1;
        Self(Arc::clone(running))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() -= 1;
        self.0.1.notify_all();
    }
}

impl Serving {
    async fn run(self, mut incoming: mpsc::UnboundedReceiver<Accepted>) {
        let mut stage = self.stage.clone();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = incoming.recv() => match accepted {
                    Some(accepted) => { connections.spawn(self.clone().serve(accepted)); }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                _ = stage.wait_for(|stage| *stage > Stage::Serving) => break,
            }
        }
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            _ = stage.wait_for(|stage| *stage == Stage::Cut) => {}
        }
    }

    /// Serves one connection until it is closed: by its caller, or, once it is told to go, when
    /// the calls that were received are answered.
    async fn serve(mut self, accepted: Accepted) {
        let Accepted { socket, source, permit: _permit } = accepted;
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return warn!(%error, "cannot take a connection over"),
        };
        let (wire, certificate) = match &self.handshakes {
            None => (Wire::Plain(socket), None),
            Some(handshakes) => tokio::select! {
                shaken = handshakes.shake(socket, source) => match shaken {
                    Some(shaken) => shaken,
                    None => return,
                },
                _ = self.stage.wait_for(|stage| *stage > Stage::Serving) => return,
            },
        };
        let gate = Gate::before(self.guard.as_ref(), source, certificate);
        let calls = self.calls.on_connection(gate, WaitingPlaces::new(self.max_waiting));
        let service = service_fn(move |request| calls.answer(request));
        let (corked, cork) = cork(wire);
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(corked), service));
        let is_old = async {
            match self.connection_max_age {
                Some(age) => tokio::time::sleep(jittered(age)).await,
                None => std::future::pending().await,
            }
        };
        let served = tokio::select! {
            served = cork.around(&mut serving) => served,
            () = told_to_go(&mut self.stage, is_old) => {
                serving.as_mut().graceful_shutdown();
                cork.around(serving).await
            }
        };
        if let Err(error) = served {
            debug!(%error, "a connection failed");
        }
    }
}

/// Resolves when a connection has to go, because it `is_old` or with all others.
async fn told_to_go(stage: &mut watch::Receiver<Stage>, is_old: impl Future<Output = ()>) {
    tokio::select! {
        () = is_old => {}
        _ = stage.wait_for(|stage| *stage > Stage::Serving) => {}
    }
}

/// How connections are served.
fn http(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let plan = MemoryPlan::within(settings.memory_limit);
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_connection_window_size(
            u32::try_from(plan.connection_window_bytes).unwrap_or(u32::MAX),
        )
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        // No caller of gRPC reads it.
        .auto_date_header(false);
    http
}

/// `age`, give or take a tenth: connections that came together after a restart do not all go
/// together again.
fn jittered(age: Duration) -> Duration {
    let random = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    age.mul_f64(0.9 + 0.2 * random)
}
