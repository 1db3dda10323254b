//! Promise 1: commands on one key take effect one at a time, in an order that agrees with
//! real time.
//!
//! The callers here really race, on as many threads as they like; the claims hold in
//! whatever order they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use onced::domain::Refusal::{LeaseLost, NotFound};
use onced::domain::{Command, Decision, Granted, Moment};

use crate::engines::{
    ANN, Answer, BOB, LEASE, Lab, RaisedAtTheEnd, Runtime, Verdict, complete, granted, key_of,
    on_threads, owner, release, renew, reserve, reserve_with,
};

const CALLERS: usize = 64;
const KEYS: usize = 20;

/// A caller that tells who it is.
fn asked_by(caller: usize) -> Command {
    reserve_with(owner(caller), |reserve| reserve.holder = format!("caller {caller}"))
}

/// Of all callers that wanted one key, one has it, and all others were told about that one.
fn exactly_one_has_it(answers: &[(usize, Answer)]) {
    let winners: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| matches!(answer.as_ref().unwrap().answer, Decision::Granted(_)))
        .collect();
    let [(winner, granted_at)] = winners[..] else {
        panic!("{} callers were granted one key", winners.len());
    };
    for (caller, answer) in answers {
        let answer = answer.as_ref().unwrap();
        match &answer.answer {
            Decision::Granted(granted) => {
                assert_eq!((granted.attempt, granted.owner_token), (1, owner(*caller)));
            }
            Decision::InProgress(busy) => {
                assert_eq!((busy.attempt, busy.holder.as_str()), (1, &*format!("caller {winner}")));
                assert!(answer.decided_at >= granted_at.as_ref().unwrap().decided_at);
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn promise_1_commands_on_one_key_take_effect_one_at_a_time(lab: Lab) -> Verdict {
    // Given 64 callers on one runtime of several threads, and 20 keys.
    let store = lab.open();
    let runtime = Runtime::multi_threaded();

    // When every caller asks for every key.
    let calls: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let engine = Arc::clone(&store.engine);
            runtime.spawn(async move {
                let mut answers = Vec::new();
                for step in 0..KEYS {
                    // Not all in the same order.
                    let key = (step + caller) % KEYS;
                    let call = engine.apply(key_of(&format!("{key}")), asked_by(caller), None);
                    answers.push((key, call.await));
                }
                answers
            })
        })
        .collect();
    let answers: Vec<_> =
        calls.into_iter().map(|call| runtime.block_on(call).unwrap()).enumerate().collect();

    // Then each key has one owner.
    for key in 0..KEYS {
        exactly_one_has_it(&about(key, &answers));
    }
    Ok(())
}

pub fn promise_1_also_when_each_caller_has_a_thread_of_its_own(lab: Lab) -> Verdict {
    let store = lab.open();
    let answers: Vec<_> = on_threads(CALLERS / 4, |caller, runtime| {
        (0..KEYS)
            .map(|step| (step + caller) % KEYS)
            .map(|key| {
                let call = store.engine.apply(key_of(&format!("{key}")), asked_by(caller), None);
                (key, runtime.block_on(call))
            })
            .collect()
    })
    .into_iter()
    .enumerate()
    .collect();
    for key in 0..KEYS {
        exactly_one_has_it(&about(key, &answers));
    }
    Ok(())
}

/// Who was answered what about `key`.
fn about(key: usize, answers: &[(usize, Vec<(usize, Answer)>)]) -> Vec<(usize, Answer)> {
    answers
        .iter()
        .flat_map(|(caller, answers)| answers.iter().map(|(key, answer)| (*caller, *key, answer)))
        .filter(|(_, about, _)| *about == key)
        .map(|(caller, _, answer)| (caller, answer.clone()))
        .collect()
}

pub fn promise_1_attempts_are_counted_without_gap_or_repeat(lab: Lab) -> Verdict {
    // Given callers that each try to reserve one key, renew and release it, over and over.
    const ROUNDS: usize = 50;
    let store = lab.open();
    let mut attempts: Vec<Granted> = on_threads(8, |caller, runtime| {
        let ask = |command| runtime.block_on(store.engine.apply(key_of("one"), command, None));
        let mut mine = Vec::new();
        for round in 0..ROUNDS {
            let me = owner(caller * ROUNDS + round);
            if let Decision::Granted(granted) = ask(reserve(me)).unwrap().answer {
                // Whoever holds it holds it until it says otherwise.
                let renewed = ask(renew(me, LEASE)).unwrap().answer;
                assert!(matches!(renewed, Decision::Renewed { .. }), "{renewed:?}");
                assert_eq!(ask(release(me)).unwrap().answer, Decision::Released);
                mine.push(granted);
            }
        }
        mine
    })
    .into_iter()
    .flatten()
    .collect();

    // Then the attempts are 1, 2, 3 and so on, and their fencing tokens rise with them.
    attempts.sort_by_key(|granted| granted.attempt);
    let counted: Vec<_> = attempts.iter().map(|granted| granted.attempt).collect();
    assert_eq!(counted, (1..=attempts.len() as u32).collect::<Vec<_>>());
    assert!(attempts.is_sorted_by(|one, next| one.fencing_token < next.fencing_token));
    Ok(())
}

pub fn promise_1_a_call_sees_what_was_answered_before_it_began(lab: Lab) -> Verdict {
    // Given one writer that announces each attempt once it is answered, and readers.
    let store = lab.open();
    let (announced, over) = (AtomicU32::new(0), AtomicBool::new(false));
    on_threads(4, |caller, runtime| {
        if caller == 0 {
            let _over = RaisedAtTheEnd(&over);
            for attempt in 1..=200 {
                let me = owner(attempt as usize);
                let ask =
                    |command| runtime.block_on(store.engine.apply(key_of("one"), command, None));
                assert_eq!(granted(ask(reserve(me)).unwrap().answer).attempt, attempt);
                announced.store(attempt, Ordering::SeqCst);
                ask(release(me)).unwrap();
            }
            return;
        }
        // Then no reader ever sees less than what was announced before it asked, nor less than
        // it saw before.
        let (mut seen, mut decided_at) = (0, Moment::default());
        while !over.load(Ordering::SeqCst) {
            let at_least = announced.load(Ordering::SeqCst).max(seen);
            let found = runtime.block_on(store.engine.lookup(key_of("one"), None)).unwrap();
            seen = found.answer.map_or(0, |record| record.attempt);
            assert!(seen >= at_least, "saw attempt {seen} after {at_least}");
            assert!(found.decided_at >= decided_at);
            decided_at = found.decided_at;
        }
    });
    Ok(())
}

pub fn promise_1_commands_that_wait_together_take_effect_in_their_order(lab: Lab) -> Verdict {
    let store = lab.open();
    let one = |command| ("one".to_owned(), command);
    let answers = store.together(vec![
        one(release(ANN)),
        one(reserve(ANN)),
        one(reserve(BOB)),
        one(release(ANN)),
        one(reserve(BOB)),
        one(complete(ANN)),
        one(complete(BOB)),
        one(reserve(ANN)),
    ]);
    let told: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().answer).collect();
    match &told[..] {
        [
            Decision::Refused(nothing),
            Decision::Granted(first),
            Decision::InProgress(busy),
            Decision::Released,
            Decision::Granted(second),
            Decision::Refused(lost),
            Decision::Completed(completion),
            Decision::Replayed(replay),
        ] => {
            assert_eq!((*nothing, *lost), (NotFound, LeaseLost));
            assert_eq!((first.attempt, busy.attempt, second.attempt), (1, 1, 2));
            assert_eq!(completion, replay);
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

pub fn promise_1_a_crowd_larger_than_a_batch_is_answered_in_its_order(lab: Lab) -> Verdict {
    // Given 3,000 callers that wait at once: 1,500 pairs, each for a key of its own.
    let store = lab.open();
    let commands = (0..3_000).map(|caller| (format!("{}", caller / 2), asked_by(caller))).collect();

    // Then the first of each pair has it, and the second is told so.
    for (index, pair) in store.together(commands).chunks(2).enumerate() {
        let told = pair.iter().map(|answer| &answer.as_ref().unwrap().answer);
        match &told.collect::<Vec<_>>()[..] {
            [Decision::Granted(granted), Decision::InProgress(busy)] => {
                assert_eq!(granted.owner_token, owner(index * 2));
                assert_eq!(busy.holder, format!("caller {}", index * 2));
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}
