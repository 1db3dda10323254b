//! `onced run` and the processes around it: signals, terminals, and what a command leaves
//! behind.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Running, Server};

/// What runs a program without a terminal, as cron and systemd do, and with every signal as it is by
/// default: a shell script that runs the tests in the background ignores two, and what it starts
/// would go on ignoring them.
const DETACHED: [&str; 3] = ["setsid", "env", "--default-signal"];

/// Starts `script` without a terminal, and waits until it says that it has begun.
fn begin(server: &Server, script: &str) -> Running {
    let mut running = server.begin_through(&DETACHED, &["run", "job", "--", "sh", "-c", script]);
    running.wait_for("begun");
    running
}

#[test]
fn what_would_end_the_command_reaches_it_and_its_death_is_stored_and_replayed() {
    for (signal, number) in [
        (Signal::HUP, 1),
        (Signal::INT, 2),
        (Signal::QUIT, 3),
        (Signal::USR1, 10),
        (Signal::USR2, 12),
        (Signal::TERM, 15),
    ] {
        let server = Server::start();
        // Without a core file for SIGQUIT.
        let script = "ulimit -c 0; echo begun; exec cat";
        let running = begin(&server, script);
        running.signal(signal);
        assert_eq!(running.end_by_itself().text(128 + number), "begun\n");
        let replay = server.onced(&["run", "job", "--", "sh", "-c", script]);
        assert_eq!(replay.text(128 + number), "begun\n");
        let record = server.onced(&["lookup", "job", "--json"]).json(0);
        assert_eq!(record["completion"]["result"], "failed");
    }
}

#[test]
fn the_command_decides_what_a_signal_does_however_often_it_comes() {
    let server = Server::start();
    let script = "trap 'n=$((n + 1)); echo caught $n' TERM; echo begun
                  while [ \"$n\" != 3 ]; do sleep 0.01; done; exit 6";
    let mut running = begin(&server, script);
    for n in 1..=3 {
        running.signal(Signal::TERM);
        running.wait_for(&format!("caught {n}"));
    }
    assert_eq!(running.end().text(6), "begun\ncaught 1\ncaught 2\ncaught 3\n");
}

#[test]
fn without_a_terminal_signals_reach_what_the_command_started() {
    let server = Server::start();
    // This shell dies of it; what it started would go on, and hold its output.
    let running = begin(&server, "sleep 600 & echo begun; wait");
    running.signal(Signal::TERM);
    let ended = running.end_by_itself();
    ended.text(128 + 15);
    assert_eq!(ended.stderr, "");
}

#[test]
fn without_a_terminal_a_command_that_is_stopped_keeps_its_lease() {
    let server = Server::start();
    let script = "echo $$; echo begun; read line";
    let command = ["run", "job", "--lease", "2s", "--", "sh", "-c", script];
    let mut running = server.begin_through(&DETACHED, &command);
    running.wait_for("begun");
    running.signal(Signal::TSTP);
    let shell = running.said().lines().next().unwrap().to_owned();
    wait_until("the command is stopped", || {
        let state = std::fs::read_to_string(format!("/proc/{shell}/stat")).unwrap();
        state.rsplit_once(") ").unwrap().1.starts_with('T')
    });
    let lease = || {
        let record = server.onced(&["lookup", "job", "--json"]).json(0);
        assert_eq!(record["state"], "held");
        record["lease_expire_time"].as_str().unwrap().to_owned()
    };
    let mut leases = std::collections::BTreeSet::new();
    while leases.len() < 5 {
        leases.insert(lease());
    }
    running.say("on\n");
    running.signal(Signal::CONT);
    assert_eq!(running.end_by_itself().text(0), format!("{shell}\nbegun\n"));
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let server = Server::start();
    let command = ["run", "job", "--", "sh", "-c", "echo begun; read line; exit 5"];
    let mut running = server.begin_through(&["setsid", "nohup"], &command);
    running.wait_for("begun");
    running.signal(Signal::HUP);
    running.say("on\n");
    assert_eq!(running.end().text(5), "begun\n");
}

#[test]
fn with_a_terminal_its_keys_reach_the_command_once_and_it_reads_what_is_typed() {
    let server = Server::start();
    // A key that is pressed while the shell reads ends that read.
    let script = "trap 'echo caught' INT; echo begun
                  until [ \"$line\" = typed ]; do read line; done; echo \"end $line\"";
    let shell = "exec \"$ONCED\" run job --server \"$ADDRESS\" -- sh -c \"$SCRIPT\"";
    let mut command = Command::new("env");
    command.args(["--default-signal", "script"]);
    command.args(["--quiet", "--return", "--command", shell, "/dev/null"]);
    command.env("ONCED", env!("CARGO_BIN_EXE_onced")).env("ADDRESS", &server.address);
    command.env("SCRIPT", script).env("SHELL", "/bin/sh");
    let mut running = Running::start(&mut command);
    running.wait_for("begun");
    running.say("\u{3}");
    running.wait_for_line_with("caught");
    running.say("typed\n");
    running.wait_for("end typed");
    let ended = running.end_by_itself();
    assert_eq!(ended.text(0).matches("caught").count(), 1, "{ended:?}");
}

#[test]
fn a_command_does_not_outlive_a_runner_that_is_killed() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("note");
    let script = format!(
        "trap 'kill $!; echo terminated > {}; exit' TERM; sleep 600 & echo begun; wait",
        note.display()
    );
    let running = begin(&server, &script);
    running.signal(Signal::KILL);
    wait_until("the command was terminated", || note.exists());
}

/// Looks again and again, with pauses, until `what` is true.
fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < Duration::from_secs(60), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_command_leaves_behind_holds_nobody_up() {
    // Silent and talkative alike; the one dies of its next word once nobody listens.
    for left_behind in ["sleep 20", "while echo x; do :; done"] {
        let server = Server::start();
        let script = format!("{left_behind} & echo done; exit 3");
        let ended = server.onced(&["run", "job", "--", "sh", "-c", &script]);
        assert!(ended.text(3).contains("done\n"), "{left_behind}");
        assert!(ended.stderr.contains("left behind"), "{left_behind}: {}", ended.stderr);
        server.onced(&["run", "job", "--", "sh", "-c", &script]).text(3);
    }
}

#[test]
fn while_the_result_is_stored_it_takes_two_signals_to_give_that_up() {
    let server = Server::start();
    let command = ["run", "job", "--", "sh", "-c", "echo begun; read line"];
    let mut running = server.begin(&command);
    running.wait_for("begun");
    server.kill();
    running.say("end\n");
    running.wait_for_complaint("trying again");
    running.signal_until_it_ends(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.text(3), "begun\n");
    assert!(ended.stderr.contains("another signal gives that up"), "{ended:?}");
    assert!(ended.stderr.contains("was not stored: given up"), "{ended:?}");
}
