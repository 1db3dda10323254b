//! An engine that is still being opened: the port is bound and health says NOT_SERVING, and
//! calls that come all the same are told to try again.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::watch;

use crate::domain::{Command, Decision, Record, RecordKey};
use crate::storage::backup::{Backup, BackupError};
use crate::storage::erase::{EraseOrder, EraseStep, Erasing};
use crate::storage::list::{Listing, Page};
use crate::storage::measured::{Measured, Meters};
use crate::storage::stats::Stats;
use crate::storage::{Answering, BackingUp, Condition, Engine, EngineError, Patience, Purged};

/// Refuses everything until its engine is open, and is that engine from then on.
#[derive(Clone, Default)]
pub struct RecoveringEngine {
    opened: Arc<OnceLock<Arc<dyn Engine>>>,
}

impl RecoveringEngine {
    /// An engine that is not open yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, `engine` answers.
    pub fn opened(&self, engine: Arc<dyn Engine>) {
        if self.opened.set(engine).is_err() {
            unreachable!("a server opens one engine");
        }
    }

    /// Whether its engine is open.
    pub fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }

    fn engine(&self) -> Result<&Arc<dyn Engine>, EngineError> {
        self.opened.get().ok_or(EngineError::Unavailable)
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        question: impl FnOnce(&'a dyn Engine) -> Answering<'a, T>,
    ) -> Answering<'a, T> {
        match self.engine() {
            Ok(engine) => question(engine.as_ref()),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}

impl Engine for RecoveringEngine {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        self.ask(|engine| engine.apply(key, command, deadline))
    }

    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision> {
        self.ask(|engine| engine.apply_waiting(key, command, deadline, patience))
    }

    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>> {
        self.ask(|engine| engine.apply_all(commands, deadline))
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        self.ask(|engine| engine.lookup(key, deadline))
    }

    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>> {
        self.ask(|engine| engine.lookup_waiting(key, deadline, patience))
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        self.engine()?.purge(limit)
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        match self.engine() {
            Ok(engine) => engine.list(listing),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        match self.engine() {
            Ok(engine) => engine.erase(order),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        self.engine()?.erase_step(limit)
    }

    fn stats(&self) -> Answering<'_, Stats> {
        match self.engine() {
            Ok(engine) => engine.stats(),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn measured(&self) -> Measured {
        self.opened.get().map_or_else(|| Meters::default().measured(), |it| it.measured())
    }

    fn back_up(&self) -> BackingUp<'_, Backup> {
        match self.engine() {
            Ok(engine) => engine.back_up(),
            Err(error) => Box::pin(async move { Err(BackupError::Engine(error)) }),
        }
    }

    fn backups(&self) -> BackingUp<'_, Vec<Backup>> {
        match self.engine() {
            Ok(engine) => engine.backups(),
            Err(error) => Box::pin(async move { Err(BackupError::Engine(error)) }),
        }
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        match self.opened.get() {
            Some(engine) => engine.condition(),
            None => watch::Sender::new(Condition::Poisoned).subscribe(),
        }
    }

    fn close(&self) {
        if let Some(engine) = self.opened.get() {
            engine.close();
        }
    }
}
