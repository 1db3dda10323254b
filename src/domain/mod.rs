//! What onced is about, and nothing else: keys, records, commands, and the one pure
//! function that decides.
//!
//! This module knows std only. Time is an argument, random numbers arrive in commands,
//! and neither protobuf nor storage is visible from here. The life of an operation is the
//! table in [`decide`](decide()).

mod decide;
mod key;

mod command;
mod decision;
mod fingerprint;
mod record;
mod time;
mod token;

pub use command::{
    Command, Complete, Delete, ForceComplete, ForceRelease, Release, Renew, Reserve,
};
pub use decide::{decide, purge};
pub use decision::{
    Decision, Forced, ForcedOutcome, Granted, InDoubt, InProgress, QuotaKind, Refusal, Transition,
    Write,
};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use key::{IdempotencyKey, KeyError, Namespace, NamespaceError, RecordKey};
pub use record::{
    Completion, LeaseExpiryAction, Outcome, Phase, Record, Response, State, phase_of,
};
pub use time::{Moment, Span, SpanBounds};
pub use token::{FencingToken, OwnerToken};
