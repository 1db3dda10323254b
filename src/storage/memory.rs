//! The engine that keeps everything in memory: for tests, for trying onced out, and as the
//! plainest reading of what an engine is.
//!
//! What it calls durable lasts as long as the process.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;

use super::{Answering, Condition, Decided, Engine, EngineError, Purged};
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
    records: HashMap<RecordKey, Record>,
    /// Every record under the moment at which its retention is over.
    expiry: BTreeSet<(Moment, RecordKey)>,
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
                records: HashMap::new(),
                expiry: BTreeSet::new(),
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
        let record = inner.records.get(key);
        let answer = record.filter(|record| phase_of(Some(record), now) != Phase::Vacant).cloned();
        Ok(Decided { answer, decided_at: now })
    }
}

impl Inner {
    fn put(&mut self, key: RecordKey, record: Record) {
        let until = record.retained_until();
        if let Some(old) = self.records.insert(key.clone(), record) {
            self.expiry.remove(&(old.retained_until(), key.clone()));
        }
        self.expiry.insert((until, key));
    }

    fn delete(&mut self, key: &RecordKey) {
        if let Some(old) = self.records.remove(key) {
            self.expiry.remove(&(old.retained_until(), key.clone()));
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

    fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    fn close(&self) {
        self.inner.lock().unwrap().closing = true;
    }
}
