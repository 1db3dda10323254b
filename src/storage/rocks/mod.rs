//! The engine on RocksDB.
//!
//! Read in this order: [`schema`] is what lies on disk, [`batch`] decides, `writer` puts a
//! batch into the log under one mutex, [`sync`] makes the log durable on a thread of its own,
//! [`turn`] is how callers form batches without a thread of their own. `list` reads pages off
//! to the side, `erase` empties a namespace step by step, `migrate` takes over what an earlier
//! format left.
//!
//! How the promises are kept:
//! 1. Every batch is decided under one mutex, over what is written and its own overlay.
//! 2. Every answer is held until the position that it may rest on is synced.
//! 3. Tokens come from a counter whose high-water mark is stored, in blocks, before any
//!    token of the block is given out; a restart goes on behind the block.
//! 4. [`crate::domain::phase_of`] judges each record that is read; the index is never asked.
//! 5. A command whose batch was handed to the log is indeterminate until it is synced;
//!    everything else that fails did not happen.
//! 6. `sync.rs` says why; one flag, checked before every batch and every answer.
//! 7. [`crate::storage::admission`] bounds what is in flight, [`writer`] what is in a batch,
//!    `list` how many read much at a time, and [`crate::storage::list`] how much a page reads.

pub mod batch;
mod directory;
mod erase;
pub mod inspect;
mod list;
mod migrate;
pub mod schema;
mod sync;
mod threads;
mod turn;
mod view;
mod writer;

#[cfg(test)]
mod races;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};

use self::schema::Tables;
use self::sync::SyncQueue;
use self::turn::{Answer, Lanes, Question};
use self::writer::Writer;
use super::admission::Admission;
use super::erase::{EraseOrder, EraseStep, Erases, Erasing};
use super::list::{Listing, Page};
use super::stats::Stats;
use super::{
    Answering, Condition, Decided, Engine, EngineError, OpenError, Purged, StoreOptions, keys,
};
use crate::clock::Clock;
use crate::domain::{Command, Decision, Record, RecordKey, Response};

/// Callers on more threads than this share lanes.
const LANES: usize = 64;

/// What a command takes in memory besides its payload, roughly.
const COMMAND_BYTES: usize = 512;

/// Records in RocksDB.
pub struct RocksEngine {
    core: Arc<Core>,
    tables: Arc<Tables>,
    /// Taken before the engine's mutex.
    erases: Mutex<Erases>,
    stepping: Mutex<()>,
    readers: Arc<Semaphore>,
    admission: Arc<Admission>,
    sync_thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers, turns and the sync thread share.
struct Core {
    writer: Mutex<Writer>,
    sync: Arc<SyncQueue>,
    lanes: Lanes,
    condition: watch::Sender<Condition>,
}

impl RocksEngine {
    /// Opens the store in `path`, creates it if there is none, and recovers what was
    /// acknowledged.
    pub fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        options: &StoreOptions,
    ) -> Result<Self, OpenError> {
        let tables = Arc::new(Tables::open(path, options)?);
        let erases = tables.erases().map_err(|_| OpenError::Damaged {
            path: path.to_owned(),
            cause: "the progress of its erases is unreadable".to_owned(),
        })?;
        let condition = watch::Sender::new(Condition::Serving);
        let sync = SyncQueue::new(condition.clone());
        let writer = Writer::recover(Arc::clone(&tables), path, clock, options)?;
        let thread = {
            let (sync, tables) = (Arc::clone(&sync), Arc::clone(&tables));
            std::thread::Builder::new()
                .name("onced-sync".into())
                .spawn(move || sync.run(&tables))
                .map_err(|error| OpenError::Unavailable {
                path: path.to_owned(),
                cause: error.to_string(),
            })?
        };
        Ok(Self {
            core: Arc::new(Core {
                writer: Mutex::new(writer),
                sync,
                lanes: Lanes::new(LANES),
                condition,
            }),
            tables,
            erases: Mutex::new(Erases::recovered(erases)),
            stepping: Mutex::new(()),
            readers: Arc::new(Semaphore::new(list::MAX_READERS)),
            admission: Admission::new(options.max_in_flight, options.max_in_flight_bytes),
            sync_thread: Mutex::new(Some(thread)),
        })
    }

    async fn ask(
        &self,
        key: &RecordKey,
        question: Question,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Decided<Answer>, EngineError> {
        let permit = self.admission.admit(COMMAND_BYTES + bytes)?;
        self.core.submit(keys::record_key(key), question, deadline, permit).await
    }
}

impl Engine for RocksEngine {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        Box::pin(async move {
            let bytes = payload_bytes(&command);
            let Decided { answer, decided_at } =
                self.ask(&key, Question::Apply(command), bytes, deadline).await?;
            match answer {
                Answer::Decision(decision) => Ok(Decided { answer: decision, decided_at }),
                Answer::Record(_) => unreachable!("a command is answered by a decision"),
            }
        })
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        Box::pin(async move {
            let Decided { answer, decided_at } =
                self.ask(&key, Question::Lookup, 0, deadline).await?;
            match answer {
                Answer::Record(record) => Ok(Decided { answer: record, decided_at }),
                Answer::Decision(_) => unreachable!("a lookup is answered by a record"),
            }
        })
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        self.core.purge(limit)
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        Box::pin(self.read_page(listing))
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        Box::pin(self.order_erase(order))
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        self.step_erase(limit)
    }

    fn stats(&self) -> Answering<'_, Stats> {
        Box::pin(self.read_stats())
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.core.condition.subscribe()
    }

    fn close(&self) {
        let Some(thread) = self.sync_thread.lock().unwrap().take() else { return };
        self.core.close();
        let _ = thread.join();
        self.core.close_tables();
    }
}

impl Drop for RocksEngine {
    fn drop(&mut self) {
        self.close();
    }
}

/// How much of a command is the caller's own data.
fn payload_bytes(command: &Command) -> usize {
    match command {
        Command::Reserve(_)
        | Command::Release(_)
        | Command::ForceRelease(_)
        | Command::Delete(_) => 0,
        Command::Complete(complete) => response_bytes(&complete.response),
        Command::ForceComplete(force) => response_bytes(&force.response),
        Command::Renew(renew) => renew.checkpoint.as_ref().map_or(0, Vec::len),
    }
}

fn response_bytes(response: &Response) -> usize {
    let metadata: usize =
        response.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    response.payload.len() + response.content_type.len() + metadata
}
