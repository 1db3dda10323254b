//! `onced reserve`: asks for the right to run an operation.

use std::time::Duration;

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::args::{self, FingerprintArgs, KeyArgs, OutputArgs, WaitArgs};
use super::failure::Failure;
use super::remote::{Client, Remote, RemoteArgs, wire};
use super::{Exit, json, print};
use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{self, ReserveRequest, ReserveResponse};

/// Ask for the right to run an operation
///
/// Exactly one caller at a time is granted it. The others learn that it is in progress or
/// in doubt (exit code 1), or get the stored response (exit code 0). The owner token of the
/// grant is what complete, release and renew ask for.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced reserve order-4711 --fingerprint-of order.json --lease 1m
  onced reserve order-4711 --wait 30s
  export ONCED_OWNER_TOKEN=$(onced reserve order-4711 --json | jq -r .owner_token)")]
pub(super) struct Reserve {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    fingerprint: FingerprintArgs,
    /// The owner token to reserve with, to send an earlier reserve again; minted by default
    #[arg(long, value_name = "UUID")]
    owner_token: Option<Uuid>,
    /// How long the owner may stay silent; the server's default otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    lease: Option<Duration>,
    /// What becomes of the reservation when the lease ends; the server's default otherwise
    #[arg(long, value_name = "ACTION")]
    lease_expiry_action: Option<ExpiryAction>,
    /// Try again where a stored result is a failure
    #[arg(long)]
    retry_failed: bool,
    /// What duplicates are shown as the one who is at it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    holder: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExpiryAction {
    /// The next caller is granted the reservation
    Takeover,
    /// Nobody is: it is in doubt
    Hold,
}

impl Reserve {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::reserve(&answer), self.output.json);
                exit_of(&answer)
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<ReserveResponse, Failure> {
        let request = ReserveRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            fingerprint: self.fingerprint.read()?.unwrap_or_default(),
            owner_token: self.owner_token.unwrap_or_else(Uuid::new_v4).to_string(),
            lease: self.lease.map(wire),
            lease_expiry_action: match self.lease_expiry_action {
                None => v1::LeaseExpiryAction::Unspecified,
                Some(ExpiryAction::Takeover) => v1::LeaseExpiryAction::Takeover,
                Some(ExpiryAction::Hold) => v1::LeaseExpiryAction::Hold,
            }
            .into(),
            wait_timeout: None,
            retry_failed: self.retry_failed,
            holder: self.holder.clone(),
        };
        let owner_token = request.owner_token.clone();
        let ask = async |remote: &Remote, wait, limit| {
            let request = ReserveRequest { wait_timeout: Some(wait), ..request.clone() };
            let send = async |mut client: Client, request| client.reserve(request).await;
            remote.call_within(limit, request, send).await
        };
        let busy = |answer: &ReserveResponse| match &answer.outcome {
            Some(Outcome::InProgress(it)) => Some(retry_delay(it)),
            _ => None,
        };
        let sent = self.remote.remote()?.wait(self.wait.limit(), ask, busy).await;
        sent.map_err(|status| {
            let owner_token = (Exit::of(&status) == Exit::Unavailable).then_some(owner_token);
            Failure::Call { status: Box::new(status), owner_token }
        })
    }
}

/// How soon it is worth asking again.
fn retry_delay(busy: &v1::InProgress) -> Duration {
    busy.retry_delay.and_then(|delay| delay.try_into().ok()).unwrap_or(Duration::from_secs(1))
}

/// How a command ended whose Reserve was answered.
pub(super) fn exit_of(answer: &ReserveResponse) -> Exit {
    match answer.outcome {
        Some(Outcome::Granted(_) | Outcome::Completed(_)) => Exit::Done,
        Some(Outcome::InProgress(_) | Outcome::InDoubt(_)) => Exit::Refused,
        // An outcome that this build does not know of.
        None => Exit::Unavailable,
    }
}
