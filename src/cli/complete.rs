//! `onced complete`: stores the result of an operation.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{self, KeyArgs, OutputArgs, OwnerArgs};
use super::failure::Failure;
use super::remote::{Client, RemoteArgs, wire};
use super::{Exit, json, print};
use crate::pb::v1::{self, CompleteRequest, CompleteResponse, Response};

/// Store the result of an operation
///
/// From then on every reserve of the key gets that result, until its retention is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced complete order-4711 --owner-token 0e7f… --result succeeded \\
      --payload '{\"order\":4711}' --content-type application/json --status-code 201")]
pub(super) struct Complete {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How an operation ended, and what of it is replayed.
#[derive(Clone, Debug, Args)]
pub(super) struct EndArgs {
    /// How the operation ended
    #[arg(long, value_name = "RESULT")]
    result: Outcome,
    /// The response that is replayed
    #[arg(long, value_name = "TEXT", conflicts_with = "payload_file", allow_hyphen_values = true)]
    payload: Option<String>,
    /// Read the response from this file; "-" is stdin
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// What the response is, such as application/json
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    content_type: String,
    /// A status in your own terms, such as an HTTP status
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    status_code: i32,
    /// Anything else to replay; can be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = args::pair)]
    metadata: Vec<(String, String)>,
    /// How long the completion is kept; the server's default otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    retention: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    /// The operation took effect
    Succeeded,
    /// The operation ended in a failure that is itself the answer
    Failed,
}

impl Complete {
    pub(super) async fn execute(self) -> Exit {
        match self.call().await {
            Ok(answer) => {
                print::answer(&json::complete(&answer), self.output.json);
                Exit::Done
            }
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn call(&self) -> Result<CompleteResponse, Failure> {
        let request = CompleteRequest {
            namespace: self.key.namespace.clone(),
            key: self.key.key.clone(),
            owner_token: self.owner.owner_token.clone(),
            result: self.end.result().into(),
            response: Some(self.end.response()?),
            retention: self.end.retention(),
        };
        let remote = self.remote.remote()?;
        Ok(remote
            .call(request, async |mut client: Client, request| client.complete(request).await)
            .await?)
    }
}

impl EndArgs {
    pub(super) fn result(&self) -> v1::Result {
        match self.result {
            Outcome::Succeeded => v1::Result::Succeeded,
            Outcome::Failed => v1::Result::Failed,
        }
    }

    /// The response, read from where it is.
    pub(super) fn response(&self) -> Result<Response, Failure> {
        let payload = match (&self.payload, &self.payload_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => args::read(path)?,
            (None, None) => Vec::new(),
        };
        Ok(Response {
            payload,
            content_type: self.content_type.clone(),
            status_code: self.status_code,
            metadata: self.metadata.iter().cloned().collect(),
        })
    }

    pub(super) fn retention(&self) -> Option<prost_types::Duration> {
        self.retention.map(wire)
    }
}
