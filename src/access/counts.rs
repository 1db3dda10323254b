//! How often callers were turned away, for whoever shows figures.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only rise, from the start of the server on.
#[derive(Debug, Default)]
pub struct AccessCounts {
    unauthenticated: AtomicU64,
    denied: AtomicU64,
    failed_handshakes: AtomicU64,
}

impl AccessCounts {
    /// Calls that were refused with UNAUTHENTICATED.
    pub fn unauthenticated(&self) -> u64 {
        self.unauthenticated.load(Ordering::Relaxed)
    }

    /// Calls, and items of batches, that were refused with PERMISSION_DENIED.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// TLS handshakes that failed or took too long: no TLS, no common version, a client
    /// certificate that is missing or not trusted.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    /// Counts a call that was refused with UNAUTHENTICATED.
    pub fn add_unauthenticated(&self) {
        self.unauthenticated.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call, or an item of a batch, that was refused with PERMISSION_DENIED.
    pub fn add_denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a handshake that came to nothing.
    pub fn add_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }
}
