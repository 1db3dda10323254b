//! How many records are in which phase, by a walk that reads a page now and then.
//!
//! No engine counts phases: a lease lapses and a retention ends without anybody writing. So
//! whenever somebody looks, and not more often than every ten seconds, the walk reads the next
//! thousand records (and rests a hundred times as long as they took, where that is more), and
//! begins anew at their end. The shares of the latest pages, the last 64
//! or those of the last whole walk, stand for all records. Of up to a thousand records this is
//! exact at the moment of the walk; of up to 64,000 it is a count that took some minutes; of more
//! it is an estimate from those that lie together, by the order of their keys.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::{Phase, phase_of};
use crate::server::recovery::RecoveringEngine;
use crate::storage::list::{Listing, Place};
use crate::storage::{Decided, Engine as _};

/// How many records are read at a time.
const PAGE: usize = 1_000;

/// How many pages stand for all records.
const WINDOW: usize = 64;

/// How long the walk rests after a page at least.
const PAUSE: Duration = Duration::from_secs(10);

/// And how many times as long as the page took: stored responses may be large.
const REST: u32 = 100;

/// The phases that a record can be in, by their names.
pub(super) const PHASES: [&str; 5] = ["held", "lapsed", "in_doubt", "released", "completed"];

/// How many records are in each of the [`PHASES`].
pub(super) type Phases = [u64; PHASES.len()];

/// A walk over the records.
#[derive(Default)]
pub(super) struct Census {
    place: Option<Place>,
    goes_on_at: Option<Instant>,
    /// The latest pages, the oldest first.
    pages: VecDeque<Phases>,
    /// How many of them stand for all records; 0 before the first walk was whole.
    enough: usize,
    /// How many pages this walk has had.
    walked: usize,
}

impl Census {
    /// Reads the next page, unless the last one was just read.
    pub(super) async fn go_on(&mut self, engine: &RecoveringEngine) {
        let began_at = Instant::now();
        if self.goes_on_at.is_some_and(|at| began_at < at) {
            return;
        }
        let listing = Listing {
            namespace: None,
            key_prefix: String::new(),
            phase: None,
            limit: PAGE,
            after: self.place.clone(),
        };
        let Ok(Decided { answer: page, decided_at }) = engine.list(listing).await else { return };
        let mut phases = Phases::default();
        for listed in &page.records {
            let at = match phase_of(Some(&listed.record), decided_at) {
                Phase::Held => 0,
                Phase::Lapsed => 1,
                Phase::InDoubt => 2,
                Phase::Released => 3,
                Phase::Completed => 4,
                // Its retention has ended since.
                Phase::Vacant => continue,
            };
            phases[at] += 1;
        }
        self.goes_on_at = Some(Instant::now() + PAUSE.max(began_at.elapsed() * REST));
        self.place = page.next;
        self.note(phases, self.place.is_none());
    }

    fn note(&mut self, page: Phases, is_last: bool) {
        self.pages.push_back(page);
        self.walked += 1;
        if is_last {
            self.enough = self.walked.min(WINDOW);
            self.walked = 0;
        }
        let enough = if self.enough == 0 { WINDOW } else { self.enough };
        while self.pages.len() > enough {
            self.pages.pop_front();
        }
    }

    /// How many of so many `records` are in which phase; `None` before anything was read.
    pub(super) fn estimate(&self, records: u64) -> Option<Phases> {
        self.goes_on_at?;
        let mut seen = Phases::default();
        for page in &self.pages {
            for (sum, more) in seen.iter_mut().zip(page) {
                *sum += more;
            }
        }
        let all: u64 = seen.iter().sum();
        // What is over and not purged is in no phase, and on no page; a walk that saw all of a
        // small store saw more than its share of the counter.
        if all == 0 || (self.enough > 0 && self.enough < WINDOW) {
            return Some(seen);
        }
        Some(seen.map(|count| {
            let scaled = u128::from(count) * u128::from(records) / u128::from(all);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(pages: &[(Phases, bool)]) -> Census {
        let mut census = Census { goes_on_at: Some(Instant::now()), ..Census::default() };
        pages.iter().for_each(|(page, is_last)| census.note(*page, *is_last));
        census
    }

    #[test]
    fn a_small_store_is_as_the_last_walk_saw_it() {
        let census = noted(&[([5, 0, 0, 0, 3], true), ([0, 1, 0, 0, 7], true)]);
        assert_eq!(census.estimate(999), Some([0, 1, 0, 0, 7]));
        let emptied = noted(&[([5, 0, 0, 0, 3], true), ([0; 5], true)]);
        assert_eq!(emptied.estimate(0), Some([0; 5]));
    }

    #[test]
    fn pages_of_a_walk_take_the_place_of_those_of_the_walk_before() {
        let first = [([1_000, 0, 0, 0, 0], false), ([500, 0, 0, 0, 0], true)];
        let second = [([0, 0, 0, 0, 1_000], false)];
        let census = noted(&[&first[..], &second[..]].concat());
        assert_eq!(census.estimate(0), Some([500, 0, 0, 0, 1_000]));
    }

    #[test]
    fn the_latest_pages_of_a_large_store_stand_for_all() {
        let mut pages = vec![([1_000, 0, 0, 0, 0], false); 10];
        pages.extend(vec![([0, 0, 250, 0, 750], false); WINDOW]);
        assert_eq!(noted(&pages).estimate(1_000_000), Some([0, 0, 250_000, 0, 750_000]));
    }

    #[test]
    fn before_anything_was_read_nothing_is_known() {
        assert_eq!(Census::default().estimate(10), None);
    }
}
