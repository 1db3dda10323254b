//! What the engine's condition means to an orchestrator: `grpc.health.v1`, for the server as
//! a whole (`""`), for every service by name, and as `liveness` for who restarts servers.

use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::api::{AdminApi, IdempotencyApi};
use crate::pb::v1::admin_service_server::AdminServiceServer;
use crate::pb::v1::idempotency_service_server::IdempotencyServiceServer;
use crate::storage::Condition;

/// The names that can be asked for.
const SERVICES: [&str; 3] = [
    "",
    <IdempotencyServiceServer<IdempotencyApi> as NamedService>::NAME,
    <AdminServiceServer<AdminApi> as NamedService>::NAME,
];

/// The name that whoever restarts servers asks for. A server is alive from its start to its end,
/// while it recovers, drains or has no room too, for none of that is mended by a restart; it is
/// not once a commit has failed, since then nothing else helps.
const LIVENESS: &str = "liveness";

/// The health of this server.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    /// Those of them that are served.
    services: &'static [&'static str],
    stopping: watch::Sender<bool>,
}

impl Health {
    /// NOT_SERVING, until an engine says otherwise; with the service for operators or without.
    pub async fn not_serving(admin: bool) -> Self {
        let services = if admin { &SERVICES[..] } else { &SERVICES[..2] };
        let health =
            Self { reporter: HealthReporter::new(), services, stopping: watch::Sender::new(false) };
        health.show(ServingStatus::NotServing).await;
        health.reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
        health
    }

    /// The gRPC service that answers for it.
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Shows the condition of an engine from now on, until [`Health::stop`].
    pub fn follow(&self, mut condition: watch::Receiver<Condition>) {
        let health = self.clone();
        tokio::spawn(async move {
            let mut stopping = health.stopping.subscribe();
            loop {
                let (status, liveness) = match *condition.borrow_and_update() {
                    Condition::Serving => (ServingStatus::Serving, ServingStatus::Serving),
                    Condition::Full => (ServingStatus::NotServing, ServingStatus::Serving),
                    Condition::Poisoned => (ServingStatus::NotServing, ServingStatus::NotServing),
                };
                // A server that stops never serves again, whatever its engine says.
                if *stopping.borrow_and_update() {
                    return;
                }
                health.show(status).await;
                health.reporter.set_service_status(LIVENESS, liveness).await;
                tokio::select! {
                    changed = condition.changed() => if changed.is_err() { return },
                    _ = stopping.changed() => return,
                }
            }
        });
    }

    /// Whether it is NOT_SERVING for good.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// NOT_SERVING for good.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.show(ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch: they would keep their connections open until the
    /// drain's limit.
    pub async fn end_watches(mut self) {
        for service in self.services.iter().chain([&LIVENESS]) {
            self.reporter.clear_service_status(service).await;
        }
    }

    async fn show(&self, status: ServingStatus) {
        for service in self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
