//! What the histories reached: a run in which nobody was ever taken over from proves little.

use std::collections::BTreeMap;
use std::fmt;

use onced::pb::v1::reserve_response::Outcome;

use crate::calls::{Answer, Call, End, Request};

#[derive(Debug, Default)]
pub struct Tally {
    keys: u64,
    calls: u64,
    kinds: BTreeMap<&'static str, u64>,
}

/// What every run reaches.
const EVERYTHING: [&str; 22] = [
    "granted",
    "granted again",
    "taken over",
    "in progress",
    "in doubt",
    "replayed",
    "completed",
    "completed late",
    "released",
    "renewed",
    "record",
    "begun anew",
    "refused: FingerprintMismatch",
    "refused: LeaseLost",
    "refused: NotFound",
    "refused: ResultConflict",
    "refused: AlreadyCompleted",
    "retried",
    "waited: granted",
    "waited: in progress",
    "waited: replayed",
    "waited: record",
];

/// Who was answered only after so many nanoseconds, and had said that it waits, did wait: not
/// always, but a run in which nobody did would be told apart.
const A_WAIT: u64 = 15_000_000;

impl Tally {
    /// Counts the calls on one key.
    pub fn add(&mut self, calls: &[Call]) {
        self.keys += 1;
        self.calls += calls.len() as u64;
        let mut first_attempts = 0;
        let mut granted = BTreeMap::<_, u32>::new();
        let mut tokens = std::collections::BTreeSet::new();
        for call in calls {
            let kind = kind(call);
            if let End::Answered { answer, .. } = &call.end
                && let Some(it) = answer.granted()
            {
                if !tokens.insert(it.fencing_token) {
                    self.count("granted again");
                } else if it.attempt == 1 {
                    first_attempts += 1;
                } else if !it.takeover {
                    self.count("retried");
                }
                *granted.entry(it.fencing_token).or_default() += 1;
            }
            self.count(kind);
            if let Some(end) = end_of_wait(call) {
                self.count(end);
            }
        }
        if first_attempts > 1 {
            self.count("begun anew");
        }
    }

    fn count(&mut self, kind: &'static str) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// What was never met.
    pub fn missing(&self, with_breaks: bool) -> Vec<&'static str> {
        let mut missing = EVERYTHING.to_vec();
        if with_breaks {
            missing.push("open");
        }
        missing.retain(|kind| !self.kinds.contains_key(kind));
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind| self.kinds.get(kind).copied().unwrap_or(0);
        write!(
            f,
            "{} takeovers, {} keys begun anew, {} without an answer",
            count("taken over"),
            count("begun anew"),
            count("open")
        )
    }
}

/// What came of a call that waited.
fn end_of_wait(call: &Call) -> Option<&'static str> {
    let waits = match &call.request {
        Request::Reserve(it) => it.wait_timeout.is_some(),
        Request::Lookup(it) => it.wait_timeout.is_some(),
        Request::Complete(_) | Request::Release(_) | Request::Renew(_) => false,
    };
    if !waits || call.returned_at()? < call.called_at + A_WAIT {
        return None;
    }
    match kind(call) {
        "granted" | "taken over" => Some("waited: granted"),
        "in progress" => Some("waited: in progress"),
        "replayed" => Some("waited: replayed"),
        "record" => Some("waited: record"),
        _ => None,
    }
}

fn kind(call: &Call) -> &'static str {
    use onced::domain::Refusal;
    let answer = match &call.end {
        End::Open => return "open",
        End::Answered { answer, .. } => answer,
    };
    match answer {
        Answer::Reserve(answer) => match answer.outcome.as_ref().unwrap() {
            Outcome::Granted(granted) if granted.takeover => "taken over",
            Outcome::Granted(_) => "granted",
            Outcome::InProgress(_) => "in progress",
            Outcome::Completed(_) => "replayed",
            Outcome::InDoubt(_) => "in doubt",
        },
        Answer::Complete(answer) if answer.completion.as_ref().unwrap().late => "completed late",
        Answer::Complete(_) => "completed",
        Answer::Release(_) => "released",
        Answer::Renew(_) => "renewed",
        Answer::Lookup(_) => "record",
        Answer::Refused(Refusal::FingerprintMismatch) => "refused: FingerprintMismatch",
        Answer::Refused(Refusal::LeaseLost) => "refused: LeaseLost",
        Answer::Refused(Refusal::NotFound) => match call.request {
            Request::Lookup(_) => "no record",
            _ => "refused: NotFound",
        },
        Answer::Refused(Refusal::ResultConflict) => "refused: ResultConflict",
        Answer::Refused(Refusal::AlreadyCompleted) => "refused: AlreadyCompleted",
        Answer::Refused(Refusal::QuotaExceeded(_)) => "refused: QuotaExceeded",
        Answer::Refused(Refusal::RecordChanged) => "refused: RecordChanged",
    }
}
