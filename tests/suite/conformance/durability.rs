//! Promise 2: no answer, refusals and lookups included, leaves before the state that it saw
//! is durable.
//!
//! Durable is what a sync has covered. The first tests make a sync fail and see that nothing
//! was told that rests on it; the last two open what is left behind. Neither shows what a
//! power cut would leave on the disk: that is RocksDB's word.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use onced::domain::{Decision, Moment, Outcome, Record, Response, Span};
use onced::storage::fault::{Fault, Operation};
use onced::storage::{Decided, EngineError};

use crate::engines::{
    ANN, BOB, Lab, RaisedAtTheEnd, Verdict, complete, complete_with, hold_for, key_of, leave,
    on_threads, owner, release, reserve, reserve_with,
};

pub fn promise_2_no_answer_leaves_before_its_state_is_durable(mut lab: Lab) -> Verdict {
    let (store, faults) = lab.open_fragile()?;

    // When a sync fails that several answers wait for: of one that wrote, and of others that
    // only saw what it wrote.
    faults.fail_next(Operation::Sync, Fault::NotDone);
    let (granted, refused, seen) = store.runtime.block_on(async {
        let one = |command| store.engine.apply(key_of("order-1"), command, None);
        tokio::join!(
            one(reserve(ANN)),
            one(reserve(BOB)),
            store.engine.lookup(key_of("order-1"), None),
        )
    });

    // Then none is told what it saw, and only the one that wrote is in question.
    assert_eq!(granted, Err(EngineError::OutcomeUnknown));
    assert_eq!(refused, Err(EngineError::Unavailable));
    assert_eq!(seen, Err(EngineError::Unavailable));
    Ok(())
}

pub fn promise_2_nor_does_one_that_rests_on_an_earlier_turn(mut lab: Lab) -> Verdict {
    // Given a purge, which nobody waits for: it is written, and not synced yet.
    let (store, faults) = lab.open_fragile()?;
    store.granted("order-1", reserve_with(ANN, |reserve| reserve.retention = Span::from_secs(1)));
    lab.clock.advance(Span::from_secs(60));
    assert_eq!(store.purge(10).records, 1);

    // When somebody only looks, in a turn that writes nothing, and the sync fails.
    faults.fail_next(Operation::Sync, Fault::NotDone);
    let seen = store.look("order-1");

    // Then the answer was held for that sync, and does not go out.
    assert_eq!(seen, Err(EngineError::Unavailable));
    Ok(())
}

pub fn promise_2_nor_does_one_that_races_with_the_sync(mut lab: Lab) -> Verdict {
    for _ in 0..5 {
        // Given readers on threads of their own, that look as fast as they can.
        let (store, faults) = lab.open_fragile()?;
        store.granted("ready", reserve(ANN));
        let over = AtomicBool::new(false);
        on_threads(3, |caller, runtime| {
            if caller == 0 {
                // When the sync of a grant fails.
                let _over = RaisedAtTheEnd(&over);
                faults.fail_next(Operation::Sync, Fault::NotDone);
                let call = store.engine.apply(key_of("order-1"), reserve(ANN), None);
                let granted = runtime.block_on(call);
                assert!(granted.is_err(), "{granted:?}");
                return;
            }
            // Then none of them ever sees that grant.
            while !over.load(Ordering::SeqCst) {
                let seen = runtime.block_on(store.engine.lookup(key_of("order-1"), None));
                if let Ok(Decided { answer, .. }) = seen {
                    assert_eq!(answer, None, "seen before it was durable");
                }
            }
        });
        drop(store);
        lab = Lab::new(lab.kind());
    }
    Ok(())
}

pub fn promise_2_nor_does_one_that_is_written_while_a_sync_runs(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for _ in 0..10 {
        // Given others that keep the disk syncing.
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        on_threads(3, |caller, runtime| {
            let ask = |round| {
                let key = key_of(&format!("{caller}-{round}"));
                runtime.block_on(store.engine.apply(key, reserve(ANN), None))
            };
            if caller > 0 {
                assert!((0..10_000).any(|round| ask(round).is_err()), "no sync has failed");
                return;
            }
            for round in 0..20 {
                assert!(ask(round).is_ok());
            }

            // When the next sync to begin is one that fails.
            faults.fail_next(Operation::Sync, Fault::NotDone);

            // Then the sync that may be running at this moment, and succeeds, is none that
            // covers what is written after.
            assert!(ask(20).is_err());
        });
    }
    Ok(())
}

pub fn promise_2_what_was_answered_is_there_after_a_restart(lab: Lab) -> Verdict {
    // Given a key in every state that a record can have.
    let store = lab.open();
    store.granted("held", reserve_with(ANN, |reserve| reserve.holder = "shop-1".into()));
    store.decide("held", leave(ANN, "half"));
    store.granted("in doubt later", hold_for(ANN, Span::from_secs(90)));
    store.granted("released", reserve(ANN));
    store.decide("released", release(ANN));
    store.granted("taken up again", reserve(ANN));
    store.decide("taken up again", release(ANN));
    store.granted("taken up again", reserve(BOB));
    store.granted("succeeded", reserve(ANN));
    store.decide("succeeded", complete(ANN));
    store.granted("failed", reserve(ANN));
    store.decide("failed", complete_with(ANN, |complete| complete.result = Outcome::Failed));
    store.granted("omitted", reserve(ANN));
    store.decide(
        "omitted",
        complete_with(ANN, |complete| {
            complete.response = Response::default();
            complete.response_omitted = true;
        }),
    );
    let keys = [
        "held",
        "in doubt later",
        "released",
        "taken up again",
        "succeeded",
        "failed",
        "omitted",
        "vacant",
    ];
    let before = keys.map(|key| store.lookup(key));

    // Then a restart changes none of it.
    let store = lab.restart(store)?;
    assert_eq!(keys.map(|key| store.lookup(key)), before);
    Ok(())
}

pub fn promise_2_what_was_answered_is_there_after_an_abrupt_end(mut lab: Lab) -> Verdict {
    // Given callers that note what they were answered.
    struct Noted {
        key: String,
        record: Record,
        decided_at: Moment,
    }
    let store = lab.open();
    let (note, notes) = mpsc::channel();
    let (notes, over) = (Mutex::new(notes), AtomicBool::new(false));
    let mut left = on_threads(4, |caller, runtime| {
        if caller == 0 {
            // When the store ends abruptly, in the middle of it all.
            let _over = RaisedAtTheEnd(&over);
            let notes = notes.lock().unwrap();
            let known: Vec<Noted> =
                (0..100).map(|_| notes.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
            return Some((known, lab.copy_what_is_there()));
        }
        for number in 0.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let (key, me) = (format!("{caller}-{number}"), owner(number));
            let ask = |command| runtime.block_on(store.engine.apply(key_of(&key), command, None));
            assert!(matches!(ask(reserve(me)).unwrap().answer, Decision::Granted(_)));
            if number % 3 == 1 {
                assert!(matches!(ask(complete(me)).unwrap().answer, Decision::Completed(_)));
            }
            if number % 3 == 2 {
                assert_eq!(ask(release(me)).unwrap().answer, Decision::Released);
            }
            let seen = runtime.block_on(store.engine.lookup(key_of(&key), None)).unwrap();
            let (record, decided_at) = (seen.answer.unwrap(), seen.decided_at);
            note.send(Noted { key, record, decided_at }).unwrap();
        }
        None
    });

    // Then everything that was noted before is there.
    let (known, copy) = left.swap_remove(0).unwrap();
    let copy = copy?;
    drop(store);
    lab.go_on_with(copy);
    let store = lab.open();
    for Noted { key, record, decided_at } in known {
        let found = store.look(&key).unwrap();
        assert_eq!(found.answer, Some(record));
        assert!(found.decided_at >= decided_at);
    }
    Ok(())
}
