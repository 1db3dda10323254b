//! Promise 3: fencing tokens increase strictly per key, for ever: across release, purge and
//! restart.

use std::collections::BTreeSet;

use onced::domain::{Decision, FencingToken, Outcome, OwnerToken, Span};

use crate::engines::{
    ANN, BOB, CLEO, FAULTS, LEASE, Lab, Store, Verdict, complete, complete_with, key_of,
    on_threads, owner, release, reserve, reserve_with,
};

/// The fencing token of the next attempt at "order-1", which is given back at once.
fn next_token(store: &Store, owner: OwnerToken) -> FencingToken {
    let granted = store.granted("order-1", reserve(owner));
    assert_eq!(store.decide("order-1", release(owner)), Decision::Released);
    granted.fencing_token
}

pub fn promise_3_fencing_tokens_rise_across_release_purge_and_restart(lab: Lab) -> Verdict {
    let mut tokens = Vec::new();
    let mut store = lab.open();
    for round in 0..4 {
        tokens.push(next_token(&store, owner(round * 3)));

        // Across a release,
        tokens.push(next_token(&store, owner(round * 3 + 1)));

        // a restart,
        store = lab.restart(store)?;
        tokens.push(next_token(&store, owner(round * 3 + 2)));

        // a purge, which leaves nothing of the key,
        lab.clock.advance(Span::from_secs(48 * 60 * 60));
        assert_eq!(store.purge_all(), 1);
        assert_eq!(store.lookup("order-1"), None);

        // and a restart that is followed by another, with nothing in between.
        store = lab.restart(store)?;
        store = lab.restart(store)?;
    }
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    Ok(())
}

pub fn promise_3_tokens_rise_across_abrupt_ends(mut lab: Lab) -> Verdict {
    let mut tokens = Vec::new();
    let mut store = lab.open();
    for round in 0..6 {
        tokens.push(next_token(&store, owner(round)));
        store = lab.kill(store)?;
    }
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    Ok(())
}

pub fn promise_3_tokens_rise_past_any_number_that_was_set_aside(mut lab: Lab) -> Verdict {
    // Given more grants than an engine can set tokens aside for at once.
    let store = lab.open();
    let grants = (0..12_000).map(|key| (format!("{key}"), reserve(owner(key)))).collect();
    let highest = store
        .together(grants)
        .into_iter()
        .map(|answer| crate::engines::granted(answer.unwrap().answer).fencing_token)
        .max();

    // Then an abrupt end loses none of them.
    let store = lab.kill(store)?;
    assert!(Some(next_token(&store, ANN)) > highest);
    Ok(())
}

pub fn promise_3_tokens_rise_with_every_kind_of_attempt(lab: Lab) -> Verdict {
    let store = lab.open();
    let mut tokens = Vec::new();
    let mut attempt = |number, owner| {
        let grant = reserve_with(owner, |reserve| reserve.retry_failed = true);
        let granted = store.granted("order-1", grant.clone());
        assert_eq!(granted.attempt, number);
        tokens.push(granted.fencing_token);

        // Asked again, the same attempt has the same token.
        assert_eq!(store.granted("order-1", grant), granted);
    };

    attempt(1, ANN);
    // Ann lets her lease lapse: a takeover.
    lab.clock.advance(LEASE);
    attempt(2, BOB);
    // Bob gives it back.
    store.decide("order-1", release(BOB));
    attempt(3, CLEO);
    // Cleo fails, and the failure is retried.
    store.decide("order-1", complete_with(CLEO, |complete| complete.result = Outcome::Failed));
    attempt(4, owner(4));
    // It succeeds; when the retention is over, the key begins anew.
    store.decide("order-1", complete(owner(4)));
    lab.clock.advance(Span::from_secs(48 * 60 * 60));
    attempt(1, owner(5));
    // The same, with nothing left of the record.
    lab.clock.advance(Span::from_secs(48 * 60 * 60));
    assert_eq!(store.purge_all(), 1);
    attempt(1, owner(6));

    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    Ok(())
}

pub fn promise_3_no_two_attempts_share_a_token(lab: Lab) -> Verdict {
    let store = lab.open();
    let tokens: Vec<_> = on_threads(8, |caller, runtime| {
        let mut mine = Vec::new();
        for round in 0..50 {
            // Some keys are each caller's own, and some are all callers'.
            let key = if round % 2 == 0 { format!("{caller}-{round}") } else { "one".to_owned() };
            let me = owner(caller * 50 + round);
            let ask = |command| runtime.block_on(store.engine.apply(key_of(&key), command, None));
            if let Decision::Granted(granted) = ask(reserve(me)).unwrap().answer {
                ask(release(me)).unwrap();
                mine.push(granted.fencing_token);
            }
        }
        mine
    })
    .into_iter()
    .flatten()
    .collect();
    let different: BTreeSet<_> = tokens.iter().collect();
    assert_eq!(different.len(), tokens.len());
    Ok(())
}

pub fn promise_3_a_token_whose_grant_is_in_question_is_not_given_to_another(lab: Lab) -> Verdict {
    let kind = lab.kind();
    for (operation, fault) in FAULTS {
        // Given a grant that nobody heard of, because its commit failed.
        let mut lab = Lab::new(kind);
        let (store, faults) = lab.open_fragile()?;
        let heard = next_token(&store, ANN);
        faults.fail_next(operation, fault);
        assert!(store.ask("order-1", reserve(BOB)).is_err());

        // When the store is opened anew, and Cleo is granted another key.
        let store = lab.restart(store)?;
        let cleo = store.granted("order-2", reserve(CLEO)).fencing_token;

        // Then Bob, asking again, has a token of his own.
        let bob = store.granted("order-1", reserve(BOB)).fencing_token;
        assert!(heard < cleo && heard < bob && cleo != bob, "after {operation:?}, {fault:?}");
    }
    Ok(())
}
