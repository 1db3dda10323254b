//! `onced lookup`: shows what is on record for a key.

use std::time::Duration;

use clap::Args;

use super::args::{KeyArgs, OutputArgs, WaitArgs};
use super::failure::Failure;
use super::remote::{Client, Remote, RemoteArgs};
use super::{Exit, json, print};
use crate::pb::v1::{LookupRequest, LookupResponse, RecordState};

/// How soon to ask again where the server does not let the call wait.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Show what is on record for a key, and change nothing
///
/// The exit code is 1 where nothing is on record. With --wait it comes back as soon as the
/// reservation is completed, released, or its lease is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced lookup order-4711
  onced lookup order-4711 --wait 30s
  onced lookup order-4711 --json | jq -r .completion.response.payload_text")]
pub(super) struct Lookup {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    wait: WaitArgs,
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
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<LookupResponse, Failure> {
        let ask = async |remote: &Remote, wait, limit| {
            let request = LookupRequest {
                namespace: self.key.namespace.clone(),
                key: self.key.key.clone(),
                wait_timeout: Some(wait),
            };
            let send = async |mut client: Client, request| client.lookup(request).await;
            remote.call_within(limit, request, send).await
        };
        let busy = |answer: &LookupResponse| {
            let state = answer.record.as_ref()?.state();
            (state == RecordState::Held).then_some(ASK_AGAIN)
        };
        Ok(self.remote.remote()?.wait(self.wait.limit(), ask, busy).await?)
    }
}
