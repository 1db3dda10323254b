//! The pure parts of the command line: what can be typed, what is printed, which exit code
//! tells what, and when a call is sent again.

use std::collections::HashMap;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use prost_types::Timestamp;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::failure::Failure;
use super::remote::pause;
use super::setting_flags::SettingFlags;
use super::{Cli, Command, Exit, args, json, text};
use crate::config::{Kind, SETTINGS};
use crate::pb::v1::{
    Completion, Granted, ReserveResponse, Response, Result as Outcome, reserve_response,
};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

fn status_with(code: Code, reason: &str, fill: impl Fn(&mut ErrorDetails)) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "onced", HashMap::new());
    fill(&mut details);
    Status::with_error_details(code, "no luck", details)
}

#[test]
fn the_command_line_is_consistent_and_every_command_has_an_example() {
    let mut cli = Cli::command();
    cli.build();
    cli.clone().debug_assert();
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = format!("Example:\n  onced {}", command.get_name());
        assert!(help.starts_with(&example), "{}: {help}", command.get_name());
    }
    let admin = cli.find_subcommand("admin").unwrap();
    for command in admin.get_subcommands().filter(|command| command.get_name() != "help") {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = format!("Example:\n  onced admin {}", command.get_name());
        assert!(help.starts_with(&example), "{}: {help}", command.get_name());
    }
}

#[test]
fn every_setting_is_a_flag_of_serve_and_reaches_the_configuration_as_text() {
    let mut line = "onced serve".to_owned();
    for setting in SETTINGS {
        // A switch takes for another flag what begins with a dash.
        let value = if setting.kind == Kind::Switch { "perhaps" } else { "-1" };
        line.push_str(&format!(" --{} {value}", setting.flag()));
    }
    line.push_str(" --log debug");
    let Command::Serve(serve) = parse(&line).unwrap().command else { panic!("is serve") };
    let text = format!("{serve:?}");
    for setting in SETTINGS {
        let value = if setting.kind == Kind::Switch { "perhaps" } else { "-1" };
        assert!(text.contains(&format!("(\"{}\", \"{value}\")", setting.name)), "{text}");
    }
    // A flag given twice is for the configuration to refuse, with all other faults.
    assert!(text.contains("(\"log\", \"-1\"), (\"log\", \"debug\")"), "{text}");

    let Command::Serve(serve) = parse("onced serve").unwrap().command else { panic!("is serve") };
    assert!(format!("{serve:?}").contains(&format!("{:?}", SettingFlags::default())));
}

#[test]
fn what_is_typed_wrongly_is_a_usage_error() {
    for line in [
        "onced",
        "onced serve --colour blue",
        "onced serve --json",
        "onced reserve",
        "onced reserve key --owner-token 12",
        "onced reserve key --lease 30",
        "onced reserve key --fingerprint 0g",
        "onced reserve key --fingerprint 00 --fingerprint-of file",
        "onced reserve key --server ftp://127.0.0.1:50051",
        "onced reserve key --tls-cert tls.crt",
        "onced reserve key --token secret",
        "onced token new",
        "onced token new 'two words'",
        "onced token new shop --role king",
        "onced token new shop --namespace Orders",
        "onced reserve key --timeout 0s",
        "onced complete key --owner-token t --result done",
        "onced complete key --owner-token t --result failed --payload a --payload-file b",
        "onced complete key --owner-token t --result failed --metadata a",
        "onced renew key --owner-token t --checkpoint a --checkpoint-file b",
        "onced run key",
        "onced run key true",
        "onced run key --fingerprint 00 --no-fingerprint -- true",
        "onced run key --wait 25h -- true",
        "onced run key --complete-timeout 0s -- true",
        "onced run key --release-on 0 -- true",
        "onced run key --release-on 75,256 -- true",
        "onced run key --max-output 9MiB -- true",
        "onced run key --max-output 1MB -- true",
        "onced run key --on-lease-lost panic -- true",
        "onced run key --conflict-exit-code 256 -- true",
        "onced admin",
        "onced admin namespace",
        "onced admin list --all-namespaces --namespace shop",
        "onced admin list --state done",
        "onced admin force-release key",
        "onced admin force-complete key --reason r",
        "onced admin delete key --reason r --fencing-token 0",
        "onced admin erase --reason r",
        "onced admin erase shop --reason r --erase-id 12",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(Exit::Usage.code()), "{line}");
    }
}

#[test]
fn what_is_typed_rightly_is_taken() {
    for line in [
        "onced serve --config onced.toml --check --json",
        "onced reserve key --namespace shop --fingerprint 00ff --lease 1m --lease-expiry-action \
         hold --retry-failed --holder me --json",
        "onced reserve -- -key",
        "onced complete key --owner-token t --result failed --payload -1 --status-code -1 \
         --metadata a=b=c --metadata d= --retention 7d",
        "onced release key --owner-token t --server localhost:50051 --timeout 500ms",
        "onced renew key --owner-token t --checkpoint half",
        "onced lookup key",
        "onced admin list --state in-doubt --all-namespaces --prefix a --limit 5 --json",
        "onced admin force-complete key --result failed --payload -1 --reason r --yes",
        "onced admin delete key --reason r --operator o --fencing-token 7 --namespace shop",
        "onced admin erase shop --reason r --yes --timeout 1m",
        "onced admin namespace payments --json",
        "onced admin stats --json",
        "onced health --service onced.v1.IdempotencyService",
        "onced health --server https://onced:50051 --tls-ca ca.crt --tls-cert a.crt --tls-key a.key",
        "onced lookup key --server https://[::1]:50051 --tls-ca ca.crt --token-file token",
        "onced serve --insecure-any-interface --listen 0.0.0.0:50051 --strict false --admin",
        "onced token new shop --role reader --namespace orders --namespace mail.* --write token",
        "onced run key --hold --lease 10s -- sh -c true --json",
        "onced run key --wait 0s --release-on 75,69 --on-lease-lost terminate --replay exit-code \
         --max-output 0 -qE 0 --error-exit-code 125 --no-fingerprint -- true",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn hex_digits_are_bytes() {
    assert_eq!(args::hex("00fFa0"), Ok(args::Bytes(vec![0x00, 0xff, 0xa0])));
    assert_eq!(args::hex(""), Ok(args::Bytes(vec![])));
    assert!(args::hex("0").is_err());
    assert!(args::hex("zz").is_err());
    assert!(args::hex("+1").is_err());
}

#[test]
fn a_server_is_named_with_or_without_its_scheme() {
    for text in [
        "http://127.0.0.1:50051",
        "https://onced",
        "127.0.0.1:50051",
        "onced.internal:50051",
        "[::1]:1",
    ] {
        assert!(args::endpoint(text).is_ok(), "{text}");
    }
    for text in ["", "ftp://onced", "unix:///run/onced.sock", "http://", "one two"] {
        assert!(args::endpoint(text).is_err(), "{text}");
    }
}

#[test]
fn exit_codes_tell_who_has_to_act() {
    for (code, exit) in [
        (Code::FailedPrecondition, Exit::Refused),
        (Code::Aborted, Exit::Refused),
        (Code::NotFound, Exit::Refused),
        (Code::InvalidArgument, Exit::Usage),
        (Code::PermissionDenied, Exit::Usage),
        (Code::Unavailable, Exit::Unavailable),
        (Code::DeadlineExceeded, Exit::Unavailable),
        (Code::ResourceExhausted, Exit::Unavailable),
        (Code::DataLoss, Exit::Unavailable),
        (Code::Unimplemented, Exit::Unavailable),
    ] {
        assert_eq!(Exit::of(&Status::new(code, "")), exit, "{code:?}");
    }
    let broken = Status::from_error("broken pipe".into());
    assert_eq!(Exit::of(&broken), Exit::Unavailable);

    let codes = [Exit::Done, Exit::Refused, Exit::Usage, Exit::Unavailable, Exit::Command(42)];
    assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 42]);
}

#[test]
fn only_what_was_unavailable_is_sent_again() {
    for code in [Code::FailedPrecondition, Code::Aborted, Code::DeadlineExceeded, Code::DataLoss] {
        assert_eq!(pause(&Status::new(code, ""), 0, 0), None, "{code:?}");
    }
    assert!(pause(&Status::unavailable(""), 0, 0).is_some());
    assert!(pause(&Status::from_error("broken pipe".into()), 0, 0).is_some());
}

#[test]
fn the_server_says_how_long_to_pause() {
    let mut status = status_with(Code::Unavailable, "OVERLOADED", |details| {
        details.set_retry_info(Some(Duration::from_millis(700)));
    });
    assert_eq!(pause(&status, 9, 0), Some(Duration::from_millis(700)));

    status.metadata_mut().insert("grpc-retry-pushback-ms", "900".parse().unwrap());
    assert_eq!(pause(&status, 9, 0), Some(Duration::from_millis(900)));

    status.metadata_mut().insert("grpc-retry-pushback-ms", "0".parse().unwrap());
    assert!(pause(&status, 9, 0) > Some(Duration::ZERO));

    for do_not in ["-1", "soon", ""] {
        status.metadata_mut().insert("grpc-retry-pushback-ms", do_not.parse().unwrap());
        assert_eq!(pause(&status, 0, 0), None, "{do_not}");
    }
}

#[test]
fn pauses_double_up_to_a_bound_and_differ_between_callers() {
    let status = Status::unavailable("");
    let pauses = |random| (0..40).map(move |tries| pause(&Status::unavailable(""), tries, random));
    assert_eq!(pause(&status, 0, 0), Some(Duration::from_millis(25)));
    assert_eq!(pause(&status, 3, 0), Some(Duration::from_millis(200)));
    assert!(pauses(999).all(|pause| pause < Some(Duration::from_secs(2))));
    assert!(pauses(0).zip(pauses(999)).all(|(short, long)| short < long));
}

fn completed() -> ReserveResponse {
    ReserveResponse {
        outcome: Some(reserve_response::Outcome::Completed(Completion {
            result: Outcome::Succeeded.into(),
            response: Some(Response {
                payload: b"{\"order\":4711}".to_vec(),
                content_type: "application/json".to_owned(),
                status_code: 201,
                metadata: [("etag".to_owned(), "\"7\"".to_owned())].into(),
            }),
            complete_time: Some(Timestamp { seconds: 1_785_542_400, nanos: 5_000_000 }),
            expire_time: Some(Timestamp { seconds: 1_785_628_800, nanos: 5_000_000 }),
            attempt: 1,
            fencing_token: 7,
            late: false,
            response_omitted: false,
            response_digest: vec![0xab, 0x01],
            response_size_bytes: 14,
        })),
        decide_time: Some(Timestamp { seconds: 1_785_542_401, nanos: 0 }),
    }
}

#[test]
fn a_completion_as_json() {
    assert_eq!(
        json::reserve(&completed()),
        json!({
            "outcome": "completed",
            "completion": {
                "result": "succeeded",
                "response": {
                    "payload": "eyJvcmRlciI6NDcxMX0=",
                    "payload_text": "{\"order\":4711}",
                    "content_type": "application/json",
                    "status_code": 201,
                    "metadata": { "etag": "\"7\"" },
                },
                "complete_time": "2026-08-01T00:00:00.005Z",
                "expire_time": "2026-08-02T00:00:00.005Z",
                "attempt": 1,
                "fencing_token": 7,
                "late": false,
                "response_omitted": false,
                "response_digest": "ab01",
                "response_size_bytes": 14,
            },
            "decide_time": "2026-08-01T00:00:01Z",
        })
    );
}

#[test]
fn a_completion_for_people() {
    assert_eq!(
        text::table(&json::reserve(&completed())),
        "\
outcome                completed
completion
  result               succeeded
  response
    payload            {\"order\":4711}
    content type       application/json
    status code        201
    metadata
      etag             \"7\"
  complete time        2026-08-01T00:00:00.005Z
  expire time          2026-08-02T00:00:00.005Z
  attempt              1
  fencing token        7
  late                 no
  response omitted     no
  response digest      ab01
  response size bytes  14
decide time            2026-08-01T00:00:01Z
"
    );
}

#[test]
fn bytes_that_are_no_text_and_bytes_that_are_hostile() {
    let granted = |checkpoint: &[u8]| {
        let granted = Granted { checkpoint: checkpoint.to_vec(), ..Granted::default() };
        let outcome = Some(reserve_response::Outcome::Granted(granted));
        let value = json::reserve(&ReserveResponse { outcome, decide_time: None });
        text::table(&value).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(granted(&[0xff]), "checkpoint     base64 /w==");
    assert_eq!(granted(b"\x1b[2Jgone"), "checkpoint     \\u{1b}[2Jgone");
    assert_eq!(granted(b""), "takeover       no");
}

#[test]
fn names_in_metadata_are_shown_as_they_are_and_do_no_harm() {
    let metadata = json!({ "a": "1", "a_text": "2", "x_id": "", "\u{1b}[2J\n": "4" });
    assert_eq!(
        text::table(&json!({ "metadata": metadata })),
        "metadata\n  a          1\n  a_text     2\n  x_id\n  \\u{1b}[2J  4\n"
    );
}

#[test]
fn long_values_are_cut_and_lines_are_aligned() {
    let table = text::table(&json!({ "holder": "x".repeat(5_000), "text": "one\ntwo\n" }));
    assert!(table.len() < 2_200);
    assert!(table.contains("… (cut; --json has all of it)\n"));
    assert!(table.ends_with("\ntext    one\n        two\n"));
}

#[test]
fn a_refusal_for_people_and_as_json() {
    let status = status_with(Code::InvalidArgument, "INVALID_FIELD", |details| {
        details.add_bad_request_violation("key", "has 0 bytes; must have 1 to 255");
        details.add_bad_request_violation("lease", "is negative");
    });
    let failure = Failure::from(status);
    assert_eq!(
        failure.to_text(),
        "onced: no luck (INVALID_ARGUMENT, INVALID_FIELD)\n  \
         key: has 0 bytes; must have 1 to 255\n  \
         lease: is negative"
    );
    assert_eq!(
        failure.to_json(),
        json!({ "error": {
            "code": "INVALID_ARGUMENT",
            "reason": "INVALID_FIELD",
            "message": "no luck",
            "violations": [
                { "subject": "key", "description": "has 0 bytes; must have 1 to 255" },
                { "subject": "lease", "description": "is negative" },
            ],
            "retry_delay_ms": null,
            "owner_token": null,
        } })
    );
}

#[test]
fn a_reserve_without_an_answer_tells_its_owner_token() {
    let status = status_with(Code::Unavailable, "OUTCOME_UNKNOWN", |details| {
        details.set_retry_info(Some(Duration::from_millis(100)));
    });
    let owner_token = Some("0e7f".to_owned());
    let failure = Failure::Call { status: Box::new(status), owner_token };
    assert!(failure.to_text().ends_with("--owner-token 0e7f"));
    let error = &failure.to_json()["error"];
    assert_eq!((&error["owner_token"], &error["retry_delay_ms"]), (&json!("0e7f"), &json!(100)));
}
