//! Every fault of an operator's request is found.

use super::*;
use crate::api::Limits;

fn fields<T: std::fmt::Debug>(result: Result<T, Violations>) -> Vec<&'static str> {
    result.unwrap_err().into_iter().map(|violation| violation.field).collect()
}

fn force_release() -> v1::ForceReleaseRequest {
    v1::ForceReleaseRequest {
        key: "order-1".into(),
        reason: "it did not happen".into(),
        operator: "olga".into(),
        ..Default::default()
    }
}

#[test]
fn a_reason_and_an_operator_are_required_and_bounded() {
    let of = |request| super::force_release(request).map(|(_, (_, account))| account);
    assert_eq!(of(force_release()).unwrap().operator, "olga");
    let full = v1::ForceReleaseRequest {
        reason: "ü".repeat(512),
        operator: "ü".repeat(128),
        ..force_release()
    };
    assert!(of(full).is_ok());
    for (reason, operator) in [
        (String::new(), String::new()),
        ("ü".repeat(513), "ü".repeat(129)),
        ("a\nb".into(), "a\u{7f}".into()),
    ] {
        let wrong = v1::ForceReleaseRequest { reason, operator, ..force_release() };
        assert_eq!(fields(of(wrong)), ["reason", "operator"]);
    }
}

#[test]
fn all_faults_of_a_forced_completion_are_reported_at_once() {
    let request = v1::ForceCompleteRequest {
        namespace: "Orders".into(),
        fencing_token: -1,
        result: 7,
        retention: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(
        fields(force_complete(request, &Policies::default())),
        ["namespace", "key", "fencing_token", "reason", "operator", "result", "retention"]
    );
}

#[test]
fn a_forced_completion_is_bounded_like_any_other() {
    // By what holds in its namespace, also where a strict server takes no calls there.
    let limits = Limits { max_response_bytes: 3, ..Limits::default() };
    let request = v1::ForceCompleteRequest {
        key: "order-1".into(),
        reason: "it happened".into(),
        operator: "olga".into(),
        result: v1::Result::Succeeded.into(),
        response: Some(v1::Response {
            payload: b"paid".to_vec(),
            status_code: 201,
            ..Default::default()
        }),
        ..Default::default()
    };
    let policies = Policies::new(limits, true, []);
    let (_, (command, _)) = force_complete(request, &policies).unwrap();
    let Command::ForceComplete(force) = command else { panic!("{command:?}") };
    assert!(force.response_omitted && force.response.payload.is_empty());
    assert_eq!((force.response.status_code, force.response_size_bytes), (201, 4));
    assert_eq!(force.retention, limits.retention.default);
}

#[test]
fn nothing_is_erased_that_is_not_named() {
    let request = v1::EraseNamespaceRequest {
        reason: "all of it".into(),
        operator: "olga".into(),
        erase_id: Uuid::nil().to_string(),
        ..Default::default()
    };
    assert_eq!(fields(erase_namespace(request)), ["namespace", "erase_id"]);
}

#[test]
fn who_asks_for_a_backup_is_named_and_need_not_say_why() {
    let request = |operator: &str, reason: &str| v1::CreateBackupRequest {
        operator: operator.into(),
        reason: reason.into(),
    };
    assert_eq!(fields(create_backup(request("", "a\nb"))), ["reason", "operator"]);
    assert_eq!(fields(create_backup(request("olga", &"x".repeat(513)))), ["reason"]);
    let account = Account { operator: "olga".into(), reason: String::new() };
    assert_eq!(create_backup(request("olga", "")), Ok(account));
}

#[test]
fn the_size_of_a_page_is_clamped() {
    for (page_size, limit) in [(0, 100), (1, 1), (1_000, 1_000), (1_001, 1_000)] {
        let request = v1::ListRecordsRequest { page_size, ..Default::default() };
        assert_eq!(list(request).unwrap().limit, limit);
    }
}

#[test]
fn a_log_filter_is_checked_with_everything_else_and_its_time_is_bounded() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let request = v1::SetLogFilterRequest {
        filter: "info,onced=debug".into(),
        reason: "ticket 4711".into(),
        operator: "olga".into(),
        duration: seconds(0),
    };
    let duration_of = |duration| {
        let request = v1::SetLogFilterRequest { duration, ..request.clone() };
        set_log_filter(request).unwrap().0.duration
    };
    assert_eq!(duration_of(seconds(0)), Some(Duration::from_secs(1)));
    assert_eq!(duration_of(seconds(100_000)), Some(Duration::from_secs(86_400)));
    assert_eq!(duration_of(None), None);
    let empty = v1::SetLogFilterRequest { filter: String::new(), ..request };
    assert_eq!(set_log_filter(empty).unwrap().0.directives, "");

    let pattern = "[{key=(x{99}){99}}]=debug";
    for filter in ["inof".to_owned(), "a".repeat(1_025), "a=debugg".to_owned(), pattern.to_owned()]
    {
        let wrong = v1::SetLogFilterRequest { filter, duration: seconds(-1), ..Default::default() };
        assert_eq!(fields(set_log_filter(wrong)), ["filter", "duration", "reason", "operator"]);
    }
}
