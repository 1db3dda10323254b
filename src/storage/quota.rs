//! How much a namespace may have on record, and how much it has.
//!
//! What counts is every record that is stored, once, until it is purged: one key, and as many
//! bytes as its record key and its stored value take. Who counts, and when a quota refuses,
//! is said in [`super`].

use std::collections::{BTreeMap, HashMap};

use crate::domain::{Namespace, QuotaKind};

/// How many due records of its namespace are freed at most before a quota refuses.
pub(super) const FREED: usize = 256;

/// How many entries of the expiry index, of all namespaces, are looked at for that.
pub(super) const LOOKED_AT: usize = 1_024;

/// How much a namespace may have on record. `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// How many keys.
    pub keys: Option<u64>,
    /// How many bytes of keys and records.
    pub bytes: Option<u64>,
}

impl Quota {
    /// Whether there is no bound at all.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What stands in the way of one more record of `bytes`, where `usage` is on record.
    pub(super) fn refuses(self, usage: Usage, bytes: u64) -> Option<QuotaKind> {
        let with_it = usage.with(bytes);
        if self.keys.is_some_and(|most| with_it.keys > most) {
            return Some(QuotaKind::Keys);
        }
        if self.bytes.is_some_and(|most| with_it.bytes > most) {
            return Some(QuotaKind::Bytes);
        }
        None
    }
}

/// How much a namespace has on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many keys.
    pub keys: u64,
    /// How many bytes of keys and records.
    pub bytes: u64,
}

/// What each namespace has on record, by the bytes of its name. One without records is not
/// in it.
pub type Usages = BTreeMap<Vec<u8>, Usage>;

impl Usage {
    /// How many bytes it takes when stored.
    const STORED_BYTES: usize = 16;

    /// This and one record of `bytes` more. A counter at its end, which only damage can bring
    /// about, stays there.
    #[must_use]
    pub(super) fn with(self, bytes: u64) -> Self {
        Self { keys: self.keys.saturating_add(1), bytes: self.bytes.saturating_add(bytes) }
    }

    /// This without one record of `bytes`. A counter that is too small, which again is damage,
    /// stays at zero: `onced inspect` tells, and nobody's work stops for it.
    #[must_use]
    pub(super) fn without(self, bytes: u64) -> Self {
        Self { keys: self.keys.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// The stored form.
    pub(super) fn to_bytes(self) -> [u8; Self::STORED_BYTES] {
        let mut bytes = [0; Self::STORED_BYTES];
        bytes[..8].copy_from_slice(&self.keys.to_be_bytes());
        bytes[8..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    /// The usage that `bytes` hold; `None` where they are damaged.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, bytes) = bytes.split_first_chunk::<8>()?;
        let bytes = u64::from_be_bytes(bytes.try_into().ok()?);
        Some(Self { keys: u64::from_be_bytes(*keys), bytes })
    }
}

/// The quotas of all namespaces that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(HashMap<Box<[u8]>, Quota>);

impl Quotas {
    /// The quota of the namespace with this name; none where it has none.
    pub(super) fn of(&self, namespace: &[u8]) -> Quota {
        self.0.get(namespace).copied().unwrap_or_default()
    }
}

impl FromIterator<(Namespace, Quota)> for Quotas {
    fn from_iter<I: IntoIterator<Item = (Namespace, Quota)>>(quotas: I) -> Self {
        let bounded = quotas.into_iter().filter(|(_, quota)| !quota.is_none());
        Self(bounded.map(|(name, quota)| (name.as_str().as_bytes().into(), quota)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_reached_and_not_passed() {
        let quota = Quota { keys: Some(2), bytes: Some(100) };
        let one = Usage { keys: 1, bytes: 60 };
        assert_eq!(quota.refuses(one, 40), None);
        assert_eq!(quota.refuses(one, 41), Some(QuotaKind::Bytes));
        assert_eq!(quota.refuses(one.with(0), 0), Some(QuotaKind::Keys));
        assert_eq!(Quota::default().refuses(Usage { keys: 1 << 40, bytes: 1 << 50 }, 1), None);
    }

    #[test]
    fn a_counter_is_stored_as_two_big_endian_numbers() {
        let usage = Usage { keys: 3, bytes: 0x0102 };
        let stored = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(usage.to_bytes(), stored);
        assert_eq!(Usage::from_bytes(&stored), Some(usage));
        for damaged in [&stored[..15], &[], &[0; 17]] {
            assert_eq!(Usage::from_bytes(damaged), None);
        }
    }
}
