//! `onced admin log`: changes what a server logs while it runs.

use std::time::Duration;

use clap::Args;

use super::AccountArgs;
use crate::cli::args::{self, OutputArgs};
use crate::cli::failure::Failure;
use crate::cli::remote::{AdminClient, RemoteArgs, wire};
use crate::cli::{Exit, json, print};
use crate::pb::v1::{SetLogFilterRequest, SetLogFilterResponse};

/// Change what the server logs
///
/// Until the next change, for the time that --for says, or until the server is restarted. What
/// operators do is logged whatever the filter says.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin log debug --for 10m --reason 'ticket 4711'
  onced admin log warn,onced::slow=off --reason 'the disk is being replaced'
  onced admin log --reason 'done'")]
pub(super) struct Log {
    /// A level (off, error, warn, info, debug, trace), or MODULE=LEVEL, with commas between;
    /// none: what the server's settings say
    #[arg(value_name = "DIRECTIVES", default_value = "", hide_default_value = true)]
    filter: String,
    /// After how long the server goes back to its settings, from 1s to 24h
    #[arg(long = "for", value_name = "DURATION", value_parser = args::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Log {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::log_filter(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<SetLogFilterResponse, Failure> {
        let remote = self.remote.admin()?;
        let request = SetLogFilterRequest {
            filter: self.filter.clone(),
            reason: self.account.reason.clone(),
            operator: self.account.operator.clone(),
            duration: self.duration.map(wire),
        };
        let answer = remote
            .call(request, async |mut client: AdminClient, request| {
                client.set_log_filter(request).await
            })
            .await?;
        Ok(answer)
    }
}
