//! What wakes the thread of an engine that looks after leases that callers wait for: the end of
//! a lease, or a ring. While nobody waits, it sleeps for ever.

use std::time::{Duration, Instant};

use super::threads::{Condvar, Mutex};

/// How long it sleeps at most while somebody waits: leases end by the engine's clock, which
/// steps with the time of day.
const LONGEST: Duration = Duration::from_secs(1);

/// An alarm clock for one thread.
#[derive(Debug, Default)]
pub struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    goes_off_at: Option<Instant>,
    rings: bool,
}

impl Alarm {
    /// Goes off `after` this time, or not before it is set again.
    pub fn set(&self, after: Option<Duration>) {
        let goes_off_at = after.map(|after| Instant::now() + after.min(LONGEST));
        self.state.lock().unwrap().goes_off_at = goes_off_at;
        self.changed.notify_one();
    }

    /// Goes off at once.
    pub fn ring(&self) {
        self.state.lock().unwrap().rings = true;
        self.changed.notify_one();
    }

    /// Waits until it goes off.
    pub fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        loop {
            if std::mem::take(&mut state.rings) {
                return;
            }
            let Some(goes_off_at) = state.goes_off_at else {
                state = self.changed.wait(state).unwrap();
                continue;
            };
            let left = goes_off_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.goes_off_at = None;
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}
