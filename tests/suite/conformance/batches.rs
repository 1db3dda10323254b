//! Several commands in one call: all promises, once more for them.

use onced::domain::{Decision, Refusal, Response};
use onced::storage::EngineError;
use onced::storage::fault::{Fault, Operation};

use super::directory::spoil_record;
use crate::engines::{
    ANN, BOB, CLEO, Call, FAULTS, Lab, Need, Verdict, batch, complete, complete_with, granted,
    owner, release, reserve,
};

pub fn promise_1_commands_in_one_call_take_effect_in_their_order(lab: Lab) -> Verdict {
    let store = lab.open();
    let failed = complete_with(BOB, |complete| complete.response_digest = [8; 32]);
    let answers = store.all(vec![
        ("order-1", reserve(ANN)),
        ("order-1", reserve(BOB)),
        ("order-2", reserve(CLEO)),
        ("order-1", release(ANN)),
        ("order-1", reserve(BOB)),
        ("order-1", complete(BOB)),
        ("order-1", complete(BOB)),
        ("order-1", failed),
        ("order-1", reserve(CLEO)),
    ]);
    let [ann, busy, cleo, released, bob, completed, again, conflict, replayed] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    let attempt = |decision: &Result<Decision, _>| granted(decision.clone().unwrap()).attempt;
    assert_eq!((attempt(ann), attempt(cleo), attempt(bob)), (1, 1, 2));
    assert!(matches!(busy, Ok(Decision::InProgress(it)) if it.attempt == 1));
    assert_eq!(*released, Ok(Decision::Released));
    assert!(matches!(completed, Ok(Decision::Completed(_))));
    assert_eq!(again, completed);
    assert_eq!(*conflict, Ok(Decision::Refused(Refusal::ResultConflict)));
    assert!(matches!(replayed, Ok(Decision::Replayed(it)) if it.attempt == 2));

    // What they left is what they would have left one after another.
    assert_eq!(store.lookup("order-1").unwrap().attempt, 2);
    assert_eq!(store.lookup("order-2").unwrap().owner_token, CLEO);
    Ok(())
}

pub fn promise_1_a_refusal_of_one_leaves_the_others_alone(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("taken", reserve(BOB));
    let answers = store.all(vec![
        ("nobody's", complete(ANN)),
        ("order-1", reserve(ANN)),
        ("taken", release(ANN)),
        ("order-2", reserve(ANN)),
    ]);
    assert_eq!(answers[0], Ok(Decision::Refused(Refusal::NotFound)));
    assert_eq!(answers[2], Ok(Decision::Refused(Refusal::LeaseLost)));
    for answer in [&answers[1], &answers[3]] {
        assert_eq!(granted(answer.clone().unwrap()).attempt, 1);
    }
    Ok(())
}

pub fn promise_1_whoever_waits_comes_before_the_rest_of_a_call(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let bob = store.waits("order-1", reserve(BOB));
    let answers = store.all(vec![("order-1", release(ANN)), ("order-1", reserve(CLEO))]);
    assert!(matches!(answers[1], Ok(Decision::InProgress(_))), "{answers:?}");
    assert_eq!(granted(store.runtime.block_on(bob).unwrap().answer).attempt, 2);
    Ok(())
}

pub fn promise_2_commands_in_one_call_are_one_commit(lab: Lab) -> Verdict {
    let keys: Vec<_> = (0..1_000).map(|number| format!("order-{number}")).collect();
    let all = || keys.iter().map(|key| (key.as_str(), reserve(ANN))).collect();
    for (operation, fault) in FAULTS {
        let mut lab = Lab::new(lab.kind());
        let (store, plan) = lab.open_fragile()?;
        // Others that wait in the same tick do not divide it.
        let others: Vec<_> = (0..1_000)
            .map(|number| {
                let mut call = store.call(&format!("other-{number}"), reserve(owner(number)));
                assert!(call.nudge().is_pending());
                call
            })
            .collect();
        let mut call = Call::of(store.engine.apply_all(batch(all()), None));
        assert!(call.nudge().is_pending());
        plan.fail_next(operation, fault);
        for other in others {
            assert!(store.runtime.block_on(other).is_err());
        }
        assert_eq!(store.runtime.block_on(call), Err(EngineError::OutcomeUnknown));

        lab.options.faults = None;
        let store = lab.restart(store)?;
        let there = keys.iter().filter(|key| store.lookup(key).is_some()).count();
        assert!(there == 0 || there == keys.len(), "{operation:?} {fault:?}: {there} of them");
    }
    Ok(())
}

pub fn promise_2_commands_in_one_call_are_there_after_an_abrupt_end(mut lab: Lab) -> Verdict {
    let store = lab.open();
    let keys: Vec<_> = (0..1_000).map(|number| format!("order-{number}")).collect();
    let answers = store.all(keys.iter().map(|key| (key.as_str(), reserve(ANN))).collect());
    let tokens: Vec<_> =
        answers.into_iter().map(|answer| granted(answer.unwrap()).fencing_token).collect();
    let store = lab.kill(store)?;
    for (key, token) in keys.iter().zip(tokens) {
        assert_eq!(store.lookup(key).unwrap().fencing_token, token);
    }
    Ok(())
}

pub fn promise_5_a_caller_that_leaves_before_its_turn_has_asked_none_of_them(lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    let store = lab.open();
    let commands = batch(vec![("order-1", reserve(ANN)), ("order-2", reserve(ANN))]);
    let mut call = Call::of(store.engine.apply_all(commands, None));
    assert!(call.nudge().is_pending());
    drop(call);
    assert_eq!((store.lookup("order-1"), store.lookup("order-2")), (None, None));
    Ok(())
}

pub fn promise_5_a_record_that_cannot_be_read_fails_only_its_own_item(mut lab: Lab) -> Verdict {
    let (store, plan) = lab.open_fragile()?;
    plan.fail_next(Operation::Read, Fault::NotDone);
    let answers = store.all(vec![("order-1", reserve(ANN)), ("order-2", reserve(ANN))]);
    assert_eq!(answers[0], Err(EngineError::Unavailable));
    assert_eq!(granted(answers[1].clone().unwrap()).attempt, 1);
    Ok(())
}

pub fn promise_5_records_of_any_size_and_damaged_ones_are_told_apart(lab: Lab) -> Verdict {
    let directory = lab.directory(Need::Disk)?;
    let store = lab.open();
    for (key, bytes) in [("small", 10), ("large", 100_000), ("damaged", 10)] {
        store.granted(key, reserve(ANN));
        let completed = complete_with(ANN, |complete| {
            complete.response = Response { payload: vec![b'x'; bytes], ..Response::default() };
        });
        store.decide(key, completed);
    }
    drop(store);
    spoil_record(&directory, "damaged");
    let store = lab.open();

    let keys = ["small", "new", "large", "damaged", "small", "new"];
    let answers = store.all(keys.map(|key| (key, reserve(BOB))).into());
    for (at, bytes) in [(0, 10), (2, 100_000), (4, 10)] {
        let replayed = &answers[at];
        assert!(matches!(replayed, Ok(Decision::Replayed(it)) if it.response.bytes() == bytes));
    }
    assert_eq!(granted(answers[1].clone().unwrap()).attempt, 1);
    assert_eq!(answers[3], Err(EngineError::Corrupted));
    // The same caller once more.
    assert_eq!(answers[5], answers[1]);
    Ok(())
}

pub fn promise_7_each_command_of_a_call_is_counted(mut lab: Lab) -> Verdict {
    lab.with_a_queue()?;
    lab.options.max_in_flight = 5;
    let store = lab.open();
    let six: Vec<_> = ["1", "2", "3", "4", "5", "6"].map(|key| (key, reserve(ANN))).into();
    let refused = store.runtime.block_on(store.engine.apply_all(batch(six.clone()), None));
    assert_eq!(refused.unwrap_err(), EngineError::Overloaded);
    assert_eq!(store.lookup("1"), None);
    assert!(store.all(six[1..].to_vec()).iter().all(Result::is_ok));
    Ok(())
}

pub fn promise_7_the_answers_of_one_call_stay_small(lab: Lab) -> Verdict {
    let store = lab.open();
    let large = |token, bytes| {
        complete_with(token, |complete| {
            complete.response = Response { payload: vec![b'x'; bytes], ..Response::default() };
        })
    };
    let keys = ["one", "two", "three", "four", "five"];
    for key in keys {
        store.granted(key, reserve(ANN));
        // The answer to a Complete among others does not repeat what was sent.
        let answers = store.all(vec![(key, large(ANN, 1 << 20))]);
        let [Ok(Decision::Completed(completion))] = &answers[..] else { panic!("not completed") };
        assert_eq!(completion.response, Response::default());
        assert_eq!(store.all(vec![(key, large(ANN, 1 << 20))]), answers);
    }

    // Three MiB of replays, and no more; what is granted is told all the same.
    let ask = |keys: &[&'static str]| {
        let mut commands: Vec<_> = keys.iter().map(|key| (*key, reserve(BOB))).collect();
        commands.push(("new", reserve(ANN)));
        store.all(commands)
    };
    let answers = ask(&keys);
    for answer in &answers[..3] {
        assert!(matches!(answer, Ok(Decision::Replayed(it)) if it.response.bytes() == 1 << 20));
    }
    assert!(answers[3] == Err(EngineError::AnswerTooLarge) && answers[4] == answers[3]);
    assert!(matches!(&answers[5], Ok(Decision::Granted(_))));

    // The rest is to be had by those who ask for it, and so is one that is larger than all.
    assert!(matches!(ask(&keys[3..])[1], Ok(Decision::Replayed(_))));
    store.granted("huge", reserve(ANN));
    store.decide("huge", large(ANN, 4 << 20));
    let answers = ask(&["huge", "one"]);
    assert!(matches!(&answers[0], Ok(Decision::Replayed(it)) if it.response.bytes() == 4 << 20));
    assert_eq!(answers[1], Err(EngineError::AnswerTooLarge));
    Ok(())
}

pub fn promise_7_a_closed_store_refuses_a_call_as_a_whole(lab: Lab) -> Verdict {
    let store = lab.open();
    store.engine.close();
    let call = store.engine.apply_all(batch(vec![("order-1", reserve(ANN))]), None);
    assert_eq!(store.runtime.block_on(call), Err(EngineError::Closing));
    Ok(())
}
