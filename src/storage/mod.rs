//! Where records are kept, and what every engine promises about it.
//!
//! [`Engine`] is what the API talks to. Two engines implement it: [`memory`] and [`rocks`];
//! an engine is whatever passes the conformance suite, whose tests carry these numbers.
//!
//! 1. Commands on one key take effect one at a time, in an order that agrees with real time
//!    (linearizable per key).
//! 2. No answer, refusals and lookups included, leaves before the state that it saw is
//!    durable.
//! 3. Fencing tokens increase strictly per key, for ever: across release, purge and restart.
//! 4. Expiry is judged when a record is read; purging only frees space.
//! 5. A failure says whether it surely did not happen (determinate) or may have
//!    (indeterminate). The same command, sent again, is always right.
//! 6. After a failed commit the engine is poisoned: it refuses everything from then on, and
//!    the process is meant to be restarted. An fsync is never retried.
//! 7. Everything is bounded: queue, batch, memory. Past a bound it refuses early and says so.
//!
//! Memory keeps them for as long as the process lives: what it calls durable is gone with it.

mod open;

pub mod rocks;

pub mod memory;

mod admission;
mod codec;
pub mod erase;
pub mod fault;
mod keys;
pub mod list;
pub mod stats;
mod sweep;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::sync::watch;

use self::erase::{EraseOrder, EraseStep, Erasing};
use self::list::{Listing, Page};
use self::stats::Stats;
use crate::domain::{Command, Decision, Moment, Record, RecordKey};

pub use open::{OpenError, StoreOptions, StoreUrl, StoreUrlError, open};
pub use sweep::Sweeper;

/// An answer on its way.
pub type Answering<'a, T> =
    Pin<Box<dyn Future<Output = Result<Decided<T>, EngineError>> + Send + 'a>>;

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

    /// What is on record for `key`; `None` where it is vacant.
    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>>;

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

    /// Goes on with the erases that have begun: looks at no more than about `limit` records.
    /// Blocks.
    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError>;

    /// What there is to tell of the engine at this moment.
    fn stats(&self) -> Answering<'_, Stats>;

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
            | Self::Corrupted => Certainty::Determinate,
            Self::OutcomeUnknown => Certainty::Indeterminate,
        }
    }
}
