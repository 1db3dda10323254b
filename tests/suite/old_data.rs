//! Data directories of every released format, opened by this build.
//!
//! `tests/fixtures/data-directory-N` is what format N left when its server was killed: one half
//! of the records in a table, the other half in the log only. They are never edited. To make
//! the fixture of another format, run this test with `ONCED_TEST_WRITE_FIXTURE` set to
//! an empty folder, and keep what lies there beside the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onced::domain::{
    Decision, FencingToken, LeaseExpiryAction, Outcome, Phase, Refusal, Span, State,
};
use onced::storage::OpenError;
use onced::storage::fault::FaultPlan;
use onced::storage::list::Listing;
use onced::storage::rocks::inspect::Inspection;

use crate::conformance::quotas::counters_and_counts;
use crate::engines::{
    ANN, BOB, CLEO, FAULTS, Kind, Lab, MORNING, Need, RETENTION, Store, complete, complete_with,
    copy_files, granted, hold_for, leave, release, renew, reserve, reserve_for, reserve_with,
};
use crate::proof::Row;

/// One record in each state. `half` begins the keys.
fn write(lab: &Lab, store: &Store, half: &str) {
    let key = |name: &str| format!("{half}-{name}");
    let minute = Span::from_secs(60);

    store.granted(&key("held"), reserve_with(ANN, |it| it.holder = "worker ü".into()));
    store.decide(&key("held"), leave(ANN, "page 7"));
    store.decide(&key("held"), renew(ANN, RETENTION));
    store.granted(&key("in-doubt"), hold_for(ANN, Span::from_secs(1)));
    store.decide(&key("in-doubt"), leave(ANN, "half done"));
    store.granted(&key("lapsed"), reserve_for(ANN, Span::from_secs(1)));
    store.granted(&key("taken-over"), reserve_for(ANN, Span::from_secs(1)));
    store.granted(&key("released"), reserve(ANN));
    store.decide(&key("released"), leave(ANN, "nothing sent"));
    store.decide(&key("released"), release(ANN));
    store.granted(&key("succeeded"), reserve(ANN));
    store.decide(&key("succeeded"), complete(ANN));
    store.granted(&key("late"), reserve_for(ANN, Span::from_secs(1)));

    lab.clock.advance(minute);
    store.granted(&key("taken-over"), reserve_for(BOB, RETENTION));
    store.decide(&key("late"), complete_with(ANN, |it| it.result = Outcome::Failed));

    // Gone before the server was, so that nothing but the counter knows its token.
    let short = |it: &mut onced::domain::Reserve| it.retention = Span::from_secs(1);
    for attempt in 0..10 {
        store.granted(&key(&format!("purged-{attempt}")), reserve_with(CLEO, short));
    }
    lab.clock.advance(minute);
    assert_eq!(store.purge_all(), 10);
}

/// The largest fencing token that was given before the server of the fixture was killed.
const HIGHEST: i64 = 10_020;

/// What has to be true of a half ever after.
fn holds(store: &Store, half: &str) {
    let key = |name: &str| format!("{half}-{name}");

    let held = store.lookup(&key("held")).unwrap();
    assert_eq!((held.holder.as_str(), held.checkpoint.as_slice()), ("worker ü", &b"page 7"[..]));
    assert_eq!((held.attempt, held.takeover), (1, false));
    assert!(matches!(
        held.state,
        State::Reserved { lease_expiry_action: LeaseExpiryAction::Takeover, .. }
    ));
    assert!(matches!(store.decide(&key("held"), reserve(BOB)), Decision::InProgress(_)));
    let other_body = reserve_with(BOB, |it| it.fingerprint = Default::default());
    let mismatch = Decision::Refused(Refusal::FingerprintMismatch);
    assert_eq!(store.decide(&key("held"), other_body), mismatch);
    let lost = Decision::Refused(Refusal::LeaseLost);
    assert_eq!(store.decide(&key("held"), complete(BOB)), lost);
    assert!(matches!(store.decide(&key("held"), complete(ANN)), Decision::Completed(_)));

    let Decision::InDoubt(doubt) = store.decide(&key("in-doubt"), reserve(BOB)) else {
        panic!("not in doubt")
    };
    assert_eq!(doubt.checkpoint, b"half done");

    rises(store, &key("lapsed"), 2, b"");
    rises(store, &key("released"), 2, b"nothing sent");
    rises(store, &key("purged-0"), 1, b"");

    let taken_over = store.lookup(&key("taken-over")).unwrap();
    assert_eq!((taken_over.attempt, taken_over.takeover), (2, true));
    assert_eq!(store.decide(&key("taken-over"), complete(ANN)), lost);

    let Decision::Replayed(done) = store.decide(&key("succeeded"), reserve(BOB)) else {
        panic!("not replayed")
    };
    assert_eq!(done.response.payload, b"{\"paid\": true}");
    assert_eq!(done.response.content_type, "application/json");
    assert_eq!(done.response.status_code, 201);
    assert_eq!(done.response.metadata["location"], "/orders/1");
    assert_eq!((done.result, done.late), (Outcome::Succeeded, false));

    let Decision::Replayed(failed) = store.decide(&key("late"), reserve(BOB)) else {
        panic!("not replayed")
    };
    assert_eq!((failed.result, failed.late), (Outcome::Failed, true));
}

/// Cleo is granted this attempt, with a token above all that were ever given.
fn rises(store: &Store, key: &str, attempt: u32, checkpoint: &[u8]) {
    let next = granted(store.decide(key, reserve(CLEO)));
    assert!(next.fencing_token.get() > HIGHEST, "{key}: {:?}", next.fencing_token);
    assert_eq!((next.attempt, next.checkpoint.as_slice()), (attempt, checkpoint), "{key}");
}

/// Opens the directory at `path` with this build: twice, so that what it wrote itself on the
/// way is read as well.
fn opens(path: &Path) {
    let mut lab = Lab::new(Kind::Rocks);
    copy_files(path, &lab.directory(Need::Restart).unwrap());
    lab.clock.step_to(MORNING.plus(Span::from_secs(3_600)));
    let inspection = Inspection::open(&lab.directory(Need::Restart).unwrap()).unwrap();
    assert!(inspection.marks().unwrap().fencing_high_water >= FencingToken::new(HIGHEST));
    drop(inspection);

    // A store of format 1 is migrated when it is opened: what is in doubt can be listed.
    let store = lab.open();
    let in_doubt = Listing {
        namespace: None,
        key_prefix: String::new(),
        phase: Some(Phase::InDoubt),
        limit: 10,
        after: None,
    };
    let keys = store.list(in_doubt).0;
    assert_eq!(keys, ["default/table-in-doubt", "default/log-in-doubt"]);
    holds(&store, "table");
    let store = lab.kill(store).unwrap();
    holds(&store, "log");
    drop(store);
    let [counters, counts] = counters_and_counts(&lab.directory(Need::Restart).unwrap());
    assert_eq!(counters, counts);
}

#[test]
fn a_directory_of_this_build_is_read_back() {
    let lab = Lab::new(Kind::Rocks);
    let store = lab.open();
    write(&lab, &store, "table");
    // What the log holds when a store is opened is written to a table.
    let store = lab.restart(store).unwrap();
    write(&lab, &store, "log");
    let highest = store.granted("last", reserve(ANN)).fencing_token;
    assert_eq!(highest.get(), HIGHEST, "which is what the fixtures hold as well");

    let copy = lab.copy_what_is_there().unwrap();
    drop(store);
    let mut lab = lab;
    lab.go_on_with(copy);
    let directory = lab.directory(Need::Restart).unwrap();
    opens(&directory);
    if let Some(keep) = std::env::var_os("ONCED_TEST_WRITE_FIXTURE") {
        copy_files(&directory, Path::new(&keep));
    }
}

fn format_1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-directory-1")
}

#[test]
fn a_migration_that_is_cut_short_is_done_again() {
    let mut lab = Lab::new(Kind::Rocks);
    let directory = lab.directory(Need::Restart).unwrap();
    copy_files(&format_1(), &directory);
    let faults = Arc::new(FaultPlan::default());
    lab.options.faults = Some(Arc::clone(&faults));
    for (operation, fault) in FAULTS {
        faults.fail_next(operation, fault);
        let error = lab.try_open().err().unwrap();
        assert!(matches!(error, OpenError::Unavailable { .. }), "{error:?}");
    }
    opens(&directory);
}

#[test]
fn a_directory_of_every_released_format_is_read() {
    for format in 1..=2 {
        let fixture = format!("tests/fixtures/data-directory-{format}");
        opens(&Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture));
    }
    Row {
        promise: "2 durable before answered, 3 fencing tokens rise",
        attack: "a data directory of each released format, opened by this build",
        times: "2 directories, in each 14 records and 20 purged ones",
        lost: 0,
    }
    .report();
}
