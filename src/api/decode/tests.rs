//! Every fault is found, all of them at once, and nothing secret is quoted.

use http::HeaderValue;

use super::*;

const TOKEN: &str = "0190b3b4-7f6e-4c6c-9d56-3f3f8d1f2a10";

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

fn fields<T: std::fmt::Debug>(result: Result<T, Violations>) -> Vec<&'static str> {
    result.unwrap_err().into_iter().map(|violation| violation.field).collect()
}

fn reserve_request() -> v1::ReserveRequest {
    v1::ReserveRequest { key: "order-1".into(), ..Default::default() }
}

fn reserved(request: v1::ReserveRequest) -> Reserve {
    match reserve(request, &Policies::default()).unwrap() {
        (_, Command::Reserve(reserve), _) => reserve,
        other => panic!("{other:?}"),
    }
}

fn completed(response: v1::Response, policies: &Policies) -> Complete {
    let request = v1::CompleteRequest {
        key: "order-1".into(),
        owner_token: TOKEN.into(),
        result: v1::Result::Succeeded.into(),
        response: Some(response),
        ..Default::default()
    };
    match complete(request, policies).unwrap() {
        (_, Command::Complete(complete)) => complete,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_faults_of_a_request_are_reported_at_once() {
    let request = v1::ReserveRequest {
        namespace: "Orders".into(),
        key: String::new(),
        fingerprint: vec![0; 65],
        owner_token: "me".into(),
        lease: span(-1, 0),
        lease_expiry_action: 7,
        wait_timeout: span(1, -1_000_000_000),
        retry_failed: false,
        holder: "x".repeat(129),
    };
    assert_eq!(
        fields(reserve(request, &Policies::default())),
        [
            "namespace",
            "key",
            "fingerprint",
            "owner_token",
            "lease",
            "lease_expiry_action",
            "wait_timeout",
            "holder"
        ]
    );
    let request = v1::CompleteRequest { retention: span(0, -1), ..Default::default() };
    assert_eq!(
        fields(complete(request, &Policies::default())),
        ["key", "owner_token", "result", "retention"]
    );
    let request = v1::RenewRequest {
        key: "k".into(),
        checkpoint: Some(vec![0; MAX_CHECKPOINT_BYTES + 1]),
        ..Default::default()
    };
    assert_eq!(fields(renew(request, &Policies::default())), ["owner_token", "checkpoint"]);
    let request = v1::LookupRequest { wait_timeout: span(0, -1), ..Default::default() };
    assert_eq!(fields(lookup(request, &Policies::default())), ["key", "wait_timeout"]);
    assert_eq!(
        fields(release(v1::ReleaseRequest::default(), &Policies::default())),
        ["key", "owner_token"]
    );
}

#[test]
fn what_is_at_a_bound_is_accepted() {
    let request = v1::ReserveRequest {
        namespace: "n".repeat(63),
        key: " ~".repeat(127) + "k",
        fingerprint: vec![0; 64],
        holder: "ä".repeat(128),
        wait_timeout: span(0, 0),
        ..Default::default()
    };
    assert!(reserve(request, &Policies::default()).is_ok());
}

#[test]
fn faults_quote_neither_keys_nor_tokens() {
    let request = v1::CompleteRequest {
        key: "secret-key\n".into(),
        owner_token: "secret-token".into(),
        ..Default::default()
    };
    for violation in complete(request, &Policies::default()).unwrap_err() {
        assert!(!violation.description.contains("secret"), "{violation:?}");
    }
}

#[test]
fn spans_are_settled_within_their_bounds() {
    let lease = |lease| reserved(v1::ReserveRequest { lease, ..reserve_request() }).lease;
    assert_eq!(lease(None), Span::from_secs(30));
    assert_eq!(lease(span(0, 0)), Span::from_millis(100));
    assert_eq!(lease(span(1, 500_000_000)), Span::from_millis(1_500));
    assert_eq!(lease(span(i64::MAX, 0)), Span::from_secs(24 * 60 * 60));
}

#[test]
fn a_wait_is_none_unless_asked_for_and_cut_to_the_longest() {
    let policies = Policies::from(Limits { wait_max: Span::from_secs(5), ..Limits::default() });
    for (wait_timeout, wait) in [(None, 0), (span(0, 999_999), 0), (span(3, 0), 3), (span(9, 0), 5)]
    {
        let request = v1::ReserveRequest { wait_timeout, ..reserve_request() };
        assert_eq!(reserve(request, &policies).unwrap().2, Span::from_secs(wait));
        let request =
            v1::LookupRequest { wait_timeout, key: "order-1".into(), ..Default::default() };
        assert_eq!(lookup(request, &policies).unwrap().1, Span::from_secs(wait));
    }
}

#[test]
fn an_item_of_a_batch_may_not_wait_and_has_all_its_faults_reported() {
    let policies = Policies::default();
    let batched = |request| batched_reserve(request, &policies);
    assert!(batched(reserve_request()).is_ok());
    let zero = v1::ReserveRequest { wait_timeout: span(0, 0), ..reserve_request() };
    assert!(batched(zero).is_ok());
    let waits = v1::ReserveRequest { wait_timeout: span(0, 1), ..reserve_request() };
    assert_eq!(fields(batched(waits)), ["wait_timeout"]);
    let both = v1::ReserveRequest { wait_timeout: span(1, 0), ..Default::default() };
    assert_eq!(fields(batched(both)), ["key", "wait_timeout"]);
    let impossible = v1::ReserveRequest { wait_timeout: span(1, -1), ..reserve_request() };
    assert_eq!(fields(batched(impossible)), ["wait_timeout"], "once");
}

#[test]
fn an_impossible_duration_is_refused() {
    let request = v1::ReserveRequest { lease: span(0, 1_000_000_000), ..reserve_request() };
    assert_eq!(fields(reserve(request, &Policies::default())), ["lease"]);
}

#[test]
fn an_empty_namespace_is_the_default_one() {
    let (key, _, _) = reserve(reserve_request(), &Policies::default()).unwrap();
    assert_eq!(key.namespace.as_str(), "default");
}

#[test]
fn an_absent_owner_token_is_minted_and_never_the_same() {
    let (one, two) = (reserved(reserve_request()), reserved(reserve_request()));
    assert_ne!(one.owner_token, two.owner_token);
}

#[test]
fn the_nil_uuid_is_no_owner_token() {
    let request = v1::ReserveRequest { owner_token: Uuid::nil().to_string(), ..reserve_request() };
    assert_eq!(fields(reserve(request, &Policies::default())), ["owner_token"]);
}

#[test]
fn a_response_past_the_bound_is_omitted_but_known_by_size_and_digest() {
    let limits = Policies::from(Limits { max_response_bytes: 10, ..Limits::default() });
    let response = |payload: &[u8]| v1::Response {
        payload: payload.to_vec(),
        content_type: "a".into(),
        status_code: 200,
        ..Default::default()
    };
    let fits = completed(response(b"123456789"), &limits);
    assert!(!fits.response_omitted);
    assert_eq!(fits.response.payload, b"123456789");
    let large = completed(response(b"1234567890"), &limits);
    assert!(large.response_omitted);
    assert_eq!(large.response, Response { status_code: 200, ..Response::default() });
    assert_eq!(large.response_size_bytes, 10);
    assert_eq!(large.response_digest, <[u8; 32]>::from(Sha256::digest(b"1234567890")));
}

#[test]
fn timeouts_are_read_as_grpc_has_them() {
    let read = |text: &'static str| {
        timeout(&[(TIMEOUT, HeaderValue::from_static(text))].into_iter().collect())
    };
    assert_eq!(read("2S"), Some(Duration::from_secs(2)));
    assert_eq!(read("1500m"), Some(Duration::from_millis(1_500)));
    assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
    assert_eq!(read("250u"), Some(Duration::from_micros(250)));
    for malformed in ["", "S", "5", "5x", "-5S", "123456789S"] {
        assert_eq!(read(malformed), None, "{malformed:?}");
    }
    assert_eq!(timeout(&HeaderMap::new()), None);
}

// What a namespace changes.

fn orders() -> Namespace {
    Namespace::new("orders".to_owned()).unwrap()
}

/// A server that lists `orders` with this policy.
fn with_orders(strict: bool, policy: Policy) -> Policies {
    Policies::new(Limits::default(), strict, [(orders(), policy)])
}

fn in_orders() -> v1::ReserveRequest {
    v1::ReserveRequest { namespace: "orders".into(), ..reserve_request() }
}

#[test]
fn a_request_is_held_to_the_policy_of_its_namespace_and_no_other() {
    let secs = Span::from_secs;
    let limits = Limits {
        lease: SpanBounds { min: secs(1), default: secs(2), max: secs(3) },
        retention: SpanBounds { min: secs(10), default: secs(20), max: secs(30) },
        lease_expiry_action: LeaseExpiryAction::Hold,
        wait_max: secs(4),
        max_response_bytes: 3,
    };
    let policies = with_orders(false, Policy { limits, ..Policy::default() });
    let decided = |request| match reserve(request, &policies).unwrap() {
        (_, Command::Reserve(reserve), _) => reserve,
        other => panic!("{other:?}"),
    };

    let listed = decided(in_orders());
    assert_eq!((listed.lease, listed.retention), (secs(2), secs(20)));
    assert_eq!(listed.lease_expiry_action, LeaseExpiryAction::Hold);
    let long = decided(v1::ReserveRequest { lease: span(9, 0), ..in_orders() });
    assert_eq!(long.lease, secs(3));
    let takeover = v1::LeaseExpiryAction::Takeover.into();
    let asked = decided(v1::ReserveRequest { lease_expiry_action: takeover, ..in_orders() });
    assert_eq!(asked.lease_expiry_action, LeaseExpiryAction::Takeover);
    let unlisted = decided(reserve_request());
    assert_eq!((unlisted.lease, unlisted.retention), (secs(30), SpanBounds::RETENTION.default));

    let renewed = v1::RenewRequest {
        namespace: "orders".into(),
        key: "k".into(),
        owner_token: TOKEN.into(),
        lease: span(0, 0),
        checkpoint: None,
    };
    let Ok((_, Command::Renew(renewed))) = renew(renewed, &policies) else { panic!() };
    assert_eq!(renewed.lease, secs(1));

    for (namespace, kept_for, omitted) in
        [("orders", secs(30), true), ("", SpanBounds::RETENTION.max, false)]
    {
        let request = v1::CompleteRequest {
            namespace: namespace.into(),
            key: "k".into(),
            owner_token: TOKEN.into(),
            result: v1::Result::Succeeded.into(),
            response: Some(v1::Response { payload: b"paid".to_vec(), ..Default::default() }),
            retention: span(i64::MAX, 0),
        };
        let Ok((_, Command::Complete(complete))) = complete(request, &policies) else { panic!() };
        assert_eq!((complete.retention, complete.response_omitted), (kept_for, omitted));
    }
}

#[test]
fn a_namespace_may_require_a_fingerprint() {
    let required = Policy { fingerprint_required: true, ..Policy::default() };
    let policies = with_orders(false, required);
    let refused = reserve(in_orders(), &policies).unwrap_err();
    assert_eq!(
        refused,
        [Violation {
            field: "fingerprint",
            description: "is empty; this namespace requires one".into()
        }]
    );
    let full = v1::ReserveRequest { fingerprint: vec![1], ..in_orders() };
    assert!(reserve(full, &policies).is_ok());
    assert!(reserve(reserve_request(), &policies).is_ok());
}

#[test]
fn a_strict_server_refuses_unlisted_namespaces_in_every_request_and_names_no_other() {
    let policies = with_orders(true, Policy::default());
    assert!(reserve(in_orders(), &policies).is_ok());
    let refused = reserve(v1::ReserveRequest::default(), &policies).unwrap_err();
    assert_eq!(refused.iter().map(|it| it.field).collect::<Vec<_>>(), ["namespace", "key"]);
    assert_eq!(
        refused[0].description,
        "is not listed by this server, which takes listed ones only"
    );
    let (namespace, key, owner_token) = ("mail".to_owned(), "k".to_owned(), TOKEN.to_owned());
    let complete_mail = v1::CompleteRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        owner_token: owner_token.clone(),
        result: v1::Result::Failed.into(),
        ..Default::default()
    };
    let renew_mail = v1::RenewRequest {
        namespace: namespace.clone(),
        key: key.clone(),
        owner_token: owner_token.clone(),
        ..Default::default()
    };
    let release_mail =
        v1::ReleaseRequest { namespace: namespace.clone(), key: key.clone(), owner_token };
    let lookup_mail = v1::LookupRequest { namespace, key, ..Default::default() };
    assert_eq!(fields(complete(complete_mail, &policies)), ["namespace"]);
    assert_eq!(fields(renew(renew_mail, &policies)), ["namespace"]);
    assert_eq!(fields(release(release_mail, &policies)), ["namespace"]);
    assert_eq!(fields(lookup(lookup_mail, &policies)), ["namespace"]);
    // A name that is none has one fault and not two.
    let no_name = v1::ReserveRequest { namespace: "Mail".into(), ..reserve_request() };
    assert_eq!(fields(reserve(no_name, &policies)), ["namespace"]);
}
