//! `onced admin`: what an operator may see and force, over `onced.v1.AdminService`.
//!
//! Each command is a file of its own; who acts and why is read here, `confirm` asks before
//! anything that cannot be undone, and `force` is what forcing something on a key takes.

mod confirm;
mod force;

mod delete;
mod erase;
mod force_complete;
mod force_release;
mod list;
mod log;
mod namespace;
mod stats;

use clap::{Args, Subcommand};

use super::Exit;

/// See what is on record, and decide where an owner cannot
///
/// Every change needs a reason, and is written to the server's log with it.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Example:
  onced admin list --state in-doubt --all-namespaces
  onced admin force-complete order-4711 --result succeeded --reason 'the bank has it'")]
pub(super) struct Admin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    ForceRelease(force_release::ForceRelease),
    ForceComplete(force_complete::ForceComplete),
    Delete(delete::Delete),
    Erase(erase::Erase),
    Namespace(namespace::Namespace),
    Log(log::Log),
    Stats(stats::Stats),
}

impl Admin {
    pub(super) async fn execute(self) -> Exit {
        match self.command {
            Command::List(command) => command.execute().await,
            Command::ForceRelease(command) => command.execute().await,
            Command::ForceComplete(command) => command.execute().await,
            Command::Delete(command) => command.execute().await,
            Command::Erase(command) => command.execute().await,
            Command::Namespace(command) => command.execute().await,
            Command::Log(command) => command.execute().await,
            Command::Stats(command) => command.execute().await,
        }
    }
}

/// Who acts, and why.
#[derive(Clone, Debug, Args)]
struct AccountArgs {
    /// Why: 1 to 512 characters, written to the server's log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who decides: 1 to 128 characters, written to the server's log
    #[arg(long, value_name = "NAME", default_value_t = this_user())]
    operator: String,
}

/// `user@host`, as this process knows them.
pub(super) fn this_user() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().into_owned();
    let name = format!("{}@{host}", user.unwrap_or_else(|| "unknown".to_owned()));
    name.chars().filter(|character| !character.is_control()).take(128).collect()
}
