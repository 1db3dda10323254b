//! `onced run`: a command runs at most once, and whoever comes later gets what it wrote and
//! how it ended.

use std::path::Path;

use rustix::process::Signal;

use crate::process::{Ended, Server};

/// A script that notes that it ran, writes to both streams, and fails.
fn noting(file: &Path) -> String {
    format!("echo ran >> '{}'; echo out; echo err >&2; exit 7", file.display())
}

fn run(server: &Server, options: &[&str], script: &str) -> Ended {
    server.onced(&[&["run", "job"], options, &["--", "sh", "-c", script]].concat())
}

#[test]
fn a_command_runs_once_and_is_replayed_with_both_streams_and_its_exit_code() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let notes = directory.path().join("notes");
    let script = noting(&notes);
    for _ in 0..3 {
        let ended = run(&server, &[], &script);
        assert_eq!((ended.text(7), ended.stderr.as_str()), ("out\n", "err\n"));
    }
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "ran\n");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["result"], "failed");
    assert_eq!(record["completion"]["response"]["status_code"], 7);

    // A stored failure is a licence to try again, for who says so.
    assert_eq!(run(&server, &["--retry-failed"], &script).text(7), "out\n");
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "ran\nran\n");
}

#[test]
fn another_command_under_the_same_key_is_refused() {
    let server = Server::start();
    run(&server, &[], "exit 0").text(0);
    let other = run(&server, &[], "exit 1");
    assert!(other.complaint(1).contains("FINGERPRINT_MISMATCH"), "{other:?}");
}

#[test]
fn whoever_comes_while_it_runs_is_told_so() {
    let server = Server::start();
    let script = "echo begun; read line; echo \"$line\"";
    let command = ["run", "job", "--namespace", "jobs", "--", "sh", "-c", script];
    let mut first = server.begin(&command);
    first.wait_for("begun");

    let second = server.onced(&command);
    assert!(second.complaint(1).contains("in progress"), "{second:?}");

    first.say("went on\n");
    assert_eq!(first.end().text(0), "begun\nwent on\n");
    assert_eq!(server.onced(&command).text(0), "begun\nwent on\n");
}

#[test]
fn a_signal_reaches_the_command_and_its_death_is_stored() {
    let server = Server::start();
    let command = ["run", "job", "--", "sh", "-c", "echo begun; exec cat"];
    let mut running = server.begin(&command);
    running.wait_for("begun");
    running.signal(Signal::TERM);
    assert_eq!(running.end().text(128 + 15), "begun\n");
    assert_eq!(server.onced(&command).text(128 + 15), "begun\n");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["result"], "failed");
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_key_free() {
    let server = Server::start();
    let ended = server.onced(&["run", "job", "--", "no-such-program-anywhere"]);
    assert!(ended.complaint(127).contains("no-such-program-anywhere"), "{ended:?}");
    assert_eq!(server.onced(&["lookup", "job", "--json"]).json(0)["state"], "released");
}

#[test]
fn a_result_is_stored_although_the_server_was_killed_while_the_command_ran() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let command = ["run", "job", "--", "sh", "-c", "echo begun; read line; exit 4"];
    let mut running = server.begin(&command);
    running.wait_for("begun");
    let address = server.address.clone();
    server.kill();

    // The command ends while nobody is there to be told.
    running.say("end\n");
    let server = Server::restart_in(directory.path(), &address);
    assert_eq!(running.end().text(4), "begun\n");
    assert_eq!(server.onced(&command).text(4), "begun\n");
}

#[test]
fn who_loses_the_lease_says_that_the_result_is_not_stored() {
    let server = Server::start();
    let options = ["run", "job", "--lease", "100ms", "--fingerprint", "01"];
    let command = ["--", "sh", "-c", "echo begun; read line; echo finished"];
    let mut running = server.begin(&[&options[..], &command[..]].concat());
    running.wait_for("begun");

    // Somebody else takes over while this one hangs.
    running.signal(Signal::STOP);
    let takeover = ["reserve", "job", "--fingerprint", "01", "--json"];
    while server.onced(&takeover).code != Some(0) {}
    running.signal(Signal::CONT);

    running.say("on\n");
    let ended = running.end();
    assert_eq!(ended.text(0), "begun\nfinished\n");
    assert!(ended.stderr.contains("WARNING") && ended.stderr.contains("not stored"), "{ended:?}");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!((&record["state"], &record["attempt"]), (&"held".into(), &2.into()));
}

#[test]
fn under_hold_nobody_takes_over_from_a_runner_that_vanished() {
    let server = Server::start();
    let command = ["run", "job", "--hold", "--lease", "100ms", "--", "sh", "-c", "echo begun; cat"];
    let mut running = server.begin(&command);
    running.wait_for("begun");
    running.signal(Signal::KILL);
    running.end();
    let doubt = loop {
        let ended = server.onced(&command);
        if !ended.stderr.contains("in progress") {
            break ended;
        }
    };
    assert!(doubt.complaint(1).contains("in doubt"), "{doubt:?}");
}

#[test]
fn output_is_streamed_in_full_and_stored_up_to_a_bound() {
    let server = Server::start();
    let script = "head -c 2000000 /dev/zero | tr '\\0' x; echo end >&2";
    let first = run(&server, &[], script);
    assert_eq!(first.text(0).len(), 2_000_000);
    let again = run(&server, &[], script);
    let kept = again.text(0).len();
    assert!((300_000..2_000_000).contains(&kept), "{kept}");
    assert!(again.stderr.starts_with("end\n"), "{}", again.stderr);
    assert!(again.stderr.contains("longer than what was kept"), "{}", again.stderr);
}
