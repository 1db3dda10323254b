//! Who a caller is: the credentials in force, and what one connection knows of its caller.
//!
//! A call costs one comparison as long as its connection sends the token that it sent before; the
//! digest of a token is computed only when that changes, or the credentials do.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;

use super::throttle::Throttle;
use super::{AccessCounts, Credentials, Principal, SubjectName};

/// The credentials in force, for all connections.
#[derive(Debug)]
pub struct Guard {
    credentials: ArcSwap<Credentials>,
    throttle: Throttle,
    counts: Arc<AccessCounts>,
}

/// Why nobody is known by what a caller showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It showed nothing.
    Nothing,
    /// What it sent is no bearer token.
    Malformed,
    /// No principal has this token.
    Token,
    /// No principal, or more than one, has the names of its certificate.
    Certificate,
}

impl Guard {
    /// Takes these credentials for the ones in force, and counts failures in `counts`.
    pub fn new(credentials: Credentials, counts: Arc<AccessCounts>) -> Self {
        let throttle = Throttle::new(Instant::now());
        Self { credentials: ArcSwap::from_pointee(credentials), throttle, counts }
    }

    /// Takes others, for the next call of every connection.
    pub fn exchange(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }

    /// What is counted.
    pub fn counts(&self) -> &AccessCounts {
        &self.counts
    }
}

/// Whoever is at the other end of a connection.
#[derive(Debug)]
pub struct Visitor {
    guard: Arc<Guard>,
    source: IpAddr,
    /// The names in its certificate, which was verified; `None` where it showed none.
    certificate: Option<Vec<SubjectName>>,
    known: Mutex<Option<Known>>,
}

/// Who made the last call that was recognised.
struct Known {
    /// By these credentials.
    credentials: Arc<Credentials>,
    /// By this token, or else by the certificate.
    token: Option<Box<[u8]>>,
    principal: Arc<Principal>,
}

impl Visitor {
    /// Somebody from `source`, with the names of the certificate that was verified.
    pub fn new(guard: Arc<Guard>, source: IpAddr, certificate: Option<Vec<SubjectName>>) -> Self {
        Self { guard, source, certificate, known: Mutex::new(None) }
    }

    /// Who calls with this token, or without one by the certificate. A token that nobody has is
    /// not made good by a certificate.
    pub fn recognise(&self, token: Option<&[u8]>) -> Result<Arc<Principal>, Unknown> {
        let credentials = self.guard.credentials.load();
        let mut known = self.known.lock().unwrap();
        if let Some(known) = known.as_ref().filter(|known| known.is(&credentials, token)) {
            return Ok(Arc::clone(&known.principal));
        }
        let principal = match (token, &self.certificate) {
            (Some(token), _) => credentials.of_token(token).ok_or(Unknown::Token),
            (None, Some(names)) => credentials.of_certificate(names).ok_or(Unknown::Certificate),
            (None, None) => Err(Unknown::Nothing),
        }?;
        *known = Some(Known {
            credentials: Arc::clone(&credentials),
            token: token.map(Box::from),
            principal: Arc::clone(principal),
        });
        Ok(Arc::clone(principal))
    }

    /// Counts a failure, and says how long to hold its answer back.
    pub fn failed(&self) -> Duration {
        self.guard.counts.add_unauthenticated();
        self.guard.throttle.delay(self.source, Instant::now())
    }

    /// Counts a call that its caller may not make.
    pub fn denied(&self) {
        self.guard.counts.add_denied();
    }
}

impl Known {
    fn is(&self, credentials: &Arc<Credentials>, token: Option<&[u8]>) -> bool {
        Arc::ptr_eq(&self.credentials, credentials)
            && match (&self.token, token) {
                (Some(known), Some(token)) => known.ct_eq(token).into(),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

/// It has a token.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({})", self.principal.name())
    }
}
