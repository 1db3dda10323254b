//! Bearer tokens: how they are made, and what is kept of them.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What tokens begin with, so that people and scanners recognise one that got somewhere else.
const PREFIX: &str = "onced_";

/// How digests are marked in a file.
const SCHEME: &str = "sha256:";

/// As many characters behind [`PREFIX`] count as a token, or as enough of one to be a secret.
const MIN_SECRET: usize = 16;

/// `text` without the secrets of whatever in it looks like a token: it may have been written, or
/// slipped, into any place of a file.
pub fn without_secrets(text: &str) -> String {
    let mut parts = text.split(PREFIX);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let rest = part.trim_start_matches(is_inside);
        let hides = part.len() - rest.len() >= MIN_SECRET;
        shown.push_str(PREFIX);
        shown.push_str(if hides { "…" } else { &part[..part.len() - rest.len()] });
        shown.push_str(rest);
    }
    shown
}

/// A bearer token: a secret.
pub struct Token(String);

impl Token {
    /// A token of 256 random bits.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn mint() -> Result<Self, String> {
        let mut random = [0; 32];
        let source = aws_lc_rs::default_provider().secure_random;
        source.fill(&mut random).map_err(|_| "the system gives no randomness".to_owned())?;
        Ok(Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random))))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a file of credentials has of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }
}

/// It is a secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token, compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads `sha256:` and 64 hex digits, or says what is wrong.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || "is not sha256: and 64 hex digits; `onced token new` makes one".to_owned();
        let digits = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// A caller cannot choose a digest, so that where it falls in a table tells nothing of others.
impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whoever holds a digest cannot call with it; all the same it is no matter for a log.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}
