//! What the exit codes mean, and which one a gRPC status gets.

use std::error::Error as _;
use std::process::ExitCode;

use tonic::{Code, Status};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, which includes the replay of a completion.
    Done,
    /// 1: refused by the state of the key: in progress, in doubt, another fingerprint,
    /// lease lost, nothing on record, completed differently.
    Refused,
    /// 2: the command line, the settings or the credentials are wrong.
    Usage,
    /// 3: the server cannot be reached, cannot serve, or did not answer in time.
    Unavailable,
    /// The exit code of the command that `onced run` ran, or replays.
    Command(u8),
}

impl Exit {
    /// The exit that tells of `status`.
    pub fn of(status: &Status) -> Self {
        if is_transport_failure(status) {
            return Self::Unavailable;
        }
        match status.code() {
            Code::Ok => Self::Done,
            Code::FailedPrecondition | Code::Aborted | Code::NotFound | Code::AlreadyExists => {
                Self::Refused
            }
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::Unauthenticated
            | Code::PermissionDenied => Self::Usage,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::DataLoss
            | Code::Internal
            | Code::Unimplemented
            | Code::Unknown => Self::Unavailable,
        }
    }

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Whether `status` was made on this side because the transport failed: those have a
/// source, which does not travel.
pub(super) fn is_transport_failure(status: &Status) -> bool {
    status.source().is_some()
}
