//! `onced run` as a cron job on two hosts at once. What happens is in `two_hosts.sh`, which
//! makes the hosts of network namespaces.

use std::path::Path;
use std::process::Command;

use crate::skip::skip;

/// How the script ends where this machine has no namespaces to give.
const CANNOT: i32 = 77;

#[test]
fn a_job_of_two_hosts_runs_once_per_tick_in_all_also_when_one_host_dies_at_it() {
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/two_hosts.sh");
    let mut command = Command::new(script);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONCED_") {
            command.env_remove(name);
        }
    }
    let ended = command.arg(env!("CARGO_BIN_EXE_onced")).arg(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    if ended.status.code() == Some(CANNOT) {
        return skip(
            "a_job_of_two_hosts_runs_once_per_tick_in_all_also_when_one_host_dies_at_it",
            complained.trim_end(),
        );
    }
    assert!(ended.status.success(), "{}\n{said}\n{complained}", ended.status);
    assert!(said.contains("each was done once"), "{said}\n{complained}");
}
