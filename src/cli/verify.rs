//! `onced verify`: reads a data directory or a backup offline, and says whether it is whole.

mod report;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tonic::Status;
use uuid::Uuid;

use self::report::Report;
use super::args::OutputArgs;
use super::failure::Failure;
use super::inspect::{log_errors, unopened};
use super::restore::unrestored;
use super::{Exit, print};
use crate::storage::rocks::backup::is_directory_of_backups;
use crate::storage::rocks::restore::{choose, extract};
use crate::storage::rocks::verify::verify;

/// Check offline that a data directory or a backup is whole
///
/// Every record is read, and held against the indices, the counters, the high-water marks and
/// the erases, in both directions; RocksDB holds every block against its checksum. Nothing is
/// changed. A server that has the directory open must be stopped; a copy, or a backup, will do as
/// well.
///
/// A backup is checked by restoring it into a scratch directory, which takes as much room as the
/// store had, and goes afterwards.
///
/// The exit code is 1 if anything is wrong, and 3 if the directory cannot be opened.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced verify ./onced-data
  onced verify /var/backups/onced --id 41 --scratch /var/tmp")]
pub(super) struct Verify {
    /// The data directory, or a directory of backups
    path: PathBuf,
    /// Which backup; by default the latest
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    id: Option<u32>,
    /// Where a backup is restored to for the time being; by default the system's directory for
    /// temporary files
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// How many faults are listed; they are counted all the same
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    pub(super) fn execute(self) -> Exit {
        log_errors();
        let verified = match is_directory_of_backups(&self.path) {
            true => self.verify_backup(),
            false if self.id.is_some() => {
                let path = self.path.display();
                Err(Failure::Usage(format!("--id is given, and {path} is no directory of backups")))
            }
            false => self.verify_store(&self.path, None),
        };
        match verified {
            Ok(report) => {
                match self.output.json {
                    true => print::answer(&report.to_json(&self.path), true),
                    false => print::line(report.to_text(&self.path).trim_end()),
                }
                report.exit()
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    fn verify_store(&self, path: &Path, backup_id: Option<u32>) -> Result<Report, Failure> {
        let mut report = Report::new(backup_id, self.limit);
        let looked = verify(path, |finding| report.take(&finding)).map_err(unopened)?;
        report.end(looked);
        Ok(report)
    }

    fn verify_backup(&self) -> Result<Report, Failure> {
        let backup = choose(&self.path, self.id).map_err(unrestored)?;
        let scratch = Scratch::within(self.scratch.clone().unwrap_or_else(std::env::temp_dir))?;
        extract(&self.path, backup.id, &scratch.0).map_err(unrestored)?;
        self.verify_store(&scratch.0, Some(backup.id))
    }
}

/// A directory that goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn within(parent: PathBuf) -> Result<Self, Failure> {
        let path = parent.join(format!("onced-verify-{}", Uuid::new_v4()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(Failure::from(Status::unavailable(format!(
                "cannot create {}: {error}; --scratch names another place",
                path.display()
            )))),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            print::complain(&format!("onced: cannot remove {}: {error}", self.0.display()));
        }
    }
}
