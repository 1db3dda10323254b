//! A caller who asks one thing at a time, and the health check of an orchestrator.

use std::net::SocketAddr;
use std::time::Duration;

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, LookupRequest, ReleaseRequest, ReserveRequest, ReserveResponse, Response,
    Result as OperationResult,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::process::Process;

#[derive(Clone)]
pub struct Caller {
    client: IdempotencyServiceClient<Channel>,
    health: HealthClient<Channel>,
}

impl Caller {
    pub async fn of(server: &Process) -> Self {
        Self::at(server.address).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self {
            client: IdempotencyServiceClient::new(channel.clone()),
            health: HealthClient::new(channel),
        }
    }

    pub async fn reserve(&mut self, order: &ReserveRequest) -> Result<ReserveResponse, Status> {
        Ok(self.client.reserve(order.clone()).await?.into_inner())
    }

    /// With a deadline.
    pub async fn reserve_within(
        &mut self,
        order: &ReserveRequest,
        deadline: Duration,
    ) -> Result<ReserveResponse, Status> {
        let mut request = Request::new(order.clone());
        request.set_timeout(deadline);
        Ok(self.client.reserve(request).await?.into_inner())
    }

    pub async fn complete(&mut self, order: &ReserveRequest, bytes: usize) -> Result<(), Status> {
        let request = CompleteRequest {
            key: order.key.clone(),
            owner_token: order.owner_token.clone(),
            result: OperationResult::Succeeded.into(),
            response: Some(Response { payload: vec![b'x'; bytes], ..Default::default() }),
            ..Default::default()
        };
        self.client.complete(request).await.map(|_| ())
    }

    pub async fn release(&mut self, order: &ReserveRequest) -> Result<(), Status> {
        let request = ReleaseRequest {
            key: order.key.clone(),
            owner_token: order.owner_token.clone(),
            ..Default::default()
        };
        self.client.release(request).await.map(|_| ())
    }

    pub async fn lookup(&mut self, order: &ReserveRequest) -> Result<(), Status> {
        let request = LookupRequest { key: order.key.clone(), ..Default::default() };
        self.client.lookup(request).await.map(|_| ())
    }

    pub async fn health(&mut self) -> ServingStatus {
        let answer = self.health.check(HealthCheckRequest::default()).await.unwrap();
        answer.into_inner().status()
    }

    /// Waits until the health is `wanted`.
    pub async fn sees(&mut self, wanted: ServingStatus) {
        let mut watch =
            self.health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        while watch.message().await.unwrap().unwrap().status() != wanted {}
    }
}

pub fn order(key: &str) -> ReserveRequest {
    ReserveRequest { key: key.into(), owner_token: Uuid::new_v4().into(), ..Default::default() }
}

/// The fencing token that was granted.
pub fn granted(answer: ReserveResponse) -> i64 {
    match answer.outcome {
        Some(Outcome::Granted(granted)) => granted.fencing_token,
        other => panic!("{other:?}"),
    }
}

/// The code of a status and its reason.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (status.code(), reason)
}
