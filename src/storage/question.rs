//! What an engine is asked and what it answers, in one shape for both engines: `K` is how an
//! engine names a record.

use crate::domain::{Command, Decision, Moment, Phase, Record, State, phase_of};
use crate::storage::EngineError;

/// What is asked.
#[derive(Debug)]
pub enum Question<K> {
    /// To apply a command to a key.
    Apply(K, Command),
    /// To apply commands in this order and in one commit.
    ApplyAll(Vec<(K, Command)>),
    /// To show a key.
    Lookup(K),
}

impl<K> Question<K> {
    /// The keys that it is to reserve.
    pub fn reserves(&self) -> impl Iterator<Item = &K> {
        let (one, several) = match self {
            Self::Apply(key, command) => (Some((key, command)), &[][..]),
            Self::ApplyAll(commands) => (None, commands.as_slice()),
            Self::Lookup(_) => (None, &[][..]),
        };
        let commands = one.into_iter().chain(several.iter().map(|(key, command)| (key, command)));
        commands.filter(|(_, command)| matches!(command, Command::Reserve(_))).map(|(key, _)| key)
    }

    /// How many commands and lookups it comes to.
    pub fn count(&self) -> usize {
        match self {
            Self::Apply(..) | Self::Lookup(_) => 1,
            Self::ApplyAll(commands) => commands.len(),
        }
    }
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// To a command.
    Decision(Decision),
    /// To commands, one for each, in their order.
    Decisions(Vec<Result<Decision, EngineError>>),
    /// To a lookup.
    Record(Option<Record>),
}

impl Answer {
    /// When the running lease ends that is all that this answer, given at `now`, has to tell;
    /// `None` where there is more: a caller that waits waits no longer.
    pub fn held_until(&self, now: Moment) -> Option<Moment> {
        match self {
            Self::Decision(Decision::InProgress(in_progress)) => Some(in_progress.lease_until),
            Self::Record(Some(record)) => match record.state {
                State::Reserved { lease_until, .. }
                    if phase_of(Some(record), now) == Phase::Held =>
                {
                    Some(lease_until)
                }
                State::Reserved { .. } | State::Released { .. } | State::Completed(_) => None,
            },
            Self::Decision(_) | Self::Decisions(_) | Self::Record(None) => None,
        }
    }

    /// How many bytes of stored data it carries. What several decisions carry is bounded by
    /// itself.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Self::Decision(decision) => decision.stored_bytes(),
            Self::Record(Some(record)) => {
                let response = match &record.state {
                    State::Completed(completion) => completion.response.bytes(),
                    State::Reserved { .. } | State::Released { .. } => 0,
                };
                record.checkpoint.len() + response
            }
            Self::Decisions(_) | Self::Record(None) => 0,
        }
    }

    /// The answer to a command.
    pub fn into_decision(self) -> Decision {
        match self {
            Self::Decision(decision) => decision,
            Self::Decisions(_) | Self::Record(_) => {
                unreachable!("a command is answered by a decision")
            }
        }
    }

    /// The answers to commands.
    pub fn into_decisions(self) -> Vec<Result<Decision, EngineError>> {
        match self {
            Self::Decisions(decisions) => decisions,
            Self::Decision(_) | Self::Record(_) => {
                unreachable!("commands are answered by decisions")
            }
        }
    }

    /// The answer to a lookup.
    pub fn into_record(self) -> Option<Record> {
        match self {
            Self::Record(record) => record,
            Self::Decision(_) | Self::Decisions(_) => {
                unreachable!("a lookup is answered by a record")
            }
        }
    }
}
