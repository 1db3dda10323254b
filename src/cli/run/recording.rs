//! How a command ended and what is kept of its output, as the response that is stored.
//!
//! The payload is what went to stdout followed by what went to stderr, as they are, and the
//! metadata says where the one ends and what is missing. Why not JSON: its base64 would be a
//! third larger, and `onced lookup` shows this one as the text that it mostly is.

use crate::cli::run::capture::{Gap, Kept};
use crate::pb::v1::Response;

const CONTENT_TYPE: &str = "application/vnd.onced.run";
const STDOUT_BYTES: &str = "stdout_bytes";

/// The names of the metadata that tell of a gap in a stream.
struct GapNames {
    at: &'static str,
    bytes: &'static str,
}

const STDOUT_GAP: GapNames = GapNames { at: "stdout_omitted_at", bytes: "stdout_omitted_bytes" };
const STDERR_GAP: GapNames = GapNames { at: "stderr_omitted_at", bytes: "stderr_omitted_bytes" };

/// How a command ended, and what is kept of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recording {
    pub code: u8,
    pub stdout: Kept,
    pub stderr: Kept,
}

impl Recording {
    /// The response that is stored.
    pub(super) fn to_response(&self) -> Response {
        let mut response = Response {
            payload: [self.stdout.bytes.as_slice(), self.stderr.bytes.as_slice()].concat(),
            content_type: CONTENT_TYPE.to_owned(),
            status_code: self.code.into(),
            ..Response::default()
        };
        let mut note = |name: &str, value: String| response.metadata.insert(name.to_owned(), value);
        note(STDOUT_BYTES, self.stdout.bytes.len().to_string());
        for (kept, names) in [(&self.stdout, STDOUT_GAP), (&self.stderr, STDERR_GAP)] {
            if let Some(gap) = kept.gap {
                note(names.at, gap.at.to_string());
                note(names.bytes, gap.bytes.to_string());
            }
        }
        response
    }

    /// What was stored, unless it was stored by something else than `onced run`.
    pub(super) fn of_response(response: &Response) -> Option<Self> {
        if response.content_type != CONTENT_TYPE {
            return None;
        }
        let stdout_bytes = response.metadata.get(STDOUT_BYTES)?.parse().ok()?;
        let (stdout, stderr) = response.payload.split_at_checked(stdout_bytes)?;
        Some(Self {
            code: u8::try_from(response.status_code).ok()?,
            stdout: kept(response, stdout, &STDOUT_GAP)?,
            stderr: kept(response, stderr, &STDERR_GAP)?,
        })
    }
}

fn kept(response: &Response, bytes: &[u8], names: &GapNames) -> Option<Kept> {
    let gap = match (response.metadata.get(names.at), response.metadata.get(names.bytes)) {
        (None, None) => None,
        (at, omitted) => Some(Gap { at: at?.parse().ok()?, bytes: omitted?.parse().ok()? }),
    };
    let is_within = gap.is_none_or(|gap| gap.at <= bytes.len());
    is_within.then(|| Kept { bytes: bytes.to_vec(), gap })
}
