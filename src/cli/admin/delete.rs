//! `onced admin delete`: takes a record away.

use clap::Args;

use super::force::ForceArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::AdminClient;
use crate::cli::{Exit, json};
use crate::pb::v1::{DeleteRecordRequest, DeleteRecordResponse};

/// Take a record away: the key is vacant then, and the operation may run again
///
/// Works in every state, and where nothing is on record.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin delete order-4711 --reason 'a test order'")]
pub(super) struct Delete {
    #[command(flatten)]
    force: ForceArgs,
}

impl Delete {
    pub(super) async fn execute(self) -> Exit {
        let send = async |fencing_token| self.call(fencing_token).await;
        self.force.execute("Delete it", send, json::delete_record).await
    }

    async fn call(&self, fencing_token: i64) -> Result<DeleteRecordResponse, Failure> {
        let request = DeleteRecordRequest {
            namespace: self.force.key.namespace.clone(),
            key: self.force.key.key.clone(),
            reason: self.force.account.reason.clone(),
            operator: self.force.account.operator.clone(),
            fencing_token,
        };
        let remote = self.force.remote.admin()?;
        let answer = remote
            .call(request, async |mut client: AdminClient, request| {
                client.delete_record(request).await
            })
            .await?;
        Ok(answer)
    }
}
