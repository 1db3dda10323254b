//! Which key, owner token and fingerprint a number stands for.
//!
//! Nothing is remembered: a Complete finds the owner token of its Reserve by the number of the
//! key. Keys have the form of UUIDs and come in no order, as idempotency keys do: neighbours in
//! time are no neighbours in a sorted store.

use uuid::Uuid;

/// The length of a key and of an owner token, in bytes.
pub const KEY_BYTES: usize = 36;

/// The length of a fingerprint, in bytes.
pub const FINGERPRINT_BYTES: usize = 32;

/// What makes the keys of one run; no two runs share one.
#[derive(Clone, Copy)]
pub struct Keys {
    run: u64,
}

impl Keys {
    /// The keys of a run that begins.
    pub fn new() -> Self {
        Self { run: Uuid::new_v4().as_u64_pair().0 }
    }

    /// The key with this number.
    pub fn key(self, number: u64) -> [u8; KEY_BYTES] {
        // The first half differs from number to number, and for equal first halves the second
        // differs from run to run, because `mixed` maps no two numbers to one.
        let first = mixed(self.run.wrapping_add(number.wrapping_mul(ODD)));
        hyphenated(first, mixed(first ^ self.run))
    }

    /// The owner token with this number: a UUID of version 4.
    pub fn owner_token(self, number: u64) -> [u8; KEY_BYTES] {
        let first = mixed((!self.run).wrapping_add(number.wrapping_mul(ODD)));
        let second = mixed(first ^ !self.run);
        hyphenated(first & !0xf000 | 0x4000, second & !(0b11 << 62) | (0b10 << 62))
    }

    /// The fingerprint of the request that the key with this number stands for.
    pub fn fingerprint(self, number: u64) -> [u8; FINGERPRINT_BYTES] {
        let mut bytes = [0; FINGERPRINT_BYTES];
        let mut word = number ^ self.run.rotate_left(32);
        for chunk in bytes.chunks_exact_mut(8) {
            word = mixed(word.wrapping_add(ODD));
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The golden ratio as a fraction of 2^64.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finisher of SplitMix64: every bit of the result depends on every bit of the number.
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// 128 bits as 8-4-4-4-12 hex digits.
fn hyphenated(first: u64, second: u64) -> [u8; KEY_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; KEY_BYTES];
    let mut at = 0;
    for (index, byte) in first.to_be_bytes().into_iter().chain(second.to_be_bytes()).enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_numbers_and_no_two_runs_share_a_key() {
        let mut seen = HashSet::new();
        for run in 0..100 {
            for number in 0..1_000 {
                assert!(seen.insert(Keys { run }.key(number)), "run {run}, number {number}");
            }
        }
    }

    #[test]
    fn owner_tokens_are_uuids_of_version_4() {
        let keys = Keys::new();
        for number in 0..1_000 {
            let token = Uuid::try_parse_ascii(&keys.owner_token(number)).unwrap();
            assert_eq!((token.get_version_num(), token.get_variant()), (4, uuid::Variant::RFC4122));
            assert_ne!(keys.owner_token(number), keys.key(number));
        }
    }

    #[test]
    fn the_same_number_stands_for_the_same_request() {
        let keys = Keys::new();
        assert_eq!(keys.fingerprint(7), keys.fingerprint(7));
        assert_ne!(keys.fingerprint(7), keys.fingerprint(8));
    }
}
