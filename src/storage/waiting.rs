//! Callers that wait for somebody else's reservation, in the order of their arrival: a plain
//! struct that an engine keeps under its one mutex.
//!
//! It knows no clock, no channel and no record. Who is answered is for [`super::round`] to
//! decide: it asks for one after another, and stops at the first that has to go on waiting.
//!
//! # Why the lines are kept inside the engine
//!
//! A reservation that is released and a caller that is granted it are one step of the engine.
//! If waiters were told to come and ask again, a newcomer could come between, and the first in
//! line would be the last to learn of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{Moment, Span};

/// How soon an alarm goes off again that went off too early: the engine's clock stood still.
const SOON: Span = Span::from_millis(10);

/// A place in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Gives out tickets.
#[derive(Debug, Default)]
pub struct Tickets(AtomicU64);

impl Tickets {
    /// The next ticket: later than all before it.
    pub fn draw(&self) -> Ticket {
        Ticket(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The wish of a caller to wait.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Its place.
    pub ticket: Ticket,
    /// Whether it has been given up. Raised before the engine's mutex is taken to withdraw the
    /// ticket and read under it: a call that was not parked by then never will be.
    over: Arc<AtomicBool>,
}

impl Wait {
    /// A wish that nobody gave up yet.
    pub fn new(ticket: Ticket) -> Self {
        Self { ticket, over: Arc::default() }
    }

    /// Gives it up.
    pub fn give_up(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it has been given up.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingBounds {
    /// In all.
    pub max: usize,
    /// For one key.
    pub max_per_key: usize,
}

/// Whom a caller waits with: lookups are shown any end of a reservation, reservations take
/// turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// All are answered together.
    Lookups,
    /// The first is answered first.
    Reserves,
}

/// Everybody who waits. `K` names a record, `T` is a parked call.
#[derive(Debug)]
pub struct Waiting<K, T> {
    lines: HashMap<K, Line<T>>,
    /// The lease that each line waits for, by the moment at which it ends.
    lapses: BTreeSet<(Moment, K)>,
    parked: usize,
    bounds: WaitingBounds,
    /// The lapse that the alarm is set for.
    alarm_set_for: Option<Moment>,
}

/// Who waits for one key. Boxed: a node of these maps has room for eleven, and mostly one comes.
#[derive(Debug)]
struct Line<T> {
    lookups: BTreeMap<Ticket, Box<T>>,
    reserves: BTreeMap<Ticket, Box<T>>,
    lease_until: Moment,
}

impl<T> Line<T> {
    fn len(&self) -> usize {
        self.lookups.len() + self.reserves.len()
    }
}

impl<K: Clone + Eq + Hash + Ord, T> Waiting<K, T> {
    /// Nobody, and how many there may be.
    pub fn new(bounds: WaitingBounds) -> Self {
        Self {
            lines: HashMap::new(),
            lapses: BTreeSet::new(),
            parked: 0,
            bounds,
            alarm_set_for: None,
        }
    }

    /// Whether anybody waits for `key`.
    pub fn has(&self, key: &K) -> bool {
        self.parked > 0 && self.lines.contains_key(key)
    }

    /// How many wait, in all.
    pub fn len(&self) -> usize {
        self.parked
    }

    /// Whether one more may wait for `key`.
    pub fn has_room(&self, key: &K) -> bool {
        self.parked < self.bounds.max
            && self.lines.get(key).map_or(0, Line::len) < self.bounds.max_per_key
    }

    /// Parks a call until something happens to `key`, or its lease ends.
    pub fn park(&mut self, key: &K, queue: Queue, ticket: Ticket, lease_until: Moment, parked: T) {
        assert!(self.has_room(key), "more callers wait than may");
        let line = self.lines.entry(key.clone()).or_insert_with(|| {
            self.lapses.insert((lease_until, key.clone()));
            Line { lookups: BTreeMap::new(), reserves: BTreeMap::new(), lease_until }
        });
        if line.lease_until != lease_until {
            self.lapses.remove(&(line.lease_until, key.clone()));
            self.lapses.insert((lease_until, key.clone()));
            line.lease_until = lease_until;
        }
        let queue = match queue {
            Queue::Lookups => &mut line.lookups,
            Queue::Reserves => &mut line.reserves,
        };
        let before = queue.insert(ticket, Box::new(parked));
        assert!(before.is_none(), "a ticket was drawn twice");
        self.parked += 1;
    }

    /// Takes a parked call back; `None` where it is not parked, or no longer.
    pub fn withdraw(&mut self, key: &K, ticket: Ticket) -> Option<T> {
        let line = self.lines.get_mut(key)?;
        let parked =
            line.lookups.remove(&ticket).or_else(|| line.reserves.remove(&ticket)).map(|it| *it)?;
        self.parked -= 1;
        if line.len() == 0 {
            let lease_until = line.lease_until;
            self.lapses.remove(&(lease_until, key.clone()));
            self.lines.remove(key);
        }
        Some(parked)
    }

    /// Asks `answer` for one parked call of `key` after another: lookups first, and then
    /// reservations in the order of their arrival. One that it returns stays in its place until
    /// the lease ends that it comes with, and so do those behind it.
    pub fn serve(&mut self, key: &K, mut answer: impl FnMut(T) -> Option<(T, Moment)>) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let mut stays_until = None;
        for queue in [&mut line.lookups, &mut line.reserves] {
            while let Some((ticket, parked)) = queue.pop_first() {
                let Some((parked, until)) = answer(*parked) else {
                    self.parked -= 1;
                    continue;
                };
                queue.insert(ticket, Box::new(parked));
                stays_until = Some(until);
                break;
            }
        }
        let waited_until = line.lease_until;
        let Some(stays_until) = stays_until else {
            self.lapses.remove(&(waited_until, key.clone()));
            self.lines.remove(key);
            return;
        };
        line.lease_until = stays_until;
        if stays_until != waited_until {
            self.lapses.remove(&(waited_until, key.clone()));
            self.lapses.insert((stays_until, key.clone()));
        }
    }

    /// Sets an alarm for the next lease that ends and somebody waits for, where that is another
    /// one than it is set for.
    pub fn set_alarm(&mut self, now: Moment, set: impl FnOnce(Option<Duration>)) {
        let next = self.next_lapse();
        if next != self.alarm_set_for {
            self.alarm_set_for = next;
            set(next.map(|lapse| lapse.since(now).to_std()));
        }
    }

    /// Sets an alarm again that has gone off, whatever it was set for.
    pub fn set_alarm_again(&mut self, now: Moment, set: impl FnOnce(Option<Duration>)) {
        self.alarm_set_for = self.next_lapse();
        set(self.alarm_set_for.map(|lapse| lapse.since(now).max(SOON).to_std()));
    }

    fn next_lapse(&self) -> Option<Moment> {
        self.lapses.first().map(|(moment, _)| *moment)
    }

    /// A key that somebody waits for and whose lease is over at `now`.
    pub fn due(&self, now: Moment) -> Option<K> {
        self.lapses.first().filter(|(moment, _)| *moment <= now).map(|(_, key)| key.clone())
    }

    /// Takes everybody, and leaves nobody.
    pub fn take_all(&mut self) -> Vec<T> {
        self.lapses.clear();
        self.parked = 0;
        let lines = self.lines.drain();
        lines
            .flat_map(|(_, line)| line.lookups.into_values().chain(line.reserves.into_values()))
            .map(|parked| *parked)
            .collect()
    }
}

#[cfg(test)]
mod tests;
