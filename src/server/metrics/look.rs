//! A look at a server: where its figures come from, the state that it is in, and what has to be
//! asked of the store, with a bound on how often and how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::census::{Census, Phases};
use crate::access::AccessCounts;
use crate::api::{Observer, Policies};
use crate::config::Settings;
use crate::server::budget::Budget;
use crate::server::connection::ConnectionMeters;
use crate::server::health::Health;
use crate::server::recovery::RecoveringEngine;
use crate::storage::measured::{Measured, Meters};
use crate::storage::stats::Stats;
use crate::storage::{Condition, Decided, Engine as _};

/// How long the store may take to answer. Where the disk stalls, what it said last is shown.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old an answer of the store may be that is shown again: several look at the same time.
const FRESH: Duration = Duration::from_secs(1);

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The store is still being opened.
    Recovering,
    /// It serves.
    Serving,
    /// The disk is nearly full: new reservations are refused.
    Full,
    /// A commit failed: everything is refused until a restart.
    Poisoned,
    /// It was told to stop.
    Draining,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Recovering, Self::Serving, Self::Full, Self::Poisoned, Self::Draining];

    /// Its name in probes and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Serving => "serving",
            Self::Full => "full",
            Self::Poisoned => "poisoned",
            Self::Draining => "draining",
        }
    }
}

/// Where the figures of a server come from. Whoever counts something new puts its counters here
/// and their names into `exposition.rs`.
pub struct Sources {
    /// What is counted of calls.
    pub observer: Arc<Observer>,
    /// What callers of shadowed namespaces would have been told, and the quotas.
    pub policies: Arc<Policies>,
    /// The store.
    pub engine: RecoveringEngine,
    /// Whether the server stops.
    pub health: Health,
    /// What large messages hold.
    pub budget: Arc<Budget>,
    /// Connections for calls.
    pub connections: Arc<ConnectionMeters>,
    /// Callers that were turned away.
    pub access: Arc<AccessCounts>,
    /// The settings in force.
    pub settings: Settings,
}

/// Looks at a server.
pub struct Watch {
    pub(super) sources: Sources,
    pub(super) up_since: Instant,
    asked: Mutex<Asked>,
}

/// What the store said last.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    /// What the store is measuring. Where the file system does not answer that takes a thread,
    /// and there must not be another one with each look.
    measuring: Option<JoinHandle<Measured>>,
    measured: Option<Measured>,
    stats: Option<(Stats, Instant)>,
    census: Census,
}

/// What was seen in one look.
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) measured: Measured,
    /// With their age; `None` before the store was open.
    pub(super) stats: Option<(Stats, Duration)>,
    pub(super) phases: Option<Phases>,
}

impl Watch {
    /// Looks at what `sources` tell. The server is up from now on.
    pub fn new(sources: Sources) -> Arc<Self> {
        Arc::new(Self { sources, up_since: Instant::now(), asked: Mutex::default() })
    }

    /// What the server is doing.
    pub fn state(&self) -> State {
        let Sources { engine, health, .. } = &self.sources;
        if !engine.is_open() {
            return State::Recovering;
        }
        match (*engine.condition().borrow(), health.is_stopping()) {
            // Whoever stops with a failed commit is to be told of the commit.
            (Condition::Poisoned, _) => State::Poisoned,
            (_, true) => State::Draining,
            (Condition::Full, _) => State::Full,
            (Condition::Serving, _) => State::Serving,
        }
    }

    /// Looks, and asks the store unless somebody else just did.
    pub(super) async fn look(&self) -> Seen {
        let mut asked = self.asked.lock().await;
        if asked.at.is_none_or(|at| at.elapsed() > FRESH) {
            let _ = tokio::time::timeout(PATIENCE, self.ask(&mut asked)).await;
            asked.at = Some(Instant::now());
        }
        let records = asked.stats.as_ref().map(|(stats, _)| records(stats));
        Seen {
            state: self.state(),
            measured: asked.measured.clone().unwrap_or_else(|| Meters::default().measured()),
            stats: asked.stats.as_ref().map(|(stats, at)| (stats.clone(), at.elapsed())),
            phases: records.and_then(|records| asked.census.estimate(records)),
        }
    }

    async fn ask(&self, asked: &mut Asked) {
        let engine = &self.sources.engine;
        let measuring = asked.measuring.get_or_insert_with(|| {
            let engine = engine.clone();
            tokio::task::spawn_blocking(move || engine.measured())
        });
        let measured = measuring.await;
        asked.measuring = None;
        asked.measured = measured.ok().or(asked.measured.take());
        if let Ok(Decided { answer, .. }) = engine.stats().await {
            asked.stats = Some((answer, Instant::now()));
        }
        asked.census.go_on(engine).await;
    }
}

/// How many records there are: what the counters of the namespaces say, or an estimate where they
/// are too many.
pub(super) fn records(stats: &Stats) -> u64 {
    match stats.usages_capped {
        true => stats.records,
        false => stats.usages.values().map(|usage| usage.keys).sum(),
    }
}
