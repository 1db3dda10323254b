//! `onced inspect`: reads a data directory offline, and says what it holds and whether all
//! of it can be read.
//!
//! It shows what `Lookup` shows, less the stored responses and checkpoints: those and the
//! owner tokens never leave the directory. As JSON it is one object; fields are added, never
//! renamed, and what is absent is `null`.

mod report;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;
use tonic::Status;

use self::report::Report;
use super::args::OutputArgs;
use super::failure::Failure;
use super::{Exit, print};
use crate::storage::rocks::inspect::Inspection;
use crate::storage::{EngineError, OpenError};

/// Read a data directory offline, and show what it holds
///
/// Meant for a directory that no server has open: the one of a stopped server, or a copy.
/// Nothing is changed. Owner tokens, stored responses and checkpoints are never shown.
///
/// There is no clock but the stored one: every state is that at clock_high_water, which no
/// answer of the server is later than; after a crash it is up to a second ahead. A lease
/// that is held at it may be long over, and when a server starts again, owners get its
/// restart_grace to renew. "vacant" are records whose retention is over and which only wait
/// to be purged.
///
/// What each namespace has on record is counted, and held against the counters that quotas go
/// by: keys, and the bytes of keys and records. A store of format 1 has no counters yet.
///
/// The exit code is 1 if damage or a wrong counter was found, and 3 if the directory cannot be
/// opened or read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced inspect ./onced-data --namespace orders --key-prefix 2026-08-
  onced inspect ./onced-data --limit 0 --json | jq .records")]
pub(super) struct Inspect {
    /// The data directory: what stands behind rocksdb: in the setting store
    path: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// How many records are listed; they are counted all the same
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which records are counted and listed. Damaged ones always are.
#[derive(Clone, Debug, Default, Args)]
struct Selection {
    /// Only records in this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only records whose key begins with this
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    key_prefix: Option<String>,
}

impl Selection {
    fn has(&self, namespace: &str, key: &str) -> bool {
        self.namespace.as_ref().is_none_or(|only| only == namespace)
            && self.key_prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
    }
}

impl Inspect {
    pub(super) fn execute(self) -> Exit {
        log_errors();
        match self.read() {
            Ok(report) if self.output.json => {
                print::answer(&report.to_json(&self.path), true);
                report.exit()
            }
            Ok(report) => {
                print::line(report.to_text(&self.path).trim_end());
                report.exit()
            }
            Err(failure) => {
                failure.report(self.output.json);
                Exit::Unavailable
            }
        }
    }

    fn read(&self) -> Result<Report, Failure> {
        let inspection = Inspection::open(&self.path).map_err(unopened)?;
        let marks = inspection.marks().map_err(unread)?;
        let counters = inspection.usages().map_err(unread)?;
        let mut report = Report::new(marks, counters, self.selection.clone(), self.limit);
        let scanned = inspection.scan(|found| {
            report.take(found);
            true
        });
        match scanned {
            Ok(()) => {}
            Err(EngineError::Corrupted) => report.cut_short(),
            Err(error) => return Err(unread(error)),
        }
        Ok(report)
    }
}

/// The engine logs the causes of its errors and hands on only what they mean.
pub(super) fn log_errors() {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR);
    let _ = log.without_time().with_ansi(false).with_writer(std::io::stderr).try_init();
}

pub(super) fn unopened(error: OpenError) -> Failure {
    let message = error.to_string();
    Failure::from(match error {
        OpenError::Missing { .. } => Status::not_found(message),
        OpenError::Format { .. } => Status::failed_precondition(message),
        OpenError::Damaged { .. } => Status::data_loss(message),
        OpenError::InUse { .. } | OpenError::Unavailable { .. } => Status::unavailable(message),
    })
}

fn unread(error: EngineError) -> Failure {
    Failure::from(match error {
        EngineError::Corrupted => Status::data_loss("the engine's own data is damaged"),
        error => Status::unavailable(error.to_string()),
    })
}
