//! The unit, judged by systemd's own tools. systemd itself does not run it here.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::onced;
use crate::skip::skip;
use crate::tool::tool;
use crate::{deployed, drain, read, run, said_by};

/// How exposed systemd may find the service, in tenths: 0 is sealed off, 100 has every right. It
/// comes to 12; a server that speaks TCP cannot get below 9.
const MAX_EXPOSURE: &str = "12";

fn unit() -> String {
    read(&deployed("systemd/onced.service"))
}

/// The value of a line of the unit.
fn value(name: &str) -> String {
    let unit = unit();
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} is not set")).to_owned()
}

/// The unit with this build for its binary: that it is there is checked as well.
fn installed(text: &str, folder: &Path) -> PathBuf {
    let path = folder.join("onced.service");
    std::fs::write(&path, text.replace("/usr/local/bin/onced", env!("CARGO_BIN_EXE_onced")))
        .unwrap();
    path
}

fn systemd_analyze() -> Result<String, String> {
    tool("ONCED_TEST_SYSTEMD_ANALYZE", "systemd-analyze", &["--version"])
}

fn verify(program: &str, text: &str) -> (bool, String) {
    let dir = TempDir::new().unwrap();
    let unit = installed(text, dir.path());
    run(Command::new(program).args(["verify", "--man=no"]).arg(unit))
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    let program = match systemd_analyze() {
        Ok(program) => program,
        Err(why) => return skip("systemd_finds_no_fault_with_the_unit", &why),
    };
    assert_eq!(verify(&program, &unit()), (true, String::new()));

    // It would have said so.
    let (_, said) = verify(&program, &unit().replace("\nWatchdogSec=", "\nWatchdogSecs="));
    assert!(said.contains("WatchdogSecs"), "{said}");
}

#[test]
fn the_unit_leaves_the_server_next_to_no_rights() {
    let program = match systemd_analyze() {
        Ok(program) => program,
        Err(why) => return skip("the_unit_leaves_the_server_next_to_no_rights", &why),
    };
    let dir = TempDir::new().unwrap();
    let unit = installed(&unit(), dir.path());
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold", MAX_EXPOSURE];
    said_by(Command::new(program).args(arguments).arg(unit));
}

#[test]
fn the_account_of_the_unit_can_be_made() {
    let program = match tool("ONCED_TEST_SYSTEMD_SYSUSERS", "systemd-sysusers", &["--version"]) {
        Ok(program) => program,
        Err(why) => return skip("the_account_of_the_unit_can_be_made", &why),
    };
    let root = TempDir::new().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let arguments = [Path::new("--root"), root.path(), &deployed("systemd/onced.sysusers")];
    said_by(Command::new(program).args(arguments));
    let accounts = read(&root.path().join("etc/passwd"));
    let account = accounts.lines().find(|line| line.starts_with(&format!("{}:", value("User"))));
    assert!(account.is_some_and(|it| it.ends_with("/nologin")), "{accounts}");
}

#[test]
fn the_server_takes_the_command_line_and_the_settings_of_the_unit() {
    let command = value("ExecStart");
    let arguments: Vec<_> = command
        .split(' ')
        .skip(1)
        .map(|it| it.replace("%S", "/var/lib"))
        .map(|it| match it.as_str() {
            "%E/onced/onced.toml" => deployed("systemd/onced.toml").to_str().unwrap().to_owned(),
            _ => it,
        })
        .collect();
    let shown = said_by(onced().args(arguments).arg("--check"));
    assert!(shown.contains("rocksdb:/var/lib/onced/data"), "{shown}");
    assert_eq!(value("StateDirectory"), "onced");
}

#[test]
fn systemd_waits_for_the_end_of_a_drain() {
    let limit = humantime::parse_duration(&value("TimeoutStopSec")).unwrap();
    assert!(limit > drain::longest());
}
