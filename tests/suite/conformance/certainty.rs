//! Promise 5: a failure says whether it surely did not happen or may have, and the same
//! command, sent again, is always right.
//!
//! A caller that leaves is a failure as well, of which nobody hears: what it asked was
//! either never asked, or stands.

use std::sync::Arc;

use onced::domain::{Command, Decision, Outcome, Span};
use onced::storage::EngineError;
use onced::storage::fault::{Fault, Operation};
use onced::storage::{Certainty, Condition};

use super::directory::spoil_record;
use crate::engines::{
    ANN, BOB, CLEO, FAULTS, LEASE, Lab, Need, Store, Verdict, complete, complete_with, key_of,
    leave, owner, release, renew, reserve, single_threaded,
};

pub fn promise_5_every_error_says_whether_it_may_have_happened(_: Lab) -> Verdict {
    for (error, certainty) in [
        (EngineError::Overloaded, Certainty::Determinate),
        (EngineError::Closing, Certainty::Determinate),
        (EngineError::DeadlineTooShort, Certainty::Determinate),
        (EngineError::Full, Certainty::Determinate),
        (EngineError::Unavailable, Certainty::Determinate),
        (EngineError::Corrupted, Certainty::Determinate),
        (EngineError::OutcomeUnknown, Certainty::Indeterminate),
    ] {
        assert_eq!(error.certainty(), certainty, "{error}");
    }
    Ok(())
}

/// Each kind of command that writes, on a key of its own that is ready for it.
fn writes() -> [(&'static str, Command); 4] {
    [
        ("reserved", reserve(BOB)),
        ("renewed", leave(ANN, "half")),
        ("completed", complete(ANN)),
        ("released", release(ANN)),
    ]
}

fn prepare(store: &Store) {
    for key in ["renewed", "completed", "released", "busy"] {
        store.granted(key, reserve(ANN));
    }
}

pub fn promise_5_a_failure_says_whether_it_happened(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for (operation, fault) in FAULTS {
        for (key, command) in writes() {
            let story = format!("{key}, with {operation:?} {fault:?}");
            let mut lab = Lab::new(kind);
            let (store, faults) = lab.open_fragile()?;
            prepare(&store);
            let before = store.lookup(key);

            // When the commit fails under a command that writes, and under one that is refused.
            faults.fail_next(operation, fault);
            let mut answers = store.together(vec![
                (key.to_owned(), command.clone()),
                ("busy".to_owned(), reserve(CLEO)),
            ]);

            // Then the one may have happened, and the other surely did nothing.
            let refused = answers.pop().unwrap().unwrap_err();
            let wrote = answers.pop().unwrap().unwrap_err();
            assert_eq!(wrote.certainty(), Certainty::Indeterminate, "{story}");
            assert_eq!(refused.certainty(), Certainty::Determinate, "{story}");

            // And opened anew, whether it happened or not, the same command is right.
            let store = lab.restart(store)?;
            let happened = store.lookup(key) != before;
            if (operation, fault) == (Operation::Write, Fault::NotDone) {
                assert!(!happened, "{story}");
            }
            if fault == Fault::DoneButReported {
                assert!(happened, "{story}");
            }
            let again = store.decide(key, command.clone());
            let right = match (&command, &again) {
                (Command::Reserve(_), Decision::Granted(granted)) => granted.attempt == 1,
                (Command::Renew(_), Decision::Renewed { lease_until }) => {
                    *lease_until == store.now().plus(LEASE)
                }
                (Command::Complete(_), Decision::Completed(completion)) => !completion.late,
                (Command::Release(_), Decision::Released) => true,
                _ => false,
            };
            assert!(right, "{story}: {again:?}");
        }
    }
    Ok(())
}

pub fn promise_5_the_same_command_sent_again_is_answered_the_same(lab: Lab) -> Verdict {
    // Given callers that never got their answers, though everything went well.
    let store = lab.open();
    prepare(&store);
    for (key, command) in writes() {
        let lost = store.decide(key, command.clone());
        assert_eq!(store.decide(key, command), lost, "{key}");
    }

    // Also where the same command waits beside itself.
    store.granted("twice", reserve(ANN));
    let failed = complete_with(ANN, |complete| complete.result = Outcome::Failed);
    let twice = store.together(vec![("twice".into(), failed.clone()), ("twice".into(), failed)]);
    assert_eq!(twice[0], twice[1]);
    Ok(())
}

pub fn promise_5_a_record_that_cannot_be_read_fails_only_its_own_call(mut lab: Lab) -> Verdict {
    let (store, faults) = lab.open_fragile()?;
    store.granted("unreadable", reserve(ANN));

    // When one of two commands that wait together meets a record that cannot be read.
    faults.fail_next(Operation::Read, Fault::NotDone);
    let answers = store
        .together(vec![("unreadable".into(), complete(ANN)), ("readable".into(), reserve(BOB))]);

    // Then it did nothing, and says so; the other is answered as if nothing were wrong.
    let error = answers[0].clone().unwrap_err();
    assert_eq!(error, EngineError::Unavailable);
    assert!(matches!(answers[1].as_ref().unwrap().answer, Decision::Granted(_)));
    assert_eq!(store.condition(), Condition::Serving);

    // And sent again, once the record can be read, it is done.
    assert!(matches!(store.decide("unreadable", complete(ANN)), Decision::Completed(_)));
    Ok(())
}

pub fn promise_5_a_damaged_record_fails_only_its_own_call(lab: Lab) -> Verdict {
    // Given a record that is damaged on the disk, and whose retention is over as well.
    let directory = lab.directory(Need::Disk)?;
    let store = lab.open();
    store.granted("damaged", reserve(ANN));
    store.granted("fine", reserve(ANN));
    drop(store);
    spoil_record(&directory, "damaged");
    let store = lab.open();
    lab.clock.advance(Span::from_secs(48 * 60 * 60));

    // Then every call that needs it says so, and did nothing; no other call is touched.
    for command in [reserve(BOB), complete(ANN), renew(ANN, LEASE), release(ANN)] {
        let answers = store.together(vec![
            ("before".into(), reserve(ANN)),
            ("damaged".into(), command),
            ("after".into(), reserve(ANN)),
        ]);
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert_eq!(answers[1], Err(EngineError::Corrupted));
    }
    assert_eq!(store.look("damaged"), Err(EngineError::Corrupted));

    // Nor is the sweeper, which leaves the record for somebody to look at.
    assert_eq!(store.purge_all(), 1);
    assert_eq!(store.look("damaged"), Err(EngineError::Corrupted));
    assert_eq!(store.condition(), Condition::Serving);
    Ok(())
}

// Callers that leave. The first of those that wait together leads: it decides for all of
// them, so it matters most what becomes of the others when the leader leaves.

pub fn promise_5_a_caller_that_leaves_before_its_turn_has_asked_nothing(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();
    let mut first = store.call("first", reserve(ANN));
    let mut leaving = store.call("left", reserve(BOB));
    let mut last = store.call("last", reserve(CLEO));
    assert!(first.nudge().is_pending());
    assert!(leaving.nudge().is_pending());
    assert!(last.nudge().is_pending());

    drop(leaving);
    assert!(store.runtime.block_on(first).is_ok());
    assert!(store.runtime.block_on(last).is_ok());
    assert_eq!(store.lookup("left"), None);
    Ok(())
}

pub fn promise_5_a_leader_that_leaves_before_its_turn_has_asked_nothing(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();
    let mut leading = store.call("left", reserve(ANN));
    assert!(leading.nudge().is_pending());
    drop(leading);
    assert_eq!(store.lookup("left"), None, "it left before its turn, and was granted the key");
    Ok(())
}

pub fn promise_5_a_leader_that_leaves_does_its_duty_first(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();

    // Whether it leaves before the turn, or while the turn waits for its sync:
    for nudges in [1, 2] {
        let (leading, following) = (format!("{nudges}-leader"), format!("{nudges}-follower"));
        let mut leader = store.call(&leading, reserve(ANN));
        let mut follower = store.call(&following, reserve(BOB));
        assert!(leader.nudge().is_pending());
        assert!(follower.nudge().is_pending());
        if nudges == 2 {
            let _ = leader.nudge();
        }
        drop(leader);

        // the follower is answered, by nobody's help, and what it was told is on record.
        let told = store.runtime.block_on(follower).unwrap().answer;
        assert!(matches!(told, Decision::Granted(_)), "{told:?}");
        assert!(store.lookup(&following).is_some());
    }
    Ok(())
}

pub fn promise_5_a_leader_that_leaves_with_its_whole_runtime_does_its_duty_first(
    lab: Lab,
) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();

    // Given a runtime that stands still between the arrival of its call and its turn.
    let doomed = single_threaded();
    let engine = Arc::clone(&store.engine);
    let call = doomed.spawn(async move { engine.apply(key_of("left"), reserve(ANN), None).await });
    doomed.block_on(tokio::task::yield_now());
    let mut follower = store.call("order-1", reserve(BOB));
    assert!(follower.nudge().is_pending());

    // When it ends, with its call.
    drop(doomed);
    assert!(store.runtime.block_on(call).unwrap_err().is_cancelled());

    // Then whoever queued up behind is answered.
    assert!(store.runtime.block_on(follower).is_ok());
    Ok(())
}

pub fn promise_5_a_caller_that_leaves_after_its_turn_has_asked(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();
    let mut leader = store.call("led", reserve(ANN));
    let mut follower = store.call("followed", reserve(ANN));
    assert!(leader.nudge().is_pending());
    assert!(follower.nudge().is_pending());

    // When both leave after the leader decided, whether or not the sync is done.
    let _ = leader.nudge();
    drop(follower);
    drop(leader);

    // Then what was decided stands, and whoever sends it again finds it.
    for key in ["led", "followed"] {
        assert!(matches!(store.decide(key, reserve(BOB)), Decision::InProgress(_)));
        assert_eq!(store.granted(key, reserve(ANN)).attempt, 1);
    }
    Ok(())
}

pub fn promise_5_callers_that_leave_at_any_time_leave_nothing_half_done(lab: Lab) -> Verdict {
    let store = lab.open();
    for round in 0..50_usize {
        // Given a crowd that arrives at once,
        let calls: Vec<_> = (0..16)
            .map(|caller| {
                let key = format!("{round}-{caller}");
                let engine = Arc::clone(&store.engine);
                let command = reserve(owner(caller));
                let call = store
                    .runtime
                    .spawn(async move { engine.apply(key_of(&key), command, None).await });
                (caller, call)
            })
            .collect();

        // of which some leave, each round others, and each round a little later.
        store.runtime.block_on(async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            for (caller, call) in &calls {
                if (round >> (caller % 4)) & 1 == 1 || (caller + round) % 7 == 0 {
                    call.abort();
                }
            }
        });

        for (caller, call) in calls {
            // Then whoever stayed is answered,
            let told = store.runtime.block_on(call);
            let record = store.lookup(&format!("{round}-{caller}"));
            match told {
                Ok(answer) => {
                    assert!(matches!(answer.unwrap().answer, Decision::Granted(_)));
                    assert_eq!(record.unwrap().owner_token, owner(caller));
                }
                // and whoever left has asked, or has not.
                Err(left) => {
                    assert!(left.is_cancelled());
                    let again = store.granted(&format!("{round}-{caller}"), reserve(owner(caller)));
                    assert_eq!(again.attempt, 1);
                    assert!(record.is_none_or(|record| {
                        record.fencing_token == again.fencing_token && record.attempt == 1
                    }));
                }
            }
        }
    }
    Ok(())
}
