//! What every call on a connection passes, from HTTP to the service that answers it and back:
//! its deadline, and the budget for large messages.
//!
//! # Why not through tonic's transport
//!
//! tonic's generated services decode, answer and encode; its transport would put hyper, a
//! router and a stack of layers in front of them, each with a future and a body in a box of
//! its own. That is a quarter of the instructions of a small call. So hyper serves the
//! connection as it would there, and calls the one service that is called all the time
//! directly.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service as _;

use super::budget::{self, Budget, Counted};
use crate::api::{IdempotencyApi, WaitingPlaces, decode};
use crate::pb::v1::idempotency_service_server::IdempotencyServiceServer;

/// The size of the largest request, in bytes. Above it gRPC itself refuses.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;

/// What there is to call.
#[derive(Clone)]
pub struct Calls {
    pub api: IdempotencyApi,
    /// Everything else.
    pub others: Routes,
    pub budget: Arc<Budget>,
}

/// The calls of one connection.
pub struct ConnectionCalls {
    api: IdempotencyServiceServer<IdempotencyApi>,
    others: Routes,
    budget: Arc<Budget>,
}

impl Calls {
    /// Those of a connection, which share `places` to wait.
    pub fn on_connection(&self, places: WaitingPlaces) -> ConnectionCalls {
        let api = IdempotencyServiceServer::new(self.api.on_connection(places))
            .max_decoding_message_size(MAX_REQUEST_BYTES);
        ConnectionCalls { api, others: self.others.clone(), budget: Arc::clone(&self.budget) }
    }
}

impl ConnectionCalls {
    /// Answers a call. A failure is an answer too, with its status in the headers.
    pub fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let budget = Arc::clone(&self.budget);
        let timeout = decode::timeout(request.headers());
        let is_hot = is_of::<IdempotencyServiceServer<IdempotencyApi>>(request.uri().path());
        let request = request.map(|body| Counted::new(body, Arc::clone(&budget)));
        let answering = match is_hot {
            true => self.api.clone().call(request),
            false => Box::pin(self.others.clone().call(request)),
        };
        async move {
            let answer = match timeout {
                Some(timeout) => match tokio::time::timeout(timeout, answering).await {
                    Ok(answer) => answer?,
                    Err(_) => return Ok(Status::cancelled("Timeout expired").into_http()),
                },
                None => answering.await?,
            };
            Ok(budget::answered(answer, budget))
        }
    }
}

/// Whether `path` names a method of a service: `/service/method`.
fn is_of<S: NamedService>(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(S::NAME))
        .is_some_and(|method| method.starts_with('/'))
}
