//! `onced settings`: every setting of this build, as Markdown. What holds on this machine is
//! shown by `onced serve --check`.

use clap::Args;

use super::{Exit, print};
use crate::config::{namespace_table, reference_table};

/// List every setting: its default, its bounds, what it means
///
/// Prints two Markdown tables: the settings of the server, and those that a namespace may have
/// of its own. What holds here, and where it came from, is shown by onced serve --check.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced settings")]
pub(super) struct List {}

impl List {
    pub(super) fn execute(&self) -> Exit {
        print::line(&format!(
            "The server:\n\n{}\nA namespace, in a table such as [namespaces.orders] of the file:\n\n{}",
            reference_table(),
            namespace_table().trim_end()
        ));
        Exit::Done
    }
}
