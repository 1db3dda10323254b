//! What an operation is called: a namespace and an idempotency key.
//!
//! Both are checked here, once, and carried as types from then on. Everything else about
//! the identity of an operation belongs into its [`Fingerprint`](super::Fingerprint).

use std::fmt;

/// A namespace: 1 to 63 characters of `a-z`, `0-9`, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

/// Why a string is not a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceError {
    /// It has no characters, or this many, more than [`Namespace::MAX_BYTES`].
    Length(usize),
    /// The character at this position (from 0) is outside the alphabet.
    Character(usize),
}

impl Namespace {
    /// The length of the longest namespace.
    pub const MAX_BYTES: usize = 63;
    /// The namespace that an empty field stands for.
    pub const DEFAULT: &'static str = "default";

    /// Checks `name`. An empty name is an error here; the edge maps it to the default.
    pub fn new(name: String) -> Result<Self, NamespaceError> {
        if name.is_empty() || name.len() > Self::MAX_BYTES {
            return Err(NamespaceError::Length(name.len()));
        }
        match name
            .bytes()
            .position(|byte| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        {
            Some(at) => Err(NamespaceError::Character(at)),
            None => Ok(Self(name)),
        }
    }

    /// The namespace as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "has {length} bytes; must have 1 to {}", Namespace::MAX_BYTES)
            }
            Self::Character(at) => {
                write!(f, "byte {at} is outside a-z, 0-9, '-', '_' and '.'")
            }
        }
    }
}

impl std::error::Error for NamespaceError {}

/// An idempotency key: 1 to 255 bytes of printable ASCII, as in the IETF draft
/// "The Idempotency-Key HTTP Header Field". Case-sensitive and never normalised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

/// Why a string is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It has no bytes, or this many, more than [`IdempotencyKey::MAX_BYTES`].
    Length(usize),
    /// The byte at this position (from 0) is not printable ASCII.
    Character(usize),
}

impl IdempotencyKey {
    /// The length of the longest key.
    pub const MAX_BYTES: usize = 255;

    /// Checks `key`.
    pub fn new(key: String) -> Result<Self, KeyError> {
        if key.is_empty() || key.len() > Self::MAX_BYTES {
            return Err(KeyError::Length(key.len()));
        }
        match key.bytes().position(|byte| !matches!(byte, 0x20..=0x7e)) {
            Some(at) => Err(KeyError::Character(at)),
            None => Ok(Self(key)),
        }
    }

    /// The key as text. Keys may name people or orders: they stay out of logs and messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} bytes)", self.0.len())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "has {length} bytes; must have 1 to {}", IdempotencyKey::MAX_BYTES)
            }
            Self::Character(at) => {
                write!(f, "byte {at} is not printable ASCII (0x20 to 0x7e)")
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// The full name of one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Where the key lives.
    pub namespace: Namespace,
    /// The key itself.
    pub key: IdempotencyKey,
}
