//! The replay of a completion: what the command wrote and how it ended, without running it.

use std::io::{self, Write};

use super::capture::Kept;
use super::notice::Notices;
use super::options::Replayed;
use super::recording::Recording;
use crate::cli::Exit;
use crate::pb::v1::{Completion, Result};

/// Writes what the command wrote when it ran, and says how it ended then.
pub(super) fn replay(completion: &Completion, what: Replayed, notices: Notices) -> Exit {
    let response = completion.response.clone().unwrap_or_default();
    let (failed, code) = match completion.result() {
        Result::Succeeded => (false, 0),
        Result::Failed | Result::Unspecified => (true, 1),
    };
    let attempt = completion.attempt;
    let when = completion.complete_time.map(|time| format!(" at {time}")).unwrap_or_default();
    if let Some(recording) = Recording::of_response(&response) {
        let code = recording.code;
        match what {
            Replayed::All => {
                write(&mut io::stdout().lock(), &recording.stdout);
                write(&mut io::stderr().lock(), &recording.stderr);
            }
            Replayed::ExitCode => {}
        }
        notices.tell(&format!("replayed: attempt {attempt} ended with exit code {code}{when}"));
        return Exit::Command(code);
    }
    if completion.response_omitted {
        notices.tell(&format!(
            "attempt {attempt} ended{when}; the output was larger than the server stores"
        ));
        let stored = u8::try_from(response.status_code).ok();
        return Exit::Command(stored.filter(|stored| (*stored != 0) == failed).unwrap_or(code));
    }
    notices.tell(&format!(
        "completed{when} by something other than onced run; its response is what is replayed"
    ));
    if what == Replayed::All {
        let _ = io::stdout().lock().write_all(&response.payload);
    }
    Exit::Command(code)
}

/// Writes a stream as it was. Where a piece of it is missing the stream itself says so:
/// whoever reads it must not take the two ends for neighbours.
fn write(out: &mut impl Write, kept: &Kept) {
    let Some(gap) = kept.gap else {
        let _ = out.write_all(&kept.bytes);
        return;
    };
    let (before, after) = kept.bytes.split_at(gap.at);
    let missing = gap.bytes;
    let mark = format!("\n[onced run: {missing} bytes of the output were not kept]\n");
    let _ = out
        .write_all(before)
        .and_then(|()| out.write_all(mark.as_bytes()))
        .and_then(|()| out.write_all(after));
}
