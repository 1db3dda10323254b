//! Promise 6: after a failed commit the engine is poisoned. It refuses everything from then
//! on, and the process is meant to be restarted; an fsync is never retried.

use std::sync::atomic::{AtomicUsize, Ordering};

use onced::domain::{Decision, Span};
use onced::storage::fault::{Fault, Operation};
use onced::storage::{Certainty, Condition, EngineError};

use crate::engines::{
    ANN, BOB, FAULTS, Lab, Verdict, complete, key_of, on_threads, owner, release, reserve,
    reserve_with,
};

pub fn promise_6_a_failed_commit_poisons(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for (operation, fault) in FAULTS {
        let story = format!("after {operation:?} {fault:?}");
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        store.granted("order-1", reserve(ANN));
        assert_eq!(store.condition(), Condition::Serving);

        faults.fail_next(operation, fault);
        assert_eq!(store.ask("order-2", reserve(ANN)), Err(EngineError::OutcomeUnknown), "{story}");
        assert_eq!(store.condition(), Condition::Poisoned, "{story}");

        // However often it is asked, and whatever.
        for _ in 0..3 {
            for command in [reserve(BOB), complete(ANN), release(ANN)] {
                assert_eq!(store.ask("order-1", command), Err(EngineError::Unavailable), "{story}");
            }
            assert_eq!(store.look("order-1"), Err(EngineError::Unavailable), "{story}");
            assert_eq!(store.look("order-2"), Err(EngineError::Unavailable), "{story}");
            assert_eq!(store.engine.purge(10), Err(EngineError::Unavailable), "{story}");
            assert_eq!(store.condition(), Condition::Poisoned, "{story}");
        }
    }
    Ok(())
}

pub fn promise_6_a_failed_sync_is_not_tried_again(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for touched in [Operation::Sync, Operation::Write] {
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        faults.fail_next(Operation::Sync, Fault::NotDone);
        assert_eq!(store.ask("order-1", reserve(ANN)), Err(EngineError::OutcomeUnknown));

        // Given a plan that waits for the next sync, or the next write.
        faults.fail_next(touched, Fault::NotDone);

        // Then it waits in vain, whatever is asked, and also where the engine is closed.
        assert!(store.ask("order-1", reserve(ANN)).is_err());
        assert!(store.look("order-1").is_err());
        assert!(store.engine.purge(10).is_err());
        store.engine.close();
        drop(store);
        assert_eq!(faults.meet(touched), Some(Fault::NotDone), "the disk was touched again");
    }
    Ok(())
}

pub fn promise_6_a_purge_that_fails_poisons_too(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for fault in [Fault::NotDone, Fault::DoneButReported] {
        // Given a record that is over.
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        store.granted("over", reserve_with(ANN, |reserve| reserve.retention = Span::from_secs(1)));
        lab.clock.advance(Span::from_secs(60));
        assert_eq!(store.lookup("over"), None);

        // When the purge fails.
        faults.fail_next(Operation::Write, fault);
        let failed = store.engine.purge(10).unwrap_err();
        assert_eq!(failed.certainty(), Certainty::Indeterminate);
        assert_eq!(store.condition(), Condition::Poisoned);
        assert_eq!(store.look("order-1"), Err(EngineError::Unavailable));

        // Then the next run finishes it, if there is anything left to do.
        let store = lab.restart(store)?;
        assert!(store.purge_all() <= 1);
        assert_eq!(store.purge_all(), 0);
        assert_eq!(store.lookup("over"), None);
    }
    Ok(())
}

pub fn promise_6_whoever_waits_when_a_commit_fails_is_answered(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for (operation, fault) in FAULTS {
        // Given callers on many threads, one of which makes a commit fail at some time.
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        let answered = AtomicUsize::new(0);
        let granted: Vec<_> = on_threads(8, |caller, runtime| {
            let mut granted = Vec::new();
            for round in 0..1_000 {
                let key = format!("{caller}-{round}");
                let call = store.engine.apply(key_of(&key), reserve(owner(caller)), None);
                match runtime.block_on(call) {
                    Ok(decided) => granted.push((key, decided)),
                    Err(error) => {
                        assert!(matches!(
                            error,
                            EngineError::OutcomeUnknown | EngineError::Unavailable
                        ));
                        return granted;
                    }
                }
                if answered.fetch_add(1, Ordering::SeqCst) == 100 {
                    faults.fail_next(operation, fault);
                }
            }
            panic!("no commit has failed");
        })
        .into_iter()
        .flatten()
        .collect();

        // Then every caller got there, which is to say here, and what any of them was granted
        // is on record.
        let store = lab.restart(store)?;
        for (key, decided) in granted {
            let Decision::Granted(granted) = decided.answer else { panic!("{decided:?}") };
            assert_eq!(store.lookup(&key).unwrap().fencing_token, granted.fencing_token);
        }
    }
    Ok(())
}

pub fn promise_6_the_change_is_signalled(mut lab: Lab) -> Verdict {
    let (store, faults) = lab.open_fragile()?;
    let mut condition = store.engine.condition();
    assert_eq!(*condition.borrow_and_update(), Condition::Serving);

    faults.fail_next(Operation::Sync, Fault::NotDone);
    assert!(store.ask("order-1", reserve(ANN)).is_err());

    // Whoever watches knows no later than whoever was refused.
    assert!(condition.has_changed().unwrap());
    assert_eq!(*condition.borrow_and_update(), Condition::Poisoned);
    Ok(())
}

pub fn promise_6_opened_anew_it_serves(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for (operation, fault) in FAULTS {
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        let before = store.granted("order-1", reserve(ANN));
        faults.fail_next(operation, fault);
        assert!(store.ask("order-1", complete(ANN)).is_err());

        let store = lab.restart(store)?;
        assert_eq!(store.condition(), Condition::Serving);
        let Decision::Completed(completion) = store.decide("order-1", complete(ANN)) else {
            panic!("after {operation:?} {fault:?}");
        };
        assert_eq!(completion.fencing_token, before.fencing_token);
        assert!(store.granted("order-2", reserve(BOB)).fencing_token > before.fencing_token);
    }
    Ok(())
}
