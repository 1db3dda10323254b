//! Erasing a namespace: what is asked for, how far it has come, and which erases there are.
//!
//! An erase goes through the records of its namespace in small steps and takes those whose
//! fencing token had been given when it began. Whatever was granted since is spared, so
//! callers need not be kept out: until its record is reached a key answers as ever, and from
//! then on it is vacant. What engines do for a step is theirs; the stored form is written out
//! here and never reused.

use prost::Message as _;
use tracing::info;
use uuid::Uuid;

use crate::domain::{FencingToken, Moment, Namespace};
use crate::pb::storage as stored;
use crate::storage::codec::Damage;
use crate::storage::{EngineError, keys};

/// How many erases may run at a time.
const MAX_RUNNING: usize = 64;

/// How many erases that have ended are remembered, so that whoever asks again is told so.
const MAX_ENDED: usize = 256;

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseOrder {
    /// Which namespace goes.
    pub namespace: Namespace,
    /// The name of this erase, minted by whoever asks, so that a call that is sent again finds
    /// the erase that it began.
    pub id: Uuid,
    /// Who asks.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// One erase, running or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erase {
    /// What was asked for.
    pub order: EraseOrder,
    /// Records with a larger fencing token are spared; `None` where none had been given, and
    /// there is nothing to erase.
    pub ceiling: Option<FencingToken>,
    /// When it began.
    pub began_at: Moment,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Moment>,
    /// How many records are gone.
    pub erased: u64,
    /// How many records could not be read, and are still there.
    pub unreadable: u64,
    /// The record key up to which everything was looked at; empty at the beginning.
    pub done_to: Vec<u8>,
}

/// The answer to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasing {
    /// The erase of that namespace: the one that was asked for, or another that still runs.
    pub erase: Erase,
    /// Whether it began with this very order.
    pub is_new: bool,
}

/// What one step of all erases together did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseStep {
    /// How many records went.
    pub records: usize,
    /// Whether any erase still runs.
    pub more: bool,
}

impl Erase {
    /// The erase that `order` begins.
    pub fn begun(order: EraseOrder, ceiling: Option<FencingToken>, now: Moment) -> Self {
        Self {
            order,
            ceiling,
            began_at: now,
            ended_at: None,
            erased: 0,
            unreadable: 0,
            done_to: Vec::new(),
        }
    }

    /// What is left to do: the largest fencing token that goes, and the record keys to look at,
    /// from the first up to the last, which is not included. `None` where nothing can go.
    pub fn left(&self) -> Option<(FencingToken, Vec<u8>, Vec<u8>)> {
        let all = keys::namespace_prefix(&self.order.namespace, "");
        let from = match self.done_to.as_slice() {
            [] => all.clone(),
            done_to => keys::just_behind(done_to),
        };
        Some((self.ceiling?, from, keys::behind(all)))
    }

    /// The last word of an erase for whoever reads the log of operators' doings, once it is
    /// durable. The first was written when it began, perhaps in an earlier run.
    pub fn tell_end(&self) {
        info!(
            target: "onced::audit",
            action = "erase_namespace",
            outcome = "done",
            operator = self.order.operator,
            reason = self.order.reason,
            namespace = self.order.namespace.as_str(),
            erase_id = %self.order.id,
            fencing_token_ceiling = self.ceiling.map_or(0, FencingToken::get),
            erased_records = self.erased,
            unreadable_records = self.unreadable,
            "an operator's command took effect"
        );
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        stored::Erase {
            namespace: self.order.namespace.as_str().to_owned(),
            erase_id: self.order.id.as_bytes().to_vec(),
            operator: self.order.operator.clone(),
            reason: self.order.reason.clone(),
            fencing_token_ceiling: self.ceiling.map_or(0, FencingToken::get),
            began_at_ms: self.began_at.as_millis(),
            ended_at_ms: self.ended_at.map(Moment::as_millis),
            erased_records: i64::try_from(self.erased).unwrap_or(i64::MAX),
            unreadable_records: i64::try_from(self.unreadable).unwrap_or(i64::MAX),
            done_to: self.done_to.clone(),
        }
        .encode_to_vec()
    }

    /// The erase that `bytes` hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let raw = stored::Erase::decode(bytes).map_err(|_| Damage("it is not an erase message"))?;
        if raw.encoded_len() != bytes.len() {
            return Err(Damage("it has a field that this build does not know"));
        }
        let count = |number: i64| u64::try_from(number).map_err(|_| Damage("a count is negative"));
        Ok(Self {
            order: EraseOrder {
                namespace: Namespace::new(raw.namespace)
                    .map_err(|_| Damage("its namespace is none"))?,
                id: Uuid::from_slice(&raw.erase_id).map_err(|_| Damage("its name is no UUID"))?,
                operator: raw.operator,
                reason: raw.reason,
            },
            ceiling: match raw.fencing_token_ceiling {
                0 => None,
                number => Some(
                    FencingToken::new(number).ok_or(Damage("its fencing token is not positive"))?,
                ),
            },
            began_at: Moment::from_millis(raw.began_at_ms),
            ended_at: raw.ended_at_ms.map(Moment::from_millis),
            erased: count(raw.erased_records)?,
            unreadable: count(raw.unreadable_records)?,
            done_to: raw.done_to,
        })
    }
}

/// All erases that an engine knows of: at most one for each namespace.
#[derive(Clone, Debug, Default)]
pub struct Erases(Vec<Erase>);

/// What becomes of an order.
pub enum Begin {
    /// There is an erase that answers it.
    Found(Erase),
    /// It begins a new one, which takes the place of those of these namespaces.
    Anew {
        /// Ended erases that are forgotten for it.
        forgets: Vec<Namespace>,
    },
}

impl Erases {
    /// The erases that were stored.
    pub fn recovered(erases: Vec<Erase>) -> Self {
        Self(erases)
    }

    /// Says what `order` comes to, and changes nothing.
    pub fn begin(&self, order: &EraseOrder) -> Result<Begin, EngineError> {
        let same = self.0.iter().find(|erase| erase.order.namespace == order.namespace);
        if let Some(erase) = same
            && (erase.ended_at.is_none() || erase.order.id == order.id)
        {
            return Ok(Begin::Found(erase.clone()));
        }
        if self.running().count() >= MAX_RUNNING {
            return Err(EngineError::Overloaded);
        }
        let mut ended: Vec<_> = self.0.iter().filter_map(|it| Some((it.ended_at?, it))).collect();
        ended.sort_by_key(|(ended_at, _)| *ended_at);
        let too_many = (ended.len() + 1).saturating_sub(MAX_ENDED);
        let oldest = ended.iter().take(too_many).map(|(_, erase)| *erase);
        let forgets = oldest.chain(same).map(|erase| erase.order.namespace.clone()).collect();
        Ok(Begin::Anew { forgets })
    }

    /// Notes an erase as it stands, in the place of what was known of its namespace.
    pub fn note(&mut self, erase: Erase) {
        self.forget(&erase.order.namespace);
        self.0.push(erase);
    }

    /// Forgets the erase of a namespace.
    pub fn forget(&mut self, namespace: &Namespace) {
        self.0.retain(|erase| erase.order.namespace != *namespace);
    }

    /// Those that have not ended, in the order in which it is their turn.
    pub fn running(&self) -> impl Iterator<Item = &Erase> {
        self.0.iter().filter(|erase| erase.ended_at.is_none())
    }

    /// The one that a step is due to: they take turns, since each step puts its erase last.
    pub fn next(&self) -> Option<Erase> {
        self.running().next().cloned()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
