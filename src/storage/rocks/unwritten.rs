//! What a batch changes while it is on its way into the log, and the tables as the batch after
//! it has to see them.
//!
//! One batch is put into the log while the next is decided, so what the next one reads may not be
//! in the tables yet.

use std::sync::Arc;

use super::batch::{Change, Found, Source};
use super::schema::Tables;
use super::threads::Mutex;
use crate::domain::Moment;
use crate::storage::codec;
use crate::storage::{EngineError, Usage};

/// The changes of one batch.
pub struct Unwritten {
    changes: Vec<Change>,
    /// What the keys of all records that change begin with: much, where they are of one namespace.
    shared: Vec<u8>,
    /// What concerns records, in the order of their keys. Changes are too large to be moved about.
    records: Vec<Place>,
    /// Where the others are among the changes.
    others: Vec<u32>,
}

/// Where a change that concerns a record is.
struct Place {
    /// What follows in its key after what all have in common.
    leading: u64,
    /// Its number among the changes.
    at: u32,
}

impl Unwritten {
    /// Those that a batch came to.
    pub fn of(changes: Vec<Change>) -> Self {
        let mut keys = changes.iter().filter_map(Change::record_key);
        let first = keys.next().unwrap_or_default();
        let shared = keys.fold(first, |shared, key| &shared[..shared_by(shared, key)]).to_vec();
        let (mut records, mut others) = (Vec::with_capacity(changes.len()), Vec::new());
        for (at, change) in (0..).zip(&changes) {
            match change.record_key() {
                Some(key) => records.push(Place { leading: leading(&key[shared.len()..]), at }),
                None => others.push(at),
            }
        }
        let key = |place: &Place| changes[place.at as usize].record_key();
        // Stable: of two changes that concern one record the first stays the first.
        records.sort_by(|one, other| {
            one.leading.cmp(&other.leading).then_with(|| key(one).cmp(&key(other)))
        });
        Self { changes, shared, records, others }
    }

    /// All of them, in an order that spares RocksDB most of the search for the place of each: next
    /// to the one before.
    pub fn in_order(&self) -> impl Iterator<Item = &Change> {
        let places = self.records.iter().map(|place| &place.at).chain(&self.others);
        places.map(|&at| &self.changes[at as usize])
    }

    fn about(&self, record_key: &[u8]) -> impl Iterator<Item = &Change> {
        let change = |place: &Place| &self.changes[place.at as usize];
        let rest = record_key.strip_prefix(self.shared.as_slice());
        let leading = rest.map_or(u64::MAX, leading);
        let first = self.records.partition_point(|place| {
            place.leading < leading
                || place.leading == leading && change(place).record_key() < Some(record_key)
        });
        let about = self.records[first..].iter().map(change);
        about.take_while(move |change| change.record_key() == Some(record_key))
    }

    /// What becomes of the record under `record_key`; `None`: it is not changed.
    fn record(&self, record_key: &[u8]) -> Option<Found> {
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
        self.others.iter().find_map(|&at| match &self.changes[at as usize] {
            Change::Count { namespace: counted, usage } if counted == namespace => Some(*usage),
            _ => None,
        })
    }
}

/// How many bytes two keys have in common at their beginning.
fn shared_by(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The first bytes as a number. Where it differs, the bytes are in its order.
fn leading(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let count = bytes.len().min(first.len());
    first[..count].copy_from_slice(&bytes[..count]);
    u64::from_be_bytes(first)
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
    fn read(&self, record_key: &[u8]) -> Result<Found, EngineError> {
        let changed = self.unwritten.as_ref().and_then(|unwritten| unwritten.record(record_key));
        changed.map_or_else(|| self.tables.read(record_key), Ok)
    }

    fn read_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        let mut read = self.tables.read_together(record_keys);
        if let Some(unwritten) = &self.unwritten {
            for (record_key, found) in record_keys.iter().zip(&mut read) {
                if let Some(changed) = unwritten.record(record_key) {
                    *found = Some(changed);
                }
            }
        }
        read
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
    use crate::storage::codec::Stored;

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

    #[test]
    fn keys_are_told_apart_by_all_of_their_bytes() {
        let keys: [&[u8]; 7] =
            [b"o/", b"o/\0", b"o/a", b"o/aaaaaaaa", b"o/aaaaaaaa\0", b"o/aaaaaaaab", b"o/b"];
        let delete = |key: &[u8]| Change::Delete { record_key: key.to_vec() };
        for others in [&[][..], &[b"n".as_slice(), b"o0"]] {
            let backwards = keys.iter().rev().chain(others);
            let unwritten = Unwritten::of(backwards.map(|key| delete(key)).collect());
            let in_order: Vec<_> = unwritten.in_order().map(Change::record_key).collect();
            assert!(in_order.is_sorted());
            for key in keys.iter().chain(others) {
                assert_eq!(unwritten.record(key), Some(None));
            }
            for key in [&b"o"[..], b"o/aaaaaaa", b"o/aaaaaaaac", b"o/c", b"p"] {
                assert_eq!(unwritten.record(key), None);
            }
        }
    }
}
