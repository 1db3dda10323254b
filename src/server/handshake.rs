//! TLS handshakes: before anything is served, within a time, and counted.
//!
//! A handshake holds its connection's place among all connections from the moment it was
//! accepted, so that those that are slow or never end are bounded with the others. It runs on the
//! runtime that is to serve the connection; others go on meanwhile.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::connection::Wire;
use crate::access::{AccessCounts, SubjectName};
use crate::tls::Tls;

/// How handshakes are made.
#[derive(Clone)]
pub struct Handshakes {
    tls: Arc<Tls>,
    timeout: Duration,
    counts: Arc<AccessCounts>,
}

impl Handshakes {
    /// Handshakes with what `tls` has at the time, each within `timeout`.
    pub fn new(tls: Arc<Tls>, timeout: Duration, counts: Arc<AccessCounts>) -> Self {
        Self { tls, timeout, counts }
    }

    /// Shakes hands on `socket`. The names are those of the certificate that the client showed;
    /// `None` where it showed none. There is nothing where it came to nothing.
    pub async fn shake(
        &self,
        socket: TcpStream,
        source: IpAddr,
    ) -> Option<(Wire, Option<Vec<SubjectName>>)> {
        let shaking = TlsAcceptor::from(self.tls.config()).accept(socket);
        let stream = match tokio::time::timeout(self.timeout, shaking).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.counts.add_failed_handshake();
                debug!(%source, %error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                self.counts.add_failed_handshake();
                debug!(%source, "a TLS handshake took too long");
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let names = shown.map(|certificate| SubjectName::all_of(certificate));
        Some((Wire::Tls(Box::new(stream)), names))
    }
}
