//! Erasing a namespace: each step takes a few records away and stores how far it came, in one
//! atomic write on the path of every other.
//!
//! One step is taken at a time. Which keys it is about is read beforehand; what becomes of each
//! is decided under the engine's mutex, from the record as it stands then, so a key that was
//! reserved anew in between is spared, and whoever waits for a key that goes is served in the
//! same step. The mutex of the list of erases is held briefly, and
//! taken before the engine's. While an erase runs, nothing but its steps changes it.

use std::time::{Duration, Instant};

use super::RocksEngine;
use super::schema::Meta;
use super::sync::{Held, Position};
use super::threads::oneshot;
use super::writer::{Filled, Settled};
use crate::domain::FencingToken;
use crate::storage::erase::{Begin, Erase, EraseOrder, EraseStep, Erasing};
use crate::storage::{Decided, EngineError};

/// How long a step may hold the engine's mutex: records with large responses take their time.
const STEP_TIME: Duration = Duration::from_millis(1);

impl RocksEngine {
    /// Begins an erase or shows how far it has come, once that is durable.
    pub(super) async fn order_erase(
        &self,
        order: EraseOrder,
    ) -> Result<Decided<Erasing>, EngineError> {
        let (answer, position) = self.note_order(order)?;
        self.durable(position).await?;
        Ok(answer)
    }

    fn note_order(&self, order: EraseOrder) -> Result<(Decided<Erasing>, Position), EngineError> {
        let mut erases = self.erases.lock().unwrap();
        let begin = erases.begin(&order)?;
        let settled = self.core.settle(|_, setting| {
            Ok(match begin {
                Begin::Found(erase) => Filled::only((Erasing { erase, is_new: false }, Vec::new())),
                Begin::Anew { forgets } => {
                    let ceiling = FencingToken::new(setting.next_fencing_token.get() - 1);
                    let erase = Erase::begun(order, ceiling, setting.now);
                    let meta = Meta {
                        erase: Some(erase.clone()),
                        forgotten_erases: forgets.clone(),
                        ..Meta::default()
                    };
                    let value = (Erasing { erase, is_new: true }, forgets);
                    Filled { value, meta, gone: Vec::new() }
                }
            })
        })?;
        let Settled { value: (erasing, forgets), setting, position } = settled;
        if erasing.is_new {
            forgets.iter().for_each(|namespace| erases.forget(namespace));
            erases.note(erasing.erase.clone());
        }
        Ok((Decided { answer: erasing, decided_at: setting.now }, position))
    }

    /// Takes one step of the erase whose turn it is.
    pub(super) fn step_erase(&self, limit: usize) -> Result<EraseStep, EngineError> {
        let _one_at_a_time = self.stepping.lock().unwrap();
        let next = self.erases.lock().unwrap().next();
        let Some(erase) = next else { return Ok(EraseStep { records: 0, more: false }) };
        let before = erase.erased;
        let (ceiling, record_keys) = match erase.left() {
            Some((ceiling, from, to)) => {
                (Some(ceiling), self.tables.view().record_keys(&from, Some(to), limit)?)
            }
            None => (None, Vec::new()),
        };
        let is_last = record_keys.len() < limit;

        let settled = self.core.settle(|batch, setting| {
            let mut erase = erase;
            let began_at = Instant::now();
            let mut gone = Vec::new();
            let mut left = record_keys.into_iter();
            for record_key in left.by_ref() {
                let ceiling = ceiling.expect("without one there are no keys");
                match batch.erase(&record_key, ceiling) {
                    Ok(true) => {
                        erase.erased += 1;
                        gone.push(record_key.clone());
                    }
                    Ok(false) => {}
                    Err(EngineError::Corrupted) => erase.unreadable += 1,
                    Err(error) => return Err(error),
                }
                erase.done_to = record_key;
                if began_at.elapsed() >= STEP_TIME {
                    break;
                }
            }
            if is_last && left.next().is_none() {
                erase.ended_at = Some(setting.now);
            }
            let meta = Meta { erase: Some(erase.clone()), ..Meta::default() };
            Ok(Filled { value: erase, meta, gone })
        })?;
        let Settled { value: erase, position, .. } = settled;
        let records = usize::try_from(erase.erased - before).unwrap_or(usize::MAX);
        let more = {
            let mut erases = self.erases.lock().unwrap();
            erases.note(erase.clone());
            erases.next().is_some()
        };
        if erase.ended_at.is_some() && self.wait_durable(position) {
            erase.tell_end();
        }
        Ok(EraseStep { records, more })
    }

    /// Waits on this thread until everything up to `position` is durable. The flag says whether
    /// it is.
    fn wait_durable(&self, position: Position) -> bool {
        let (leader, synced) = oneshot::channel();
        match self.core.sync.hold(Held { position, replies: Vec::new(), leader }) {
            Some(_) => true,
            None => synced.blocking_recv().is_ok(),
        }
    }
}
