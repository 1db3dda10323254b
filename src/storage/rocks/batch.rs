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
//! much too late, or that is due, is moved.
//!
//! The index of holds is another matter: operators read it in order, so it has one entry for
//! each reservation that comes in doubt when its lease ends, at exactly the end that is
//! stored.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use crate::domain::{
    Command, Decision, FencingToken, Moment, Phase, Record, Span, State, Write, decide, phase_of,
    purge,
};
use crate::storage::EngineError;
use crate::storage::codec::Stored;

/// How late an index entry may be: this, or an eighth of the time until retention is over.
const INDEX_SLACK: Span = Span::from_secs(60);

/// Where a batch reads what it has not written itself.
pub trait Source {
    /// The record under `record_key`.
    fn read(&self, record_key: &[u8]) -> Result<Option<Stored>, EngineError>;
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
    /// Whether new attempts are refused because the disk is nearly full.
    pub refuse_grants: bool,
}

/// Commands that are decided together.
pub struct Batch<'a, S> {
    source: &'a S,
    setting: Setting,
    overlay: HashMap<Vec<u8>, Entry>,
    stale: Vec<Change>,
}

struct Entry {
    /// The moment of the index entry on disk; `None` where there is no record there.
    indexed_at: Option<Moment>,
    /// The moment of its entry in the index of holds on disk, where it has one.
    held_until: Option<Moment>,
    record: Option<Record>,
    changed: bool,
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
        Self { source, setting, overlay: HashMap::new(), stale: Vec::new() }
    }

    /// Decides `command`. The flag says whether it changed anything.
    pub fn apply(
        &mut self,
        record_key: &[u8],
        command: &Command,
    ) -> Result<(Decision, bool), EngineError> {
        let Setting { now, next_fencing_token, refuse_grants, .. } = self.setting;
        let entry = self.entry(record_key)?;
        let transition = decide(entry.record.as_ref(), command, now, next_fencing_token);
        let changed = match transition.write {
            Write::Keep => false,
            Write::Put(record) => {
                let is_grant = record.fencing_token == next_fencing_token;
                if is_grant && refuse_grants {
                    return Err(EngineError::Full);
                }
                entry.record = Some(record);
                entry.changed = true;
                if is_grant {
                    self.setting.next_fencing_token = next_fencing_token.next();
                }
                true
            }
            Write::Delete => {
                entry.record = None;
                entry.changed = true;
                true
            }
        };
        Ok((transition.decision, changed))
    }

    /// What is on record; `None` where the key is vacant.
    pub fn lookup(&mut self, record_key: &[u8]) -> Result<Option<Record>, EngineError> {
        let now = self.setting.now;
        let record = self.entry(record_key)?.record.as_ref();
        Ok(record.filter(|record| phase_of(Some(record), now) != Phase::Vacant).cloned())
    }

    /// Follows an index entry that is due: purges its record, or moves the entry to where the
    /// record needs it. The flag says whether a record went.
    pub fn follow(&mut self, at: Moment, record_key: &[u8]) -> Result<bool, EngineError> {
        let now = self.setting.now;
        let entry = self.entry(record_key)?;
        if entry.indexed_at != Some(at) {
            self.stale.push(Change::Unindex { at, record_key: record_key.to_vec() });
            return Ok(false);
        }
        let Some(record) = &entry.record else { return Ok(false) };
        // A record that stays is put again with its next entry: `place` moves what is due.
        entry.changed = true;
        match purge(record, now) {
            Write::Delete => {
                entry.record = None;
                Ok(true)
            }
            Write::Keep | Write::Put(_) => Ok(false),
        }
    }

    /// Takes a record away whose fencing token is `ceiling` or less. The flag says whether it
    /// went.
    pub fn erase(&mut self, record_key: &[u8], ceiling: FencingToken) -> Result<bool, EngineError> {
        let entry = self.entry(record_key)?;
        let goes = entry.record.as_ref().is_some_and(|it| it.fencing_token <= ceiling);
        if goes {
            entry.record = None;
            entry.changed = true;
        }
        Ok(goes)
    }

    /// What has to be written for all of it.
    pub fn finish(self) -> Outcome {
        let now = self.setting.now;
        let mut changes = self.stale;
        for (record_key, entry) in self.overlay {
            if !entry.changed {
                continue;
            }
            let place = entry.record.as_ref().map(|record| place(entry.indexed_at, record, now));
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
        Outcome { changes, next_fencing_token: self.setting.next_fencing_token }
    }

    fn entry(&mut self, record_key: &[u8]) -> Result<&mut Entry, EngineError> {
        match self.overlay.entry(record_key.to_vec()) {
            hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            hash_map::Entry::Vacant(vacant) => {
                let stored = self.source.read(record_key)?;
                Ok(vacant.insert(Entry {
                    indexed_at: stored.as_ref().map(|stored| stored.indexed_at),
                    held_until: stored.as_ref().and_then(|stored| stored.record.in_doubt_from()),
                    record: stored.map(|stored| as_read(stored, &self.setting.grace)),
                    changed: false,
                }))
            }
        }
    }
}

/// Where the index entry of `record` belongs, given where it is.
fn place(indexed_at: Option<Moment>, record: &Record, now: Moment) -> Moment {
    let until = record.retained_until();
    let slack = Span::from_millis(until.since(now).as_millis() / 8).max(INDEX_SLACK);
    match indexed_at {
        Some(at) if at > now && at <= until.plus(slack) => at,
        _ => until,
    }
}

#[cfg(test)]
mod tests;
