//! Skipping a test where the machine lacks something, loudly; and finding out whether it does.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::io::Write as _;
use std::process::Command;

/// Says that a test was skipped, also where the test's output is captured.
pub fn skip(test: &str, why: &str) {
    assert!(
        std::env::var_os("ONCED_REQUIRE_CLIENTS").is_none_or(|value| value != "1"),
        "{test} cannot be skipped with ONCED_REQUIRE_CLIENTS=1: {why}"
    );
    // The macros would be captured; this is not.
    std::io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes()).unwrap();
}

/// The tool that a variable names, or else the one on the PATH, if it runs.
pub fn tool(variable: &str, name: &str, probe: &[&str]) -> Result<String, String> {
    let program = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
    match Command::new(&program).args(probe).output() {
        Ok(output) if output.status.success() => Ok(program),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} does not do: {}", said.lines().last().unwrap_or_default()))
        }
        Err(error) => {
            Err(format!("{program} cannot be run ({error}); {variable} can name another"))
        }
    }
}
