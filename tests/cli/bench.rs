//! `onced bench` as people and scripts meet it: what it prints, and how it ends.

use std::net::TcpListener;

use crate::process::{Server, alone};

const SMALL: [&str; 6] = ["bench", "--json", "--connections", "2", "--in-flight", "4"];

#[test]
fn every_acknowledged_key_is_counted() {
    let server = Server::start();
    let reserves = ["--workload", "reserve", "--calls", "50", "--address", &server.address];
    let measured = alone(&[&SMALL[..], &reserves].concat()).json(0);
    assert_eq!(measured["calls"], 50);
    assert_eq!(measured["stored_keys"], 50);
    assert_eq!(measured["faults"], 0);

    let batches = ["--workload", "batch", "--calls", "3", "--address", &server.address];
    let measured = alone(&[&SMALL[..], &batches].concat()).json(0);
    assert_eq!(measured["stored_keys"], 300);
    let held = alone(&["admin", "stats", "--json", "--server", &server.address]).json(0);
    assert_eq!(held["store"]["namespaces"][0]["keys"], 350);
}

#[test]
fn the_call_that_does_nothing_is_there_only_where_it_was_asked_for() {
    let noop = |server: &Server| {
        let calls = ["--workload", "noop", "--calls", "8", "--address", &server.address];
        alone(&[&SMALL[..], &calls].concat())
    };
    let ended = noop(&Server::start());
    assert!(ended.stderr.contains("the status UNIMPLEMENTED: 8 times"), "{ended:?}");
    let measured = ended.json(1);
    assert_eq!((&measured["calls"], &measured["faults"]), (&0.into(), &8.into()));

    let measured = noop(&Server::start_in_memory_with(&["--noop-call"])).json(0);
    assert_eq!((&measured["calls"], &measured["faults"]), (&8.into(), &0.into()));
}

#[test]
fn a_load_that_cannot_be_put_on_says_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = alone(&["bench", "--address", &nobody]);
    assert!(ended.complaint(3).contains(&format!("cannot reach {nobody}")), "{ended:?}");
    let ended = alone(&["bench", "--connections", "10000", "--in-flight", "101"]);
    assert!(ended.complaint(2).contains("calls in flight are too many"), "{ended:?}");
    let ended = alone(&["bench", "--server", "redis", "--workload", "cycle"]);
    assert!(ended.complaint(2).contains("only onced itself"), "{ended:?}");
}
