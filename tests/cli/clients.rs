//! `reserve`, `complete`, `release`, `renew`, `lookup` and `health`: their answers as JSON,
//! and their exit codes.

use serde_json::{Value, json};

use crate::process::{Server, alone};

/// SHA-256 of "hello".
const DIGEST_OF_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// The owner token of a key that is reserved with these arguments.
fn reserve(server: &Server, arguments: &[&str]) -> String {
    let answer = server.onced(&[&["reserve", "--json"], arguments].concat()).json(0);
    assert_eq!(answer["outcome"], "granted", "{answer}");
    answer["owner_token"].as_str().unwrap().to_owned()
}

/// The code and the reason of the refusal that a command printed as JSON.
fn refusal(answer: &Value) -> (&str, &str) {
    let text = |name: &str| answer["error"][name].as_str().unwrap_or_default();
    (text("code"), text("reason"))
}

#[test]
fn a_reservation_is_granted_completed_and_replayed() {
    let server = Server::start();
    let arguments = ["order-1", "--namespace", "shop", "--fingerprint", "00ff", "--json"];
    let reserve = || server.onced(&[&["reserve", "--holder", "worker-7"], &arguments[..]].concat());

    let granted = reserve().json(0);
    assert_eq!(granted["outcome"], "granted");
    assert_eq!((&granted["attempt"], &granted["takeover"]), (&json!(1), &json!(false)));
    assert!(granted["lease_expire_time"].as_str().unwrap().ends_with('Z'), "{granted}");

    let in_progress = reserve().json(1);
    assert_eq!(in_progress["outcome"], "in_progress");
    assert_eq!(in_progress["holder"], "worker-7");
    assert!(in_progress["retry_delay_ms"].as_i64() >= Some(50), "{in_progress}");

    let complete = |payload: &str| {
        let token = granted["owner_token"].as_str().unwrap();
        let complete = ["complete", "order-1", "--namespace", "shop", "--owner-token", token];
        let response = ["--result", "succeeded", "--payload", payload, "--status-code", "-3"];
        let more = ["--content-type", "text/plain", "--metadata", "a=b=c", "--metadata", "d="];
        let retention = ["--retention", "2h", "--json"];
        server.onced(&[&complete[..], &response[..], &more[..], &retention[..]].concat())
    };
    let completed = complete("-done-").json(0);
    let response = &completed["completion"]["response"];
    assert_eq!(response["payload_text"], "-done-");
    assert_eq!(response["metadata"], json!({ "a": "b=c", "d": "" }));
    assert_eq!(
        (&response["status_code"], &response["content_type"]),
        (&json!(-3), &json!("text/plain"))
    );
    assert_eq!(completed["completion"]["result"], "succeeded");
    assert_eq!(complete("-done-").json(0)["completion"], completed["completion"]);
    let conflict = complete("something else").json(1);
    assert_eq!(refusal(&conflict), ("FAILED_PRECONDITION", "RESULT_CONFLICT"));

    let replayed = reserve().json(0);
    assert_eq!(replayed["outcome"], "completed");
    assert_eq!(replayed["completion"], completed["completion"]);

    let record = server.onced(&["lookup", "order-1", "--namespace", "shop", "--json"]).json(0);
    assert_eq!((&record["state"], &record["fingerprint"]), (&json!("completed"), &json!("00ff")));
    assert_eq!(record["completion"], completed["completion"]);
    let token = granted["owner_token"].as_str().unwrap();
    assert!(!record.to_string().contains(token), "{record}");
}

#[test]
fn a_failure_is_replayed_until_somebody_asks_to_try_again() {
    let server = Server::start();
    let token = reserve(&server, &["order-1"]);
    server.onced_as(&token, &["complete", "order-1", "--result", "failed"]).text(0);
    let again = server.onced(&["reserve", "order-1", "--json"]).json(0);
    assert_eq!(again["completion"]["result"], "failed");
    let again = server.onced(&["reserve", "order-1", "--retry-failed", "--json"]).json(0);
    assert_eq!((&again["outcome"], &again["attempt"]), (&json!("granted"), &json!(2)));
}

#[test]
fn a_checkpoint_is_left_by_renew_and_found_after_a_release() {
    let server = Server::start();
    let token = reserve(&server, &["order-1", "--lease", "1m"]);
    let renew = ["renew", "order-1", "--lease", "2m", "--json"];
    let first = server.onced_as(&token, &[&renew[..], &["--checkpoint", "half"]].concat()).json(0);
    assert!(first["lease_expire_time"].as_str() > first["decide_time"].as_str(), "{first}");
    // Without a checkpoint, the stored one is kept.
    server.onced_as(&token, &renew).json(0);
    server.onced_as(&token, &["release", "order-1", "--json"]).json(0);
    assert_eq!(server.onced(&["lookup", "order-1", "--json"]).json(0)["state"], "released");

    let next = server.onced(&["reserve", "order-1", "--json"]).json(0);
    assert_eq!((&next["attempt"], &next["checkpoint_text"]), (&json!(2), &json!("half")));

    let spent = server.onced_as(&token, &[&renew[..], &["--timeout", "5s"]].concat()).json(1);
    assert_eq!(refusal(&spent), ("ABORTED", "LEASE_LOST"));
}

#[test]
fn a_lease_that_lapses_under_hold_is_in_doubt() {
    let server = Server::start();
    let reserve = ["reserve", "order-1", "--lease", "1ms", "--lease-expiry-action", "hold"];
    server.onced(&reserve).text(0);
    // The shortest lease is 100 ms; until then it is in progress.
    let doubt = loop {
        let answer = server.onced(&[&reserve[..], &["--json"]].concat()).json(1);
        if answer["outcome"] != "in_progress" {
            break answer;
        }
    };
    assert_eq!(doubt["outcome"], "in_doubt");
    let doubt = server.onced(&reserve);
    assert!(doubt.text(1).starts_with("outcome"), "{doubt:?}");
}

#[test]
fn a_reserve_with_the_same_owner_token_finds_its_own_reservation() {
    let server = Server::start();
    let token = reserve(&server, &["order-1"]);
    let again = reserve(&server, &["order-1", "--owner-token", &token]);
    assert_eq!(again, token);
}

#[test]
fn a_fingerprint_and_a_payload_come_from_a_file_or_from_stdin() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("request");
    std::fs::write(&file, "hello").unwrap();
    let file = file.to_str().unwrap();

    let token = reserve(&server, &["order-1", "--fingerprint-of", file]);
    let record = server.onced(&["lookup", "order-1", "--json"]).json(0);
    assert_eq!(record["fingerprint"], DIGEST_OF_HELLO);
    let of_stdin = ["reserve", "order-1", "--fingerprint-of", "-", "--json"];
    assert_eq!(server.onced_with_input("hello", &of_stdin).json(1)["outcome"], "in_progress");
    let other = server.onced_with_input("hullo", &of_stdin).json(1);
    assert_eq!(refusal(&other), ("FAILED_PRECONDITION", "FINGERPRINT_MISMATCH"));
    assert_eq!(other["error"]["violations"].as_array().unwrap().len(), 1);

    let complete = ["complete", "order-1", "--result", "succeeded", "--payload-file", file];
    let completed = server.onced_as(&token, &[&complete[..], &["--json"]].concat()).json(0);
    assert_eq!(completed["completion"]["response"]["payload_text"], "hello");
    let missing = ["reserve", "order-2", "--fingerprint-of", "/nowhere", "--json"];
    assert_eq!(refusal(&server.onced(&missing).json(2)).0, "INVALID_ARGUMENT");
}

#[test]
fn what_the_state_of_the_key_refuses_is_1_and_what_is_malformed_is_2() {
    let server = Server::start();
    let nothing = server.onced(&["lookup", "order-1", "--json"]).json(1);
    assert_eq!(refusal(&nothing), ("NOT_FOUND", "RESERVATION_NOT_FOUND"));
    let text = server.onced(&["lookup", "order-1"]);
    assert!(text.complaint(1).contains("RESERVATION_NOT_FOUND"), "{text:?}");

    let malformed = server.onced(&["reserve", "", "--namespace", "Shop", "--json"]).json(2);
    assert_eq!(refusal(&malformed), ("INVALID_ARGUMENT", "INVALID_FIELD"));
    assert_eq!(malformed["error"]["violations"].as_array().unwrap().len(), 2, "{malformed}");
    alone(&["reserve"]).complaint(2);
    alone(&["renew", "order-1"]).complaint(2);
}

#[test]
fn a_server_that_is_not_there_is_3() {
    // Nothing listens on port 1.
    let nowhere = ["--server", "http://127.0.0.1:1", "--timeout", "200ms"];
    for command in [
        &["reserve", "key"][..],
        &["complete", "key", "--owner-token", "t", "--result", "failed"],
        &["release", "key", "--owner-token", "t"],
        &["renew", "key", "--owner-token", "t"],
        &["lookup", "key"],
        &["run", "key", "--"],
        &["health"],
        &["admin", "list"],
        &["admin", "stats"],
        &["admin", "delete", "key", "--reason", "none", "--yes"],
        &["admin", "erase", "shop", "--reason", "none", "--yes"],
    ] {
        let (command, of_run) = match command.split_last() {
            Some((&"--", command)) => (command, &["--", "true"][..]),
            _ => (command, &[][..]),
        };
        let ended = alone(&[command, &nowhere[..], of_run].concat());
        assert!(ended.complaint(3).contains("UNAVAILABLE"), "{ended:?}");
    }
    let error = alone(&[&["reserve", "key", "--json"], &nowhere[..]].concat()).json(3);
    assert_eq!(refusal(&error).0, "UNAVAILABLE");
    // It may have been granted all the same, and this is what finds it.
    assert!(error["error"]["owner_token"].is_string(), "{error}");
}

#[test]
fn an_answer_that_does_not_come_is_3() {
    // Connections are taken, and nothing is ever said on them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    for command in ["lookup", "health"] {
        let key: &[&str] = if command == "lookup" { &["key"] } else { &[] };
        let arguments = ["--server", &server, "--timeout", "200ms", "--json"];
        let error = alone(&[&[command], key, &arguments[..]].concat()).json(3);
        assert_eq!(refusal(&error).0, "DEADLINE_EXCEEDED", "{command}: {error}");
    }
}

#[test]
fn a_reservation_is_completed_after_its_server_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    let token = reserve(&server, &["order-1"]);
    let (address, data) = (server.address.clone(), directory.path());
    server.kill();
    let server = Server::restart_in(data, &address);
    let complete = ["complete", "order-1", "--result", "succeeded", "--json"];
    assert_eq!(server.onced_as(&token, &complete).json(0)["completion"]["late"], false);
    assert_eq!(server.onced(&["lookup", "order-1", "--json"]).json(0)["state"], "completed");
}

#[test]
fn health_is_0_where_the_server_serves_and_3_where_it_does_not() {
    let server = Server::start();
    assert_eq!(server.onced(&["health"]).text(0), "SERVING\n");
    let api = ["health", "--service", "onced.v1.IdempotencyService", "--json"];
    assert_eq!(server.onced(&api).json(0)["status"], "SERVING");
    assert_eq!(server.onced(&["health", "--service", "nobody"]).text(3), "SERVICE_UNKNOWN\n");
}

#[test]
fn an_owner_token_in_the_environment_is_not_shown_by_help() {
    let server = Server::start();
    let help = server.onced_as("SECRET", &["complete", "--help"]);
    assert!(help.text(0).contains("ONCED_OWNER_TOKEN"), "{help:?}");
    assert!(!help.stdout.contains("SECRET"), "{help:?}");
}

#[test]
fn reserve_and_lookup_wait_for_whoever_is_at_it() {
    let server = Server::start();
    let token = reserve(&server, &["order-1"]);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| server.onced(&["reserve", "order-1", "--wait", "1h", "--json"]).json(0));
        let looking =
            scope.spawn(|| server.onced(&["lookup", "order-1", "--wait", "1h", "--json"]).json(0));
        server.onced_as(&token, &["complete", "order-1", "--result", "succeeded"]).text(0);
        let replayed = waiting.join().unwrap();
        assert_eq!(replayed["outcome"], "completed");
        assert_eq!(looking.join().unwrap()["completion"], replayed["completion"]);
    });

    // And no longer than they were told, whatever the server or the owner does.
    reserve(&server, &["order-2", "--lease", "1h"]);
    let brief = server.onced(&["reserve", "order-2", "--wait", "300ms", "--json"]).json(1);
    assert_eq!(brief["outcome"], "in_progress");
    let brief = server.onced(&["lookup", "order-2", "--wait", "300ms", "--json"]).json(0);
    assert_eq!(brief["state"], "held");
}
