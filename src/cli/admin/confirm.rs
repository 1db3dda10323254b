//! The question before what cannot be undone: it shows what is on record, and asks.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use tonic::Code;

use crate::cli::args::KeyArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::{Client, RemoteArgs};
use crate::cli::{json, print, text};
use crate::pb::v1::LookupRequest;

/// Whether to ask, and which record the operator has seen.
#[derive(Clone, Debug, Args)]
pub(super) struct ConfirmArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Leave the record alone unless it has this fencing token; by default that of the record
    /// that was shown before the question
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    fencing_token: Option<i64>,
}

/// What was answered.
pub(super) enum Answer {
    /// To go on. With the fencing token of the record that was shown or named; 0 for none.
    Yes(i64),
    /// Not to.
    No,
}

impl ConfirmArgs {
    /// Shows what is on record for `key`, and asks whether to go on with `what`.
    pub(super) async fn ask(
        &self,
        what: &str,
        key: &KeyArgs,
        remote: &RemoteArgs,
    ) -> Result<Answer, Failure> {
        if self.yes {
            return Ok(Answer::Yes(self.fencing_token.unwrap_or_default()));
        }
        needs_somebody_to_ask()?;
        let request = LookupRequest {
            namespace: key.namespace.clone(),
            key: key.key.clone(),
            wait_timeout: None,
        };
        let found = remote
            .remote()?
            .call(request, async |mut client: Client, request| client.lookup(request).await)
            .await;
        let found = match found {
            Ok(found) => found,
            // There is nothing that could be lost. What becomes of that is the server's to say.
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Answer::Yes(self.fencing_token.unwrap_or_default()));
            }
            Err(status) => return Err(status.into()),
        };
        print::complain(text::table(&json::lookup(&found)).trim_end());
        let shown = found.record.map_or(0, |record| record.fencing_token);
        Ok(if says(&format!("{what}? [y/N] "), &["y", "yes"]) {
            Answer::Yes(self.fencing_token.unwrap_or(shown))
        } else {
            print::complain("onced: nothing was changed");
            Answer::No
        })
    }
}

/// Asks for the name of a namespace before it is erased. Whether it was given.
pub(super) fn ask_for_name(namespace: &str) -> Result<bool, Failure> {
    needs_somebody_to_ask()?;
    let shown = text::shown(namespace);
    let question = format!(
        "All records of the namespace {shown} go, and their operations may run again.\n\
                 Type its name to go on: "
    );
    let given = says(&question, &[namespace]);
    if !given {
        print::complain("onced: nothing was changed");
    }
    Ok(given)
}

fn needs_somebody_to_ask() -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Failure::Usage("there is no terminal to ask on; give --yes to go on without".to_owned()))
}

/// Whether somebody answers `question` with one of these words.
fn says(question: &str, words: &[&str]) -> bool {
    let _ = write!(io::stderr().lock(), "{question}");
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) => words.contains(&answer.trim()),
        Err(_) => false,
    }
}
