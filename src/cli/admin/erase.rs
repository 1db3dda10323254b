//! `onced admin erase`: erases a namespace, and shows how far that has come.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::AccountArgs;
use super::confirm::ask_for_name;
use crate::cli::args::OutputArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::{AdminClient, RemoteArgs};
use crate::cli::{Exit, json, print};
use crate::pb::v1::{self, EraseNamespaceRequest};

/// How often the server is asked how far it has come.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often a line is printed where no bar can be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Take away all records of a namespace
///
/// The server goes on by itself if this command is ended, and after a restart. The same command
/// with the same --erase-id then shows how far it has come. What is granted after the erase has
/// begun stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin erase tenant-7 --reason 'contract ended, ticket 4711'")]
pub(super) struct Erase {
    /// The namespace
    namespace: String,
    #[command(flatten)]
    account: AccountArgs,
    /// The name of the erase; a random one otherwise
    #[arg(long, value_name = "UUID", default_value_t = Uuid::new_v4(), hide_default_value = true)]
    erase_id: Uuid,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Erase {
    pub(super) async fn execute(self) -> Exit {
        match self.erase().await {
            Ok(Some(erase)) => {
                print::answer(&json::erase(&erase), self.output.json);
                Exit::Done
            }
            Ok(None) => Exit::Refused,
            Err(failure) => failure.report(self.output.json),
        }
    }

    /// Follows the erase to its end. `None` where somebody was asked, and said no.
    async fn erase(&self) -> Result<Option<v1::Erase>, Failure> {
        if !self.yes && !ask_for_name(&self.namespace)? {
            return Ok(None);
        }
        let remote = self.remote.admin()?;
        let request = EraseNamespaceRequest {
            namespace: self.namespace.clone(),
            reason: self.account.reason.clone(),
            operator: self.account.operator.clone(),
            erase_id: self.erase_id.to_string(),
        };
        let mut progress = Progress::begin();
        print::complain(&format!("onced: --erase-id {} finds this erase again", self.erase_id));
        loop {
            let answer = remote
                .call(request.clone(), async |mut client: AdminClient, request| {
                    client.erase_namespace(request).await
                })
                .await?;
            let erase = answer.erase.unwrap_or_default();
            // Another one may still be running there; then this one begins after it.
            let is_ours = erase.erase_id == request.erase_id;
            if is_ours && erase.done {
                progress.end();
                return Ok(Some(erase));
            }
            progress.show(&erase, is_ours);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// How far it has come, on stderr: a bar on a terminal, and a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    line_due_at: Instant,
}

impl Progress {
    fn begin() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            // How much there is to do is known when it is done.
            let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]");
            ProgressBar::new_spinner().with_style(style.expect("the template is right"))
        });
        Self { bar, line_due_at: Instant::now() }
    }

    fn show(&mut self, erase: &v1::Erase, is_ours: bool) {
        let whose = if is_ours { "" } else { " by another erase, which comes first" };
        let message = format!("{} records erased{whose}", erase.erased_records);
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.tick();
            }
            None if Instant::now() >= self.line_due_at => {
                print::complain(&format!("onced: {message}"));
                self.line_due_at = Instant::now() + LINE_INTERVAL;
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
