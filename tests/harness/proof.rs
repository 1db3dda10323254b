//! How hard a run attacks, and the rows of the table that `make proof` prints.
//!
//! A suite that is part of the proof has a short form, which is what `make test` runs, and a
//! long one. Both attack in the same way; the long one does it more often. A row says what
//! was attacked and how often, and what was lost; it is written only where the test holds, so
//! a suite that fails has no row, and `make proof` fails with it.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::fs::OpenOptions;
use std::io::Write as _;

/// Where rows go, one line each, fields between tabs; set by `make proof`.
const ROWS: &str = "ONCED_PROOF_ROWS";

/// Whether this is the long form.
pub fn is_long() -> bool {
    std::env::var_os(ROWS).is_some()
}

/// `short` in `make test`, `long` in `make proof`.
pub fn effort<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// One row: what an attack on a promise came to.
pub struct Row<'a> {
    /// The promise by its number and in a few words, as in "2 durable before answered".
    pub promise: &'a str,
    /// What was done to break it.
    pub attack: &'a str,
    /// How often, with the unit: "200 cuts, 413,022 acknowledged answers".
    pub times: &'a str,
    /// How many acknowledged answers turned out untrue. Anything but zero is a bug, and the
    /// test that finds it fails.
    pub lost: u64,
}

impl Row<'_> {
    /// Prints the row, and appends it to the table of `make proof`.
    pub fn report(&self) {
        let Row { promise, attack, times, lost } = self;
        println!("proof: {promise} | {attack} | {times} | lost: {lost}");
        assert_eq!(*lost, 0, "{promise}: {attack}");
        let Some(path) = std::env::var_os(ROWS) else { return };
        let mut table = OpenOptions::new().create(true).append(true).open(path).unwrap();
        // One write, so that tests that end together do not mix their rows.
        table.write_all(format!("{promise}\t{attack}\t{times}\t{lost}\n").as_bytes()).unwrap();
    }
}
