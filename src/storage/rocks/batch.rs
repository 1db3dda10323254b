//! What a batch of commands comes to, as a pure struct: commands in, answers and changes out.
//!
//! Commands are decided in order over an overlay that shows what earlier ones of the same
//! batch wrote, so a batch means the same as its commands one after another. Nothing here
//! touches a disk: the argument is tested alone, with a map as the source.
//!
//! # Why an index entry may be early or late
//!
//! Each record has exactly one entry in the expiry index. An entry that is due is only a
//! reason to look: a record that is still retained gets a new one. So an entry that is too
//! early is left alone (a renewal or a completion then writes nothing but the record), and
//! one that is a little late only costs space for a little longer. Only an entry that is
//! much too late, or that is due, is moved. In a namespace with a quota none is late: what is
//! over is found through the index, and must not count.
//!
//! The index of holds is another matter: operators read it in order, so it has one entry for
//! each reservation that comes in doubt when its lease ends, at exactly the end that is
//! stored.
//!
//! # Why counters are written as what they are
//!
//! What a namespace has on record is counted in the step that changes it: the batch knows what
//! it replaces, and writes the sum beside the records. A counter that is added to by the store
//! would not have to be read; but then a quota could not be decided on.

use std::sync::Arc;

use indexmap::IndexMap;

use super::disk::Room;
use super::together::Together;
use crate::domain::{
    Command, Decision, FencingToken, Moment, Phase, QuotaKind, Record, Refusal, Span, State, Write,
    decide, phase_of, purge,
};
use crate::storage::codec::{self, Stored};
use crate::storage::quota::{FREED, LOOKED_AT};
use crate::storage::round::Store;
use crate::storage::{EngineError, Quota, Quotas, Usage, keys};

/// How late an index entry may be: this, or an eighth of the time until retention is over.
const INDEX_SLACK: Span = Span::from_secs(60);

/// A record, and how many bytes it takes on disk; `None`: there is none.
pub type Found = Option<(Stored, usize)>;

/// Where a batch reads what it has not written itself.
pub trait Source {
    /// The record under `record_key`.
    fn read(&self, record_key: &[u8]) -> Result<Found, EngineError>;

    /// The same for several, in their order and none of them twice, which takes less time than
    /// one after another. `None` where one has to be read alone: because that fails, or because
    /// the record is large and may not be needed.
    fn read_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        vec![None; record_keys.len()]
    }

    /// What the namespace with this name has on record.
    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError>;

    /// The index entries from `from` on that are due at `now`, at most `limit`.
    fn due(
        &self,
        from: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError>;
}

/// One change to the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record is created or replaced.
    Put {
        /// Which.
        record_key: Vec<u8>,
        /// By what.
        stored: Stored,
    },
    /// The record goes.
    Delete {
        /// Which.
        record_key: Vec<u8>,
    },
    /// An entry of the expiry index is made.
    Index {
        /// When to look.
        at: Moment,
        /// At what.
        record_key: Vec<u8>,
    },
    /// An entry of the expiry index goes.
    Unindex {
        /// Its moment.
        at: Moment,
        /// Its record.
        record_key: Vec<u8>,
    },
    /// A namespace has so much on record.
    Count {
        /// The bytes of its name.
        namespace: Vec<u8>,
        /// How much.
        usage: Usage,
    },
    /// An entry of the index of holds is made.
    Hold {
        /// When the lease ends.
        at: Moment,
        /// Of which record.
        record_key: Vec<u8>,
    },
    /// An entry of the index of holds goes.
    Unhold {
        /// Its moment.
        at: Moment,
        /// Its record.
        record_key: Vec<u8>,
    },
}

impl Change {
    /// Which record it concerns; `None`: a whole namespace.
    pub fn record_key(&self) -> Option<&[u8]> {
        match self {
            Self::Put { record_key, .. }
            | Self::Delete { record_key }
            | Self::Index { record_key, .. }
            | Self::Unindex { record_key, .. }
            | Self::Hold { record_key, .. }
            | Self::Unhold { record_key, .. } => Some(record_key),
            Self::Count { .. } => None,
        }
    }
}

/// What a restart does to leases that were running when the run before it ended: one that
/// ends within the window ends with it, because its owner could not renew during the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceWindow {
    /// The run that began with this restart. It concerns records that earlier runs stored:
    /// a lease that was given in this run is as long as its owner was told.
    pub run: i64,
    /// The latest moment that the run before may have shown. A lease that ended by then may
    /// have been reported as lapsed, and stays so.
    pub from: Moment,
    /// When the grace is over.
    pub until: Moment,
}

impl GraceWindow {
    /// How many bytes a window takes when stored.
    pub const STORED_BYTES: usize = 24;

    fn extend(self, stored_in_run: i64, record: &mut Record) {
        if let State::Reserved { lease_until, .. } = &mut record.state
            && stored_in_run < self.run
            && self.from < *lease_until
            && *lease_until < self.until
        {
            *lease_until = self.until;
        }
    }

    /// The stored form.
    pub fn to_bytes(self) -> [u8; Self::STORED_BYTES] {
        let mut bytes = [0; Self::STORED_BYTES];
        bytes[..8].copy_from_slice(&self.run.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.from.as_millis().to_be_bytes());
        bytes[16..].copy_from_slice(&self.until.as_millis().to_be_bytes());
        bytes
    }

    /// The window that `bytes` hold.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (run, rest) = bytes.split_first_chunk::<8>()?;
        let (from, until) = rest.split_first_chunk::<8>()?;
        Some(Self {
            run: i64::from_be_bytes(*run),
            from: Moment::from_millis(i64::from_be_bytes(*from)),
            until: Moment::from_millis(i64::from_be_bytes(until.try_into().ok()?)),
        })
    }
}

/// The record that `stored` stands for, with its lease as outages have prolonged it.
pub fn as_read(stored: Stored, grace: &[GraceWindow]) -> Record {
    let Stored { mut record, run, .. } = stored;
    for window in grace {
        window.extend(run, &mut record);
    }
    record
}

/// What the engine brings to a batch.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The moment at which everything in the batch is decided.
    pub now: Moment,
    /// The token of the next grant.
    pub next_fencing_token: FencingToken,
    /// The number of this run: each start of the engine has a higher one.
    pub run: i64,
    /// How leases are prolonged after outages, in the order of the runs.
    pub grace: Arc<[GraceWindow]>,
    /// How much room the disk has.
    pub room: Room,
    /// How much each namespace may have on record.
    pub quotas: Arc<Quotas>,
    /// No entry of the expiry index lies before this one.
    pub swept_to: Vec<u8>,
}

/// Commands that are decided together.
pub struct Batch<'a, S> {
    source: &'a S,
    setting: Setting,
    overlay: IndexMap<Vec<u8>, Entry>,
    /// Of every namespace in which a record changes.
    tallies: IndexMap<Vec<u8>, Tally>,
    stale: Vec<Change>,
}

#[derive(Default)]
struct Entry {
    /// The moment of the index entry on disk; `None` where there is no record there.
    indexed_at: Option<Moment>,
    /// The moment of its entry in the index of holds on disk, where it has one.
    held_until: Option<Moment>,
    record: Option<Record>,
    /// Where its namespace is tallied, once it has changed.
    changed: Option<usize>,
    /// How many bytes it counts for in its namespace; `None`: it is not on record.
    counted: Option<u64>,
}

/// What a namespace has on record, and may have.
struct Tally {
    quota: Quota,
    /// What the disk says.
    stored: Usage,
    /// What there is with what this batch changes.
    usage: Usage,
    /// Whether what is over was freed already.
    freed: bool,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct Outcome {
    /// What has to be written, in one atomic step.
    pub changes: Vec<Change>,
    /// The token of the next grant.
    pub next_fencing_token: FencingToken,
}

impl<'a, S: Source> Batch<'a, S> {
    /// An empty batch over `source`.
    pub fn new(source: &'a S, setting: Setting) -> Self {
        let (overlay, tallies) = (IndexMap::new(), IndexMap::new());
        Self { source, setting, overlay, tallies, stale: Vec::new() }
    }

    /// Reads the records under `record_keys` before they are asked for one by one, as many
    /// `together` as may be. What it does not get is read when it is asked for.
    pub fn read_ahead<'k>(
        &mut self,
        record_keys: impl Iterator<Item = &'k [u8]>,
        together: &mut Together,
    ) {
        let record_keys: Vec<_> = record_keys.collect();
        self.overlay.reserve(record_keys.len());
        let source = self.source;
        together.read(
            record_keys,
            |keys| source.read_together(keys),
            |record_key, found| {
                let entry = self.entry(record_key, found);
                self.overlay.insert(record_key.to_vec(), entry);
            },
        );
    }

    /// Decides `command`. The flag says whether it changed anything.
    pub fn apply(
        &mut self,
        record_key: &[u8],
        command: &Command,
    ) -> Result<(Decision, bool), EngineError> {
        let answer = self.decide(record_key, command)?;
        let is_refused = matches!(answer.0, Decision::Refused(Refusal::QuotaExceeded(_)));
        if is_refused && self.free(keys::namespace_of(record_key))? {
            return self.decide(record_key, command);
        }
        Ok(answer)
    }

    fn decide(
        &mut self,
        record_key: &[u8],
        command: &Command,
    ) -> Result<(Decision, bool), EngineError> {
        let Setting { now, next_fencing_token, room, .. } = self.setting;
        let found = self.find(record_key)?;
        let entry = &self.overlay[found];
        let was_vacant = phase_of(entry.record.as_ref(), now) == Phase::Vacant;
        let transition = decide(entry.record.as_ref(), command, now, next_fencing_token);
        let record = match transition.write {
            Write::Keep => return Ok((transition.decision, false)),
            Write::Put(record) => Some(record),
            Write::Delete => None,
        };
        let is_grant =
            record.as_ref().is_some_and(|record| record.fencing_token == next_fencing_token);
        if room.refuses(command, is_grant) {
            return Err(EngineError::Full);
        }
        let tally = self.tally(record_key)?;
        if let (Command::Reserve(_), Some(record), true) = (command, &record, was_vacant)
            && let Some(kind) = self.refusal(record_key, found, tally, record)
        {
            return Ok((Decision::Refused(Refusal::QuotaExceeded(kind)), false));
        }
        self.replace(found, tally, |entry| entry.record = record);
        if is_grant {
            self.setting.next_fencing_token = next_fencing_token.next();
        }
        Ok((transition.decision, true))
    }

    /// What stands in the way of `record`, whose key is vacant. One that is over and was not
    /// purged makes room for it.
    fn refusal(
        &self,
        record_key: &[u8],
        found: usize,
        tally: usize,
        record: &Record,
    ) -> Option<QuotaKind> {
        let Tally { quota, usage, .. } = self.tallies[tally];
        if quota.is_none() {
            return None;
        }
        let entry = &self.overlay[found];
        let others = match entry.counted {
            Some(bytes) => usage.without(bytes),
            None => usage,
        };
        quota.refuses(others, counted(&self.setting, record_key, entry.indexed_at, record, quota))
    }

    /// Frees what is over in a namespace, as far as the next entries of the index show it, and
    /// once. The flag says whether there was anything.
    fn free(&mut self, namespace: &[u8]) -> Result<bool, EngineError> {
        let tally = self.tallies.get_mut(namespace).expect("it refused");
        if std::mem::replace(&mut tally.freed, true) {
            return Ok(false);
        }
        let Setting { now, swept_to, .. } = &self.setting;
        let mut due = self.source.due(swept_to, *now, LOOKED_AT)?;
        due.retain(|(_, record_key)| keys::namespace_of(record_key) == namespace);
        let mut any = false;
        for (at, record_key) in due.into_iter().take(FREED) {
            match self.follow(at, &record_key) {
                Ok(gone) => any |= gone,
                // It keeps its space, and counts, until somebody has looked.
                Err(EngineError::Corrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// What is on record; `None` where the key is vacant.
    pub fn lookup(&mut self, record_key: &[u8]) -> Result<Option<Record>, EngineError> {
        let now = self.setting.now;
        let found = self.find(record_key)?;
        let record = self.overlay[found].record.as_ref();
        Ok(record.filter(|record| phase_of(Some(record), now) != Phase::Vacant).cloned())
    }

    /// Follows an index entry that is due: purges its record, or moves the entry to where the
    /// record needs it. The flag says whether a record went.
    pub fn follow(&mut self, at: Moment, record_key: &[u8]) -> Result<bool, EngineError> {
        let now = self.setting.now;
        let found = self.find(record_key)?;
        let entry = &self.overlay[found];
        if entry.indexed_at != Some(at) {
            self.stale.push(Change::Unindex { at, record_key: record_key.to_vec() });
            return Ok(false);
        }
        let Some(record) = &entry.record else { return Ok(false) };
        let gone = match purge(record, now) {
            Write::Delete => true,
            Write::Keep | Write::Put(_) => false,
        };
        let tally = self.tally(record_key)?;
        // A record that stays is put again with its next entry: `place` moves what is due.
        self.replace(found, tally, |entry| {
            if gone {
                entry.record = None;
            }
        });
        Ok(gone)
    }

    /// Takes a record away whose fencing token is `ceiling` or less. The flag says whether it
    /// went.
    pub fn erase(&mut self, record_key: &[u8], ceiling: FencingToken) -> Result<bool, EngineError> {
        let found = self.find(record_key)?;
        let record = self.overlay[found].record.as_ref();
        let goes = record.is_some_and(|it| it.fencing_token <= ceiling);
        if goes {
            let tally = self.tally(record_key)?;
            self.replace(found, tally, |entry| entry.record = None);
        }
        Ok(goes)
    }

    /// What has to be written for all of it.
    pub fn finish(self) -> Outcome {
        let now = self.setting.now;
        let mut changes = self.stale;
        // A new reservation makes two: itself and its index entry.
        changes.reserve(2 * self.overlay.len());
        for (record_key, entry) in self.overlay {
            let Some(tally) = entry.changed else { continue };
            let quota = self.tallies[tally].quota;
            let place =
                entry.record.as_ref().map(|record| place(entry.indexed_at, record, now, quota));
            if entry.indexed_at != place {
                if let Some(at) = entry.indexed_at {
                    changes.push(Change::Unindex { at, record_key: record_key.clone() });
                }
                if let Some(at) = place {
                    changes.push(Change::Index { at, record_key: record_key.clone() });
                }
            }
            let held_until = entry.record.as_ref().and_then(Record::in_doubt_from);
            if entry.held_until != held_until {
                if let Some(at) = entry.held_until {
                    changes.push(Change::Unhold { at, record_key: record_key.clone() });
                }
                if let Some(at) = held_until {
                    changes.push(Change::Hold { at, record_key: record_key.clone() });
                }
            }
            match (entry.record, place) {
                (Some(record), Some(indexed_at)) => {
                    let stored = Stored { record, indexed_at, run: self.setting.run };
                    changes.push(Change::Put { record_key, stored });
                }
                _ if entry.indexed_at.is_some() => changes.push(Change::Delete { record_key }),
                _ => {}
            }
        }
        for (namespace, Tally { stored, usage, .. }) in self.tallies {
            if stored != usage {
                changes.push(Change::Count { namespace, usage });
            }
        }
        Outcome { changes, next_fencing_token: self.setting.next_fencing_token }
    }

    /// Makes a change to a record, and counts it in the tally of its namespace.
    fn replace(&mut self, found: usize, tally: usize, change: impl FnOnce(&mut Entry)) {
        let (record_key, entry) = self.overlay.get_index_mut(found).expect("it was found");
        let counts = &mut self.tallies[tally];
        change(entry);
        entry.changed = Some(tally);
        let bytes = entry.record.as_ref().map(|record| {
            counted(&self.setting, record_key, entry.indexed_at, record, counts.quota)
        });
        if let Some(before) = std::mem::replace(&mut entry.counted, bytes) {
            counts.usage = counts.usage.without(before);
        }
        if let Some(bytes) = bytes {
            counts.usage = counts.usage.with(bytes);
        }
    }

    /// Where the namespace of `record_key` is tallied, from before anything changes.
    fn tally(&mut self, record_key: &[u8]) -> Result<usize, EngineError> {
        let namespace = keys::namespace_of(record_key);
        if let Some(tally) = self.tallies.get_index_of(namespace) {
            return Ok(tally);
        }
        let stored = self.source.usage(namespace)?;
        let quota = self.setting.quotas.of(namespace);
        let tally = Tally { quota, stored, usage: stored, freed: false };
        Ok(self.tallies.insert_full(namespace.to_vec(), tally).0)
    }

    /// Where in the overlay a record is; it is read where this batch has not seen it.
    fn find(&mut self, record_key: &[u8]) -> Result<usize, EngineError> {
        if let Some(found) = self.overlay.get_index_of(record_key) {
            return Ok(found);
        }
        let entry = self.entry(record_key, self.source.read(record_key)?);
        let (found, _) = self.overlay.insert_full(record_key.to_vec(), entry);
        Ok(found)
    }

    /// What the overlay shows of what was found under `record_key`.
    fn entry(&self, record_key: &[u8], found: Found) -> Entry {
        let Some((stored, bytes)) = found else { return Entry::default() };
        Entry {
            indexed_at: Some(stored.indexed_at),
            held_until: stored.record.in_doubt_from(),
            counted: Some((record_key.len() + bytes) as u64),
            record: Some(as_read(stored, &self.setting.grace)),
            changed: None,
        }
    }
}

impl<S: Source> Store<Vec<u8>> for Batch<'_, S> {
    fn apply(
        &mut self,
        record_key: &Vec<u8>,
        command: &Command,
    ) -> Result<(Decision, bool), EngineError> {
        Batch::apply(self, record_key, command)
    }

    fn lookup(&mut self, record_key: &Vec<u8>) -> Result<Option<Record>, EngineError> {
        Batch::lookup(self, record_key)
    }

    fn forget(&mut self, record_key: &Vec<u8>) {
        if self.overlay.get(record_key).is_some_and(|entry| entry.changed.is_none()) {
            self.overlay.swap_remove(record_key);
        }
    }
}

/// Where the index entry of `record` belongs, given where it is.
fn place(indexed_at: Option<Moment>, record: &Record, now: Moment, quota: Quota) -> Moment {
    let until = record.retained_until();
    let slack = match quota.is_none() {
        true => Span::from_millis(until.since(now).as_millis() / 8).max(INDEX_SLACK),
        false => Span::default(),
    };
    match indexed_at {
        Some(at) if at > now && at <= until.plus(slack) => at,
        _ => until,
    }
}

/// How many bytes `record` counts for: those of its key and of what is stored.
fn counted(
    setting: &Setting,
    record_key: &[u8],
    indexed_at: Option<Moment>,
    record: &Record,
    quota: Quota,
) -> u64 {
    let place = place(indexed_at, record, setting.now, quota);
    (record_key.len() + codec::encoded_len(record, place, setting.run)) as u64
}

#[cfg(test)]
mod tests;
