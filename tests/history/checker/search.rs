//! The search itself: the algorithm of Wing and Gong, which tries all orders that agree with
//! real time, with Lowe's memory of the states that led nowhere.
//!
//! An answer says when it was decided, and the engine's clock never runs backwards: so among
//! the answers that do, only the earliest moment may come next. Refusals say no moment, and
//! calls without an answer say nothing: for those the moments are tried at which something
//! changes, or that an answer speaks of.

use std::collections::HashMap;

use onced::domain::Moment;

use super::observed::Observed;
use super::specification::{State, step};
use crate::calls::{Answer, Call, End, Window};

/// How many steps a search takes at most. Where there is a right order it takes little more
/// than there are calls; to be sure that there is none may take for ever where some are open.
const MAX_STEPS: u64 = 200_000;

/// The calls on one key, and how far an order of them has come.
pub struct Search<'a> {
    calls: &'a [Call],
    observed: &'a Observed,
    done: Vec<bool>,
    /// The calls in the order that is being tried, and the moment of each.
    order: Vec<(usize, Moment)>,
    /// Which calls were done in which state, where no order of the rest was right.
    dead: HashMap<Vec<bool>, Vec<State>>,
    /// The longest order of all.
    pub furthest: Vec<(usize, Moment)>,
    /// How many steps it took.
    pub steps: u64,
}

impl<'a> Search<'a> {
    /// Of calls in the order in which they were sent.
    pub fn new(calls: &'a [Call], observed: &'a Observed) -> Self {
        Self {
            calls,
            observed,
            done: vec![false; calls.len()],
            order: Vec::new(),
            dead: HashMap::new(),
            furthest: Vec::new(),
            steps: 0,
        }
    }

    /// Whether there is a right order, as far as the search goes.
    pub fn succeeds(&mut self) -> bool {
        self.goes_on(&State::default())
    }

    pub fn gave_up(&self) -> bool {
        self.steps > MAX_STEPS
    }

    /// Whether the calls that are not done have a right order from `state` on.
    fn goes_on(&mut self, state: &State) -> bool {
        let Some(first_return) = self.pending().map(|(_, at, _)| at).min() else { return true };
        self.steps += 1;
        if self.gave_up() {
            return false;
        }
        let dead = self.dead.entry(self.done.clone()).or_default();
        if dead.contains(state) {
            return false;
        }
        dead.push(state.clone());
        // Nothing may be decided later than what has to come after it.
        let latest = self.pending().filter_map(|(_, _, answer)| answer.decided_at()).min();
        // Those without an answer come last: most of them explain nothing.
        let (answered, open): (Vec<usize>, Vec<usize>) =
            (0..self.calls.len()).partition(|number| self.calls[*number].returned_at().is_some());
        for number in answered.into_iter().chain(open) {
            let call = &self.calls[number];
            // It comes after every call that had returned before it was sent.
            if self.done[number] || call.called_at > first_return {
                continue;
            }
            let window = call.decided.between(state.at, latest);
            let reached = match &call.end {
                End::Answered { answer, .. } => self.tries(number, answer, state, window),
                End::Open => self.tries_open(number, state, window),
            };
            if reached {
                return true;
            }
        }
        false
    }

    /// The answered calls that are not done: number, when they returned, and what was said.
    fn pending(&self) -> impl Iterator<Item = (usize, u64, &Answer)> {
        let calls = self.calls.iter().enumerate().filter(|(number, _)| !self.done[*number]);
        calls.filter_map(|(number, call)| match &call.end {
            End::Answered { at, answer } => Some((number, *at, answer)),
            End::Open => None,
        })
    }

    fn tries(&mut self, number: usize, answer: &Answer, state: &State, window: Window) -> bool {
        let moments = match answer.decided_at() {
            Some(decided_at) if window.holds(decided_at) => vec![decided_at],
            Some(_) => return false,
            None => state.turning_points(window),
        };
        for moment in moments {
            let after = step(state, &self.calls[number].request, moment, answer.fencing_token());
            if after.answer == *answer {
                // A refusal changes nothing: the earliest moment leaves most to the others.
                return self.descends(number, moment, &after.state);
            }
        }
        false
    }

    /// A call without an answer, where it would change something. That it never happens is
    /// tried as well: then it is left over in the end.
    fn tries_open(&mut self, number: usize, state: &State, window: Window) -> bool {
        let request = &self.calls[number].request;
        let mut tried = Vec::new();
        for moment in self.observed.moments(request, state, window) {
            for token in self.observed.tokens(state) {
                let after = step(state, request, moment, token);
                if !after.changed || tried.contains(&after.state) {
                    continue;
                }
                if self.descends(number, moment, &after.state) {
                    return true;
                }
                tried.push(after.state);
            }
        }
        false
    }

    fn descends(&mut self, number: usize, moment: Moment, state: &State) -> bool {
        self.done[number] = true;
        self.order.push((number, moment));
        if self.order.len() > self.furthest.len() {
            self.furthest = self.order.clone();
        }
        let reached = self.goes_on(state);
        self.order.pop();
        self.done[number] = false;
        reached
    }
}
