//! `onced health`: the probe for orchestrators and scripts, over grpc.health.v1.
//!
//! It asks once: a probe that tried again would hide what it is there to show.

use clap::Args;
use serde_json::json;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::args::OutputArgs;
use super::failure::Failure;
use super::remote::RemoteArgs;
use super::{Exit, print};

/// Ask whether the server serves
///
/// Prints SERVING and exits with 0, or anything else and exits with 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced health --service onced.v1.IdempotencyService --timeout 1s")]
pub(super) struct Health {
    /// The service to ask about; by default the server as a whole
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Health {
    pub(super) async fn execute(self) -> Exit {
        let health = match self.check().await {
            Ok(health) => health,
            // The way in which the health service says that it knows no such service.
            Err(Failure::Call { status, .. }) if status.code() == Code::NotFound => {
                ServingStatus::ServiceUnknown
            }
            Err(failure @ Failure::Usage(_)) => return failure.report(self.output.json),
            Err(failure @ Failure::Call { .. }) => {
                failure.report(self.output.json);
                return Exit::Unavailable;
            }
        };
        let name = health.as_str_name();
        if self.output.json {
            print::answer(&json!({ "service": self.service, "status": name }), true);
        } else {
            print::line(name);
        }
        if health == ServingStatus::Serving { Exit::Done } else { Exit::Unavailable }
    }

    async fn check(&self) -> Result<ServingStatus, Failure> {
        let mut client = HealthClient::new(self.remote.channel()?);
        let mut request = Request::new(HealthCheckRequest { service: self.service.clone() });
        request.set_timeout(self.remote.timeout);
        let answer = tokio::time::timeout(self.remote.timeout, client.check(request)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner().status()),
            // The channel watches the time as well, and may be first.
            Ok(Err(status)) if status.code() != Code::Cancelled => Err(status.into()),
            Ok(Err(_)) | Err(_) => {
                let limit = humantime::format_duration(self.remote.timeout);
                Err(Status::deadline_exceeded(format!("no answer within {limit}")).into())
            }
        }
    }
}
