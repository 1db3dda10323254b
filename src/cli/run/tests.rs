//! What `onced run` keeps of a command, how it replays it, and what it says about itself.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use clap::Parser as _;
use prost_types::Timestamp;

use super::capture::{Capture, Gap, Kept, keep_both};
use super::child::code_of;
use super::identity::{digest, this_process};
use super::lease::Lease;
use super::notice::Notices;
use super::options::Replayed;
use super::recording::Recording;
use super::replay;
use crate::cli::{Cli, Command, Exit};
use crate::pb::v1::{self, Completion, Response};

fn parse(line: &str) -> Command {
    Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}")).command
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn kept(bytes: &[u8]) -> Kept {
    Kept { bytes: bytes.to_vec(), gap: None }
}

fn kept_around(bytes: &[u8], at: usize, omitted: u64) -> Kept {
    Kept { bytes: bytes.to_vec(), gap: Some(Gap { at, bytes: omitted }) }
}

/// A capture of `chunks` in at most `room` bytes.
fn capture(room: usize, chunks: &[&[u8]]) -> Capture {
    let mut capture = Capture::new(room);
    for chunk in chunks {
        capture.push(chunk);
    }
    capture
}

#[test]
fn a_stream_is_kept_whole_up_to_its_bound() {
    for room in [6, 7, 100] {
        assert_eq!(capture(room, &[b"abc", b"", b"def"]).keep(room), kept(b"abcdef"));
    }
    assert_eq!(capture(0, &[]).keep(0), kept(b""));
}

#[test]
fn of_a_longer_stream_the_beginning_and_the_end_are_kept() {
    let long = b"0123456789abcdef";
    for chunk in [1, 2, 3, 5, 16] {
        let chunks: Vec<_> = long.chunks(chunk).collect();
        assert_eq!(capture(5, &chunks).keep(5), kept_around(b"012ef", 3, 11), "{chunk}");
        assert_eq!(capture(1, &chunks).keep(1), kept_around(b"0", 1, 15), "{chunk}");
        assert_eq!(capture(0, &chunks).keep(0), kept_around(b"", 0, 16), "{chunk}");
    }
}

#[test]
fn what_is_kept_is_what_a_plain_cut_of_the_whole_would_be() {
    let whole: Vec<u8> = (0..40).collect();
    for length in 0..whole.len() {
        for captured in 0..length + 2 {
            for room in 0..=captured {
                let chunks: Vec<_> = whole[..length].chunks(3).collect();
                let kept = capture(captured, &chunks).keep(room);
                assert_eq!(kept.bytes.len(), length.min(room), "{length} {captured} {room}");
                let (head, tail) = kept.bytes.split_at(kept.gap.map_or(0, |gap| gap.at));
                assert!(whole[..length].starts_with(head), "{length} {captured} {room}");
                assert!(whole[..length].ends_with(tail), "{length} {captured} {room}");
                let missing = kept.gap.map_or(0, |gap| gap.bytes);
                assert_eq!(kept.bytes.len() as u64 + missing, length as u64);
            }
        }
    }
}

#[test]
fn two_streams_share_their_room_and_neither_starves_the_other() {
    let both = |first: usize, second: usize, room: usize| {
        let capture_of = |length| capture(room, &[&vec![b'x'; length]]);
        let (first, second) = keep_both(capture_of(first), capture_of(second), room);
        (first.bytes.len(), second.bytes.len())
    };
    assert_eq!(both(3, 4, 10), (3, 4));
    assert_eq!(both(9, 1, 10), (9, 1));
    assert_eq!(both(20, 1, 10), (9, 1));
    assert_eq!(both(1, 20, 10), (1, 9));
    assert_eq!(both(20, 20, 10), (5, 5));
    assert_eq!(both(20, 20, 11), (5, 6));
    assert_eq!(both(20, 20, 0), (0, 0));
}

#[test]
fn what_was_recorded_is_what_is_replayed() {
    for (stdout, stderr) in [
        (kept(b"out\n"), kept(b"err\n")),
        (kept(b""), kept_around(&[0xff, 0x00], 1, 7)),
        (kept_around(b"cut", 3, u64::MAX), kept(b"")),
    ] {
        let recording = Recording { code: 7, stdout, stderr };
        let response = recording.to_response();
        assert_eq!(response.status_code, 7);
        assert_eq!(Recording::of_response(&response), Some(recording));
    }
}

#[test]
fn the_payload_is_readable_text() {
    let recording = Recording { code: 0, stdout: kept(b"done\n"), stderr: kept(b"hm\n") };
    assert_eq!(recording.to_response().payload, b"done\nhm\n");
}

#[test]
fn a_full_recording_fits_into_what_the_server_stores_by_default() {
    let Command::Run(run) = parse("onced run key -- true") else { panic!("is run") };
    let long = vec![b'x'; run.max_output + 1];
    let captures = [&long, &long].map(|long| capture(run.max_output, &[long]));
    let [stdout, stderr] = captures;
    let (stdout, stderr) = keep_both(stdout, stderr, run.max_output);
    let response = Recording { code: 255, stdout, stderr }.to_response();
    assert_eq!(response.payload.len(), run.max_output);
    let metadata: usize =
        response.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let size = response.payload.len() + response.content_type.len() + metadata;
    assert!(size < crate::config::Settings::default().max_response_bytes, "{size}");
}

#[test]
fn a_response_of_somebody_else_is_not_taken_for_a_recording() {
    let ours = Recording { code: 0, stdout: kept_around(b"out", 1, 5), stderr: kept(b"") };
    let ours = ours.to_response();
    let with = |name: &str, value: &str| {
        let mut response = ours.clone();
        response.metadata.insert(name.to_owned(), value.to_owned());
        response
    };
    let without = |name: &str| {
        let mut response = ours.clone();
        assert!(response.metadata.remove(name).is_some());
        response
    };
    for response in [
        Response { content_type: "text/plain".to_owned(), ..ours.clone() },
        Response { status_code: 404, ..ours.clone() },
        Response { payload: b"ou".to_vec(), ..ours.clone() },
        without("stdout_bytes"),
        without("stdout_omitted_at"),
        without("stdout_omitted_bytes"),
        with("stdout_omitted_at", "4"),
        with("stdout_omitted_bytes", "-1"),
        with("stderr_omitted_at", "0"),
    ] {
        assert_eq!(Recording::of_response(&response), None, "{response:?}");
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
    let replay = |completion: &Completion| {
        replay(completion, Replayed::ExitCode, Notices { is_quiet: true })
    };
    let recording = Recording { code: 42, stdout: kept(b""), stderr: kept(b"") };
    let ours = completion(v1::Result::Failed, recording.to_response(), false);
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
fn refusals_have_the_exit_codes_that_were_asked_for() {
    let exits = |line: &str| {
        let Command::Run(run) = parse(line) else { panic!("is run") };
        (run.conflict(), run.error(Exit::Refused), run.error(Exit::Unavailable))
    };
    let plain = exits("onced run key -- true");
    assert_eq!(plain, (Exit::Refused, Exit::Refused, Exit::Unavailable));
    let conflict = exits("onced run key -E 0 -- true");
    assert_eq!(conflict, (Exit::Command(0), Exit::Refused, Exit::Unavailable));
    let error = exits("onced run key --error-exit-code 125 -- true");
    assert_eq!(error, (Exit::Refused, Exit::Command(125), Exit::Command(125)));
}

#[test]
fn a_key_is_bound_to_the_command_unless_something_else_is_said() {
    let fingerprint = |options: &str| {
        let Command::Run(run) = parse(&format!("onced run key {options}-- true")) else {
            panic!("is run")
        };
        run.reservation().unwrap_or_else(|_| panic!("{options}")).fingerprint
    };
    assert_eq!(fingerprint(""), digest(&words(&["true"])));
    assert_eq!(fingerprint("--fingerprint 00ff "), [0x00, 0xff]);
    assert!(fingerprint("--no-fingerprint ").is_empty());
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
