//! The replay of a completion: what the command wrote and how it ended, without running it.

use std::io::{self, Write as _};

use super::output::Recorded;
use super::say;
use crate::cli::Exit;
use crate::pb::v1::{Completion, Result};

/// Writes what the command wrote when it ran, and says how it ended then.
pub(super) fn replay(completion: &Completion) -> Exit {
    let response = completion.response.clone().unwrap_or_default();
    let (failed, code) = match completion.result() {
        Result::Succeeded => (false, 0),
        Result::Failed | Result::Unspecified => (true, 1),
    };
    if let Some(recorded) = Recorded::of_response(&response) {
        let _ = io::stdout().lock().write_all(&recorded.stdout.bytes);
        let _ = io::stderr().lock().write_all(&recorded.stderr.bytes);
        if recorded.stdout.truncated || recorded.stderr.truncated {
            say("replayed; the output was longer than what was kept of it");
        }
        return Exit::Command(recorded.code);
    }
    if completion.response_omitted {
        say("completed; the output was larger than the server stores");
        let stored = u8::try_from(response.status_code).ok();
        return Exit::Command(stored.filter(|stored| (*stored != 0) == failed).unwrap_or(code));
    }
    say("completed by something other than onced run; this is its response");
    let _ = io::stdout().lock().write_all(&response.payload);
    Exit::Command(code)
}
