//! The log of slow calls: one line for each that took longer than its caller may expect, with the
//! target `onced::slow`. A wait that was asked for does not count.
//!
//! When a disk stalls every call is slow, and a line for each of thousands a second would be one
//! more thing to wait for: past [`LINES`] in a second they are only counted, and the next line
//! says how many were left out.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::warn;

use super::calls::{End, Method};

/// How many lines there are in one second at most.
const LINES: u32 = 100;

/// What there is to say of a slow call, beside what it came to.
pub struct SlowCall<'a> {
    /// What was called.
    pub method: Method,
    /// What it came to.
    pub end: End,
    /// How long it took.
    pub took: Duration,
    /// In which namespace; empty where none was named.
    pub namespace: &'a str,
    /// The part of its key's digest that stands for it everywhere; empty where there is none.
    pub key: &'a str,
    /// The trace that it is a part of; empty where it is in none.
    pub trace_id: &'a str,
}

/// The log of slow calls.
#[derive(Debug)]
pub struct SlowLog {
    /// From when on a call is slow.
    pub after: Duration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    lines: u32,
    left_out: u64,
}

impl SlowLog {
    /// Calls are slow that take longer than this.
    pub fn new(after: Duration) -> Self {
        let window = Window { began_at: Instant::now(), lines: 0, left_out: 0 };
        Self { after, window: Mutex::new(window) }
    }

    /// Writes a line, or counts it.
    pub fn write(&self, call: &SlowCall<'_>) {
        let Some(left_out) = self.window.lock().unwrap().line(Instant::now()) else { return };
        warn!(
            target: "onced::slow",
            method = call.method.name(),
            took_ms = u64::try_from(call.took.as_millis()).unwrap_or(u64::MAX),
            outcome = call.end.outcome(),
            reason = call.end.reason(),
            namespace = call.namespace,
            key = call.key,
            trace_id = call.trace_id,
            left_out,
            "slow call"
        );
    }
}

impl Window {
    /// Whether there may be another line; and if so, how many were left out before it.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.began_at) >= Duration::from_secs(1) {
            (self.began_at, self.lines) = (now, 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_a_number_of_lines_in_a_second_they_are_counted() {
        let began_at = Instant::now();
        let mut window = Window { began_at, lines: 0, left_out: 0 };
        for _ in 0..LINES {
            assert_eq!(window.line(began_at), Some(0));
        }
        assert_eq!(window.line(began_at), None);
        assert_eq!(window.line(began_at + Duration::from_millis(999)), None);
        assert_eq!(window.line(began_at + Duration::from_secs(1)), Some(2));
        assert_eq!(window.line(began_at + Duration::from_secs(1)), Some(0));
    }
}
