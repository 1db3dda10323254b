//! `onced lookup`: shows what is on record for a key.

use clap::Args;
use tonic::Status;

use super::args::{KeyArgs, OutputArgs};
use super::failure::Failure;
use super::remote::{Client, RemoteArgs};
use super::{Exit, json, print};
use crate::pb::v1::{LookupRequest, LookupResponse};

/// Show what is on record for a key, and change nothing
///
/// The exit code is 1 where nothing is on record.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced lookup order-4711
  onced lookup order-4711 --json | jq -r .completion.response.payload_text")]
pub(super) struct Lookup {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Lookup {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::lookup(&answer), self.output.json);
                Exit::Done
            }
            Err(status) => Failure::from(status).report(self.output.json),
        }
    }

    async fn call(&self) -> Result<LookupResponse, Status> {
        let request = LookupRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            wait_timeout: None,
        };
        let remote = self.remote.remote();
        remote.call(request, async |mut client: Client, request| client.lookup(request).await).await
    }
}
