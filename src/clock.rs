//! The only reader of the system clock, a manual clock for tests, and the clock of an
//! engine, which never runs backwards.
//!
//! An engine reads its clock when it applies a command, not when the call arrives: one
//! clock decides, and its readings are in the order of the decisions.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::domain::{Moment, Span};

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. It may jump in both directions.
    fn wall(&self) -> Moment;
    /// Time since some fixed moment. It never runs backwards.
    fn uptime(&self) -> Span;
}

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    started_at: Instant,
}

impl SystemClock {
    /// The clock of this machine.
    pub fn new() -> Self {
        Self { started_at: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the one place that may ask.
    fn wall(&self) -> Moment {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            // A machine that believes in 1969 has lost its clock; 1970 is no worse.
            .unwrap_or_default();
        Moment::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Span {
        Span::from_millis(i64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    reading: Mutex<(Moment, Span)>,
}

impl ManualClock {
    /// A clock that shows `wall`.
    pub fn at(wall: Moment) -> Self {
        Self { reading: Mutex::new((wall, Span::default())) }
    }

    /// Lets `span` pass.
    pub fn advance(&self, span: Span) {
        let mut reading = self.reading.lock().unwrap();
        reading.0 = reading.0.plus(span);
        reading.1 = Span::from_millis(reading.1.as_millis() + span.as_millis());
    }

    /// Steps the time of day to `wall`, as an operator or NTP may; no time passes.
    pub fn step_to(&self, wall: Moment) {
        self.reading.lock().unwrap().0 = wall;
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Moment {
        self.reading.lock().unwrap().0
    }

    fn uptime(&self) -> Span {
        self.reading.lock().unwrap().1
    }
}

/// The clock of an engine: it follows the time of day, but never backwards.
///
/// # Why it does not simply stop when the time of day steps back
///
/// Standing still is right for a moment: after a crash the stored high-water mark may be a
/// second ahead of the time of day, and catching up by waiting keeps repeated crashes from
/// pushing the clock ever further. But after a step of hours, leases would not lapse for
/// hours. So past [`EngineClock::STANDSTILL`] it goes on by uptime.
pub struct EngineClock {
    source: Arc<dyn Clock>,
    latest: Moment,
    /// The uptime at which `latest` was read.
    latest_uptime: Span,
}

impl EngineClock {
    /// How far the time of day may be behind before the clock goes on without it.
    pub const STANDSTILL: Span = Span::from_secs(10);

    /// A clock that starts no earlier than `high_water`, the latest moment that an earlier
    /// run may have shown.
    pub fn starting_at(source: Arc<dyn Clock>, high_water: Moment) -> Self {
        let latest_uptime = source.uptime();
        Self { latest: high_water.max(source.wall()), source, latest_uptime }
    }

    /// The time; never less than any reading before.
    pub fn read(&mut self) -> Moment {
        let (wall, uptime) = (self.source.wall(), self.source.uptime());
        if wall >= self.latest {
            self.latest = wall;
            self.latest_uptime = uptime;
        } else if self.latest.since(wall) > Self::STANDSTILL {
            let passed = Span::from_millis(
                uptime.as_millis().saturating_sub(self.latest_uptime.as_millis()),
            );
            self.latest = self.latest.plus(passed);
            self.latest_uptime = uptime;
        } else {
            self.latest_uptime = uptime;
        }
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(secs: i64) -> Moment {
        Moment::from_millis(secs * 1_000)
    }

    #[test]
    fn follows_the_time_of_day() {
        let source = Arc::new(ManualClock::at(at(100)));
        let mut clock = EngineClock::starting_at(source.clone(), Moment::default());
        assert_eq!(clock.read(), at(100));
        source.advance(Span::from_secs(5));
        assert_eq!(clock.read(), at(105));
        source.step_to(at(5_000));
        assert_eq!(clock.read(), at(5_000));
    }

    #[test]
    fn stands_still_while_the_time_of_day_is_a_little_behind() {
        let source = Arc::new(ManualClock::at(at(100)));
        let mut clock = EngineClock::starting_at(source.clone(), at(101));
        assert_eq!(clock.read(), at(101));
        source.advance(Span::from_millis(900));
        assert_eq!(clock.read(), at(101));
        source.advance(Span::from_millis(200));
        assert_eq!(clock.read(), Moment::from_millis(101_100));
    }

    #[test]
    fn goes_on_by_uptime_after_a_step_back_of_hours() {
        let source = Arc::new(ManualClock::at(at(100_000)));
        let mut clock = EngineClock::starting_at(source.clone(), Moment::default());
        assert_eq!(clock.read(), at(100_000));
        source.step_to(at(90_000));
        assert_eq!(clock.read(), at(100_000));
        source.advance(Span::from_secs(30));
        assert_eq!(clock.read(), at(100_030));
        source.step_to(at(100_031));
        assert_eq!(clock.read(), at(100_031));
    }
}
