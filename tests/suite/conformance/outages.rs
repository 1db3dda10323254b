//! What an outage does to time, which is a part of promise 4: the clock goes on where it
//! was, and leases that ended while nobody could renew them end a little after the restart.
//!
//! The other side of it is what must not change: whatever was shown before an outage stays
//! true after it, and what is granted after it is as long as its owner was told.

use onced::clock::Clock;
use onced::domain::{Decision, LeaseExpiryAction, Moment, Refusal, Span, State};

use crate::engines::{
    ANN, BOB, CLEO, LEASE, Lab, MORNING, Store, Verdict, complete, hold_for, renew, reserve,
    reserve_for, reserve_with,
};

/// As `StoreOptions` has it.
const GRACE: Span = Span::from_secs(10);

const AN_HOUR: Span = Span::from_secs(60 * 60);
const A_MOMENT: Span = Span::from_millis(1);

fn almost(span: Span) -> Span {
    Span::from_millis(span.as_millis() - 1)
}

/// What is on record of the lease of `key`.
fn lease_of(store: &Store, key: &str) -> Moment {
    match store.lookup(key).unwrap().state {
        State::Reserved { lease_until, .. } => lease_until,
        other => panic!("no lease: {other:?}"),
    }
}

fn is_held(store: &Store, key: &str) -> bool {
    match store.decide(key, reserve(CLEO)) {
        Decision::InProgress(_) => true,
        Decision::Granted(granted) if granted.takeover => false,
        Decision::InDoubt(_) => false,
        other => panic!("{other:?}"),
    }
}

pub fn promise_4_moments_do_not_run_backwards_over_a_restart(lab: Lab) -> Verdict {
    // Given a time of day that is set back by an hour while the store is down.
    let store = lab.open();
    store.granted("order-1", reserve_for(ANN, AN_HOUR));
    lab.clock.advance(LEASE);
    let before = store.now();
    lab.clock.step_to(Moment::from_millis(MORNING.as_millis() - AN_HOUR.as_millis()));
    let store = lab.restart(store)?;

    // Then the engine's time is not, and it goes on.
    let after = store.now();
    assert!(after >= before);
    lab.clock.advance(LEASE);
    assert_eq!(store.now(), after.plus(LEASE));

    // The lease that Ann was told of lapses when she was told, give or take nothing.
    lab.clock.advance(Span::from_millis(AN_HOUR.as_millis() - 2 * LEASE.as_millis() - 1));
    assert!(is_held(&store, "order-1"));
    lab.clock.advance(A_MOMENT);
    assert!(!is_held(&store, "order-1"));
    Ok(())
}

pub fn promise_4_moments_do_not_run_backwards_over_an_abrupt_end(mut lab: Lab) -> Verdict {
    let mut store = lab.open();
    let mut shown = store.now();
    for step in 1..=5 {
        // Given that the last thing anybody was shown is the time, some time after the last
        // write, and that the time of day then steps back.
        lab.clock.advance(Span::from_millis(777 * step));
        let now = store.now();
        assert!(now >= shown);
        shown = now;
        lab.clock.step_to(Moment::from_millis(MORNING.as_millis() - 3_600_000 * step));

        // Then an abrupt end does not bring earlier moments back.
        store = lab.kill(store)?;
        let now = store.now();
        assert!(now >= shown, "{now:?} after {shown:?}");
        shown = now;
    }
    Ok(())
}

pub fn promise_4_a_lease_that_ended_during_an_outage_gets_the_restart_grace(
    mut lab: Lab,
) -> Verdict {
    // Given two leases that run when the store goes down, in order or abruptly.
    let mut store = lab.open();
    for abruptly in [false, true] {
        let (taken_over, in_doubt) = (format!("1-{abruptly}"), format!("2-{abruptly}"));
        store.granted(&taken_over, reserve(ANN));
        store.granted(&in_doubt, hold_for(ANN, LEASE));
        store = if abruptly {
            lab.kill_for(store, AN_HOUR)?
        } else {
            lab.restart_after(store, AN_HOUR)?
        };

        // When it is up again an hour later, then both run for the grace, and no longer.
        let up_at = store.now();
        for key in [&taken_over, &in_doubt] {
            assert_eq!(lease_of(&store, key), up_at.plus(GRACE));
        }
        lab.clock.advance(almost(GRACE));
        assert!(is_held(&store, &taken_over) && is_held(&store, &in_doubt));
        lab.clock.advance(A_MOMENT);
        assert!(!is_held(&store, &taken_over) && !is_held(&store, &in_doubt));
    }
    Ok(())
}

pub fn promise_4_a_lease_in_its_grace_is_as_good_as_any(lab: Lab) -> Verdict {
    // Given leases that ended during an outage of an hour.
    let store = lab.open();
    for key in ["renewed", "completed", "repeated"] {
        store.granted(key, reserve(ANN));
    }
    let store = lab.restart_after(store, AN_HOUR)?;
    let up_at = store.now();

    // Then their owner may do in the grace what it may do in any lease.
    assert_eq!(
        store.decide("renewed", renew(ANN, LEASE)),
        Decision::Renewed { lease_until: up_at.plus(LEASE) }
    );
    let Decision::Completed(completion) = store.decide("completed", complete(ANN)) else {
        panic!()
    };
    assert!(!completion.late);
    assert_eq!(store.granted("repeated", reserve(ANN)).lease_until, up_at.plus(GRACE));
    Ok(())
}

pub fn promise_4_a_lease_that_lapsed_before_the_outage_stays_lapsed(mut lab: Lab) -> Verdict {
    // Given a lease that everybody saw lapse, though nobody took over.
    let store = lab.open();
    store.granted("order-1", hold_for(ANN, LEASE));
    lab.clock.advance(LEASE);
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InDoubt(_)));

    // Then neither a restart nor an abrupt end brings it back to life.
    let store = lab.restart(store)?;
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InDoubt(_)));
    let store = lab.kill(store)?;
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InDoubt(_)));
    Ok(())
}

pub fn promise_4_a_lease_that_outlasts_the_grace_is_not_changed(lab: Lab) -> Verdict {
    let store = lab.open();
    let granted = store.granted("order-1", reserve_for(ANN, AN_HOUR));
    let store = lab.restart(store)?;
    assert_eq!(lease_of(&store, "order-1"), granted.lease_until);
    Ok(())
}

pub fn promise_4_a_lease_granted_after_a_restart_is_as_long_as_its_owner_was_told(
    lab: Lab,
) -> Verdict {
    // Given a store that is up again, so that the grace is running.
    let store = lab.open();
    let store = lab.restart_after(store, LEASE)?;
    let store = lab.restart_after(store, A_MOMENT)?;

    // Then a lease of 100 milliseconds is one of 100 milliseconds.
    let tenth = Span::from_millis(100);
    let granted = store.granted("order-1", reserve_for(ANN, tenth));
    assert_eq!(granted.lease_until, store.now().plus(tenth));
    assert_eq!(lease_of(&store, "order-1"), granted.lease_until);
    lab.clock.advance(almost(tenth));
    assert!(is_held(&store, "order-1"));
    lab.clock.advance(A_MOMENT);
    assert!(!is_held(&store, "order-1"));
    Ok(())
}

pub fn promise_4_a_loop_of_crashes_takes_no_grace_back(lab: Lab) -> Verdict {
    // Each comes well within the grace that the one before has granted.
    loop_of_crashes(lab, 6, Span::from_secs(4))
}

pub fn promise_4_a_long_loop_of_crashes_takes_no_grace_back(lab: Lab) -> Verdict {
    loop_of_crashes(lab, 80, Span::from_millis(10))
}

/// Given a lease that ended in an outage, and restarts that follow each other within the
/// grace: then the lease runs through all of them, and ends with the last grace.
fn loop_of_crashes(mut lab: Lab, crashes: u32, apart: Span) -> Verdict {
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let mut store = lab.kill_for(store, LEASE)?;
    let mut lease_until = lease_of(&store, "order-1");
    for crash in 0..crashes {
        store = lab.kill_for(store, apart)?;
        let now_until = lease_of(&store, "order-1");
        assert!(now_until >= lease_until, "restart {crash} took grace back");
        assert!(is_held(&store, "order-1"), "not held after restart {crash}");
        lease_until = now_until;
    }
    lab.clock.advance(Span::from_millis(2 * GRACE.as_millis()));
    assert!(!is_held(&store, "order-1"));
    Ok(())
}

pub fn promise_4_a_loop_of_crashes_does_not_push_the_clock_ahead(mut lab: Lab) -> Verdict {
    // Given a store that crashes as soon as it is up, twenty times within a second.
    let mut store = lab.open();
    for _ in 0..20 {
        store = lab.kill_for(store, Span::from_millis(50))?;
        assert!(store.lookup("order-1").is_none());
    }

    // Then its time is ahead by what one crash may skip, and not by twenty times as much.
    assert!(store.now().since(lab.clock.wall()) <= Span::from_secs(2), "{:?}", store.now());
    Ok(())
}

pub fn promise_4_a_later_restart_takes_no_retention_back(lab: Lab) -> Verdict {
    // Given an operation that must not be repeated blindly, and an outage of an hour in which
    // its lease ended: it is in doubt, and stays on record for its retention from then on.
    let store = lab.open();
    store.granted(
        "order-1",
        reserve_with(ANN, |reserve| {
            reserve.lease_expiry_action = LeaseExpiryAction::Hold;
            reserve.retention = Span::from_secs(20 * 60);
        }),
    );
    let store = lab.restart_after(store, AN_HOUR)?;
    lab.clock.advance(GRACE);
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InDoubt(_)));
    let retained_until = store.lookup("order-1").unwrap().retained_until();

    // When the store restarts once more.
    lab.clock.advance(Span::from_secs(60));
    let store = lab.restart(store)?;

    // Then it is still in doubt, for as long as was said.
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InDoubt(_)));
    assert_eq!(store.lookup("order-1").unwrap().retained_until(), retained_until);
    Ok(())
}

pub fn promise_4_without_restart_grace_an_outage_counts_in_full(mut lab: Lab) -> Verdict {
    // Given a store that is told to grant no grace.
    lab.options.restart_grace = Span::default();
    let store = lab.open();
    store.granted("order-1", reserve(ANN));

    // Then a lease that ended while it was down has lapsed, and a new owner may have it.
    let store = lab.restart_after(store, LEASE)?;
    assert!(store.granted("order-1", reserve(BOB)).takeover);
    assert_eq!(store.decide("order-1", complete(ANN)), Decision::Refused(Refusal::LeaseLost));
    Ok(())
}
