//! Keys as they lie on disk, and the order that they give the tables.
//!
//! A record key is the namespace, preceded by its length in one byte, and then the
//! idempotency key: all keys of a namespace lie together, in the order of their bytes, so
//! that a prefix of keys is a range. An expiry key is a moment as eight big-endian bytes,
//! and then the record key: the index is in the order of time. Keys in the index of holds have
//! the same form.

use crate::domain::{Moment, Namespace, RecordKey};

/// The bytes of `key` in the table of records.
pub fn record_key(key: &RecordKey) -> Vec<u8> {
    namespace_prefix(&key.namespace, key.key.as_str())
}

/// What the record keys of `namespace` begin with whose idempotency keys begin with `prefix`.
pub fn namespace_prefix(namespace: &Namespace, prefix: &str) -> Vec<u8> {
    let namespace = namespace.as_str();
    let mut bytes = Vec::with_capacity(1 + namespace.len() + prefix.len());
    bytes.push(u8::try_from(namespace.len()).expect("a namespace has at most 63 bytes"));
    bytes.extend_from_slice(namespace.as_bytes());
    bytes.extend_from_slice(prefix.as_bytes());
    bytes
}

/// The smallest key that is larger than `key`.
pub fn just_behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key behind all that begin with `prefix`, which is a prefix of a record key.
pub fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    // Names are ASCII, and their lengths are small: there is always a next byte.
    *prefix.last_mut().expect("it has a length") += 1;
    prefix
}

/// The bytes of an index entry: at the moment `at`, look at this record.
pub fn expiry_key(at: Moment, record_key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + record_key.len());
    expiry_key_to(at, record_key, &mut bytes);
    bytes
}

/// Appends the same to `bytes`.
pub fn expiry_key_to(at: Moment, record_key: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&expiry_bound(at));
    bytes.extend_from_slice(record_key);
}

/// The smallest possible index entry of the moment `at`.
pub fn expiry_bound(at: Moment) -> [u8; 8] {
    // The engine's clock starts in 1970, so no entry is negative and unsigned order is right.
    at.as_millis().max(0).to_be_bytes()
}

/// The moment and the record key of an index entry; `None` where it is damaged.
pub fn split_expiry_key(bytes: &[u8]) -> Option<(Moment, &[u8])> {
    let (at, record_key) = bytes.split_first_chunk::<8>()?;
    let millis = i64::from_be_bytes(*at);
    (millis >= 0 && !record_key.is_empty()).then_some((Moment::from_millis(millis), record_key))
}

/// The bytes of the namespace of a record key; what there is of them where it is damaged.
pub fn namespace_of(record_key: &[u8]) -> &[u8] {
    let Some((length, rest)) = record_key.split_first() else { return record_key };
    &rest[..rest.len().min(usize::from(*length))]
}

/// The namespace and the idempotency key of a record key; `None` where it is damaged.
pub fn split_record_key(bytes: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = bytes.split_first()?;
    let (namespace, key) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(namespace).ok()?, std::str::from_utf8(key).ok()?))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::IdempotencyKey;

    fn key(namespace: &str, key: &str) -> RecordKey {
        RecordKey {
            namespace: Namespace::new(namespace.into()).unwrap(),
            key: IdempotencyKey::new(key.into()).unwrap(),
        }
    }

    #[test]
    fn record_keys_are_as_every_released_format_has_them() {
        assert_eq!(record_key(&key("default", "order-1")), b"\x07defaultorder-1");
        assert_eq!(split_record_key(b"\x07defaultorder-1"), Some(("default", "order-1")));
        assert_eq!(namespace_of(b"\x07defaultorder-1"), b"default");
    }

    #[test]
    fn different_names_never_share_a_record_key() {
        assert_ne!(record_key(&key("a", "bc")), record_key(&key("ab", "c")));
    }

    #[test]
    fn expiry_keys_sort_by_time_first() {
        let early = expiry_key(Moment::from_millis(255), &record_key(&key("z", "z")));
        let late = expiry_key(Moment::from_millis(256), &record_key(&key("a", "a")));
        assert!(early < late);
        assert_eq!(split_expiry_key(&late), Some((Moment::from_millis(256), &b"\x01aa"[..])));
    }

    #[test]
    fn damaged_keys_are_noticed() {
        assert_eq!(split_expiry_key(b"\x00\x00"), None);
        assert_eq!(split_expiry_key(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01aa"), None);
        assert_eq!(split_record_key(b""), None);
        assert_eq!(split_record_key(b"\x09abc"), None);
        assert_eq!(namespace_of(b"\x09abc"), b"abc");
        assert_eq!(namespace_of(b""), b"");
    }
}
