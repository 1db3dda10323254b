//! Writing to stdout and stderr without panicking when nobody reads: `onced lookup … | head`
//! is a fine thing to type.

use std::io::{self, Write as _};

use serde_json::Value;

use super::text;

/// Prints an answer: as a table for people, or as JSON.
pub(super) fn answer(answer: &Value, json: bool) {
    out(&if json { format!("{answer:#}\n") } else { text::table(answer) });
}

/// Prints `line` and a line break to stdout.
pub(super) fn line(line: &str) {
    out(&format!("{line}\n"));
}

fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints `message` and a line break to stderr.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}
