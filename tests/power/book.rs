//! What callers were told, and by when: the answers that a power cut must not make untrue.
//!
//! An answer about a key says how far that key had come, at the least: attempts are counted,
//! renewals within an attempt are numbered by the callers in their checkpoints, and a
//! completion or a release ends an attempt. A cut may leave more than was answered, for a call
//! may have happened whose answer was not sent; it may never leave less, and what it leaves is
//! what all answers say about that stage, also those that came after the cut.

use std::collections::BTreeMap;

use onced::pb::v1::{Completion, Granted, Record, RecordState};
use prost_types::Timestamp;

use crate::journal::Position;

/// How far a key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    pub attempt: i32,
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Reserved, and renewed with this number; zero: not renewed.
    Held(u64),
    /// Completed or released.
    Ended,
}

impl Stage {
    pub fn granted(attempt: i32) -> Self {
        Self { attempt, progress: Progress::Held(0) }
    }

    pub fn ended(attempt: i32) -> Self {
        Self { attempt, progress: Progress::Ended }
    }

    /// That of an attempt that is not ended.
    pub fn held(attempt: i32, checkpoint: &[u8]) -> Self {
        let renewal = match renewal_of(checkpoint) {
            Some((of, number)) if of == attempt => number,
            // What an earlier attempt left.
            _ => 0,
        };
        Self { attempt, progress: Progress::Held(renewal) }
    }

    pub fn of(record: &Record) -> Self {
        match record.state() {
            RecordState::Completed | RecordState::Released => Self::ended(record.attempt),
            _ => Self::held(record.attempt, &record.checkpoint),
        }
    }
}

/// The checkpoint that renewal `number` of an attempt leaves.
pub fn checkpoint(attempt: i32, number: u64, filling: &[u8]) -> Vec<u8> {
    [format!("{attempt} {number} ").as_bytes(), filling].concat()
}

fn renewal_of(checkpoint: &[u8]) -> Option<(i32, u64)> {
    let mut words = checkpoint.splitn(3, |byte| *byte == b' ');
    let mut number = || Some(std::str::from_utf8(words.next()?).ok()?.to_owned());
    Some((number()?.parse().ok()?, number()?.parse().ok()?))
}

/// One answer about a key.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The answer had arrived when the journal was this long.
    pub at: Position,
    pub stage: Stage,
    pub seen: Seen,
    /// Whether it was told to somebody whose call did not bring the key to that stage.
    pub is_overheard: bool,
}

/// What the answer showed of that stage.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Proves ownership of the attempt.
    pub owner_token: Option<String>,
    pub fencing_token: Option<i64>,
    pub lease_until: Option<Timestamp>,
    /// It ends no earlier than this; a refused caller sees it and not how often it was renewed.
    pub lease_at_least: Option<Timestamp>,
    pub checkpoint: Option<Vec<u8>>,
    pub state: Option<RecordState>,
    pub completion: Option<Completion>,
}

impl Seen {
    pub fn granted(granted: &Granted) -> Self {
        Self {
            owner_token: Some(granted.owner_token.clone()),
            fencing_token: Some(granted.fencing_token),
            lease_until: granted.lease_expire_time,
            checkpoint: Some(granted.checkpoint.clone()),
            ..Self::default()
        }
    }

    pub fn completed(completion: &Completion) -> Self {
        Self {
            fencing_token: Some(completion.fencing_token),
            state: Some(RecordState::Completed),
            completion: Some(completion.clone()),
            ..Self::default()
        }
    }

    pub fn record(record: &Record) -> Self {
        let is_over = matches!(record.state(), RecordState::Held | RecordState::Lapsed);
        Self {
            fencing_token: Some(record.fencing_token),
            lease_until: record.lease_expire_time,
            checkpoint: Some(record.checkpoint.clone()),
            // A lease that runs will be over one day.
            state: (!is_over).then(|| record.state()),
            completion: record.completion.clone(),
            ..Self::default()
        }
    }

    /// What `record`, which is at this stage, says otherwise.
    fn contradiction(&self, record: &Record) -> Option<&'static str> {
        let differs = |known: bool, what| known.then_some(what);
        let lease = record.lease_expire_time.as_ref().map(millis);
        None.or(differs(self.fencing_token.is_some_and(|it| it != record.fencing_token), "fencing"))
            .or(differs(self.lease_until.is_some_and(|it| Some(millis(&it)) != lease), "lease"))
            .or(differs(
                self.checkpoint.as_ref().is_some_and(|it| *it != record.checkpoint),
                "checkpoint",
            ))
            .or(differs(self.state.is_some_and(|it| it != record.state()), "state"))
            .or(differs(
                self.completion.is_some() && self.completion != record.completion,
                "completion",
            ))
    }
}

/// All answers.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub keys: BTreeMap<String, Vec<Fact>>,
    marks: Vec<Mark>,
}

/// What an answer says of the whole store: whatever comes later is above.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Position,
    fencing_token: i64,
    decided_at: i64,
}

impl Book {
    pub fn note(&mut self, key: &str, fact: Fact) {
        self.keys.entry(key.to_owned()).or_default().push(fact);
    }

    /// An answer that was decided at `decided_at`, and perhaps granted a fencing token.
    pub fn mark(&mut self, at: Position, fencing_token: i64, decided_at: Option<&Timestamp>) {
        let decided_at = decided_at.map_or(0, millis);
        self.marks.push(Mark { at, fencing_token, decided_at });
    }

    /// When answers arrived.
    pub fn answered(&self) -> Vec<Position> {
        let mut answered: Vec<Position> =
            self.marks.iter().map(|mark| mark.at).filter(|at| *at > 0).collect();
        answered.sort_unstable();
        answered
    }

    /// When somebody was told how far a key had come before its owner was, or anybody else: such
    /// an answer changed nothing itself, and rests on a change that is young.
    pub fn overheard(&self) -> Vec<Position> {
        let mut overheard = Vec::new();
        for facts in self.keys.values() {
            let mut known = None;
            let mut facts: Vec<&Fact> = facts.iter().collect();
            facts.sort_by_key(|fact| fact.at);
            for fact in facts {
                if Some(fact.stage) > known && fact.is_overheard && fact.at > 0 {
                    overheard.push(fact.at);
                }
                known = known.max(Some(fact.stage));
            }
        }
        overheard
    }

    /// How many answers had arrived by `cut`.
    pub fn answered_by(&self, cut: Position) -> usize {
        self.marks.iter().filter(|mark| mark.at <= cut).count()
    }

    /// The highest fencing token that was given out, and the latest moment that was shown.
    pub fn high_water(&self, cut: Position) -> (i64, i64) {
        let known = self.marks.iter().filter(|mark| mark.at <= cut);
        known.fold((0, 0), |(fencing, clock), mark| {
            (fencing.max(mark.fencing_token), clock.max(mark.decided_at))
        })
    }

    /// What of it is true after a cut, as if it had been said before all recording.
    pub fn kept(&self, cut: Position) -> Self {
        let mut kept = self.clone();
        kept.marks.retain(|mark| mark.at <= cut);
        kept.marks.iter_mut().for_each(|mark| mark.at = 0);
        for facts in kept.keys.values_mut() {
            facts.retain(|fact| fact.at <= cut);
            facts.iter_mut().for_each(|fact| fact.at = 0);
        }
        kept.keys.retain(|_, facts| !facts.is_empty());
        kept
    }

    /// How `record`, found after a cut, belies an answer about its key.
    pub fn untruth(&self, key: &str, cut: Position, record: Option<&Record>) -> Option<String> {
        let facts = &self.keys[key];
        let known = facts.iter().filter(|fact| fact.at <= cut);
        let least = known.clone().max_by_key(|fact| fact.stage);
        let Some(record) = record else { return least.map(|fact| format!("lost: {fact:?}")) };
        let stage = Stage::of(record);
        if let Some(least) = least
            && stage < least.stage
        {
            return Some(format!("{least:?} became {record:?}"));
        }
        for fact in facts.iter().filter(|fact| fact.stage == stage) {
            if let Some(what) = fact.seen.contradiction(record) {
                return Some(format!("{what} of {fact:?} became {record:?}"));
            }
        }
        // A renewal only ever makes a lease longer.
        let lease = record.lease_expire_time.as_ref().map(millis);
        let is_shorter = |fact: &&Fact| {
            let least = fact.seen.lease_at_least.as_ref().map(millis);
            fact.stage.attempt == stage.attempt && lease.is_some() && least > lease
        };
        known.clone().find(is_shorter).map(|fact| format!("{fact:?} became {record:?}"))
    }

    /// The owner token of an attempt.
    pub fn owner_token(&self, key: &str, attempt: i32) -> Option<&str> {
        let of_attempt = self.keys[key].iter().filter(|fact| fact.stage.attempt == attempt);
        of_attempt.filter_map(|fact| fact.seen.owner_token.as_deref()).next_back()
    }
}

pub fn millis(moment: &Timestamp) -> i64 {
    moment.seconds * 1_000 + i64::from(moment.nanos) / 1_000_000
}
