//! Histories that are linearizable, and why.

use onced::domain::Refusal::{
    AlreadyCompleted, FingerprintMismatch, LeaseLost, NotFound, ResultConflict,
};

use super::script::*;

#[test]
fn one_call_after_another() {
    legal(&[
        call(0..=9, lookup(), refused(NotFound)),
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(13..=15, reserve(B), in_progress(14, 111, A, 1)),
        call(16..=18, renew(A, "half"), renewed(17)),
        call(20..=22, complete(A, "yes"), completed(21, completion(21, 7, "yes"))),
        call(23..=25, reserve(B), replayed(24, completion(21, 7, "yes"))),
        call(26..=28, complete(A, "yes"), completed(27, completion(21, 7, "yes"))),
        call(29..=31, complete(A, "no"), refused(ResultConflict)),
        call(32..=34, renew(A, ""), refused(AlreadyCompleted)),
        call(35..=37, release(B), refused(LeaseLost)),
    ]);
}

#[test]
fn the_answer_of_the_first_may_arrive_last() {
    legal(&[
        call(10..=50, reserve(A), granted(20, A, 7, 1)),
        call(11..=30, reserve(B), in_progress(21, 120, A, 1)),
    ]);
}

#[test]
fn the_call_that_was_sent_last_may_come_first() {
    legal(&[
        call(10..=50, reserve(A), in_progress(40, 130, B, 1)),
        call(25..=50, reserve(B), granted(30, B, 7, 1)),
    ]);
}

#[test]
fn calls_of_one_millisecond_have_an_order_still() {
    legal(&[
        call(10..=20, reserve(C), replayed(15, completion(15, 7, "yes"))),
        call(10..=20, complete(A, "yes"), completed(15, completion(15, 7, "yes"))),
        call(10..=20, reserve(B), in_progress(15, 115, A, 1)),
        call(10..=20, reserve(A), granted(15, A, 7, 1)),
    ]);
}

#[test]
fn a_refusal_may_come_before_or_after_what_is_sent_beside_it() {
    for seen in [NotFound, LeaseLost] {
        legal(&[
            call(10..=20, reserve(A), granted(15, A, 7, 1)),
            call(10..=20, complete(B, "yes"), refused(seen)),
        ]);
    }
}

#[test]
fn a_reserve_that_is_sent_again_is_granted_unchanged() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(20..=22, reserve(A), granted_again(21, 11, A, 7, 1)),
    ]);
}

#[test]
fn a_lapsed_lease_is_taken_over_and_its_owner_is_told() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(110..=112, reserve(B), taken_over(111, B, 9, 2)),
        call(120..=122, complete(A, "yes"), refused(LeaseLost)),
    ]);
}

#[test]
fn a_lapsed_owner_completes_late_while_nobody_has_taken_over() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(200..=202, complete(A, "yes"), completed(201, late(completion(201, 7, "yes")))),
        call(203..=205, reserve(B), replayed(204, late(completion(201, 7, "yes")))),
    ]);
}

#[test]
fn a_held_key_whose_lease_is_over_is_in_doubt_until_its_owner_decides() {
    legal(&[
        call(10..=12, reserve_hold(A), granted(11, A, 7, 1)),
        call(150..=152, reserve(B), in_doubt(151, 111, A)),
        call(153..=155, release(A), released(154)),
        call(156..=158, reserve(B), granted(157, B, 8, 2)),
    ]);
}

#[test]
fn a_key_is_begun_anew_once_its_retention_is_over() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(20..=22, complete(A, "yes"), completed(21, completion(21, 7, "yes"))),
        call(320..=322, reserve(B), granted(321, B, 8, 1)),
    ]);
}

#[test]
fn a_released_key_is_for_others_and_keeps_its_fingerprint() {
    let other = reserve_but(B, |it| it.fingerprint = vec![2]);
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(20..=22, release(A), released(21)),
        call(23..=25, reserve(A), refused(LeaseLost)),
        call(26..=28, other, refused(FingerprintMismatch)),
        call(29..=31, reserve(B), granted(30, B, 8, 2)),
    ]);
}

#[test]
fn a_failure_is_retried_by_whoever_asks_for_it() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        call(20..=22, complete_failed(A), completed(21, failed(21, 7))),
        call(23..=25, reserve(B), replayed(24, failed(21, 7))),
        call(26..=28, reserve_but(B, |it| it.retry_failed = true), granted(27, B, 8, 2)),
    ]);
}

#[test]
fn an_open_reserve_may_show_in_the_answer_of_another() {
    legal(&[
        open(10, reserve(A)),
        call(20..=22, reserve(B), in_progress(21, 115, A, 1)),
        call(23..=25, lookup(), found_held(24, 15, A, 7)),
        call(26..=28, reserve(A), granted_again(27, 15, A, 7, 1)),
    ]);
}

#[test]
fn an_open_call_may_never_happen() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        open(13, complete(A, "yes")),
        call(110..=112, reserve(B), taken_over(111, B, 8, 2)),
    ]);
}

#[test]
fn an_open_call_may_happen_long_after_it_was_sent() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        open(13, complete(A, "yes")),
        call(20..=22, reserve(B), in_progress(21, 111, A, 1)),
        call(90..=92, reserve(B), replayed(91, completion(80, 7, "yes"))),
    ]);
}

#[test]
fn an_open_takeover_may_show_by_nothing_but_the_loss_of_the_lease() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        open(20, reserve(B)),
        call(200..=202, complete(A, "yes"), refused(LeaseLost)),
        call(330..=332, reserve(C), taken_over(331, C, 9, 3)),
    ]);
}

#[test]
fn an_open_renewal_may_show_by_a_later_end_and_its_checkpoint() {
    legal(&[
        call(10..=12, reserve(A), granted(11, A, 7, 1)),
        open(50, renew(A, "half")),
        call(120..=122, reserve(B), in_progress(121, 160, A, 1)),
        call(
            160..=162,
            reserve(B),
            but(taken_over(161, B, 8, 2), |it| {
                it.checkpoint = b"half".to_vec();
            }),
        ),
    ]);
}

#[test]
fn open_calls_may_happen_in_another_order_than_they_were_sent() {
    legal(&[
        open(10, complete(A, "yes")),
        open(11, reserve(A)),
        call(50..=52, reserve(B), replayed(51, completion(40, 7, "yes"))),
    ]);
}
