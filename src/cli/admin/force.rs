//! What the commands that force something on one key have in common: the key, who decides and
//! why, the question before it, and how the answer is shown.

use clap::Args;
use serde_json::Value;

use super::AccountArgs;
use super::confirm::{Answer, ConfirmArgs};
use crate::cli::args::{KeyArgs, OutputArgs};
use crate::cli::failure::Failure;
use crate::cli::remote::RemoteArgs;
use crate::cli::{Exit, print};

/// On which key, by whom, and why.
#[derive(Clone, Debug, Args)]
pub(super) struct ForceArgs {
    #[command(flatten)]
    pub(super) key: KeyArgs,
    #[command(flatten)]
    pub(super) account: AccountArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

impl ForceArgs {
    /// Asks whether to go on with `what`, sends it with the fencing token of the record that
    /// was seen, and shows the answer.
    pub(super) async fn execute<R>(
        &self,
        what: &str,
        send: impl AsyncFnOnce(i64) -> Result<R, Failure>,
        show: impl Fn(&R) -> Value,
    ) -> Exit {
        let sent = async {
            match self.confirm.ask(what, &self.key, &self.remote).await? {
                Answer::Yes(fencing_token) => send(fencing_token).await.map(Some),
                Answer::No => Ok(None),
            }
        };
        match sent.await {
            Ok(Some(answer)) => {
                print::answer(&show(&answer), self.output.json);
                Exit::Done
            }
            Ok(None) => Exit::Refused,
            Err(failure) => failure.report(self.output.json),
        }
    }
}
