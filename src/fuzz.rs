//! What the fuzz targets share. There is one for each decoder, in the module that owns it:
//! `api/decode/fuzz.rs`, `api/decode/admin/fuzz.rs`, `storage/codec/fuzz.rs`,
//! `storage/erase/fuzz.rs`, `storage/keys/fuzz.rs`, `config/fuzz.rs`, `access/fuzz.rs`. The name of
//! these files is how `make proof` finds them.
//!
//! They run on stable in `make test`, briefly, and in `make proof` for minutes.
//! `BOLERO_RANDOM_TEST_TIME_MS` sets another time; a failure prints its input, made small,
//! and the seed, which `BOLERO_RANDOM_SEED` repeats. `cargo bolero test` runs the same
//! targets under libFuzzer, guided by coverage.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bolero::TypeGenerator;

use crate::proof::{Row, effort};

/// How long one target runs.
pub fn time() -> Duration {
    effort(Duration::from_millis(700), Duration::from_secs(90))
}

/// How many inputs a target tried, and how many of them were accepted. A generator that makes
/// only one kind of them would look just like a decoder that is right.
pub struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// Nothing counted.
    pub const fn new() -> Self {
        Self { accepted: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Counts an input.
    pub fn count(&self, accepted: bool) {
        let counter = if accepted { &self.accepted } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Reports what came to `decoder`; both kinds of input did.
    pub fn report(&self, decoder: &str) {
        let accepted = self.accepted.load(Ordering::Relaxed);
        let refused = self.refused.load(Ordering::Relaxed);
        assert!(accepted > 0 && refused > 0, "{decoder}: {accepted} accepted, {refused} refused");
        Row {
            promise: "7 bad input is refused at the edge, and stored data is never misread",
            attack: &format!("{decoder}: generated and damaged input"),
            times: &format!("{} inputs, {accepted} of them accepted", accepted + refused),
            lost: 0,
        }
        .report();
    }
}

/// Text as callers may send it: right for most fields, or anything at all.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Text {
    /// Letters that every field takes.
    Name(#[generator(bolero::produce_with::<Vec<u8>>().len(0..80_usize))] Vec<u8>),
    /// As long as it may be, or a little longer.
    Long(#[generator(250..260_usize)] usize),
    /// Any characters.
    Any(String),
}

impl Text {
    /// The text itself.
    pub fn to_text(&self) -> String {
        match self {
            Self::Name(bytes) => {
                bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>()
            }
            Self::Long(length) => "k".repeat(*length),
            Self::Any(text) => text.clone(),
        }
    }
}

/// Damage to the bytes of a valid message: at a place, other bits; then cut to a length.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Harm {
    #[generator(bolero::produce_with::<Vec<(u16, u8)>>().len(0..4_usize))]
    flips: Vec<(u16, u8)>,
    cut: Option<u16>,
    #[generator(bolero::produce_with::<Vec<u8>>().len(0..16_usize))]
    more: Vec<u8>,
}

impl Harm {
    /// Does it.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        for (at, bits) in &self.flips {
            if !bytes.is_empty() {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= bits;
            }
        }
        if let Some(cut) = self.cut {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        bytes.extend_from_slice(&self.more);
    }
}
