//! What the hand-off between callers, writer and sync thread is built from, named in one
//! place: the race tests compile the same files over primitives whose schedule they choose.

use std::time::{Duration, Instant};

pub use std::sync::{Condvar, Mutex, MutexGuard};
pub use tokio::sync::oneshot;
pub use tokio::task::yield_now;

pub use crate::measure::thread_number;

/// Looks whether `is_there`, again and again, for `span` at most; other threads go first.
pub fn look(span: Duration, is_there: impl Fn() -> bool) {
    let until = Instant::now() + span;
    while !is_there() && Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Looks whether `received` is there, again and again, for `span` at most, and sleeps then;
/// other tasks of the runtime go first. `None`: it will never be there.
pub async fn look_for<T>(span: Duration, received: &mut oneshot::Receiver<T>) -> Option<T> {
    let until = Instant::now() + span;
    while Instant::now() < until {
        match received.try_recv() {
            Ok(value) => return Some(value),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => yield_now().await,
        }
    }
    received.await.ok()
}
