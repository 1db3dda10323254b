//! What one key answers, one call at a time: `decide`, as the wire shows it.

use onced::api::{Limits, Policies, decode, encode};
use onced::domain::{
    Command, Decision, FencingToken, Moment, Record, Refusal, Span, SpanBounds, Write, decide,
};
use onced::pb::v1;
use onced::pb::v1::reserve_response::Outcome;

use crate::callers::RETENTION;
use crate::calls::{Answer, Request, Window};

/// A key between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub record: Option<Record>,
    /// The largest fencing token that was given, also to records that are gone.
    pub highest: i64,
    /// No call is decided before this moment.
    pub at: Moment,
}

impl State {
    /// The moments of a window from which on another phase begins, and the earliest of all.
    pub fn turning_points(&self, window: Window) -> Vec<Moment> {
        let mut moments = vec![window.from];
        if let Some(record) = &self.record {
            if let onced::domain::State::Reserved { lease_until, .. } = &record.state {
                moments.push(*lease_until);
            }
            moments.push(record.retained_until());
        }
        moments.retain(|moment| window.holds(*moment));
        moments.sort_unstable();
        moments
    }
}

/// What a call came to.
pub struct After {
    pub answer: Answer,
    pub state: State,
    pub changed: bool,
}

/// What the servers that are put to the test hold requests to.
fn policies() -> Policies {
    let retention = SpanBounds { default: Span::from_millis(RETENTION), ..SpanBounds::RETENTION };
    Policies::from(Limits { retention, ..Limits::default() })
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
        Decision::Forced(_) => unreachable!("no caller is an operator"),
    };
    After { answer, state: after, changed }
}

/// What the server makes of a request; nothing for a Lookup.
pub fn command(request: &Request) -> Option<Command> {
    let policies = policies();
    let decoded = match request.clone() {
        Request::Reserve(it) => {
            decode::reserve(it, &policies).map(|(key, command, _)| (key, command))
        }
        Request::Complete(it) => decode::complete(it, &policies),
        Request::Release(it) => decode::release(it, &policies),
        Request::Renew(it) => decode::renew(it, &policies),
        Request::Lookup(_) => return None,
    };
    Some(decoded.expect("callers send what is right").1)
}
