//! `onced release`: gives a reservation back.

use clap::Args;

use super::args::{KeyArgs, OutputArgs, OwnerArgs};
use super::failure::Failure;
use super::remote::{Client, RemoteArgs};
use super::{Exit, json, print};
use crate::pb::v1::{ReleaseRequest, ReleaseResponse};

/// Give a reservation back: the operation certainly did not happen
///
/// Anyone may try again at once. The owner token is spent by it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced release order-4711 --owner-token 0e7f…")]
pub(super) struct Release {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Release {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::release(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<ReleaseResponse, Failure> {
        let request = ReleaseRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            owner_token: self.owner.owner_token.clone(),
        };
        let remote = self.remote.remote()?;
        let answer = remote
            .call(request, async |mut client: Client, request| client.release(request).await)
            .await?;
        Ok(answer)
    }
}
