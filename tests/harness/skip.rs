//! Skipping a test where the machine lacks something, loudly.

use std::io::Write as _;

/// Says that a test was skipped, also where the test's output is captured.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("ONCED_REQUIRE_CLIENTS").is_none_or(|value| value != "1"),
        "{test} cannot be skipped with ONCED_REQUIRE_CLIENTS=1: {why}"
    );
    // The macros would be captured; this is not.
    std::io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes()).unwrap();
}
