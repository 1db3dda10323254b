//! The engine that keeps everything in memory: for tests, for trying onced out, and as the
//! plainest reading of what an engine is.
//!
//! What it calls durable lasts as long as the process.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;

use super::quota::{FREED, LOOKED_AT};
use super::{
    Answering, Condition, Decided, Engine, EngineError, Purged, Quota, Quotas, Usage, codec, keys,
};
use crate::clock::{Clock, EngineClock};
use crate::domain::{
    Command, Decision, FencingToken, Moment, Namespace, Phase, QuotaKind, Record, RecordKey,
    Refusal, Write, decide, phase_of, purge,
};

/// How many records it holds before it refuses reservations: about a gigabyte of small ones.
const MAX_RECORDS: usize = 2_000_000;

/// Records in a map, behind one mutex.
pub struct MemoryEngine {
    inner: Mutex<Inner>,
    condition: watch::Sender<Condition>,
    max_records: usize,
    quotas: Quotas,
}

struct Inner {
    records: HashMap<RecordKey, Record>,
    /// Every record under the moment at which its retention is over.
    expiry: BTreeSet<(Moment, RecordKey)>,
    /// What each namespace that has records has of them.
    usages: HashMap<Namespace, Usage>,
    clock: EngineClock,
    next_fencing_token: FencingToken,
    closing: bool,
}

impl MemoryEngine {
    /// An empty engine on `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::bounded(clock, MAX_RECORDS)
    }

    /// An empty engine on `clock` that keeps `quotas`.
    pub fn with_quotas(clock: Arc<dyn Clock>, quotas: Quotas) -> Self {
        Self { quotas, ..Self::new(clock) }
    }

    /// An empty engine that refuses reservations past `max_records`.
    pub fn bounded(clock: Arc<dyn Clock>, max_records: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                records: HashMap::new(),
                expiry: BTreeSet::new(),
                usages: HashMap::new(),
                clock: EngineClock::starting_at(clock, Moment::default()),
                next_fencing_token: FencingToken::FIRST,
                closing: false,
            }),
            condition: watch::Sender::new(Condition::Serving),
            max_records,
            quotas: Quotas::default(),
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
        let mut inner = self.begin(deadline)?;
        let now = inner.clock.read();
        let record = inner.records.get(&key);
        let fencing_token = inner.next_fencing_token;
        let was_vacant = phase_of(record, now) == Phase::Vacant;
        let transition = decide(record, command, now, fencing_token);
        match transition.write {
            Write::Keep => {}
            Write::Put(_) if record.is_none() && inner.records.len() >= self.max_records => {
                return Err(EngineError::Full);
            }
            Write::Put(next) => {
                let quota = self.quotas.of(key.namespace.as_str().as_bytes());
                if matches!(command, Command::Reserve(_))
                    && was_vacant
                    && let Some(kind) = inner.refusal(&key, &next, quota, now)
                {
                    let answer = Decision::Refused(Refusal::QuotaExceeded(kind));
                    return Ok(Decided { answer, decided_at: now });
                }
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
        let record = inner.records.get(key);
        let answer = record.filter(|record| phase_of(Some(record), now) != Phase::Vacant).cloned();
        Ok(Decided { answer, decided_at: now })
    }
}

impl Inner {
    fn put(&mut self, key: RecordKey, record: Record) {
        self.delete(&key);
        let usage = self.usages.entry(key.namespace.clone()).or_default();
        *usage = usage.with(bytes_of(&key, &record));
        self.expiry.insert((record.retained_until(), key.clone()));
        self.records.insert(key, record);
    }

    fn delete(&mut self, key: &RecordKey) {
        let Some(old) = self.records.remove(key) else { return };
        self.expiry.remove(&(old.retained_until(), key.clone()));
        let usage = self.usages.get_mut(&key.namespace).expect("what is on record is counted");
        *usage = usage.without(bytes_of(key, &old));
        if *usage == Usage::default() {
            self.usages.remove(&key.namespace);
        }
    }

    /// Frees the space of a record whose retention is over.
    fn purge(&mut self, key: &RecordKey, now: Moment) {
        match purge(&self.records[key], now) {
            Write::Delete => self.delete(key),
            Write::Keep | Write::Put(_) => unreachable!("the index holds no earlier moment"),
        }
    }

    /// What stands in the way of `record`, whose key is vacant; once more after what is over
    /// in its namespace was freed.
    fn refusal(
        &mut self,
        key: &RecordKey,
        record: &Record,
        quota: Quota,
        now: Moment,
    ) -> Option<QuotaKind> {
        if quota.is_none() {
            return None;
        }
        self.refusal_as_it_is(key, record, quota)?;
        let due = self.expiry.iter().take_while(|(until, _)| *until <= now).take(LOOKED_AT);
        let mine = due.map(|(_, due)| due).filter(|due| due.namespace == key.namespace);
        for due in mine.take(FREED).cloned().collect::<Vec<_>>() {
            self.purge(&due, now);
        }
        self.refusal_as_it_is(key, record, quota)
    }

    /// One that is over and was not purged makes room for its own second life.
    fn refusal_as_it_is(
        &self,
        key: &RecordKey,
        record: &Record,
        quota: Quota,
    ) -> Option<QuotaKind> {
        let usage = self.usages.get(&key.namespace).copied().unwrap_or_default();
        let others = match self.records.get(key) {
            Some(over) => usage.without(bytes_of(key, over)),
            None => usage,
        };
        quota.refuses(others, bytes_of(key, record))
    }
}

/// How many bytes a record counts for: as many as it would take on a disk.
fn bytes_of(key: &RecordKey, record: &Record) -> u64 {
    let stored = codec::encoded_len(record, record.retained_until(), 0);
    (keys::record_key_len(key) + stored) as u64
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
            inner.purge(&key, now);
            records += 1;
        }
        Ok(Purged { records, more: false })
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    fn close(&self) {
        self.inner.lock().unwrap().closing = true;
    }
}

#[cfg(test)]
mod tests;
