//! `onced run --wait`: a duplicate waits for the one that runs, and takes over from one that
//! vanished. These hold whether the server parks such calls or answers them at once.

use rustix::process::Signal;

use crate::process::{Running, Server};

/// `onced run` with `options`, of a script that goes on with the first line that it reads.
fn run(options: &'static [&'static str]) -> Vec<&'static str> {
    let script = "echo begun $ONCED_ATTEMPT $ONCED_TAKEOVER; read line; echo \"$line\"; exit 5";
    [&["run", "job"], options, &["--", "sh", "-c", script]].concat()
}

#[test]
fn whoever_waits_gets_what_the_other_one_wrote() {
    let server = Server::start();
    let mut first = server.begin(&run(&["--holder", "host-a"]));
    first.wait_for("begun 1 false");
    let waiting: Vec<_> = (0..3).map(|_| server.begin(&run(&["--wait", "1m"]))).collect();
    for second in &waiting {
        second.wait_for_complaint("attempt 1 is in progress by host-a; waiting up to 1m for it");
    }
    first.say("went on\n");
    first.end().text(5);
    for second in waiting {
        let ended = second.end();
        assert_eq!(ended.text(5), "begun 1 false\nwent on\n");
        assert!(ended.stderr.contains("replayed: attempt 1"), "{ended:?}");
    }
}

#[test]
fn a_wait_ends_when_it_is_over() {
    let server = Server::start();
    let mut first = server.begin(&run(&[]));
    first.wait_for("begun 1 false");
    let second = server.onced(&run(&["--wait", "200ms", "-E", "75"]));
    assert!(second.complaint(75).contains("its lease runs until"), "{second:?}");
    let second = server.onced(&run(&["--wait", "200ms", "-E", "75", "--quiet"]));
    assert_eq!(second.complaint(75), "");
    assert_eq!(first.end().text(5), "begun 1 false\n\n");
}

#[test]
fn whoever_waits_takes_over_from_a_runner_that_was_killed() {
    let server = Server::start();
    let mut first = server.begin(&run(&["--lease", "500ms"]));
    first.wait_for("begun 1 false");
    let mut second = server.begin(&run(&["--wait", "1m"]));
    second.wait_for_complaint("waiting");
    first.signal(Signal::KILL);
    second.wait_for("begun 2 true");
    second.say("did it\n");
    let ended = second.end();
    assert_eq!(ended.text(5), "begun 2 true\ndid it\n");
    assert!(ended.stderr.contains("the lease of an earlier attempt lapsed"), "{ended:?}");
    first.end();
}

#[test]
fn a_wait_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let mut first = server.begin(&run(&[]));
    first.wait_for("begun 1 false");
    let second = server.begin(&run(&["--wait", "1m", "--timeout", "100ms"]));
    second.wait_for_complaint("waiting");
    let address = server.address.clone();
    server.kill();
    second.wait_for_complaint("trying again");
    let _server = Server::restart_in(directory.path(), &address);
    first.say("went on\n");
    first.end().text(5);
    assert_eq!(second.end().text(5), "begun 1 false\nwent on\n");
}

#[test]
fn whoever_waits_does_so_for_a_server_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let mut waits = server.client(&run(&["--wait", "1m", "--timeout", "100ms"]));
    let address = server.address.clone();
    server.kill();
    let mut first = Running::start(&mut waits);
    first.wait_for_complaint("trying again");
    let _server = Server::restart_in(directory.path(), &address);
    first.wait_for("begun 1 false");
    first.say("went on\n");
    assert_eq!(first.end().text(5), "begun 1 false\nwent on\n");
}

#[test]
fn a_signal_ends_the_wait_and_nothing_is_left_behind() {
    let server = Server::start();
    let mut first = server.begin(&run(&[]));
    first.wait_for("begun 1 false");
    let second = server.begin(&run(&["--wait", "1m"]));
    second.wait_for_complaint("waiting");
    second.signal(Signal::INT);
    second.end().complaint(128 + 2);
    first.say("went on\n");
    assert_eq!(first.end().text(5), "begun 1 false\nwent on\n");
}
