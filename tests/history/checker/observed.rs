//! What the answers of a history speak of, which is all that a call without an answer can be
//! known by: the moments and the fencing tokens that it may have had.

use std::collections::BTreeSet;

use onced::domain::{Command, Moment, Renew, Reserve, Span};
use onced::pb::v1;
use onced::pb::v1::reserve_response::Outcome;

use super::specification::{State, command};
use crate::callers::RETENTION;
use crate::calls::{Answer, Call, End, Request, Window, moment};

/// What the answers of a history speak of: traces of the calls that were not answered.
pub struct Observed {
    moments: BTreeSet<Moment>,
    tokens: BTreeSet<i64>,
}

impl Observed {
    pub fn of(calls: &[Call]) -> Self {
        let mut observed = Self { moments: BTreeSet::new(), tokens: BTreeSet::new() };
        for call in calls {
            if let End::Answered { answer, .. } = &call.end {
                observed.moments.extend(answer.decided_at());
                observed.see(answer);
            }
        }
        observed
    }

    fn see(&mut self, answer: &Answer) {
        let mut times = Vec::new();
        match answer {
            Answer::Reserve(answer) => match answer.outcome.as_ref() {
                Some(Outcome::Granted(it)) => {
                    self.tokens.insert(it.fencing_token);
                    times.push(&it.lease_expire_time);
                }
                Some(Outcome::InProgress(it)) => times.push(&it.lease_expire_time),
                Some(Outcome::InDoubt(it)) => times.push(&it.lease_expire_time),
                Some(Outcome::Completed(it)) => self.see_completion(it),
                None => {}
            },
            Answer::Complete(it) => self.see_completion(it.completion.as_ref().unwrap()),
            Answer::Renew(it) => times.push(&it.lease_expire_time),
            Answer::Lookup(it) => {
                let record = it.record.as_ref().unwrap();
                self.tokens.insert(record.fencing_token);
                times.extend([&record.lease_expire_time, &record.create_time, &record.expire_time]);
                if let Some(completion) = &record.completion {
                    self.see_completion(completion);
                }
            }
            Answer::Release(_) | Answer::Refused(_) => {}
        }
        self.moments.extend(times.into_iter().flatten().map(moment));
    }

    fn see_completion(&mut self, completion: &v1::Completion) {
        self.tokens.insert(completion.fencing_token);
        let times = [&completion.complete_time, &completion.expire_time];
        self.moments.extend(times.into_iter().flatten().map(moment));
    }

    /// When `request` may have been decided: now, where another phase begins, or so that it
    /// explains a moment that somebody saw.
    pub fn moments(&self, request: &Request, state: &State, window: Window) -> Vec<Moment> {
        let spans = match command(request) {
            Some(Command::Reserve(Reserve { lease, .. }) | Command::Renew(Renew { lease, .. })) => {
                vec![lease, Span::from_millis(lease.as_millis() + RETENTION)]
            }
            Some(Command::Complete(it)) => vec![it.retention],
            Some(Command::Release(_)) => vec![Span::from_millis(RETENTION)],
            Some(Command::ForceRelease(_) | Command::ForceComplete(_) | Command::Delete(_)) => {
                unreachable!("no caller is an operator")
            }
            // It changes nothing.
            None => return Vec::new(),
        };
        let mut moments = state.turning_points(window);
        for seen in &self.moments {
            moments.push(*seen);
            let before = |span: &Span| Moment::from_millis(seen.as_millis() - span.as_millis());
            moments.extend(spans.iter().map(before));
        }
        moments.retain(|moment| window.holds(*moment));
        moments
    }

    /// The tokens that a grant may have carried.
    pub fn tokens(&self, state: &State) -> Vec<Option<i64>> {
        let above = self.tokens.range(state.highest + 1..).copied().map(Some);
        std::iter::once(None).chain(above).collect()
    }
}
