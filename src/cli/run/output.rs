//! What a command wrote, kept up to a bound, and the response that it is stored as.
//!
//! The payload is what went to stdout followed by what went to stderr, as they are, and the
//! metadata says where the one ends. Why not JSON: its base64 would be a third larger, and
//! `onced lookup` shows this one as the text that it mostly is.

use crate::pb::v1::Response;

/// How much of each stream is kept. Twice that, with the metadata, is below the 1 MiB that
/// the server stores by default.
pub(super) const KEPT_BYTES: usize = 500 << 10;

const CONTENT_TYPE: &str = "application/vnd.onced.run";
const STDOUT_BYTES: &str = "stdout_bytes";
const STDOUT_TRUNCATED: &str = "stdout_truncated";
const STDERR_TRUNCATED: &str = "stderr_truncated";

/// The beginning of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Captured {
    /// What is kept of it.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

impl Captured {
    /// Keeps as much of `chunk` as there is room for.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let kept = chunk.len().min(KEPT_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&chunk[..kept]);
        self.truncated |= kept < chunk.len();
    }
}

/// How a command ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub code: u8,
    pub stdout: Captured,
    pub stderr: Captured,
}

impl Recorded {
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
        if self.stdout.truncated {
            note(STDOUT_TRUNCATED, "true".to_owned());
        }
        if self.stderr.truncated {
            note(STDERR_TRUNCATED, "true".to_owned());
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
        let is_truncated = |name| response.metadata.contains_key(name);
        Some(Self {
            code: u8::try_from(response.status_code).ok()?,
            stdout: Captured { bytes: stdout.to_vec(), truncated: is_truncated(STDOUT_TRUNCATED) },
            stderr: Captured { bytes: stderr.to_vec(), truncated: is_truncated(STDERR_TRUNCATED) },
        })
    }
}
