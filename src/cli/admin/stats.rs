//! `onced admin stats`: shows how a server and its store are.

use clap::Args;

use crate::cli::args::OutputArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::{AdminClient, RemoteArgs};
use crate::cli::{Exit, json, print};
use crate::pb::v1::{GetStatsRequest, GetStatsResponse};

/// Show how the server and its store are
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin stats
  onced admin stats --json | jq .store.in_doubt_records")]
pub(super) struct Stats {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Stats {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::stats(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<GetStatsResponse, Failure> {
        let remote = self.remote.admin()?;
        let answer = remote
            .call(GetStatsRequest {}, async |mut client: AdminClient, request| {
                client.get_stats(request).await
            })
            .await?;
        Ok(answer)
    }
}
