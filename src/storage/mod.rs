//! Where records are kept, and what every engine promises about it.
//!
//! [`Engine`] is what the API talks to. Two engines implement it: [`memory`] and [`rocks`];
//! an engine is whatever passes the conformance suite, whose tests carry these numbers.
//!
//! 1. Commands on one key take effect one at a time, in an order that agrees with real time
//!    (linearizable per key).
//! 2. No answer, refusals and lookups included, leaves before the state that it saw is
//!    durable.
//! 3. Fencing tokens increase strictly per key, for ever: across release, purge, restart and the
//!    restore of a backup, however old it is.
//! 4. Expiry is judged when a record is read; purging only frees space.
//! 5. A failure says whether it surely did not happen (determinate) or may have
//!    (indeterminate). The same command, sent again, is always right.
//! 6. After a failed commit the engine is poisoned: it refuses everything from then on, and
//!    the process is meant to be restarted. An fsync is never retried.
//! 7. Everything is bounded: queue, batch, memory, and who waits. Past a bound it refuses early
//!    and says so.
//!
//! What happens in one step of an engine, and who is served in it, is the same for both: see
//! `round.rs`.
//!
//! Memory keeps them for as long as the process lives: what it calls durable is gone with it.
//!
//! # Quotas
//!
//! An engine counts what each namespace has on record: keys, and the bytes of keys and stored
//! records. A record counts once, from the Reserve that created it until it is purged, deleted
//! or erased, whatever becomes of it. The counter changes in the same atomic step as the record,
//! so it is exact after a restart, a kill and a power cut.
//!
//! A Reserve of a vacant key is refused ([`QuotaExceeded`](crate::domain::Refusal)) where the
//! namespace would have more than its [`Quota`] with it, and nothing is written for it. Nothing
//! else is ever refused for a quota: whoever takes over or tries again goes on with a key that
//! is on record, and the work of whoever completes, renews or releases is done. An operator is
//! not refused for it either. The bytes count all the same, so a namespace may come to have more
//! bytes than its quota.
//!
//! What is over does not stand in the way, purged or not. Before a quota refuses, the engine
//! frees records of the namespace whose retention is over: once in a batch up to 256, found
//! among the 1,024 entries of all namespaces that have been due for longest. Up to these
//! numbers a quota refuses exactly where it would if everything that is over had been purged.
//! Beyond them the sweeper has to come by first, and the same call sent again is right. In
//! RocksDB, what was stored while its namespace had no quota is found up to a minute, or an
//! eighth of its retention, after its end.

mod open;

pub mod rocks;

pub mod memory;

mod admission;
mod alarm;
pub mod backup;
mod codec;
pub mod erase;
pub mod fault;
mod keys;
pub mod list;
pub mod measured;
mod question;
mod quota;
mod round;
pub mod stats;
mod sweep;
mod threads;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::backup::{Backup, BackupError};
use self::erase::{EraseOrder, EraseStep, Erasing};
use self::list::{Listing, Page};
use self::measured::Measured;
use self::stats::Stats;
use crate::domain::{Command, Decision, Moment, Record, RecordKey};

pub use open::{OpenError, StoreOptions, StoreUrl, StoreUrlError, open};
pub use quota::{Quota, Quotas, Usage, Usages};
pub use sweep::Sweeper;
pub use waiting::WaitingBounds;

/// An answer on its way.
pub type Answering<'a, T> =
    Pin<Box<dyn Future<Output = Result<Decided<T>, EngineError>> + Send + 'a>>;

/// A backup, or what is known of all of them, on its way.
pub type BackingUp<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackupError>> + Send + 'a>>;

/// How long a caller waits for somebody else's reservation: until this resolves.
pub type Patience = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store that decides. Shared by all connections, and free to batch what they send.
pub trait Engine: Send + Sync + 'static {
    /// Applies `command` to `key` and answers once what it saw and wrote is durable.
    ///
    /// Dropping the future before the command is decided withdraws it; after that, it stands.
    /// With a `deadline` that would pass before the commit, nothing is written and the answer
    /// is [`EngineError::DeadlineTooShort`].
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision>;

    /// Like [`Engine::apply`], but a Reserve that meets the running lease of somebody else is
    /// parked instead of answered, and decided again whenever the key has changed or the lease is
    /// over: those who wait for one key in the order of their arrival, and before anybody who
    /// comes later, so that a release or a lapse grants it to the first of them. It is answered
    /// as [`Engine::apply`] would answer it then as soon as that is anything but in progress, and
    /// in any case once `patience` is over, or at once where more wait than may.
    ///
    /// Parked calls have bounds of their own: in all and for each key.
    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision>;

    /// Applies `commands` in this order, in one commit, as if each had come alone: one that fails
    /// leaves the others alone, and a later one sees what an earlier one did. The answers are in
    /// the same order. The outer error concerns all of them alike.
    ///
    /// Together the answers stay small: a completion that a Complete is answered with comes
    /// without its response, and a replay for which there is no room is
    /// [`EngineError::AnswerTooLarge`].
    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>>;

    /// What is on record for `key`; `None` where it is vacant.
    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>>;

    /// Like [`Engine::lookup`], but parked while a lease is running, as in
    /// [`Engine::apply_waiting`].
    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>>;

    /// Frees the space of at most `limit` records whose retention is over. Blocks; never
    /// needed for a right answer.
    fn purge(&self, limit: usize) -> Result<Purged, EngineError>;

    /// Lists records, judged at one moment. It reads off the caller's thread, and only a few
    /// listings are read at a time: past that it is [`EngineError::Overloaded`].
    fn list(&self, listing: Listing) -> Answering<'_, Page>;

    /// Begins to erase a namespace, or shows how far that has come: an erase that runs there
    /// already answers every order, and one that has ended the order that began it. It goes on
    /// by itself, across restarts too, wherever [`Engine::erase_step`] is called.
    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing>;

    /// Goes on with the erases that have begun: looks at no more than about `limit` records, and
    /// serves whoever waits for one that goes in the same step. Blocks.
    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError>;

    /// What there is to tell of the engine at this moment.
    fn stats(&self) -> Answering<'_, Stats>;

    /// What the engine measured while it worked. Blocks for less than a millisecond, and
    /// answers also where the engine is poisoned.
    fn measured(&self) -> Measured;

    /// Makes a backup of everything that was acknowledged before this call, into the directory
    /// that the engine was opened with, and purges those that are too many then. It goes on when
    /// the future is dropped. One is made at a time.
    fn back_up(&self) -> BackingUp<'_, Backup> {
        Box::pin(async { Err(BackupError::Off) })
    }

    /// Which backups there are, the oldest first.
    fn backups(&self) -> BackingUp<'_, Vec<Backup>> {
        Box::pin(async { Err(BackupError::Off) })
    }

    /// Whether the engine serves; changes are signalled.
    fn condition(&self) -> watch::Receiver<Condition>;

    /// Refuses what comes from now on, and returns when everything accepted is answered and
    /// durable. Blocks.
    fn close(&self);
}

/// An answer, and the moment on the engine's clock at which it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<T> {
    /// The answer.
    pub answer: T,
    /// When it was decided.
    pub decided_at: Moment,
}

/// What one call of [`Engine::purge`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many records went.
    pub records: usize,
    /// Whether there was more to do than the limit allowed.
    pub more: bool,
    /// For how long callers had to wait for it.
    pub kept_out: Duration,
}

/// Whether an engine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    Serving,
    /// The disk is nearly full: it refuses new reservations, and takes everything that ends
    /// one, until there is room again.
    Full,
    /// A commit failed: it refuses everything until it is opened anew.
    Poisoned,
}

/// Why an engine did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// More calls wait than the engine may hold.
    #[error("too many calls are waiting")]
    Overloaded,
    /// The engine is closing.
    #[error("the server is shutting down")]
    Closing,
    /// The deadline would have passed before the commit.
    #[error("the deadline would pass before the commit")]
    DeadlineTooShort,
    /// The disk is nearly full, and the command would have created a reservation.
    #[error("the disk is nearly full")]
    Full,
    /// The engine is poisoned or cannot read, and did nothing.
    #[error("the store is unavailable")]
    Unavailable,
    /// The commit failed half-way: the command may have taken effect.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown,
    /// The stored response would have made the answer to several commands too large. Nothing
    /// was written; asked for alone, it is answered.
    #[error("the answer has no room for the stored response; ask for it alone")]
    AnswerTooLarge,
    /// The stored record cannot be read.
    #[error("the stored record is damaged")]
    Corrupted,
}

/// Whether a command that failed can have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It surely did not.
    Determinate,
    /// It may have. Sending the same command again is right, and tells.
    Indeterminate,
}

impl EngineError {
    /// Whether the command that met this error can have taken effect.
    pub const fn certainty(self) -> Certainty {
        match self {
            Self::Overloaded
            | Self::Closing
            | Self::DeadlineTooShort
            | Self::Full
            | Self::Unavailable
            | Self::AnswerTooLarge
            | Self::Corrupted => Certainty::Determinate,
            Self::OutcomeUnknown => Certainty::Indeterminate,
        }
    }
}
