//! What is counted and what is listed of a data directory, and what never is.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Selection;
use super::report::Report;
use crate::cli::Exit;
use crate::domain::{
    Completion, FencingToken, Fingerprint, LeaseExpiryAction, Moment, Outcome, OwnerToken, Record,
    Response, Span, State,
};
use crate::storage::Usage;
use crate::storage::rocks::inspect::{Found, Marks};

/// The first of August 2026, and this many seconds more.
fn at(seconds: i64) -> Moment {
    Moment::from_millis(1_785_542_400_000 + seconds * 1_000)
}

fn record(state: State) -> Record {
    Record {
        fingerprint: Fingerprint::new(vec![0xab, 0x01]).unwrap(),
        owner_token: OwnerToken::from_bytes(*b"SECRET-OF-OWNER!"),
        fencing_token: FencingToken::new(7).unwrap(),
        attempt: 2,
        takeover: true,
        holder: "worker-1".to_owned(),
        created_at: at(-60),
        checkpoint: b"PRIVATE".to_vec(),
        retention: Span::from_secs(100),
        state,
    }
}

fn reserved(lease_until: Moment, lease_expiry_action: LeaseExpiryAction) -> Record {
    record(State::Reserved { lease_until, lease_expiry_action })
}

fn completed() -> Record {
    record(State::Completed(Arc::new(Completion {
        result: Outcome::Failed,
        response: Response {
            payload: b"PRIVATE".to_vec(),
            content_type: "PRIVATE".to_owned(),
            status_code: 402,
            metadata: [("PRIVATE".to_owned(), "PRIVATE".to_owned())].into(),
        },
        response_omitted: false,
        response_digest: [0xcd; 32],
        response_size_bytes: 7,
        completed_at: at(-1),
        retained_until: at(99),
        attempt: 2,
        fencing_token: FencingToken::new(7).unwrap(),
        late: false,
    })))
}

/// A report at the moment `at(0)`.
fn report(selection: Selection, limit: usize) -> Report {
    let marks = Marks {
        fencing_high_water: FencingToken::new(1_000),
        clock_high_water: Some(at(0)),
        runs: 3,
    };
    Report::new(marks, None, selection, limit)
}

fn take(report: &mut Report, key: &str, record: Record) {
    report.take(Found::Record { namespace: "orders", key, record, bytes: 100 });
}

#[test]
fn states_are_those_at_the_stored_clock() {
    let mut report = report(Selection::default(), 10);
    take(&mut report, "held", reserved(at(1), LeaseExpiryAction::Takeover));
    take(&mut report, "lapsed", reserved(at(0), LeaseExpiryAction::Takeover));
    take(&mut report, "in doubt", reserved(at(0), LeaseExpiryAction::Hold));
    take(&mut report, "released", record(State::Released { released_at: at(-99) }));
    take(&mut report, "completed", completed());
    take(&mut report, "vacant", record(State::Released { released_at: at(-100) }));

    let value = report.to_json(Path::new("data"));
    let states: Vec<_> = value["listing"].as_array().unwrap().iter().map(|r| &r["state"]).collect();
    assert_eq!(states, ["held", "lapsed", "in_doubt", "released", "completed", "vacant"]);
    assert_eq!(
        value["records"],
        json!({
            "held": 1, "lapsed": 1, "in_doubt": 1, "released": 1, "completed": 1, "vacant": 1,
        })
    );
    assert_eq!(report.exit(), Exit::Done);
}

#[test]
fn a_report_as_json() {
    let mut report = report(Selection::default(), 10);
    take(&mut report, "order-1", completed());
    assert_eq!(
        report.to_json(Path::new("data")),
        json!({
            "path": "data",
            "clock_high_water": "2026-08-01T00:00:00Z",
            "fencing_high_water": 1_000,
            "runs": 3,
            "records": {
                "held": 0, "lapsed": 0, "in_doubt": 0, "released": 0, "completed": 1, "vacant": 0,
            },
            "damaged_records": 0,
            "namespaces": 1,
            "wrong_counters": null,
            "read_to_the_end": true,
            "damaged_listing": [],
            "namespace_listing": [{
                "namespace": "orders",
                "keys": 1,
                "bytes": 100,
                "counter_keys": null,
                "counter_bytes": null,
                "counter_is_right": null,
            }],
            "listing": [{
                "namespace": "orders",
                "key": "order-1",
                "state": "completed",
                "fingerprint": "ab01",
                "attempt": 2,
                "fencing_token": 7,
                "holder": "worker-1",
                "create_time": "2026-07-31T23:59:00Z",
                "lease_expire_time": null,
                "lease_expiry_action": null,
                "checkpoint_size_bytes": 7,
                "complete_time": "2026-07-31T23:59:59Z",
                "result": "failed",
                "status_code": 402,
                "late": false,
                "response_omitted": false,
                "response_digest": "cd".repeat(32),
                "response_size_bytes": 7,
                "expire_time": "2026-08-01T00:01:39Z",
            }],
        })
    );
}

#[test]
fn a_report_for_people() {
    let mut report = report(Selection::default(), 2);
    take(&mut report, "order-1", completed());
    take(&mut report, "two\nlines\u{1b}", reserved(at(1), LeaseExpiryAction::Takeover));
    take(&mut report, "order-3", completed());
    report.take(Found::Damaged { record_key: b"\xff\x00", namespace: b"\x00", bytes: 2 });
    assert_eq!(
        report.to_text(Path::new("data")),
        "\
path                data
clock high water    2026-08-01T00:00:00Z
fencing high water  1000
runs                3
records
  held              1
  lapsed            0
  in doubt          0
  released          0
  completed         2
  vacant            0
damaged records     1
namespaces          2
read to the end     yes

DAMAGED, by the bytes of the stored key
ff00

NAMESPACE  KEYS  BYTES  COUNTER IS RIGHT  COUNTER KEYS  COUNTER BYTES
\\u{0}      1     2      -                 -             -
orders     3     300    -                 -             -

STATE      NAMESPACE  KEY              ATTEMPT  FENCING  LEASE UNTIL           RESULT  \
RETAINED UNTIL        HOLDER
completed  orders     order-1          2        7        -                     failed  \
2026-08-01T00:01:39Z  worker-1
held       orders     two lines\\u{1b}  2        7        2026-08-01T00:00:01Z  -       \
2026-08-01T00:01:41Z  worker-1

1 more; --limit lists more of them
"
    );
}

#[test]
fn owner_tokens_responses_and_checkpoints_are_not_shown() {
    let mut report = report(Selection::default(), 10);
    take(&mut report, "order-1", completed());
    take(&mut report, "order-2", reserved(at(1), LeaseExpiryAction::Hold));
    let value = report.to_json(Path::new("data"));
    let hex_of = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for page in [value.to_string(), report.to_text(Path::new("data"))] {
        for secret in ["SECRET", "PRIVATE", &hex_of("SECRET"), "U0VDUkVU", "UFJJVkFURQ"] {
            assert!(!page.contains(secret), "{secret}: {page}");
        }
    }
}

#[test]
fn a_selection_is_by_namespace_and_by_the_beginning_of_the_key() {
    let counted = |namespace: Option<&str>, key_prefix: Option<&str>| {
        let selection = Selection {
            namespace: namespace.map(str::to_owned),
            key_prefix: key_prefix.map(str::to_owned),
        };
        let mut report = report(selection, 10);
        take(&mut report, "order-1", completed());
        take(&mut report, "invoice-1", completed());
        report.take(Found::Damaged { record_key: b"", namespace: b"", bytes: 0 });
        let value = report.to_json(Path::new("data"));
        let keys: Vec<_> = value["listing"].as_array().unwrap().iter().map(|r| &r["key"]).collect();
        assert_eq!(value["records"]["completed"], json!(keys.len()));
        // Damage concerns everybody.
        assert_eq!(value["damaged_records"], 1);
        keys.into_iter().map(|key| key.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(counted(None, None), ["order-1", "invoice-1"]);
    assert_eq!(counted(Some("orders"), Some("order-")), ["order-1"]);
    assert_eq!(counted(Some("orders"), Some("rder")), Vec::<String>::new());
    assert_eq!(counted(Some("order"), None), Vec::<String>::new());
}

#[test]
fn what_is_not_listed_is_counted_and_damage_is_a_refusal() {
    let mut none_listed = report(Selection::default(), 0);
    take(&mut none_listed, "order-1", completed());
    none_listed.take(Found::Damaged { record_key: b"\x01", namespace: b"", bytes: 1 });
    let value = none_listed.to_json(Path::new("data"));
    assert_eq!((&value["listing"], &value["damaged_listing"]), (&json!([]), &json!([])));
    assert_eq!((&value["records"]["completed"], &value["damaged_records"]), (&json!(1), &json!(1)));
    assert_eq!(none_listed.exit(), Exit::Refused);

    let mut cut = report(Selection::default(), 0);
    cut.cut_short();
    assert_eq!(cut.exit(), Exit::Refused);
    assert_eq!(cut.to_json(Path::new("data"))["read_to_the_end"], Value::Bool(false));
}

/// The report of a directory whose counters say this.
fn counted(counters: &[(&str, u64, u64)]) -> Report {
    let marks = Marks { fencing_high_water: None, clock_high_water: None, runs: 1 };
    let counters = counters
        .iter()
        .map(|(name, keys, bytes)| (name.as_bytes().to_vec(), Usage { keys: *keys, bytes: *bytes }))
        .collect();
    Report::new(marks, Some(counters), Selection::default(), 10)
}

#[test]
fn counters_that_say_what_is_there_are_right() {
    let mut report = counted(&[("orders", 2, 200)]);
    take(&mut report, "order-1", completed());
    take(&mut report, "order-2", completed());
    let value = report.to_json(Path::new("data"));
    assert_eq!(value["wrong_counters"], 0);
    assert_eq!(value["namespace_listing"][0]["counter_is_right"], true);
    assert_eq!(report.exit(), Exit::Done);
}

#[test]
fn counters_that_say_anything_else_are_named_first_and_are_damage() {
    let mut report = counted(&[("mail", 1, 1), ("orders", 2, 201)]);
    report.take(Found::Record { namespace: "a", key: "k", record: completed(), bytes: 5 });
    take(&mut report, "order-1", completed());
    take(&mut report, "order-2", completed());
    let value = report.to_json(Path::new("data"));
    assert_eq!((&value["namespaces"], &value["wrong_counters"]), (&json!(3), &json!(3)));
    assert_eq!(
        value["namespace_listing"][1],
        json!({
            "namespace": "mail",
            "keys": 0,
            "bytes": 0,
            "counter_keys": 1,
            "counter_bytes": 1,
            "counter_is_right": false,
        })
    );
    assert_eq!(report.exit(), Exit::Refused);

    let mut partly = counted(&[("a", 1, 5), ("orders", 2, 201)]);
    partly.take(Found::Record { namespace: "a", key: "k", record: completed(), bytes: 5 });
    take(&mut partly, "order-1", completed());
    let value = partly.to_json(Path::new("data"));
    assert_eq!(value["wrong_counters"], 1);
    assert_eq!(value["namespace_listing"][0]["namespace"], "orders");
    assert_eq!(value["namespace_listing"][1]["counter_is_right"], true);

    // Where damage ended the reading, nothing can be said of them.
    partly.cut_short();
    assert_eq!(partly.to_json(Path::new("data"))["wrong_counters"], Value::Null);
}
