//! `onced inspect`: what a directory holds once its server has gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use serde_json::json;

use crate::process::{Server, alone};

fn files(directory: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn a_directory_is_read_after_its_server_has_gone() {
    // Given records of three kinds in two namespaces, and a server that was stopped.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_in(&data);
    let reserve = ["reserve", "order-1", "--namespace", "shop", "--holder", "me", "--json"];
    let token = server.onced(&reserve).json(0)["owner_token"].as_str().unwrap().to_owned();
    let complete = ["complete", "order-1", "--namespace", "shop", "--result", "succeeded"];
    server.onced_as(&token, &[&complete[..], &["--payload", "PRIVATE"]].concat()).text(0);
    let hold = ["reserve", "order-2", "--lease-expiry-action", "hold", "--json"];
    server.onced(&hold).json(0);
    let token = server.onced(&["reserve", "order-3", "--json"]).json(0)["owner_token"].clone();
    server.onced_as(token.as_str().unwrap(), &["release", "order-3"]).text(0);
    assert_eq!(server.stop(), Some(0));

    // When it is read, then all of it is counted and listed, and nothing is changed.
    let path = data.to_str().unwrap();
    let before = files(&data);
    let report = alone(&["inspect", path, "--json"]).json(0);
    assert_eq!(files(&data), before);
    assert_eq!((&report["namespaces"], &report["wrong_counters"]), (&json!(2), &json!(0)));
    let shop = &report["namespace_listing"][1];
    assert_eq!((&shop["namespace"], &shop["keys"]), (&json!("shop"), &json!(1)));
    assert_eq!((&shop["counter_is_right"], &shop["counter_keys"]), (&json!(true), &json!(1)));
    assert_eq!(
        report["records"],
        json!({
            "held": 1, "lapsed": 0, "in_doubt": 0, "released": 1, "completed": 1, "vacant": 0,
        })
    );
    assert_eq!((&report["damaged_records"], &report["runs"]), (&json!(0), &json!(1)));
    assert!(report["fencing_high_water"].as_i64() >= Some(3), "{report}");
    assert!(report["clock_high_water"].is_string(), "{report}");

    // And when some of it is asked for, then that is what comes.
    let one = alone(&["inspect", path, "--namespace", "shop", "--key-prefix", "ord", "--json"]);
    let one = one.json(0);
    let listing = one["listing"].as_array().unwrap();
    assert_eq!(listing.len(), 1, "{one}");
    assert_eq!(
        (&listing[0]["key"], &listing[0]["state"], &listing[0]["holder"]),
        (&json!("order-1"), &json!("completed"), &json!("me"))
    );
    assert_eq!(listing[0]["response_size_bytes"], json!("PRIVATE".len()));
    let page = alone(&["inspect", path]);
    assert!(page.text(0).contains("order-2"), "{page:?}");
    assert!(!page.stdout.contains("PRIVATE") && !one.to_string().contains("PRIVATE"), "{page:?}");
    let page = alone(&["inspect", path, "--limit", "1"]);
    assert!(page.text(0).contains("2 more"), "{page:?}");
}

#[test]
fn what_a_killed_server_acknowledged_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path());
    server.onced(&["reserve", "order-1"]).text(0);
    server.kill();
    let report = alone(&["inspect", directory.path().to_str().unwrap(), "--json"]).json(0);
    assert_eq!(report["records"]["held"], 1);
}

#[test]
fn what_cannot_be_opened_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let complaint = alone(&["inspect", path]);
    assert!(complaint.complaint(3).contains("holds no store"), "{complaint:?}");
    assert_eq!(alone(&["inspect", path, "--json"]).json(3)["error"]["code"], "NOT_FOUND");
    assert_eq!(files(directory.path()), BTreeSet::new());

    std::fs::write(directory.path().join("CURRENT"), "nonsense").unwrap();
    let damaged = alone(&["inspect", path, "--json"]).json(3);
    assert_eq!(damaged["error"]["code"], "DATA_LOSS", "{damaged}");
    alone(&["inspect"]).complaint(2);
}
