//! `onced run` and its lease: kept while the command runs, missed while the server is away,
//! and lost.

use rustix::process::Signal;

use crate::process::{Running, Server};

/// A script that ends with the first line that it reads, or with SIGTERM.
const SCRIPT: &str = "echo begun; read line; echo \"$line\"; exit 4";

/// Starts it under `options` and waits until it runs.
fn begin(server: &Server, options: &[&str]) -> Running {
    let run = [&["run", "job", "--fingerprint", "01"], options, &["--", "sh", "-c", SCRIPT]];
    let mut running = server.begin(&run.concat());
    running.wait_for("begun");
    running
}

/// Has somebody else take over from a runner that hangs.
fn take_over(server: &Server, running: &Running) {
    running.signal(Signal::STOP);
    let takeover = ["reserve", "job", "--fingerprint", "01", "--json"];
    while server.onced(&takeover).code != Some(0) {}
    running.signal(Signal::CONT);
}

#[test]
fn a_lease_is_kept_for_as_long_as_the_command_runs() {
    let server = Server::start();
    let mut running = begin(&server, &["--lease", "2s"]);
    let lease = |server: &Server| {
        let record = server.onced(&["lookup", "job", "--json"]).json(0);
        assert_eq!(record["state"], "held");
        record["lease_expire_time"].as_str().unwrap().to_owned()
    };
    // It was renewed often enough to outlive its first length, each time before it was over.
    let mut leases = std::collections::BTreeSet::new();
    while leases.len() < 5 {
        leases.insert(lease(&server));
    }
    running.say("end\n");
    assert_eq!(running.end().text(4), "begun\nend\n");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["late"], false);
}

#[test]
fn the_command_goes_on_while_the_server_is_away_and_its_lease_is_renewed_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let mut running = begin(&server, &["--lease", "300ms"]);
    let address = server.address.clone();
    server.kill();
    running.wait_for_complaint("WARNING: the lease has lapsed, and another caller may take over");
    let server = Server::restart_in(directory.path(), &address);
    running.wait_for_complaint("the lease is renewed again");
    running.say("end\n");
    let ended = running.end();
    ended.text(4);
    assert_eq!(ended.stderr.matches("has lapsed").count(), 1, "{ended:?}");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["response"]["status_code"], 4);
}

#[test]
fn a_result_is_stored_although_the_server_was_killed_while_the_command_ran() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let mut running = begin(&server, &[]);
    let address = server.address.clone();
    server.kill();

    // The command ends while nobody is there to be told.
    running.say("end\n");
    running.wait_for_complaint("trying again");
    let server = Server::restart_in(directory.path(), &address);
    running.end().text(4);
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["response"]["status_code"], 4);
}

#[test]
fn a_success_that_no_server_takes_is_not_reported_as_one() {
    let server = Server::start();
    let run = ["run", "job", "--complete-timeout", "300ms", "--error-exit-code", "125"];
    let mut running =
        server.begin(&[&run[..], &["--", "sh", "-c", "echo begun; read line"]].concat());
    running.wait_for("begun");
    server.kill();
    running.say("end\n");
    let ended = running.end();
    ended.text(125);
    assert!(ended.stderr.contains("exit code 0, and that was not stored"), "{ended:?}");
}

#[test]
fn who_loses_the_lease_says_so_and_lets_the_command_finish() {
    let server = Server::start();
    let mut running = begin(&server, &["--lease", "100ms"]);
    take_over(&server, &running);
    running.wait_for_complaint("WARNING: the lease is lost");
    running.say("end\n");
    let ended = running.end();
    assert_eq!(ended.text(4), "begun\nend\n");
    assert!(ended.stderr.contains("that was not stored"), "{ended:?}");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!((&record["state"], &record["attempt"]), (&"held".into(), &2.into()));
}

#[test]
fn who_loses_the_lease_terminates_the_command_where_that_was_asked_for() {
    let server = Server::start();
    let running = begin(&server, &["--lease", "100ms", "--on-lease-lost", "terminate"]);
    take_over(&server, &running);
    let ended = running.end_by_itself();
    assert_eq!(ended.text(128 + 15), "begun\n");
    assert!(ended.stderr.contains("left to whoever takes over"), "{ended:?}");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!((&record["state"], &record["attempt"]), (&"held".into(), &2.into()));
}

#[test]
fn a_lease_that_lapsed_unheard_terminates_the_command_where_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let options = ["--lease", "300ms", "--on-lease-lost", "terminate"];
    let running = begin(&server, &options);
    let address = server.address.clone();
    server.kill();
    running.end_by_itself().text(128 + 15);

    // Its death by this is no failure of the job: the next caller takes over.
    let server = Server::restart_in(directory.path(), &address);
    let next = ["run", "job", "--fingerprint", "01", "--wait", "1m", "--", "true"];
    let next = server.onced(&next);
    assert!(next.complaint(0).contains("attempt 2"), "{next:?}");
}

#[test]
fn under_hold_a_lapsed_lease_is_no_reason_to_terminate() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let options = ["--hold", "--lease", "300ms", "--on-lease-lost", "terminate"];
    let mut running = begin(&server, &options);
    let address = server.address.clone();
    server.kill();
    running.wait_for_complaint("the key may be in doubt");
    let server = Server::restart_in(directory.path(), &address);
    running.say("end\n");
    assert_eq!(running.end().text(4), "begun\nend\n");
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["response"]["status_code"], 4);
}

#[test]
fn under_hold_nobody_takes_over_from_a_runner_that_vanished() {
    let server = Server::start();
    let running = begin(&server, &["--hold", "--lease", "100ms"]);
    running.signal(Signal::KILL);
    running.end();
    let again = |options: &[&str]| {
        let run = ["run", "job", "--fingerprint", "01", "--wait", "1m"];
        server.onced(&[&run[..], options, &["--", "echo", "ran"]].concat())
    };
    assert!(again(&[]).complaint(1).contains("in doubt"));
    // Nothing makes this one silent: somebody has to decide.
    let quiet = again(&["--quiet", "-E", "0", "--error-exit-code", "125"]);
    assert!(quiet.complaint(125).contains("in doubt"), "{quiet:?}");
}
