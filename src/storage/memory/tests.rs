//! The counters of the engine in memory, held against a count of its records.

use super::*;
use crate::clock::ManualClock;
use crate::domain::{
    Complete, Fingerprint, IdempotencyKey, LeaseExpiryAction, Outcome, OwnerToken, Release, Renew,
    Reserve, Response, Span,
};

#[path = "../../../tests/harness/dice.rs"]
mod dice;

use dice::Dice;

fn command(dice: &mut Dice) -> Command {
    let owner_token = OwnerToken::from_bytes([dice.below(3) as u8; 16]);
    let span = Span::from_secs(1 + dice.below(100) as i64);
    match dice.below(5) {
        0 | 1 => Command::Reserve(Reserve {
            fingerprint: Fingerprint::default(),
            owner_token,
            lease: span,
            lease_expiry_action: LeaseExpiryAction::Takeover,
            retention: span,
            retry_failed: true,
            holder: "h".repeat(dice.below(100) as usize),
        }),
        2 => Command::Complete(Complete {
            owner_token,
            result: Outcome::Failed,
            response: Response {
                payload: vec![0; dice.below(500) as usize],
                ..Response::default()
            },
            response_omitted: false,
            response_digest: [0; 32],
            response_size_bytes: 0,
            retention: span,
        }),
        3 => {
            let checkpoint = Some(vec![0; dice.below(300) as usize]);
            Command::Renew(Renew { owner_token, lease: span, checkpoint })
        }
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
    let mut refused = 0;
    for _ in 0..5_000 {
        let namespace = if dice.below(2) == 0 { "bounded" } else { "default" };
        let key = RecordKey {
            namespace: Namespace::new(namespace.into()).unwrap(),
            key: IdempotencyKey::new(format!("order-{}", dice.below(8))).unwrap(),
        };
        let (before, was_there) = {
            let Inner { records, .. } = &*engine.shared.inner.lock().unwrap();
            (records.usages.get(&key.namespace).copied(), records.records.contains_key(&key))
        };
        let question = Question::Apply(key.clone(), command(&mut dice));
        let answer = engine.shared.ask(question, None).unwrap().answer.into_decision();
        let guard = engine.shared.inner.lock().unwrap();
        let inner = &guard.records;
        let mut counted: HashMap<Namespace, Usage> = HashMap::new();
        for (key, record) in &inner.records {
            let usage = counted.entry(key.namespace.clone()).or_default();
            *usage = usage.with(bytes_of(key, record));
        }
        assert_eq!(inner.usages, counted);
        // A key is never granted beyond its quota.
        if matches!(answer, Decision::Granted(_)) && !was_there && namespace == "bounded" {
            let usage = inner.usages[&key.namespace];
            assert!(usage.keys <= 4 && usage.bytes <= 2_000, "{before:?} {usage:?}");
        }
        refused += u32::from(matches!(answer, Decision::Refused(Refusal::QuotaExceeded(_))));
        drop(guard);
        clock.advance(Span::from_millis(dice.below(3_000) as i64));
        if dice.below(20) == 0 {
            engine.purge(3).unwrap();
        }
    }
    assert!(refused > 0, "no quota was ever reached");
}
