//! Whether the calls on one key could have been made one after another, in an order that
//! agrees with real time; and where not, the story of the shortest beginning that could not.

mod observed;
mod search;
mod specification;

#[cfg(test)]
mod accepts;
#[cfg(test)]
mod refuses;
#[cfg(test)]
mod script;

use std::fmt::Write as _;

use self::observed::Observed;
use self::search::Search;
use self::specification::{State, step};
use crate::calls::{Call, End};

/// Whether the calls on one key are linearizable; if not, the story of how far it goes. A search
/// that gives up counts as no, and the story says so.
/// Otherwise, how many steps it took to see it.
pub fn check(calls: &[Call]) -> Result<u64, String> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.called_at);
    let observed = Observed::of(&calls);
    let mut search = Search::new(&calls, &observed);
    if search.succeeds() {
        return Ok(search.steps);
    }
    let mut returns: Vec<u64> = calls.iter().filter_map(Call::returned_at).collect();
    returns.sort_unstable();
    // A beginning of a linearizable history is linearizable: so the first one that is not
    // can be found by halving.
    let right = |until: &u64| Search::new(&until_then(&calls, *until), &observed).succeeds();
    let first = returns.partition_point(right).min(returns.len() - 1);
    Err(story(&until_then(&calls, returns[first]), &observed))
}

/// The history as it was known at a moment: what had not returned was open then.
fn until_then(calls: &[Call], until: u64) -> Vec<Call> {
    let mut known = Vec::new();
    for call in calls.iter().filter(|call| call.called_at <= until) {
        let mut call = call.clone();
        if call.returned_at().is_some_and(|at| at > until) {
            call.end = End::Open;
            call.decided.until = None;
        }
        known.push(call);
    }
    known
}

/// The longest order that was right, and what could not follow it.
fn story(calls: &[Call], observed: &Observed) -> String {
    let mut search = Search::new(calls, observed);
    search.succeeds();
    let mut story = String::new();
    if search.gave_up() {
        story.push_str("(not all orders were tried: this is the longest of those that were)\n");
    }
    story.push_str("in this order all was well:\n");
    let mut state = State::default();
    for (number, moment) in &search.furthest {
        let call = &calls[*number];
        state = step(&state, &call.request, *moment, call.fencing_token()).state;
        let _ = writeln!(story, "  decided at {}: {call}", moment.as_millis());
    }
    let _ = writeln!(story, "which leaves {state:#?}\nand none of these could follow:");
    for (number, call) in calls.iter().enumerate() {
        if !search.furthest.iter().any(|(done, _)| *done == number) {
            let _ = writeln!(story, "  {call}");
        }
    }
    story
}
