//! Promise 7 for namespaces: a quota is kept exactly, by what is on record and not by what was
//! purged, across restarts and kills; and nobody is refused whose work is done.

use std::path::Path;

use onced::domain::{Decision, Namespace, Outcome, QuotaKind, Refusal, Span};
use onced::storage::rocks::inspect::{Found, Inspection};
use onced::storage::{Quota, Quotas, Usages};

use crate::dice::{Dice, seed};
use crate::engines::{
    ANN, BOB, CLEO, LEASE, Lab, Need, RETENTION, Store, Verdict, complete, complete_with, leave,
    on_threads, owner, release, renew, reserve, reserve_for, reserve_with,
};

const NO_MORE_KEYS: Decision = Decision::Refused(Refusal::QuotaExceeded(QuotaKind::Keys));
const NO_MORE_BYTES: Decision = Decision::Refused(Refusal::QuotaExceeded(QuotaKind::Bytes));

fn quotas(keys: Option<u64>, bytes: Option<u64>) -> Quotas {
    [(Namespace::default(), Quota { keys, bytes })].into_iter().collect()
}

fn of_keys(keys: u64) -> Quotas {
    quotas(Some(keys), None)
}

/// Reserves and completes, for so many seconds in all.
fn lives_for(store: &Store, key: &str, secs: i64) {
    let span = Span::from_secs(secs);
    store.granted(key, reserve_for(ANN, span));
    store.decide(key, complete_with(ANN, |complete| complete.retention = span));
}

/// What the counters of a directory say, and what a count of its records says.
pub fn counters_and_counts(directory: &Path) -> [Usages; 2] {
    let inspection = Inspection::open(directory).unwrap();
    let counters = inspection.usages().unwrap().expect("the format has counters");
    let mut counts = Usages::new();
    inspection
        .scan(|found| {
            let (namespace, bytes) = match found {
                Found::Record { namespace, bytes, .. } => (namespace.as_bytes(), bytes),
                Found::Damaged { namespace, bytes, .. } => (namespace, bytes),
            };
            let usage = counts.entry(namespace.to_vec()).or_default();
            usage.keys += 1;
            usage.bytes += bytes;
            true
        })
        .unwrap();
    [counters, counts]
}

pub fn promise_7_a_quota_of_keys_refuses_one_key_more_and_nothing_else(mut lab: Lab) -> Verdict {
    lab.options.quotas = of_keys(2);
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let second = store.granted("order-2", reserve(ANN));

    // One key more is refused, and surely nothing was written for it.
    assert_eq!(store.decide("order-3", reserve(ANN)), NO_MORE_KEYS);
    assert_eq!(store.lookup("order-3"), None);

    // Whatever goes on with a key that is there is taken.
    assert!(matches!(store.decide("order-1", reserve(BOB)), Decision::InProgress(_)));
    assert!(matches!(store.decide("order-1", leave(ANN, "page 7")), Decision::Renewed { .. }));
    assert_eq!(store.decide("order-1", release(ANN)), Decision::Released);
    assert_eq!(store.granted("order-1", reserve(BOB)).attempt, 2);
    lab.clock.advance(LEASE);
    assert!(store.granted("order-1", reserve(CLEO)).takeover);
    let failed = complete_with(CLEO, |complete| complete.result = Outcome::Failed);
    assert!(matches!(store.decide("order-1", failed), Decision::Completed(_)));
    let retried = reserve_with(BOB, |reserve| reserve.retry_failed = true);
    let latest = store.granted("order-1", retried);
    assert_eq!(latest.attempt, 4);

    // And a refusal used up no token that rises.
    assert!(latest.fencing_token > second.fencing_token);
    assert_eq!(store.decide("order-3", reserve(ANN)), NO_MORE_KEYS);
    Ok(())
}

pub fn promise_7_a_quota_of_bytes_counts_what_was_completed(mut lab: Lab) -> Verdict {
    lab.options.quotas = quotas(None, Some(10_000));
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let large = complete_with(ANN, |complete| {
        complete.response.payload = vec![b'x'; 20_000];
        complete.retention = Span::from_secs(60);
    });
    // The work is done: it is taken, also far beyond the quota.
    assert!(matches!(store.decide("order-1", large), Decision::Completed(_)));
    assert_eq!(store.decide("order-2", reserve(ANN)), NO_MORE_BYTES);
    // Until it is over.
    lab.clock.advance(Span::from_secs(59));
    assert_eq!(store.decide("order-2", reserve(ANN)), NO_MORE_BYTES);
    lab.clock.advance(Span::from_secs(1));
    store.granted("order-2", reserve(ANN));
    Ok(())
}

pub fn promise_7_what_is_over_does_not_count_purged_or_not(mut lab: Lab) -> Verdict {
    lab.options.quotas = of_keys(3);
    let store = lab.open();
    for (key, secs) in [("order-1", 10), ("order-2", 20), ("order-3", 30)] {
        lives_for(&store, key, secs);
    }
    assert_eq!(store.decide("order-4", reserve(ANN)), NO_MORE_KEYS);

    // On the millisecond at which the first is over there is room for one, and for no more.
    lab.clock.advance(Span::from_millis(9_999));
    assert_eq!(store.decide("order-4", reserve(ANN)), NO_MORE_KEYS);
    lab.clock.advance(Span::from_millis(1));
    store.granted("order-4", reserve_with(ANN, |reserve| reserve.retention = RETENTION));
    assert_eq!(store.decide("order-5", reserve(ANN)), NO_MORE_KEYS);

    // The sweeper changes nothing about it.
    lab.clock.advance(Span::from_secs(10));
    assert_eq!(store.purge_all(), 1);
    store.granted("order-5", reserve(ANN));
    assert_eq!(store.decide("order-6", reserve(ANN)), NO_MORE_KEYS);

    // A key that is over and was not purged makes room for its own second life.
    lab.clock.advance(Span::from_secs(10));
    store.granted("order-3", reserve(BOB));
    assert_eq!(store.decide("order-6", reserve(ANN)), NO_MORE_KEYS);
    Ok(())
}

pub fn promise_7_a_crowd_does_not_pass_a_quota(mut lab: Lab) -> Verdict {
    lab.options.quotas = of_keys(50);
    let store = lab.open();
    let granted: usize = on_threads(4, |caller, runtime| {
        (0..40)
            .filter(|number| {
                let key = crate::engines::key_of(&format!("{caller}-{number}"));
                let call = store.engine.apply(key, reserve(owner(caller)), None);
                match runtime.block_on(call).unwrap().answer {
                    Decision::Granted(_) => true,
                    refused => {
                        assert_eq!(refused, NO_MORE_KEYS);
                        false
                    }
                }
            })
            .count()
    })
    .into_iter()
    .sum();
    assert_eq!(granted, 50);
    Ok(())
}

pub fn promise_7_a_quota_counts_across_restarts_and_kills(mut lab: Lab) -> Verdict {
    lab.directory(Need::Restart)?;
    lab.options.quotas = of_keys(3);
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    let store = lab.restart(store)?;
    store.granted("order-2", reserve(ANN));
    let store = lab.kill(store)?;
    store.granted("order-3", reserve(ANN));
    let store = lab.kill(store)?;
    assert_eq!(store.decide("order-4", reserve(ANN)), NO_MORE_KEYS);
    Ok(())
}

pub fn promise_7_a_changed_quota_holds_from_the_next_start_on(mut lab: Lab) -> Verdict {
    lab.directory(Need::Restart)?;
    // Given two keys from the time when there was no quota.
    let store = lab.open();
    store.granted("order-1", reserve(ANN));
    store.granted("order-2", reserve(ANN));

    // Then one below what there is refuses, and takes nothing away,
    lab.options.quotas = of_keys(1);
    let store = lab.restart(store)?;
    assert_eq!(store.decide("order-3", reserve(ANN)), NO_MORE_KEYS);
    assert!(matches!(store.decide("order-1", renew(ANN, LEASE)), Decision::Renewed { .. }));
    assert!(matches!(store.decide("order-2", complete(ANN)), Decision::Completed(_)));

    // one above it does not, and none refuses nothing.
    lab.options.quotas = of_keys(3);
    let store = lab.restart(store)?;
    store.granted("order-3", reserve(ANN));
    assert_eq!(store.decide("order-4", reserve(ANN)), NO_MORE_KEYS);
    lab.options.quotas = Quotas::default();
    let store = lab.restart(store)?;
    store.granted("order-4", reserve(ANN));
    Ok(())
}

pub fn promise_7_counters_say_what_a_count_says_whatever_happened(mut lab: Lab) -> Verdict {
    lab.directory(Need::Restart)?;
    let mut dice = Dice(seed());
    let mut store = lab.open();
    for round in 0..60 {
        // Given any commands, some of them together,
        let commands = (0..1 + dice.below(40))
            .map(|_| {
                let owner_token = owner(dice.below(3) as usize);
                let secs = Span::from_secs(1 + dice.below(200) as i64);
                let command = match dice.below(8) {
                    0..=3 => reserve_with(owner_token, |reserve| {
                        (reserve.lease, reserve.retention) = (secs, secs);
                        reserve.retry_failed = true;
                        reserve.holder = "h".repeat(dice.below(128) as usize);
                    }),
                    4 | 5 => complete_with(owner_token, |complete| {
                        complete.retention = secs;
                        complete.response.payload = vec![b'x'; dice.below(40_000) as usize];
                    }),
                    6 => leave(owner_token, &"c".repeat(dice.below(2_000) as usize)),
                    _ => release(owner_token),
                };
                (format!("order-{}", dice.below(30)), command)
            })
            .collect();
        assert!(store.together(commands).iter().all(Result::is_ok));

        // and then time, a purge, an end of any kind, another quota.
        lab.clock.advance(Span::from_secs(dice.below(60) as i64));
        if dice.below(3) == 0 {
            store.purge(dice.below(20) as usize + 1);
        }
        if dice.below(4) == 0 {
            lab.options.quotas = of_keys(10 + dice.below(20));
        }
        store = match dice.below(6) {
            0 => lab.restart(store)?,
            1 => lab.kill(store)?,
            _ => store,
        };

        // Then the counters are those of what is there.
        if round % 5 == 4 {
            drop(store);
            let [counters, counts] = counters_and_counts(&lab.directory(Need::Restart)?);
            assert_eq!(counters, counts);
            store = lab.open();
        }
    }
    Ok(())
}
