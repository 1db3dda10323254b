//! What one key answers, one call at a time: `decide`, and what a call without an answer may
//! have met.

use std::collections::BTreeSet;

use onced::api::{Limits, decode, encode};
use onced::domain::{
    Command, Decision, FencingToken, Moment, Record, Refusal, Span, SpanBounds, Write, decide,
};
use onced::pb::v1;
use onced::pb::v1::reserve_response::Outcome;

use crate::callers::RETENTION;
use crate::calls::{Answer, Call, End, Request, moment};

/// A key between two calls.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub record: Option<Record>,
    /// The largest fencing token that was given, also to records that are gone.
    pub highest: i64,
    /// No call is decided before this moment.
    pub at: Moment,
}

impl State {
    /// The moments until `latest` from which on another phase begins, and the earliest of all.
    pub fn turning_points(&self, latest: Option<Moment>) -> Vec<Moment> {
        let mut moments = vec![self.at];
        if let Some(record) = &self.record {
            if let onced::domain::State::Reserved { lease_until, .. } = &record.state {
                moments.push(*lease_until);
            }
            moments.push(record.retained_until());
        }
        moments.retain(|it| *it >= self.at && latest.is_none_or(|latest| *it <= latest));
        moments
    }
}

/// What a call came to.
pub struct After {
    pub answer: Answer,
    pub state: State,
    pub changed: bool,
}

/// The limits of the servers that are put to the test.
fn limits() -> Limits {
    let retention = SpanBounds { default: Span::from_millis(RETENTION), ..SpanBounds::RETENTION };
    Limits { retention, ..Limits::default() }
}

/// Does `request` at `now`. A grant of a new attempt carries `token`, or else the next number.
pub fn step(state: &State, request: &Request, now: Moment, token: Option<i64>) -> After {
    let decide_time = Some(encode::timestamp(now));
    let Some(command) = command(request) else {
        let known = state.record.clone().filter(|record| now < record.retained_until());
        let answer = match known {
            Some(record) => Answer::Lookup(v1::LookupResponse {
                record: Some(encode::record(record, now)),
                decide_time,
            }),
            None => Answer::Refused(Refusal::NotFound),
        };
        return After { answer, state: State { at: now, ..state.clone() }, changed: false };
    };
    let rising = token.filter(|token| *token > state.highest).unwrap_or(state.highest + 1);
    let transition =
        decide(state.record.as_ref(), &command, now, FencingToken::new(rising).unwrap());
    let mut after = State { at: now, ..state.clone() };
    let changed = !matches!(transition.write, Write::Keep);
    match transition.write {
        Write::Keep => {}
        Write::Delete => after.record = None,
        Write::Put(record) => {
            after.highest = after.highest.max(record.fencing_token.get());
            after.record = Some(record);
        }
    }
    let reserved =
        |outcome| Answer::Reserve(v1::ReserveResponse { outcome: Some(outcome), decide_time });
    let answer = match transition.decision {
        Decision::Granted(granted) => reserved(Outcome::Granted(encode::granted(granted))),
        Decision::InProgress(it) => reserved(Outcome::InProgress(encode::in_progress(it, now))),
        Decision::Replayed(it) => reserved(Outcome::Completed(encode::completion(&it))),
        Decision::InDoubt(it) => reserved(Outcome::InDoubt(encode::in_doubt(it))),
        Decision::Completed(it) => Answer::Complete(v1::CompleteResponse {
            completion: Some(encode::completion(&it)),
            decide_time,
        }),
        Decision::Renewed { lease_until } => Answer::Renew(v1::RenewResponse {
            lease_expire_time: Some(encode::timestamp(lease_until)),
            decide_time,
        }),
        Decision::Released => Answer::Release(v1::ReleaseResponse { decide_time }),
        Decision::Refused(refusal) => Answer::Refused(refusal),
    };
    After { answer, state: after, changed }
}

/// What the server makes of a request; nothing for a Lookup.
fn command(request: &Request) -> Option<Command> {
    let limits = limits();
    let decoded = match request.clone() {
        Request::Reserve(it) => decode::reserve(it, &limits),
        Request::Complete(it) => decode::complete(it, &limits),
        Request::Release(it) => decode::release(it),
        Request::Renew(it) => decode::renew(it, &limits),
        Request::Lookup(_) => return None,
    };
    Some(decoded.expect("callers send what is right").1)
}

/// The fencing token of a grant.
pub fn token(answer: &Answer) -> Option<i64> {
    match answer {
        Answer::Reserve(v1::ReserveResponse { outcome: Some(Outcome::Granted(it)), .. }) => {
            Some(it.fencing_token)
        }
        _ => None,
    }
}

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
            Answer::Reserve(answer) => match answer.outcome.as_ref().unwrap() {
                Outcome::Granted(it) => {
                    self.tokens.insert(it.fencing_token);
                    times.push(&it.lease_expire_time);
                }
                Outcome::InProgress(it) => times.push(&it.lease_expire_time),
                Outcome::InDoubt(it) => times.push(&it.lease_expire_time),
                Outcome::Completed(it) => self.see_completion(it),
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
    pub fn moments(&self, request: &Request, state: &State, latest: Option<Moment>) -> Vec<Moment> {
        let spans = match command(request) {
            Some(Command::Reserve(it)) => vec![it.lease],
            Some(Command::Renew(it)) => {
                vec![it.lease, Span::from_millis(it.lease.as_millis() + RETENTION)]
            }
            Some(Command::Complete(it)) => vec![it.retention],
            Some(Command::Release(_)) => vec![Span::from_millis(RETENTION)],
            // It changes nothing.
            None => return Vec::new(),
        };
        let mut moments = state.turning_points(latest);
        for seen in &self.moments {
            moments.push(*seen);
            let before = |span: &Span| Moment::from_millis(seen.as_millis() - span.as_millis());
            moments.extend(spans.iter().map(before));
        }
        moments.retain(|it| *it >= state.at && latest.is_none_or(|latest| *it <= latest));
        moments
    }

    /// The tokens that a grant may have carried.
    pub fn tokens(&self, state: &State) -> Vec<Option<i64>> {
        let above = self.tokens.range(state.highest + 1..).copied().map(Some);
        std::iter::once(None).chain(above).collect()
    }
}
