//! What is counted where, and that every status has a reason that is counted by its name.

use std::sync::Arc;

use super::*;
use crate::api::status;
use crate::domain::{IdempotencyKey, QuotaKind, RecordKey, Refusal};
use crate::storage::EngineError;

fn namespace(name: &str) -> Namespace {
    Namespace::new(name.to_owned()).unwrap()
}

#[test]
fn every_status_is_counted_by_its_reason() {
    let key = RecordKey {
        namespace: Namespace::default(),
        key: IdempotencyKey::new("order-1".to_owned()).unwrap(),
    };
    let refusals = [
        Refusal::FingerprintMismatch,
        Refusal::LeaseLost,
        Refusal::NotFound,
        Refusal::ResultConflict,
        Refusal::AlreadyCompleted,
        Refusal::RecordChanged,
        Refusal::QuotaExceeded(QuotaKind::Keys),
        Refusal::QuotaExceeded(QuotaKind::Bytes),
    ];
    for refusal in refusals {
        let end = End::of(&status::refused(refusal, &key));
        assert_eq!(end.outcome(), "refused", "{refusal:?}");
        assert_ne!(end.reason(), "OTHER", "{refusal:?}");
    }
    let errors = [
        (EngineError::Overloaded, "failed", "OVERLOADED"),
        (EngineError::Closing, "failed", "DRAINING"),
        (EngineError::DeadlineTooShort, "failed", "DEADLINE_TOO_SHORT"),
        (EngineError::Full, "failed", "STORE_FULL"),
        (EngineError::Unavailable, "failed", "STORE_UNAVAILABLE"),
        (EngineError::OutcomeUnknown, "failed", "OUTCOME_UNKNOWN"),
        (EngineError::AnswerTooLarge, "refused", "ANSWER_TOO_LARGE"),
        (EngineError::Corrupted, "failed", "STORE_CORRUPTED"),
    ];
    for (error, outcome, reason) in errors {
        let end = End::of(&status::unanswered(error));
        assert_eq!((end.outcome(), end.reason()), (outcome, reason));
    }
    assert_eq!(End::of(&status::invalid(Vec::new())).reason(), "INVALID_FIELD");
}

#[test]
fn a_status_without_a_known_reason_is_laid_to_whom_its_code_says() {
    let internal = End::of(&Status::internal("a bug"));
    assert_eq!((internal.outcome(), internal.reason()), ("failed", "OTHER"));
    let refused = End::named("NEW_REASON", Code::FailedPrecondition);
    assert_eq!((refused.outcome(), refused.reason()), ("refused", "OTHER"));
}

#[test]
fn ends_and_methods_are_where_their_names_say() {
    let named = [
        (End::OK, "ok"),
        (End::GRANTED, "granted"),
        (End::IN_PROGRESS, "in_progress"),
        (End::COMPLETED, "completed"),
        (End::IN_DOUBT, "in_doubt"),
        (End::LEFT, "left"),
    ];
    for (end, name) in named {
        assert_eq!((end.outcome(), end.reason()), (name, ""));
    }
    for (at, method) in Method::ALL.into_iter().enumerate() {
        assert_eq!(method as usize, at);
    }
}

#[test]
fn what_several_threads_count_is_summed() {
    let meters = Arc::new(CallMeters::new(2, []));
    let counting = |_| {
        let meters = Arc::clone(&meters);
        std::thread::spawn(move || {
            for _ in 0..1_000 {
                let took = Duration::from_micros(200);
                meters.ended(Method::Reserve, End::GRANTED, took, false, meters.place_of("a"));
            }
        })
    };
    let threads: Vec<_> = (0..4).map(counting).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(meters.calls(Method::Reserve, End::GRANTED), 4_000);
    let durations = meters.durations(Method::Reserve, false);
    assert_eq!((durations.count(), durations.buckets()[1].1), (4_000, 4_000));
    assert_eq!(meters.durations(Method::Reserve, true).count(), 0);
    assert_eq!(meters.namespaces().count(), 0);
}

#[test]
fn namespaces_are_counted_by_name_where_they_are_listed_and_together_elsewhere() {
    let listed = [namespace("default"), namespace("orders")];
    let meters = CallMeters::new(1, &listed);
    for name in ["orders", "", "made-up-1", "made-up-2", "orders"] {
        let took = Duration::from_millis(1);
        meters.ended(Method::Lookup, End::OK, took, false, meters.place_of(name));
    }
    let counted: Vec<_> = meters
        .namespaces()
        .map(|(place, name)| (name, meters.namespace_calls(place, End::OK)))
        .collect();
    assert_eq!(counted, [(Some("default"), 1), (Some("orders"), 2), (None, 2)]);
}

#[test]
fn past_a_number_of_names_the_rest_is_counted_together() {
    let listed: Vec<_> = (0..MAX_NAMED + 5).map(|it| namespace(&format!("n{it}"))).collect();
    let meters = CallMeters::new(1, &listed);
    assert_eq!(meters.namespaces().count(), MAX_NAMED + 1);
    assert_eq!(meters.place_of(&format!("n{}", MAX_NAMED + 1)), MAX_NAMED);
}
