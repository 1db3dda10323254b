//! Random walks through `domain::decide`, beside a model that shares nothing with it but
//! the words.
//!
//! The code keeps one record per key and overwrites it. The model keeps the whole history of
//! a key and overwrites nothing: phase, attempt, lease and checkpoint are read off what
//! happened. It is never purged either, so a purge that changed any answer would show. A
//! third party, the [`Ledger`], knows only commands and answers, as callers do, and holds
//! them against the promises that are made to callers. The table itself is in
//! `decide_table.rs`.
//!
//! Every walk prints its seed; `PROPTEST_RNG_SEED=… cargo test walks` walks it again, and
//! `PROPTEST_CASES=100000` walks for longer.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use onced::domain::{
    Command, Complete, Completion, Decision, Delete, FencingToken, Fingerprint, ForceComplete,
    ForceRelease, Forced, ForcedOutcome, Granted, InDoubt, InProgress, LeaseExpiryAction, Moment,
    Outcome, OwnerToken, Phase, Record, Refusal, Release, Renew, Reserve, Response, Span, State,
    Write, decide, phase_of, purge,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

/// Two keys are enough to notice one that leaks into the other.
const KEYS: usize = 2;

#[test]
fn random_walks_agree_with_the_model() {
    let config = Config { failure_persistence: None, ..Config::default() };
    // proptest keeps a seed that it draws to itself; one that it is given can be printed.
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(RandomState::new().hash_one(())),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    walk(Config { rng_seed, ..config });
}

#[test]
fn walks_reach_every_answer_of_every_phase_and_no_other() {
    REACHED.take();
    walk(Config {
        cases: 512,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    });
    let wanted = BTreeSet::from([
        "Vacant: Reserve → granted",
        "Vacant: Complete → NotFound",
        "Vacant: Renew → NotFound",
        "Vacant: Release → NotFound",
        "Held: Reserve → granted",
        "Held: Reserve → in progress",
        "Held: Reserve → FingerprintMismatch",
        "Held: Complete → completed",
        "Held: Complete → LeaseLost",
        "Held: Renew → renewed",
        "Held: Renew → LeaseLost",
        "Held: Release → released",
        "Held: Release → LeaseLost",
        "Lapsed: Reserve → granted",
        "Lapsed: Reserve → FingerprintMismatch",
        "Lapsed: Complete → completed",
        "Lapsed: Complete → LeaseLost",
        "Lapsed: Renew → renewed",
        "Lapsed: Renew → LeaseLost",
        "Lapsed: Release → released",
        "Lapsed: Release → LeaseLost",
        "InDoubt: Reserve → in doubt",
        "InDoubt: Reserve → FingerprintMismatch",
        "InDoubt: Complete → completed",
        "InDoubt: Complete → LeaseLost",
        "InDoubt: Renew → renewed",
        "InDoubt: Renew → LeaseLost",
        "InDoubt: Release → released",
        "InDoubt: Release → LeaseLost",
        "Released: Reserve → granted",
        "Released: Reserve → LeaseLost",
        "Released: Reserve → FingerprintMismatch",
        "Released: Complete → LeaseLost",
        "Released: Renew → LeaseLost",
        "Released: Release → released",
        "Released: Release → LeaseLost",
        "Completed: Reserve → replayed",
        "Completed: Reserve → granted",
        "Completed: Reserve → FingerprintMismatch",
        "Completed: Complete → completed",
        "Completed: Complete → ResultConflict",
        "Completed: Complete → LeaseLost",
        "Completed: Renew → AlreadyCompleted",
        "Completed: Renew → LeaseLost",
        "Completed: Release → AlreadyCompleted",
        "Completed: Release → LeaseLost",
        "Vacant: ForceRelease → NotFound",
        "Vacant: ForceComplete → NotFound",
        "Vacant: Delete → deleted",
        "Held: ForceRelease → released",
        "Held: ForceRelease → RecordChanged",
        "Held: ForceComplete → completed",
        "Held: ForceComplete → RecordChanged",
        "Held: Delete → deleted",
        "Held: Delete → RecordChanged",
        "Lapsed: ForceRelease → released",
        "Lapsed: ForceRelease → RecordChanged",
        "Lapsed: ForceComplete → completed",
        "Lapsed: ForceComplete → RecordChanged",
        "Lapsed: Delete → deleted",
        "Lapsed: Delete → RecordChanged",
        "InDoubt: ForceRelease → released",
        "InDoubt: ForceRelease → RecordChanged",
        "InDoubt: ForceComplete → completed",
        "InDoubt: ForceComplete → RecordChanged",
        "InDoubt: Delete → deleted",
        "InDoubt: Delete → RecordChanged",
        "Released: ForceRelease → released",
        "Released: ForceRelease → RecordChanged",
        "Released: ForceComplete → completed",
        "Released: ForceComplete → RecordChanged",
        "Released: Delete → deleted",
        "Released: Delete → RecordChanged",
        "Completed: ForceRelease → AlreadyCompleted",
        "Completed: ForceRelease → RecordChanged",
        "Completed: ForceComplete → completed",
        "Completed: ForceComplete → ResultConflict",
        "Completed: ForceComplete → RecordChanged",
        "Completed: Delete → deleted",
        "Completed: Delete → RecordChanged",
    ]);
    let reached = REACHED.take();
    let reached: BTreeSet<&str> = reached.iter().map(String::as_str).collect();
    assert_eq!(reached, wanted);
}

/// Takes as many walks as `config` says and panics with the shortest that goes wrong.
fn walk(config: Config) {
    println!("PROPTEST_RNG_SEED={}", config.rng_seed);
    let steps = Model::sequential_strategy(1..=100);
    let result = TestRunner::new(config.clone()).run(&steps, |(model, steps, seen)| {
        Walk::test_sequential(config.clone(), model, steps, seen);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// One step of a walk.
#[derive(Clone)]
enum Step {
    /// A caller sends a command.
    Send { key: usize, command: Command },
    /// A command that was sent before arrives once more: a repetition, or a ghost that was
    /// delayed on its way.
    SendAgain(Index),
    /// Time passes.
    Wait(Span),
    /// The sweeper looks at every key.
    Purge,
}

/// Owner tokens do not show themselves, and without them a walk that failed would be a riddle.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { key, command } => {
                let owner = owner_token(command).map(|owner| owner.as_bytes()[0]);
                write!(f, "to key {key} by owner {owner:?}: {command:?}")
            }
            Self::SendAgain(index) => write!(f, "again: {index:?}"),
            Self::Wait(span) => write!(f, "wait for {span}"),
            Self::Purge => f.write_str("purge"),
        }
    }
}

impl Step {
    /// What arrives, and at which key.
    fn arrival(&self, sent: &[(usize, Command)]) -> Option<(usize, Command)> {
        match self {
            Self::Send { key, command } => Some((*key, command.clone())),
            Self::SendAgain(_) if sent.is_empty() => None,
            Self::SendAgain(index) => Some(index.get(sent).clone()),
            Self::Wait(_) | Self::Purge => None,
        }
    }
}

/// What the model knows.
#[derive(Clone, Debug)]
struct Model {
    now: Moment,
    next_fencing_token: FencingToken,
    histories: [History; KEYS],
    sent: Vec<(usize, Command)>,
    /// The answer to the latest step, if it was a command.
    answer: Option<Decision>,
}

/// Everything that ever happened to a key, oldest first.
#[derive(Clone, Debug, Default)]
struct History(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    at: Moment,
    event: Event,
}

/// What can happen to a key. Refusals and repetitions do not happen to it.
#[derive(Clone, Debug)]
enum Event {
    Granted(Reserve, FencingToken),
    Renewed(Renew),
    Released,
    Completed(Complete),
    Deleted,
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            now: Moment::from_millis(1_000),
            next_fencing_token: FencingToken::FIRST,
            histories: Default::default(),
            sent: Vec::new(),
            answer: None,
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        // Few tokens, fingerprints, payloads and lengths, so that they meet; and lengths that
        // add up, so that moments fall on the very ends of leases and retentions.
        prop_oneof![
            12 => (0..KEYS, commands()).prop_map(|(key, command)| Step::Send { key, command }),
            3 => any::<Index>().prop_map(Step::SendAgain),
            5 => select(vec![1, 5, 10, 20, 50]).prop_map(|it| Step::Wait(Span::from_millis(it))),
            1 => Just(Step::Purge),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        model.answer = None;
        if let Some((key, command)) = step.arrival(&model.sent) {
            let history = &mut model.histories[key];
            let (answer, event) = history.answer(model.now, &command, model.next_fencing_token);
            if let Some(Event::Granted(..)) = event {
                model.next_fencing_token = model.next_fencing_token.next();
            }
            history.0.extend(event.map(|event| Entry { at: model.now, event }));
            model.answer = Some(answer);
        }
        match step {
            Step::Send { key, command } => model.sent.push((*key, command.clone())),
            Step::Wait(span) => model.now = model.now.plus(*span),
            Step::SendAgain(_) | Step::Purge => {}
        }
        model
    }
}

impl History {
    /// Answers a command, and says what thereby happens to the key.
    fn answer(
        &self,
        now: Moment,
        command: &Command,
        next_fencing_token: FencingToken,
    ) -> (Decision, Option<Event>) {
        let refused = |refusal| (Decision::Refused(refusal), None);
        let story = Story(self.remembered(now));

        // Whom and what is the key bound to?
        let begin = |reserve: &Reserve| {
            let granted = Event::Granted(reserve.clone(), next_fencing_token);
            let told = [story.0, &[Entry { at: now, event: granted.clone() }]].concat();
            (Decision::Granted(Story(&told).granted()), Some(granted))
        };
        let Some(bound_to) = story.latest_grant() else {
            return match command {
                Command::Reserve(reserve) => begin(reserve),
                Command::ForceRelease(_) | Command::ForceComplete(_) => {
                    (forced(None, Phase::Vacant, Err(Refusal::NotFound)), None)
                }
                Command::Delete(_) => {
                    (forced(None, Phase::Vacant, Ok(ForcedOutcome::Deleted)), None)
                }
                _ => refused(Refusal::NotFound),
            };
        };
        if let Some((seen, force)) = story.forced_by(now, command) {
            let there = story.granted().fencing_token;
            let phase = story.phase(now);
            if seen.is_some_and(|seen| seen != there) {
                return (forced(Some(there), phase, Err(Refusal::RecordChanged)), None);
            }
            let (outcome, event) = force;
            return (forced(Some(there), phase, outcome), event);
        }
        let is_owner = owner_token(command) == Some(bound_to.owner_token);

        // Is this caller entitled to ask?
        match command {
            Command::Reserve(reserve) if reserve.fingerprint != bound_to.fingerprint => {
                return refused(Refusal::FingerprintMismatch);
            }
            Command::Reserve(_) => {}
            _ if !is_owner => return refused(Refusal::LeaseLost),
            _ => {}
        }

        // How does the story stand?
        match (story.ending(), command) {
            (Ending::Open, Command::Reserve(reserve)) => {
                if now < story.lease_until() {
                    if is_owner {
                        (Decision::Granted(story.granted()), None)
                    } else {
                        (Decision::InProgress(story.in_progress()), None)
                    }
                } else {
                    match bound_to.lease_expiry_action {
                        LeaseExpiryAction::Takeover => begin(reserve),
                        LeaseExpiryAction::Hold => (Decision::InDoubt(story.in_doubt()), None),
                    }
                }
            }
            (Ending::Open, Command::Complete(complete)) => {
                let completion = story.completion(now, complete);
                (Decision::Completed(completion.into()), Some(Event::Completed(complete.clone())))
            }
            (Ending::Open, Command::Renew(renew)) => {
                let lease_until = now.plus(renew.lease);
                (Decision::Renewed { lease_until }, Some(Event::Renewed(renew.clone())))
            }
            (Ending::Open, Command::Release(_)) => (Decision::Released, Some(Event::Released)),

            (Ending::Released, Command::Release(_)) => (Decision::Released, None),
            (Ending::Released, Command::Reserve(reserve)) if !is_owner => begin(reserve),
            (Ending::Released, _) => refused(Refusal::LeaseLost),

            (Ending::Completed(at, end), Command::Reserve(reserve)) => {
                if end.result == Outcome::Failed && reserve.retry_failed && !is_owner {
                    begin(reserve)
                } else {
                    (Decision::Replayed(story.completion(at, end).into()), None)
                }
            }
            (Ending::Completed(at, end), Command::Complete(complete)) => {
                if essence(end) == essence(complete) {
                    (Decision::Completed(story.completion(at, end).into()), None)
                } else {
                    refused(Refusal::ResultConflict)
                }
            }
            (Ending::Completed(..), _) => refused(Refusal::AlreadyCompleted),
            (Ending::Open, Command::ForceRelease(_) | Command::ForceComplete(_))
            | (Ending::Open, Command::Delete(_)) => unreachable!("it is forced"),
        }
    }

    /// The record that a lookup shows, and none where the key is vacant.
    fn record(&self, now: Moment) -> Option<Record> {
        let story = Story(self.remembered(now));
        let bound_to = story.latest_grant()?;
        let Granted { owner_token, fencing_token, attempt, takeover, .. } = story.granted();
        Some(Record {
            fingerprint: bound_to.fingerprint.clone(),
            owner_token,
            fencing_token,
            attempt,
            takeover,
            holder: bound_to.holder.clone(),
            created_at: story.0.first()?.at,
            checkpoint: story.checkpoint(),
            retention: bound_to.retention,
            state: match (story.ending(), story.0.last()?.at) {
                (Ending::Open, _) => State::Reserved {
                    lease_until: story.lease_until(),
                    lease_expiry_action: bound_to.lease_expiry_action,
                },
                (Ending::Released, released_at) => State::Released { released_at },
                (Ending::Completed(at, end), _) => {
                    State::Completed(story.completion(at, end).into())
                }
            },
        })
    }

    /// What counts at a moment: everything since the key was last vacant.
    fn remembered(&self, now: Moment) -> &[Entry] {
        let mut start = 0;
        for (index, entry) in self.0.iter().enumerate() {
            let before = Story(&self.0[start..index]);
            if before.over_at().is_some_and(|over| entry.at >= over) {
                start = index;
            }
            if let Event::Deleted = entry.event {
                start = index + 1;
            }
        }
        let rest = &self.0[start..];
        match Story(rest).over_at() {
            Some(over) if now >= over => &[],
            _ => rest,
        }
    }
}

/// The remembered part of a history. All but [`Story::latest_grant`] and [`Story::over_at`]
/// ask for one that has begun.
#[derive(Clone, Copy)]
struct Story<'a>(&'a [Entry]);

/// How the latest attempt of a story stands.
enum Ending<'a> {
    Open,
    Released,
    Completed(Moment, &'a Complete),
}

impl<'a> Story<'a> {
    fn latest_grant(self) -> Option<&'a Reserve> {
        self.0.iter().rev().find_map(|entry| match &entry.event {
            Event::Granted(reserve, _) => Some(reserve),
            _ => None,
        })
    }

    fn ending(self) -> Ending<'a> {
        match self.0.last() {
            Some(Entry { event: Event::Released, .. }) => Ending::Released,
            Some(Entry { at, event: Event::Completed(complete) }) => {
                Ending::Completed(*at, complete)
            }
            _ => Ending::Open,
        }
    }

    /// When the lease ends that was granted or renewed last.
    fn lease_until(self) -> Moment {
        let latest = self.0.iter().rev().find_map(|entry| match &entry.event {
            Event::Granted(reserve, _) => Some(entry.at.plus(reserve.lease)),
            Event::Renewed(renew) => Some(entry.at.plus(renew.lease)),
            _ => None,
        });
        latest.expect("a story begins with a grant")
    }

    /// When this story is over if nothing else happens; never, where it has not begun.
    fn over_at(self) -> Option<Moment> {
        let retention = self.latest_grant()?.retention;
        let last = self.0.last()?;
        Some(match &last.event {
            Event::Granted(..) | Event::Renewed(_) => self.lease_until().plus(retention),
            Event::Released => last.at.plus(retention),
            Event::Completed(complete) => last.at.plus(complete.retention),
            Event::Deleted => unreachable!("a story ends with it"),
        })
    }

    /// What the attempts since the last completion left behind.
    fn checkpoint(self) -> Vec<u8> {
        let mut left = Vec::new();
        for entry in self.0 {
            match &entry.event {
                Event::Renewed(Renew { checkpoint: Some(checkpoint), .. }) => {
                    left.clone_from(checkpoint);
                }
                Event::Completed(_) => left.clear(),
                _ => {}
            }
        }
        left
    }

    /// What the owner of the latest attempt is told.
    fn granted(self) -> Granted {
        let mut attempt = 0;
        let mut takeover = false;
        let mut latest = None;
        let mut before: Option<&Event> = None;
        for entry in self.0 {
            if let Event::Granted(reserve, fencing_token) = &entry.event {
                attempt += 1;
                // Whoever follows an attempt that did not end took over from it.
                takeover = matches!(before, Some(Event::Granted(..) | Event::Renewed(_)));
                latest = Some((reserve.owner_token, *fencing_token));
            }
            before = Some(&entry.event);
        }
        let (owner_token, fencing_token) = latest.expect("a story begins with a grant");
        Granted {
            owner_token,
            fencing_token,
            lease_until: self.lease_until(),
            attempt,
            takeover,
            checkpoint: self.checkpoint(),
        }
    }

    fn in_progress(self) -> InProgress {
        let InDoubt { lease_until, attempt, holder, .. } = self.in_doubt();
        InProgress { lease_until, attempt, holder }
    }

    fn in_doubt(self) -> InDoubt {
        let Granted { lease_until, attempt, checkpoint, .. } = self.granted();
        let holder = self.latest_grant().expect("a story begins with a grant").holder.clone();
        InDoubt { lease_until, attempt, holder, checkpoint }
    }

    /// What `complete` stores at the moment `at`.
    fn completion(self, at: Moment, complete: &Complete) -> Completion {
        let Granted { attempt, fencing_token, lease_until, .. } = self.granted();
        Completion {
            result: complete.result,
            response: complete.response.clone(),
            response_omitted: complete.response_omitted,
            response_digest: complete.response_digest,
            response_size_bytes: complete.response_size_bytes,
            completed_at: at,
            retained_until: at.plus(complete.retention),
            attempt,
            fencing_token,
            // Whoever released was not at it any more, and only an operator completes then.
            late: at >= lease_until || self.was_released(),
        }
    }

    /// Whether the latest attempt was given back, whatever became of it then.
    fn was_released(self) -> bool {
        let before = self.0.iter().rev().find(|it| !matches!(it.event, Event::Completed(_)));
        matches!(before, Some(Entry { event: Event::Released, .. }))
    }

    fn phase(self, now: Moment) -> Phase {
        match (self.ending(), self.latest_grant().map(|grant| grant.lease_expiry_action)) {
            (Ending::Open, _) if now < self.lease_until() => Phase::Held,
            (Ending::Open, Some(LeaseExpiryAction::Hold)) => Phase::InDoubt,
            (Ending::Open, _) => Phase::Lapsed,
            (Ending::Released, _) => Phase::Released,
            (Ending::Completed(..), _) => Phase::Completed,
        }
    }

    /// What an operator forces on a story that has begun, if it is one who asks: which record
    /// it has seen, what it is told, and what happens.
    #[allow(clippy::type_complexity)]
    fn forced_by(
        self,
        now: Moment,
        command: &Command,
    ) -> Option<(Option<FencingToken>, (Result<ForcedOutcome, Refusal>, Option<Event>))> {
        let told = match (command, self.ending()) {
            (Command::ForceRelease(it), Ending::Open) => {
                (it.fencing_token, (Ok(ForcedOutcome::Released), Some(Event::Released)))
            }
            (Command::ForceRelease(it), Ending::Released) => {
                (it.fencing_token, (Ok(ForcedOutcome::Released), None))
            }
            (Command::ForceRelease(it), Ending::Completed(..)) => {
                (it.fencing_token, (Err(Refusal::AlreadyCompleted), None))
            }
            (Command::ForceComplete(it), ending) => {
                let complete = complete_of(it);
                let told = match ending {
                    Ending::Open | Ending::Released => {
                        let completion = self.completion(now, &complete).into();
                        let event = Event::Completed(complete);
                        (Ok(ForcedOutcome::Completed(completion)), Some(event))
                    }
                    Ending::Completed(at, end) if essence(end) == essence(&complete) => {
                        let completion = self.completion(at, end).into();
                        (Ok(ForcedOutcome::Completed(completion)), None)
                    }
                    Ending::Completed(..) => (Err(Refusal::ResultConflict), None),
                };
                (it.fencing_token, told)
            }
            (Command::Delete(it), _) => {
                (it.fencing_token, (Ok(ForcedOutcome::Deleted), Some(Event::Deleted)))
            }
            _ => return None,
        };
        Some(told)
    }
}

/// What an operator is told.
fn forced(
    fencing_token: Option<FencingToken>,
    phase_before: Phase,
    outcome: Result<ForcedOutcome, Refusal>,
) -> Decision {
    let outcome = outcome.unwrap_or_else(ForcedOutcome::Refused);
    Decision::Forced(Forced { phase_before, fencing_token, outcome })
}

/// What tells one completion from another.
fn essence(it: &Complete) -> (Outcome, i32, [u8; 32]) {
    (it.result, it.response.status_code, it.response_digest)
}

/// The same by an owner whose name does not matter.
fn complete_of(force: &ForceComplete) -> Complete {
    Complete {
        owner_token: OwnerToken::from_bytes([0; 16]),
        result: force.result,
        response: force.response.clone(),
        response_omitted: force.response_omitted,
        response_digest: force.response_digest,
        response_size_bytes: force.response_size_bytes,
        retention: force.retention,
    }
}

/// A decision without what was there before it, which a repetition finds changed.
fn without_before(mut decision: Decision) -> Decision {
    if let Decision::Forced(forced) = &mut decision {
        (forced.phase_before, forced.fencing_token) = (Phase::Vacant, None);
    }
    decision
}

/// The code under test, driven as an engine drives it.
struct Walk {
    now: Moment,
    next_fencing_token: FencingToken,
    records: [Option<Record>; KEYS],
    ledgers: [Ledger; KEYS],
    sent: Vec<(usize, Command)>,
}

impl StateMachineTest for Walk {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        Self {
            now: model.now,
            next_fencing_token: model.next_fencing_token,
            records: [None, None],
            ledgers: Default::default(),
            sent: Vec::new(),
        }
    }

    fn apply(mut walk: Self, model: &Model, step: Step) -> Self {
        if let Some((key, command)) = step.arrival(&walk.sent) {
            let decision = walk.arrive(key, &command);
            assert_eq!(Some(&decision), model.answer.as_ref(), "the model answers differently");
            walk.ledgers[key].enter(walk.now, &command, &decision);
        }
        match step {
            Step::Send { key, command } => walk.sent.push((key, command)),
            Step::SendAgain(_) => {}
            Step::Wait(span) => walk.now = walk.now.plus(span),
            Step::Purge => walk.purge(),
        }
        walk
    }

    fn check_invariants(walk: &Self, model: &Model) {
        assert_eq!(walk.next_fencing_token, model.next_fencing_token);
        for (record, history) in walk.records.iter().zip(&model.histories) {
            let counts = phase_of(record.as_ref(), walk.now) != Phase::Vacant;
            let shown = record.as_ref().filter(|_| counts);
            assert_eq!(shown, history.record(walk.now).as_ref(), "the model shows another record");
        }
    }
}

impl Walk {
    /// Applies a command to a key.
    fn arrive(&mut self, key: usize, command: &Command) -> Decision {
        let record = self.records[key].as_ref();
        let phase = phase_of(record, self.now);
        let came = decide(record, command, self.now, self.next_fencing_token);
        reach(phase, command, &came.decision);
        match came.write {
            Write::Keep => {}
            Write::Put(record) => {
                if record.fencing_token == self.next_fencing_token {
                    self.next_fencing_token = self.next_fencing_token.next();
                }
                self.records[key] = Some(record);
            }
            Write::Delete => {
                assert!(matches!(command, Command::Delete(_)), "only operators and purges delete");
                self.records[key] = None;
            }
        }

        // A repetition that arrives at once finds what its first arrival left.
        let record = self.records[key].as_ref();
        let again = decide(record, command, self.now, self.next_fencing_token);
        assert_eq!(
            without_before(again.decision),
            without_before(came.decision.clone()),
            "a repetition is answered differently"
        );
        match again.write {
            Write::Keep => {}
            Write::Put(put) => assert_eq!(Some(&put), record, "a repetition changes the record"),
            Write::Delete => panic!("a repetition finds nothing to delete"),
        }
        came.decision
    }

    fn purge(&mut self) {
        for slot in &mut self.records {
            let Some(record) = slot else { continue };
            match purge(record, self.now) {
                Write::Keep => {}
                Write::Delete => *slot = None,
                Write::Put(_) => panic!("a purge takes a record or leaves it"),
            }
        }
    }
}

/// What the callers of one key know between them, and what they were promised.
#[derive(Default)]
struct Ledger {
    latest: Option<Attempt>,
    /// The first moment at which the key may be forgotten.
    bound_until: Option<Moment>,
}

/// The latest attempt that anybody was granted.
struct Attempt {
    reserve: Reserve,
    granted: Granted,
    end: End,
}

enum End {
    /// The owner may be at work until its lease ends.
    Open,
    Released,
    Completed(Arc<Completion>),
}

impl Ledger {
    /// Enters an answer, unless it breaks a promise.
    fn enter(&mut self, now: Moment, command: &Command, decision: &Decision) {
        let is_bound = self.bound_until.is_some_and(|until| now < until);
        let Some(latest) = &mut self.latest else {
            match (command, decision) {
                (Command::Reserve(reserve), Decision::Granted(granted)) => {
                    assert_eq!(granted.attempt, 1, "the first grant is the first attempt");
                    self.begin(reserve, granted);
                }
                (_, Decision::Forced(forced)) => {
                    let nothing = ForcedOutcome::Refused(Refusal::NotFound);
                    assert!(forced.outcome == nothing || forced.outcome == ForcedOutcome::Deleted);
                }
                (_, decision) => assert_eq!(*decision, Decision::Refused(Refusal::NotFound)),
            }
            return;
        };
        let is_latest_owner = Some(latest.granted.owner_token) == owner_token(command);
        let is_held_back = latest.reserve.lease_expiry_action == LeaseExpiryAction::Hold;
        let is_running = matches!(latest.end, End::Open) && now < latest.granted.lease_until;

        match (command, decision) {
            (Command::Reserve(_), Decision::Granted(granted))
                if granted.fencing_token == latest.granted.fencing_token =>
            {
                assert!(is_bound && is_running && is_latest_owner, "only its owner has an attempt");
                assert_eq!(*granted, latest.granted, "a repeated grant is the same grant");
            }
            (Command::Reserve(reserve), Decision::Granted(granted)) => {
                let number = granted.fencing_token;
                assert!(number > latest.granted.fencing_token, "fencing tokens rise for ever");
                assert!(!is_running, "a key has one live owner at most");
                if is_bound {
                    assert_eq!(granted.attempt, latest.granted.attempt + 1, "attempts rise by one");
                    match &latest.end {
                        End::Open => {
                            assert!(!is_held_back, "what is in doubt is not repeated blindly");
                            assert!(granted.takeover, "who takes over is told so");
                        }
                        End::Released => assert!(!is_latest_owner, "a release spends the token"),
                        End::Completed(end) => assert!(
                            end.result == Outcome::Failed
                                && reserve.retry_failed
                                && !is_latest_owner,
                            "what is completed stays completed"
                        ),
                    }
                } else {
                    assert_eq!(granted.attempt, 1, "a forgotten key begins anew");
                }
                self.begin(reserve, granted);
            }
            (_, Decision::InProgress(it)) => {
                assert!(is_running && !is_latest_owner, "somebody else is at it");
                assert_eq!(it.lease_until, latest.granted.lease_until);
            }
            (_, Decision::InDoubt(_)) => {
                assert!(is_bound && !is_running && matches!(latest.end, End::Open));
                assert!(is_held_back, "nobody asked to be held back");
            }
            (_, Decision::Replayed(completion) | Decision::Completed(completion)) => {
                assert!(is_bound);
                match &latest.end {
                    End::Open => {
                        assert!(is_latest_owner, "only the owner completes");
                        assert_eq!(completion.late, !is_running, "late is after the lease");
                        self.bound_until = Some(completion.retained_until);
                        latest.end = End::Completed(Arc::clone(completion));
                    }
                    End::Released => panic!("a released key has no completion"),
                    End::Completed(end) => {
                        assert_eq!(completion, end, "a completion never changes")
                    }
                }
            }
            (Command::Renew(renew), Decision::Renewed { lease_until }) => {
                assert!(is_bound && is_latest_owner && matches!(latest.end, End::Open));
                latest.granted.lease_until = *lease_until;
                // A repeated grant tells the owner what it left itself.
                if let Some(checkpoint) = &renew.checkpoint {
                    latest.granted.checkpoint.clone_from(checkpoint);
                }
                self.bound_until = Some(lease_until.plus(latest.reserve.retention));
            }
            (_, Decision::Released) => {
                assert!(is_bound && is_latest_owner, "only the owner releases");
                match latest.end {
                    End::Open => {
                        latest.end = End::Released;
                        self.bound_until = Some(now.plus(latest.reserve.retention));
                    }
                    End::Released => {}
                    End::Completed(_) => panic!("what is completed cannot be released"),
                }
            }
            (_, Decision::Forced(forced)) => {
                let there = is_bound.then_some(latest.granted.fencing_token);
                assert_eq!(forced.fencing_token, there, "an operator is shown what is there");
                match (&forced.outcome, &latest.end) {
                    (ForcedOutcome::Released, End::Open) => {
                        latest.end = End::Released;
                        self.bound_until = Some(now.plus(latest.reserve.retention));
                    }
                    (ForcedOutcome::Released, End::Released) => {}
                    (ForcedOutcome::Released, End::Completed(_)) => {
                        panic!("what is completed cannot be released")
                    }
                    (ForcedOutcome::Completed(completion), End::Completed(end)) => {
                        assert_eq!(completion, end, "a completion never changes")
                    }
                    (ForcedOutcome::Completed(completion), End::Open | End::Released) => {
                        self.bound_until = Some(completion.retained_until);
                        latest.end = End::Completed(Arc::clone(completion));
                    }
                    (ForcedOutcome::Deleted, _) => {
                        // Whoever held it holds nothing any more, and nobody is bound.
                        latest.end = End::Released;
                        self.bound_until = None;
                    }
                    (ForcedOutcome::Refused(Refusal::NotFound), _) => assert!(!is_bound),
                    (ForcedOutcome::Refused(_), _) => assert!(is_bound),
                }
            }
            (_, Decision::Refused(Refusal::NotFound)) => assert!(!is_bound),
            (_, Decision::Refused(_)) => assert!(is_bound),
            (_, Decision::Renewed { .. } | Decision::Granted(_)) => {
                panic!("{decision:?} answers no {command:?}");
            }
        }
    }

    fn begin(&mut self, reserve: &Reserve, granted: &Granted) {
        self.bound_until = Some(granted.lease_until.plus(reserve.retention));
        self.latest =
            Some(Attempt { reserve: reserve.clone(), granted: granted.clone(), end: End::Open });
    }
}

thread_local! {
    /// Which answers the walks of this thread have met.
    static REACHED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn reach(phase: Phase, command: &Command, decision: &Decision) {
    let asked = match command {
        Command::Reserve(_) => "Reserve",
        Command::Complete(_) => "Complete",
        Command::Renew(_) => "Renew",
        Command::Release(_) => "Release",
        Command::ForceRelease(_) => "ForceRelease",
        Command::ForceComplete(_) => "ForceComplete",
        Command::Delete(_) => "Delete",
    };
    let answered = match decision {
        Decision::Granted(_) => "granted".to_owned(),
        Decision::InProgress(_) => "in progress".to_owned(),
        Decision::Replayed(_) => "replayed".to_owned(),
        Decision::InDoubt(_) => "in doubt".to_owned(),
        Decision::Completed(_) => "completed".to_owned(),
        Decision::Renewed { .. } => "renewed".to_owned(),
        Decision::Released => "released".to_owned(),
        Decision::Refused(refusal) => format!("{refusal:?}"),
        Decision::Forced(forced) => match &forced.outcome {
            ForcedOutcome::Released => "released".to_owned(),
            ForcedOutcome::Completed(_) => "completed".to_owned(),
            ForcedOutcome::Deleted => "deleted".to_owned(),
            ForcedOutcome::Refused(refusal) => format!("{refusal:?}"),
        },
    };
    REACHED.with_borrow_mut(|reached| {
        reached.insert(format!("{phase:?}: {asked} → {answered}"));
    });
}

/// Whose command it is; an operator's is nobody's.
fn owner_token(command: &Command) -> Option<OwnerToken> {
    match command {
        Command::Reserve(it) => Some(it.owner_token),
        Command::Complete(it) => Some(it.owner_token),
        Command::Renew(it) => Some(it.owner_token),
        Command::Release(it) => Some(it.owner_token),
        Command::ForceRelease(_) | Command::ForceComplete(_) | Command::Delete(_) => None,
    }
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => reserves().prop_map(Command::Reserve),
        2 => completes().prop_map(Command::Complete),
        3 => renews().prop_map(Command::Renew),
        2 => owner_tokens().prop_map(|owner_token| Command::Release(Release { owner_token })),
        2 => forces(),
    ]
}

/// An operator mostly takes what is there.
fn forces() -> impl Strategy<Value = Command> {
    let seen = prop_oneof![1 => Just(None), 1 => (1..5_i64).prop_map(FencingToken::new)];
    (0..4, seen, completes()).prop_map(|(kind, fencing_token, complete)| match kind {
        0 => Command::ForceRelease(ForceRelease { fencing_token }),
        1 => Command::Delete(Delete { fencing_token }),
        _ => Command::ForceComplete(ForceComplete {
            fencing_token,
            result: complete.result,
            response: complete.response,
            response_omitted: complete.response_omitted,
            response_digest: complete.response_digest,
            response_size_bytes: complete.response_size_bytes,
            retention: complete.retention,
        }),
    })
}

fn reserves() -> impl Strategy<Value = Reserve> {
    let fingerprints = prop_oneof![8 => Just("request"), 1 => Just("another"), 1 => Just("")];
    let expiry_actions = select(vec![LeaseExpiryAction::Takeover, LeaseExpiryAction::Hold]);
    let holders = select(vec!["worker a", "worker b"]);
    (fingerprints, owner_tokens(), leases(), expiry_actions, retentions(), any::<bool>(), holders)
        .prop_map(
            |(print, owner_token, lease, lease_expiry_action, retention, retry_failed, holder)| {
                Reserve {
                    fingerprint: Fingerprint::new(print.into()).expect("it is short"),
                    owner_token,
                    lease,
                    lease_expiry_action,
                    retention,
                    retry_failed,
                    holder: holder.to_owned(),
                }
            },
        )
}

fn completes() -> impl Strategy<Value = Complete> {
    let results = select(vec![Outcome::Succeeded, Outcome::Failed, Outcome::Failed]);
    let payloads = prop_oneof![4 => Just("yes"), 1 => Just("no!")];
    let status_codes = prop_oneof![4 => Just(200), 1 => Just(409)];
    let content_types = select(vec!["", "text/plain"]);
    (owner_tokens(), results, payloads, status_codes, content_types, retentions()).prop_map(
        |(owner_token, result, payload, status_code, content_type, retention)| Complete {
            owner_token,
            result,
            response: Response {
                payload: payload.into(),
                content_type: content_type.to_owned(),
                status_code,
                ..Response::default()
            },
            response_omitted: false,
            response_digest: [payload.as_bytes()[0]; 32],
            response_size_bytes: 3,
            retention,
        },
    )
}

fn renews() -> impl Strategy<Value = Renew> {
    let checkpoints = select(vec![None, Some(""), Some("page 1"), Some("page 2")]);
    (owner_tokens(), leases(), checkpoints).prop_map(|(owner_token, lease, checkpoint)| Renew {
        owner_token,
        lease,
        checkpoint: checkpoint.map(Into::into),
    })
}

fn owner_tokens() -> impl Strategy<Value = OwnerToken> {
    select(vec![1, 2, 3]).prop_map(|number| OwnerToken::from_bytes([number; 16]))
}

fn leases() -> impl Strategy<Value = Span> {
    select(vec![10, 20]).prop_map(Span::from_millis)
}

fn retentions() -> impl Strategy<Value = Span> {
    select(vec![20, 50, 70]).prop_map(Span::from_millis)
}
