//! What a running server says of files that change: one line when it took them, and one when it
//! did not.

use rustix::process::Signal;

use crate::premises::{Premises, json, text};

#[test]
fn on_a_hangup_files_are_read_again_and_a_server_goes_on_with_what_it_has_where_they_are_broken() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let lookup = ["lookup", "order-1", "--namespace", "orders", "--json"];
    let is_known = |principal: &str| {
        premises.run_as(principal, &server, &lookup).status.code() == Some(1) // Not found.
    };
    assert!(is_known("shop"));
    server.signal(Signal::HUP);
    server.wait_for_line("read credentials again");
    server.wait_for_line("read the TLS certificate again");

    // A line for each of what is broken, with all that is wrong in it.
    std::fs::write(premises.path("credentials.toml"), "[principals.shop]\nrole = 1\n").unwrap();
    let line = server.wait_for_line("could not read credentials again");
    for part in ["goes on with what it has", "principals.shop.role", "principals.shop.namespaces"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    std::fs::write(premises.path("server.crt"), premises.authority.server().certificate).unwrap();
    let line = server.wait_for_line("could not read the TLS certificate again");
    assert!(line.contains("does not go with"), "{line}");
    assert!(is_known("shop") && is_known("reports"));
    assert_eq!(server.lines_with("could not read").len(), 2, "told once each");

    // Half of a new pair is no pair; with the other half it is one.
    premises.authority.server().write(premises.directory.path(), "server");
    while server.lines_with("security: read the TLS certificate again").len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(is_known("shop"));
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
}

#[test]
fn a_server_behind_tls_says_how_to_call_it() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let line = server.wait_for_line("grpcurl");
    assert!(line.contains("-cacert CA.pem -H \"authorization: Bearer $ONCED_TOKEN\""), "{line}");
    let stats = ["admin", "namespace", "orders", "--json"];
    json(&premises.run_as("reports", &server, &stats), 0);
    // Without TLS a token can be read on the way.
    let flags = ["--credentials", &text(&premises.path("tokens.toml"))].map(str::to_owned);
    let credentials = std::fs::read_to_string(premises.path("credentials.toml")).unwrap();
    let (tokens, _) = credentials.split_once("[principals.mail]").unwrap();
    std::fs::write(premises.path("tokens.toml"), tokens).unwrap();
    let plain = crate::process::Process::in_memory(&[&flags[0], &flags[1]]);
    plain.wait_for_line("credentials travel in clear");
}
