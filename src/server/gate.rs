//! Where calls are stopped before anything of them is read: before all services, on each connection.
//!
//! It lets those calls through that need nobody in particular, and of all others those that a
//! principal makes whose role allows it; the principal goes along as a [`Caller`], the token does
//! not. Which namespaces it reaches is asked in `api`, where requests are read. Without
//! credentials there is nothing to ask, and a call costs one comparison with `None`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;

use crate::access::right::{self, Right};
use crate::access::{Guard, SubjectName, Unknown, Visitor};
use crate::api::{Caller, status};

/// The gate of one connection.
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

    /// Lets a call through.
    ///
    /// # Errors
    ///
    /// The answer to the call, if it is not let through.
    pub fn admit<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<(), BoxFuture<Response<Body>, Infallible>> {
        let Some(visitor) = &self.0 else { return Ok(()) };
        pass(visitor, request).map_err(|refusal| refusal.told(Arc::clone(visitor)))
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
fn pass<B>(visitor: &Visitor, request: &mut Request<B>) -> Result<(), Refusal> {
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
    fn told(self, visitor: Arc<Visitor>) -> BoxFuture<Response<Body>, Infallible> {
        let (status, delay) = match self {
            Self::Unserved => (Status::unimplemented("there is no such call"), None),
            Self::Denied(status) => {
                visitor.denied();
                (status, None)
            }
            Self::Unknown(unknown) => (status::unauthenticated(unknown), Some(visitor.failed())),
        };
        Box::pin(async move {
            if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
                tokio::time::sleep(delay).await;
            }
            Ok(status.into_http())
        })
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
