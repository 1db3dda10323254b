//! Connections: how they are accepted, counted and dealt out to the runtimes.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::warn;

use super::runtimes::{Runtimes, Stage};

/// How long the acceptor rests when the system gives it no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to a runtime.
pub struct Accepted {
    /// The socket, not bound to any runtime.
    pub socket: std::net::TcpStream,
    /// Its place among all connections.
    pub permit: OwnedSemaphorePermit,
}

/// The one task that accepts.
pub struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Acceptor {
    /// Accepts on `listener`, at most `max_connections` at a time.
    pub fn new(listener: StdTcpListener, max_connections: usize) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            places: Arc::new(Semaphore::new(max_connections)),
        })
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
                    runtimes.hand_over(turn, accepted);
                    turn += 1;
                }
                Ok(None) => warn!("a connection was refused: there are too many"),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, most likely; to try at once would only spin.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Option<Accepted>> {
        let (socket, _) = self.listener.accept().await?;
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            return Ok(None);
        };
        // Without it, an answer waits 40 ms for the caller's acknowledgement of the last.
        socket.set_nodelay(true)?;
        Ok(Some(Accepted { socket: socket.into_std()?, permit }))
    }
}
