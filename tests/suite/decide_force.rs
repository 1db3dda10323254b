//! What operators force, over every standing of a key that `decide_table.rs` knows: the
//! answer, and the record that is stored.

use std::sync::Arc;

use onced::domain::{
    Command, Complete, Completion, Decision, Delete, FencingToken, ForceComplete, ForceRelease,
    Forced, ForcedOutcome, Outcome, Record, Refusal, Release, Renew, Reserve, Span, State,
    Transition, Write, decide,
};

use crate::decide_table::{
    NOW, OWNER, STANDINGS, after, complete, completion, fencing_token, phase_named, records,
};

/// The rows are where a key stands, the columns what is forced.
const TABLE: &str = "
                | ForceRelease | ForceComplete | ForceComplete | Delete
                |              | alike         | otherwise     |
 no record      | not found    | not found     | not found     | nothing there
 retention over | not found    | not found     | not found     | nothing there
 held           | released     | done          | done          | deleted
 lapsed         | released     | done late     | done late     | deleted
 in doubt       | released     | done late     | done late     | deleted
 released       | is released  | done late     | done late     | deleted
 succeeded      | completed    | same answer   | conflict      | deleted
 failed         | completed    | same answer   | conflict      | deleted
";

/// What the records of the table carry, and what none of them does.
const SEEN: i64 = 40;
const UNSEEN: i64 = 39;

/// 97 records, with 6 commands each, by an operator that has seen nothing, this record, or
/// another.
const COMBINATIONS: usize = 97 * 6 * 3;

struct Case {
    name: String,
    word: &'static str,
    standing: &'static str,
    record: Option<Record>,
    command: Command,
}

fn combinations() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in TABLE.lines().skip(3) {
        let mut columns = line.split('|').map(str::trim);
        let standing = columns.next().unwrap();
        let words: Vec<&str> = columns.collect();
        for (record_name, record) in records(standing) {
            for seen in [None, Some(SEEN), Some(UNSEEN)] {
                for (command_name, column, command) in commands(standing, seen) {
                    let is_changed = seen == Some(UNSEEN) && phase_is_occupied(standing);
                    cases.push(Case {
                        name: format!("{standing} ({record_name}), seen {seen:?}: {command_name}"),
                        word: if is_changed { "changed" } else { words[column] },
                        standing,
                        record: record.clone(),
                        command,
                    });
                }
            }
        }
    }
    cases
}

fn phase_is_occupied(standing: &str) -> bool {
    !["no record", "retention over"].contains(&standing)
}

fn commands(standing: &str, seen: Option<i64>) -> Vec<(&'static str, usize, Command)> {
    let fencing_token = seen.and_then(FencingToken::new);
    let (stored, other) = match standing {
        "failed" => (Outcome::Failed, Outcome::Succeeded),
        _ => (Outcome::Succeeded, Outcome::Failed),
    };
    let force = |complete: Complete| {
        Command::ForceComplete(ForceComplete {
            fencing_token,
            result: complete.result,
            response: complete.response,
            response_omitted: complete.response_omitted,
            response_digest: complete.response_digest,
            response_size_bytes: complete.response_size_bytes,
            retention: complete.retention,
        })
    };
    let alike = complete(OWNER, stored);
    let rebuilt = Complete { retention: Span::from_secs(3_600), ..alike.clone() };
    let other_result = Complete { result: other, ..alike.clone() };
    let other_payload = Complete { response_digest: [8; 32], ..alike.clone() };
    vec![
        ("ForceRelease", 0, Command::ForceRelease(ForceRelease { fencing_token })),
        ("ForceComplete alike", 1, force(alike)),
        ("ForceComplete alike, for longer", 1, force(rebuilt)),
        ("ForceComplete with another result", 2, force(other_result)),
        ("ForceComplete with another payload", 2, force(other_payload)),
        ("Delete", 3, Command::Delete(Delete { fencing_token })),
    ]
}

/// What a word of the table means.
fn expected(case: &Case) -> Transition {
    let (outcome, write) = match (case.word, &case.command, &case.record) {
        ("not found", _, _) => (ForcedOutcome::Refused(Refusal::NotFound), Write::Keep),
        ("nothing there", Command::Delete(_), _) => (ForcedOutcome::Deleted, Write::Keep),
        ("deleted", Command::Delete(_), Some(_)) => (ForcedOutcome::Deleted, Write::Delete),
        ("changed", _, Some(_)) => (ForcedOutcome::Refused(Refusal::RecordChanged), Write::Keep),
        ("is released", Command::ForceRelease(_), _) => (ForcedOutcome::Released, Write::Keep),
        ("released", Command::ForceRelease(_), Some(record)) => {
            let state = State::Released { released_at: NOW };
            (ForcedOutcome::Released, Write::Put(Record { state, ..record.clone() }))
        }
        ("completed", Command::ForceRelease(_), _) => {
            (ForcedOutcome::Refused(Refusal::AlreadyCompleted), Write::Keep)
        }
        ("same answer", Command::ForceComplete(_), Some(record)) => {
            (ForcedOutcome::Completed(completion(record)), Write::Keep)
        }
        ("conflict", Command::ForceComplete(_), _) => {
            (ForcedOutcome::Refused(Refusal::ResultConflict), Write::Keep)
        }
        (word @ ("done" | "done late"), Command::ForceComplete(force), Some(record)) => {
            let completion = Arc::new(Completion {
                result: force.result,
                response: force.response.clone(),
                response_omitted: false,
                response_digest: force.response_digest,
                response_size_bytes: 3,
                completed_at: NOW,
                retained_until: NOW.plus(force.retention),
                attempt: 3,
                fencing_token: fencing_token(SEEN),
                late: word == "done late",
            });
            let state = State::Completed(Arc::clone(&completion));
            let record = Record { checkpoint: Vec::new(), state, ..record.clone() };
            (ForcedOutcome::Completed(completion), Write::Put(record))
        }
        _ => panic!("{}: {:?} has no meaning there", case.name, case.word),
    };
    let is_there = phase_is_occupied(case.standing);
    Transition {
        decision: Decision::Forced(Forced {
            phase_before: phase_named(case.standing),
            fencing_token: is_there.then(|| fencing_token(SEEN)),
            outcome,
        }),
        write,
    }
}

fn outcome(transition: &Transition) -> &ForcedOutcome {
    match &transition.decision {
        Decision::Forced(forced) => &forced.outcome,
        other => panic!("an operator is answered as one, but {other:?}"),
    }
}

#[test]
fn everything_that_is_forced_comes_to_what_the_table_says() {
    let cases = combinations();
    for case in &cases {
        let came = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        assert_eq!(came, expected(case), "{}", case.name);
    }
    assert_eq!(cases.len(), COMBINATIONS);
    let mut standings: Vec<_> = cases.iter().map(|case| case.standing).collect();
    standings.dedup();
    assert_eq!(standings, STANDINGS);
}

#[test]
fn what_is_forced_again_after_a_lost_answer_comes_to_the_same() {
    for case in combinations() {
        let once = decide(case.record.as_ref(), &case.command, NOW, fencing_token(41));
        let record = after(case.record, once.write.clone());
        let twice = decide(record.as_ref(), &case.command, NOW, fencing_token(41));
        assert_eq!(outcome(&twice), outcome(&once), "{}", case.name);
        assert_eq!(twice.write, Write::Keep, "{}", case.name);
    }
}

#[test]
fn an_owner_whose_reservation_was_released_by_force_has_lost_it() {
    for (name, record) in ["held", "lapsed", "in doubt"].into_iter().flat_map(records) {
        let force = Command::ForceRelease(ForceRelease { fencing_token: None });
        let write = decide(record.as_ref(), &force, NOW, fencing_token(41)).write;
        let record = after(record, write);
        let answer =
            |command: Command| decide(record.as_ref(), &command, NOW, fencing_token(41)).decision;
        let lost = Decision::Refused(Refusal::LeaseLost);
        let succeeded = complete(OWNER, Outcome::Succeeded);
        assert_eq!(answer(Command::Complete(succeeded)), lost, "{name}");
        let lease = Span::from_secs(1);
        let renew = Renew { owner_token: OWNER, lease, checkpoint: None };
        assert_eq!(answer(Command::Renew(renew)), lost, "{name}");
        let again = Reserve {
            fingerprint: record.as_ref().unwrap().fingerprint.clone(),
            owner_token: OWNER,
            lease,
            lease_expiry_action: Default::default(),
            retention: lease,
            retry_failed: false,
            holder: String::new(),
        };
        assert_eq!(answer(Command::Reserve(again)), lost, "{name}");
        // That it did not happen is what is on record.
        let release = Command::Release(Release { owner_token: OWNER });
        assert_eq!(answer(release), Decision::Released, "{name}");
    }
}

#[test]
fn an_owner_that_comes_back_after_a_forced_completion_is_told_of_it() {
    for (name, record) in ["held", "in doubt"].into_iter().flat_map(records) {
        let Complete { result, response, response_digest, response_size_bytes, retention, .. } =
            complete(OWNER, Outcome::Succeeded);
        let force = Command::ForceComplete(ForceComplete {
            fencing_token: None,
            result,
            response,
            response_omitted: false,
            response_digest,
            response_size_bytes,
            retention,
        });
        let came = decide(record.as_ref(), &force, NOW, fencing_token(41));
        let ForcedOutcome::Completed(end) = outcome(&came) else { panic!("{name}: {came:?}") };
        let record = after(record, came.write.clone());
        let answer = |result| {
            let command = Command::Complete(complete(OWNER, result));
            decide(record.as_ref(), &command, NOW, fencing_token(41)).decision
        };
        assert_eq!(answer(Outcome::Succeeded), Decision::Completed(Arc::clone(end)), "{name}");
        let conflict = Decision::Refused(Refusal::ResultConflict);
        assert_eq!(answer(Outcome::Failed), conflict, "{name}");
    }
}
