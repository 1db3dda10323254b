//! Promise 7: everything is bounded, and past a bound the engine refuses early and says so.
//! Closing is the last of the bounds.

use std::time::{Duration, Instant};

use onced::domain::Decision;
use onced::storage::{Certainty, Condition, EngineError};

use crate::engines::{
    ANN, BOB, CLEO, LEASE, Lab, Need, Verdict, complete, complete_with, key_of, on_threads, owner,
    release, renew, reserve,
};

pub fn promise_7_past_a_bound_it_refuses(mut lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    lab.options.max_in_flight = 2;
    let store = lab.open();
    let mut first = store.call("first", reserve(ANN));
    let mut second = store.call("second", reserve(ANN));
    assert!(first.nudge().is_pending());
    assert!(second.nudge().is_pending());

    // A third call is refused, at once, and surely did nothing.
    let refused = store.ask("third", reserve(ANN)).unwrap_err();
    assert_eq!(refused, EngineError::Overloaded);
    assert_eq!(refused.certainty(), Certainty::Determinate);
    assert_eq!(store.look("third"), Err(EngineError::Overloaded));

    // Those that were let in are answered, and then there is room again.
    assert!(store.runtime.block_on(first).is_ok());
    assert!(store.runtime.block_on(second).is_ok());
    assert_eq!(store.lookup("third"), None);
    store.granted("third", reserve(ANN));
    Ok(())
}

pub fn promise_7_past_a_bound_of_bytes_it_refuses(mut lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    lab.options.max_in_flight_bytes = 64 << 10;
    let store = lab.open();
    for key in ["first", "second", "third"] {
        store.granted(key, reserve(ANN));
    }
    let large = || complete_with(ANN, |complete| complete.response.payload = vec![b'x'; 40 << 10]);
    let mut first = store.call("first", large());
    assert!(first.nudge().is_pending());

    // A second large response does not fit beside the first; a small one does.
    assert_eq!(store.ask("second", large()), Err(EngineError::Overloaded));
    let mut third = store.call("third", release(ANN));
    assert!(third.nudge().is_pending());

    assert!(store.runtime.block_on(first).is_ok());
    assert!(store.runtime.block_on(third).is_ok());
    assert!(store.ask("second", large()).is_ok());
    Ok(())
}

pub fn promise_7_a_deadline_that_has_passed_changes_nothing(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let before = store.lookup("order-1");

    let passed = Some(Instant::now());
    for command in [complete(ANN), renew(ANN, LEASE), release(ANN), reserve(ANN), reserve(BOB)] {
        let refused = store.ask_until("order-1", command, passed).unwrap_err();
        assert_eq!(refused, EngineError::DeadlineTooShort);
        assert_eq!(refused.certainty(), Certainty::Determinate);
    }
    assert_eq!(
        store.ask_until("order-2", reserve(ANN), passed),
        Err(EngineError::DeadlineTooShort)
    );
    let late_look = store.runtime.block_on(store.engine.lookup(key_of("order-1"), passed));
    assert_eq!(late_look, Err(EngineError::DeadlineTooShort));

    assert_eq!(store.lookup("order-1"), before);
    assert_eq!(store.lookup("order-2"), None);

    // With time enough, it is done.
    let tomorrow = Some(Instant::now() + Duration::from_secs(24 * 60 * 60));
    assert!(store.ask_until("order-1", complete(ANN), tomorrow).is_ok());
    Ok(())
}

pub fn promise_7_a_full_store_takes_what_ends_a_reservation(mut lab: Lab) -> Verdict {
    let store = lab.open_full(&["completed", "released", "renewed"]);

    // Whatever would make the store larger is refused, and surely did nothing.
    let refused = store.ask("order-1", reserve(BOB)).unwrap_err();
    assert_eq!(refused, EngineError::Full);
    assert_eq!(refused.certainty(), Certainty::Determinate);
    assert_eq!(store.lookup("order-1"), None);

    // Whatever ends a reservation is taken, and so is whatever keeps one.
    assert!(matches!(store.decide("completed", reserve(BOB)), Decision::InProgress(_)));
    assert_eq!(store.granted("completed", reserve(ANN)).attempt, 1);
    assert!(matches!(store.decide("renewed", renew(ANN, LEASE)), Decision::Renewed { .. }));
    assert_eq!(store.decide("released", release(ANN)), Decision::Released);
    assert!(matches!(store.decide("completed", complete(ANN)), Decision::Completed(_)));
    assert!(matches!(store.decide("completed", reserve(BOB)), Decision::Replayed(_)));
    Ok(())
}

pub fn promise_7_a_full_store_shows_it(mut lab: Lab) -> Verdict {
    lab.directory(Need::Disk)?;
    let store = lab.open_full(&["order-1"]);
    let mut condition = store.engine.condition();
    condition.mark_unchanged();
    assert_eq!(store.ask("order-2", reserve(ANN)), Err(EngineError::Full));
    assert!(condition.has_changed().unwrap());
    assert_eq!(store.condition(), Condition::Full);

    // The sweeper goes on: it is what makes room.
    assert_eq!(store.purge_all(), 0);

    // With room again, it serves.
    lab.options.min_free_disk_bytes = 0;
    let store = lab.restart(store)?;
    store.granted("order-2", reserve(ANN));
    assert_eq!(store.condition(), Condition::Serving);
    Ok(())
}

pub fn promise_7_closing_answers_everything_accepted(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();
    let mut leader = store.call("first", reserve(ANN));
    let mut follower = store.call("second", reserve(ANN));
    let mut duplicate = store.call("first", reserve(BOB));
    assert!(leader.nudge().is_pending());
    assert!(follower.nudge().is_pending());
    assert!(duplicate.nudge().is_pending());

    // When the engine is closed by somebody else, before their turn.
    std::thread::scope(|scope| {
        scope.spawn(|| store.engine.close());
    });

    // Then each has its answer,
    for call in [leader, follower] {
        let told = store.runtime.block_on(call).unwrap().answer;
        assert!(matches!(told, Decision::Granted(_)), "{told:?}");
    }
    let told = store.runtime.block_on(duplicate).unwrap().answer;
    assert!(matches!(told, Decision::InProgress(_)), "{told:?}");

    // and it is on record.
    let store = lab.restart(store)?;
    assert!(store.lookup("first").is_some() && store.lookup("second").is_some());
    Ok(())
}

pub fn promise_7_a_closed_store_refuses(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    store.engine.close();
    let refused = store.ask("order-1", complete(ANN)).unwrap_err();
    assert_eq!(refused, EngineError::Closing);
    assert_eq!(refused.certainty(), Certainty::Determinate);
    assert_eq!(store.look("order-1"), Err(EngineError::Closing));
    assert_eq!(store.engine.purge(10), Err(EngineError::Closing));

    // Closing twice is closing once.
    store.engine.close();
    assert_eq!(store.ask("order-1", reserve(CLEO)), Err(EngineError::Closing));
    Ok(())
}

pub fn promise_7_closing_amid_a_crowd_leaves_nobody_in_doubt(lab: Lab) -> Verdict {
    for _ in 0..10 {
        // Given callers on many threads, and one that closes the engine when all are at it.
        let lab = Lab::new(lab.kind());
        let store = lab.open();
        let together = std::sync::Barrier::new(4);
        let ended = on_threads(4, |caller, runtime| {
            together.wait();
            let mut rounds = 0;
            loop {
                let key = format!("{caller}-{rounds}");
                let call = store.engine.apply(key_of(&key), reserve(owner(rounds)), None);
                match runtime.block_on(call) {
                    Ok(_) => rounds += 1,
                    Err(error) => return error,
                }
                if caller == 0 && rounds == 5 {
                    store.engine.close();
                }
            }
        });

        // Then everybody was answered until the end, and told that it is the end.
        assert_eq!(ended, [EngineError::Closing; 4]);
    }
    Ok(())
}
