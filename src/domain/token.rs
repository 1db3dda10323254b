//! Two tokens with different jobs: the owner token proves possession to onced, the
//! fencing token orders owners for systems downstream.

use std::fmt;

/// A random UUID, known to the owner of a reservation and to nobody else.
#[derive(Clone, Copy)]
pub struct OwnerToken([u8; 16]);

impl OwnerToken {
    /// The token with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the token. They are stored and handed to the owner, never shown.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Takes the same time for every pair of tokens, so that a guess learns nothing from how
/// long its refusal took.
impl PartialEq for OwnerToken {
    fn eq(&self, other: &Self) -> bool {
        (u128::from_ne_bytes(self.0) ^ u128::from_ne_bytes(other.0)) == 0
    }
}

impl Eq for OwnerToken {}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(…)")
    }
}

/// A positive number, strictly increasing per key, for ever. Martin Kleppmann's "How to do
/// distributed locking" shows what it is for: a store that refuses smaller numbers than it
/// has seen is safe from owners that paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(i64);

impl FencingToken {
    /// The first token that an engine gives out.
    pub const FIRST: Self = Self(1);

    /// The token with this number, unless it is not positive.
    pub const fn new(number: i64) -> Option<Self> {
        if number > 0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The token after this one.
    ///
    /// # Panics
    ///
    /// After 2^63 - 1 grants: 292 years at a thousand million a second.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => panic!("fencing tokens are used up"),
        }
    }
}
