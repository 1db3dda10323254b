//! Callers that wait for somebody else's reservation: all promises, once more for them.
//!
//! A [`Store::waits`] call is parked when the story goes on. Whoever is answered together with
//! the cause has its answer when the cause has its own, so that whoever is still pending then
//! stays parked.

use std::time::{Duration, Instant};

use onced::domain::{Command, Decision, Outcome, Phase, Span, phase_of};
use onced::storage::fault::{Fault, Operation};
use onced::storage::{EngineError, WaitingBounds};

use crate::engines::{
    ANN, BOB, CLEO, Call, FAULTS, LEASE, Lab, Store, Verdict, complete, complete_with, granted,
    hold_for, key_of, leave, owner, release, renew, reserve, reserve_with,
};

const MILLISECOND: Span = Span::from_millis(1);

/// A store on which Ann holds the key.
fn held(lab: &Lab) -> Store {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    store
}

fn is_parked(call: &mut Call<'_, Decision>) -> bool {
    call.nudge().is_pending()
}

pub fn promise_1_a_completion_answers_everybody_who_waits(lab: Lab) -> Verdict {
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    let cleo = store.waits("order-1", reserve(CLEO));
    let looking = store.looks("order-1");

    let completed = store.ask("order-1", complete(ANN)).unwrap();
    let Decision::Completed(completion) = completed.answer else { panic!("{completed:?}") };

    // Everybody gets it, byte for byte, as of the same moment.
    for waiter in [bob, cleo] {
        let told = store.runtime.block_on(waiter).unwrap();
        assert_eq!(told.answer, Decision::Replayed(completion.clone()));
        assert_eq!(told.decided_at, completed.decided_at);
    }
    let shown = store.runtime.block_on(looking).unwrap();
    assert_eq!(phase_of(shown.answer.as_ref(), shown.decided_at), Phase::Completed);
    Ok(())
}

pub fn promise_1_a_release_grants_the_key_to_whoever_waits_longest(lab: Lab) -> Verdict {
    let store = held(&lab);
    store.decide("order-1", leave(ANN, "half"));
    let bob = store.waits("order-1", reserve(BOB));
    let mut cleo = store.waits("order-1", reserve(CLEO));
    let looking = store.looks("order-1");

    assert_eq!(store.decide("order-1", release(ANN)), Decision::Released);
    let next = granted(store.runtime.block_on(bob).unwrap().answer);
    assert_eq!((next.attempt, next.takeover, next.owner_token), (2, false, BOB));
    assert_eq!(next.checkpoint, b"half");
    let shown = store.runtime.block_on(looking).unwrap().answer;
    assert_eq!(phase_of(shown.as_ref(), store.now()), Phase::Released);

    // The next in line has the next turn.
    assert!(is_parked(&mut cleo));
    store.decide("order-1", release(BOB));
    let last = granted(store.runtime.block_on(cleo).unwrap().answer);
    assert_eq!((last.attempt, last.owner_token), (3, CLEO));
    assert!(last.fencing_token > next.fencing_token);
    Ok(())
}

pub fn promise_1_waiters_take_turns_in_the_order_of_their_arrival(lab: Lab) -> Verdict {
    let store = held(&lab);
    let waiting: Vec<_> =
        (0..50).map(|number| store.waits("order-1", reserve(owner(number)))).collect();
    store.decide("order-1", release(ANN));
    for (number, waiter) in waiting.into_iter().enumerate() {
        let turn = granted(store.runtime.block_on(waiter).unwrap().answer);
        assert_eq!((turn.owner_token, turn.attempt), (owner(number), number as u32 + 2));
        store.decide("order-1", release(owner(number)));
    }
    Ok(())
}

pub fn promise_1_nobody_comes_between_a_lapse_and_whoever_waits(lab: Lab) -> Verdict {
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    lab.clock.advance(LEASE);

    // A newcomer that asks when the lease is over comes too late.
    let newcomer = store.decide("order-1", reserve(CLEO));
    assert!(matches!(newcomer, Decision::InProgress(_)), "{newcomer:?}");
    let next = granted(store.runtime.block_on(bob).unwrap().answer);
    assert_eq!((next.attempt, next.takeover), (2, true));
    Ok(())
}

pub fn promise_1_of_those_who_wait_exactly_one_is_granted_a_lapsed_key(lab: Lab) -> Verdict {
    let store = held(&lab);
    let mut waiting: Vec<_> =
        (0..20).map(|number| store.waits("order-1", reserve(owner(number)))).collect();
    let rest = waiting.split_off(1);
    lab.clock.advance(LEASE);

    // With nobody else about: the engine sees for itself that the lease is over.
    let first = store.runtime.block_on(waiting.remove(0)).unwrap();
    assert_eq!(granted(first.answer).owner_token, owner(0));
    for mut waiter in rest {
        assert!(is_parked(&mut waiter));
    }
    Ok(())
}

pub fn promise_1_a_key_in_doubt_is_told_to_everybody_who_waits(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", hold_for(ANN, LEASE));
    let bob = store.waits("order-1", reserve(BOB));
    let cleo = store.waits("order-1", reserve(CLEO));
    let looking = store.looks("order-1");
    lab.clock.advance(LEASE);

    for waiter in [bob, cleo] {
        let told = store.runtime.block_on(waiter).unwrap().answer;
        assert!(matches!(told, Decision::InDoubt(_)), "{told:?}");
    }
    let shown = store.runtime.block_on(looking).unwrap();
    assert_eq!(phase_of(shown.answer.as_ref(), shown.decided_at), Phase::InDoubt);
    Ok(())
}

pub fn promise_1_a_failure_is_a_licence_for_the_first_who_wants_it(lab: Lab) -> Verdict {
    let store = held(&lab);
    let retrying = |token| reserve_with(token, |reserve| reserve.retry_failed = true);
    let replayed = store.waits("order-1", reserve(owner(0)));
    let bob = store.waits("order-1", retrying(BOB));
    let mut cleo = store.waits("order-1", retrying(CLEO));
    let fail = complete_with(ANN, |complete| complete.result = Outcome::Failed);
    store.decide("order-1", fail);

    let told = store.runtime.block_on(replayed).unwrap().answer;
    assert!(matches!(told, Decision::Replayed(_)), "{told:?}");
    assert_eq!(granted(store.runtime.block_on(bob).unwrap().answer).attempt, 2);
    assert!(is_parked(&mut cleo), "a second attempt at a time");
    Ok(())
}

pub fn promise_1_commands_that_wait_together_serve_each_other(lab: Lab) -> Verdict {
    // Given callers who come in one tick: the second waits for the first.
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    let answers = store.together(vec![
        ("order-1".to_owned(), release(ANN)),
        ("order-1".to_owned(), reserve(CLEO)),
        ("order-1".to_owned(), complete(BOB)),
        ("order-1".to_owned(), reserve(ANN)),
    ]);
    // Bob was granted it between the first and the second of them.
    assert_eq!(granted(store.runtime.block_on(bob).unwrap().answer).attempt, 2);
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().answer).collect();
    assert!(
        matches!(
            answers[..],
            [
                Decision::Released,
                Decision::InProgress(_),
                Decision::Completed(_),
                Decision::Replayed(_)
            ]
        ),
        "{answers:?}"
    );
    Ok(())
}

pub fn promise_1_whoever_need_not_wait_is_answered_at_once(lab: Lab) -> Verdict {
    let store = lab.open();
    let ask = |key: &str, command: Command| {
        let patience = Box::pin(std::future::pending());
        let call = store.engine.apply_waiting(key_of(key), command, None, patience);
        store.runtime.block_on(call).unwrap().answer
    };
    let look = |key: &str| {
        let patience = Box::pin(std::future::pending());
        let call = store.engine.lookup_waiting(key_of(key), None, patience);
        store.runtime.block_on(call).unwrap().answer
    };
    assert_eq!(look("order-1"), None);
    assert_eq!(granted(ask("order-1", reserve(ANN))).attempt, 1);
    assert_eq!(granted(ask("order-1", reserve(ANN))).attempt, 1, "it is its own");
    let other = reserve_with(BOB, |reserve| reserve.fingerprint = Default::default());
    assert!(matches!(ask("order-1", other), Decision::Refused(_)));
    assert!(matches!(ask("order-1", renew(ANN, LEASE)), Decision::Renewed { .. }));
    assert!(matches!(ask("order-1", renew(BOB, LEASE)), Decision::Refused(_)));
    assert!(matches!(ask("order-1", complete(ANN)), Decision::Completed(_)));
    assert!(matches!(ask("order-1", reserve(BOB)), Decision::Replayed(_)));
    assert!(look("order-1").is_some());
    Ok(())
}

pub fn promise_2_an_answer_to_whoever_waits_is_held_until_its_cause_is_durable(
    lab: Lab,
) -> Verdict {
    for (operation, fault) in FAULTS {
        let mut lab = Lab::new(lab.kind());
        let (store, plan) = lab.open_fragile()?;
        store.granted("order-1", reserve(ANN));
        let bob = store.waits("order-1", reserve(BOB));
        let cleo = store.waits("order-1", reserve(CLEO));
        plan.fail_next(operation, fault);
        assert_eq!(store.ask("order-1", release(ANN)), Err(EngineError::OutcomeUnknown));

        // Bob may have been granted it, and Cleo was certainly not.
        assert_eq!(store.runtime.block_on(bob).unwrap_err(), EngineError::OutcomeUnknown);
        assert_eq!(store.runtime.block_on(cleo).unwrap_err(), EngineError::Unavailable);
    }
    Ok(())
}

pub fn promise_4_a_lease_that_is_waited_for_lapses_on_its_millisecond(lab: Lab) -> Verdict {
    let store = held(&lab);
    let mut bob = store.waits("order-1", reserve(BOB));
    lab.clock.advance(Span::from_millis(LEASE.as_millis() - 1));
    store.look("another key").unwrap();
    assert!(is_parked(&mut bob));
    lab.clock.advance(MILLISECOND);
    store.look("another key").unwrap();
    assert!(bob.nudge().is_ready());
    Ok(())
}

pub fn promise_4_a_renewed_lease_is_waited_for_to_its_new_end(lab: Lab) -> Verdict {
    let store = held(&lab);
    let mut bob = store.waits("order-1", reserve(BOB));
    lab.clock.advance(Span::from_secs(20));
    store.decide("order-1", renew(ANN, LEASE));
    lab.clock.advance(Span::from_secs(29));
    store.look("another key").unwrap();
    assert!(is_parked(&mut bob), "the lease that Bob came for is over, the renewed one is not");
    lab.clock.advance(Span::from_secs(1));
    assert_eq!(granted(store.runtime.block_on(bob).unwrap().answer).attempt, 2);
    Ok(())
}

pub fn promise_4_a_lease_in_its_grace_is_waited_for(mut lab: Lab) -> Verdict {
    lab.options.restart_grace = Span::from_secs(10);
    let store = held(&lab);
    let store = lab.restart_after(store, Span::from_secs(60))?;
    let mut bob = store.waits("order-1", reserve(BOB));
    lab.clock.advance(Span::from_millis(9_999));
    store.look("another key").unwrap();
    assert!(is_parked(&mut bob));
    lab.clock.advance(MILLISECOND);
    assert!(granted(store.runtime.block_on(bob).unwrap().answer).takeover);
    Ok(())
}

pub fn promise_5_whoever_leaves_while_waiting_is_granted_nothing(lab: Lab) -> Verdict {
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    let cleo = store.waits("order-1", reserve(CLEO));
    drop(bob);
    store.decide("order-1", release(ANN));
    assert_eq!(granted(store.runtime.block_on(cleo).unwrap().answer).attempt, 2);

    // Bob was never granted it: nothing of his is on record.
    assert!(matches!(store.decide("order-1", renew(BOB, LEASE)), Decision::Refused(_)));
    Ok(())
}

pub fn promise_5_whoever_loses_patience_learns_how_it_stands(lab: Lab) -> Verdict {
    let store = held(&lab);
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let mut bob = store.waits_until("order-1", reserve(BOB), async {
        let _ = is_over.await;
    });
    let cleo = store.waits("order-1", reserve(CLEO));
    store.decide("order-1", renew(ANN, Span::from_secs(40)));
    lab.clock.advance(Span::from_secs(5));
    assert!(is_parked(&mut bob));

    // When his patience is over, he is told what is true then.
    drop(over);
    let told = store.runtime.block_on(bob).unwrap();
    let Decision::InProgress(busy) = told.answer else { panic!("{told:?}") };
    assert_eq!(busy.lease_until.since(told.decided_at), Span::from_secs(35));

    // And he has lost his place.
    store.decide("order-1", release(ANN));
    assert_eq!(granted(store.runtime.block_on(cleo).unwrap().answer).owner_token, CLEO);
    Ok(())
}

pub fn promise_5_whoever_has_no_time_left_is_granted_nothing(lab: Lab) -> Verdict {
    let store = held(&lab);
    let deadline = Instant::now() + Duration::from_millis(500);
    let patience = Box::pin(std::future::pending());
    let late =
        store.engine.apply_waiting(key_of("order-1"), reserve(BOB), Some(deadline), patience);
    let mut late = Store::parked(late);
    let cleo = store.waits("order-1", reserve(CLEO));
    assert!(is_parked(&mut late));
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    store.decide("order-1", release(ANN));
    let refused = store.runtime.block_on(late).unwrap_err();
    assert_eq!(refused, EngineError::DeadlineTooShort);
    assert_eq!(granted(store.runtime.block_on(cleo).unwrap().answer).attempt, 2);
    Ok(())
}

pub fn promise_6_whoever_is_parked_when_a_commit_fails_is_told(mut lab: Lab) -> Verdict {
    let (store, plan) = lab.open_fragile()?;
    store.granted("order-1", reserve(ANN));
    let bob = store.waits("order-1", reserve(BOB));
    let looking = store.looks("order-1");
    plan.fail_next(Operation::Sync, Fault::NotDone);
    assert_eq!(store.ask("another", reserve(ANN)), Err(EngineError::OutcomeUnknown));
    assert_eq!(store.runtime.block_on(bob).unwrap_err(), EngineError::Unavailable);
    assert_eq!(store.runtime.block_on(looking).unwrap_err(), EngineError::Unavailable);
    Ok(())
}

pub fn promise_7_no_more_wait_for_a_key_than_may(mut lab: Lab) -> Verdict {
    lab.options.waiting = WaitingBounds { max: 100, max_per_key: 2 };
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    let looking = store.looks("order-1");

    // A third is told at once that it is in progress.
    let mut third = store.wait("order-1", reserve(CLEO));
    let told = store.runtime.block_on(&mut third).unwrap().answer;
    assert!(matches!(told, Decision::InProgress(_)), "{told:?}");

    // There is room for another key, and for this one when somebody leaves.
    store.granted("order-2", reserve(ANN));
    let _elsewhere = store.waits("order-2", reserve(CLEO));
    drop(looking);
    let mut cleo = store.waits("order-1", reserve(CLEO));
    store.decide("order-1", release(ANN));
    assert_eq!(granted(store.runtime.block_on(bob).unwrap().answer).attempt, 2);
    assert!(is_parked(&mut cleo));
    Ok(())
}

pub fn promise_7_no_more_wait_in_all_than_may(mut lab: Lab) -> Verdict {
    lab.options.waiting = WaitingBounds { max: 3, max_per_key: 2 };
    let store = lab.open();
    for key in ["one", "two", "three"] {
        store.granted(key, reserve(ANN));
    }
    let one = store.waits("one", reserve(BOB));
    let _waiting = [store.waits("one", reserve(CLEO)), store.waits("two", reserve(BOB))];
    let told = store.runtime.block_on(store.wait("three", reserve(BOB))).unwrap().answer;
    assert!(matches!(told, Decision::InProgress(_)), "{told:?}");

    store.decide("one", release(ANN));
    assert!(store.runtime.block_on(one).is_ok());
    store.waits("three", reserve(BOB));
    Ok(())
}

pub fn promise_7_whoever_is_parked_takes_nobodys_place_in_flight(mut lab: Lab) -> Verdict {
    lab.options.max_in_flight = 2;
    let store = held(&lab);
    let waiting: Vec<_> =
        (0..10).map(|number| store.waits("order-1", reserve(owner(number)))).collect();
    store.granted("order-2", reserve(ANN));
    store.decide("order-1", complete(ANN));
    for waiter in waiting {
        let told = store.runtime.block_on(waiter).unwrap().answer;
        assert!(matches!(told, Decision::Replayed(_)), "{told:?}");
    }
    Ok(())
}

pub fn promise_7_a_full_store_grants_nothing_to_whoever_waits(mut lab: Lab) -> Verdict {
    let store = lab.open_full(&["order-1"]);
    let bob = store.waits("order-1", reserve(BOB));
    let mut cleo = store.waits("order-1", reserve(CLEO));
    store.decide("order-1", release(ANN));
    match store.runtime.block_on(bob) {
        // The next attempt at a key that is there makes no record more.
        Ok(decided) => {
            assert_eq!(granted(decided.answer).attempt, 2);
            assert!(is_parked(&mut cleo));
        }
        Err(error) => {
            assert_eq!(error, EngineError::Full);
            assert_eq!(store.runtime.block_on(cleo).unwrap_err(), EngineError::Full);
        }
    }
    Ok(())
}

pub fn promise_7_closing_tells_whoever_waits(lab: Lab) -> Verdict {
    let store = held(&lab);
    let bob = store.waits("order-1", reserve(BOB));
    let looking = store.looks("order-1");
    store.engine.close();
    assert_eq!(store.runtime.block_on(bob).unwrap_err(), EngineError::Closing);
    assert_eq!(store.runtime.block_on(looking).unwrap_err(), EngineError::Closing);
    let refused = store.runtime.block_on(store.wait("order-1", reserve(CLEO))).unwrap_err();
    assert_eq!(refused, EngineError::Closing);
    Ok(())
}
