//! How things are counted while they happen: histograms of plain atomics, and which shard of
//! several a thread counts in. Nothing here knows what is counted, and nothing is rendered here.
//!
//! # Why not the histogram of a library
//!
//! The one of prometheus-client takes a mutex for each observation. Here an observation is two
//! additions to memory that, where there are as many shards as threads, no other thread writes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How many bounds a histogram has. What lies beyond the last is counted as well.
pub const BOUNDS: usize = 16;

/// The upper bounds of a histogram's buckets.
#[derive(Debug)]
pub struct Scale {
    /// In the unit of what is observed, rising; each bucket includes its bound.
    pub bounds: [u64; BOUNDS],
    /// How many of them make one unit of what is shown.
    pub per_unit: f64,
}

/// From 100 µs to 10 s, observed in nanoseconds and shown in seconds.
pub static SECONDS: Scale = Scale {
    bounds: [
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ],
    per_unit: 1e9,
};

/// Powers of two from 1 to 32,768.
pub static COUNTS: Scale = Scale {
    bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768],
    per_unit: 1.0,
};

/// How often what was observed, and how much it was together.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub fn new(scale: &'static Scale) -> Self {
        Self { scale, buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    /// Counts `value`, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        // Without a branch, which the durations of calls would mispredict.
        let below =
            self.scale.bounds.iter().map(|bound| usize::from(value > *bound)).sum::<usize>();
        self.buckets[below].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a length of time, on [`SECONDS`].
    pub fn observe_span(&self, span: Duration) {
        self.observe(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        Tally {
            scale: self.scale,
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a histogram had counted at one moment, or several together.
#[derive(Clone, Debug)]
pub struct Tally {
    scale: &'static Scale,
    buckets: [u64; BOUNDS + 1],
    sum: u64,
}

impl Tally {
    /// Of nothing.
    pub fn new(scale: &'static Scale) -> Self {
        Self { scale, buckets: [0; BOUNDS + 1], sum: 0 }
    }

    /// Adds what another histogram of the same scale has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What they were together, in the unit that is shown.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / self.scale.per_unit
    }

    /// The buckets by their upper bounds in the unit that is shown, each without those below it;
    /// the last one has none.
    pub fn buckets(&self) -> [(f64, u64); BOUNDS + 1] {
        std::array::from_fn(|at| {
            let bound = self.scale.bounds.get(at).map(|bound| *bound as f64 / self.scale.per_unit);
            (bound.unwrap_or(f64::INFINITY), self.buckets[at])
        })
    }
}

/// The number of this thread, in the order in which threads first asked.
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_bound_and_nothing_is_lost_beyond_the_last() {
        let histogram = Histogram::new(&SECONDS);
        for nanos in [0, 100_000, 100_001, 250_000, 10_000_000_000, 10_000_000_001] {
            histogram.observe(nanos);
        }
        let tally = histogram.tally();
        let counts = tally.buckets().map(|(_, count)| count);
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 2, 1, 1));
        assert_eq!(tally.count(), 6);
        let bounds = tally.buckets().map(|(bound, _)| bound);
        assert_eq!((bounds[0], bounds[15], bounds[16]), (0.0001, 10.0, f64::INFINITY));
        assert!(bounds.is_sorted());
    }

    #[test]
    fn tallies_add_up() {
        let (one, other) = (Histogram::new(&COUNTS), Histogram::new(&COUNTS));
        one.observe(3);
        other.observe(3);
        other.observe(1_000_000);
        let mut tally = Tally::new(&COUNTS);
        tally.add(&one.tally());
        tally.add(&other.tally());
        assert_eq!((tally.count(), tally.sum()), (3, 1_000_006.0));
        assert_eq!((tally.buckets()[2].1, tally.buckets()[BOUNDS].1), (2, 1));
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let mine = thread_number();
        assert_eq!(mine, thread_number());
        assert_ne!(mine, std::thread::spawn(thread_number).join().unwrap());
    }
}
