//! The ways to run it that `.deploy` offers, held against the tools that judge them and against
//! the real binary: a systemd unit ([`systemd`]) and what the server tells its manager
//! ([`notify`]), a Helm chart ([`helm`]), a container file ([`container`]).
//!
//! The tools are systemd-analyze, systemd-sysusers, helm, kubernetes-validate and hadolint, found on
//! the PATH, or where `ONCED_TEST_SYSTEMD_ANALYZE`, `ONCED_TEST_SYSTEMD_SYSUSERS`, `ONCED_TEST_HELM`,
//! `ONCED_TEST_KUBERNETES_VALIDATE` and `ONCED_TEST_HADOLINT` point. Where one is missing its test
//! says so and passes, unless
//! `ONCED_REQUIRE_CLIENTS=1`. No image is built and no cluster is there: see what each test says.

mod container;
mod drain;
mod helm;
mod notify;
#[path = "../harness/preload.rs"]
mod preload;
#[path = "../harness/process.rs"]
mod process;
#[path = "../harness/shim.rs"]
mod shim;
#[path = "../harness/skip.rs"]
mod skip;
mod systemd;
#[path = "../harness/tool.rs"]
mod tool;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of `.deploy`.
fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".deploy").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a command to its end: whether it succeeded, and what it wrote to both.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Runs a command that has to succeed, and returns what it wrote.
#[track_caller]
fn said_by(command: &mut Command) -> String {
    let (succeeded, said) = run(command);
    assert!(succeeded, "{command:?}: {said}");
    said
}
