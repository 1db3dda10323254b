//! The command line: what can be typed, and which file does it.
//!
//! `serve` runs the server, and `settings` lists what it can be told; `inspect` and `verify` read
//! the directory of one that is stopped, and `restore` makes one of a backup; `token` makes what
//! callers of one show. Every other command is a client that speaks gRPC to one, on a
//! single-threaded runtime. Answers go to stdout, everything else to stderr; [`Exit`] says what
//! each exit code means.

mod exit;
mod print;
mod serve;
mod setting_flags;
mod settings;

mod args;
mod failure;
mod identity;
mod json;
mod remote;
mod text;

mod admin;
mod backup;
mod bench;
mod complete;
mod health;
mod inspect;
mod lookup;
mod release;
mod renew;
mod reserve;
mod restore;
mod run;
mod token;
mod verify;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;

/// One shared authority that tells any service whether an operation may run, is running,
/// or has run already.
#[derive(Debug, Parser)]
#[command(name = "onced", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes:
  0  done
  1  refused by the state of the key
  2  usage or configuration
  3  unavailable, or no answer in time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Settings(settings::List),
    Reserve(reserve::Reserve),
    Complete(complete::Complete),
    Release(release::Release),
    Renew(renew::Renew),
    Lookup(lookup::Lookup),
    Run(run::Run),
    Admin(admin::Admin),
    Health(health::Health),
    Token(token::TokenCommand),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Inspect(inspect::Inspect),
    Bench(bench::Bench),
}

/// Parses the arguments of the process, runs the command, and says how it went.
pub fn main() -> ExitCode {
    // Prints help, version and usage errors itself, and ends with 0 or 2.
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Serve(command) => command.execute(),
        Command::Settings(command) => command.execute(),
        Command::Reserve(command) => block_on(command.execute()),
        Command::Complete(command) => block_on(command.execute()),
        Command::Release(command) => block_on(command.execute()),
        Command::Renew(command) => block_on(command.execute()),
        Command::Lookup(command) => block_on(command.execute()),
        Command::Run(command) => block_on(command.execute()),
        Command::Admin(command) => block_on(command.execute()),
        Command::Health(command) => block_on(command.execute()),
        Command::Token(command) => command.execute(),
        Command::Backup(command) => block_on(command.execute()),
        Command::Restore(command) => command.execute(),
        Command::Verify(command) => command.execute(),
        Command::Inspect(command) => command.execute(),
        Command::Bench(command) => command.execute(),
    };
    exit.into()
}

fn block_on(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            print::complain(&format!("onced: cannot start: {error}"));
            Exit::Unavailable
        }
    }
}
