//! When calls are due in an open loop: at a fixed rate, whatever became of those before.
//!
//! A closed loop sends a call when one is answered, so that in a stall of the server it sends
//! none, and the latency of those that it would have sent is never seen ("coordinated
//! omission"). Here each call has its moment, and its latency begins then.
//!
//! What is due is sent in ticks, all of one connection in one write: with a write for each call,
//! tens of thousands of them in a second would take more of the processor that the load shares
//! with the server than the server takes. So up to a tick of each latency is the load's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How long a thread that has sent what is due leaves it at that.
const TICK: Duration = Duration::from_millis(1);

/// The schedule of one thread.
pub struct Pace {
    interval: Duration,
    next_at: Instant,
    /// When calls may be sent again.
    sends_at: Instant,
    /// Whether the timer is going to wake the thread.
    is_set: bool,
    /// Wakes the thread to the microsecond; the timeout of a poll would be in milliseconds.
    timer: OwnedFd,
}

impl Pace {
    /// So many calls per second.
    pub fn new(rate: f64) -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            interval: Duration::from_secs_f64(1.0 / rate),
            next_at: Instant::now(),
            sends_at: Instant::now(),
            is_set: false,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
        })
    }

    /// Begins, `now`.
    pub fn begin(&mut self, now: Instant) {
        self.next_at = now;
    }

    /// Whether there are calls to send `now`; if so, there are none again before the next tick.
    pub fn ticks(&mut self, now: Instant) -> bool {
        let ticks = now >= self.sends_at.max(self.next_at);
        if ticks {
            self.sends_at = now + TICK;
        }
        ticks
    }

    /// When the next call is or was due, if that is not after `now`. It counts as sent.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.next_at > now {
            return None;
        }
        let due_at = self.next_at;
        self.next_at += self.interval;
        Some(due_at)
    }

    /// When the next call is due.
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Sets the timer to when the next call can be sent, unless it is set already.
    pub fn set_timer(&mut self, now: Instant) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.is_set, true) {
            return Ok(());
        }
        let at = self.next_at.max(self.sends_at);
        let rest = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(rest)?;
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Takes note that the timer has woken the thread.
    pub fn clear_timer(&mut self) {
        self.is_set = false;
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut count);
    }
}

impl AsFd for Pace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_could_not_be_sent_keep_their_moments() {
        let mut pace = Pace::new(1_000.0).unwrap();
        let began_at = Instant::now();
        pace.begin(began_at);
        let later = began_at + Duration::from_micros(2_500);
        let due: Vec<_> = std::iter::from_fn(|| pace.due(later)).collect();
        let millis = |number| began_at + Duration::from_millis(number);
        assert_eq!(due, [millis(0), millis(1), millis(2)]);
        assert_eq!(pace.due(millis(3)), Some(millis(3)));
    }

    #[test]
    fn what_is_due_is_sent_in_ticks() {
        let mut pace = Pace::new(500.0).unwrap();
        let now = Instant::now();
        pace.begin(now);
        assert!(pace.ticks(now) && pace.due(now).is_some());
        assert!(!pace.ticks(now + TICK), "nothing is due");
        let late = now + 3 * pace.interval;
        assert!(pace.ticks(late) && pace.due(late).is_some());
        assert!(!pace.ticks(late + TICK / 2), "more is due, but not its tick");
        assert!(pace.ticks(late + TICK));
    }
}
