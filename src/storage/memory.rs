//! The engine that keeps everything in memory: for tests, for trying onced out, and as the
//! plainest reading of what an engine is.
//!
//! What it calls durable lasts as long as the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;

use super::erase::{Begin, Erase, EraseOrder, EraseStep, Erases, Erasing};
use super::list::{Collector, Listing, Page};
use super::stats::{MAX_COUNTED, Stats};
use super::{Answering, Condition, Decided, Engine, EngineError, Purged, keys};
use crate::clock::{Clock, EngineClock};
use crate::domain::{
    Command, Decision, FencingToken, Moment, Phase, Record, RecordKey, Write, decide, phase_of,
    purge,
};

/// How many records it holds before it refuses reservations: about a gigabyte of small ones.
const MAX_RECORDS: usize = 2_000_000;

/// Records in a map, behind one mutex.
pub struct MemoryEngine {
    inner: Mutex<Inner>,
    condition: watch::Sender<Condition>,
    max_records: usize,
}

struct Inner {
    /// By their record keys, in whose order they are listed.
    records: BTreeMap<Vec<u8>, Record>,
    /// Every record under the moment at which its retention is over.
    expiry: BTreeSet<(Moment, Vec<u8>)>,
    /// Every reservation that comes in doubt, under an index key of that moment.
    holds: BTreeSet<Vec<u8>>,
    erases: Erases,
    clock: EngineClock,
    next_fencing_token: FencingToken,
    closing: bool,
}

impl MemoryEngine {
    /// An empty engine on `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::bounded(clock, MAX_RECORDS)
    }

    /// An empty engine that refuses reservations past `max_records`.
    pub fn bounded(clock: Arc<dyn Clock>, max_records: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                records: BTreeMap::new(),
                expiry: BTreeSet::new(),
                holds: BTreeSet::new(),
                erases: Erases::default(),
                clock: EngineClock::starting_at(clock, Moment::default()),
                next_fencing_token: FencingToken::FIRST,
                closing: false,
            }),
            condition: watch::Sender::new(Condition::Serving),
            max_records,
        }
    }

    fn begin(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, Inner>, EngineError> {
        let inner = self.inner.lock().unwrap();
        if inner.closing {
            return Err(EngineError::Closing);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(EngineError::DeadlineTooShort);
        }
        Ok(inner)
    }

    fn apply_now(
        &self,
        key: RecordKey,
        command: &Command,
        deadline: Option<Instant>,
    ) -> Result<Decided<Decision>, EngineError> {
        let key = keys::record_key(&key);
        let mut inner = self.begin(deadline)?;
        let now = inner.clock.read();
        let record = inner.records.get(&key);
        let fencing_token = inner.next_fencing_token;
        let transition = decide(record, command, now, fencing_token);
        match transition.write {
            Write::Keep => {}
            Write::Put(_) if record.is_none() && inner.records.len() >= self.max_records => {
                return Err(EngineError::Full);
            }
            Write::Put(next) => {
                if next.fencing_token == fencing_token {
                    inner.next_fencing_token = fencing_token.next();
                }
                inner.put(key, next);
            }
            Write::Delete => inner.delete(&key),
        }
        Ok(Decided { answer: transition.decision, decided_at: now })
    }

    fn lookup_now(
        &self,
        key: &RecordKey,
        deadline: Option<Instant>,
    ) -> Result<Decided<Option<Record>>, EngineError> {
        let mut inner = self.begin(deadline)?;
        let now = inner.clock.read();
        let record = inner.records.get(&keys::record_key(key));
        let answer = record.filter(|record| phase_of(Some(record), now) != Phase::Vacant).cloned();
        Ok(Decided { answer, decided_at: now })
    }
}

impl Inner {
    fn put(&mut self, key: Vec<u8>, record: Record) {
        self.delete(&key);
        if let Some(at) = record.in_doubt_from() {
            self.holds.insert(keys::expiry_key(at, &key));
        }
        self.expiry.insert((record.retained_until(), key.clone()));
        self.records.insert(key, record);
    }

    fn delete(&mut self, key: &[u8]) {
        let Some((key, old)) = self.records.remove_entry(key) else { return };
        if let Some(at) = old.in_doubt_from() {
            self.holds.remove(&keys::expiry_key(at, &key));
        }
        self.expiry.remove(&(old.retained_until(), key));
    }

    fn page(&self, listing: &Listing, now: Moment) -> Page {
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

    fn stats(&self, now: Moment) -> Stats {
        let past_now = keys::expiry_bound(Moment::from_millis(now.as_millis().saturating_add(1)));
        let mut ended = self.holds.range(..past_now.to_vec());
        let in_doubt = ended
            .by_ref()
            .take(MAX_COUNTED)
            .filter_map(|place| keys::split_expiry_key(place))
            .filter(|(_, key)| phase_of(self.records.get(*key), now) == Phase::InDoubt)
            .count();
        Stats {
            store: "memory",
            records: self.records.len() as u64,
            records_estimated: false,
            in_doubt,
            in_doubt_capped: ended.next().is_some(),
            in_flight: 0,
            in_flight_bytes: 0,
            fencing_high_water: FencingToken::new(self.next_fencing_token.get() - 1),
            erases: self.erases.running().cloned().collect(),
        }
    }

    fn order_erase(&mut self, order: EraseOrder, now: Moment) -> Result<Erasing, EngineError> {
        match self.erases.begin(&order)? {
            Begin::Found(erase) => Ok(Erasing { erase, is_new: false }),
            Begin::Anew { forgets } => {
                forgets.iter().for_each(|namespace| self.erases.forget(namespace));
                let ceiling = FencingToken::new(self.next_fencing_token.get() - 1);
                let erase = Erase::begun(order, ceiling, now);
                self.erases.note(erase.clone());
                Ok(Erasing { erase, is_new: true })
            }
        }
    }
}

impl Engine for MemoryEngine {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        Box::pin(async move { self.apply_now(key, &command, deadline) })
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        Box::pin(async move { self.lookup_now(&key, deadline) })
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        let mut inner = self.begin(None)?;
        let now = inner.clock.read();
        let mut records = 0;
        while let Some((until, key)) = inner.expiry.first().cloned() {
            if until > now {
                return Ok(Purged { records, more: false });
            }
            if records == limit {
                return Ok(Purged { records, more: true });
            }
            match purge(&inner.records[&key], now) {
                Write::Delete => inner.delete(&key),
                Write::Keep | Write::Put(_) => unreachable!("the index holds no earlier moment"),
            }
            records += 1;
        }
        Ok(Purged { records, more: false })
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        Box::pin(async move {
            let mut inner = self.begin(None)?;
            let now = inner.clock.read();
            Ok(Decided { answer: inner.page(&listing, now), decided_at: now })
        })
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        Box::pin(async move {
            let mut inner = self.begin(None)?;
            let now = inner.clock.read();
            Ok(Decided { answer: inner.order_erase(order, now)?, decided_at: now })
        })
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        let mut inner = self.begin(None)?;
        let now = inner.clock.read();
        let Some(mut erase) = inner.erases.next() else {
            return Ok(EraseStep { records: 0, more: false });
        };
        let before = erase.erased;
        let found: Vec<_> = match erase.left() {
            Some((_, from, to)) => {
                let found = inner.records.range(from..to).take(limit);
                found.map(|(key, record)| (key.clone(), record.fencing_token)).collect()
            }
            None => Vec::new(),
        };
        if found.len() < limit {
            erase.ended_at = Some(now);
        }
        for (key, fencing_token) in found {
            if Some(fencing_token) <= erase.ceiling {
                inner.delete(&key);
                erase.erased += 1;
            }
            erase.done_to = key;
        }
        let records = usize::try_from(erase.erased - before).unwrap_or(usize::MAX);
        inner.erases.note(erase.clone());
        let more = inner.erases.next().is_some();
        drop(inner);
        if erase.ended_at.is_some() {
            erase.tell_end();
        }
        Ok(EraseStep { records, more })
    }

    fn stats(&self) -> Answering<'_, Stats> {
        Box::pin(async move {
            let mut inner = self.begin(None)?;
            let now = inner.clock.read();
            Ok(Decided { answer: inner.stats(now), decided_at: now })
        })
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    fn close(&self) {
        self.inner.lock().unwrap().closing = true;
    }
}
