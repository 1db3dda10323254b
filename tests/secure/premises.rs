//! A server with a certificate, principals and their tokens, and commands that call it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::process::{Process, onced};

/// Principals: a name, a role, a namespace.
const PRINCIPALS: [(&str, &str, &str); 3] =
    [("shop", "writer", "orders"), ("reports", "reader", "*"), ("olga", "operator", "*")];

/// Where everything lies that a server behind TLS has and is called with.
pub struct Premises {
    pub directory: TempDir,
    pub authority: Authority,
}

impl Premises {
    /// Writes `ca.crt`, `server.crt`, `server.key`, and for each principal `NAME.token`, all in
    /// `credentials.toml`.
    pub fn new() -> Self {
        let premises =
            Self { directory: TempDir::new().unwrap(), authority: Authority::new("ours") };
        let directory = premises.directory.path();
        premises.authority.server().write(directory, "server");
        std::fs::write(premises.path("ca.crt"), &premises.authority.pem).unwrap();
        let mut credentials = String::new();
        for (name, role, namespace) in PRINCIPALS {
            let token = premises.path(&format!("{name}.token"));
            let new = ["token", "new", name, "--role", role, "--namespace", namespace];
            let made = onced().args(new).arg("--write").arg(token).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            credentials.push_str(std::str::from_utf8(&made.stdout).unwrap());
        }
        // A certificate says who calls as well.
        credentials.push_str(
            "[principals.mail]\nrole = 'writer'\nnamespaces = ['mail.*']\n\
             certificates = ['URI:spiffe://example/mail']\n",
        );
        std::fs::write(premises.path("credentials.toml"), credentials).unwrap();
        let mail = premises.authority.client(&["URI:spiffe://example/mail"]);
        mail.write(directory, "mail");
        premises
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The flags of a server with all of it.
    pub fn flags(&self) -> Vec<String> {
        let flag = |flag: &str, name: &str| [flag.to_owned(), text(&self.path(name))];
        [
            flag("--tls-cert", "server.crt"),
            flag("--tls-key", "server.key"),
            flag("--tls-client-ca", "ca.crt"),
            ["--tls-client-auth".to_owned(), "optional".to_owned()],
            flag("--credentials", "credentials.toml"),
        ]
        .concat()
    }

    /// A server with all of it, and `more`.
    pub fn serve(&self, more: &[&str]) -> Process {
        let flags = self.flags();
        let flags: Vec<&str> =
            flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Process::in_memory(&flags)
    }

    /// The binary with `arguments`, for this server and this authority.
    pub fn client(&self, server: &Process, arguments: &[&str]) -> Command {
        let mut command = onced();
        command
            .args(arguments)
            .env("ONCED_SERVER", format!("https://{}", server.address))
            .env("ONCED_TLS_CA", self.path("ca.crt"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary as `principal`, who has a token.
    pub fn run_as(&self, principal: &str, server: &Process, arguments: &[&str]) -> Output {
        let mut command = self.client(server, arguments);
        command.arg("--token-file").arg(self.path(&format!("{principal}.token")));
        command.output().unwrap()
    }

    /// The token of a principal.
    pub fn token(&self, principal: &str) -> String {
        let token = std::fs::read_to_string(self.path(&format!("{principal}.token"))).unwrap();
        token.trim().to_owned()
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What was printed as JSON by a command that ended with `code`.
#[track_caller]
pub fn json(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The reason of an error that was printed as JSON.
#[track_caller]
pub fn reason(output: &Output) -> String {
    json(output, 2)["error"]["reason"].as_str().unwrap_or_default().to_owned()
}
