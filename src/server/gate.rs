//! Where calls are stopped before anything of them is read: a layer around what serves one
//! connection.
//!
//! It lets those calls through that need nobody in particular, and of all others those that a
//! principal makes whose role allows it; the principal goes along as a [`Caller`], the token does
//! not. Which namespaces it reaches is asked in `api`, where requests are read. Without
//! credentials there is nothing to ask, and a call costs one comparison with `None`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::access::right::{self, Right};
use crate::access::{Guard, SubjectName, Unknown, Visitor};
use crate::api::{Caller, status};

/// Puts a gate around what serves a connection.
#[derive(Clone)]
pub struct Gate(Option<Arc<Visitor>>);

impl Gate {
    /// The gate for a connection from `source`, whose client showed a certificate with these
    /// names. Where there is no guard it stands open.
    pub fn before(
        guard: Option<&Arc<Guard>>,
        source: IpAddr,
        certificate: Option<Vec<SubjectName>>,
    ) -> Self {
        Self(guard.map(|guard| Arc::new(Visitor::new(Arc::clone(guard), source, certificate))))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, visitor: self.0.clone() }
    }
}

/// A service behind a gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    visitor: Option<Arc<Visitor>>,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Passing<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(visitor) = &self.visitor
            && let Err(refusal) = pass(visitor, &mut request)
        {
            return refusal.told(Arc::clone(visitor));
        }
        Passing::Admitted { answer: self.inner.call(request) }
    }
}

/// Why a call is not let through.
enum Refusal {
    /// There is no such call.
    Unserved,
    /// Nobody knows who makes it.
    Unknown(Unknown),
    /// Whoever makes it may not.
    Denied(Status),
}

/// Lets a call through, with its caller; without the token, for which nobody has a use any more.
fn pass(visitor: &Visitor, request: &mut Request<Body>) -> Result<(), Refusal> {
    let path = request.uri().path();
    let right = right::of(path).ok_or(Refusal::Unserved)?;
    if right == Right::Anybody {
        request.headers_mut().remove(AUTHORIZATION);
        return Ok(());
    }
    let token = bearer(request.headers()).map_err(Refusal::Unknown)?;
    let principal = visitor.recognise(token).map_err(Refusal::Unknown)?;
    if let Right::Has(role) = right
        && principal.role() < role
    {
        let name = right::name_of(path);
        return Err(Refusal::Denied(status::role_denied(&principal, name)));
    }
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(Caller(principal));
    Ok(())
}

/// The token in the headers of a call; `None` where there is none.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Unknown> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Of two it would be a matter of luck which one is meant.
    if values.next().is_some() {
        return Err(Unknown::Malformed);
    }
    match value.as_bytes().split_at_checked("bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() => {
            Ok(Some(token))
        }
        _ => Err(Unknown::Malformed),
    }
}

impl Refusal {
    /// The answer to the call; where its caller is not known, not before its time.
    fn told<F, E: Send + 'static>(self, visitor: Arc<Visitor>) -> Passing<F, E> {
        let (status, delay) = match self {
            Self::Unserved => (Status::unimplemented("there is no such call"), None),
            Self::Denied(status) => {
                visitor.denied();
                (status, None)
            }
            Self::Unknown(unknown) => (status::unauthenticated(unknown), Some(visitor.failed())),
        };
        let answer = Box::pin(async move {
            if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
                tokio::time::sleep(delay).await;
            }
            Ok(status.into_http())
        });
        Passing::Refused { answer }
    }
}

pin_project! {
    /// The answer to a call: what serves it makes it, or else the gate does.
    #[project = PassingPinned]
    pub enum Passing<F, E> {
        Admitted { #[pin] answer: F },
        Refused { answer: Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> },
    }
}

impl<F, E> Future for Passing<F, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            PassingPinned::Admitted { answer } => answer.poll(cx),
            PassingPinned::Refused { answer } => answer.as_mut().poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_read_whatever_the_case_of_its_scheme() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let text: &'static str = format!("{scheme} secret").leak();
            assert_eq!(bearer(&headers(&[text])), Ok(Some(&b"secret"[..])));
        }
        assert_eq!(bearer(&headers(&[])), Ok(None));
    }

    #[test]
    fn what_is_no_bearer_token_and_two_of_them_are_malformed() {
        for wrong in ["", "Bearer", "Bearer ", "Basic c2VjcmV0", "secret", "Bearersecret"] {
            assert_eq!(bearer(&headers(&[wrong])), Err(Unknown::Malformed), "{wrong:?}");
        }
        assert_eq!(bearer(&headers(&["Bearer a", "Bearer a"])), Err(Unknown::Malformed));
    }
}
