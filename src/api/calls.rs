//! What is counted of every call: by method, what it came to and why, and how long it took.
//!
//! Each thread counts in a shard of its own, as far as there are enough of them, so that calls on
//! different cores never write to the same memory. The sums are made when somebody looks.
//! Keys and owner tokens are in none of it, and namespaces only where the settings list them: any
//! caller can make up another one, and each name would be a series for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::domain::Namespace;
use crate::measure::{Histogram, SECONDS, Tally, thread_number};

/// How many namespaces are counted by their names; further ones that are listed count as others.
pub const MAX_NAMED: usize = 256;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `IdempotencyService.Reserve`.
    Reserve,
    /// `IdempotencyService.Complete`.
    Complete,
    /// `IdempotencyService.Release`.
    Release,
    /// `IdempotencyService.Renew`.
    Renew,
    /// `IdempotencyService.Lookup`.
    Lookup,
    /// `IdempotencyService.BatchReserve`.
    BatchReserve,
    /// `IdempotencyService.BatchComplete`.
    BatchComplete,
    /// `AdminService.ListRecords`.
    ListRecords,
    /// `AdminService.ForceRelease`.
    ForceRelease,
    /// `AdminService.ForceComplete`.
    ForceComplete,
    /// `AdminService.DeleteRecord`.
    DeleteRecord,
    /// `AdminService.EraseNamespace`.
    EraseNamespace,
    /// `AdminService.DescribeNamespace`.
    DescribeNamespace,
    /// `AdminService.GetStats`.
    GetStats,
    /// `AdminService.SetLogFilter`.
    SetLogFilter,
    /// `AdminService.CreateBackup`.
    CreateBackup,
    /// `AdminService.ListBackups`.
    ListBackups,
}

/// How many methods there are.
const METHODS: usize = 17;

impl Method {
    /// All of them.
    pub const ALL: [Self; METHODS] = [
        Self::Reserve,
        Self::Complete,
        Self::Release,
        Self::Renew,
        Self::Lookup,
        Self::BatchReserve,
        Self::BatchComplete,
        Self::ListRecords,
        Self::ForceRelease,
        Self::ForceComplete,
        Self::DeleteRecord,
        Self::EraseNamespace,
        Self::DescribeNamespace,
        Self::GetStats,
        Self::SetLogFilter,
        Self::CreateBackup,
        Self::ListBackups,
    ];

    /// Its name in the proto.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "Reserve",
            Self::Complete => "Complete",
            Self::Release => "Release",
            Self::Renew => "Renew",
            Self::Lookup => "Lookup",
            Self::BatchReserve => "BatchReserve",
            Self::BatchComplete => "BatchComplete",
            Self::ListRecords => "ListRecords",
            Self::ForceRelease => "ForceRelease",
            Self::ForceComplete => "ForceComplete",
            Self::DeleteRecord => "DeleteRecord",
            Self::EraseNamespace => "EraseNamespace",
            Self::DescribeNamespace => "DescribeNamespace",
            Self::GetStats => "GetStats",
            Self::SetLogFilter => "SetLogFilter",
            Self::CreateBackup => "CreateBackup",
            Self::ListBackups => "ListBackups",
        }
    }

    /// The service that it belongs to, by its full name.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Reserve
            | Self::Complete
            | Self::Release
            | Self::Renew
            | Self::Lookup
            | Self::BatchReserve
            | Self::BatchComplete => "onced.v1.IdempotencyService",
            _ => "onced.v1.AdminService",
        }
    }

    /// Whether its callers may ask to wait.
    pub const fn may_wait(self) -> bool {
        matches!(self, Self::Reserve | Self::Lookup)
    }

    /// What each item of a batch is a call of; `None` for what is no batch.
    pub const fn of_items(self) -> Option<Self> {
        match self {
            Self::BatchReserve => Some(Self::Reserve),
            Self::BatchComplete => Some(Self::Complete),
            _ => None,
        }
    }
}

/// What a call came to: an outcome, and the reason of a status where it was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(usize);

/// Every end: outcome and reason. `refused` is for the caller or for what is on record,
/// `failed` for the server. A status of a new reason needs a line here; until then it counts as
/// OTHER.
const ENDS: [(&str, &str); 27] = [
    ("ok", ""),
    ("granted", ""),
    ("in_progress", ""),
    ("completed", ""),
    ("in_doubt", ""),
    ("left", ""),
    ("refused", "INVALID_FIELD"),
    ("refused", "UNAUTHENTICATED"),
    ("refused", "PERMISSION_DENIED"),
    ("refused", "FINGERPRINT_MISMATCH"),
    ("refused", "RESULT_CONFLICT"),
    ("refused", "ALREADY_COMPLETED"),
    ("refused", "LEASE_LOST"),
    ("refused", "RECORD_CHANGED"),
    ("refused", "RESERVATION_NOT_FOUND"),
    ("refused", "QUOTA_EXCEEDED"),
    ("refused", "ANSWER_TOO_LARGE"),
    ("refused", "LOG_NOT_CHANGEABLE"),
    ("refused", "OTHER"),
    ("failed", "STORE_FULL"),
    ("failed", "OVERLOADED"),
    ("failed", "DRAINING"),
    ("failed", "DEADLINE_TOO_SHORT"),
    ("failed", "STORE_UNAVAILABLE"),
    ("failed", "OUTCOME_UNKNOWN"),
    ("failed", "STORE_CORRUPTED"),
    ("failed", "OTHER"),
];

impl End {
    /// It did what was asked.
    pub const OK: Self = Self(0);
    /// Reserve: the caller owns the reservation.
    pub const GRANTED: Self = Self(1);
    /// Reserve: somebody else is at it.
    pub const IN_PROGRESS: Self = Self(2);
    /// Reserve: the stored response.
    pub const COMPLETED: Self = Self(3);
    /// Reserve: the owner vanished.
    pub const IN_DOUBT: Self = Self(4);
    /// The caller left before there was an answer.
    pub const LEFT: Self = Self(5);
    /// A status of the caller's doing, whose reason is not in the table.
    const REFUSED_OTHERWISE: Self = Self(18);
    /// A status of the server's doing, whose reason is not in the table.
    const FAILED_OTHERWISE: Self = Self(26);

    /// The end that `status` is.
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        Self::named(info.as_ref().map_or("", |info| &info.reason), status.code())
    }

    /// The end with this reason, or else what the code says of it.
    pub fn named(reason: &str, code: Code) -> Self {
        match ENDS.iter().position(|(_, name)| !name.is_empty() && *name == reason) {
            Some(at) => Self(at),
            None => match code {
                Code::Internal
                | Code::Unknown
                | Code::Unavailable
                | Code::DataLoss
                | Code::DeadlineExceeded => Self::FAILED_OTHERWISE,
                _ => Self::REFUSED_OTHERWISE,
            },
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ENDS.len()).map(Self)
    }

    /// What it came to.
    pub const fn outcome(self) -> &'static str {
        ENDS[self.0].0
    }

    /// Why; empty for what is no status.
    pub const fn reason(self) -> &'static str {
        ENDS[self.0].1
    }

    /// Whether a call of `method` can end like this.
    pub fn is_of(self, method: Method) -> bool {
        match self {
            Self::GRANTED | Self::IN_PROGRESS | Self::COMPLETED | Self::IN_DOUBT => {
                method == Method::Reserve
            }
            Self::OK => method != Method::Reserve,
            _ => true,
        }
    }
}

type Ends = [AtomicU64; ENDS.len()];

fn no_ends() -> Ends {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// The counters of one thread. Aligned, so that two shards share no line of the cache.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    calls: [Ends; METHODS],
    /// Of calls that did not ask to wait.
    took: [Histogram; METHODS],
    /// Of calls that did.
    waited: [Histogram; METHODS],
    /// What was in batches.
    items: [Ends; METHODS],
    /// By namespace; the last is for all that have no name here. Empty where none is listed.
    namespaces: Box<[Ends]>,
}

/// The counters of all calls.
#[derive(Debug)]
pub struct CallMeters {
    shards: Box<[Shard]>,
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, usize>,
    slow: [AtomicU64; METHODS],
}

impl CallMeters {
    /// For calls on so many `threads`, with the namespaces of `listed` by their names.
    pub fn new<'a>(threads: usize, listed: impl IntoIterator<Item = &'a Namespace>) -> Self {
        let names: Vec<Box<str>> =
            listed.into_iter().take(MAX_NAMED).map(|name| name.as_str().into()).collect();
        let tables = if names.is_empty() { 0 } else { names.len() + 1 };
        let shard = || Shard {
            calls: std::array::from_fn(|_| no_ends()),
            took: std::array::from_fn(|_| Histogram::new(&SECONDS)),
            waited: std::array::from_fn(|_| Histogram::new(&SECONDS)),
            items: std::array::from_fn(|_| no_ends()),
            namespaces: (0..tables).map(|_| no_ends()).collect(),
        };
        // Numbers of threads are given out in turn: with room to spare, no two that serve meet.
        let shards = (2 * threads).next_power_of_two().max(8);
        let by_name = names.iter().cloned().zip(0..).collect();
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            names,
            by_name,
            slow: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn shard(&self) -> &Shard {
        &self.shards[thread_number() & (self.shards.len() - 1)]
    }

    /// Where calls in the namespace with this name are counted, for [`CallMeters::ended`].
    pub fn place_of(&self, namespace: &str) -> usize {
        if self.by_name.is_empty() {
            return usize::MAX;
        }
        let name = if namespace.is_empty() { Namespace::DEFAULT } else { namespace };
        self.by_name.get(name).copied().unwrap_or(self.names.len())
    }

    /// Counts a call. `place`: see [`CallMeters::place_of`].
    pub fn ended(&self, method: Method, end: End, took: Duration, waited: bool, place: usize) {
        let shard = self.shard();
        shard.calls[method as usize][end.0].fetch_add(1, Ordering::Relaxed);
        let durations = if waited { &shard.waited } else { &shard.took };
        durations[method as usize].observe_span(took);
        if let Some(ends) = shard.namespaces.get(place) {
            ends[end.0].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what was in a batch.
    pub fn items(&self, method: Method, ends: impl IntoIterator<Item = End>) {
        let items = &self.shard().items[method as usize];
        for end in ends {
            items[end.0].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that was slow.
    pub fn slow(&self, method: Method) {
        self.slow[method as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls of `method` ended so.
    pub fn calls(&self, method: Method, end: End) -> u64 {
        self.sum(|shard| &shard.calls[method as usize][end.0])
    }

    /// How many items of batches of `method` ended so.
    pub fn batch_items(&self, method: Method, end: End) -> u64 {
        self.sum(|shard| &shard.items[method as usize][end.0])
    }

    /// How long calls of `method` took: those that asked to wait, or the others.
    pub fn durations(&self, method: Method, waited: bool) -> Tally {
        let mut tally = Tally::new(&SECONDS);
        for shard in &self.shards {
            let durations = if waited { &shard.waited } else { &shard.took };
            tally.add(&durations[method as usize].tally());
        }
        tally
    }

    /// How many calls of `method` were slow.
    pub fn slow_calls(&self, method: Method) -> u64 {
        self.slow[method as usize].load(Ordering::Relaxed)
    }

    /// The namespaces that are counted by their names, and at last `None` for all others;
    /// nothing where none is listed.
    pub fn namespaces(&self) -> impl Iterator<Item = (usize, Option<&str>)> {
        let others = (!self.names.is_empty()).then_some(None);
        self.names.iter().map(|name| Some(&**name)).chain(others).enumerate()
    }

    /// How many calls in the namespace at `place` ended so.
    pub fn namespace_calls(&self, place: usize, end: End) -> u64 {
        self.sum(|shard| &shard.namespaces[place][end.0])
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests;
