//! What `onced run` keeps of a command, how it replays it, and what it says about itself.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use prost_types::Timestamp;

use super::child::code_of;
use super::identity::{digest, this_process};
use super::lease::Lease;
use super::output::{Captured, KEPT_BYTES, Recorded};
use super::replay::replay;
use crate::cli::Exit;
use crate::pb::v1::{self, Completion, Response};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn captured(bytes: &[u8], truncated: bool) -> Captured {
    Captured { bytes: bytes.to_vec(), truncated }
}

#[test]
fn what_was_recorded_is_what_is_replayed() {
    for (stdout, stderr) in [
        (captured(b"out\n", false), captured(b"err\n", false)),
        (captured(b"", false), captured(&[0xff, 0x00], true)),
        (captured(b"cut", true), captured(b"", false)),
    ] {
        let recorded = Recorded { code: 7, stdout, stderr };
        let response = recorded.to_response();
        assert_eq!(response.status_code, 7);
        assert_eq!(Recorded::of_response(&response), Some(recorded));
    }
}

#[test]
fn the_payload_is_readable_text() {
    let recorded =
        Recorded { code: 0, stdout: captured(b"done\n", false), stderr: captured(b"hm\n", false) };
    assert_eq!(recorded.to_response().payload, b"done\nhm\n");
}

#[test]
fn a_full_recording_fits_into_what_the_server_stores_by_default() {
    let mut stream = Captured::default();
    stream.push(&vec![b'x'; KEPT_BYTES - 1]);
    assert!(!stream.truncated);
    stream.push(b"xy");
    stream.push(b"z");
    assert!(stream.truncated);
    assert_eq!(stream.bytes.len(), KEPT_BYTES);

    let response = Recorded { code: 255, stdout: stream.clone(), stderr: stream }.to_response();
    let metadata: usize =
        response.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let size = response.payload.len() + response.content_type.len() + metadata;
    assert!(size < crate::config::Settings::default().max_response_bytes, "{size}");
}

#[test]
fn a_response_of_somebody_else_is_not_taken_for_a_recording() {
    let ours = Recorded { code: 0, stdout: captured(b"out", false), stderr: captured(b"", false) };
    let ours = ours.to_response();
    let other_type = Response { content_type: "text/plain".to_owned(), ..ours.clone() };
    let other_code = Response { status_code: 404, ..ours.clone() };
    let other_split = Response { payload: b"ou".to_vec(), ..ours.clone() };
    for response in [other_type, other_code, other_split] {
        assert_eq!(Recorded::of_response(&response), None);
    }
}

#[test]
fn a_replay_ends_as_the_command_did() {
    let completion = |result: v1::Result, response, response_omitted| Completion {
        result: result.into(),
        response: Some(response),
        response_omitted,
        ..Completion::default()
    };
    let recorded =
        Recorded { code: 42, stdout: captured(b"", false), stderr: captured(b"", false) };
    let ours = completion(v1::Result::Failed, recorded.to_response(), false);
    assert_eq!(replay(&ours), Exit::Command(42));

    let omitted = Response { status_code: 42, ..Response::default() };
    assert_eq!(replay(&completion(v1::Result::Failed, omitted, true)), Exit::Command(42));

    // A status code that contradicts the result is no exit code.
    let foreign = || Response { status_code: 200, ..Response::default() };
    assert_eq!(replay(&completion(v1::Result::Succeeded, foreign(), true)), Exit::Command(0));
    assert_eq!(replay(&completion(v1::Result::Succeeded, foreign(), false)), Exit::Command(0));
    assert_eq!(replay(&completion(v1::Result::Failed, foreign(), false)), Exit::Command(1));
}

#[test]
fn the_digest_tells_words_apart() {
    assert_eq!(digest(&words(&["echo", "a b"])), digest(&words(&["echo", "a b"])));
    assert_ne!(digest(&words(&["echo", "a b"])), digest(&words(&["echo", "a", "b"])));
    assert_ne!(digest(&words(&["echo", ""])), digest(&words(&["echo"])));
    assert_eq!(digest(&words(&["true"])).len(), 32);
}

#[test]
fn a_killed_command_has_the_exit_code_that_shells_give_it() {
    assert_eq!(code_of(ExitStatus::from_raw(0)), 0);
    assert_eq!(code_of(ExitStatus::from_raw(3 << 8)), 3);
    assert_eq!(code_of(ExitStatus::from_raw(15)), 128 + 15);
}

#[test]
fn a_lease_is_as_long_as_the_server_says_and_runs_from_when_it_was_asked_for() {
    let asked_at = Instant::now();
    let asked = Duration::from_secs(30);
    let moment = |seconds, nanos| Timestamp { seconds, nanos };
    let of = |expire: Option<Timestamp>, decide: Option<Timestamp>| {
        Lease::of(expire.as_ref(), decide.as_ref(), asked, asked_at)
    };
    let long = |length: Duration| Lease::of(None, None, length, asked_at);

    let clamped = of(Some(moment(110, 0)), Some(moment(100, 500_000_000)));
    assert_eq!(clamped, long(Duration::from_millis(9_500)));
    assert_eq!(of(None, Some(moment(100, 0))), long(asked));
    assert_eq!(of(Some(moment(99, 0)), Some(moment(100, 0))), long(asked));
}

#[test]
fn the_holder_is_this_process() {
    let holder = this_process();
    assert!(holder.ends_with(&format!(":{}", std::process::id())), "{holder}");
    assert!(holder.chars().count() <= 128);
}
