//! The primitives of `../threads.rs` as shuttle has them: each is a point at which another
//! thread may run.

use std::time::Duration;

pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot::error::TryRecvError;

/// Tokio's channel, with a choice of who runs before and after each of its steps. Its own
/// steps are atomic here: tokio tests them itself.
pub mod oneshot {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot;

    use super::pause;

    pub struct Sender<T>(oneshot::Sender<T>);

    pub struct Receiver<T>(oneshot::Receiver<T>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        pub fn send(self, value: T) -> Result<(), T> {
            pause();
            let sent = self.0.send(value);
            pause();
            sent
        }

        pub fn is_closed(&self) -> bool {
            pause();
            self.0.is_closed()
        }
    }

    impl<T> Receiver<T> {
        pub fn close(&mut self) {
            pause();
            self.0.close();
            pause();
        }

        pub fn try_recv(&mut self) -> Result<T, oneshot::error::TryRecvError> {
            let received = self.0.try_recv();
            pause();
            received
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, oneshot::error::RecvError>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            pause();
            Pin::new(&mut self.0).poll(context)
        }
    }
}

/// Lets the others of this lane come first, or not.
pub async fn yield_now() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// How often is looked here, whatever the span.
const LOOKS: usize = 3;

/// Looks whether `is_there`, a few times.
pub fn look(_span: Duration, is_there: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if is_there() {
            return;
        }
        pause();
    }
}

/// Looks whether `received` is there, a few times, and sleeps then.
pub async fn look_for<T>(_span: Duration, received: &mut oneshot::Receiver<T>) -> Option<T> {
    for _ in 0..LOOKS {
        match received.try_recv() {
            Ok(value) => return Some(value),
            Err(TryRecvError::Closed) => return None,
            Err(TryRecvError::Empty) => yield_now().await,
        }
    }
    received.await.ok()
}

/// The number of this thread among those of the test.
pub fn thread_number() -> usize {
    shuttle::current::me().into()
}

/// A point at which another thread may run.
pub fn pause() {
    // What is dropped when a test ends is dropped outside of any of its threads.
    if shuttle::current::get_current_task().is_some() && !std::thread::panicking() {
        shuttle::thread::yield_now();
    }
}
