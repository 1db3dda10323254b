//! Promise 5: a failure says whether it surely did not happen or may have, and the same
//! command, sent again, is always right. Callers that leave are in `leaving.rs`.

use onced::domain::{Command, Decision, Outcome, Span};
use onced::storage::EngineError;
use onced::storage::fault::{Fault, Operation};
use onced::storage::{Certainty, Condition};

use super::directory::spoil_record;
use crate::engines::{
    ANN, BOB, CLEO, FAULTS, LEASE, Lab, Need, Store, Verdict, complete, complete_with, leave,
    release, renew, reserve,
};

pub fn promise_5_every_error_says_whether_it_may_have_happened(_: Lab) -> Verdict {
    for (error, certainty) in [
        (EngineError::Overloaded, Certainty::Determinate),
        (EngineError::Closing, Certainty::Determinate),
        (EngineError::DeadlineTooShort, Certainty::Determinate),
        (EngineError::Full, Certainty::Determinate),
        (EngineError::Unavailable, Certainty::Determinate),
        (EngineError::AnswerTooLarge, Certainty::Determinate),
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
