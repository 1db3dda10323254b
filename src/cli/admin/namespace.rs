//! `onced admin namespace`: shows what applies in a namespace.

use clap::Args;

use crate::cli::args::OutputArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::{AdminClient, RemoteArgs};
use crate::cli::{Exit, json, print};
use crate::pb::v1::{DescribeNamespaceRequest, DescribeNamespaceResponse};

/// Show what applies in a namespace
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin namespace payments
  onced admin namespace payments --json | jq .quota_keys")]
pub(super) struct Namespace {
    /// Which: 1 to 63 characters of a-z, 0-9, '-', '_' and '.'
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Namespace {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::policy(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<DescribeNamespaceResponse, Failure> {
        let remote = self.remote.admin()?;
        let request = DescribeNamespaceRequest { namespace: self.namespace.clone() };
        let answer = remote
            .call(request, async |mut client: AdminClient, request| {
                client.describe_namespace(request).await
            })
            .await?;
        Ok(answer)
    }
}
