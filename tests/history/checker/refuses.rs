//! Histories that are not linearizable: each would be a broken promise, and breaks it with
//! its last call alone.

use onced::domain::Refusal::{
    AlreadyCompleted, FingerprintMismatch, LeaseLost, NotFound, ResultConflict,
};

use super::script::*;
use crate::calls::{Answer, Call};

/// A grant to A at 11, with 7 as its fencing token.
fn held() -> Call {
    call(10..=12, reserve(A), granted(11, A, 7, 1))
}

/// Its completion at 21.
fn done() -> Call {
    call(20..=22, complete(A, "yes"), completed(21, completion(21, 7, "yes")))
}

/// What B takes over at 111.
fn taken() -> Call {
    call(110..=112, reserve(B), taken_over(111, B, 8, 2))
}

#[test]
fn two_owners_at_once() {
    illegal(&[held(), call(20..=22, reserve(B), granted(21, B, 8, 1))]);
    illegal(&[held(), call(20..=22, reserve(B), granted(21, B, 8, 2))]);
}

#[test]
fn a_takeover_before_the_lease_is_over() {
    illegal(&[held(), call(105..=115, reserve(B), taken_over(110, B, 8, 2))]);
}

#[test]
fn a_takeover_that_does_not_say_so() {
    illegal(&[held(), call(110..=112, reserve(B), granted(111, B, 8, 2))]);
}

#[test]
fn a_lease_that_runs_on_after_its_end() {
    illegal(&[held(), call(110..=112, reserve(B), in_progress(111, 111, A, 1))]);
}

#[test]
fn a_former_owner_that_completes() {
    let completed = completed(121, late(completion(121, 7, "yes")));
    illegal(&[held(), taken(), call(120..=122, complete(A, "yes"), completed)]);
}

#[test]
fn a_former_owner_that_renews_or_releases() {
    illegal(&[held(), taken(), call(120..=122, renew(A, ""), renewed(121))]);
    illegal(&[held(), taken(), call(120..=122, release(A), released(121))]);
}

#[test]
fn a_fencing_token_that_is_given_twice() {
    illegal(&[held(), call(110..=112, reserve(B), taken_over(111, B, 7, 2))]);
}

#[test]
fn a_fencing_token_that_falls_after_the_record_is_gone() {
    illegal(&[held(), done(), call(330..=332, reserve(B), granted(331, B, 6, 1))]);
    illegal(&[held(), done(), call(330..=332, reserve(B), granted(331, B, 7, 1))]);
}

#[test]
fn a_completion_that_is_lost() {
    illegal(&[held(), done(), call(150..=152, reserve(B), taken_over(151, B, 8, 2))]);
    illegal(&[held(), done(), call(150..=152, reserve(B), granted(151, B, 8, 1))]);
    illegal(&[held(), done(), call(150..=152, lookup(), refused(NotFound))]);
}

#[test]
fn a_grant_that_is_lost() {
    illegal(&[held(), call(20..=22, complete(A, "yes"), refused(NotFound))]);
    illegal(&[held(), call(20..=22, reserve(B), granted(21, B, 8, 1))]);
}

#[test]
fn a_completion_that_outlives_its_retention() {
    let replayed = replayed(321, completion(21, 7, "yes"));
    illegal(&[held(), done(), call(320..=322, reserve(B), replayed)]);
}

#[test]
fn a_replay_of_other_bytes() {
    let replayed = replayed(31, completion(21, 7, "yet"));
    illegal(&[held(), done(), call(30..=32, reserve(B), replayed)]);
}

#[test]
fn a_lookup_that_is_stale() {
    illegal(&[held(), done(), call(30..=32, lookup(), found_held(31, 11, A, 7))]);
    // Also with the moment at which it was true.
    illegal(&[held(), done(), call(30..=32, lookup(), found_held(15, 11, A, 7))]);
}

#[test]
fn a_clock_that_runs_backwards_between_calls() {
    illegal(&[held(), call(20..=22, reserve(A), granted_again(10, 11, A, 7, 1))]);
}

#[test]
fn a_refusal_that_shows_what_never_was() {
    illegal(&[call(0..=9, release(B), refused(LeaseLost))]);
    illegal(&[held(), call(20..=22, renew(A, ""), refused(AlreadyCompleted))]);
    illegal(&[held(), call(20..=22, complete(A, "yes"), refused(ResultConflict))]);
    illegal(&[held(), call(20..=22, reserve(B), refused(FingerprintMismatch))]);
}

#[test]
fn a_refusal_that_came_too_soon() {
    // That a Reserve of B is open explains it later, but not at this moment.
    let lost = call(100..=109, complete(A, "yes"), refused(LeaseLost));
    illegal(&[held(), open(13, reserve(B)), lost]);
}

#[test]
fn an_effect_of_a_call_that_surely_did_nothing() {
    // A was refused with DRAINING, so it is not in the history, and yet it shows.
    illegal(&[held(), call(30..=32, reserve(B), replayed(31, completion(21, 7, "yes")))]);
}

#[test]
fn an_effect_that_is_older_than_its_call() {
    illegal(&[open(30, reserve(A)), call(10..=20, reserve(B), in_progress(15, 115, A, 1))]);
}

#[test]
fn two_effects_of_one_open_call() {
    let first = call(20..=22, lookup(), found_held(21, 15, A, 7));
    let second = call(900..=902, lookup(), found_held(901, 900, A, 9));
    illegal(&[open(10, reserve(A)), first, second]);
}

#[test]
fn an_open_call_that_happens_and_is_undone() {
    let shown = call(30..=32, reserve(B), replayed(31, completion(21, 7, "yes")));
    let undone = call(40..=42, reserve(B), in_progress(41, 111, A, 1));
    illegal(&[held(), open(13, complete(A, "yes")), shown, undone]);
}

#[test]
fn a_second_grant_to_the_owner_that_differs_from_the_first() {
    illegal(&[held(), call(20..=22, reserve(A), granted(21, A, 7, 1))]);
    illegal(&[held(), call(20..=22, reserve(A), granted_again(21, 11, A, 8, 1))]);
}

#[test]
fn an_attempt_that_is_counted_twice_or_not_at_all() {
    for attempt in [1, 3] {
        illegal(&[held(), call(110..=112, reserve(B), taken_over(111, B, 8, attempt))]);
    }
}

#[test]
fn a_released_token_that_comes_back() {
    let released = call(20..=22, release(A), released(21));
    illegal(&[held(), released, call(30..=32, reserve(A), granted(31, A, 8, 2))]);
}

#[test]
fn a_reservation_in_doubt_that_is_granted() {
    let held = call(10..=12, reserve_hold(A), granted(11, A, 7, 1));
    illegal(&[held, call(150..=152, reserve(B), taken_over(151, B, 8, 2))]);
}

#[test]
fn doubt_where_a_takeover_was_allowed() {
    illegal(&[held(), call(150..=152, reserve(B), in_doubt(151, 111, A))]);
}

#[test]
fn a_late_completion_that_is_not_marked() {
    let completed = completed(201, completion(201, 7, "yes"));
    illegal(&[held(), call(200..=202, complete(A, "yes"), completed)]);
}

#[test]
fn another_fingerprint_that_is_let_in() {
    let other = reserve_but(B, |it| it.fingerprint = vec![2]);
    illegal(&[held(), call(110..=112, other, taken_over(111, B, 8, 2))]);
}

#[test]
fn a_checkpoint_that_is_lost() {
    let renewed = call(20..=22, renew(A, "half"), renewed(21));
    illegal(&[held(), renewed, call(130..=132, reserve(B), taken_over(131, B, 8, 2))]);
}

#[test]
fn an_answer_to_another_call() {
    illegal(&[held(), call(20..=22, renew(A, ""), released(21))]);
    let Answer::Reserve(mut empty) = granted(21, A, 7, 1) else { unreachable!() };
    empty.outcome = None;
    illegal(&[held(), call(20..=22, reserve(A), Answer::Reserve(empty))]);
}
