//! Promise 4: expiry is judged when a record is read.
//!
//! Time is a clock that only the test moves, so that every claim holds on the millisecond,
//! and nobody purges anything here: see `purging.rs` for that. What a restart does to leases
//! and to the clock is in `outages.rs`.

use onced::domain::{Decision, Moment, Refusal, Span};

use crate::engines::{
    ANN, BOB, LEASE, Lab, MORNING, RETENTION, Verdict, complete, hold_for, release, renew, reserve,
    reserve_for,
};

const A_MOMENT: Span = Span::from_millis(1);

/// All of `span` but its last millisecond.
fn almost(span: Span) -> Span {
    Span::from_millis(span.as_millis() - 1)
}

pub fn promise_4_expiry_is_judged_when_read(lab: Lab) -> Verdict {
    // Given two leases of 30 seconds, and no sweeper.
    let store = lab.open();
    store.granted("taken over", reserve(ANN));
    store.granted("in doubt", hold_for(ANN, LEASE));

    // Then they run up to their last millisecond,
    lab.clock.advance(almost(LEASE));
    for key in ["taken over", "in doubt"] {
        assert!(matches!(store.decide(key, reserve(BOB)), Decision::InProgress(_)));
    }

    // and not into the next.
    lab.clock.advance(A_MOMENT);
    assert!(matches!(store.decide("in doubt", reserve(BOB)), Decision::InDoubt(_)));
    let takeover = store.granted("taken over", reserve(BOB));
    assert_eq!((takeover.attempt, takeover.takeover), (2, true));
    assert_eq!(store.decide("taken over", complete(ANN)), Decision::Refused(Refusal::LeaseLost));

    // Nobody took over from Ann here, so that she may still say how it ended.
    let Decision::Completed(completion) = store.decide("in doubt", complete(ANN)) else { panic!() };
    assert!(completion.late);
    Ok(())
}

pub fn promise_4_retention_is_over_on_its_millisecond(lab: Lab) -> Verdict {
    // Given a key that is completed, one that is released, and one whose lease lapsed.
    let store = lab.open();
    store.granted("completed", reserve(ANN));
    store.granted("released", reserve(ANN));
    store.granted("lapsed", reserve_for(ANN, Span::from_millis(100)));
    lab.clock.advance(Span::from_millis(100));
    store.decide("completed", complete(ANN));
    store.decide("released", release(ANN));
    let keys = ["completed", "released", "lapsed"];

    // Then each is on record for its retention,
    lab.clock.advance(almost(RETENTION));
    assert!(keys.iter().all(|key| store.lookup(key).is_some()));
    assert!(matches!(store.decide("completed", reserve(BOB)), Decision::Replayed(_)));

    // and vacant from then on, for every command.
    lab.clock.advance(A_MOMENT);
    assert!(keys.iter().all(|key| store.lookup(key).is_none()));
    for key in keys {
        assert_eq!(store.decide(key, complete(ANN)), Decision::Refused(Refusal::NotFound));
        assert_eq!(store.decide(key, renew(ANN, LEASE)), Decision::Refused(Refusal::NotFound));
        assert_eq!(store.decide(key, release(ANN)), Decision::Refused(Refusal::NotFound));
        let anew = store.granted(key, reserve(BOB));
        assert_eq!((anew.attempt, anew.takeover), (1, false));
    }
    Ok(())
}

pub fn promise_4_moments_do_not_run_backwards_with_the_time_of_day(lab: Lab) -> Verdict {
    // Given a lease, and a time of day that somebody sets back by an hour.
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let before = store.now();
    lab.clock.step_to(Moment::from_millis(MORNING.as_millis() - 3_600_000));

    // Then the engine's time stands, and goes on with what really passes,
    assert_eq!(store.now(), before);
    lab.clock.advance(almost(LEASE));
    assert_eq!(store.now(), before.plus(almost(LEASE)));
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InProgress(_)));

    // so that the lease lapses neither early nor an hour late.
    lab.clock.advance(A_MOMENT);
    assert!(store.granted("order-1", reserve(BOB)).takeover);
    Ok(())
}
