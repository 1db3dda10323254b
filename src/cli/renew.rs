//! `onced renew`: extends a lease.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{self, KeyArgs, OutputArgs, OwnerArgs};
use super::failure::Failure;
use super::remote::{Client, RemoteArgs, wire};
use super::{Exit, json, print};
use crate::pb::v1::{RenewRequest, RenewResponse};

/// Extend a lease from now on, and leave a checkpoint for the next attempt
///
/// Without a checkpoint, the stored one is kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced renew order-4711 --owner-token 0e7f… --lease 1m --checkpoint 'charged, not shipped'")]
pub(super) struct Renew {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    owner: OwnerArgs,
    /// The length of the lease from now on; the server's default otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    lease: Option<Duration>,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct CheckpointArgs {
    /// What the next attempt should know if this one vanishes; empty clears the stored one
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    checkpoint: Option<String>,
    /// Read the checkpoint from this file, at most 64 KiB; "-" is stdin
    #[arg(long, value_name = "FILE")]
    checkpoint_file: Option<PathBuf>,
}

impl Renew {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::renew(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<RenewResponse, Failure> {
        let checkpoint = match (&self.checkpoint.checkpoint, &self.checkpoint.checkpoint_file) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(path)) => Some(args::read(path)?),
            (None, None) => None,
        };
        let request = RenewRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            owner_token: self.owner.owner_token.clone(),
            lease: self.lease.map(wire),
            checkpoint,
        };
        let remote = self.remote.remote()?;
        Ok(remote
            .call(request, async |mut client: Client, request| client.renew(request).await)
            .await?)
    }
}
