//! The story of one order, told through clients that share no code with onced: grpcurl, which
//! knows the API by reflection alone, and Python, whose stubs are generated from the proto. And
//! what Prometheus makes of servers that it watches.
//!
//! They are found on the PATH, or where `ONCED_TEST_GRPCURL` and `ONCED_TEST_PYTHON` point.
//! Where one is missing its test says so and passes, unless `ONCED_REQUIRE_CLIENTS=1`.

#[path = "../harness/process.rs"]
mod process;
mod prometheus;
#[path = "../harness/scrape.rs"]
mod scrape;
#[path = "../harness/skip.rs"]
mod skip;
#[path = "../harness/tool.rs"]
mod tool;

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, without_settings};
use crate::skip::skip;
use crate::tool::tool;

struct Grpcurl<'a> {
    program: &'a str,
    server: &'a Process,
}

impl Grpcurl<'_> {
    fn run(&self, before: &[&str], after: &[&str]) -> Output {
        let address = self.server.address.to_string();
        let mut command = without_settings(Command::new(self.program));
        command.arg("-plaintext").args(before).arg(address).args(after).output().unwrap()
    }

    fn call(&self, method: &str, request: &Value) -> Output {
        self.run(&["-d", &request.to_string()], &[method])
    }

    #[track_caller]
    fn answer(&self, method: &str, request: &Value) -> Value {
        let output = self.call(&format!("onced.v1.IdempotencyService/{method}"), request);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn grpcurl_places_an_order_once() {
    let program = match tool("ONCED_TEST_GRPCURL", "grpcurl", &["-version"]) {
        Ok(program) => program,
        Err(why) => return skip("grpcurl_places_an_order_once", &why),
    };
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&dir.path().join("data"), &[]);
    let grpcurl = Grpcurl { program: &program, server: &server };

    let listed = String::from_utf8(grpcurl.run(&[], &["list"]).stdout).unwrap();
    for service in ["grpc.health.v1.Health", "onced.v1.IdempotencyService"] {
        assert!(listed.lines().any(|line| line == service), "{listed}");
    }
    let health = grpcurl.call("grpc.health.v1.Health/Check", &json!({}));
    let health: Value = serde_json::from_slice(&health.stdout).unwrap();
    assert_eq!(health["status"], "SERVING");

    let order = json!({
        "key": "order-1",
        "fingerprint": BASE64.encode("body-1"),
        "holder": "shop-1",
    });
    let granted = grpcurl.answer("Reserve", &order)["granted"].clone();
    assert_eq!(granted["attempt"], 1);

    let duplicate = grpcurl.answer("Reserve", &order);
    assert_eq!(duplicate["inProgress"]["holder"], "shop-1");

    let response = json!({
        "payload": BASE64.encode(b"{\"paid\": true}\0\xff"),
        "contentType": "application/json",
        "statusCode": 201,
        "metadata": { "location": "/orders/1" },
    });
    grpcurl.answer(
        "Complete",
        &json!({
            "key": "order-1",
            "ownerToken": granted["ownerToken"],
            "result": "RESULT_SUCCEEDED",
            "response": response,
        }),
    );
    let replay = grpcurl.answer("Reserve", &order)["completed"].clone();
    assert_eq!(replay["result"], "RESULT_SUCCEEDED");
    assert_eq!(replay["response"], response);
    assert_eq!(replay["fencingToken"], granted["fencingToken"]);

    let other_body = json!({ "key": "order-1", "fingerprint": BASE64.encode("body-2") });
    let refused = grpcurl.call("onced.v1.IdempotencyService/Reserve", &other_body);
    assert!(!refused.status.success());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("Code: FailedPrecondition"), "{told}");
    // The details are shown in full because reflection knows their types.
    for detail in
        ["google.rpc.ErrorInfo", "\"reason\": \"FINGERPRINT_MISMATCH\"", "\"domain\": \"onced\""]
    {
        assert!(told.contains(detail), "{detail} is missing: {told}");
    }
}

/// Runs one of the programs in Python against a server, and returns what it wrote.
fn python(
    program: &str,
    script: &str,
    server: &Process,
    stubs: &Path,
    more: &[&Path],
) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let told = without_settings(Command::new(program))
        .arg("-B") // Nothing is written beside the script.
        .arg(root.join("tests/clients").join(script))
        .arg(server.address.to_string())
        .arg(root.join("proto"))
        .arg(stubs)
        .args(more)
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap().lines().map(str::to_owned).collect()
}

const PYTHON_PROBE: [&str; 2] = ["-c", "import grpc, grpc_tools.protoc"];

#[test]
fn python_places_an_order_once() {
    let program = match tool("ONCED_TEST_PYTHON", "python3", &PYTHON_PROBE) {
        Ok(program) => program,
        Err(why) => return skip("python_places_an_order_once", &why),
    };
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&dir.path().join("data"), &[]);
    let told = python(&program, "story.py", &server, &dir.path().join("stubs"), &[]);
    assert_eq!(told.last().map(String::as_str), Some("told"));
}

#[test]
fn a_consumer_in_python_handles_each_message_of_a_queue_once() {
    let program = match tool("ONCED_TEST_PYTHON", "python3", &PYTHON_PROBE) {
        Ok(program) => program,
        Err(why) => {
            return skip("a_consumer_in_python_handles_each_message_of_a_queue_once", &why);
        }
    };
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&dir.path().join("data"), &[]);

    // A log of 1,000 messages. Every seventh is redelivered at once, and after each hundred the
    // consumer's group was rebalanced: the last fifty come again.
    let line = |number: usize| format!("message-{number}\tbody {number}\n");
    let mut log = String::new();
    for number in 0..1_000 {
        log += &line(number);
        if number % 7 == 0 {
            log += &line(number);
        }
        if number % 100 == 99 {
            log.extend((number - 49..=number).map(line));
        }
    }
    let path = dir.path().join("log");
    std::fs::write(&path, &log).unwrap();

    let told = python(&program, "queue.py", &server, &dir.path().join("stubs"), &[&path]);
    let (summary, handled) = told.split_last().unwrap();
    assert_eq!(*summary, format!("{} deliveries, 1000 handled", log.lines().count()));
    let mut handled = handled.to_vec();
    handled.sort_unstable();
    handled.dedup();
    assert_eq!(handled.len(), 1_000, "each of them once");

    // Another consumer that reads the log from its beginning has nothing to do.
    let told = python(&program, "queue.py", &server, &dir.path().join("more stubs"), &[&path]);
    assert_eq!(told, [format!("{} deliveries, 0 handled", log.lines().count())]);
}
