//! How long a refusal is held back, so that guessing is slow: ten a second and source address.
//!
//! Only refusals are: whoever proves who it is never waits, also behind an address that others
//! guess from. Sources share a fixed number of places, so that no number of attackers takes more
//! memory; two that share one slow each other's refusals, and nothing else.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many places there are: 32 KiB of them.
const PLACES: usize = 4_096;

/// How much later each refusal comes than the one before.
const STEP: Duration = Duration::from_millis(100);

/// How many come at once before that: a client with a stale token is to learn so quickly.
const BURST: u32 = 10;

/// How long a refusal is held back at most. What is held is one call of its connection, and
/// bounded with those.
const LONGEST: Duration = Duration::from_secs(5);

/// The refusals of all sources.
pub(super) struct Throttle {
    began: Instant,
    /// Who falls into which place cannot be foreseen, so that nobody aims at another's.
    places_of: RandomState,
    /// When the last refusal to each place is due, in microseconds since `began`.
    due: Box<[AtomicU64]>,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        let due = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { began: now, places_of: RandomState::new(), due }
    }

    /// How long to hold back a refusal to `source`.
    pub(super) fn delay(&self, source: IpAddr, now: Instant) -> Duration {
        let place = self.places_of.hash_one(source.to_canonical()) as usize % PLACES;
        let now = micros(now.saturating_duration_since(self.began));
        let (step, burst, longest) = (micros(STEP), micros(STEP * (BURST - 1)), micros(LONGEST));
        // Past the longest delay nothing is added: a source that goes on is held at it, and is
        // forgiven soon after it ends.
        let next = |due: u64| (due.max(now) + step).min(now + burst + longest);
        let before = self.due[place]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(next(due)));
        let ahead = next(before.unwrap_or_default()).saturating_sub(now + step);
        Duration::from_micros(ahead.saturating_sub(burst))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4)
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_few_refusals_come_at_once_and_the_next_ones_ten_a_second() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        let delays: Vec<_> = (0..13).map(|_| throttle.delay(source(1), now)).collect();
        assert_eq!(delays[..10], [Duration::ZERO; 10]);
        assert_eq!(delays[10..], [STEP, STEP * 2, STEP * 3]);
        // A second later a second's worth is forgiven.
        let later = now + Duration::from_secs(1);
        assert_eq!(throttle.delay(source(1), later), Duration::ZERO);
    }

    #[test]
    fn no_refusal_is_held_longer_than_the_bound_however_many_there_were() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        for _ in 0..10_000 {
            assert!(throttle.delay(source(1), now) <= LONGEST);
        }
        let later = now + LONGEST + STEP * BURST;
        assert_eq!(throttle.delay(source(1), later), Duration::ZERO);
    }

    #[test]
    fn a_source_is_not_slowed_for_what_another_did() {
        let now = Instant::now();
        let throttle = Throttle::new(now);
        for _ in 0..100 {
            throttle.delay(source(1), now);
        }
        // One place in 4,096 may be shared, not those of all the others.
        assert!((2..=20).any(|last| throttle.delay(source(last), now).is_zero()));
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        assert!(!throttle.delay(mapped, now).is_zero(), "one host, however it is written");
    }
}
