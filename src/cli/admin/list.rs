//! `onced admin list`: lists records, page by page.

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::args::OutputArgs;
use crate::cli::failure::Failure;
use crate::cli::remote::{AdminClient, RemoteArgs};
use crate::cli::{Exit, json, print, text};
use crate::pb::v1::{ListRecordsRequest, RecordState};

/// The largest page.
const PAGE_SIZE: usize = 1_000;

/// List records
///
/// With --state in-doubt, in the order in which their leases ended, oldest first: the work list
/// of an operator. Otherwise in the order of their keys. With --json, one object on a line for
/// each record.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced admin list --state in-doubt --all-namespaces
  onced admin list --namespace shop --prefix order- --limit 100000 --json | jq -r .key")]
pub(super) struct List {
    /// Of which namespace
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Of all namespaces
    #[arg(long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// What keys begin with
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// In which state; in any otherwise
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// How many records to list at most
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// Reserved, and the lease is running
    Held,
    /// The lease is over, and the next caller takes over
    Lapsed,
    /// The lease is over, and nobody takes over
    InDoubt,
    /// Given back
    Released,
    /// Done
    Completed,
}

/// What people are shown of a record: the rest is in the JSON.
const COLUMNS: [(&str, &str); 8] = [
    ("STATE", "state"),
    ("NAMESPACE", "namespace"),
    ("KEY", "key"),
    ("ATTEMPT", "attempt"),
    ("FENCING", "fencing_token"),
    ("LEASE UNTIL", "lease_expire_time"),
    ("RETAINED UNTIL", "expire_time"),
    ("HOLDER", "holder"),
];

impl List {
    pub(super) async fn execute(self) -> Exit {
        match self.list().await {
            Ok(()) => Exit::Done,
            Err(failure) => failure.report(self.output.json),
        }
    }

    async fn list(&self) -> Result<(), Failure> {
        let remote = self.remote.admin()?;
        let mut request = ListRecordsRequest {
            namespace: if self.all_namespaces { "*" } else { &self.namespace }.to_owned(),
            key_prefix: self.prefix.clone(),
            state: self.state().into(),
            ..ListRecordsRequest::default()
        };
        let (mut left, mut unreadable) = (self.limit, 0);
        let mut rows: Vec<Value> = Vec::new();
        loop {
            request.page_size = i32::try_from(left.clamp(1, PAGE_SIZE)).unwrap_or(i32::MAX);
            let page = remote
                .call(request.clone(), async |mut client: AdminClient, request| {
                    client.list_records(request).await
                })
                .await?;
            unreadable += page.unreadable_records;
            for listed in page.records.iter().take(left) {
                let row = json::listed(listed);
                if self.output.json {
                    print::line(&row.to_string());
                } else {
                    rows.push(row);
                }
            }
            left = left.saturating_sub(page.records.len());
            request.page_token = page.next_page_token;
            if left == 0 || request.page_token.is_empty() {
                break;
            }
        }
        if !rows.is_empty() {
            print::line(text::columns(&COLUMNS, &rows).trim_end());
        }
        if unreadable > 0 {
            print::complain(&format!(
                "onced: {unreadable} records cannot be read; see the server's log"
            ));
        }
        if !request.page_token.is_empty() {
            print::complain("onced: there may be more; --limit lists more of them");
        }
        Ok(())
    }

    fn state(&self) -> RecordState {
        match self.state {
            None => RecordState::Unspecified,
            Some(State::Held) => RecordState::Held,
            Some(State::Lapsed) => RecordState::Lapsed,
            Some(State::InDoubt) => RecordState::InDoubt,
            Some(State::Released) => RecordState::Released,
            Some(State::Completed) => RecordState::Completed,
        }
    }
}
