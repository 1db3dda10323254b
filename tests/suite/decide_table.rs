//! The whole table of `domain::decide`: every standing of a key, every command, sent by the
//! owner on record and by somebody else, with the answer and with the record that is stored.
//!
//! What is expected stands in [`TABLE`], written by hand after the one that callers read;
//! [`expected`] spells out the answer and the record behind each of its words. Neither asks
//! the code under test. What operators force has a table of its own in `decide_force.rs`, and
//! random walks over the same ground live in `decide_model.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onced::domain::{
    Command, Complete, Completion, Decision, Delete, FencingToken, Fingerprint, ForceComplete,
    ForceRelease, Granted, InDoubt, InProgress, LeaseExpiryAction, Moment, Outcome, OwnerToken,
    Phase, Record, Refusal, Release, Renew, Reserve, Response, Span, State, Transition, Write,
    decide, phase_of, purge,
};

use LeaseExpiryAction::{Hold, Takeover};
use Outcome::{Failed, Succeeded};

/// The rows are where a key stands and who sends, the columns what is sent.
const TABLE: &str = "
                |       | Reserve     | Reserve,     | Reserve, other | Complete    | Complete   | Renew      | Release
                |       |             | retry_failed | fingerprint    | alike       | otherwise  |            |
 no record      | owner | first       | first        | first          | not found   | not found  | not found  | not found
 no record      | other | first       | first        | first          | not found   | not found  | not found  | not found
 retention over | owner | first       | first        | first          | not found   | not found  | not found  | not found
 retention over | other | first       | first        | first          | not found   | not found  | not found  | not found
 held           | owner | again       | again        | mismatch       | done        | done       | renewed    | released
 held           | other | in progress | in progress  | mismatch       | lease lost  | lease lost | lease lost | lease lost
 lapsed         | owner | takeover    | takeover     | mismatch       | done late   | done late  | renewed    | released
 lapsed         | other | takeover    | takeover     | mismatch       | lease lost  | lease lost | lease lost | lease lost
 in doubt       | owner | in doubt    | in doubt     | mismatch       | done late   | done late  | renewed    | released
 in doubt       | other | in doubt    | in doubt     | mismatch       | lease lost  | lease lost | lease lost | lease lost
 released       | owner | lease lost  | lease lost   | mismatch       | lease lost  | lease lost | lease lost | is released
 released       | other | next        | next         | mismatch       | lease lost  | lease lost | lease lost | lease lost
 succeeded      | owner | replayed    | replayed     | mismatch       | same answer | conflict   | completed  | completed
 succeeded      | other | replayed    | replayed     | mismatch       | lease lost  | lease lost | lease lost | lease lost
 failed         | owner | replayed    | replayed     | mismatch       | same answer | conflict   | completed  | completed
 failed         | other | replayed    | retry        | mismatch       | lease lost  | lease lost | lease lost | lease lost
";

/// 97 records, from two senders, with 22 commands each. `records` and `commands` show how
/// these numbers come about.
const COMBINATIONS: usize = 97 * 2 * 22;

/// When every command of the table is decided.
pub const NOW: Moment = Moment::from_millis(1_000_000);
const CREATED: Moment = Moment::from_millis(200_000);

/// The owner that the records name, and somebody else.
pub const OWNER: OwnerToken = OwnerToken::from_bytes([0x11; 16]);
const OTHER: OwnerToken = OwnerToken::from_bytes([0x22; 16]);

/// Records keep themselves for a minute; what commands ask for differs from it and from
/// each other, so that no span can pass for another.
const RECORD_RETENTION: Span = Span::from_millis(60_000);
const RESERVE_LEASE: Span = Span::from_millis(5_000);
const RESERVE_RETENTION: Span = Span::from_millis(70_000);
const RENEW_LEASE: Span = Span::from_millis(6_000);
const COMPLETE_RETENTION: Span = Span::from_millis(80_000);
const ONE_MILLISECOND: Span = Span::from_millis(1);

/// Says what a word of the table means: the answer, and what is stored.
fn expected(word: &str, before: Option<&Record>, command: &Command) -> Transition {
    let keep = |decision| Transition { decision, write: Write::Keep };
    let refuse = |refusal| keep(Decision::Refused(refusal));
    match (word, command, before) {
        // Reserve.
        ("first", Command::Reserve(reserve), _) => grant(reserve, 1, false, NOW, b""),
        ("takeover", Command::Reserve(reserve), _) => grant(reserve, 4, true, CREATED, b"page 7"),
        ("next", Command::Reserve(reserve), _) => grant(reserve, 4, false, CREATED, b"page 7"),
        ("retry", Command::Reserve(reserve), _) => grant(reserve, 4, false, CREATED, b""),
        ("again", Command::Reserve(_), Some(record)) => keep(Decision::Granted(Granted {
            owner_token: OWNER,
            fencing_token: fencing_token(40),
            lease_until: lease_until(record),
            attempt: 3,
            takeover: record.takeover,
            checkpoint: b"page 7".to_vec(),
        })),
        ("in progress", Command::Reserve(_), Some(record)) => {
            keep(Decision::InProgress(InProgress {
                lease_until: lease_until(record),
                attempt: 3,
                holder: "worker a".to_owned(),
            }))
        }
        ("in doubt", Command::Reserve(_), Some(record)) => keep(Decision::InDoubt(InDoubt {
            lease_until: lease_until(record),
            attempt: 3,
            holder: "worker a".to_owned(),
            checkpoint: b"page 7".to_vec(),
        })),
        ("replayed", Command::Reserve(_), Some(record)) => {
            keep(Decision::Replayed(completion(record)))
        }

        // Complete.
        ("done", Command::Complete(complete), Some(record)) => finish(record, complete, false),
        ("done late", Command::Complete(complete), Some(record)) => finish(record, complete, true),
        ("same answer", Command::Complete(_), Some(record)) => {
            keep(Decision::Completed(completion(record)))
        }
        ("conflict", Command::Complete(_), _) => refuse(Refusal::ResultConflict),

        // Renew and Release.
        ("renewed", Command::Renew(renew), Some(record)) => {
            let lease_until = Moment::from_millis(1_006_000);
            Transition {
                decision: Decision::Renewed { lease_until },
                write: Write::Put(Record {
                    checkpoint: renew.checkpoint.clone().unwrap_or(b"page 7".to_vec()),
                    state: State::Reserved { lease_until, lease_expiry_action: action(record) },
                    ..record.clone()
                }),
            }
        }
        ("released", Command::Release(_), Some(record)) => Transition {
            decision: Decision::Released,
            write: Write::Put(Record {
                state: State::Released { released_at: NOW },
                ..record.clone()
            }),
        },
        ("is released", Command::Release(_), _) => keep(Decision::Released),

        // Refusals of any command.
        ("mismatch", Command::Reserve(_), _) => refuse(Refusal::FingerprintMismatch),
        ("not found", _, _) => refuse(Refusal::NotFound),
        ("lease lost", _, _) => refuse(Refusal::LeaseLost),
        ("completed", Command::Renew(_) | Command::Release(_), _) => {
            refuse(Refusal::AlreadyCompleted)
        }
        _ => panic!("the table says {word:?} where that has no meaning: {command:?}"),
    }
}

/// An attempt that begins: the answer and the record tell the same story.
fn grant(
    reserve: &Reserve,
    attempt: u32,
    takeover: bool,
    created_at: Moment,
    checkpoint: &[u8],
) -> Transition {
    let lease_until = Moment::from_millis(1_005_000);
    Transition {
        decision: Decision::Granted(Granted {
            owner_token: reserve.owner_token,
            fencing_token: fencing_token(41),
            lease_until,
            attempt,
            takeover,
            checkpoint: checkpoint.to_vec(),
        }),
        write: Write::Put(Record {
            fingerprint: reserve.fingerprint.clone(),
            owner_token: reserve.owner_token,
            fencing_token: fencing_token(41),
            attempt,
            takeover,
            holder: "worker b".to_owned(),
            created_at,
            checkpoint: checkpoint.to_vec(),
            retention: RESERVE_RETENTION,
            state: State::Reserved {
                lease_until,
                lease_expiry_action: reserve.lease_expiry_action,
            },
        }),
    }
}

/// An attempt that ends: it is stored as the owner sent it, and the checkpoint is dropped,
/// because there is no next attempt to read it.
fn finish(record: &Record, complete: &Complete, late: bool) -> Transition {
    let completion = Arc::new(Completion {
        result: complete.result,
        response: complete.response.clone(),
        response_omitted: complete.response_omitted,
        response_digest: complete.response_digest,
        response_size_bytes: complete.response_size_bytes,
        completed_at: NOW,
        retained_until: Moment::from_millis(1_000_000 + complete.retention.as_millis()),
        attempt: 3,
        fencing_token: fencing_token(40),
        late,
    });
    Transition {
        decision: Decision::Completed(Arc::clone(&completion)),
        write: Write::Put(Record {
            checkpoint: Vec::new(),
            state: State::Completed(completion),
            ..record.clone()
        }),
    }
}

#[test]
fn every_combination_comes_to_what_the_table_says() {
    let cases = combinations();
    let mut surprises = Vec::new();
    for case in &cases {
        let wanted = expected(case.word, case.record.as_ref(), &case.command);
        let came = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        if came != wanted {
            surprises.push(format!(
                "{}\n  should be {:?}:\n  {wanted:?}\n  but came to\n  {came:?}",
                case.name, case.word
            ));
        }
    }
    assert!(
        surprises.is_empty(),
        "{} of {} combinations, the first of them:\n{}",
        surprises.len(),
        cases.len(),
        surprises[..surprises.len().min(5)].join("\n")
    );
}

#[test]
fn no_combination_is_left_out() {
    let rows: Vec<(&str, &str)> = table().iter().map(|row| (row.standing, row.by)).collect();
    let mut every_row = Vec::new();
    for standing in STANDINGS {
        every_row.extend([(standing, "owner"), (standing, "other")]);
    }
    assert_eq!(rows, every_row);

    let names: BTreeSet<String> = combinations().into_iter().map(|case| case.name).collect();
    assert_eq!(names.len(), COMBINATIONS);
}

#[test]
fn every_record_of_the_table_is_in_the_phase_that_its_row_says() {
    for standing in STANDINGS {
        let phase = phase_named(standing);
        for (name, record) in records(standing) {
            assert_eq!(phase_of(record.as_ref(), NOW), phase, "{standing}, {name}");
        }
    }
}

#[test]
fn a_refusal_or_a_report_stores_nothing_and_no_decision_deletes() {
    for case in combinations() {
        let came = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        match (&came.decision, &came.write) {
            (_, Write::Delete) => panic!("{} deletes", case.name),
            (_, Write::Keep) => {}
            (
                Decision::Granted(_)
                | Decision::Completed(_)
                | Decision::Renewed { .. }
                | Decision::Released,
                Write::Put(_),
            ) => {}
            (
                Decision::InProgress(_)
                | Decision::Replayed(_)
                | Decision::InDoubt(_)
                | Decision::Refused(_),
                Write::Put(_),
            ) => panic!("{} stores a record with {:?}", case.name, came.decision),
            (Decision::Forced(_), _) => panic!("{} is answered like an operator", case.name),
        }
    }
}

#[test]
fn a_fencing_token_is_used_up_exactly_by_the_grant_of_an_attempt() {
    for case in combinations() {
        let came = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        let granted =
            matches!(&came.decision, Decision::Granted(it) if it.fencing_token.get() == 41);
        let stored = matches!(&came.write, Write::Put(it) if it.fencing_token.get() == 41);
        let begins = ["first", "takeover", "next", "retry"].contains(&case.word);
        assert_eq!((granted, stored), (begins, begins), "{}", case.name);
    }
}

#[test]
fn a_command_sent_again_after_a_lost_answer_is_answered_the_same() {
    for case in combinations() {
        let name = &case.name;
        let once = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        let record = after(case.record, once.write.clone());
        let twice = decide(record.as_ref(), &case.command, NOW, fencing_token(42));
        assert_eq!(twice.decision, once.decision, "{name}");
        assert_eq!(after(record.clone(), twice.write), record, "{name}: changes the record");

        // What was stored answers for as long as it counts, not only within a millisecond;
        // only a lease that is renewed is renewed from the moment of the repetition.
        if let Write::Put(stored) = once.write {
            let later = NOW.plus(ONE_MILLISECOND);
            let again = decide(Some(&stored), &case.command, later, fencing_token(42));
            if let Decision::Renewed { lease_until } = once.decision {
                let lease_until = lease_until.plus(ONE_MILLISECOND);
                assert_eq!(again.decision, Decision::Renewed { lease_until }, "{name}");
            } else {
                assert_eq!(again, Transition { decision: once.decision, write: Write::Keep });
            }
        }
    }
}

#[test]
fn a_purge_takes_exactly_the_records_whose_retention_is_over() {
    for standing in STANDINGS {
        for (name, record) in records(standing) {
            let Some(record) = record else { continue };
            let write = if standing == "retention over" { Write::Delete } else { Write::Keep };
            assert_eq!(purge(&record, NOW), write, "{standing}, {name}");
        }
    }
}

#[test]
fn a_lease_runs_up_to_its_last_millisecond_and_not_into_the_next() {
    let at = |millis: i64| Moment::from_millis(1_000_000 + millis);
    for expiry_action in [Takeover, Hold] {
        // Given a lease of 5,000 ms that is granted at NOW,
        let granted =
            decide(None, &reserve(OWNER, "full", false, expiry_action), NOW, fencing_token(41));
        let record = after(None, granted.write);
        let duplicate = |now| {
            let command = reserve(OTHER, "full", false, Takeover);
            decide(record.as_ref(), &command, now, fencing_token(42)).decision
        };
        let is_late = |now| {
            let command = Command::Complete(complete(OWNER, Succeeded));
            match decide(record.as_ref(), &command, now, fencing_token(42)).decision {
                Decision::Completed(completion) => completion.late,
                other => panic!("the owner may complete, but {other:?}"),
            }
        };

        // then 4,999 ms later it is running,
        assert!(matches!(duplicate(at(4_999)), Decision::InProgress(it) if it.attempt == 1));
        assert!(!is_late(at(4_999)));

        // and 5,000 ms later it is over.
        match (expiry_action, duplicate(at(5_000))) {
            (Takeover, Decision::Granted(it)) => assert!(it.takeover && it.attempt == 2),
            (Hold, Decision::InDoubt(it)) => assert_eq!(it.lease_until, at(5_000)),
            (_, other) => panic!("the lease is over, but {other:?}"),
        }
        assert!(is_late(at(5_000)));
    }
}

#[test]
fn retention_is_over_on_the_millisecond() {
    let reserved = |lease_expiry_action| State::Reserved {
        lease_until: Moment::from_millis(10_000),
        lease_expiry_action,
    };
    let completion = Completion {
        completed_at: Moment::from_millis(10_000),
        retained_until: Moment::from_millis(90_000),
        ..stored_completion(Succeeded, NOW)
    };
    for (what, state, over) in [
        ("a lapse plus the minute of the record", reserved(Takeover), 70_000),
        ("a lapse plus the minute of the record", reserved(Hold), 70_000),
        (
            "a release plus the minute of the record",
            State::Released { released_at: Moment::from_millis(10_000) },
            70_000,
        ),
        ("what the completion says", State::Completed(Arc::new(completion)), 90_000),
    ] {
        let record = record("full", false, state);
        let reserve = reserve(OTHER, "full", false, Takeover);
        let release = Command::Release(Release { owner_token: OTHER });
        let begins_anew = |now| {
            let transition = decide(Some(&record), &reserve, now, fencing_token(41));
            matches!(transition.decision, Decision::Granted(it) if it.attempt == 1)
        };
        let refusal = |now| decide(Some(&record), &release, now, fencing_token(41)).decision;

        let last = Moment::from_millis(over - 1);
        assert!(!begins_anew(last), "{what}");
        assert_eq!(refusal(last), Decision::Refused(Refusal::LeaseLost), "{what}");
        assert_eq!(purge(&record, last), Write::Keep, "{what}");

        let over = Moment::from_millis(over);
        assert_eq!(record.retained_until(), over, "{what}");
        assert!(begins_anew(over), "{what}");
        assert_eq!(refusal(over), Decision::Refused(Refusal::NotFound), "{what}");
        assert_eq!(purge(&record, over), Write::Delete, "{what}");
    }
}

#[test]
fn an_owner_that_somebody_took_over_from_can_do_nothing_more() {
    // Given an owner whose lease lapsed and a second one that took over,
    let lapsed =
        record("full", false, State::Reserved { lease_until: NOW, lease_expiry_action: Takeover });
    let takeover =
        decide(Some(&lapsed), &reserve(OTHER, "full", false, Takeover), NOW, fencing_token(41));
    let taken_over = after(Some(lapsed), takeover.write);

    // then the first is refused whatever it sends,
    for (name, _, command) in commands(OWNER, "full", Succeeded) {
        let came = decide(taken_over.as_ref(), &command, NOW, fencing_token(42));
        match command {
            Command::Reserve(_) => assert!(!matches!(came.decision, Decision::Granted(_))),
            Command::Complete(_) | Command::Renew(_) | Command::Release(_) => {
                assert_eq!(came.decision, Decision::Refused(Refusal::LeaseLost), "{name}");
            }
            Command::ForceRelease(_) | Command::ForceComplete(_) | Command::Delete(_) => {
                unreachable!("an owner forces nothing")
            }
        }
        assert_eq!(came.write, Write::Keep, "{name}");
    }

    // and the second completes in time, as the second attempt after the third.
    let command = Command::Complete(complete(OTHER, Succeeded));
    let came = decide(taken_over.as_ref(), &command, NOW, fencing_token(42));
    let Decision::Completed(completion) = came.decision else {
        panic!("the second owner may complete, but {:?}", came.decision);
    };
    assert_eq!((completion.attempt, completion.fencing_token.get()), (4, 41));
    assert!(!completion.late);
}

#[test]
fn an_owner_token_that_differs_in_one_bit_is_somebody_elses() {
    let held = record(
        "full",
        false,
        State::Reserved { lease_until: NOW.plus(ONE_MILLISECOND), lease_expiry_action: Takeover },
    );
    for bit in 0..128 {
        let token =
            OwnerToken::from_bytes((u128::from_be_bytes([0x11; 16]) ^ (1 << bit)).to_be_bytes());
        let command = Command::Release(Release { owner_token: token });
        let came = decide(Some(&held), &command, NOW, fencing_token(41));
        assert_eq!(came.decision, Decision::Refused(Refusal::LeaseLost), "bit {bit}");
    }
}

#[test]
fn a_replay_shares_the_stored_completion_instead_of_copying_it() {
    for (_, record) in records("succeeded") {
        let Some(record) = record else { unreachable!("succeeded is on record") };
        let State::Completed(stored) = &record.state else { unreachable!("it is completed") };
        for command in [
            reserve(OTHER, print_of(&record), false, Takeover),
            Command::Complete(complete(OWNER, Succeeded)),
        ] {
            match decide(Some(&record), &command, NOW, fencing_token(41)).decision {
                Decision::Replayed(shared) | Decision::Completed(shared) => {
                    assert!(Arc::ptr_eq(stored, &shared));
                }
                other => panic!("a completed key answers with its completion, but {other:?}"),
            }
        }
    }
}

#[test]
fn no_number_is_too_large_or_too_small_to_decide_upon() {
    let moments = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let spans = [0, 1, i64::MAX].map(Span::from_millis);
    let mut decided = 0;
    for then in moments.map(Moment::from_millis) {
        for now in moments.map(Moment::from_millis) {
            for span in spans {
                for record in extreme_records(then, span) {
                    for command in extreme_commands(span) {
                        let last = fencing_token(i64::MAX);
                        let came = decide(record.as_ref(), &command, now, last);
                        // Attempts stop rising at their end instead of beginning anew.
                        if let (Decision::Granted(granted), Some(_)) = (came.decision, &record)
                            && phase_of(record.as_ref(), now) != Phase::Vacant
                        {
                            assert_eq!(granted.attempt, u32::MAX);
                        }
                        decided += 1;
                    }
                    if let Some(record) = &record {
                        purge(record, now);
                    }
                }
            }
        }
    }
    assert_eq!(decided, 7 * 7 * 3 * 6 * 11);
}

/// One combination, and the word of the table for it.
struct Case {
    name: String,
    word: &'static str,
    record: Option<Record>,
    command: Command,
}

/// Every combination that the table speaks of.
fn combinations() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in table() {
        let (sender, standing) = (row.by, row.standing);
        let owner_token = if sender == "owner" { OWNER } else { OTHER };
        for (record_name, record) in records(standing) {
            let print = record.as_ref().map_or("full", print_of);
            let stored_result = if standing == "failed" { Failed } else { Succeeded };
            for (command_name, column, command) in commands(owner_token, print, stored_result) {
                let word = row.words[column];
                let record = record.clone();
                let name = format!("{standing} ({record_name}), by {sender}: {command_name}");
                cases.push(Case { name, word, record, command });
            }
        }
    }
    cases
}

struct Row {
    standing: &'static str,
    by: &'static str,
    words: Vec<&'static str>,
}

/// The rows of [`TABLE`] below its head.
fn table() -> Vec<Row> {
    let lines = TABLE.lines().skip(1 + 2);
    lines
        .map(|line| {
            let mut columns = line.split('|').map(str::trim);
            let (Some(standing), Some(by)) = (columns.next(), columns.next()) else {
                panic!("a row says where the key stands and who sends: {line}");
            };
            let words: Vec<&str> = columns.collect();
            assert_eq!(words.len(), COLUMNS, "{line}");
            Row { standing, by, words }
        })
        .collect()
}

/// The columns of [`TABLE`].
const RESERVE: usize = 0;
const RESERVE_RETRY_FAILED: usize = 1;
const RESERVE_OTHER_FINGERPRINT: usize = 2;
const COMPLETE_ALIKE: usize = 3;
const COMPLETE_OTHERWISE: usize = 4;
const RENEW: usize = 5;
const RELEASE: usize = 6;
const COLUMNS: usize = 7;

pub const STANDINGS: [&str; 8] = [
    "no record",
    "retention over",
    "held",
    "lapsed",
    "in doubt",
    "released",
    "succeeded",
    "failed",
];

/// The phase that a row of a table is about.
pub fn phase_named(standing: &str) -> Phase {
    match standing {
        "no record" | "retention over" => Phase::Vacant,
        "held" => Phase::Held,
        "lapsed" => Phase::Lapsed,
        "in doubt" => Phase::InDoubt,
        "released" => Phase::Released,
        "succeeded" | "failed" => Phase::Completed,
        other => panic!("the table has no row {other:?}"),
    }
}

/// Every record of one standing: bound to a fingerprint or to an empty one, by a takeover or
/// not, at the first and at the last millisecond of what it stands for.
///
/// Beside the one key without a record that is 10 states whose retention is over, 4 held
/// ones, and 2 of each of the 5 other standings, all times 4: 1 + 24 * 4 = 97.
pub fn records(standing: &str) -> Vec<(String, Option<Record>)> {
    let past = |millis: i64| Moment::from_millis(1_000_000 - millis);
    let next = NOW.plus(ONE_MILLISECOND);
    let reserved =
        |lease_until, lease_expiry_action| State::Reserved { lease_until, lease_expiry_action };
    let released = |released_at| State::Released { released_at };
    let completed = |result, retained_until| {
        State::Completed(Arc::new(stored_completion(result, retained_until)))
    };

    let states = match standing {
        "no record" => return vec![("none".to_owned(), None)],
        "retention over" => vec![
            ("TAKEOVER, just over", reserved(past(60_000), Takeover)),
            ("TAKEOVER, long over", reserved(past(600_000), Takeover)),
            ("HOLD, just over", reserved(past(60_000), Hold)),
            ("HOLD, long over", reserved(past(600_000), Hold)),
            ("released, just over", released(past(60_000))),
            ("released, long over", released(past(600_000))),
            ("succeeded, just over", completed(Succeeded, NOW)),
            ("succeeded, long over", completed(Succeeded, past(500_000))),
            ("failed, just over", completed(Failed, NOW)),
            ("failed, long over", completed(Failed, past(500_000))),
        ],
        "held" => vec![
            ("TAKEOVER, early", reserved(NOW.plus(Span::from_secs(30)), Takeover)),
            ("TAKEOVER, last millisecond", reserved(next, Takeover)),
            ("HOLD, early", reserved(NOW.plus(Span::from_secs(30)), Hold)),
            ("HOLD, last millisecond", reserved(next, Hold)),
        ],
        "lapsed" => vec![
            ("first millisecond", reserved(NOW, Takeover)),
            ("last millisecond", reserved(past(59_999), Takeover)),
        ],
        "in doubt" => vec![
            ("first millisecond", reserved(NOW, Hold)),
            ("last millisecond", reserved(past(59_999), Hold)),
        ],
        "released" => {
            vec![("first millisecond", released(NOW)), ("last millisecond", released(past(59_999)))]
        }
        "succeeded" => vec![
            ("early", completed(Succeeded, NOW.plus(Span::from_secs(30)))),
            ("last millisecond", completed(Succeeded, next)),
        ],
        "failed" => vec![
            ("early", completed(Failed, NOW.plus(Span::from_secs(30)))),
            ("last millisecond", completed(Failed, next)),
        ],
        other => panic!("the table has no row {other:?}"),
    };

    let mut records = Vec::new();
    for (name, state) in states {
        for print in ["full", "empty"] {
            for took_over in [false, true] {
                let mut name = format!("{name}, {print} fingerprint");
                if took_over {
                    name.push_str(", by takeover");
                }
                records.push((name, Some(record(print, took_over, state.clone()))));
            }
        }
    }
    records
}

/// The third attempt at a key, in the hands of [`OWNER`].
fn record(print: &str, takeover: bool, state: State) -> Record {
    let checkpoint = match state {
        State::Reserved { .. } | State::Released { .. } => b"page 7".to_vec(),
        State::Completed(_) => Vec::new(),
    };
    Record {
        fingerprint: fingerprint(print),
        owner_token: OWNER,
        fencing_token: fencing_token(40),
        attempt: 3,
        takeover,
        holder: "worker a".to_owned(),
        created_at: CREATED,
        checkpoint,
        retention: RECORD_RETENTION,
        state,
    }
}

/// What [`complete`] with the same result leaves behind, if it arrived late.
fn stored_completion(result: Outcome, retained_until: Moment) -> Completion {
    let complete = complete(OWNER, result);
    Completion {
        result,
        response: complete.response,
        response_omitted: complete.response_omitted,
        response_digest: complete.response_digest,
        response_size_bytes: complete.response_size_bytes,
        completed_at: Moment::from_millis(300_000),
        retained_until,
        attempt: 3,
        fencing_token: fencing_token(40),
        late: true,
    }
}

/// Every command of one sender, with its column: 12 ways to reserve a key that is bound to
/// the fingerprint `print`, 3 to complete it with the result on record, 3 to complete it
/// otherwise, 3 to renew and 1 to release it: 22.
fn commands(
    owner_token: OwnerToken,
    print: &str,
    stored_result: Outcome,
) -> Vec<(String, usize, Command)> {
    let mut commands = Vec::new();

    for sent in ["full", "empty", "other"] {
        for retry_failed in [false, true] {
            for expiry_action in [Takeover, Hold] {
                let column = match (sent == print, retry_failed) {
                    (false, _) => RESERVE_OTHER_FINGERPRINT,
                    (true, false) => RESERVE,
                    (true, true) => RESERVE_RETRY_FAILED,
                };
                let mut name = format!("Reserve, {sent} fingerprint, {expiry_action:?}");
                if retry_failed {
                    name.push_str(", retry_failed");
                }
                let command = reserve(owner_token, sent, retry_failed, expiry_action);
                commands.push((name, column, command));
            }
        }
    }

    let alike = complete(owner_token, stored_result);
    let other_result = match stored_result {
        Succeeded => Failed,
        Failed => Succeeded,
    };
    let completes = [
        ("Complete alike", COMPLETE_ALIKE, alike.clone()),
        (
            // Honest retries rebuild trace ids and dates, and the bound on size may have been
            // configured anew between the two.
            "Complete alike, its wrapping rebuilt",
            COMPLETE_ALIKE,
            Complete {
                response: Response {
                    payload: Vec::new(),
                    content_type: String::new(),
                    metadata: BTreeMap::from([("trace".to_owned(), "2".to_owned())]),
                    ..alike.response.clone()
                },
                response_omitted: true,
                ..alike.clone()
            },
        ),
        (
            "Complete alike, to be kept for longer",
            COMPLETE_ALIKE,
            Complete { retention: Span::from_secs(3_600), ..alike.clone() },
        ),
        (
            "Complete with another result",
            COMPLETE_OTHERWISE,
            Complete { result: other_result, ..alike.clone() },
        ),
        (
            "Complete with another payload",
            COMPLETE_OTHERWISE,
            Complete {
                response: Response { payload: b"no".to_vec(), ..alike.response.clone() },
                response_digest: [8; 32],
                ..alike.clone()
            },
        ),
        (
            "Complete with another status code",
            COMPLETE_OTHERWISE,
            Complete {
                response: Response { status_code: 409, ..alike.response.clone() },
                ..alike.clone()
            },
        ),
    ];
    for (name, column, complete) in completes {
        commands.push((name.to_owned(), column, Command::Complete(complete)));
    }

    let renews = [
        ("Renew", None),
        ("Renew with a checkpoint", Some(b"page 8".to_vec())),
        ("Renew that clears the checkpoint", Some(Vec::new())),
    ];
    for (name, checkpoint) in renews {
        let renew = Renew { owner_token, lease: RENEW_LEASE, checkpoint };
        commands.push((name.to_owned(), RENEW, Command::Renew(renew)));
    }

    commands.push(("Release".to_owned(), RELEASE, Command::Release(Release { owner_token })));
    commands
}

fn reserve(
    owner_token: OwnerToken,
    print: &str,
    retry_failed: bool,
    lease_expiry_action: LeaseExpiryAction,
) -> Command {
    Command::Reserve(Reserve {
        fingerprint: fingerprint(print),
        owner_token,
        lease: RESERVE_LEASE,
        lease_expiry_action,
        retention: RESERVE_RETENTION,
        retry_failed,
        holder: "worker b".to_owned(),
    })
}

pub fn complete(owner_token: OwnerToken, result: Outcome) -> Complete {
    Complete {
        owner_token,
        result,
        response: Response {
            payload: b"yes".to_vec(),
            content_type: "text/plain".to_owned(),
            status_code: 201,
            metadata: BTreeMap::from([("trace".to_owned(), "1".to_owned())]),
        },
        response_omitted: false,
        response_digest: [7; 32],
        response_size_bytes: 3,
        retention: COMPLETE_RETENTION,
    }
}

/// Records at the ends of what their numbers can hold.
fn extreme_records(then: Moment, retention: Span) -> [Option<Record>; 6] {
    let extreme = |state| {
        let numbers = Record {
            attempt: u32::MAX,
            fencing_token: fencing_token(i64::MAX - 1),
            created_at: then,
            retention,
            ..record("full", false, state)
        };
        Some(numbers)
    };
    let completed = |result| extreme(State::Completed(Arc::new(stored_completion(result, then))));
    [
        None,
        extreme(State::Reserved { lease_until: then, lease_expiry_action: Takeover }),
        extreme(State::Reserved { lease_until: then, lease_expiry_action: Hold }),
        extreme(State::Released { released_at: then }),
        completed(Succeeded),
        completed(Failed),
    ]
}

/// Every kind of command, by the owner, by somebody else and by an operator, with the span
/// wherever it takes one.
fn extreme_commands(span: Span) -> Vec<Command> {
    let mut commands = Vec::new();
    for owner_token in [OWNER, OTHER] {
        commands.push(Command::Reserve(Reserve {
            fingerprint: fingerprint("full"),
            owner_token,
            lease: span,
            lease_expiry_action: Takeover,
            retention: span,
            retry_failed: true,
            holder: String::new(),
        }));
        let completed = Complete { retention: span, ..complete(owner_token, Failed) };
        commands.push(Command::Complete(completed));
        commands.push(Command::Renew(Renew { owner_token, lease: span, checkpoint: None }));
        commands.push(Command::Release(Release { owner_token }));
    }
    let fencing_token = None;
    commands.push(Command::ForceRelease(ForceRelease { fencing_token }));
    commands.push(Command::Delete(Delete { fencing_token }));
    let Complete { result, response, response_digest, .. } = complete(OWNER, Failed);
    commands.push(Command::ForceComplete(ForceComplete {
        fencing_token,
        result,
        response,
        response_omitted: false,
        response_digest,
        response_size_bytes: u64::MAX,
        retention: span,
    }));
    commands
}

/// The record after a write.
pub fn after(record: Option<Record>, write: Write) -> Option<Record> {
    match write {
        Write::Keep => record,
        Write::Put(record) => Some(record),
        Write::Delete => None,
    }
}

fn fingerprint(print: &str) -> Fingerprint {
    let digest = match print {
        "full" => vec![0xaa; 32],
        "empty" => Vec::new(),
        "other" => [vec![0xaa; 31], vec![0xab]].concat(),
        other => panic!("no fingerprint is called {other:?}"),
    };
    Fingerprint::new(digest).expect("32 bytes are few enough")
}

fn print_of(record: &Record) -> &'static str {
    if record.fingerprint.as_bytes().is_empty() { "empty" } else { "full" }
}

pub fn fencing_token(number: i64) -> FencingToken {
    FencingToken::new(number).expect("the number is positive")
}

fn lease_until(record: &Record) -> Moment {
    match &record.state {
        State::Reserved { lease_until, .. } => *lease_until,
        other => panic!("only reservations have a lease: {other:?}"),
    }
}

fn action(record: &Record) -> LeaseExpiryAction {
    match &record.state {
        State::Reserved { lease_expiry_action, .. } => *lease_expiry_action,
        other => panic!("only reservations have a lease: {other:?}"),
    }
}

pub fn completion(record: &Record) -> Arc<Completion> {
    match &record.state {
        State::Completed(completion) => Arc::clone(completion),
        other => panic!("only completed records have a completion: {other:?}"),
    }
}

#[test]
#[should_panic(expected = "gave the fencing token")]
fn a_fencing_token_that_does_not_rise_stops_the_engine() {
    // Retention is endless, so every record that is not held is open to another owner.
    let span = Span::from_millis(i64::MAX);
    let now = Moment::from_millis(1);
    for record in extreme_records(now, span).into_iter().flatten() {
        for command in extreme_commands(span) {
            decide(Some(&record), &command, now, record.fencing_token);
        }
    }
}
