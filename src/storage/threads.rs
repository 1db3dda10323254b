//! What the hand-off between callers, writer and sync thread is built from, named in one
//! place: the race tests compile the same files over primitives whose schedule they choose.

use std::sync::atomic::{AtomicUsize, Ordering};

pub use std::sync::{Condvar, Mutex, MutexGuard};
pub use tokio::sync::oneshot;
pub use tokio::task::yield_now;

/// The number of this thread, in the order in which threads first asked.
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
