//! The counters of the engine in memory, held against a count of its records.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{
    Complete, Delete, Fingerprint, ForceComplete, ForceRelease, IdempotencyKey, LeaseExpiryAction,
    Namespace, Outcome, OwnerToken, Release, Renew, Reserve, Response, Span,
};

#[path = "../../../tests/harness/dice.rs"]
mod dice;

use dice::Dice;

fn response(dice: &mut Dice) -> Response {
    Response { payload: vec![0; dice.below(500) as usize], ..Response::default() }
}

fn command(dice: &mut Dice) -> Command {
    let owner_token = OwnerToken::from_bytes([dice.below(3) as u8; 16]);
    let span = Span::from_secs(1 + dice.below(100) as i64);
    let fencing_token = None;
    match dice.below(8) {
        0 | 1 => Command::Reserve(Reserve {
            fingerprint: Fingerprint::default(),
            owner_token,
            lease: span,
            lease_expiry_action: match dice.below(2) {
                0 => LeaseExpiryAction::Takeover,
                _ => LeaseExpiryAction::Hold,
            },
            retention: span,
            retry_failed: true,
            holder: "h".repeat(dice.below(100) as usize),
        }),
        2 => Command::Complete(Complete {
            owner_token,
            result: Outcome::Failed,
            response: response(dice),
            response_omitted: false,
            response_digest: [0; 32],
            response_size_bytes: 0,
            retention: span,
        }),
        3 => {
            let checkpoint = Some(vec![0; dice.below(300) as usize]);
            Command::Renew(Renew { owner_token, lease: span, checkpoint })
        }
        4 => Command::ForceRelease(ForceRelease { fencing_token }),
        5 => Command::ForceComplete(ForceComplete {
            fencing_token,
            result: Outcome::Succeeded,
            response: response(dice),
            response_omitted: false,
            response_digest: [0; 32],
            response_size_bytes: 0,
            retention: span,
        }),
        6 => Command::Delete(Delete { fencing_token }),
        _ => Command::Release(Release { owner_token }),
    }
}

#[test]
fn counters_are_what_a_count_of_the_records_says_whatever_happens() {
    let mut dice = Dice(dice::seed());
    let clock = Arc::new(ManualClock::at(Moment::from_millis(1_000_000_000)));
    let bounded = Quota { keys: Some(4), bytes: Some(2_000) };
    let quotas = [(Namespace::new("bounded".into()).unwrap(), bounded)].into_iter().collect();
    let engine =
        MemoryEngine::new(clock.clone(), &StoreOptions { quotas, ..StoreOptions::default() });
    let (mut refused, mut erased) = (0, 0);
    for number in 0..5_000_u32 {
        let namespace = if dice.below(2) == 0 { "bounded" } else { "default" };
        let namespace_name = Namespace::new(namespace.into()).unwrap();
        let key = keys::record_key(&RecordKey {
            namespace: namespace_name.clone(),
            key: IdempotencyKey::new(format!("order-{}", dice.below(8))).unwrap(),
        });
        let (before, was_there) = {
            let records = &engine.shared.inner.lock().unwrap().records;
            (records.usages.get(namespace.as_bytes()).copied(), records.records.contains_key(&key))
        };
        let question = Question::Apply(key.clone(), command(&mut dice));
        let answer = engine.shared.ask(question, None).unwrap().answer.into_decision();
        let inner = engine.shared.inner.lock().unwrap();
        let mut counted = Usages::new();
        for (key, record) in &inner.records.records {
            let usage = counted.entry(keys::namespace_of(key).to_vec()).or_default();
            *usage = usage.with(bytes_of(key, record));
        }
        assert_eq!(inner.records.usages, counted);
        let held =
            inner.records.records.iter().filter_map(|(key, record)| {
                record.in_doubt_from().map(|at| keys::expiry_key(at, key))
            });
        assert_eq!(inner.records.holds, held.collect());
        // A key is never granted beyond its quota.
        if matches!(answer, Decision::Granted(_)) && !was_there && namespace == "bounded" {
            let usage = inner.records.usages[namespace.as_bytes()];
            assert!(usage.keys <= 4 && usage.bytes <= 2_000, "{before:?} {usage:?}");
        }
        refused += u32::from(matches!(answer, Decision::Refused(Refusal::QuotaExceeded(_))));
        drop(inner);
        clock.advance(Span::from_millis(dice.below(3_000) as i64));
        if dice.below(20) == 0 {
            engine.purge(3).unwrap();
        }
        if dice.below(40) == 0 {
            let order = EraseOrder {
                namespace: namespace_name,
                id: uuid::Uuid::from_u128(u128::from(number) + 1),
                operator: "olga".into(),
                reason: "a test".into(),
            };
            engine.shared.look(|inner, now| inner.order_erase(order, now)).unwrap();
        }
        if dice.below(4) == 0 {
            erased += engine.erase_step(2).unwrap().records;
        }
    }
    assert!(refused > 0, "no quota was ever reached");
    assert!(erased > 0, "no erase ever met a record");
}
