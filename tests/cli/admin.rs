//! `onced admin`: what people and programs are shown, what is asked first, and exit codes.

use serde_json::{Value, json};

use crate::process::{Server, alone};

const BY: [&str; 4] = ["--reason", "the bank says so", "--operator", "olga"];

fn admin(server: &Server, arguments: &[&str]) -> crate::process::Ended {
    server.onced(&[&["admin"], arguments].concat())
}

/// A change by Olga, who is not asked.
fn force(server: &Server, arguments: &[&str]) -> crate::process::Ended {
    admin(server, &[arguments, &BY[..], &["--yes", "--json"]].concat())
}

fn lose(server: &Server, namespace: &str, key: &str) {
    let reserve = ["reserve", key, "--namespace", namespace, "--lease", "100ms"];
    server.onced(&[&reserve[..], &["--lease-expiry-action", "hold"]].concat()).text(0);
}

/// The objects on the lines of a listing.
fn listed(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let ended = admin(server, &[&["list", "--json"], arguments].concat());
    ended.text(0).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The work list, once it has so many entries.
fn in_doubt(server: &Server, length: usize) -> Vec<String> {
    loop {
        let list = listed(server, &["--state", "in-doubt", "--all-namespaces"]);
        if list.len() == length {
            return list.iter().map(|it| it["key"].as_str().unwrap().to_owned()).collect();
        }
    }
}

#[test]
fn a_work_list_is_worked_off() {
    let server = Server::start();
    for (count, (namespace, key)) in
        [("shop", "c"), ("bank", "a"), ("shop", "b")].into_iter().enumerate()
    {
        lose(&server, namespace, key);
        in_doubt(&server, count + 1);
    }
    assert_eq!(in_doubt(&server, 3), ["c", "a", "b"]);
    let table = admin(&server, &["list", "--state", "in-doubt", "--namespace", "shop"]);
    let lines: Vec<_> = table.text(0).lines().collect();
    assert_eq!(lines.len(), 3, "{table:?}");
    assert!(lines[0].starts_with("STATE") && lines[1].starts_with("in_doubt  shop"), "{table:?}");

    let released = force(&server, &["force-release", "c", "--namespace", "shop"]).json(0);
    assert_eq!(
        (&released["state_before"], &released["state"]),
        (&json!("in_doubt"), &json!("released"))
    );
    let end = ["force-complete", "a", "--namespace", "bank", "--result", "succeeded"];
    let completed =
        force(&server, &[&end[..], &["--payload", "paid", "--status-code", "201"]].concat());
    let completed = completed.json(0);
    assert_eq!(completed["completion"]["status_code"], 201);
    assert_eq!(completed["completion"]["response_size_bytes"], 4);
    assert_eq!(completed["completion"].get("response"), None);
    let replayed = server.onced(&["reserve", "a", "--namespace", "bank", "--json"]).json(0);
    assert_eq!(replayed["completion"]["response"]["payload_text"], "paid");
    let deleted = force(&server, &["delete", "b", "--namespace", "shop"]).json(0);
    assert_eq!(deleted["state_before"], "in_doubt");
    let deleted = force(&server, &["delete", "b", "--namespace", "shop"]).json(0);
    assert_eq!(deleted["state_before"], Value::Null);
    assert_eq!(in_doubt(&server, 0), Vec::<String>::new());

    let stats = admin(&server, &["stats", "--json"]).json(0);
    assert_eq!(
        (&stats["condition"], &stats["store"]["kind"]),
        (&json!("serving"), &json!("memory"))
    );
    assert_eq!(
        (&stats["store"]["records"], &stats["store"]["fencing_high_water"]),
        (&json!(2), &json!(3))
    );
    let usages = stats["store"]["namespaces"].as_array().unwrap();
    let names: Vec<_> = usages.iter().map(|it| (&it["namespace"], &it["keys"])).collect();
    assert_eq!(names, [(&json!("bank"), &json!(1)), (&json!("shop"), &json!(1))]);
    assert!(admin(&server, &["stats"]).text(0).contains("condition"));

    let policy = admin(&server, &["namespace", "bank", "--json"]).json(0);
    assert_eq!(
        (&policy["namespace"], &policy["listed"], &policy["served"], &policy["lease_default_ms"]),
        (&json!("bank"), &json!(false), &json!(true), &json!(30_000))
    );
    assert!(admin(&server, &["namespace", "bank"]).text(0).contains("lease expiry action"));
    assert!(admin(&server, &["namespace", "Bank"]).complaint(2).contains("namespace"));
}

#[test]
fn a_listing_goes_through_all_pages_up_to_its_limit() {
    let server = Server::start();
    for key in ["a-1", "a-2", "a-3", "b-1"] {
        server.onced(&["reserve", key]).text(0);
    }
    let keys = |arguments: &[&str]| -> Vec<String> {
        let list = listed(&server, arguments);
        list.iter().map(|it| it["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&[]), ["a-1", "a-2", "a-3", "b-1"]);
    assert_eq!(keys(&["--prefix", "a-", "--limit", "2"]), ["a-1", "a-2"]);
    assert_eq!(keys(&["--state", "completed"]), Vec::<String>::new());
    let cut = admin(&server, &["list", "--limit", "3"]);
    assert!(cut.stderr.contains("--limit lists more"), "{cut:?}");
    let one = &listed(&server, &["--limit", "1"])[0];
    assert_eq!((&one["namespace"], &one["state"]), (&json!("default"), &json!("held")));
    assert_eq!(one.get("checkpoint"), None);
}

#[test]
fn where_nobody_can_be_asked_nothing_is_changed_without_yes() {
    let server = Server::start();
    server.onced(&["reserve", "order-1"]).text(0);
    for command in [
        &["force-release", "order-1"][..],
        &["force-complete", "order-1", "--result", "failed"],
        &["delete", "order-1"],
        &["erase", "default"],
    ] {
        let refused = admin(&server, &[command, &["--reason", "none"]].concat());
        assert!(refused.complaint(2).contains("--yes"), "{refused:?}");
    }
    let record = server.onced(&["lookup", "order-1", "--json"]).json(0);
    assert_eq!(record["state"], "held");
}

#[test]
fn a_namespace_is_erased_and_how_far_it_came_is_told() {
    let server = Server::start();
    for (namespace, key) in [("shop", "a"), ("shop", "b"), ("shops", "a")] {
        server.onced(&["reserve", key, "--namespace", namespace]).text(0);
    }
    let id = "6f1c2a9e-5b1d-4c3e-9a77-0d5e8c4b2f10";
    let erase = || force(&server, &["erase", "shop", "--erase-id", id]).json(0);
    let erased = erase();
    assert_eq!((&erased["done"], &erased["erased_records"]), (&json!(true), &json!(2)));
    assert_eq!((&erased["operator"], &erased["erase_id"]), (&json!("olga"), &json!(id)));
    // The same erase again is the one that is done.
    assert_eq!(erase(), erased);
    let left = listed(&server, &["--all-namespaces"]);
    assert_eq!((left.len(), &left[0]["namespace"]), (1, &json!("shops")));
}

#[test]
fn what_the_state_of_the_key_refuses_is_1_and_what_is_malformed_is_2() {
    let server = Server::start();
    let nothing = force(&server, &["force-release", "order-1"]).json(1);
    assert_eq!(nothing["error"]["reason"], "RESERVATION_NOT_FOUND");
    server.onced(&["reserve", "order-1"]).text(0);
    let changed = force(&server, &["delete", "order-1", "--fencing-token", "99"]).json(1);
    assert_eq!(changed["error"]["reason"], "RECORD_CHANGED");
    let malformed = ["admin", "delete", "order-1", "--yes", "--json", "--reason", ""];
    let malformed = server.onced(&malformed).json(2);
    assert_eq!(malformed["error"]["violations"][0]["subject"], "reason");
    alone(&["admin", "delete", "order-1", "--yes"]).complaint(2);
    alone(&["admin"]).complaint(2);
}

/// Runs a command on a terminal of its own, with `typed` on it.
fn on_a_terminal(server: &Server, command: &str, typed: &str) -> (Option<i32>, String) {
    let mut terminal = std::process::Command::new("script");
    let binary = env!("CARGO_BIN_EXE_onced");
    terminal.args([
        "--quiet",
        "--return",
        "--command",
        &format!("{binary} {command}"),
        "/dev/null",
    ]);
    terminal.env("ONCED_SERVER", format!("http://{}", server.address));
    terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut running = terminal.spawn().unwrap();
    // The terminal holds it until it is asked for.
    let mut keyboard = running.stdin.take().unwrap();
    std::io::Write::write_all(&mut keyboard, typed.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    drop(keyboard);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn somebody_at_a_terminal_is_shown_the_record_and_asked() {
    let server = Server::start();
    server.onced(&["reserve", "order-1", "--holder", "worker-7"]).text(0);
    let state = || server.onced(&["lookup", "order-1", "--json"]).json(0)["state"].clone();

    let release = "admin force-release order-1 --reason none";
    let (code, shown) = on_a_terminal(&server, release, "n\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("worker-7") && shown.contains("Release it? [y/N]"), "{shown}");
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!(state(), "held");
    let (code, shown) = on_a_terminal(&server, release, "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(state(), "released");

    let erase = "admin erase default --reason none";
    let (code, shown) = on_a_terminal(&server, erase, "yes\n");
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(state(), "released");
    let (code, shown) = on_a_terminal(&server, erase, "default\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("erased records"), "{shown}");
    server.onced(&["lookup", "order-1"]).complaint(1);
}
