//! `onced backup`: has a running server make a backup, or list those that it has.

use clap::Args;

use super::admin::this_user;
use super::args::OutputArgs;
use super::failure::Failure;
use super::remote::{AdminClient, RemoteArgs};
use super::{Exit, json, print, text};
use crate::pb::v1::{Backup as Made, CreateBackupRequest, ListBackupsRequest};

/// Have the server make a backup of its store
///
/// It goes to the directory on the server's machine that the setting backup_dir names, and has
/// everything that was answered before. Callers are served meanwhile. Tables that an earlier
/// backup has are not copied again; the oldest of those that are more than backup_keep go.
///
/// "onced verify" checks a backup, and "onced restore" makes a store of one.
#[derive(Debug, Args)]
// A backup takes as long as its tables take to copy.
#[command(mut_arg("timeout", |arg| arg.default_value("1h")))]
#[command(after_help = "\
Example:
  onced backup
  onced backup --list")]
pub(super) struct Backup {
    /// Make none, and list those that there are
    #[arg(long, conflicts_with = "reason")]
    list: bool,
    /// Why: 1 to 512 characters, written to the server's log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who asks: 1 to 128 characters, written to the server's log
    #[arg(long, value_name = "NAME", default_value_t = this_user())]
    operator: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Backup {
    pub(super) async fn execute(self) -> Exit {
        let done = match self.list {
            true => self.show_all().await,
            false => self.make().await,
        };
        match done {
            Ok(()) => Exit::Done,
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn make(&self) -> Result<(), Failure> {
        let request = CreateBackupRequest {
            reason: self.reason.clone().unwrap_or_default(),
            operator: self.operator.clone(),
        };
        let answer = self
            .remote
            .admin()?
            .call(request, async |mut client: AdminClient, request| {
                client.create_backup(request).await
            })
            .await?;
        print::answer(&json::backup(&answer.backup.unwrap_or_default()), self.output.json);
        Ok(())
    }

    async fn show_all(&self) -> Result<(), Failure> {
        let answer = self
            .remote
            .admin()?
            .call(ListBackupsRequest {}, async |mut client: AdminClient, request| {
                client.list_backups(request).await
            })
            .await?;
        show(&answer.backups, self.output.json);
        Ok(())
    }
}

/// Prints a table for people, or a JSON array.
pub(super) fn show(backups: &[Made], json: bool) {
    const COLUMNS: [(&str, &str); 5] = [
        ("BACKUP", "backup_id"),
        ("MADE", "create_time"),
        ("BYTES", "size_bytes"),
        ("FILES", "files"),
        ("DAMAGED", "damaged"),
    ];
    let rows: Vec<_> = backups.iter().map(json::backup).collect();
    if json {
        print::answer(&rows.into(), true);
    } else if !rows.is_empty() {
        print::line(text::columns(&COLUMNS, &rows).trim_end());
    }
}
