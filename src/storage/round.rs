//! One round of an engine: everything that is decided at one moment and written in one step.
//!
//! Questions are answered in order, or parked where their caller waits. Whoever waits for a key
//! is served in the same round: before anything else where the lease is over, and right after
//! whatever changed the key. So nobody ever finds a key that is free while somebody waits for
//! it, and the cause and all of its effects are one commit. What a record comes to is for
//! [`decide`](crate::domain::decide()) alone: the engine behind [`Store`] asks it.
//!
//! # Why waiting and batches break no promise
//!
//! A waiter is decided like anybody who asks at that moment, over the same records and by the
//! same table, so it takes effect between its call and its answer (1), and its answer is one of
//! the round's, held and failed with them (2, 5, 6). Its grant takes the next fencing token (3),
//! its lease is judged when it is read (4): an alarm only sees to it that somebody reads. Lines
//! and answers have bounds (7). Several commands of one call are decided in one round, hence
//! written in one step: after a crash all of them are there, or none.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use super::question::{Answer, Question};
use super::waiting::{Queue, Wait, Waiting};
use super::{Decided, EngineError};
use crate::domain::{Command, Decision, Moment, Record};

/// How much stored data the answers to several commands may carry together, in bytes: what
/// clients read by default is 4 MiB, and a thousand items take less than the rest without it.
const MAX_STORED_BYTES: usize = 3 << 20;

/// The records as a round sees them: what is written, and what this round changed.
pub trait Store<K> {
    /// Applies `command`. The flag says whether it changed anything.
    fn apply(&mut self, key: &K, command: &Command) -> Result<(Decision, bool), EngineError>;

    /// What is on record; `None` where the key is vacant.
    fn lookup(&mut self, key: &K) -> Result<Option<Record>, EngineError>;

    /// Need not remember what it read of `key`: it may be large, and is not asked for again.
    fn forget(&mut self, key: &K);
}

/// Whoever asked.
pub trait Caller {
    /// Whether there is nobody any more to answer.
    fn has_left(&self) -> bool;

    /// Gives back what is only for those who are answered soon.
    fn park(&mut self);

    /// Whether an answer may carry so many bytes to it; if so, they are counted.
    fn may_hold(&mut self, bytes: usize) -> bool;
}

/// A question on its way to an answer.
#[derive(Debug)]
pub struct Asked<K, C> {
    /// What is asked.
    pub question: Question<K>,
    /// When its caller stops to care.
    pub deadline: Option<Instant>,
    /// Who asks.
    pub caller: C,
    /// Whether the caller waits where somebody else is at it; not with several commands.
    pub wait: Option<Wait>,
}

/// An answer, which is held until what it rests on is durable.
#[derive(Debug)]
pub struct Answered<C> {
    /// Whose.
    pub caller: C,
    /// What.
    pub answer: Result<Decided<Answer>, EngineError>,
    /// Whether it wrote anything.
    pub wrote: bool,
}

/// Everybody who waits in an engine.
pub type Parked<K, C> = Waiting<K, Asked<K, C>>;

/// A round while it lasts.
pub struct Round<'a, K, C, S> {
    store: &'a mut S,
    waiting: &'a mut Parked<K, C>,
    answered: &'a mut Vec<Answered<C>>,
    now: Moment,
    patience: Instant,
}

impl<'a, K, C, S> Round<'a, K, C, S>
where
    K: Clone + Eq + Hash + Ord,
    C: Caller,
    S: Store<K>,
{
    /// Begins a round at `now`, and serves everybody whose wait for a lease is over. Answers go
    /// to `answered`; whoever has no time beyond `patience` has too little.
    pub fn begin(
        store: &'a mut S,
        waiting: &'a mut Parked<K, C>,
        answered: &'a mut Vec<Answered<C>>,
        now: Moment,
        patience: Instant,
    ) -> Self {
        let mut round = Self { store, waiting, answered, now, patience };
        while let Some(key) = round.waiting.due(now) {
            round.serve(&key);
        }
        round
    }

    /// Answers a question, or parks it.
    pub fn take(&mut self, asked: Asked<K, C>) {
        if asked.caller.has_left() {
            return;
        }
        if asked.deadline.is_some_and(|deadline| deadline <= self.patience) {
            self.answer(asked.caller, Err(EngineError::DeadlineTooShort));
            return;
        }
        let Asked { question, deadline, mut caller, wait } = asked;
        if let Question::ApplyAll(commands) = question {
            return self.take_all(caller, &commands);
        }
        let answer = ask(self.store, &question);
        let answer = self.within_bounds(answer, &question, &mut caller);
        if let (Some(wait), Ok((answer, _))) = (&wait, &answer)
            && !wait.is_over()
            && let Some(lease_until) = answer.held_until(self.now)
            && let Some((key, queue)) = place_of(&question)
            && self.waiting.has_room(key)
        {
            let (key, ticket) = (key.clone(), wait.ticket);
            let mut asked = Asked { question, deadline, caller, wait: None };
            asked.caller.park();
            self.waiting.park(&key, queue, ticket, lease_until, asked);
            return;
        }
        let wrote = matches!(answer, Ok((_, true)));
        self.answer(caller, answer);
        if wrote && let Some((key, _)) = place_of(&question) {
            self.serve(key);
        }
    }

    /// `answer`, unless it carries more than there is room for on the way to all callers. What
    /// was written is told in any case: its caller brought along what it carries.
    fn within_bounds(
        &mut self,
        answer: Result<(Answer, bool), EngineError>,
        question: &Question<K>,
        caller: &mut C,
    ) -> Result<(Answer, bool), EngineError> {
        match &answer {
            Ok((told, false)) if !caller.may_hold(told.stored_bytes()) => {
                if let Some((key, _)) = place_of(question) {
                    self.store.forget(key);
                }
                Err(EngineError::Overloaded)
            }
            Ok(_) | Err(_) => answer,
        }
    }

    /// Serves those who wait for `keys`, which were changed by something else than a question.
    pub fn changed<'k>(&mut self, keys: impl IntoIterator<Item = &'k K>)
    where
        K: 'k,
    {
        keys.into_iter().for_each(|key| self.serve(key));
    }

    fn take_all(&mut self, caller: C, commands: &[(K, Command)]) {
        let mut wrote = false;
        let mut room = MAX_STORED_BYTES;
        let mut decisions = Vec::with_capacity(commands.len());
        for (key, command) in commands {
            let applied = self.store.apply(key, command);
            if let Ok((_, true)) = applied {
                wrote = true;
                self.serve(key);
            } else {
                self.store.forget(key);
            }
            decisions.push(applied.and_then(|(decision, _)| small_enough(decision, &mut room)));
        }
        self.answer(caller, Ok((Answer::Decisions(decisions), wrote)));
    }

    /// Answers those who wait for `key` and need not wait any longer.
    fn serve(&mut self, key: &K) {
        if !self.waiting.has(key) {
            return;
        }
        let Self { store, waiting, answered, now, patience } = self;
        waiting.serve(key, |asked: Asked<K, C>| {
            // Whoever has left is granted nothing.
            if asked.caller.has_left() {
                return None;
            }
            let answer = if asked.deadline.is_some_and(|deadline| deadline <= *patience) {
                Err(EngineError::DeadlineTooShort)
            } else {
                ask(*store, &asked.question)
            };
            if let Ok((answer, _)) = &answer
                && let Some(lease_until) = answer.held_until(*now)
            {
                return Some((asked, lease_until));
            }
            answered.push(answered_at(*now, asked.caller, answer));
            None
        });
    }

    fn answer(&mut self, caller: C, answer: Result<(Answer, bool), EngineError>) {
        self.answered.push(answered_at(self.now, caller, answer));
    }
}

/// One of several decisions, as far as there is `room` for what it carries. What must be known is
/// told in any case; what can be asked for again is refused where there is no room, but for the
/// first that is larger than all of it: somebody has to be able to have it.
fn small_enough(decision: Decision, room: &mut usize) -> Result<Decision, EngineError> {
    let bytes = decision.stored_bytes();
    match &decision {
        // Whoever sends a response has it.
        Decision::Completed(completion) => {
            return Ok(Decision::Completed(Arc::new(completion.without_response())));
        }
        Decision::Replayed(_) | Decision::InDoubt(_)
            if bytes > *room && *room < MAX_STORED_BYTES =>
        {
            return Err(EngineError::AnswerTooLarge);
        }
        _ => {}
    }
    *room = room.saturating_sub(bytes);
    Ok(decision)
}

fn answered_at<C>(
    now: Moment,
    caller: C,
    answer: Result<(Answer, bool), EngineError>,
) -> Answered<C> {
    let wrote = matches!(answer, Ok((_, true)));
    let answer = answer.map(|(answer, _)| Decided { answer, decided_at: now });
    Answered { caller, answer, wrote }
}

/// Which key a question is about, and with whom its caller waits.
fn place_of<K>(question: &Question<K>) -> Option<(&K, Queue)> {
    match question {
        Question::Apply(key, _) => Some((key, Queue::Reserves)),
        Question::Lookup(key) => Some((key, Queue::Lookups)),
        Question::ApplyAll(_) => None,
    }
}

fn ask<K>(
    store: &mut impl Store<K>,
    question: &Question<K>,
) -> Result<(Answer, bool), EngineError> {
    match question {
        Question::Apply(key, command) => {
            store.apply(key, command).map(|(decision, wrote)| (Answer::Decision(decision), wrote))
        }
        Question::Lookup(key) => store.lookup(key).map(|record| (Answer::Record(record), false)),
        Question::ApplyAll(_) => unreachable!("several commands are applied one by one"),
    }
}
