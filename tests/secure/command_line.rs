//! The command line in front of a server behind TLS: what it takes to be let in, what it is told
//! where it is not, and how a server says that it cannot start.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::certificates::Authority;
use crate::premises::{Premises, json, reason, text};
use crate::process::onced;

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn an_order_is_placed_with_a_token_over_tls_by_every_command() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let shop = |arguments: &[&str]| {
        premises.run_as("shop", &server, &[arguments, &["--namespace", "orders"]].concat())
    };
    let granted = json(&shop(&["reserve", "order-1", "--json"]), 0);
    assert_eq!(granted["outcome"], "granted");
    let owner = ["--owner-token", granted["owner_token"].as_str().unwrap()];
    json(&shop(&[&["renew", "order-1", "--json"], &owner[..]].concat()), 0);
    let complete = ["complete", "order-1", "--result", "succeeded", "--json"];
    json(&shop(&[&complete[..], &owner].concat()), 0);
    assert_eq!(json(&shop(&["lookup", "order-1", "--json"]), 0)["state"], "completed");
    let released = json(&shop(&["reserve", "order-2", "--json"]), 0);
    let owner = ["--owner-token", released["owner_token"].as_str().unwrap()];
    json(&shop(&[&["release", "order-2", "--json"], &owner[..]].concat()), 0);

    let token = text(&premises.path("shop.token"));
    let once = ["run", "job-1", "--namespace", "orders", "--token-file", &token, "--"];
    let once = run(premises.client(&server, &once).args(["echo", "done"]));
    assert_eq!((once.status.code(), &once.stdout[..]), (Some(0), &b"done\n"[..]), "{once:?}");

    json(&premises.run_as("olga", &server, &["admin", "stats", "--json"]), 0);
    // A probe needs nothing but the CA.
    assert_eq!(run(&mut premises.client(&server, &["health"])).stdout, b"SERVING\n");
    // And the token may be in the environment, as long as no file is named.
    let mut lookup = premises.client(&server, &["lookup", "order-1", "--namespace", "orders"]);
    assert!(run(lookup.env("ONCED_TOKEN", premises.token("reports"))).status.success());
    let mut lookup = premises.client(&server, &["lookup", "order-1", "--namespace", "orders"]);
    let lookup = lookup.env("ONCED_TOKEN", "guessed");
    assert!(run(lookup.env("ONCED_TOKEN_FILE", premises.path("shop.token"))).status.success());
}

#[test]
fn a_client_certificate_will_do() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let reserve = |namespace: &str| {
        let reserve = ["reserve", "mail-1", "--namespace", namespace, "--json"];
        let mut command = premises.client(&server, &reserve);
        command.arg("--tls-cert").arg(premises.path("mail.crt"));
        run(command.arg("--tls-key").arg(premises.path("mail.key")))
    };
    assert_eq!(json(&reserve("mail.eu"), 0)["outcome"], "granted");
    assert_eq!(reason(&reserve("orders")), "PERMISSION_DENIED");
}

#[test]
fn whoever_is_not_let_in_is_told_why_and_no_secret_is() {
    let premises = Premises::new();
    let server = premises.serve(&["--log", "debug"]);
    let lookup = ["lookup", "order-1", "--namespace", "orders", "--json"];
    let reserve = ["reserve", "order-1", "--namespace", "orders", "--json"];
    assert_eq!(reason(&run(&mut premises.client(&server, &lookup))), "UNAUTHENTICATED");
    assert_eq!(reason(&premises.run_as("reports", &server, &reserve)), "PERMISSION_DENIED");
    let other = ["reserve", "order-1", "--namespace", "other", "--json"];
    assert_eq!(reason(&premises.run_as("shop", &server, &other)), "PERMISSION_DENIED");
    let stats = ["admin", "stats", "--json"];
    assert_eq!(reason(&premises.run_as("shop", &server, &stats)), "PERMISSION_DENIED");
    let mut guess = premises.client(&server, &lookup);
    assert_eq!(reason(&run(guess.env("ONCED_TOKEN", "my-secret-guess"))), "UNAUTHENTICATED");
    server.wait_for_line("callers were turned away");

    // Nothing of it, at the most talkative level.
    let log = server.lines_with("").join("\n");
    for secret in ["my-secret-guess", &premises.token("shop"), &premises.token("reports")] {
        assert!(!log.contains(secret));
    }
}

#[test]
fn what_a_client_has_to_know_of_tls_is_said_before_it_calls() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    let https = format!("https://{}", server.address);
    let http = format!("http://{}", server.address);
    let lookup = |more: &[&str]| run(onced().args(["lookup", "order-1"]).args(more));
    let ca = text(&premises.path("ca.crt"));
    for (arguments, told) in [
        (vec!["--server", &https], "an https:// server needs --tls-ca"),
        (vec!["--server", &http, "--tls-ca", &ca], "the server is an http:// one"),
        (vec!["--server", &https, "--tls-ca", "/nowhere/ca.crt"], "cannot read /nowhere/ca.crt"),
        (vec!["--server", &http, "--token-file", "/dev/null"], "/dev/null has no bearer token"),
    ] {
        let told_in = complaint(&lookup(&arguments), 2);
        assert!(told_in.contains(told), "{told_in}");
    }
    // A server that is not trusted is not asked again and again.
    std::fs::write(premises.path("other.crt"), Authority::new("theirs").pem).unwrap();
    let other = text(&premises.path("other.crt"));
    let arguments = ["--server", &https, "--tls-ca", &other, "--timeout", "1h"];
    let told = complaint(&lookup(&arguments), 3);
    assert!(told.contains("UnknownIssuer"), "{told}");
    // Nor one that speaks TLS to who does not.
    let arguments = ["--server", &http, "--timeout", "500ms"];
    complaint(&lookup(&arguments), 3);
}

#[test]
fn an_operator_is_named_in_the_log_by_its_credentials() {
    let premises = Premises::new();
    let server = premises.serve(&[]);
    json(
        &premises.run_as("shop", &server, &["reserve", "a", "--namespace", "orders", "--json"]),
        0,
    );
    let force = |command: &str| {
        let account = ["--reason", "a test", "--operator", "somebody else", "--yes", "--json"];
        let force = ["admin", command, "a", "--namespace", "orders"];
        json(&premises.run_as("olga", &server, &[&force[..], &account].concat()), 0);
    };
    force("force-release");
    let line = server.wait_for_line("onced::audit");
    for part in ["principal=\"olga\"", "operator=\"somebody else\"", "action=\"force_release\""] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    force("delete");
    assert!(server.wait_for_line("delete_record").contains("principal=\"olga\""));
    let erase = ["admin", "erase", "orders", "--reason", "a test", "--yes", "--json"];
    json(&premises.run_as("olga", &server, &erase), 0);
    assert!(server.wait_for_line("erase_namespace").contains("principal=\"olga\""));
}

#[test]
fn a_token_is_made_once_and_only_its_digest_is_for_the_server() {
    let premises = Premises::new();
    let path = premises.path("new.token");
    let new = ["token", "new", "new one", "--json"];
    complaint(&run(onced().args(new)), 2);

    let shown = run(onced().args(["token", "new", "shop.eu", "--namespace", "*"]));
    let (table, told) =
        (String::from_utf8(shown.stdout).unwrap(), String::from_utf8(shown.stderr).unwrap());
    let token = told.split_whitespace().find(|word| word.starts_with("onced_")).unwrap();
    assert!(!table.contains(token), "what goes to a file has no secret");
    assert!(table.starts_with("[principals.\"shop.eu\"]\nrole = \"writer\"\n"), "{table}");

    let write = ["token", "new", "shop", "--write", path.to_str().unwrap()];
    let written = run(onced().args(write));
    assert!(written.status.success() && written.stderr.is_empty(), "{written:?}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // One that somebody uses is not written over.
    assert!(complaint(&run(onced().args(write)), 2).contains("File exists"));

    let as_json = json(&run(onced().args(["token", "new", "shop", "--json"])), 0);
    assert!(as_json["token"].as_str().unwrap().starts_with("onced_"));
    assert!(as_json["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_server_that_cannot_keep_others_out_does_not_start_and_says_all_that_is_wrong() {
    let premises = Premises::new();
    std::fs::write(premises.path("credentials.toml"), "[principals]\n").unwrap();
    std::fs::write(premises.path("server.key"), premises.authority.server().key).unwrap();
    let mut serve = onced();
    serve.args(["serve", "--store", "memory:", "--listen", "127.0.0.1:0"]).args(premises.flags());
    let told = complaint(&run(&mut serve), 2);
    assert!(told.starts_with("onced: the settings have 2 faults:\n  tls_key (from "), "{told}");
    assert!(told.contains("names no principal, so every call would be refused"), "{told}");
    let checked = json(&run(serve.args(["--check", "--json"])), 2);
    assert_eq!(checked["faults"].as_array().unwrap().len(), 2);
    assert_eq!(checked["faults"][0]["setting"], "tls_key");

    let open = ["serve", "--store", "memory:", "--listen", "0.0.0.0:0"];
    let told = complaint(&run(onced().args(open)), 2);
    assert!(told.contains("say insecure_any_interface = true"), "{told}");
    let said = run(onced().args(open).args(["--insecure-any-interface", "--check"]));
    assert!(said.status.success(), "{said:?}");
}
