//! `onced restore`: makes a data directory of a backup, without a server.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tonic::Status;

use super::args::OutputArgs;
use super::failure::Failure;
use super::inspect::{log_errors, unopened};
use super::{Exit, backup, json, print};
use crate::api::encode;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::FencingToken;
use crate::storage::backup::BackupError;
use crate::storage::rocks::backup::list;
use crate::storage::rocks::restore::{Order, RestoreError, Restored, restore};

/// The largest fencing token that may be given: as many again can still be given out.
const MAX_FENCING_ABOVE: i64 = 1 << 62;

/// Make a data directory of a backup
///
/// The directory must be empty or not exist: nothing is ever written over. Every file is held
/// against its checksum. Fencing tokens go on at a number that rises with the time of day, above
/// all that any store has given out that had to do with the backup; so the clock of this machine
/// has to be right, or --fencing-above has to say how large they were.
///
/// What was reserved, completed or released after the backup is not known to the restored store:
/// such operations may run again. See "Backup and restore" in the README before callers are let
/// in.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced restore --list /var/backups/onced
  onced restore /var/backups/onced /var/lib/onced/data
  onced restore /var/backups/onced ./yesterday --id 41")]
pub(super) struct Restore {
    /// The directory of backups: what backup_dir is set to
    backups: PathBuf,
    /// The data directory to make: what stands behind rocksdb: in the setting store
    #[arg(required_unless_present = "list")]
    data: Option<PathBuf>,
    /// Which backup; by default the latest
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    id: Option<u32>,
    /// Give out only fencing tokens that are larger than this one
    #[arg(long, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(i64).range(1..=MAX_FENCING_ABOVE))]
    fencing_above: Option<i64>,
    /// Restore nothing, and list the backups that there are
    #[arg(long, conflicts_with_all = ["data", "id", "fencing_above"])]
    list: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Restore {
    pub(super) fn execute(self) -> Exit {
        log_errors();
        let Some(data) = &self.data else { return self.show_all() };
        let order = Order {
            backups: &self.backups,
            id: self.id,
            data,
            fencing_above: self.fencing_above.and_then(FencingToken::new),
            now: SystemClock::new().wall(),
        };
        match restore(order) {
            Ok(restored) => {
                print::answer(&shown(data, &restored), self.output.json);
                Exit::Done
            }
            Err(error) => unrestored(error).report(self.output.json),
        }
    }

    fn show_all(&self) -> Exit {
        match list(&self.backups) {
            Ok(backups) => {
                let backups: Vec<_> = backups.into_iter().map(encode::backup).collect();
                backup::show(&backups, self.output.json);
                Exit::Done
            }
            Err(error) => unrestored(error.into()).report(self.output.json),
        }
    }
}

fn shown(data: &Path, restored: &Restored) -> Value {
    let cut = restored.clock_high_water.map(encode::timestamp);
    json!({
        "data": data.display().to_string(),
        "backup": json::backup(&encode::backup(restored.backup)),
        "clock_high_water": json::moment(cut.as_ref()),
        "fencing_high_water": restored.fencing_high_water.map(FencingToken::get),
        "fencing_above": restored.fencing_above.get(),
    })
}

/// A restore that failed, as other commands tell of theirs.
pub(super) fn unrestored(error: RestoreError) -> Failure {
    let message = error.to_string();
    Failure::from(match error {
        RestoreError::Missing { .. } | RestoreError::Unknown { .. } => Status::not_found(message),
        RestoreError::Damaged { .. } => Status::data_loss(message),
        RestoreError::NotEmpty { .. } => Status::already_exists(message),
        RestoreError::Clock { .. } => {
            return Failure::Usage(format!("{message} with --fencing-above"));
        }
        RestoreError::Open(error) => return unopened(error),
        RestoreError::Backup(BackupError::Busy) => Status::unavailable(message),
        RestoreError::Backup(_) | RestoreError::Unwritable { .. } => Status::unavailable(message),
    })
}
