//! What every call on a connection passes, from HTTP to the service that answers it and back:
//! its deadline, the gate, and the budget for calls and large messages.
//!
//! # Why not through tonic's transport
//!
//! tonic's generated services decode, answer and encode. Its transport would put a router and
//! a stack of layers between them and hyper, each with a future and a body in a box of its
//! own: about an eighth of the instructions of a small call. So hyper serves the connection as
//! it would there, and what it reads goes directly to the one service that is called all the
//! time. What that transport does besides is done here and in `runtimes.rs`: `grpc-timeout`,
//! the age of connections, and the drain.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower_service::Service as _;

use super::budget::{self, Budget, Counted, Place};
use super::gate::Gate;
use super::noop::{self, NOOP_PATH};
use crate::api::{IdempotencyApi, Observed, Observer, WaitingPlaces, decode, status};
use crate::pb::v1::idempotency_service_server::IdempotencyServiceServer;
use crate::storage::EngineError;

/// The size of the largest request, in bytes. Above it gRPC itself refuses.
pub const MAX_REQUEST_BYTES: usize = 16 << 20;

/// The service that is called all the time.
type Api = IdempotencyServiceServer<Observed<IdempotencyApi>>;

/// What there is to call.
#[derive(Clone)]
pub struct Calls {
    pub api: IdempotencyApi,
    /// What sees the calls of `api`.
    pub observer: Arc<Observer>,
    /// Whether there is the call that does nothing.
    pub has_noop: bool,
    /// Everything else.
    pub others: Routes,
    pub budget: Arc<Budget>,
}

/// The calls of one connection.
pub struct ConnectionCalls {
    gate: Gate,
    api: Api,
    has_noop: bool,
    others: Routes,
    budget: Arc<Budget>,
}

impl Calls {
    /// Those of a connection, which come through `gate` and share `places` to wait.
    pub fn on_connection(&self, gate: Gate, places: WaitingPlaces) -> ConnectionCalls {
        let api = Observed::new(self.api.on_connection(places), Arc::clone(&self.observer));
        ConnectionCalls {
            gate,
            api: Api::new(api).max_decoding_message_size(MAX_REQUEST_BYTES),
            has_noop: self.has_noop,
            others: self.others.clone(),
            budget: Arc::clone(&self.budget),
        }
    }
}

impl ConnectionCalls {
    /// Answers a call. A failure is an answer too, with its status in the headers.
    pub fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let timeout = decode::timeout(request.headers());
        let (answering, place) = self.begin(request);
        let budget = Arc::clone(&self.budget);
        async move {
            let answer = match timeout {
                Some(timeout) => match tokio::time::timeout(timeout, answering).await {
                    Ok(answer) => answer?,
                    Err(_) => return Ok(Status::cancelled("Timeout expired").into_http()),
                },
                None => answering.await?,
            };
            Ok(budget::answered(answer, budget, place))
        }
    }

    /// Hands a call to what answers it, once it is let through and has a place; refuses it
    /// otherwise.
    fn begin(
        &self,
        mut request: Request<Incoming>,
    ) -> (BoxFuture<Response<Body>, Infallible>, Option<Place>) {
        if let Err(refusing) = self.gate.admit(&mut request) {
            return (refusing, None);
        }
        let Some(place) = self.budget.place() else {
            let refused = status::unanswered(EngineError::Overloaded).into_http();
            return (Box::pin(ready(Ok(refused))), None);
        };
        let request = request.map(|body| Counted::new(body, Arc::clone(&self.budget)));
        let answering = match request.uri().path() {
            path if is_of::<Api>(path) => self.api.clone().call(request),
            NOOP_PATH if self.has_noop => noop::call(request),
            _ => Box::pin(self.others.clone().call(request)),
        };
        (answering, Some(place))
    }
}

/// Whether `path` names a method of a service: `/service/method`.
fn is_of<S: NamedService>(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(S::NAME))
        .is_some_and(|method| method.starts_with('/'))
}
