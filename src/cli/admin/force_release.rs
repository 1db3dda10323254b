//! `onced admin force-release`: gives a reservation back in the place of its owner.

use clap::Args;

use super::force::ForceArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::AdminClient;
use crate::cli::{Exit, json};
use crate::pb::v1::{ForceReleaseRequest, ForceReleaseResponse};

/// Give a reservation back in the place of its owner: it certainly did not happen
///
/// Anyone may try again at once. The owner, should it come back, has lost its lease. A completed
/// operation is not released; see delete.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin force-release order-4711 --reason 'the bank has no such payment'")]
pub(super) struct ForceRelease {
    #[command(flatten)]
    force: ForceArgs,
}

impl ForceRelease {
    pub(super) async fn execute(self) -> Exit {
        let send = async |fencing_token| self.call(fencing_token).await;
        self.force.execute("Release it", send, json::force_release).await
    }

    async fn call(&self, fencing_token: i64) -> Result<ForceReleaseResponse, Failure> {
        let request = ForceReleaseRequest {
            namespace: self.force.key.namespace.clone(),
            key: self.force.key.key.clone(),
            reason: self.force.account.reason.clone(),
            operator: self.force.account.operator.clone(),
            fencing_token,
        };
        let remote = self.force.remote.admin()?;
        let answer = remote
            .call(request, async |mut client: AdminClient, request| {
                client.force_release(request).await
            })
            .await?;
        Ok(answer)
    }
}
