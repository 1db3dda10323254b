//! One call as its caller knows it: what was sent and when, and what came back and when.

use std::fmt;
use std::time::Duration;

use onced::domain::{Moment, Refusal};
use onced::pb::v1;
use onced::pb::v1::reserve_response::Outcome;
use tonic::Status;
use tonic_types::StatusExt as _;

/// What was sent.
#[derive(Clone, Debug)]
pub enum Request {
    Reserve(v1::ReserveRequest),
    Complete(v1::CompleteRequest),
    Release(v1::ReleaseRequest),
    Renew(v1::RenewRequest),
    Lookup(v1::LookupRequest),
}

impl Request {
    pub fn key(&self) -> &str {
        match self {
            Self::Reserve(it) => &it.key,
            Self::Complete(it) => &it.key,
            Self::Release(it) => &it.key,
            Self::Renew(it) => &it.key,
            Self::Lookup(it) => &it.key,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Reserve(v1::ReserveResponse),
    Complete(v1::CompleteResponse),
    Release(v1::ReleaseResponse),
    Renew(v1::RenewResponse),
    Lookup(v1::LookupResponse),
    /// A status that says why the record stands against it. It shows no moment.
    Refused(Refusal),
}

/// How a call ended.
#[expect(clippy::large_enum_variant)] // Nearly all calls are answered.
#[derive(Clone, Debug)]
pub enum End {
    /// Answered, so many nanoseconds after the test began.
    Answered { at: u64, answer: Answer },
    /// Nobody knows whether it took effect, or ever will.
    Open,
}

/// One call on one key.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: Request,
    /// When it was sent, in nanoseconds since the test began.
    pub called_at: u64,
    pub end: End,
    pub decided: Window,
}

/// Between which moments of the service a call was decided, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub from: Moment,
    pub until: Option<Moment>,
}

impl Window {
    pub fn holds(&self, moment: Moment) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment <= until)
    }

    /// What this one and the time from one moment to the other have in common.
    pub fn between(&self, from: Moment, until: Option<Moment>) -> Self {
        let until = match (self.until, until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { from: self.from.max(from), until }
    }
}

impl Call {
    /// When it was answered.
    pub fn returned_at(&self) -> Option<u64> {
        match self.end {
            End::Answered { at, .. } => Some(at),
            End::Open => None,
        }
    }

    /// Whoever waits is not told that somebody is at it before its time is over: it is for as long
    /// as the server is neither stopped nor has too many that wait.
    pub fn waited_as_long_as_it_said(&self) {
        let (Request::Reserve(v1::ReserveRequest { wait_timeout: Some(wait), .. })
        | Request::Lookup(v1::LookupRequest { wait_timeout: Some(wait), .. })) = &self.request
        else {
            return;
        };
        let End::Answered { at, answer } = &self.end else { return };
        if answer.is_held() {
            let waited = Duration::from_nanos(at - self.called_at);
            assert!(waited >= Duration::try_from(*wait).unwrap(), "only {waited:?}: {self}");
        }
    }

    /// The fencing token that it was granted.
    pub fn fencing_token(&self) -> Option<i64> {
        match &self.end {
            End::Answered { answer, .. } => answer.fencing_token(),
            End::Open => None,
        }
    }
}

/// Finds the windows of calls of one service, whatever their keys. It has one clock, which
/// never runs backwards: so nothing was decided before what had returned when it was sent, nor
/// after what was sent when it had returned. Refusals, which show no moment, are bound by it.
pub fn find_windows(calls: &mut [Call]) {
    let mut known = Vec::new();
    for call in calls.iter() {
        if let End::Answered { at, answer } = &call.end
            && let Some(decided_at) = answer.decided_at()
        {
            known.push((call.called_at, *at, decided_at));
        }
    }
    for call in calls {
        let before = known.iter().filter(|(_, returned_at, _)| *returned_at < call.called_at);
        call.decided.from = before.map(|known| known.2).max().unwrap_or_default();
        call.decided.until = call.returned_at().and_then(|at| {
            let after = known.iter().filter(|(called_at, _, _)| *called_at > at);
            after.map(|known| known.2).min()
        });
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |at: u64| at as f64 / 1e6;
        write!(f, "{:.3} ms ", millis(self.called_at))?;
        match &self.end {
            End::Answered { at, answer } => {
                write!(f, "to {:.3} ms {:?}\n      answered {answer:?}", millis(*at), self.request)
            }
            End::Open => write!(f, "and open {:?}", self.request),
        }
    }
}

/// What an answer or a status means for the history.
#[expect(clippy::large_enum_variant)] // Nearly all calls are answered.
pub enum Meaning {
    Answered(Answer),
    /// It surely did not happen.
    Nothing,
    /// It may have.
    Open,
}

/// Reads a status. One that no server may give here fails the test.
pub fn meaning(status: &Status) -> Meaning {
    let Some(info) = status.get_details_error_info() else {
        // The connection broke, or was refused.
        return Meaning::Open;
    };
    let refused = |refusal| Meaning::Answered(Answer::Refused(refusal));
    match info.reason.as_str() {
        "FINGERPRINT_MISMATCH" => refused(Refusal::FingerprintMismatch),
        "LEASE_LOST" => refused(Refusal::LeaseLost),
        "RESERVATION_NOT_FOUND" => refused(Refusal::NotFound),
        "RESULT_CONFLICT" => refused(Refusal::ResultConflict),
        "ALREADY_COMPLETED" => refused(Refusal::AlreadyCompleted),
        "DRAINING" | "STORE_UNAVAILABLE" | "OVERLOADED" => Meaning::Nothing,
        "OUTCOME_UNKNOWN" => Meaning::Open,
        other => panic!("{other}: {status:?}"),
    }
}

/// A moment of the wire, which counts whole milliseconds.
pub fn moment(timestamp: &prost_types::Timestamp) -> Moment {
    assert_eq!(timestamp.nanos % 1_000_000, 0, "moments are whole milliseconds");
    Moment::from_millis(timestamp.seconds * 1_000 + i64::from(timestamp.nanos) / 1_000_000)
}

impl Answer {
    /// The grant, where it is one.
    pub fn granted(&self) -> Option<&v1::Granted> {
        match self {
            Self::Reserve(v1::ReserveResponse { outcome: Some(Outcome::Granted(it)), .. }) => {
                Some(it)
            }
            _ => None,
        }
    }

    /// Whether it says that a lease is running, and not the caller's.
    fn is_held(&self) -> bool {
        match self {
            Self::Reserve(answer) => matches!(answer.outcome, Some(Outcome::InProgress(_))),
            Self::Lookup(v1::LookupResponse { record: Some(record), .. }) => {
                record.state() == v1::RecordState::Held
            }
            _ => false,
        }
    }

    /// The fencing token of a grant.
    pub fn fencing_token(&self) -> Option<i64> {
        self.granted().map(|granted| granted.fencing_token)
    }

    /// When it was decided, where it says so.
    pub fn decided_at(&self) -> Option<Moment> {
        let decided = match self {
            Self::Reserve(answer) => &answer.decide_time,
            Self::Complete(answer) => &answer.decide_time,
            Self::Release(answer) => &answer.decide_time,
            Self::Renew(answer) => &answer.decide_time,
            Self::Lookup(answer) => &answer.decide_time,
            Self::Refused(_) => return None,
        };
        Some(moment(decided.as_ref().expect("every answer says when it was decided")))
    }
}
