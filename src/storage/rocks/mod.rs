//! The engine on RocksDB.
//!
//! Read in this order: [`schema`] is what lies on disk, and `settings` how RocksDB is set for it,
//! [`batch`] decides, over records of which `together` says how many are read at once, `writer`
//! decides a batch under one mutex and puts it into the log under another, `unwritten` is what the
//! next batch sees of it meanwhile, [`sync`] makes the log durable on a thread of its own, [`turn`]
//! is how callers form batches without a thread of their own, and [`wait`] how they wait for
//! somebody else's reservation. `sweep` frees what is over, `list` reads pages off to the side,
//! `erase` empties a namespace step by step, and [`migrate`] is what happens once, when a directory
//! of an earlier format is opened. [`backup`] makes backups of a running store, [`restore`] makes a
//! store of one, and [`verify`] holds everything in a store against everything else.
//!
//! How the promises are kept:
//! 1. Every batch is decided under one mutex, over what is written, what the batch before it
//!    changes and its own overlay, and batches are written in that order. Callers that wait are
//!    parked and served under it too, in the batch that changes their key.
//! 2. Every answer is held until the position that it may rest on is synced.
//! 3. Tokens come from a counter whose high-water mark is stored, in blocks, before any
//!    token of the block is given out; a restart goes on behind the block, and a restore where
//!    [`FencingToken::surely_new_at`](crate::domain::FencingToken::surely_new_at) says.
//! 4. [`crate::domain::phase_of`] judges each record that is read; the index is never asked.
//! 5. A command whose batch was handed to the log is indeterminate until it is synced;
//!    everything else that fails did not happen.
//! 6. `sync.rs` says why; one flag, checked before every batch and every answer.
//! 7. [`crate::storage::admission`] bounds what is in flight, [`writer`] what is in a batch,
//!    `together` what is read for one,
//!    [`crate::storage::waiting`] how many wait, [`crate::storage::round`] what the answers to
//!    the commands of one call carry, `list` how many read much at a time, and
//!    [`crate::storage::list`] how much a page reads.

pub mod backup;
pub mod batch;
pub mod census;
mod directory;
mod disk;
mod erase;
mod figures;
pub mod inspect;
mod list;
mod migrate;
pub mod restore;
pub mod schema;
mod settings;
mod sweep;
mod sync;
mod together;
mod turn;
mod unwritten;
pub mod verify;
mod view;
mod wait;
mod writer;

#[cfg(test)]
mod races;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};

use self::backup::Backups;
use self::schema::Tables;
use self::sync::SyncQueue;
use self::together::Together;
use self::turn::{Lanes, Turn};
use self::wait::Waited;
use self::writer::Writer;
use super::admission::{Admission, Permit};
use super::alarm::Alarm;
use super::backup::Backup;
use super::erase::{EraseOrder, EraseStep, Erases, Erasing};
use super::list::{Listing, Page};
use super::measured::{Disk, Measured};
use super::question::{Answer, Question};
use super::stats::Stats;
use super::waiting::Tickets;
use super::{
    Answering, BackingUp, Condition, Decided, Engine, EngineError, OpenError, Patience, Purged,
    StoreOptions, alarm, keys, threads,
};
use crate::clock::Clock;
use crate::domain::{Command, Decision, Record, RecordKey};

/// Callers on more threads than this share lanes.
const LANES: usize = 64;

/// What a command takes in memory besides its payload, roughly.
const COMMAND_BYTES: usize = 512;

/// Records in RocksDB.
pub struct RocksEngine {
    core: Arc<Core>,
    tables: Arc<Tables>,
    path: PathBuf,
    /// Taken before the engine's mutex.
    erases: Mutex<Erases>,
    stepping: Mutex<()>,
    readers: Arc<Semaphore>,
    /// `None` where nobody said where to keep them.
    backups: Option<Arc<Backups>>,
    admission: Arc<Admission>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What callers, turns and the engine's threads share.
struct Core {
    /// Held for the whole of a step of the sweeper, and taken before the writer's mutex: what the
    /// steps before it have learned.
    sweeping: Mutex<Together>,
    writer: Mutex<Writer>,
    /// Held while a batch is put into the log. Taken after the writer's mutex.
    writing: Mutex<()>,
    sync: Arc<SyncQueue>,
    lanes: Lanes,
    tickets: Tickets,
    alarm: Arc<Alarm>,
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
        let alarm = Arc::new(Alarm::default());
        let sync = SyncQueue::new(condition.clone(), Arc::clone(&alarm));
        let writer = Writer::recover(Arc::clone(&tables), path, clock, options)?;
        let core = Arc::new(Core {
            sweeping: Mutex::new(Together::at_most(options.records_read_together.into())),
            writer: Mutex::new(writer),
            writing: Mutex::default(),
            sync,
            lanes: Lanes::new(LANES),
            tickets: Tickets::default(),
            alarm,
            condition,
        });
        let engine = Self {
            core: Arc::clone(&core),
            tables: Arc::clone(&tables),
            path: path.to_owned(),
            erases: Mutex::new(Erases::recovered(erases)),
            stepping: Mutex::new(()),
            readers: Arc::new(Semaphore::new(list::MAX_READERS)),
            backups: options
                .backup
                .clone()
                .map(|backup| Backups::new(backup, path, options.min_free_disk_bytes)),
            admission: Admission::new(options.max_in_flight, options.max_in_flight_bytes),
            threads: Mutex::default(),
        };
        let sync = Arc::clone(&core.sync);
        engine.start("onced-sync", path, move || sync.run(&tables))?;
        engine.start("onced-wait", path, move || core.look_after_lapses())?;
        Ok(engine)
    }

    fn start(
        &self,
        name: &str,
        path: &Path,
        life: impl FnOnce() + Send + 'static,
    ) -> Result<(), OpenError> {
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(life).map_err(|error| {
                OpenError::Unavailable { path: path.to_owned(), cause: error.to_string() }
            })?;
        self.threads.lock().unwrap().push(thread);
        Ok(())
    }

    fn admit(&self, commands: usize, bytes: usize) -> Result<Permit, EngineError> {
        self.admission.admit(commands, commands * COMMAND_BYTES + bytes)
    }

    fn ask(
        &self,
        question: Question<Vec<u8>>,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Turn<'_>, EngineError> {
        let permit = self.admit(question.count(), bytes)?;
        self.core.queue(question, deadline, permit, None)
    }

    async fn ask_waiting(
        &self,
        record_key: Vec<u8>,
        question: Question<Vec<u8>>,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Result<Decided<Answer>, EngineError> {
        let permit = self.admit(1, 0)?;
        let waited =
            self.core.submit_waiting(&record_key, question, deadline, permit, patience).await;
        match waited {
            Waited::Answered(told) => told,
            Waited::InVain(question) => self.ask(question, 0, deadline)?.answered().await,
        }
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
            let turn =
                self.ask(Question::Apply(keys::record_key(&key), command), bytes, deadline)?;
            let Decided { answer, decided_at } = turn.answered().await?;
            Ok(Decided { answer: answer.into_decision(), decided_at })
        })
    }

    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision> {
        if !matches!(command, Command::Reserve(_)) {
            return self.apply(key, command, deadline);
        }
        Box::pin(async move {
            let record_key = keys::record_key(&key);
            let question = Question::Apply(record_key.clone(), command);
            let Decided { answer, decided_at } =
                self.ask_waiting(record_key, question, deadline, patience).await?;
            Ok(Decided { answer: answer.into_decision(), decided_at })
        })
    }

    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>> {
        Box::pin(async move {
            let bytes = commands.iter().map(|(_, command)| payload_bytes(command)).sum();
            let commands = commands
                .into_iter()
                .map(|(key, command)| (keys::record_key(&key), command))
                .collect();
            let turn = self.ask(Question::ApplyAll(commands), bytes, deadline)?;
            let Decided { answer, decided_at } = turn.answered().await?;
            Ok(Decided { answer: answer.into_decisions(), decided_at })
        })
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        Box::pin(async move {
            let turn = self.ask(Question::Lookup(keys::record_key(&key)), 0, deadline)?;
            let Decided { answer, decided_at } = turn.answered().await?;
            Ok(Decided { answer: answer.into_record(), decided_at })
        })
    }

    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>> {
        Box::pin(async move {
            let record_key = keys::record_key(&key);
            let question = Question::Lookup(record_key.clone());
            let Decided { answer, decided_at } =
                self.ask_waiting(record_key, question, deadline, patience).await?;
            Ok(Decided { answer: answer.into_record(), decided_at })
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

    fn measured(&self) -> Measured {
        let (in_flight, in_flight_bytes) = self.admission.in_flight();
        let disk = rustix::fs::statvfs(&self.path).ok().map(|disk| Disk {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            size_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        });
        let rocksdb = Some(self.tables.figures());
        Measured { in_flight, in_flight_bytes, disk, rocksdb, ..self.core.sync.meters.measured() }
    }

    fn back_up(&self) -> BackingUp<'_, Backup> {
        Box::pin(self.make_backup())
    }

    fn backups(&self) -> BackingUp<'_, Vec<Backup>> {
        Box::pin(self.list_backups())
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.core.condition.subscribe()
    }

    fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        if threads.is_empty() {
            return;
        }
        self.core.close();
        for thread in threads {
            let _ = thread.join();
        }
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
        Command::Complete(complete) => complete.response.bytes(),
        Command::ForceComplete(force) => force.response.bytes(),
        Command::Renew(renew) => renew.checkpoint.as_ref().map_or(0, Vec::len),
    }
}
