//! A call that does nothing: what gRPC itself costs on this server, for `make bench`.
//!
//! It is served beside the API only where `onced serve --noop-call` asks for it, and comes the same
//! way as a Reserve: through the same connections, runtimes and `calls.rs`, from where both are
//! called directly. Its request and its answer have the size of a Reserve's, but nothing is made of
//! the former, no engine is touched, and the latter is always the same. It is made by hand and not
//! of a proto, because it is no part of any API: no reflection shows it, and no client is generated
//! for it.

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError};
use tonic::server::{Grpc, UnaryService};

use crate::pb::codec::MessageCodec;

/// Where it is called.
pub const NOOP_PATH: &str = "/onced.bench.Noop/Call";

/// As long as what a Reserve that is granted is answered with.
const ANSWER: &[u8] = &[b'-'; 72];

/// Answers it.
pub fn call<B>(request: Request<B>) -> BoxFuture<Response<Body>, Infallible>
where
    B: http_body::Body<Error: Into<StdError> + Send> + Send + 'static,
{
    Box::pin(async move {
        // As a message, `()` skips whatever fields there are, and `Bytes` has one.
        Ok(Grpc::new(MessageCodec::<Bytes, ()>::default()).unary(Nothing, request).await)
    })
}

struct Nothing;

impl UnaryService<()> for Nothing {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        ready(Ok(tonic::Response::new(Bytes::from_static(ANSWER))))
    }
}
