//! A call that does nothing: what gRPC itself costs on this server, for `make bench`.
//!
//! It is served beside the API only where `onced serve --noop-call` asks for it, and passes
//! through the same connections, runtimes and layers. Its request and its answer have the size
//! of a Reserve's, but nothing is made of the former, no engine is touched, and the latter is
//! always the same. It is a service by hand and not of a proto, because it is no part of any
//! API: no reflection shows it, and no client is generated for it.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Where it is called.
pub const NOOP_PATH: &str = "/onced.bench.Noop/Call";

/// As long as what a Reserve that is granted is answered with.
const ANSWER: &[u8] = &[b'-'; 72];

/// The service with this one call.
#[derive(Clone)]
pub struct Noop;

impl NamedService for Noop {
    const NAME: &'static str = "onced.bench.Noop";
}

impl Service<Request<Body>> for Noop {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            // As a message, `()` skips whatever fields there are, and `Bytes` has one.
            Ok(Grpc::new(ProstCodec::<Bytes, ()>::default()).unary(Nothing, request).await)
        })
    }
}

struct Nothing;

impl UnaryService<()> for Nothing {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        ready(Ok(tonic::Response::new(Bytes::from_static(ANSWER))))
    }
}
