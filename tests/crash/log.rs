//! What an operator changes about the log while a server runs, with the command line, and what
//! the server writes of that.

use std::process::Output;

use tempfile::TempDir;

use crate::process::{Process, onced};

fn log(server: &Process, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.address);
    let by = ["--reason", "ticket 4711", "--operator", "olga", "--server", &url];
    onced().args(["admin", "log"]).args(arguments).args(by).output().unwrap()
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_log_is_changed_while_the_server_runs_and_goes_back_by_itself() {
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&dir.path().join("data"), &[]);
    assert_eq!(server.lines_with("DEBUG").len(), 0);

    // When an operator wants to see more for a second,
    let shown = said(&log(&server, &["debug", "--for", "1s", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["filter"], "debug,onced::audit=info");
    assert_eq!((&shown["filter_before"], &shown["duration_ms"]), (&"info".into(), &1_000.into()));

    // then more is seen, who wanted it is written down, and after the second it is as before.
    let audit = server.wait_for_line("onced::audit: an operator's command took effect");
    for part in ["action=\"set_log_filter\"", "operator=\"olga\"", "reason=\"ticket 4711\""] {
        assert!(audit.contains(part), "{part} in {audit}");
    }
    server.wait_for_line("DEBUG");
    let ended = server.wait_for_line("a log filter ended after its time");
    assert!(ended.contains("after=\"info,onced::audit=info\""), "{ended}");

    // And whoever switches everything off cannot hide that.
    said(&log(&server, &["off"]));
    let shown = said(&log(&server, &["--json"]));
    assert!(shown.contains("\"off,onced::audit=info\""), "{shown}");
    server.wait_for_line("before=\"off,onced::audit=info\"");
}

#[test]
fn a_filter_that_is_none_is_refused_and_changes_nothing() {
    let server = Process::in_memory(&[]);
    let refused = log(&server, &["inof"]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("filter") && message.contains("unknown level"), "{message}");
    assert!(server.lines_with("set_log_filter").is_empty());
}
