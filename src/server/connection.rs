//! Connections: how they are accepted, counted and dealt out to the runtimes.

use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::server::TlsStream;
use tracing::warn;

use super::runtimes::{Runtimes, Stage};

/// How long the acceptor rests when the system gives it no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to a runtime.
pub struct Accepted {
    /// The socket, not bound to any runtime.
    pub socket: std::net::TcpStream,
    /// Where it comes from.
    pub source: IpAddr,
    /// Its place among all connections.
    pub permit: OwnedSemaphorePermit,
}

/// What is counted of connections. Handshakes and credentials that fail belong here as well.
#[derive(Debug)]
pub struct ConnectionMeters {
    places: Arc<Semaphore>,
    max: usize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl ConnectionMeters {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.max.saturating_sub(self.places.available_permits())
    }

    /// How many were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The one task that accepts.
pub struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    meters: Arc<ConnectionMeters>,
}

impl Acceptor {
    /// Accepts on `listener`, at most `max_connections` at a time.
    pub fn new(listener: StdTcpListener, max_connections: usize) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let places = Arc::new(Semaphore::new(max_connections));
        let meters = Arc::new(ConnectionMeters {
            places: Arc::clone(&places),
            max: max_connections,
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        Ok(Self { listener: TcpListener::from_std(listener)?, places, meters })
    }

    /// What it counts.
    pub fn meters(&self) -> Arc<ConnectionMeters> {
        Arc::clone(&self.meters)
    }

    /// Deals connections out in turn until `stage` is past serving, and then closes the port.
    pub async fn run(self, runtimes: Runtimes, mut stage: watch::Receiver<Stage>) {
        let mut turn = 0;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = stage.wait_for(|stage| *stage > Stage::Serving) => return,
            };
            match accepted {
                Ok(Some(accepted)) => {
                    self.meters.accepted.fetch_add(1, Ordering::Relaxed);
                    runtimes.hand_over(turn, accepted);
                    turn += 1;
                }
                Ok(None) => {
                    self.meters.refused.fetch_add(1, Ordering::Relaxed);
                    warn!("a connection was refused: there are too many");
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, most likely; to try at once would only spin.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Option<Accepted>> {
        let (socket, from) = self.listener.accept().await?;
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            return Ok(None);
        };
        // Without it, an answer waits 40 ms for the caller's acknowledgement of the last.
        socket.set_nodelay(true)?;
        Ok(Some(Accepted { socket: socket.into_std()?, source: from.ip(), permit }))
    }
}

/// A connection as it is served. Which of both it is costs a comparison with each read and write.
pub enum Wire {
    /// The socket itself.
    Plain(TcpStream),
    /// TLS, once hands are shaken. It holds keys and buffers, and would make each of the others as
    /// large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
