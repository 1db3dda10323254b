//! `onced backup`, `onced restore` and `onced verify`: a store that was lost, and is there again.

use std::fs;

use serde_json::json;

use crate::process::{Server, alone};

#[test]
fn a_store_that_was_lost_is_made_of_a_backup() {
    // Given a server with a directory for backups, and one of what it has.
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (data, backups, again) = (path("data"), path("backups"), path("again"));
    let server =
        Server::start_with(root.path().join("data").as_path(), &["--backup-dir", &backups]);
    assert_eq!(server.onced(&["backup", "--list", "--json"]).json(0), json!([]));
    let reserved = server.onced(&["reserve", "order-1", "--json"]).json(0);
    let made = server.onced(&["backup", "--json", "--reason", "before the move"]).json(0);
    assert_eq!((&made["backup_id"], &made["damaged"]), (&json!(1), &json!(false)));
    assert!(made["create_time"].is_string() && made["size_bytes"].as_i64() > Some(0), "{made}");
    let later = server.onced(&["reserve", "order-2", "--json"]).json(0);
    let listed = server.onced(&["backup", "--list"]);
    assert!(listed.text(0).starts_with("BACKUP  MADE"), "{listed:?}");

    // When the backup is verified and the data is lost,
    let verified = alone(&["verify", &backups, "--json"]).json(0);
    assert_eq!((&verified["backup_id"], &verified["faults"]), (&json!(1), &json!(0)));
    assert_eq!((&verified["records"], &verified["expiry_entries"]), (&json!(1), &json!(1)));
    server.kill();
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(alone(&["restore", "--list", &backups, "--json"]).json(0), json!([made]));
    let restored = alone(&["restore", &backups, &again, "--json"]).json(0);
    assert_eq!(restored["backup"], made);

    // then it is there again, nothing of it is written over, and fencing tokens go on behind all
    // that were given.
    let over = alone(&["restore", &backups, &again, "--json"]).json(1);
    assert!(over["error"]["message"].as_str().unwrap().contains("is not empty"), "{over}");
    let verified = alone(&["verify", &again]);
    assert!(verified.text(0).contains("faults              0"), "{verified:?}");
    let server = Server::start_in(again.as_ref());
    let token = reserved["owner_token"].as_str().unwrap();
    let same = server.onced(&["reserve", "order-1", "--owner-token", token, "--json"]).json(0);
    assert_eq!(same["fencing_token"], reserved["fencing_token"]);
    server.onced(&["lookup", "order-2"]).complaint(1);
    let new = server.onced(&["reserve", "order-2", "--json"]).json(0);
    assert!(new["fencing_token"].as_i64() > later["fencing_token"].as_i64(), "{new} {later}");
    assert!(new["fencing_token"].as_i64() > restored["fencing_above"].as_i64(), "{new}");

    // And as long as a server has it open, it is not verified.
    let busy = alone(&["verify", &again, "--json"]).json(3);
    assert!(busy["error"]["message"].as_str().unwrap().contains("is in use"), "{busy}");
}

#[test]
fn a_server_without_a_directory_for_them_makes_no_backups() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_in(&root.path().join("data"));
    for command in [&["backup", "--json"][..], &["backup", "--list", "--json"]] {
        let refused = server.onced(command).json(1);
        assert_eq!(refused["error"]["reason"], "BACKUPS_OFF");
    }
    let malformed = server.onced(&["backup", "--operator", "", "--json"]).json(2);
    assert_eq!(malformed["error"]["violations"][0]["subject"], "operator");
}

#[test]
fn what_is_wrong_with_a_store_is_told_with_an_exit_code() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (data, backups) = (path("data"), path("backups"));
    let server =
        Server::start_with(root.path().join("data").as_path(), &["--backup-dir", &backups]);
    for number in 0..50 {
        server.onced(&["reserve", &format!("order-{number}")]).text(0);
    }
    server.onced(&["backup"]).text(0);
    assert_eq!(server.stop(), Some(0));

    // A table of the records in which a byte is another one: found in the data directory,
    let table = |folder: &str| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let tables = entries.filter(|path| path.extension().is_some_and(|it| it == "sst"));
        tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    };
    let harm = |path: &std::path::Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[20] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    harm(&table(&data));
    let verified = alone(&["verify", &data, "--json"]).json(1);
    assert!(verified["fault_counts"]["unreadable_table"].as_i64() >= Some(1), "{verified}");
    assert_eq!(verified["listing"][0]["fault"], "unreadable_table");
    // and in a backup, which is then not restored either.
    harm(&table(&format!("{backups}/shared_checksum")));
    let verified = alone(&["verify", &backups, "--json"]).json(3);
    assert_eq!(verified["error"]["code"], "DATA_LOSS");
    let restored = alone(&["restore", &backups, &path("again"), "--json"]).json(3);
    assert_eq!(restored["error"]["code"], "DATA_LOSS");
    assert_eq!(fs::read_dir(path("again")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_right_is_wrong_usage() {
    let root = tempfile::tempdir().unwrap();
    let empty = root.path().to_str().unwrap();
    alone(&["restore", empty]).complaint(2);
    alone(&["restore", "--list", empty, "data"]).complaint(2);
    alone(&["restore", empty, "data", "--fencing-above", "0"]).complaint(2);
    alone(&["verify", empty, "--id", "1"]).complaint(2);
    alone(&["backup", "--list", "--reason", "why"]).complaint(2);
    let missing = alone(&["restore", empty, "data"]);
    assert!(missing.complaint(1).contains("holds no backup"), "{missing:?}");
    assert!(alone(&["verify", empty]).complaint(1).contains("holds no store"));
}
