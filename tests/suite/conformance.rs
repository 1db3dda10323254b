//! What makes an engine an engine: every promise of `storage/mod.rs`, put to every engine.
//!
//! A test is a function from a [`Lab`] to a [`Verdict`], and carries the number of its
//! promise. Each runs once for each engine. An engine that lacks what a test needs is an
//! exception, and every exception is declared here with its reason: one that is not declared
//! fails, and so does one that is not needed any more.

mod order;

mod durability;

mod fencing;

mod expiry;
mod outages;
mod purging;

mod batches;
mod waiting;

mod certainty;
mod leaving;

mod poison;

mod bounds;
pub mod quotas;

mod directory;

mod operating;

use crate::engines::{Kind, Lab, Lacking, Need, Verdict};

/// Tests that an engine cannot be put to.
struct Exception {
    engine: Kind,
    lacks: Need,
    because: &'static str,
    tests: &'static [&'static str],
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        engine: Kind::Memory,
        lacks: Need::Restart,
        because: "its records live as long as the process, and so does everything it promised",
        tests: &[
            "promise_2_what_was_answered_is_there_after_a_restart",
            "promise_2_what_was_answered_is_there_after_an_abrupt_end",
            "promise_3_fencing_tokens_rise_across_release_purge_and_restart",
            "promise_3_tokens_rise_across_abrupt_ends",
            "promise_3_tokens_rise_past_any_number_that_was_set_aside",
            "promise_4_purging_changes_no_answer_across_restarts_either",
            "promise_4_moments_do_not_run_backwards_over_a_restart",
            "promise_4_moments_do_not_run_backwards_over_an_abrupt_end",
            "promise_4_a_lease_that_ended_during_an_outage_gets_the_restart_grace",
            "promise_4_a_lease_in_its_grace_is_as_good_as_any",
            "promise_4_a_lease_that_lapsed_before_the_outage_stays_lapsed",
            "promise_4_a_lease_that_outlasts_the_grace_is_not_changed",
            "promise_4_a_lease_granted_after_a_restart_is_as_long_as_its_owner_was_told",
            "promise_4_a_loop_of_crashes_takes_no_grace_back",
            "promise_4_a_long_loop_of_crashes_takes_no_grace_back",
            "promise_4_a_loop_of_crashes_does_not_push_the_clock_ahead",
            "promise_4_a_later_restart_takes_no_retention_back",
            "promise_4_without_restart_grace_an_outage_counts_in_full",
            "promise_4_a_lease_in_its_grace_is_waited_for",
            "promise_2_commands_in_one_call_are_there_after_an_abrupt_end",
            "promise_7_a_quota_counts_across_restarts_and_kills",
            "promise_7_a_changed_quota_holds_from_the_next_start_on",
            "promise_7_counters_say_what_a_count_says_whatever_happened",
            "promise_2_what_was_forced_is_there_after_an_abrupt_end",
            "promise_4_a_lease_in_its_grace_is_not_in_doubt",
            "promise_4_a_place_is_as_good_after_a_restart",
            "promise_5_an_erase_goes_on_after_an_abrupt_end",
        ],
    },
    Exception {
        engine: Kind::Memory,
        lacks: Need::Disk,
        because: "it has no commit that could fail, no read that could fail, and no disk to fill",
        tests: &[
            "promise_2_no_answer_leaves_before_its_state_is_durable",
            "promise_2_nor_does_one_that_rests_on_an_earlier_turn",
            "promise_2_nor_does_one_that_races_with_the_sync",
            "promise_2_nor_does_one_that_is_written_while_a_sync_runs",
            "promise_3_a_token_whose_grant_is_in_question_is_not_given_to_another",
            "promise_5_a_failure_says_whether_it_happened",
            "promise_5_a_record_that_cannot_be_read_fails_only_its_own_call",
            "promise_5_a_damaged_record_fails_only_its_own_call",
            "promise_6_a_failed_commit_poisons",
            "promise_6_a_failed_sync_is_not_tried_again",
            "promise_6_a_purge_that_fails_poisons_too",
            "promise_6_whoever_waits_when_a_commit_fails_is_answered",
            "promise_6_the_change_is_signalled",
            "promise_6_opened_anew_it_serves",
            "promise_7_a_full_store_shows_it",
            "promise_2_an_answer_to_whoever_waits_is_held_until_its_cause_is_durable",
            "promise_6_whoever_is_parked_when_a_commit_fails_is_told",
            "promise_2_commands_in_one_call_are_one_commit",
            "promise_5_a_record_that_cannot_be_read_fails_only_its_own_item",
            "promise_5_records_of_any_size_and_damaged_ones_are_told_apart",
            "promise_2_a_listing_shows_nothing_that_is_not_durable",
            "promise_6_an_erase_that_fails_poisons_too",
        ],
    },
    Exception {
        engine: Kind::Memory,
        lacks: Need::Queue,
        because: "a call is decided when it is first polled: nothing ever waits in it",
        tests: &[
            "promise_5_a_caller_that_leaves_before_its_turn_has_asked_nothing",
            "promise_5_a_leader_that_leaves_before_its_turn_has_asked_nothing",
            "promise_5_a_leader_that_leaves_does_its_duty_first",
            "promise_5_a_leader_that_leaves_with_its_whole_runtime_does_its_duty_first",
            "promise_5_a_caller_that_leaves_after_its_turn_has_asked",
            "promise_7_past_a_bound_it_refuses",
            "promise_7_past_a_bound_of_bytes_it_refuses",
            "promise_7_closing_answers_everything_accepted",
            "promise_5_a_caller_that_leaves_before_its_turn_has_asked_none_of_them",
            "promise_7_each_command_of_a_call_is_counted",
        ],
    },
];

/// One test for each function and engine, and the list of them all.
macro_rules! conformance {
    ($($module:ident { $($test:ident,)+ })+) => {
        mod memory {
            $($(#[test]
            fn $test() {
                super::put(super::Kind::Memory, stringify!($test), super::$module::$test);
            })+)+
        }

        mod rocks {
            $($(#[test]
            fn $test() {
                super::put(super::Kind::Rocks, stringify!($test), super::$module::$test);
            })+)+
        }

        const TESTS: &[&str] = &[$($(stringify!($test),)+)+];
    };
}

conformance! {
    order {
        promise_1_commands_on_one_key_take_effect_one_at_a_time,
        promise_1_also_when_each_caller_has_a_thread_of_its_own,
        promise_1_attempts_are_counted_without_gap_or_repeat,
        promise_1_a_call_sees_what_was_answered_before_it_began,
        promise_1_commands_that_wait_together_take_effect_in_their_order,
        promise_1_a_crowd_larger_than_a_batch_is_answered_in_its_order,
    }
    waiting {
        promise_1_a_completion_answers_everybody_who_waits,
        promise_1_a_release_grants_the_key_to_whoever_waits_longest,
        promise_1_waiters_take_turns_in_the_order_of_their_arrival,
        promise_1_nobody_comes_between_a_lapse_and_whoever_waits,
        promise_1_of_those_who_wait_exactly_one_is_granted_a_lapsed_key,
        promise_1_a_key_in_doubt_is_told_to_everybody_who_waits,
        promise_1_a_failure_is_a_licence_for_the_first_who_wants_it,
        promise_1_commands_that_wait_together_serve_each_other,
        promise_1_whoever_need_not_wait_is_answered_at_once,
    }
    batches {
        promise_1_commands_in_one_call_take_effect_in_their_order,
        promise_1_a_refusal_of_one_leaves_the_others_alone,
        promise_1_whoever_waits_comes_before_the_rest_of_a_call,
    }
    operating {
        promise_1_what_is_forced_takes_effect_in_its_order,
        promise_1_a_forced_release_grants_the_key_to_whoever_waits_longest,
        promise_1_a_forced_completion_answers_everybody_who_waits,
        promise_1_a_deletion_grants_the_key_to_whoever_waits_longest,
        promise_1_an_erase_serves_whoever_waits_for_what_goes,
    }
    durability {
        promise_2_no_answer_leaves_before_its_state_is_durable,
        promise_2_nor_does_one_that_rests_on_an_earlier_turn,
        promise_2_nor_does_one_that_races_with_the_sync,
        promise_2_nor_does_one_that_is_written_while_a_sync_runs,
        promise_2_what_was_answered_is_there_after_a_restart,
        promise_2_what_was_answered_is_there_after_an_abrupt_end,
    }
    waiting {
        promise_2_an_answer_to_whoever_waits_is_held_until_its_cause_is_durable,
    }
    batches {
        promise_2_commands_in_one_call_are_one_commit,
        promise_2_commands_in_one_call_are_there_after_an_abrupt_end,
    }
    operating {
        promise_2_a_listing_shows_nothing_that_is_not_durable,
        promise_2_what_was_forced_is_there_after_an_abrupt_end,
    }
    fencing {
        promise_3_fencing_tokens_rise_across_release_purge_and_restart,
        promise_3_tokens_rise_across_abrupt_ends,
        promise_3_tokens_rise_past_any_number_that_was_set_aside,
        promise_3_tokens_rise_with_every_kind_of_attempt,
        promise_3_no_two_attempts_share_a_token,
        promise_3_a_token_whose_grant_is_in_question_is_not_given_to_another,
    }
    operating {
        promise_3_a_deleted_key_gets_a_larger_token,
    }
    expiry {
        promise_4_expiry_is_judged_when_read,
        promise_4_retention_is_over_on_its_millisecond,
        promise_4_moments_do_not_run_backwards_with_the_time_of_day,
    }
    outages {
        promise_4_moments_do_not_run_backwards_over_a_restart,
        promise_4_moments_do_not_run_backwards_over_an_abrupt_end,
        promise_4_a_lease_that_ended_during_an_outage_gets_the_restart_grace,
        promise_4_a_lease_in_its_grace_is_as_good_as_any,
        promise_4_a_lease_that_lapsed_before_the_outage_stays_lapsed,
        promise_4_a_lease_that_outlasts_the_grace_is_not_changed,
        promise_4_a_lease_granted_after_a_restart_is_as_long_as_its_owner_was_told,
        promise_4_a_loop_of_crashes_takes_no_grace_back,
        promise_4_a_long_loop_of_crashes_takes_no_grace_back,
        promise_4_a_loop_of_crashes_does_not_push_the_clock_ahead,
        promise_4_a_later_restart_takes_no_retention_back,
        promise_4_without_restart_grace_an_outage_counts_in_full,
    }
    purging {
        promise_4_purging_changes_no_answer,
        promise_4_purging_changes_no_answer_across_restarts_either,
        promise_4_a_purge_spares_what_is_still_retained,
        promise_4_a_purge_frees_what_is_over_step_by_step,
        promise_4_a_purge_takes_large_records_and_small_ones_for_what_they_are,
        promise_4_the_sweeper_frees_what_is_over,
    }
    waiting {
        promise_4_a_lease_that_is_waited_for_lapses_on_its_millisecond,
        promise_4_a_renewed_lease_is_waited_for_to_its_new_end,
        promise_4_a_lease_in_its_grace_is_waited_for,
    }
    operating {
        promise_4_a_listing_is_judged_when_it_is_read,
        promise_4_a_listing_leaves_large_things_out,
        promise_4_what_is_in_doubt_is_listed_oldest_first,
        promise_4_a_lease_in_its_grace_is_not_in_doubt,
        promise_4_pages_go_on_behind_what_they_have_shown,
        promise_4_a_place_is_as_good_after_a_restart,
    }
    certainty {
        promise_5_every_error_says_whether_it_may_have_happened,
        promise_5_a_failure_says_whether_it_happened,
        promise_5_the_same_command_sent_again_is_answered_the_same,
        promise_5_a_record_that_cannot_be_read_fails_only_its_own_call,
        promise_5_a_damaged_record_fails_only_its_own_call,
    }
    leaving {
        promise_5_a_caller_that_leaves_before_its_turn_has_asked_nothing,
        promise_5_a_leader_that_leaves_before_its_turn_has_asked_nothing,
        promise_5_a_leader_that_leaves_does_its_duty_first,
        promise_5_a_leader_that_leaves_with_its_whole_runtime_does_its_duty_first,
        promise_5_a_caller_that_leaves_after_its_turn_has_asked,
        promise_5_callers_that_leave_at_any_time_leave_nothing_half_done,
    }
    waiting {
        promise_5_whoever_leaves_while_waiting_is_granted_nothing,
        promise_5_whoever_loses_patience_learns_how_it_stands,
        promise_5_whoever_has_no_time_left_is_granted_nothing,
    }
    batches {
        promise_5_a_caller_that_leaves_before_its_turn_has_asked_none_of_them,
        promise_5_a_record_that_cannot_be_read_fails_only_its_own_item,
        promise_5_records_of_any_size_and_damaged_ones_are_told_apart,
    }
    operating {
        promise_5_an_erase_that_is_ordered_again_is_the_same,
        promise_5_an_erase_spares_others_and_what_was_granted_since,
        promise_5_an_erase_goes_on_after_an_abrupt_end,
    }
    poison {
        promise_6_a_failed_commit_poisons,
        promise_6_a_failed_sync_is_not_tried_again,
        promise_6_a_purge_that_fails_poisons_too,
        promise_6_whoever_waits_when_a_commit_fails_is_answered,
        promise_6_the_change_is_signalled,
        promise_6_opened_anew_it_serves,
    }
    waiting {
        promise_6_whoever_is_parked_when_a_commit_fails_is_told,
    }
    operating {
        promise_6_an_erase_that_fails_poisons_too,
    }
    bounds {
        promise_7_past_a_bound_it_refuses,
        promise_7_past_a_bound_of_bytes_it_refuses,
        promise_7_a_deadline_that_has_passed_changes_nothing,
        promise_7_a_full_store_takes_what_ends_a_reservation,
        promise_7_a_full_store_shows_it,
        promise_7_closing_answers_everything_accepted,
        promise_7_a_closed_store_refuses,
        promise_7_closing_amid_a_crowd_leaves_nobody_in_doubt,
    }
    batches {
        promise_7_each_command_of_a_call_is_counted,
        promise_7_the_answers_of_one_call_stay_small,
        promise_7_a_closed_store_refuses_a_call_as_a_whole,
    }
    waiting {
        promise_7_no_more_wait_for_a_key_than_may,
        promise_7_no_more_wait_in_all_than_may,
        promise_7_whoever_is_parked_takes_nobodys_place_in_flight,
        promise_7_a_full_store_grants_nothing_to_whoever_waits,
        promise_7_closing_tells_whoever_waits,
    }
    quotas {
        promise_7_a_quota_of_keys_refuses_one_key_more_and_nothing_else,
        promise_7_a_quota_of_bytes_counts_what_was_completed,
        promise_7_what_is_over_does_not_count_purged_or_not,
        promise_7_a_crowd_does_not_pass_a_quota,
        promise_7_a_quota_counts_across_restarts_and_kills,
        promise_7_a_changed_quota_holds_from_the_next_start_on,
        promise_7_counters_say_what_a_count_says_whatever_happened,
    }
    operating {
        promise_7_a_page_takes_bounded_work,
        promise_7_a_bounded_number_of_erases_runs_at_a_time,
        promise_7_what_is_forced_is_not_refused_for_a_quota_and_counts,
    }
}

/// Puts `test` to an engine and holds the verdict against what is declared.
fn put(engine: Kind, name: &str, test: fn(Lab) -> Verdict) {
    let declared =
        EXCEPTIONS.iter().find(|exception| exception.engine == engine && exception.covers(name));
    match (test(Lab::new(engine)), declared) {
        (Ok(()), None) => {}
        (Err(Lacking(need)), Some(exception)) => assert_eq!(
            need, exception.lacks,
            "{engine:?} lacks something else than declared: {}",
            exception.because
        ),
        (Ok(()), Some(exception)) => panic!(
            "{engine:?} passes {name}, which is declared an exception: {}",
            exception.because
        ),
        (Err(Lacking(need)), None) => {
            panic!("{engine:?} lacks {need:?} for {name}, which is not declared")
        }
    }
}

impl Exception {
    fn covers(&self, name: &str) -> bool {
        self.tests.contains(&name)
    }
}

#[test]
fn exceptions_are_declared_for_tests_that_exist_and_once() {
    let mut declared: Vec<_> = EXCEPTIONS
        .iter()
        .flat_map(|exception| exception.tests.iter().map(|test| (exception.engine, *test)))
        .collect();
    for (_, test) in &declared {
        assert!(TESTS.contains(test), "{test} does not exist");
    }
    let before = declared.len();
    declared.sort_by_key(|(engine, test)| (format!("{engine:?}"), *test));
    declared.dedup();
    assert_eq!(declared.len(), before, "an exception is declared twice");
}

#[test]
fn every_test_carries_the_number_of_its_promise_and_every_promise_has_one() {
    let mut numbers: Vec<u32> = TESTS
        .iter()
        .map(|test| test.strip_prefix("promise_").unwrap().split('_').next().unwrap())
        .map(|number| number.parse().unwrap())
        .collect();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
}
