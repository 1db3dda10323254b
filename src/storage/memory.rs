//! The engine that keeps everything in memory: for tests, for trying onced out, and as the
//! plainest reading of what an engine is.
//!
//! What it calls durable lasts as long as the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::alarm::Alarm;
use super::erase::{EraseOrder, EraseStep, Erases, Erasing};
use super::list::{Listing, Page};
use super::measured::{Measured, Meters};
use super::question::{Answer, Question};
use super::quota::{FREED, LOOKED_AT};
use super::round::{Answered, Asked, Caller, Parked, Round, Store};
use super::stats::Stats;
use super::waiting::{Tickets, Wait, Waiting};
use super::{
    Answering, Condition, Decided, Engine, EngineError, Patience, Purged, Quota, Quotas,
    StoreOptions, Usage, Usages, codec, keys,
};
use crate::clock::{Clock, EngineClock};
use crate::domain::{
    Command, Decision, FencingToken, Moment, Phase, QuotaKind, Record, RecordKey, Refusal, Write,
    decide, phase_of, purge,
};

mod operating;

/// How many records it holds before it refuses reservations: about a gigabyte of small ones.
const MAX_RECORDS: usize = 2_000_000;

/// Records in a map, behind one mutex.
pub struct MemoryEngine {
    shared: Arc<Shared>,
    condition: watch::Sender<Condition>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers share with the thread that looks after lapses.
struct Shared {
    inner: Mutex<Inner>,
    meters: Meters,
    tickets: Tickets,
    alarm: Alarm,
}

struct Inner {
    records: Records,
    erases: Erases,
    clock: EngineClock,
    waiting: Parked<Vec<u8>, ReplyTo>,
    closing: bool,
}

/// What is kept, and the moment at which it is asked.
struct Records {
    /// By their record keys, in whose order they are listed.
    records: BTreeMap<Vec<u8>, Record>,
    /// Every record under the moment at which its retention is over.
    expiry: BTreeSet<(Moment, Vec<u8>)>,
    /// Every reservation that comes in doubt, under an index key of that moment.
    holds: BTreeSet<Vec<u8>>,
    /// What each namespace that has records has of them.
    usages: Usages,
    quotas: Quotas,
    max_records: usize,
    next_fencing_token: FencingToken,
    now: Moment,
}

/// Where an answer goes: nowhere while its caller is inside the call, and through a channel
/// where it may be parked.
struct ReplyTo(Option<oneshot::Sender<Told>>);

type Told = Result<Decided<Answer>, EngineError>;

impl Caller for ReplyTo {
    fn has_left(&self) -> bool {
        self.0.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn park(&mut self) {}

    /// What is answered is in memory already.
    fn may_hold(&mut self, _: usize) -> bool {
        true
    }
}

impl MemoryEngine {
    /// An empty engine on `clock`.
    pub fn new(clock: Arc<dyn Clock>, options: &StoreOptions) -> Self {
        Self::bounded(clock, options, MAX_RECORDS)
    }

    /// An empty engine that refuses reservations past `max_records`.
    pub fn bounded(clock: Arc<dyn Clock>, options: &StoreOptions, max_records: usize) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                records: Records {
                    records: BTreeMap::new(),
                    expiry: BTreeSet::new(),
                    holds: BTreeSet::new(),
                    usages: Usages::new(),
                    quotas: options.quotas.clone(),
                    max_records,
                    next_fencing_token: FencingToken::FIRST,
                    now: Moment::default(),
                },
                erases: Erases::default(),
                clock: EngineClock::starting_at(clock, Moment::default()),
                waiting: Waiting::new(options.waiting),
                closing: false,
            }),
            meters: Meters::default(),
            tickets: Tickets::default(),
            alarm: Alarm::default(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("onced-wait".into())
                .spawn(move || shared.look_after_lapses())
                .expect("a thread can be started")
        };
        Self {
            shared,
            condition: watch::Sender::new(Condition::Serving),
            thread: Mutex::new(Some(thread)),
        }
    }
}

impl Shared {
    fn begin(&self) -> Result<MutexGuard<'_, Inner>, EngineError> {
        let inner = self.inner.lock().unwrap();
        if inner.closing {
            return Err(EngineError::Closing);
        }
        Ok(inner)
    }

    /// Asks, serves whoever waits, and returns the answer where it is given at once.
    fn round(&self, asked: Asked<Vec<u8>, ReplyTo>) -> Result<Option<Told>, EngineError> {
        let mut inner = self.begin()?;
        let Inner { records, clock, waiting, .. } = &mut *inner;
        let now = clock.read();
        records.now = now;
        let mut answered = Vec::new();
        Round::begin(records, waiting, &mut answered, now, Instant::now()).take(asked);
        waiting.set_alarm(now, |after| self.alarm.set(after));
        drop(inner);
        Ok(Self::hand_out(answered))
    }

    /// Hands answers over, and returns the one whose caller is inside the call.
    fn hand_out(answered: Vec<Answered<ReplyTo>>) -> Option<Told> {
        let mut own = None;
        for answered in answered {
            match answered.caller.0 {
                None => own = Some(answered.answer),
                Some(channel) => {
                    let _ = channel.send(answered.answer);
                }
            }
        }
        own
    }

    fn ask(&self, question: Question<Vec<u8>>, deadline: Option<Instant>) -> Told {
        let told = self.round(Asked { question, deadline, caller: ReplyTo(None), wait: None })?;
        told.expect("a caller that does not wait is answered at once")
    }

    async fn ask_waiting(
        &self,
        key: Vec<u8>,
        question: Question<Vec<u8>>,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Told {
        let wait = Wait::new(self.tickets.draw());
        // Dropped after the channel, so that a round between the two sees that it is closed.
        let mut leaving = Leaving { shared: self, key: &key, wait: &wait, has_stayed: false };
        let (channel, mut answer) = oneshot::channel();
        let caller = ReplyTo(Some(channel));
        self.round(Asked { question, deadline, caller, wait: Some(wait.clone()) })?;
        let told = tokio::select! {
            biased;
            told = &mut answer => told,
            () = patience => match self.withdraw(&key, &wait) {
                Some(asked) => {
                    leaving.has_stayed = true;
                    return self.ask(asked.question, deadline);
                }
                None => answer.await,
            },
        };
        leaving.has_stayed = true;
        told.unwrap_or(Err(EngineError::OutcomeUnknown))
    }

    fn withdraw(&self, key: &Vec<u8>, wait: &Wait) -> Option<Asked<Vec<u8>, ReplyTo>> {
        self.inner.lock().unwrap().waiting.withdraw(key, wait.ticket)
    }

    /// The life of the thread: until the engine closes.
    fn look_after_lapses(&self) {
        loop {
            self.alarm.wait();
            let Ok(mut inner) = self.begin() else { return };
            let Inner { records, clock, waiting, .. } = &mut *inner;
            let now = clock.read();
            records.now = now;
            let mut answered = Vec::new();
            Round::begin(records, waiting, &mut answered, now, Instant::now());
            waiting.set_alarm_again(now, |after| self.alarm.set(after));
            drop(inner);
            Self::hand_out(answered);
        }
    }
}

/// Withdraws a call whose caller leaves.
struct Leaving<'a> {
    shared: &'a Shared,
    key: &'a Vec<u8>,
    wait: &'a Wait,
    has_stayed: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.has_stayed {
            self.shared.withdraw(self.key, self.wait);
        }
    }
}

impl Store<Vec<u8>> for Records {
    fn apply(&mut self, key: &Vec<u8>, command: &Command) -> Result<(Decision, bool), EngineError> {
        let record = self.records.get(key);
        let fencing_token = self.next_fencing_token;
        let was_vacant = phase_of(record, self.now) == Phase::Vacant;
        let transition = decide(record, command, self.now, fencing_token);
        let changed = match transition.write {
            Write::Keep => false,
            Write::Put(_) if record.is_none() && self.records.len() >= self.max_records => {
                return Err(EngineError::Full);
            }
            Write::Put(next) => {
                let quota = self.quotas.of(keys::namespace_of(key));
                if matches!(command, Command::Reserve(_))
                    && was_vacant
                    && let Some(kind) = self.refusal(key, &next, quota)
                {
                    return Ok((Decision::Refused(Refusal::QuotaExceeded(kind)), false));
                }
                if next.fencing_token == fencing_token {
                    self.next_fencing_token = fencing_token.next();
                }
                self.put(key.clone(), next);
                true
            }
            Write::Delete => {
                self.delete(key);
                true
            }
        };
        Ok((transition.decision, changed))
    }

    fn lookup(&mut self, key: &Vec<u8>) -> Result<Option<Record>, EngineError> {
        let record = self.records.get(key);
        Ok(record.filter(|record| phase_of(Some(record), self.now) != Phase::Vacant).cloned())
    }

    fn forget(&mut self, _: &Vec<u8>) {}
}

impl Records {
    fn put(&mut self, key: Vec<u8>, record: Record) {
        self.delete(&key);
        let usage = self.usages.entry(keys::namespace_of(&key).to_vec()).or_default();
        *usage = usage.with(bytes_of(&key, &record));
        if let Some(at) = record.in_doubt_from() {
            self.holds.insert(keys::expiry_key(at, &key));
        }
        self.expiry.insert((record.retained_until(), key.clone()));
        self.records.insert(key, record);
    }

    fn delete(&mut self, key: &[u8]) {
        let Some((key, old)) = self.records.remove_entry(key) else { return };
        let namespace = keys::namespace_of(&key);
        let usage = self.usages.get_mut(namespace).expect("what is on record is counted");
        *usage = usage.without(bytes_of(&key, &old));
        if *usage == Usage::default() {
            self.usages.remove(namespace);
        }
        if let Some(at) = old.in_doubt_from() {
            self.holds.remove(&keys::expiry_key(at, &key));
        }
        self.expiry.remove(&(old.retained_until(), key));
    }

    /// Frees what is over, `limit` records at most: how many, and whether there is more.
    fn purge(&mut self, limit: usize) -> (usize, bool) {
        let mut records = 0;
        while let Some((until, key)) = self.expiry.first().cloned() {
            if until > self.now {
                return (records, false);
            }
            if records == limit {
                return (records, true);
            }
            self.free(&key);
            records += 1;
        }
        (records, false)
    }

    /// Frees the space of a record whose retention is over.
    fn free(&mut self, key: &[u8]) {
        match purge(&self.records[key], self.now) {
            Write::Delete => self.delete(key),
            Write::Keep | Write::Put(_) => unreachable!("the index holds no earlier moment"),
        }
    }

    /// What stands in the way of `record`, whose key is vacant; once more after what is over
    /// in its namespace was freed.
    fn refusal(&mut self, key: &[u8], record: &Record, quota: Quota) -> Option<QuotaKind> {
        if quota.is_none() {
            return None;
        }
        self.refusal_as_it_is(key, record, quota)?;
        let due = self.expiry.iter().take_while(|(until, _)| *until <= self.now).take(LOOKED_AT);
        let mine = due
            .map(|(_, due)| due)
            .filter(|due| keys::namespace_of(due) == keys::namespace_of(key));
        for due in mine.take(FREED).cloned().collect::<Vec<_>>() {
            self.free(&due);
        }
        self.refusal_as_it_is(key, record, quota)
    }

    /// One that is over and was not purged makes room for its own second life.
    fn refusal_as_it_is(&self, key: &[u8], record: &Record, quota: Quota) -> Option<QuotaKind> {
        let usage = self.usages.get(keys::namespace_of(key)).copied().unwrap_or_default();
        let others = match self.records.get(key) {
            Some(over) => usage.without(bytes_of(key, over)),
            None => usage,
        };
        quota.refuses(others, bytes_of(key, record))
    }
}

/// How many bytes a record counts for: as many as it would take on a disk.
fn bytes_of(key: &[u8], record: &Record) -> u64 {
    let stored = codec::encoded_len(record, record.retained_until(), 0);
    (key.len() + stored) as u64
}

impl Engine for MemoryEngine {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        Box::pin(async move {
            let Decided { answer, decided_at } =
                self.shared.ask(Question::Apply(keys::record_key(&key), command), deadline)?;
            Ok(Decided { answer: answer.into_decision(), decided_at })
        })
    }

    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision> {
        Box::pin(async move {
            let key = keys::record_key(&key);
            let question = Question::Apply(key.clone(), command);
            let Decided { answer, decided_at } =
                self.shared.ask_waiting(key, question, deadline, patience).await?;
            Ok(Decided { answer: answer.into_decision(), decided_at })
        })
    }

    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>> {
        Box::pin(async move {
            let commands = commands
                .into_iter()
                .map(|(key, command)| (keys::record_key(&key), command))
                .collect();
            let Decided { answer, decided_at } =
                self.shared.ask(Question::ApplyAll(commands), deadline)?;
            Ok(Decided { answer: answer.into_decisions(), decided_at })
        })
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        Box::pin(async move {
            let Decided { answer, decided_at } =
                self.shared.ask(Question::Lookup(keys::record_key(&key)), deadline)?;
            Ok(Decided { answer: answer.into_record(), decided_at })
        })
    }

    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>> {
        Box::pin(async move {
            let key = keys::record_key(&key);
            let question = Question::Lookup(key.clone());
            let Decided { answer, decided_at } =
                self.shared.ask_waiting(key, question, deadline, patience).await?;
            Ok(Decided { answer: answer.into_record(), decided_at })
        })
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        let mut inner = self.shared.begin()?;
        let began_at = Instant::now();
        let Inner { records, clock, .. } = &mut *inner;
        records.now = clock.read();
        let (purged, more) = records.purge(limit);
        // What is left of those that are due comes next.
        let reached = records.expiry.first().filter(|_| more).map(|(until, _)| *until);
        self.shared.meters.swept(purged, records.now, reached);
        Ok(Purged { records: purged, more, kept_out: began_at.elapsed() })
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        Box::pin(
            async move { self.shared.look(|inner, now| Ok(inner.records.page(&listing, now))) },
        )
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        Box::pin(async move { self.shared.look(|inner, now| inner.order_erase(order, now)) })
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        self.shared.erase_step(limit)
    }

    fn stats(&self) -> Answering<'_, Stats> {
        Box::pin(async move { self.shared.look(|inner, now| Ok(inner.stats(now))) })
    }

    fn measured(&self) -> Measured {
        self.shared.meters.measured()
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap().take() else { return };
        let mut inner = self.shared.inner.lock().unwrap();
        inner.closing = true;
        let parked = inner.waiting.take_all();
        drop(inner);
        for channel in parked.into_iter().filter_map(|asked| asked.caller.0) {
            let _ = channel.send(Err(EngineError::Closing));
        }
        self.shared.alarm.ring();
        let _ = thread.join();
    }
}

impl Drop for MemoryEngine {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
