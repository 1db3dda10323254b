//! Callers that wait for somebody else's reservation: how they are parked and withdrawn, and
//! the thread that looks after the leases that they wait for.
//!
//! Who is served, and when, is for [`crate::storage::round`]; it happens in whatever batch
//! changes the key, on the thread that decides it. This thread only makes a batch where a lease
//! ends and nobody else makes one, and tells those who wait when the engine ends.
//!
//! # What becomes of a caller's wait
//!
//! One of three things, settled under the writer's mutex: it is decided, and its answer leaves
//! when its batch is synced, like any other; or it is withdrawn, because the caller's patience
//! is over or the caller has left; or the engine ends. A question that is withdrawn by its
//! patience is asked once more without a wait, so that its answer is as current and as durable
//! as any.

use std::sync::PoisonError;
use std::time::Instant;

use super::Core;
use super::turn::{Pending, Reply, Told, or_unknown};
use crate::storage::admission::Permit;
use crate::storage::question::Question;
use crate::storage::waiting::Wait;
use crate::storage::{EngineError, Patience};

/// How a wait ended.
pub enum Waited {
    /// With an answer.
    Answered(Told),
    /// Without: this is the question again.
    InVain(Question<Vec<u8>>),
}

impl Core {
    /// Queues a question whose caller waits where somebody else is at it, until `patience` is
    /// over. Whatever else there is to tell is told at once.
    pub async fn submit_waiting(
        &self,
        record_key: &Vec<u8>,
        question: Question<Vec<u8>>,
        deadline: Option<Instant>,
        permit: Permit,
        patience: Patience,
    ) -> Waited {
        let wait = Wait::new(self.tickets.draw());
        // Dropped after the channel, so that a batch between the two sees that it is closed.
        let mut leaving = Leaving { core: self, record_key, wait: &wait, has_stayed: false };
        let mut turn = match self.queue(question, deadline, permit, Some(wait.clone())) {
            Ok(turn) => turn,
            Err(error) => return Waited::Answered(Err(error)),
        };
        turn.lead().await;
        let answer = tokio::select! {
            biased;
            answer = &mut turn.answer => answer,
            () = patience => match self.withdraw(record_key, &wait) {
                Some(asked) => {
                    leaving.has_stayed = true;
                    return Waited::InVain(asked.question);
                }
                // It is decided, or will be without being parked.
                None => (&mut turn.answer).await,
            },
        };
        leaving.has_stayed = true;
        Waited::Answered(or_unknown(answer))
    }

    /// Takes a call back that is parked, and sees to it that it is not parked later.
    fn withdraw(&self, record_key: &Vec<u8>, wait: &Wait) -> Option<Pending> {
        wait.give_up();
        // After a panic under the mutex nothing is decided any more, but those who wait are there.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.waiting.withdraw(record_key, wait.ticket)
    }

    /// The life of the thread: until the engine ends, and everybody who waits was told.
    pub fn look_after_lapses(&self) {
        loop {
            self.alarm.wait();
            if let Err(error) = self.serve_lapses() {
                self.send_away(error);
                return;
            }
        }
    }

    /// Serves whoever waits for a lease that is over, if anybody does.
    pub(super) fn serve_lapses(&self) -> Result<(), EngineError> {
        let mut writer = self.writer()?;
        let now = writer.clock.read();
        if writer.waiting.due(now).is_none() {
            writer.waiting.set_alarm_again(now, |after| self.alarm.set(after));
            return Ok(());
        }
        drop(writer);
        let mut replies = Vec::new();
        let position = self.decide_batch(Vec::new(), &mut replies);
        self.hand_out(replies, position);
        Ok(())
    }

    /// Tells everybody who waits that the engine ends.
    fn send_away(&self, error: EngineError) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let parked = writer.waiting.take_all();
        drop(writer);
        parked.into_iter().for_each(|asked| Reply::refused(asked.caller, error).send());
    }
}

/// Withdraws a call whose caller leaves.
struct Leaving<'a> {
    core: &'a Core,
    record_key: &'a Vec<u8>,
    wait: &'a Wait,
    has_stayed: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.has_stayed {
            self.core.withdraw(self.record_key, self.wait);
        }
    }
}
