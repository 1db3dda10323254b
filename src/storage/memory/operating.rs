//! What operators ask of records in memory: pages of them, statistics, and the erase of a
//! namespace step by step.

use std::ops::Bound;
use std::time::Instant;

use super::{Inner, Records, Shared};
use crate::domain::{FencingToken, Moment, Phase, phase_of};
use crate::storage::erase::{Begin, Erase, EraseOrder, EraseStep, Erasing};
use crate::storage::list::{Collector, Listing, Page};
use crate::storage::round::Round;
use crate::storage::stats::{MAX_COUNTED, MAX_USAGES, Stats};
use crate::storage::{Decided, EngineError, keys};

impl Shared {
    /// Looks at everything at one moment.
    pub(super) fn look<T>(
        &self,
        look: impl FnOnce(&mut Inner, Moment) -> Result<T, EngineError>,
    ) -> Result<Decided<T>, EngineError> {
        let mut inner = self.begin()?;
        let now = inner.clock.read();
        Ok(Decided { answer: look(&mut inner, now)?, decided_at: now })
    }

    /// Takes one step of the erase whose turn it is, and serves whoever waits for what went.
    pub(super) fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        let mut inner = self.begin()?;
        let Inner { records, erases, clock, waiting, .. } = &mut *inner;
        let Some(mut erase) = erases.next() else {
            return Ok(EraseStep { records: 0, more: false });
        };
        let now = clock.read();
        records.now = now;
        let found: Vec<_> = match erase.left() {
            Some((_, from, to)) => {
                let found = records.records.range(from..to).take(limit);
                found.map(|(key, record)| (key.clone(), record.fencing_token)).collect()
            }
            None => Vec::new(),
        };
        if found.len() < limit {
            erase.ended_at = Some(now);
        }
        let mut gone = Vec::new();
        for (key, fencing_token) in found {
            if Some(fencing_token) <= erase.ceiling {
                records.delete(&key);
                erase.erased += 1;
                gone.push(key.clone());
            }
            erase.done_to = key;
        }
        let mut answered = Vec::new();
        if !gone.is_empty() {
            Round::begin(records, waiting, &mut answered, now, Instant::now()).changed(&gone);
            waiting.set_alarm(now, |after| self.alarm.set(after));
        }
        erases.note(erase.clone());
        let more = erases.next().is_some();
        drop(inner);
        Self::hand_out(answered);
        if erase.ended_at.is_some() {
            erase.tell_end();
        }
        Ok(EraseStep { records: gone.len(), more })
    }
}

impl Records {
    /// One page of `listing`.
    pub(super) fn page(&self, listing: &Listing, now: Moment) -> Page {
        let mut collector = Collector::new(listing, now);
        if listing.is_by_lease_end() {
            let (from, to) = listing.lease_ends(now);
            for place in self.holds.range(from..to) {
                let Some((_, key)) = keys::split_expiry_key(place) else { continue };
                let record = collector.wants(key).then(|| Ok(self.records[key].clone()));
                if !collector.offer(place, key, record, 0) {
                    break;
                }
            }
            return collector.finish();
        }
        let (from, to) = listing.range();
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        // A range that ends before it begins is a panic, and a place may be anything.
        if matches!(&to, Bound::Excluded(to) if *to <= from) {
            return collector.finish();
        }
        for (key, record) in self.records.range((Bound::Included(from), to)) {
            let record = collector.wants(key).then(|| Ok(record.clone()));
            if !collector.offer(key, key, record, 0) {
                break;
            }
        }
        collector.finish()
    }
}

impl Inner {
    /// What there is to tell.
    pub(super) fn stats(&self, now: Moment) -> Stats {
        let past_now = keys::expiry_bound(Moment::from_millis(now.as_millis().saturating_add(1)));
        let Records { records, holds, usages, .. } = &self.records;
        let mut ended = holds.range(..past_now.to_vec());
        let in_doubt = ended
            .by_ref()
            .take(MAX_COUNTED)
            .filter_map(|place| keys::split_expiry_key(place))
            .filter(|(_, key)| phase_of(records.get(*key), now) == Phase::InDoubt)
            .count();
        Stats {
            store: "memory",
            records: records.len() as u64,
            records_estimated: false,
            in_doubt,
            in_doubt_capped: ended.next().is_some(),
            in_flight: 0,
            in_flight_bytes: 0,
            parked: self.waiting.len(),
            usages: usages.iter().take(MAX_USAGES).map(|(name, it)| (name.clone(), *it)).collect(),
            usages_capped: usages.len() > MAX_USAGES,
            fencing_high_water: FencingToken::new(self.records.next_fencing_token.get() - 1),
            erases: self.erases.running().cloned().collect(),
        }
    }

    /// Begins an erase, or shows how far it has come.
    pub(super) fn order_erase(
        &mut self,
        order: EraseOrder,
        now: Moment,
    ) -> Result<Erasing, EngineError> {
        match self.erases.begin(&order)? {
            Begin::Found(erase) => Ok(Erasing { erase, is_new: false }),
            Begin::Anew { forgets } => {
                forgets.iter().for_each(|namespace| self.erases.forget(namespace));
                let ceiling = FencingToken::new(self.records.next_fencing_token.get() - 1);
                let erase = Erase::begun(order, ceiling, now);
                self.erases.note(erase.clone());
                Ok(Erasing { erase, is_new: true })
            }
        }
    }
}
