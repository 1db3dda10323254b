//! `onced run`: a command runs at most once, and whoever comes later gets what it wrote and
//! how it ended.

use std::path::Path;

use crate::process::{Ended, Server};

/// A script that notes that it ran, writes to both streams, and fails.
fn noting(file: &Path) -> String {
    format!("echo ran >> '{}'; echo out; echo err >&2; exit 7", file.display())
}

fn run(server: &Server, options: &[&str], script: &str) -> Ended {
    server.onced(&[&["run", "job"], options, &["--", "sh", "-c", script]].concat())
}

fn lines_of(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap().lines().count()
}

#[test]
fn a_command_runs_once_and_is_replayed_with_both_streams_and_its_exit_code() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let notes = directory.path().join("notes");
    let script = noting(&notes);
    let first = run(&server, &[], &script);
    assert_eq!((first.text(7), first.stderr.as_str()), ("out\n", "err\n"));
    for _ in 0..2 {
        let replay = run(&server, &[], &script);
        assert_eq!(replay.text(7), "out\n");
        let notice = replay.stderr.strip_prefix("err\n").unwrap();
        assert!(
            notice.starts_with("onced run: replayed: attempt 1 ended with exit code 7 at 2"),
            "{notice}"
        );
    }
    assert_eq!(lines_of(&notes), 1);
    let record = server.onced(&["lookup", "job", "--json"]).json(0);
    assert_eq!(record["completion"]["result"], "failed");
    assert_eq!(record["completion"]["response"]["status_code"], 7);

    // A stored failure is a licence to try again, for who says so.
    assert_eq!(run(&server, &["--retry-failed"], &script).text(7), "out\n");
    assert_eq!(lines_of(&notes), 2);
}

#[test]
fn a_replay_says_nothing_of_itself_to_who_wants_it_quiet() {
    let server = Server::start();
    let script = "echo out; echo err >&2; exit 7";
    run(&server, &[], script).text(7);
    let quiet = run(&server, &["--quiet"], script);
    assert_eq!((quiet.text(7), quiet.stderr.as_str()), ("out\n", "err\n"));
    let code_alone = run(&server, &["--replay", "exit-code"], script);
    assert!(code_alone.complaint(7).starts_with("onced run: replayed"), "{code_alone:?}");
    let silent = run(&server, &["--quiet", "--replay", "exit-code"], script);
    assert_eq!(silent.complaint(7), "");
}

#[test]
fn another_command_under_the_same_key_is_refused_and_never_taken_for_the_commands_own_failure() {
    let server = Server::start();
    run(&server, &[], "exit 0").text(0);
    let other = run(&server, &[], "exit 1");
    assert!(other.complaint(1).contains("FINGERPRINT_MISMATCH"), "{other:?}");
    let other = run(&server, &["--error-exit-code", "125", "--quiet", "-E", "0"], "exit 1");
    assert!(other.complaint(125).contains("FINGERPRINT_MISMATCH"), "{other:?}");
}

#[test]
fn hosts_need_not_agree_on_the_command_where_the_key_is_bound_to_nothing() {
    let server = Server::start();
    run(&server, &["--no-fingerprint"], "echo one").text(0);
    assert_eq!(run(&server, &["--no-fingerprint"], "echo two").text(0), "one\n");
}

#[test]
fn whoever_comes_while_it_runs_is_told_so() {
    let server = Server::start();
    let script = "echo begun; read line; echo \"$line\"";
    let run = |options: &[&'static str]| {
        let head = ["run", "job", "--namespace", "jobs"];
        [&head, options, &["--", "sh", "-c", script]].concat()
    };
    let mut first = server.begin(&run(&["--holder", "host-a"]));
    first.wait_for("begun");

    let second = server.onced(&run(&[]));
    assert!(second.complaint(1).contains("in progress by host-a"), "{second:?}");
    let as_flock_has_it = server.onced(&run(&["--conflict-exit-code", "75", "--quiet"]));
    assert_eq!(as_flock_has_it.complaint(75), "");

    first.say("went on\n");
    assert_eq!(first.end().text(0), "begun\nwent on\n");
    assert_eq!(server.onced(&run(&[])).text(0), "begun\nwent on\n");
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_key_free() {
    let server = Server::start();
    let ended = server.onced(&["run", "job", "--", "no-such-program-anywhere"]);
    assert!(ended.complaint(127).contains("no-such-program-anywhere"), "{ended:?}");
    assert_eq!(server.onced(&["lookup", "job", "--json"]).json(0)["state"], "released");

    let ended = server.onced(&["run", "other", "--", "/dev/null"]);
    assert!(ended.complaint(126).contains("/dev/null"), "{ended:?}");
    assert_eq!(server.onced(&["lookup", "other", "--json"]).json(0)["state"], "released");
}

#[test]
fn an_exit_code_that_says_that_nothing_was_done_leaves_the_key_free() {
    let server = Server::start();
    let options = ["--release-on", "69,75"];
    let script = "echo $ONCED_ATTEMPT; [ $ONCED_ATTEMPT = 3 ] || exit 75";
    assert_eq!(run(&server, &options, script).text(75), "1\n");
    assert_eq!(server.onced(&["lookup", "job", "--json"]).json(0)["state"], "released");
    assert_eq!(run(&server, &options, script).text(75), "2\n");
    assert_eq!(run(&server, &options, script).text(0), "3\n");
    assert_eq!(run(&server, &options, script).text(0), "3\n");
}

#[test]
fn the_command_is_told_of_its_grant_but_never_the_owner_token() {
    let server = Server::start();
    let lines = |ended: Ended| {
        let mut lines: Vec<_> = ended.text(0).lines().map(str::to_owned).collect();
        lines.retain(|line| line.starts_with("ONCED_") && !line.starts_with("ONCED_SERVER="));
        lines.sort();
        lines
    };
    let released = server.onced(&["run", "job", "--namespace", "jobs", "--", "/dev/null"]);
    released.complaint(126);
    let ended = server.onced(&["run", "job 2", "--namespace", "jobs", "--", "env"]);
    let told = lines(ended);
    let token = told[1].strip_prefix("ONCED_FENCING_TOKEN=").unwrap();
    assert!(token.parse::<i64>().unwrap() > 1, "{token}");
    let expected = [
        "ONCED_ATTEMPT=1",
        &told[1],
        "ONCED_KEY=job 2",
        "ONCED_NAMESPACE=jobs",
        "ONCED_TAKEOVER=false",
    ];
    assert_eq!(told, expected);
}

#[test]
fn output_comes_while_the_command_runs_and_input_goes_through() {
    let server = Server::start();
    // No line break: what is written comes, and not what is complete.
    let script = "printf question; read answer; echo \" $answer\"; echo noticed >&2; read end";
    let mut running = server.begin(&["run", "job", "--", "sh", "-c", script]);
    running.wait_for_bytes("question");
    running.say("answer\n");
    running.wait_for(" answer");
    running.wait_for_complaint("noticed");
    assert_eq!(running.end().text(1), "question answer\n");
}

#[test]
fn output_is_streamed_in_full_and_of_what_is_too_long_both_ends_are_replayed() {
    let server = Server::start();
    let script = "seq 1 300000; echo end >&2";
    let first = run(&server, &[], script);
    let whole = first.text(0);
    assert_eq!(whole.lines().count(), 300_000);
    let again = run(&server, &[], script);
    let (head, rest) = again.text(0).split_once("\n[onced run: ").unwrap();
    let (missing, tail) = rest.split_once(" bytes of the output were not kept]\n").unwrap();
    assert!(whole.starts_with(head) && whole.ends_with(tail));
    let missing: usize = missing.parse().unwrap();
    assert_eq!(head.len() + missing + tail.len(), whole.len());
    assert_eq!(head.len() + tail.len(), 1_000 * 1_024 - "end\n".len());
    assert!(again.stderr.starts_with("end\n"), "{}", again.stderr);
}

#[test]
fn what_the_server_does_not_store_is_missed_and_its_exit_code_is_not() {
    let server = Server::start();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; exit 9";
    let first = run(&server, &["--max-output", "4MiB"], script);
    assert_eq!(first.text(9).len(), 3_000_000);
    assert!(first.stderr.contains("only the exit code was kept"), "{}", first.stderr);
    let again = run(&server, &[], script);
    assert!(again.complaint(9).contains("larger than the server stores"), "{}", again.stderr);

    let none = ["run", "other", "--max-output", "0", "--", "sh", "-c", "echo out; exit 9"];
    assert_eq!(server.onced(&none).text(9), "out\n");
    let again = server.onced(&none);
    assert_eq!(again.text(9), "\n[onced run: 4 bytes of the output were not kept]\n");
}

#[test]
fn a_server_that_is_away_is_told_apart_from_the_command() {
    let server = Server::start();
    let address = server.address.clone();
    server.kill();
    let run = ["run", "job", "--server", &address, "--timeout", "200ms"];
    let command = ["--", "sh", "-c", "echo ran"];
    let ended = crate::process::alone(&[&run[..], &command].concat());
    assert!(ended.complaint(3).contains("UNAVAILABLE"), "{ended:?}");
    let run = [&run[..], &["--error-exit-code", "125"], &command].concat();
    crate::process::alone(&run).complaint(125);
}
