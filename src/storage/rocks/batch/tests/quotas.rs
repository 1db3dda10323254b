//! Counting, and what a quota refuses. That counters are right is checked by [`Disk`] with every
//! write, also in the random histories beside this file.

use super::*;

const THIRD_ORDER: &[u8] = b"\x07defaultorder-3";

fn of_keys(keys: u64) -> World {
    World::with_quota(Quota { keys: Some(keys), bytes: None })
}

fn refused(kind: QuotaKind) -> Result<(Decision, bool), EngineError> {
    Ok((Decision::Refused(Refusal::QuotaExceeded(kind)), false))
}

fn is_granted(answer: &Result<(Decision, bool), EngineError>) -> bool {
    matches!(answer, Ok((Decision::Granted(_), true)))
}

#[test]
fn a_life_is_counted_once_from_its_first_reserve_to_its_purge() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for command in [reserve(1, MINUTE), renew(1, HOUR), release(1), reserve(2, MINUTE)] {
        world.apply(ORDER, &command).unwrap();
        seen.push(world.usage().keys);
    }
    world.apply(ORDER, &complete(2, HOUR)).unwrap();
    world.apply(OTHER_ORDER, &reserve(1, HOUR)).unwrap();
    seen.push(world.usage().keys);
    world.setting.now = NOW.plus(HOUR);
    // What is over counts until it goes: here, with a second life of its key, once.
    world.apply(ORDER, &reserve(3, MINUTE)).unwrap();
    seen.push(world.usage().keys);
    world.setting.now = NOW.plus(DAY).plus(DAY);
    world.sweep();
    seen.push(world.usage().keys);
    assert_eq!(seen, [1, 1, 1, 1, 2, 2, 0]);
    assert_eq!(world.usage(), Usage::default());
}

#[test]
fn a_change_that_leaves_the_size_alone_writes_no_counter() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    let (_, changes) = world.batch(|batch| batch.apply(ORDER, &renew(1, HOUR)).unwrap());
    assert!(!changes.iter().any(|change| matches!(change, Change::Count { .. })), "{changes:?}");
}

#[test]
fn a_quota_of_keys_is_reached_and_not_passed_within_a_batch_too() {
    let mut world = of_keys(2);
    let (answers, _) = world.batch(|batch| {
        [ORDER, OTHER_ORDER, THIRD_ORDER, b"\x06orders1"]
            .map(|key| batch.apply(key, &reserve(1, MINUTE)))
    });
    assert!(is_granted(&answers[0]) && is_granted(&answers[1]));
    assert_eq!(answers[2], refused(QuotaKind::Keys));
    assert!(is_granted(&answers[3]), "another namespace has none");
    assert_eq!(world.setting.next_fencing_token.get(), 4, "a refusal takes no token");
    assert_eq!(world.usage().keys, 2);
}

#[test]
fn a_quota_of_bytes_counts_what_was_completed_and_refuses_no_completion() {
    let mut world = World::new();
    world.apply(ORDER, &reserve(1, MINUTE)).unwrap();
    let one = world.usage().bytes;
    assert!(one > ORDER.len() as u64);

    let mut world = World::with_quota(Quota { keys: None, bytes: Some(2 * one) });
    assert!(is_granted(&world.apply(ORDER, &reserve(1, MINUTE))));
    let large = Complete {
        response: Response { payload: vec![b'x'; 10_000], ..Response::default() },
        ..match complete(1, HOUR) {
            Command::Complete(complete) => complete,
            other => panic!("{other:?}"),
        }
    };
    let completed = world.apply(ORDER, &Command::Complete(large)).unwrap();
    assert!(matches!(completed, (Decision::Completed(_), true)));
    assert!(world.usage().bytes > 10_000);
    assert_eq!(world.apply(OTHER_ORDER, &reserve(1, MINUTE)), refused(QuotaKind::Bytes));
    // Once it is over it does not count, purged or not.
    world.setting.now = NOW.plus(HOUR);
    assert!(is_granted(&world.apply(OTHER_ORDER, &reserve(1, MINUTE))));
}

#[test]
fn what_goes_on_with_a_key_is_never_refused_for_a_quota() {
    let mut world = World::new();
    for key in [ORDER, OTHER_ORDER, THIRD_ORDER] {
        world.apply(key, &reserve(1, MINUTE)).unwrap();
    }
    // Lowered below what there is.
    let one = Quota { keys: Some(1), bytes: Some(1) };
    world.setting.quotas = Arc::new([(Namespace::default(), one)].into_iter().collect());
    let mut world = world.later(MINUTE);
    for command in [reserve(2, MINUTE), renew(2, HOUR), release(2), reserve(3, MINUTE)] {
        assert!(world.apply(ORDER, &command).unwrap().1, "{command:?}");
    }
    assert!(world.apply(ORDER, &fail(3)).unwrap().1);
    assert!(is_granted(&world.apply(ORDER, &reserve(4, MINUTE))), "a failed one is tried again");
    assert_eq!(world.usage().keys, 3);
}

#[test]
fn what_is_over_is_freed_before_a_quota_refuses() {
    let mut world = of_keys(2);
    for key in [ORDER, OTHER_ORDER] {
        world.apply(key, &reserve(1, MINUTE)).unwrap();
        world.apply(key, &complete(1, MINUTE)).unwrap();
    }
    world.setting.now = NOW.plus(Span::from_millis(MINUTE.as_millis() - 1));
    assert_eq!(world.apply(THIRD_ORDER, &reserve(1, MINUTE)), refused(QuotaKind::Keys));

    world.setting.now = NOW.plus(MINUTE);
    let (answer, changes) = world.batch(|batch| batch.apply(THIRD_ORDER, &reserve(1, MINUTE)));
    assert!(is_granted(&answer));
    assert_eq!(words(&changes).iter().filter(|word| **word == "delete").count(), 2);
    assert_eq!(world.usage().keys, 1);
}

#[test]
fn a_key_that_is_over_and_was_not_purged_makes_room_for_its_own_second_life() {
    let mut world = of_keys(1);
    world.apply(ORDER, &reserve(1, MINUTE)).unwrap();
    world.apply(ORDER, &complete(1, MINUTE)).unwrap();
    world.setting.now = NOW.plus(MINUTE);
    assert!(is_granted(&world.apply(ORDER, &reserve(2, MINUTE))));
    assert_eq!(world.usage().keys, 1);
}

#[test]
fn at_most_so_much_is_freed_and_looked_at_in_one_batch() {
    let quota = Quota { keys: Some(1), bytes: None };
    let key = |number: usize| format!("\x07defaultorder-{number:05}").into_bytes();
    let others = |number: usize| format!("\x05othero-{number:05}").into_bytes();
    let mut world = World::new();
    for number in 0..600 {
        world.apply(&key(number), &reserve(1, SECOND)).unwrap();
        world.apply(&key(number), &complete(1, SECOND)).unwrap();
    }
    world.setting.quotas = Arc::new([(Namespace::default(), quota)].into_iter().collect());
    let mut world = world.later(DAY).later(DAY);
    let deleted = |changes: &[Change]| words(changes).iter().filter(|it| **it == "delete").count();
    for freed in [FREED, FREED] {
        let (answers, changes) = world
            .batch(|batch| [ORDER, OTHER_ORDER].map(|key| batch.apply(key, &reserve(1, MINUTE))));
        assert_eq!(answers, [refused(QuotaKind::Keys), refused(QuotaKind::Keys)]);
        assert_eq!(deleted(&changes), freed);
    }
    assert!(is_granted(&world.apply(ORDER, &reserve(1, MINUTE))));

    // Where others have more to be purged than is looked at, the sweeper has to come first.
    let mut world = of_keys(1);
    for number in 0..LOOKED_AT {
        world.apply(&others(number), &reserve(1, Span::from_millis(1))).unwrap();
    }
    world.setting.now = NOW.plus(SECOND);
    world.apply(ORDER, &reserve(1, SECOND)).unwrap();
    let mut world = world.later(DAY).later(DAY);
    assert_eq!(world.apply(OTHER_ORDER, &reserve(1, MINUTE)), refused(QuotaKind::Keys));
    world.sweep();
    assert!(is_granted(&world.apply(OTHER_ORDER, &reserve(1, MINUTE))));
}

#[test]
fn an_unreadable_record_that_is_due_does_not_stand_in_the_way() {
    let mut world = of_keys(2);
    world.apply(ORDER, &reserve(1, MINUTE)).unwrap();
    world.apply(OTHER_ORDER, &reserve(1, MINUTE)).unwrap();
    let mut world = world.later(DAY).later(DAY);
    let batch_over = |world: &World, unreadable: &[u8]| {
        let mut disk = world.disk.clone();
        disk.unreadable.insert(unreadable.to_vec());
        let mut batch = Batch::new(&disk, world.setting.clone());
        batch.apply(THIRD_ORDER, &reserve(1, MINUTE))
    };
    assert!(is_granted(&batch_over(&world, ORDER)));
    world.sweep();
    assert_eq!(world.usage(), Usage::default());
}

#[test]
fn random_histories_under_a_quota_mean_the_same_purged_or_not() {
    over_random_histories(|history| {
        let quota = Quota { keys: Some(1), bytes: None };
        let (mut lazy, mut swept) = (World::with_quota(quota), World::with_quota(quota));
        let mut plain = Plain { quota_keys: Some(1), ..Plain::new() };
        for round in history {
            lazy.begin(round);
            swept.begin(round);
            plain.begin(round);
            if round.sweep_limit > 0 {
                swept.sweep();
            }
            let ask = |world: &mut World| {
                world.batch(|batch| round.steps.iter().map(|step| step.ask(batch)).collect()).0
            };
            let (lazily, sweepingly): (Vec<_>, Vec<_>) = (ask(&mut lazy), ask(&mut swept));
            let plainly: Vec<_> = round.steps.iter().map(|step| plain.ask(step)).collect();
            assert_eq!(lazily, plainly);
            assert_eq!(sweepingly, plainly);
        }
    });
}
