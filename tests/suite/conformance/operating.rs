//! What operators may see and force, held to the same promises as everything else.

use onced::domain::{
    Command, Decision, Delete, ForceComplete, ForceRelease, ForcedOutcome, Namespace, Outcome,
    Phase, QuotaKind, Refusal, Response, Span, phase_of,
};
use onced::storage::erase::EraseOrder;
use onced::storage::fault::{Fault, Operation};
use onced::storage::list::Listing;
use onced::storage::{Certainty, Condition, EngineError, Quota, Usage};
use uuid::Uuid;

use crate::engines::{
    ANN, BOB, CLEO, LEASE, Lab, Store, Verdict, complete, granted, hold_for, key_in, release,
    renew, reserve, reserve_for, reserve_with,
};

fn second() -> Span {
    Span::from_secs(1)
}

/// Everything in all namespaces that is in `phase`.
fn all(phase: Option<Phase>, limit: usize) -> Listing {
    Listing { namespace: None, key_prefix: String::new(), phase, limit, after: None }
}

fn of(namespace: &str, key_prefix: &str, phase: Option<Phase>) -> Listing {
    let namespace = Some(Namespace::new(namespace.to_owned()).unwrap());
    Listing { namespace, key_prefix: key_prefix.to_owned(), ..all(phase, 2) }
}

fn ask(store: &Store, namespace: &str, key: &str, command: Command) -> Decision {
    let call = store.engine.apply(key_in(namespace, key), command, None);
    store.runtime.block_on(call).unwrap().answer
}

fn force_release() -> Command {
    Command::ForceRelease(ForceRelease { fencing_token: None })
}

fn delete() -> Command {
    Command::Delete(Delete { fencing_token: None })
}

fn force_complete() -> Command {
    Command::ForceComplete(ForceComplete {
        fencing_token: None,
        result: Outcome::Succeeded,
        response: Response { status_code: 200, ..Response::default() },
        response_omitted: false,
        response_digest: [9; 32],
        response_size_bytes: 0,
        retention: Span::from_secs(60),
    })
}

fn forced(decision: Decision) -> ForcedOutcome {
    match decision {
        Decision::Forced(forced) => forced.outcome,
        other => panic!("not forced but {other:?}"),
    }
}

fn order(namespace: &str, number: u128) -> EraseOrder {
    EraseOrder {
        namespace: Namespace::new(namespace.to_owned()).unwrap(),
        id: Uuid::from_u128(number),
        operator: "olga".into(),
        reason: "the tenant left".into(),
    }
}

/// One record of each phase in a namespace, and one whose retention is over.
fn populate(lab: &Lab, store: &Store, namespace: &str) {
    let ask = |key, command| ask(store, namespace, key, command);
    let brief = |it: &mut onced::domain::Reserve| (it.lease, it.retention) = (second(), second());
    ask("f-over", reserve_with(ANN, brief));
    ask("b-doubt", hold_for(ANN, second()));
    ask("c-lapsed", reserve_for(ANN, second()));
    ask("d-released", reserve(ANN));
    ask("d-released", release(ANN));
    ask("e-done", reserve(ANN));
    ask("e-done", complete(ANN));
    lab.clock.advance(Span::from_secs(3));
    ask("a-held", reserve(ANN));
}

pub fn promise_1_what_is_forced_takes_effect_in_its_order(lab: Lab) -> Verdict {
    let store = lab.open();
    let key = || "order-1".to_owned();
    let answers = store.together(vec![
        (key(), reserve(ANN)),
        (key(), force_release()),
        (key(), complete(ANN)),
        (key(), reserve(BOB)),
        (key(), force_complete()),
        (key(), reserve(CLEO)),
        (key(), delete()),
        (key(), reserve(CLEO)),
    ]);
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().answer).collect();
    let first = granted(answers[0].clone());
    assert_eq!(forced(answers[1].clone()), ForcedOutcome::Released);
    assert!(matches!(answers[2], Decision::Refused(_)), "{:?}", answers[2]);
    assert_eq!(granted(answers[3].clone()).attempt, 2);
    assert!(matches!(forced(answers[4].clone()), ForcedOutcome::Completed(_)));
    assert!(matches!(answers[5], Decision::Replayed(_)), "{:?}", answers[5]);
    assert_eq!(forced(answers[6].clone()), ForcedOutcome::Deleted);
    let last = granted(answers[7].clone());
    assert_eq!(last.attempt, 1);
    assert!(last.fencing_token > first.fencing_token);
    Ok(())
}

pub fn promise_1_a_forced_release_grants_the_key_to_whoever_waits_longest(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let bob = store.waits("order-1", reserve(BOB));
    let mut cleo = store.waits("order-1", reserve(CLEO));
    let parked = || store.runtime.block_on(store.engine.stats()).unwrap().answer.parked;
    assert_eq!(parked(), 2);

    // Both are one step: nobody sees the key free between them.
    let released = store.ask("order-1", force_release()).unwrap();
    assert_eq!(forced(released.answer), ForcedOutcome::Released);
    let next = store.runtime.block_on(bob).unwrap();
    assert_eq!(next.decided_at, released.decided_at);
    let next = granted(next.answer);
    assert_eq!((next.attempt, next.takeover, next.owner_token), (2, false, BOB));
    assert!(cleo.nudge().is_pending(), "exactly one is granted it");
    assert_eq!(parked(), 1);
    Ok(())
}

pub fn promise_1_a_forced_completion_answers_everybody_who_waits(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let waiting = [BOB, CLEO].map(|owner| store.waits("order-1", reserve(owner)));
    let looking = store.looks("order-1");

    let completed = store.ask("order-1", force_complete()).unwrap();
    let ForcedOutcome::Completed(completion) = forced(completed.answer) else {
        panic!("not completed")
    };
    for waiter in waiting {
        let told = store.runtime.block_on(waiter).unwrap();
        assert_eq!(told.answer, Decision::Replayed(completion.clone()));
        assert_eq!(told.decided_at, completed.decided_at);
    }
    let shown = store.runtime.block_on(looking).unwrap();
    assert_eq!(phase_of(shown.answer.as_ref(), shown.decided_at), Phase::Completed);
    Ok(())
}

pub fn promise_1_a_deletion_grants_the_key_to_whoever_waits_longest(lab: Lab) -> Verdict {
    let store = lab.open();
    let first = store.granted("order-1", reserve(ANN));
    let bob = store.waits("order-1", reserve(BOB));
    let mut cleo = store.waits("order-1", reserve(CLEO));
    let looking = store.looks("order-1");

    let deleted = store.ask("order-1", delete()).unwrap();
    assert_eq!(forced(deleted.answer), ForcedOutcome::Deleted);
    assert_eq!(store.runtime.block_on(looking).unwrap().answer, None);
    let next = store.runtime.block_on(bob).unwrap();
    assert_eq!(next.decided_at, deleted.decided_at);
    let next = granted(next.answer);
    assert_eq!((next.attempt, next.owner_token), (1, BOB));
    assert!(next.fencing_token > first.fencing_token);
    assert!(cleo.nudge().is_pending(), "exactly one is granted it");
    Ok(())
}

pub fn promise_1_an_erase_serves_whoever_waits_for_what_goes(lab: Lab) -> Verdict {
    let store = lab.open();
    let first = store.granted("order-1", reserve(ANN));
    let other = key_in("mail", "order-1");
    store.runtime.block_on(store.engine.apply(other.clone(), reserve(ANN), None)).unwrap();
    let bob = store.waits("order-1", reserve(BOB));
    let mut cleo = store.waits("order-1", reserve(CLEO));
    let looking = store.looks("order-1");
    let patience = Box::pin(std::future::pending());
    let mut elsewhere =
        Store::parked(store.engine.apply_waiting(other, reserve(BOB), None, patience));

    // Given an erase that takes the record that they wait for.
    store.erase(&order("default", 1));
    assert_eq!(store.erase_all(10), 1);

    // Then the step that takes it grants the key to the first of them, and spares that grant.
    assert_eq!(store.runtime.block_on(looking).unwrap().answer, None);
    let next = granted(store.runtime.block_on(bob).unwrap().answer);
    assert_eq!((next.attempt, next.owner_token), (1, BOB));
    assert!(next.fencing_token > first.fencing_token);
    assert!(cleo.nudge().is_pending(), "exactly one is granted it");
    assert!(elsewhere.nudge().is_pending(), "another namespace is not concerned");
    assert_eq!(store.erase_all(10), 0);
    assert!(matches!(store.decide("order-1", reserve(CLEO)), Decision::InProgress(_)));
    Ok(())
}

pub fn promise_7_what_is_forced_is_not_refused_for_a_quota_and_counts(mut lab: Lab) -> Verdict {
    // Given a namespace that has as much as it may.
    let name = Namespace::default();
    lab.options.quotas =
        [(name.clone(), Quota { keys: Some(1), bytes: Some(1_000) })].into_iter().collect();
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let kind = Decision::Refused(Refusal::QuotaExceeded(QuotaKind::Keys));
    assert_eq!(store.decide("order-2", reserve(ANN)), kind);

    // Then what an operator forces is taken, and what it adds and frees is counted.
    let Command::ForceComplete(mut large) = force_complete() else { unreachable!() };
    large.response.payload = vec![b'x'; 2_000];
    let taken = store.decide("order-1", Command::ForceComplete(large));
    assert!(matches!(forced(taken), ForcedOutcome::Completed(_)));
    let usage = store.usage(&name);
    assert!(usage.keys == 1 && usage.bytes > 2_000, "{usage:?}");
    assert_eq!(forced(store.decide("order-1", delete())), ForcedOutcome::Deleted);
    assert_eq!(store.usage(&name), Usage::default());
    store.granted("order-2", reserve(ANN));
    store.erase(&order("default", 1));
    assert_eq!(store.erase_all(10), 1);
    assert_eq!(store.usage(&name), Usage::default());
    store.granted("order-3", reserve(ANN));
    Ok(())
}

pub fn promise_2_a_listing_shows_nothing_that_is_not_durable(mut lab: Lab) -> Verdict {
    // Given a purge that is written, and not synced yet.
    let (store, faults) = lab.open_fragile()?;
    store.granted("over", reserve_with(ANN, |reserve| reserve.retention = second()));
    store.granted("there", reserve(ANN));
    lab.clock.advance(Span::from_secs(60));
    assert_eq!(store.purge(10).records, 1);

    // When its sync fails, then nobody is shown what it left.
    faults.fail_next(Operation::Sync, Fault::NotDone);
    let seen = store.runtime.block_on(store.engine.list(all(None, 10)));
    assert_eq!(seen.unwrap_err(), EngineError::Unavailable);
    let told = store.runtime.block_on(store.engine.stats());
    assert_eq!(told.unwrap_err(), EngineError::Unavailable);
    assert_eq!(store.condition(), Condition::Poisoned);
    Ok(())
}

pub fn promise_2_what_was_forced_is_there_after_an_abrupt_end(mut lab: Lab) -> Verdict {
    let store = lab.open();
    for key in ["released", "completed", "deleted"] {
        store.granted(key, hold_for(ANN, second()));
    }
    lab.clock.advance(Span::from_secs(10));
    store.decide("released", force_release());
    store.decide("completed", force_complete());
    store.decide("deleted", delete());

    let store = lab.kill(store)?;
    assert_eq!(granted(store.decide("released", reserve(BOB))).attempt, 2);
    assert!(matches!(store.decide("completed", reserve(BOB)), Decision::Replayed(_)));
    assert_eq!(granted(store.decide("deleted", reserve(BOB))).attempt, 1);
    assert_eq!(store.list(all(Some(Phase::InDoubt), 10)).0, Vec::<String>::new());
    Ok(())
}

pub fn promise_3_a_deleted_key_gets_a_larger_token(lab: Lab) -> Verdict {
    let store = lab.open();
    let before = store.granted("order-1", reserve(ANN)).fencing_token;
    store.decide("order-1", delete());
    assert_eq!(store.lookup("order-1"), None);
    let after = store.granted("order-1", reserve(BOB));
    assert_eq!(after.attempt, 1);
    assert!(after.fencing_token > before);
    Ok(())
}

pub fn promise_4_a_listing_is_judged_when_it_is_read(lab: Lab) -> Verdict {
    let store = lab.open();
    populate(&lab, &store, "shop");
    populate(&lab, &store, "zoo");

    let in_shop = |phase| store.list(of("shop", "", phase)).0;
    // What is over is not purged yet, and not shown either.
    let everything = ["a-held", "b-doubt", "c-lapsed", "d-released", "e-done"];
    assert_eq!(in_shop(None), everything.map(|key| format!("shop/{key}")));
    for (phase, key) in [
        (Phase::Held, "shop/a-held"),
        (Phase::InDoubt, "shop/b-doubt"),
        (Phase::Lapsed, "shop/c-lapsed"),
        (Phase::Released, "shop/d-released"),
        (Phase::Completed, "shop/e-done"),
    ] {
        assert_eq!(in_shop(Some(phase)), [key]);
    }
    assert_eq!(store.list(of("shop", "c-", None)).0, ["shop/c-lapsed"]);
    assert_eq!(store.list(of("shop", "b-", Some(Phase::InDoubt))).0, ["shop/b-doubt"]);
    assert_eq!(store.list(of("shop", "c-", Some(Phase::InDoubt))).0, Vec::<String>::new());
    let (everywhere, _) = store.list(all(None, 3));
    assert_eq!(everywhere.len(), 10);
    // Shorter names of namespaces come first.
    assert_eq!(everywhere[0], "zoo/a-held");

    // Nothing but time passes.
    lab.clock.advance(LEASE);
    assert_eq!(in_shop(Some(Phase::Held)), Vec::<String>::new());
    assert_eq!(in_shop(Some(Phase::Lapsed)), ["shop/a-held", "shop/c-lapsed"]);
    Ok(())
}

pub fn promise_4_a_listing_leaves_large_things_out(lab: Lab) -> Verdict {
    let store = lab.open();
    store.granted("done", reserve(ANN));
    store.decide("done", complete(ANN));
    store.granted("held", reserve(ANN));
    store.decide("held", crate::engines::leave(ANN, "page 7"));
    let page = store.page(&all(None, 10));
    let shown: Vec<_> = page.records.into_iter().map(|listed| listed.record).collect();
    let onced::domain::State::Completed(end) = &shown[0].state else { panic!("{shown:?}") };
    assert_eq!(end.response, Response { status_code: 201, ..Response::default() });
    assert_eq!((end.response_digest, end.response_size_bytes), ([7; 32], 14));
    assert_eq!(shown[1].checkpoint, b"");
    assert_eq!(store.lookup("held").unwrap().checkpoint, b"page 7");
    Ok(())
}

pub fn promise_4_what_is_in_doubt_is_listed_oldest_first(lab: Lab) -> Verdict {
    // Given leases that end in another order than their keys have.
    let store = lab.open();
    for (namespace, key, lease) in [("shop", "c", 5), ("zoo", "a", 3), ("shop", "b", 4)] {
        ask(&store, namespace, key, hold_for(ANN, Span::from_secs(lease)));
    }
    ask(&store, "zoo", "later", hold_for(ANN, Span::from_secs(100)));
    ask(&store, "zoo", "takeover", reserve_for(ANN, second()));
    ask(&store, "shop", "a", hold_for(ANN, second()));
    ask(&store, "shop", "a", renew(ANN, Span::from_secs(6)));

    // Then the work list is in the order in which they ended, page by page.
    lab.clock.advance(Span::from_secs(10));
    let in_doubt = |limit| store.list(all(Some(Phase::InDoubt), limit));
    assert_eq!(in_doubt(1).0, ["zoo/a", "shop/b", "shop/c", "shop/a"]);
    assert_eq!(in_doubt(10), (in_doubt(1).0, 1));
    let stats = store.runtime.block_on(store.engine.stats()).unwrap().answer;
    assert_eq!((stats.in_doubt, stats.in_doubt_capped), (4, false));

    // And what is decided leaves it.
    ask(&store, "shop", "b", force_complete());
    ask(&store, "shop", "c", force_release());
    ask(&store, "zoo", "a", delete());
    assert_eq!(in_doubt(10).0, ["shop/a"]);
    Ok(())
}

pub fn promise_4_a_lease_in_its_grace_is_not_in_doubt(lab: Lab) -> Verdict {
    // Given a lease that ends during an outage.
    let store = lab.open();
    store.granted("before", hold_for(ANN, second()));
    lab.clock.advance(Span::from_secs(5));
    store.granted("during", hold_for(ANN, Span::from_secs(5)));
    let store = lab.restart_after(store, Span::from_secs(60))?;

    // Then it can be renewed for a while, and comes in doubt after that.
    let in_doubt = || store.list(all(Some(Phase::InDoubt), 10)).0;
    assert_eq!(in_doubt(), ["default/before"]);
    assert_eq!(store.list(all(Some(Phase::Held), 10)).0, ["default/during"]);
    lab.clock.advance(Span::from_secs(10));
    assert_eq!(in_doubt(), ["default/before", "default/during"]);
    Ok(())
}

pub fn promise_4_pages_go_on_behind_what_they_have_shown(lab: Lab) -> Verdict {
    for phase in [None, Some(Phase::InDoubt)] {
        let lab = Lab::new(lab.kind());
        let store = lab.open();
        for key in ["a", "b", "c", "d", "e", "f"] {
            store.granted(key, hold_for(ANN, second()));
            lab.clock.advance(Span::from_millis(10));
        }
        lab.clock.advance(second());
        let first = store.page(&all(phase, 3));
        assert_eq!(first.records.len(), 3);

        // When the last one shown goes, and another comes before it.
        store.decide("c", delete());
        store.granted("aa", reserve(BOB));

        // Then none that stays is missed or shown twice.
        let rest = Listing { after: first.next, ..all(phase, 10) };
        assert_eq!(store.list(rest).0, ["default/d", "default/e", "default/f"]);
    }
    Ok(())
}

pub fn promise_4_a_place_is_as_good_after_a_restart(lab: Lab) -> Verdict {
    let store = lab.open();
    for key in ["a", "b", "c", "d"] {
        store.granted(key, hold_for(ANN, second()));
    }
    lab.clock.advance(Span::from_secs(10));
    let places = [None, Some(Phase::InDoubt)].map(|phase| (phase, store.page(&all(phase, 2)).next));
    let store = lab.restart(store)?;
    for (phase, after) in places {
        let rest = Listing { after, ..all(phase, 2) };
        assert_eq!(store.list(rest).0, ["default/c", "default/d"]);
    }
    Ok(())
}

pub fn promise_5_an_erase_that_is_ordered_again_is_the_same(lab: Lab) -> Verdict {
    let store = lab.open();
    ask(&store, "shop", "a", reserve(ANN));
    let first = store.erase(&order("shop", 1));
    assert!(first.is_new);
    let again = store.erase(&order("shop", 1));
    assert_eq!((again.is_new, &again.erase), (false, &first.erase));
    // Whoever comes second while it runs is shown it.
    let other = store.erase(&order("shop", 2));
    assert_eq!((other.is_new, &other.erase), (false, &first.erase));

    store.erase_all(10);
    let done = store.erase(&order("shop", 1));
    assert!(!done.is_new && done.erase.ended_at.is_some());
    assert_eq!(done.erase.erased, 1);
    // And begins its own when it asks again.
    assert!(store.erase(&order("shop", 2)).is_new);
    Ok(())
}

pub fn promise_5_an_erase_spares_others_and_what_was_granted_since(lab: Lab) -> Verdict {
    let store = lab.open();
    populate(&lab, &store, "shop");
    populate(&lab, &store, "shop2");
    populate(&lab, &store, "sho");
    for number in 0..20 {
        ask(&store, "shop", &format!("order-{number}"), reserve(ANN));
    }
    let others = || (store.list(of("sho", "", None)).0, store.list(of("shop2", "", None)).0);
    let before = others();

    // When an erase has begun and not gone far, a new key is granted, an old one is taken
    // over, and an attempt from before goes on.
    store.erase(&order("shop", 1));
    let step = store.engine.erase_step(2).unwrap();
    assert_eq!((step.records, step.more), (2, true));
    ask(&store, "shop", "a-held", reserve(BOB));
    ask(&store, "shop", "order-99", reserve(BOB));
    lab.clock.advance(LEASE);
    ask(&store, "shop", "order-7", reserve(BOB));
    ask(&store, "shop", "order-8", renew(ANN, LEASE));
    store.erase_all(3);

    // Then what was granted since is spared, and everything else is gone.
    let left = ["shop/a-held", "shop/order-7", "shop/order-99"];
    assert_eq!(store.list(of("shop", "", None)).0, left);
    let in_doubt = store.list(all(Some(Phase::InDoubt), 9)).0;
    assert_eq!(in_doubt, ["shop2/b-doubt", "sho/b-doubt"]);
    assert_eq!(others(), before);
    let erase = store.erase(&order("shop", 1)).erase;
    assert_eq!((erase.erased, erase.unreadable), (6 + 19, 0));
    let stats = store.runtime.block_on(store.engine.stats()).unwrap().answer;
    assert_eq!(stats.erases, []);
    Ok(())
}

pub fn promise_5_an_erase_goes_on_after_an_abrupt_end(mut lab: Lab) -> Verdict {
    let mut store = lab.open();
    for number in 0..50 {
        ask(&store, "shop", &format!("order-{number:02}"), reserve(ANN));
    }
    ask(&store, "zoo", "order-1", reserve(ANN));
    let begun = store.erase(&order("shop", 1)).erase;
    let mut gone = 0;
    while gone < 50 {
        let step = store.engine.erase_step(7).unwrap();
        // What a step did is durable no later than what somebody was told of it.
        let told = store.erase(&order("shop", 1)).erase;
        gone += step.records;
        assert_eq!(told.erased, gone as u64);
        store = lab.kill(store)?;
        let found = store.erase(&order("shop", 1));
        assert_eq!((found.is_new, found.erase), (false, told));
    }
    store.erase_all(7);
    let store = lab.restart(store)?;
    let done = store.erase(&order("shop", 1)).erase;
    assert_eq!((done.erased, done.began_at), (50, begun.began_at));
    assert!(done.ended_at.is_some());
    assert_eq!(store.list(all(None, 100)).0, ["zoo/order-1"]);
    Ok(())
}

pub fn promise_6_an_erase_that_fails_poisons_too(mut lab: Lab) -> Verdict {
    let (store, faults) = lab.open_fragile()?;
    ask(&store, "shop", "a", reserve(ANN));
    store.erase(&order("shop", 1));
    faults.fail_next(Operation::Write, Fault::DoneButReported);
    let failed = store.engine.erase_step(10).unwrap_err();
    assert_eq!(failed.certainty(), Certainty::Indeterminate);
    assert_eq!(store.condition(), Condition::Poisoned);

    let store = lab.restart(store)?;
    store.erase_all(10);
    assert_eq!(store.list(all(None, 10)).0, Vec::<String>::new());
    assert_eq!(store.erase(&order("shop", 1)).erase.erased, 1);
    Ok(())
}

pub fn promise_7_a_page_takes_bounded_work(lab: Lab) -> Verdict {
    // Given many records, of which the filter matches the last.
    let store = lab.open();
    for chunk in 0..6 {
        let reserves = (0..1_000).map(|key| (format!("a-{chunk}-{key}"), reserve(ANN)));
        store.together(reserves.collect());
    }
    store.granted("z", reserve(ANN));
    store.decide("z", complete(ANN));

    // Then the first page ends before it has found anything, and the next goes on.
    let first = store.page(&all(Some(Phase::Completed), 10));
    assert_eq!(first.records, []);
    assert!(first.next.is_some());
    assert_eq!(store.list(all(Some(Phase::Completed), 10)), (vec!["default/z".to_owned()], 2));
    Ok(())
}

pub fn promise_7_a_bounded_number_of_erases_runs_at_a_time(lab: Lab) -> Verdict {
    let store = lab.open();
    for number in 0..64 {
        store.erase(&order(&format!("tenant-{number}"), number));
    }
    let one_more = store.runtime.block_on(store.engine.erase(order("one-more", 65)));
    assert_eq!(one_more.unwrap_err(), EngineError::Overloaded);
    store.erase_all(10);
    assert!(store.erase(&order("one-more", 65)).is_new);
    Ok(())
}
