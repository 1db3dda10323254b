//! One stream of a command, passed on as it comes and captured on the way.
//!
//! It ends when everybody has closed it. A daemon that the command left behind may hold it
//! open for ever, so once the command has ended it is given up after a while; what the
//! command itself wrote has gone through by then.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::capture::Capture;

/// How long output is waited for once the command has ended.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// The most that a pipe can hold, unless root says otherwise (pipe-max-size). After that
/// much, none of what is read was written before the command ended.
const PIPE_BYTES: usize = 1 << 20;

/// What became of a stream.
pub(super) struct Streamed {
    pub capture: Capture,
    /// Whether it was given up while another process held it open.
    pub was_abandoned: bool,
}

/// Passes everything from `pipe` on to `out`, at once, and captures it. Where nobody reads
/// `out` any more, the command is let finish all the same. `ended` says when it has.
pub(super) async fn stream(
    mut pipe: impl AsyncRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
    mut capture: Capture,
    ended: watch::Receiver<Option<Instant>>,
) -> Streamed {
    let mut chunk = vec![0; 16 << 10];
    let mut is_read = true;
    let mut read_since = 0;
    let was_abandoned = loop {
        let ended_at = *ended.borrow();
        let is_over = ended_at.is_some_and(|at| Instant::now() >= at + LINGER);
        if is_over && read_since >= PIPE_BYTES {
            break true;
        }
        let read = tokio::select! {
            // What is in the pipe goes before the end of the wait.
            biased;
            read = pipe.read(&mut chunk) => read,
            () = lingered(ended.clone()) => break true,
        };
        let chunk = match read {
            Ok(0) | Err(_) => break false,
            Ok(read) => &chunk[..read],
        };
        if ended_at.is_some() {
            read_since += chunk.len();
        }
        capture.push(chunk);
        if is_read {
            is_read = out.write_all(chunk).await.is_ok() && out.flush().await.is_ok();
        }
    };
    Streamed { capture, was_abandoned }
}

/// Returns some time after the command has ended.
async fn lingered(mut ended: watch::Receiver<Option<Instant>>) {
    let at = ended.wait_for(Option::is_some).await.map(|at| at.expect("was waited for"));
    // An error says that nobody will tell any more.
    if let Ok(at) = at {
        sleep_until(at + LINGER).await;
    }
}
