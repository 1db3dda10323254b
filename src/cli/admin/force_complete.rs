//! `onced admin force-complete`: stores the result of an operation in the place of its owner.

use clap::Args;

use super::force::ForceArgs;
use crate::cli::complete::EndArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::AdminClient;
use crate::cli::{Exit, json};
use crate::pb::v1::{ForceCompleteRequest, ForceCompleteResponse};

/// Store the result of an operation in the place of its owner: it happened
///
/// From then on every reserve of the key gets that result, until its retention is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin force-complete order-4711 --result succeeded --payload '{\"order\":4711}' \\
      --content-type application/json --status-code 201 --reason 'the bank has it'")]
pub(super) struct ForceComplete {
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    force: ForceArgs,
}

impl ForceComplete {
    pub(super) async fn execute(self) -> Exit {
        let send = async |fencing_token| self.call(fencing_token).await;
        self.force.execute("Complete it", send, json::force_complete).await
    }

    async fn call(&self, fencing_token: i64) -> Result<ForceCompleteResponse, Failure> {
        let request = ForceCompleteRequest {
            namespace: self.force.key.namespace.clone(),
            key: self.force.key.key.clone(),
            reason: self.force.account.reason.clone(),
            operator: self.force.account.operator.clone(),
            fencing_token,
            result: self.end.result().into(),
            response: Some(self.end.response()?),
            retention: self.end.retention(),
        };
        let remote = self.force.remote.admin()?;
        let answer = remote
            .call(request, async |mut client: AdminClient, request| {
                client.force_complete(request).await
            })
            .await?;
        Ok(answer)
    }
}
