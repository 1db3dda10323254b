//! `onced token`: makes bearer tokens. The server keeps only their digests, so that what is
//! printed here is printed once.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::{Exit, print};
use crate::access::{NamespacePattern, Principal, Role, Token};
use crate::config::quoted;

/// Make bearer tokens
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Example:
  onced token new shop --role writer --namespace orders --namespace 'mail.*'")]
pub(super) struct TokenCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
}

impl TokenCommand {
    pub(super) fn execute(self) -> Exit {
        let Command::New(new) = self.command;
        match new.make() {
            Ok(()) => Exit::Done,
            Err(failure) => failure.report(new.json),
        }
    }
}

/// Make a token for a principal, and show what the server's file of credentials has of it
///
/// The token is shown on stderr, or written with --write, once; the file has its digest alone.
/// A principal that is in the file already gets the digest into its list of tokens: several are
/// good at a time, so that callers can change over.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  onced token new shop --namespace orders --write shop.token >> credentials.toml
  onced lookup order-4711 --namespace orders --token-file shop.token")]
struct New {
    /// What the principal is called, in logs as well
    #[arg(value_parser = name)]
    name: String,
    /// What it may do: reader, writer or operator
    #[arg(long, value_name = "ROLE", default_value = "writer", value_parser = role)]
    role: Role,
    /// Where it may do it: a namespace, a prefix such as 'mail.*', or '*'; may be repeated
    #[arg(long = "namespace", value_name = "PATTERN", default_value = "default")]
    #[arg(value_parser = pattern)]
    namespaces: Vec<String>,
    /// Write the token to this new file, which only its owner can read, instead of showing it
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    Principal::check_name(text).map(|()| text.to_owned())
}

fn role(text: &str) -> Result<Role, String> {
    Role::named(text).ok_or_else(|| "is no role; give reader, writer or operator".to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    NamespacePattern::read(text).map(|_| text.to_owned())
}

impl New {
    fn make(&self) -> Result<(), Failure> {
        let token = Token::mint().map_err(Failure::Usage)?;
        if let Some(path) = &self.write {
            write_secret(path, token.reveal()).map_err(|error| {
                Failure::Usage(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        let shown = self.write.is_none().then(|| token.reveal());
        let digest = token.digest().to_string();
        if self.json {
            let answer = json!({ "principal": self.name, "role": self.role.name(),
                "namespaces": self.namespaces, "token": shown, "digest": digest });
            print::answer(&answer, true);
            return Ok(());
        }
        // Not to stdout, which may go to the file of credentials, where no token belongs.
        if let Some(token) = shown {
            print::complain(&format!("The token, shown this once: {token}"));
            print::complain("The server's file of credentials has its digest:");
        }
        print::line(&self.table(&digest));
        Ok(())
    }

    /// The principal as a file of credentials has it.
    fn table(&self, digest: &str) -> String {
        let namespaces: Vec<_> = self.namespaces.iter().map(|name| format!("{name:?}")).collect();
        format!(
            "[principals.{}]\nrole = \"{}\"\nnamespaces = [{}]\ntokens = [\"{digest}\"]",
            quoted(&self.name),
            self.role,
            namespaces.join(", "),
        )
    }
}

/// Writes a file that is not there yet, for its owner's eyes.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")
}
