//! How commands become a batch: whoever comes first leads, and decides for all who come
//! in the same tick of its runtime.
//!
//! A command is queued on the lane of its thread. The first in an empty lane is the leader:
//! it lets the runtime finish its tick, in which the others queue theirs, and then takes the
//! whole lane to the writer on its own thread. Once the log is synced, the sync thread wakes
//! the leader alone, which hands the answers out.
//!
//! # Why no writer thread
//!
//! Waking a task on another thread costs about 20 µs of CPU, several times what the command
//! itself costs. This way a tick with any number of commands costs one such wake. There are
//! no timers: a batch is what was waiting.
//!
//! # What a caller that leaves can do
//!
//! Nothing. Before its command is decided, it is skipped. Where the leader leaves, [`Turn`]
//! finishes its duty on drop: every command that was queued behind it is decided, and every
//! answer that waits for a sync goes out.

use std::time::Instant;

use super::Core;
use super::sync::{Held, LONE_COMMIT};
use super::threads::{Mutex, look_for, oneshot, thread_number, yield_now};
use crate::storage::admission::Permit;
use crate::storage::question::{Answer, Question};
use crate::storage::round::{Answered, Asked, Caller};
use crate::storage::waiting::Wait;
use crate::storage::{Decided, EngineError};

/// A question that waits for its turn.
pub type Pending = Asked<Vec<u8>, ReplyTo>;

/// An answer that waits to be handed over.
pub type Reply = Answered<ReplyTo>;

/// What a caller gets.
pub type Told = Result<Decided<Answer>, EngineError>;

/// Where an answer goes.
pub struct ReplyTo {
    /// Closed: the caller has left.
    pub channel: oneshot::Sender<Told>,
    /// Its place among everything in flight; none while it is parked.
    pub permit: Option<Permit>,
}

impl Caller for ReplyTo {
    fn has_left(&self) -> bool {
        self.channel.is_closed()
    }

    fn park(&mut self) {
        self.permit = None;
    }

    /// Those who were parked share what they are answered with.
    fn may_hold(&mut self, bytes: usize) -> bool {
        self.permit.as_mut().is_none_or(|permit| permit.grow(bytes))
    }
}

impl Answered<ReplyTo> {
    /// The answer to a question that was refused unasked.
    pub fn refused(caller: ReplyTo, error: EngineError) -> Self {
        Self { caller, answer: Err(error), wrote: false }
    }

    /// Hands the answer over, if somebody is still there.
    pub fn send(self) {
        let _ = self.caller.channel.send(self.answer);
    }

    /// Says that the commit failed.
    pub fn fail(self) {
        let error = if self.wrote { EngineError::OutcomeUnknown } else { EngineError::Unavailable };
        // A refusal that needed no store stands whatever became of the commit.
        let _ = self.caller.channel.send(Err(self.answer.err().unwrap_or(error)));
    }
}

/// The queue of one thread.
#[derive(Default)]
pub struct Lane {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    closed: bool,
}

impl Lane {
    /// Queues a question. The flag says whether its caller leads.
    fn push(&self, pending: Pending) -> Result<bool, EngineError> {
        let mut queue = self.queue.lock().unwrap();
        if queue.closed {
            return Err(EngineError::Closing);
        }
        queue.pending.push(pending);
        Ok(queue.pending.len() == 1)
    }

    /// Takes everything that waits.
    pub fn take(&self) -> Vec<Pending> {
        let mut queue = self.queue.lock().unwrap();
        // The next turn is likely to be as large: it need not grow step by step.
        let room = Vec::with_capacity(queue.pending.len());
        std::mem::replace(&mut queue.pending, room)
    }

    /// Refuses what comes from now on.
    pub fn close(&self) {
        self.queue.lock().unwrap().closed = true;
    }
}

/// One lane for each thread that calls, as far as they go round.
pub struct Lanes(Vec<Lane>);

impl Lanes {
    /// As many lanes as `count`, at least one.
    pub fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Lane::default()).collect())
    }

    /// The lane of this thread. Two threads on one lane are slower, and just as right.
    fn mine(&self) -> &Lane {
        &self.0[thread_number() % self.0.len()]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter()
    }
}

impl Core {
    /// Queues a question. What it returns belongs to its caller, who leads where that falls to it.
    ///
    /// Everything about a call that waits for its batch is in memory at once, and whatever a future
    /// takes by value it keeps room for until it ends: so the question goes to the queue before there
    /// is a future.
    pub fn queue(
        &self,
        question: Question<Vec<u8>>,
        deadline: Option<Instant>,
        permit: Permit,
        wait: Option<Wait>,
    ) -> Result<Turn<'_>, EngineError> {
        let (channel, answer) = oneshot::channel();
        let caller = ReplyTo { channel, permit: Some(permit) };
        let lane = self.lanes.mine();
        let leads = lane.push(Asked { question, deadline, caller, wait })?;
        let stage = if leads { Stage::Collecting } else { Stage::Done };
        Ok(Turn { core: self, lane, answer, stage })
    }
}

/// A caller's part in a turn: its answer, and the duty of a leader where it is one; dropping it does
/// what is left of that.
pub struct Turn<'a> {
    core: &'a Core,
    lane: &'a Lane,
    /// The caller's own answer.
    pub answer: oneshot::Receiver<Told>,
    stage: Stage,
}

enum Stage {
    /// The caller leads, and the lane is not taken yet.
    Collecting,
    /// The answers wait for the sync.
    Syncing(oneshot::Receiver<Vec<Reply>>),
    /// Everything is handed out, or is another's to hand out.
    Done,
}

impl Turn<'_> {
    /// Leads where that falls to this caller, and waits for its answer.
    pub async fn answered(mut self) -> Told {
        self.lead().await;
        or_unknown((&mut self.answer).await)
    }

    /// Leads where that falls to this caller.
    pub async fn lead(&mut self) {
        if !matches!(self.stage, Stage::Collecting) {
            return;
        }
        // The others of this tick queue up behind.
        yield_now().await;
        self.stage = self.decide();
        if let Stage::Syncing(synced) = &mut self.stage {
            let synced = match self.core.sync.is_lone() {
                true => look_for(LONE_COMMIT, synced).await,
                false => synced.await.ok(),
            };
            // Closed without a word: the engine was poisoned, and has answered them.
            let replies = synced.unwrap_or_default();
            self.stage = Stage::Done;
            replies.into_iter().for_each(Reply::send);
        }
    }

    fn decide(&self) -> Stage {
        let (replies, position) = self.core.decide(self.lane.take());
        let (leader, synced) = oneshot::channel();
        match self.core.sync.hold(Held { position, replies, leader }) {
            Some(durable) => {
                durable.replies.into_iter().for_each(Reply::send);
                Stage::Done
            }
            None => Stage::Syncing(synced),
        }
    }
}

/// A reply that is dropped unsent means that a thread of the engine panicked.
pub fn or_unknown<E>(answer: Result<Told, E>) -> Told {
    answer.unwrap_or(Err(EngineError::OutcomeUnknown))
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Stage::Collecting = self.stage {
            // The leader leaves before its turn: its own command is withdrawn, like any other's.
            self.answer.close();
            self.stage = self.decide();
        }
        if let Stage::Syncing(synced) = &mut self.stage {
            // After `close` the sync thread sees that the leader is gone; what it sent before
            // is here. Between them no answer falls through.
            synced.close();
            if let Ok(replies) = synced.try_recv() {
                replies.into_iter().for_each(Reply::send);
            }
        }
    }
}
