//! A wire whose writes are gathered, and sent when its connection has been looked after.
//!
//! h2 gathers small frames by itself, but each answer of 256 bytes or more it writes alone: a stored
//! response cost a system call of its own, which took more time than everything else about its
//! replay. Here the connection writes into memory, and whoever polls it sends what came together
//! when the connection has nothing more to do. Nothing waits for more to come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered before it is sent in any case, in bytes: a full record of TLS. What is as large
/// by itself is not gathered.
const FULL: usize = 16 << 10;

thread_local! {
    /// Room that no wire of this thread needs at the moment: most have nothing unsent most of the
    /// time, and there may be thousands.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// How many pieces of spare room a thread keeps.
const MAX_SPARE: usize = 8;

/// The wire as its connection has it. A flush sends nothing: that is for [`Cork::around`].
pub struct Corked<W>(Arc<Mutex<Gathering<W>>>);

/// The wire as whoever polls its connection has it.
pub struct Cork<W>(Arc<Mutex<Gathering<W>>>);

struct Gathering<W> {
    wire: W,
    unsent: Vec<u8>,
    /// How much of it is sent all the same.
    sent: usize,
    /// Why nothing can be sent any more, once the connection is not there to be told.
    failed: Option<io::ErrorKind>,
}

/// Gathers what is written to `wire`.
pub fn cork<W>(wire: W) -> (Corked<W>, Cork<W>) {
    let gathering = Gathering { wire, unsent: Vec::new(), sent: 0, failed: None };
    let gathering = Arc::new(Mutex::new(gathering));
    (Corked(Arc::clone(&gathering)), Cork(gathering))
}

impl<W: AsyncWrite + Unpin> Cork<W> {
    /// Polls `connection`, and sends what it has written each time.
    pub async fn around<F: Future + Unpin>(&self, mut connection: F) -> F::Output {
        poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            let mut gathering = locked(&self.0);
            // Where the wire takes no more, it wakes this task when it does.
            if let Poll::Ready(Err(error)) = gathering.poll_send(cx) {
                // The connection is told by what it reads or writes next, and once: what cannot
                // be sent is not tried again.
                (gathering.failed, gathering.sent) = (Some(error.kind()), 0);
                gathering.unsent = Vec::new();
                cx.waker().wake_by_ref();
            }
            polled
        })
        .await
    }
}

impl<W: AsyncWrite + Unpin> Gathering<W> {
    /// Sends what is unsent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.unsent.len() {
            let rest = &self.unsent[self.sent..];
            let sent = ready!(Pin::new(&mut self.wire).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        let mut room = std::mem::take(&mut self.unsent);
        room.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE {
                spare.push(room);
            }
        });
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    /// Takes a part of `bufs`, or all.
    fn poll_take(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(failed) = self.failed {
            return Poll::Ready(Err(failed.into()));
        }
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.unsent.len() >= FULL || bytes >= FULL {
            ready!(self.poll_send(cx))?;
        }
        if bytes >= FULL {
            return Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        }
        if self.unsent.capacity() == 0 {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            self.unsent = spare.unwrap_or_else(|| Vec::with_capacity(2 * FULL));
        }
        for buf in bufs {
            self.unsent.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Corked<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gathering = locked(&self.0);
        match gathering.failed {
            Some(failed) => Poll::Ready(Err(failed.into())),
            None => Pin::new(&mut gathering.wire).poll_read(cx, buf),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Corked<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        locked(&self.0).poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = locked(&self.0);
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        locked(&self.0).poll_take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Both halves are polled by one task, one after the other.
fn locked<W>(gathering: &Mutex<Gathering<W>>) -> MutexGuard<'_, Gathering<W>> {
    gathering.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A wire that remembers each write, and takes so many bytes in all.
    struct Noted {
        writes: Vec<usize>,
        room: usize,
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes.push(taken);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn noted(room: usize) -> (Corked<Noted>, Cork<Noted>) {
        cork(Noted { writes: Vec::new(), room })
    }

    fn writes(cork: &Cork<Noted>) -> Vec<usize> {
        locked(&cork.0).wire.writes.clone()
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_in_one_poll_is_sent_at_once() {
        let (mut corked, cork) = noted(usize::MAX);
        let connection = Box::pin(async {
            for _ in 0..10 {
                corked.write_all(&[7; 300]).await.unwrap();
                corked.flush().await.unwrap();
            }
        });
        cork.around(connection).await;
        assert_eq!(writes(&cork), [3_000]);
    }

    #[tokio::test]
    async fn what_is_gathered_has_a_bound_and_what_is_large_is_not_gathered() {
        let (mut corked, cork) = noted(usize::MAX);
        let connection = Box::pin(async {
            for _ in 0..3 {
                corked.write_all(&vec![7; FULL - 1]).await.unwrap();
            }
            corked.write_all(&vec![7; FULL]).await.unwrap();
        });
        cork.around(connection).await;
        assert_eq!(writes(&cork), [2 * FULL - 2, FULL - 1, FULL]);
    }

    #[tokio::test]
    async fn a_wire_that_takes_no_more_holds_its_connection_up() {
        let (mut corked, cork) = noted(100);
        let mut taken = 0;
        let connection = Box::pin(async {
            loop {
                corked.write_all(&[7; 1_000]).await.unwrap();
                taken += 1_000;
            }
        });
        let mut around = Box::pin(cork.around(connection));
        let polled = poll_fn(|cx| Poll::Ready(around.as_mut().poll(cx).is_ready())).await;
        assert!(!polled);
        drop(around);
        assert!((FULL..2 * FULL).contains(&taken), "{taken}");
    }

    /// A wire that cannot be written to, and on which nothing ever comes.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_connection_learns_that_its_answers_could_not_be_sent() {
        let (mut corked, cork) = cork(Broken);
        let connection = Box::pin(async {
            corked.write_all(b"an answer").await.unwrap();
            let read = corked.read_u8().await.unwrap_err();
            let written = corked.write_all(b"another").await.unwrap_err();
            (read.kind(), written.kind())
        });
        let broken = io::ErrorKind::BrokenPipe;
        assert_eq!(cork.around(connection).await, (broken, broken));
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_is_unsent_first() {
        let (near, mut far) = tokio::io::duplex(4_096);
        let (mut corked, cork) = cork(near);
        let writing = Box::pin(async {
            corked.write_all(b"the last word").await.unwrap();
            corked.shutdown().await.unwrap();
        });
        cork.around(writing).await;
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "the last word");
    }
}
