//! The thread that makes the log durable, and the answers that wait for it.
//!
//! One sync covers everything written since the last. While it runs, the next batches are
//! decided and written. An answer carries the position that it depends on, and is held here
//! until that position is synced: refusals and lookups too, since they may rest on a write
//! that is not durable yet.
//!
//! # Why a lone caller is waited for with open eyes
//!
//! A commit takes two wakes of a sleeping thread on its way: this one's, and the runtime's
//! of its caller. On a machine that has nothing else to do they take about as long as
//! everything else around the sync, so for a moment neither sleeps: the caller's task looks
//! whether the answer is there, and this thread whether the next command comes, each letting
//! everything else go first. Both do so for a commit of one command only, and the caller's side
//! while no other batch waits for a sync. Where more come together there is other work for the
//! processor, and looking would take from it.
//!
//! # Why a failed sync is never tried again
//!
//! After a failed fsync the kernel may have dropped the pages and report success the next
//! time. So the first failure poisons the engine: what it acknowledged is on disk, what it
//! holds is answered as unknown, and only recovery from the log says what is true.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::error;

use super::alarm::Alarm;
use super::schema::{DiskError, Tables};
use super::threads::{Condvar, Mutex, look, oneshot};
use super::turn::Reply;
use crate::storage::measured::Meters;
use crate::storage::{Condition, EngineError};

/// For how long the leader of a lone batch looks for its answers before it sleeps: a little more
/// than a sync takes on a disk that is fast enough for this to matter.
pub const LONE_COMMIT: Duration = Duration::from_micros(500);

/// For how long the thread looks for the next command after that of a lone caller: as long as a
/// caller on the same network takes that sends one after another.
const LONE_PAUSE: Duration = Duration::from_micros(100);

/// How many batches have been written; a batch is durable once its position is synced.
pub type Position = u64;

/// Answers that wait for one position.
pub struct Held {
    /// What they depend on.
    pub position: Position,
    /// The answers.
    pub replies: Vec<Reply>,
    /// Who hands them out: the caller that led the turn, in its own runtime, where waking the
    /// others is cheap. Where it has left, the sync thread does.
    pub leader: oneshot::Sender<Vec<Reply>>,
}

/// What the sync thread and the writers share.
pub struct SyncQueue {
    state: Mutex<State>,
    changed: Condvar,
    condition: watch::Sender<Condition>,
    /// Rung when the engine is poisoned or closes: callers that wait have to be told.
    alarm: Arc<Alarm>,
    /// A moving average of the time that a sync takes, in microseconds.
    expected_micros: AtomicU64,
    /// How often answers were brought here to be held: what the thread looks at while it
    /// does not sleep.
    brought: AtomicU64,
    /// What the engine measures; here, because writers and the sync thread share this.
    pub meters: Meters,
}

#[derive(Default)]
struct State {
    written: Position,
    synced: Position,
    held: VecDeque<Held>,
    closing: bool,
    /// The thread has ended in order: nothing will be synced any more.
    ended: bool,
    poisoned: bool,
}

impl SyncQueue {
    /// An empty queue that tells `condition` when it is poisoned, and rings `alarm`.
    pub fn new(condition: watch::Sender<Condition>, alarm: Arc<Alarm>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            condition,
            alarm,
            expected_micros: AtomicU64::new(0),
            brought: AtomicU64::new(0),
            meters: Meters::default(),
        })
    }

    /// Notes one more written batch and returns its position.
    pub fn wrote(&self) -> Position {
        let mut state = self.state.lock().unwrap();
        state.written += 1;
        state.written
    }

    /// The position of the last written batch.
    pub fn position(&self) -> Position {
        self.state.lock().unwrap().written
    }

    /// Holds answers until their position is synced; returns them where it is already.
    pub fn hold(&self, held: Held) -> Option<Held> {
        let mut state = self.state.lock().unwrap();
        if !state.poisoned && held.position <= state.synced {
            return Some(held);
        }
        if state.poisoned || state.ended {
            drop(state);
            fail(held.replies);
            return None;
        }
        state.held.push_back(held);
        drop(state);
        self.brought.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        None
    }

    /// Whether one command alone waits for its sync.
    pub fn is_lone(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.written == state.synced + 1
            && state.held.len() == 1
            && state.held.iter().all(|held| held.replies.len() == 1)
    }

    /// Why nothing may be written any more, if so.
    pub fn refusal(&self) -> Option<EngineError> {
        let state = self.state.lock().unwrap();
        match (state.poisoned, state.closing) {
            (true, _) => Some(EngineError::Unavailable),
            (false, true) => Some(EngineError::Closing),
            (false, false) => None,
        }
    }

    /// Poisons the engine and answers everything that waits.
    pub fn poison(&self) {
        let mut state = self.state.lock().unwrap();
        let first = !std::mem::replace(&mut state.poisoned, true);
        let held = std::mem::take(&mut state.held);
        drop(state);
        if first {
            error!("a commit failed: the engine refuses everything until it is restarted");
        }
        self.condition.send_replace(Condition::Poisoned);
        self.changed.notify_one();
        self.alarm.ring();
        held.into_iter().for_each(|held| fail(held.replies));
    }

    /// How long a commit can be expected to take.
    pub fn expected(&self) -> Duration {
        Duration::from_micros(self.expected_micros.load(Ordering::Relaxed))
    }

    /// Makes the thread end once everything written is durable and everything held answered.
    pub fn close(&self) {
        self.state.lock().unwrap().closing = true;
        self.changed.notify_one();
        self.alarm.ring();
    }

    /// The life of the sync thread.
    pub fn run(&self, tables: &Tables) {
        while let Some(target) = self.next_target() {
            let began_at = Instant::now();
            if let Err(DiskError) = tables.sync() {
                self.poison();
                return;
            }
            let took = began_at.elapsed();
            self.expect(took);
            self.meters.synced(took);
            let brought = self.brought.load(Ordering::Relaxed);
            if self.release(target) == 1 {
                look(LONE_PAUSE, || self.brought.load(Ordering::Relaxed) != brought);
            }
        }
    }

    /// Waits for something to sync. `None`: there is nothing, and there will be nothing.
    fn next_target(&self) -> Option<Position> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.poisoned {
                return None;
            }
            if state.written > state.synced && (state.closing || !state.held.is_empty()) {
                return Some(state.written);
            }
            if state.closing {
                state.ended = true;
                return None;
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Lets the answers go that waited for `target`, and says how many.
    fn release(&self, target: Position) -> usize {
        let mut state = self.state.lock().unwrap();
        state.synced = target;
        // Turns of different runtimes may have come in a different order than they wrote.
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut state.held).into_iter().partition(|held| held.position <= target);
        state.held = rest;
        drop(state);
        let released = due.iter().map(|held| held.replies.len()).sum();
        for held in due {
            if let Err(replies) = held.leader.send(held.replies) {
                replies.into_iter().for_each(Reply::send);
            }
        }
        released
    }

    fn expect(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.expected_micros.load(Ordering::Relaxed);
        let average = before - before / 8 + took / 8;
        self.expected_micros.store(average, Ordering::Relaxed);
    }
}

fn fail(replies: Vec<Reply>) {
    replies.into_iter().for_each(Reply::fail);
}
