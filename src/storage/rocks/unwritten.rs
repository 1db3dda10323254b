//! What a batch changes while it is on its way into the log, and the tables as the batch after
//! it has to see them.
//!
//! One batch is put into the log while the next is decided, so what the next one reads may not be
//! in the tables yet.

use std::sync::Arc;

use super::batch::{Change, Source};
use super::schema::Tables;
use super::threads::Mutex;
use crate::domain::Moment;
use crate::storage::codec::{self, Stored};
use crate::storage::{EngineError, Usage};

/// The changes of one batch.
pub struct Unwritten {
    changes: Vec<Change>,
    /// Where they are, in the order of their keys. Changes are too large to be moved about.
    order: Vec<u32>,
}

impl Unwritten {
    /// Those that a batch came to.
    pub fn of(changes: Vec<Change>) -> Self {
        let count = u32::try_from(changes.len()).expect("a batch is bounded");
        let mut order: Vec<u32> = (0..count).collect();
        // Stable: of two changes that concern one record the first stays the first.
        order.sort_by_key(|&at| changes[at as usize].sort_key());
        Self { changes, order }
    }

    /// All of them, in an order that spares RocksDB most of the search for the place of each: next
    /// to the one before.
    pub fn in_order(&self) -> impl Iterator<Item = &Change> {
        self.order.iter().map(|&at| &self.changes[at as usize])
    }

    fn about(&self, key: &[u8]) -> impl Iterator<Item = &Change> {
        let key_at = |at: u32| self.changes[at as usize].sort_key();
        let first = self.order.partition_point(|&at| key_at(at) < key);
        let about = self.order[first..].iter().take_while(move |&&at| key_at(at) == key);
        about.map(|&at| &self.changes[at as usize])
    }

    /// What becomes of the record under `record_key`; `None`: it is not changed.
    fn record(&self, record_key: &[u8]) -> Option<Option<(Stored, usize)>> {
        self.about(record_key).find_map(|change| match change {
            Change::Put { stored, .. } => {
                let bytes = codec::encoded_len(&stored.record, stored.indexed_at, stored.run);
                Some(Some((stored.clone(), bytes)))
            }
            Change::Delete { .. } => Some(None),
            _ => None,
        })
    }

    /// What the namespace with this name comes to have on record; `None`: that does not change.
    fn usage(&self, namespace: &[u8]) -> Option<Usage> {
        self.about(namespace).find_map(|change| match change {
            Change::Count { usage, .. } => Some(*usage),
            _ => None,
        })
    }
}

/// The tables together with what is on its way to them.
pub struct Shown<'a> {
    /// What is written.
    pub tables: &'a Tables,
    /// What may not be; `None`: there is nothing.
    pub unwritten: Option<Arc<Unwritten>>,
    /// Held by whoever writes.
    pub writing: &'a Mutex<()>,
}

impl Source for Shown<'_> {
    fn read(&self, record_key: &[u8]) -> Result<Option<(Stored, usize)>, EngineError> {
        let changed = self.unwritten.as_ref().and_then(|unwritten| unwritten.record(record_key));
        changed.map_or_else(|| self.tables.read(record_key), Ok)
    }

    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError> {
        let changed = self.unwritten.as_ref().and_then(|unwritten| unwritten.usage(namespace));
        changed.map_or_else(|| self.tables.usage(namespace), Ok)
    }

    /// This is rarely asked for, so it waits until everything is written.
    fn due(
        &self,
        from: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError> {
        drop(self.writing.lock().map_err(|_| EngineError::Unavailable)?);
        self.tables.due(from, now, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        FencingToken, Fingerprint, LeaseExpiryAction, OwnerToken, Record, Span, State,
    };

    fn stored(attempt: u32) -> Stored {
        let record = Record {
            fingerprint: Fingerprint::default(),
            owner_token: OwnerToken::from_bytes([1; 16]),
            fencing_token: FencingToken::FIRST,
            attempt,
            created_at: Moment::from_millis(1_000),
            holder: String::new(),
            checkpoint: Vec::new(),
            state: State::Reserved {
                lease_until: Moment::from_millis(31_000),
                lease_expiry_action: LeaseExpiryAction::Takeover,
            },
            retention: Span::from_secs(60),
            takeover: false,
        };
        Stored { record, indexed_at: Moment::from_millis(91_000), run: 1 }
    }

    #[test]
    fn the_next_batch_sees_what_this_one_changes_and_nothing_else() {
        let at = Moment::from_millis(91_000);
        let usage = Usage { keys: 1, bytes: 100 };
        // In the order of a batch, which is not that of the keys.
        let unwritten = Unwritten::of(vec![
            Change::Unindex { at, record_key: b"put".to_vec() },
            Change::Index { at, record_key: b"put".to_vec() },
            Change::Put { record_key: b"put".to_vec(), stored: stored(2) },
            Change::Unindex { at, record_key: b"deleted".to_vec() },
            Change::Delete { record_key: b"deleted".to_vec() },
            Change::Count { namespace: b"orders".to_vec(), usage },
        ]);
        let expected = stored(2);
        let bytes = codec::encoded_len(&expected.record, expected.indexed_at, expected.run);
        assert_eq!(unwritten.record(b"put"), Some(Some((expected, bytes))));
        assert_eq!(unwritten.record(b"deleted"), Some(None));
        assert_eq!(unwritten.usage(b"orders"), Some(usage));
        // The name of a namespace is no record's key, nor the other way round.
        for key in [&b"orders"[..], b"pu", b"puts", b"", b"z"] {
            assert_eq!(unwritten.record(key), None);
        }
        assert_eq!((unwritten.usage(b"put"), unwritten.usage(b"others")), (None, None));
    }

    #[test]
    fn changes_are_made_in_the_order_of_their_keys_and_of_one_record_in_their_own() {
        let at = Moment::from_millis(1);
        let index = |key: &[u8]| Change::Index { at, record_key: key.to_vec() };
        let unindex = |key: &[u8]| Change::Unindex { at, record_key: key.to_vec() };
        let unwritten = Unwritten::of(vec![unindex(b"b"), index(b"b"), index(b"a"), unindex(b"a")]);
        let in_order: Vec<_> = unwritten.in_order().cloned().collect();
        assert_eq!(in_order, [index(b"a"), unindex(b"a"), unindex(b"b"), index(b"b")]);
    }
}
