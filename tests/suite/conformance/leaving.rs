//! Promise 5 for callers that leave: a failure of which nobody hears. What they asked was
//! never asked, or it stands, and everybody else is answered as if nothing had happened.
//!
//! The first of those that wait together leads: it decides for all of them. So it matters
//! most what becomes of the others when the leader leaves.

use std::sync::Arc;

use onced::domain::Decision;

use crate::engines::{ANN, BOB, CLEO, Lab, Runtime, Verdict, key_of, owner, reserve};

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

    // Whether it leaves before the turn, while the turn waits for its sync, or after the sync,
    // with all answers in its hands:
    for time in ["before", "during", "after"] {
        let following = format!("{time}-follower");
        let mut leader = store.call(time, reserve(ANN));
        let mut follower = store.call(&following, reserve(BOB));
        assert!(leader.nudge().is_pending());
        assert!(follower.nudge().is_pending());
        if time != "before" {
            let _ = leader.nudge();
        }
        if time == "after" {
            // What is synced later has been answered.
            store.granted("later", reserve(ANN));
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
    let doomed = Runtime::single_threaded();
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
