//! What the hand-off between callers, writer and sync thread is built from, named in one
//! place: the race tests compile the same files over primitives whose schedule they choose.

pub use std::sync::{Condvar, Mutex, MutexGuard};
pub use tokio::sync::oneshot;
pub use tokio::task::yield_now;

pub use crate::measure::thread_number;
