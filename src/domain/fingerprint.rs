//! The caller's digest of the request that a key stands for.

use std::fmt;

/// 0 to 64 bytes, compared for equality. Empty is a fingerprint like any other: it
/// matches only itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<u8>);

/// A fingerprint with this many bytes, more than [`Fingerprint::MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintError(pub usize);

impl Fingerprint {
    /// The length of the longest fingerprint: that of SHA-512.
    pub const MAX_BYTES: usize = 64;

    /// Checks `digest`.
    pub fn new(digest: Vec<u8>) -> Result<Self, FingerprintError> {
        if digest.len() > Self::MAX_BYTES {
            return Err(FingerprintError(digest.len()));
        }
        Ok(Self(digest))
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "has {} bytes; must have 0 to {}", self.0, Fingerprint::MAX_BYTES)
    }
}

impl std::error::Error for FingerprintError {}
