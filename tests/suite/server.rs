//! A real server for a test: in this process, on a port of its own, with a real channel.
//!
//! [`TestServer`] is all of `onced serve`. [`ServedEngine`] is both services alone over an engine
//! that the test made, for what settings cannot bring about.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use onced::api::{AdminApi, IdempotencyApi, Policies, Waits};
use onced::config::Settings;
use onced::pb::v1::admin_service_client::AdminServiceClient;
use onced::pb::v1::admin_service_server::AdminServiceServer;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::idempotency_service_server::IdempotencyServiceServer;
use onced::server::Listeners;
use onced::storage::Engine;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

/// A server that runs until it is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl TestServer {
    /// Starts a server as `settings` say, but on a free port and without one for metrics.
    pub fn start(settings: Settings) -> Self {
        Self::start_on(Listeners { calls: free_port().0, metrics: None }, settings)
    }

    /// The same, with metrics on a free port.
    pub fn watched(settings: Settings) -> (Self, SocketAddr) {
        let (metrics, address) = free_port();
        let listeners = Listeners { calls: free_port().0, metrics: Some(metrics) };
        (Self::start_on(listeners, settings), address)
    }

    fn start_on(listeners: Listeners, settings: Settings) -> Self {
        let address = listeners.calls.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            onced::server::serve_on(listeners, &settings, async {
                let _ = stopped.await;
            })
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// A channel of its own to the server.
    pub async fn channel(&self) -> Channel {
        channel_to(self.address).await
    }

    /// A client whose first call waits until the store is open.
    pub async fn client(&self) -> IdempotencyServiceClient<Channel> {
        let channel = self.channel().await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let mut watch = health
            .watch(tonic_health::pb::HealthCheckRequest { service: String::new() })
            .await
            .unwrap()
            .into_inner();
        while let Some(answer) = watch.message().await.unwrap() {
            if answer.status() == tonic_health::pb::health_check_response::ServingStatus::Serving {
                break;
            }
        }
        IdempotencyServiceClient::new(channel)
    }

    /// A client for operators, once the store is open.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        self.client().await;
        AdminServiceClient::new(self.channel().await)
    }

    /// Asks the server to stop, without waiting for it.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops the server and returns what it returned.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.begin_stop();
        let thread = self.thread.take().unwrap();
        // Off this runtime, which has clients to tell that their server goes away.
        tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The API over one engine, until it is stopped or the test ends.
pub struct ServedEngine {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl ServedEngine {
    /// Serves `engine`, with the default limits.
    pub async fn start(engine: Arc<dyn Engine>) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let api = IdempotencyServiceServer::new(IdempotencyApi::new(
            Arc::clone(&engine),
            Arc::new(Policies::default()),
            Waits::unbroken(),
        ));
        let admin = AdminServiceServer::new(AdminApi::new(engine, Arc::new(Policies::default())));
        let serving = Server::builder()
            .add_service(api)
            .add_service(admin)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                if stopped.await.is_err() {
                    std::future::pending().await
                }
            });
        Self { address, stop, task: tokio::spawn(serving) }
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> IdempotencyServiceClient<Channel> {
        IdempotencyServiceClient::new(channel_to(self.address).await)
    }

    /// A client for operators, on a connection of its own.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(channel_to(self.address).await)
    }

    /// Stops serving. Its share of the engine is dropped then.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

fn free_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn channel_to(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap()
}

/// Settings for a test: a store of its own, no grace, two runtimes.
pub fn settings(store: &str) -> Settings {
    Settings {
        store: store.parse().unwrap(),
        runtimes: 2,
        drain_grace: Duration::ZERO,
        ..Settings::default()
    }
}
