//! Tests of the overlay, with a map in the place of the disk.
//!
//! [`Disk`] checks with every write that the expiry index has exactly one entry for each
//! record, the index of holds one for each that comes in doubt, and that the counters say what
//! a count of the records says.
//! The random histories hold batches against [`Plain`], which shares `decide` with them and
//! nothing else: it has no overlay, no index, no purge, and prolongs leases when a restart
//! happens instead of when a record is read.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;
// A batch has an `Outcome` of its own.
use crate::domain::Outcome as Ending;
use crate::domain::{
    Complete, Delete, Fingerprint, ForceComplete, ForceRelease, LeaseExpiryAction, Namespace,
    OwnerToken, Release, Renew, Reserve, Response,
};

mod quotas;

const NOW: Moment = Moment::from_millis(1_000_000_000);
const SECOND: Span = Span::from_secs(1);
const MINUTE: Span = Span::from_secs(60);
const HOUR: Span = Span::from_secs(60 * 60);
const DAY: Span = Span::from_secs(24 * 60 * 60);

const ORDER: &[u8] = b"\x07defaultorder-1";
const OTHER_ORDER: &[u8] = b"\x07defaultorder-2";

// A batch is an order.

#[test]
fn a_second_reserve_in_the_same_batch_sees_the_first() {
    let mut world = World::new();

    let (answers, changes) = world
        .batch(|batch| [1, 2].map(|owner| batch.apply(ORDER, &reserve(owner, MINUTE)).unwrap()));

    assert!(matches!(&answers[0], (Decision::Granted(granted), true) if granted.attempt == 1));
    assert!(matches!(&answers[1], (Decision::InProgress(busy), false)
        if busy.holder == "owner 1" && busy.lease_until == NOW.plus(MINUTE)));
    assert_eq!(words(&changes), ["index", "put"]);
}

#[test]
fn a_whole_life_in_one_batch_is_one_write() {
    let mut world = World::new();

    let (_, changes) = world.batch(|batch| {
        let life = [
            reserve(1, MINUTE),
            renew(1, HOUR),
            release(1),
            reserve(2, MINUTE),
            complete(2, DAY),
            reserve(3, MINUTE),
        ];
        let mut answers = life.map(|command| batch.apply(ORDER, &command).unwrap()).into_iter();
        assert!(matches!(answers.next(), Some((Decision::Granted(_), true))));
        assert!(matches!(answers.next(), Some((Decision::Renewed { .. }, true))));
        assert!(matches!(answers.next(), Some((Decision::Released, true))));
        let second = answers.next();
        assert!(matches!(second, Some((Decision::Granted(granted), true))
            if granted.attempt == 2 && granted.fencing_token.get() == 2));
        assert!(matches!(answers.next(), Some((Decision::Completed(_), true))));
        assert!(matches!(answers.next(), Some((Decision::Replayed(_), false))));
    });

    assert_eq!(words(&changes), ["index", "put"]);
    assert_eq!(world.setting.next_fencing_token.get(), 3);
}

#[test]
fn what_was_only_read_can_be_forgotten_and_what_was_changed_cannot() {
    let mut world = World::after(&[reserve(1, MINUTE), complete(1, DAY)]);

    let (_, changes) = world.batch(|batch| {
        let replayed = batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        batch.apply(OTHER_ORDER, &reserve(2, MINUTE)).unwrap();
        for record_key in [ORDER, OTHER_ORDER] {
            batch.forget(&record_key.to_vec());
        }
        assert_eq!(batch.overlay.len(), 1, "the one that was read takes no memory any more");
        assert_eq!(batch.apply(ORDER, &reserve(2, MINUTE)).unwrap(), replayed);
        let held = batch.apply(OTHER_ORDER, &reserve(1, MINUTE)).unwrap().0;
        assert!(matches!(held, Decision::InProgress(busy) if busy.holder == "owner 2"));
    });

    assert_eq!(words(&changes), ["index", "put"]);
}

#[test]
fn a_lookup_sees_what_came_before_it_in_the_batch_and_nothing_that_comes_after() {
    let mut world = World::new();

    let (seen, _) = world.batch(|batch| {
        let before = batch.lookup(ORDER).unwrap();
        batch.apply(ORDER, &reserve(1, MINUTE)).unwrap();
        let reserved = batch.lookup(ORDER).unwrap();
        batch.apply(ORDER, &complete(1, DAY)).unwrap();
        [before, reserved, batch.lookup(ORDER).unwrap(), batch.lookup(OTHER_ORDER).unwrap()]
    });

    assert_eq!(seen[0], None);
    assert!(matches!(seen[1].as_ref().unwrap().state, State::Reserved { .. }));
    assert!(matches!(seen[2].as_ref().unwrap().state, State::Completed(_)));
    assert_eq!(seen[3], None);
}

#[test]
fn a_lookup_finds_nothing_once_retention_is_over_although_nothing_was_purged() {
    let mut world = World::after(&[reserve(1, MINUTE), complete(1, HOUR)]);

    world.setting.now = NOW.plus(Span::from_millis(HOUR.as_millis() - 1));
    assert!(world.batch(|batch| batch.lookup(ORDER)).0.unwrap().is_some());
    world.setting.now = NOW.plus(HOUR);
    assert_eq!(world.batch(|batch| batch.lookup(ORDER)).0, Ok(None));
    assert!(world.disk.records.contains_key(ORDER));
}

#[test]
fn a_batch_that_only_asks_and_refuses_writes_nothing() {
    let mut world = World::after(&[reserve(1, MINUTE)]);

    let (_, changes) = world.batch(|batch| {
        batch.lookup(ORDER).unwrap();
        for command in [reserve(1, HOUR), reserve(2, HOUR), complete(2, DAY), renew(2, HOUR)] {
            assert!(!batch.apply(ORDER, &command).unwrap().1);
        }
        let refused = batch.apply(OTHER_ORDER, &release(1)).unwrap();
        assert_eq!(refused, (Decision::Refused(Refusal::NotFound), false));
    });

    assert_eq!(changes, []);
}

#[test]
fn each_grant_of_a_batch_takes_the_next_fencing_token_and_nothing_else_takes_one() {
    let mut world = World::new();
    world.setting.next_fencing_token = FencingToken::new(41).unwrap();

    let (tokens, _) = world.batch(|batch| {
        let mut tokens = Vec::new();
        for (key, owner) in [(ORDER, 1), (ORDER, 2), (ORDER, 1), (OTHER_ORDER, 2)] {
            if let Decision::Granted(granted) = batch.apply(key, &reserve(owner, MINUTE)).unwrap().0
            {
                tokens.push(granted.fencing_token.get());
            }
        }
        tokens
    });

    // The second 41 is the first owner's, whose answer was lost.
    assert_eq!(tokens, [41, 41, 42]);
    assert_eq!(world.setting.next_fencing_token.get(), 43);
}

#[test]
fn random_batches_mean_the_same_as_their_commands_one_after_another() {
    over_random_histories(|history| {
        let (mut together, mut alone, mut plain) = (World::new(), World::new(), Plain::new());
        for round in history {
            for world in [&mut together, &mut alone] {
                world.begin(round);
            }
            plain.begin(round);

            let (answers, changes) = together.batch(|batch| {
                let keys = round.steps.iter().map(|step| KEYS[step.key]);
                batch.read_ahead(keys, &mut Together::at_most(32));
                round.steps.iter().map(|step| step.ask(batch)).collect::<Vec<_>>()
            });
            let one_by_one: Vec<_> =
                round.steps.iter().map(|step| alone.batch(|batch| step.ask(batch)).0).collect();
            let plainly: Vec<_> = round.steps.iter().map(|step| plain.ask(step)).collect();

            assert_eq!(answers, plainly);
            assert_eq!(answers, one_by_one);
            assert_eq!(together.records(), alone.records());
            assert_eq!(together.setting.next_fencing_token, plain.next_fencing_token);
            assert_eq!(alone.setting.next_fencing_token, plain.next_fencing_token);
            let wrote = answers.iter().any(Answer::wrote);
            assert!(wrote || changes.is_empty());
            // What comes and goes in one batch leaves nothing to write.
            let deletes =
                round.steps.iter().any(|it| matches!(it.command, Some(Command::Delete(_))));
            assert!(deletes || changes.is_empty() != wrote);
        }
    });
}

// A batch fails in parts.

#[test]
fn an_unreadable_record_fails_its_own_commands_and_no_others() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    world.apply(OTHER_ORDER, &reserve(1, MINUTE)).unwrap();
    world.disk.unreadable.insert(ORDER.to_vec());

    let ((), changes) = world.batch(|batch| {
        batch.read_ahead([ORDER, OTHER_ORDER].into_iter(), &mut Together::at_most(32));
        assert!(batch.apply(OTHER_ORDER, &renew(1, HOUR)).is_ok());
        assert_eq!(batch.apply(ORDER, &renew(1, HOUR)), Err(EngineError::Corrupted));
        assert_eq!(batch.lookup(ORDER), Err(EngineError::Corrupted));
        assert_eq!(batch.follow(NOW, ORDER), Err(EngineError::Corrupted));
        assert!(batch.apply(OTHER_ORDER, &complete(1, DAY)).is_ok());
    });

    assert_eq!(touched(&changes), BTreeSet::from([OTHER_ORDER.to_vec()]));
    let completed = &world.disk.records[OTHER_ORDER].record.state;
    assert!(matches!(completed, State::Completed(_)));
}

#[test]
fn a_nearly_full_disk_refuses_every_command_that_would_create_an_attempt() {
    for (case, mut world) in [
        ("vacant", World::new()),
        ("retention over", World::after(&[reserve(9, MINUTE)]).later(MINUTE).later(DAY)),
        ("lapsed", World::after(&[reserve(9, MINUTE)]).later(MINUTE)),
        ("released", World::after(&[reserve(9, MINUTE), release(9)])),
        ("failed", World::after(&[reserve(9, MINUTE), fail(9)])),
    ] {
        let next_fencing_token = world.setting.next_fencing_token;
        world.setting.room = Room::Little;
        let ((before, refused, after), changes) = world.batch(|batch| {
            let before = batch.lookup(ORDER);
            (before, batch.apply(ORDER, &reserve(1, MINUTE)), batch.lookup(ORDER))
        });
        assert_eq!(refused, Err(EngineError::Full), "{case}");
        assert_eq!(before, after, "{case}");
        assert_eq!(changes, [], "{case}");
        assert_eq!(world.setting.next_fencing_token, next_fencing_token, "{case}");

        world.setting.room = Room::Enough;
        let granted = world.apply(ORDER, &reserve(1, MINUTE));
        assert!(matches!(granted, Ok((Decision::Granted(_), true))), "{case}");
    }
}

#[test]
fn a_nearly_full_disk_takes_everything_that_goes_on_with_an_attempt_or_ends_it() {
    let mut world = World::new();
    for key in [ORDER, OTHER_ORDER] {
        world.apply(key, &reserve(1, MINUTE)).unwrap();
    }
    world.setting.room = Room::Little;

    world.batch(|batch| {
        // One grant that is refused does not spoil the batch.
        assert_eq!(batch.apply(b"\x01ak", &reserve(1, MINUTE)), Err(EngineError::Full));
        let again = batch.apply(ORDER, &reserve(1, MINUTE)).unwrap();
        assert!(matches!(again, (Decision::Granted(_), false)));
        let duplicate = batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        assert!(matches!(duplicate, (Decision::InProgress(_), false)));
        let renewed = batch.apply(ORDER, &renew(1, HOUR)).unwrap();
        assert!(matches!(renewed, (Decision::Renewed { .. }, true)));
        let completed = batch.apply(ORDER, &complete(1, DAY)).unwrap();
        assert!(matches!(completed, (Decision::Completed(_), true)));
        let replayed = batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        assert!(matches!(replayed, (Decision::Replayed(_), false)));
        assert_eq!(batch.apply(OTHER_ORDER, &release(1)), Ok((Decision::Released, true)));
    });

    assert!(matches!(world.disk.records[ORDER].record.state, State::Completed(_)));
    assert!(matches!(world.disk.records[OTHER_ORDER].record.state, State::Released { .. }));
}

#[test]
fn where_room_is_scarce_results_and_checkpoints_wait_and_reservations_can_be_given_back() {
    let mut world = World::new();
    for key in [ORDER, OTHER_ORDER] {
        world.apply(key, &reserve(1, MINUTE)).unwrap();
    }
    world.setting.room = Room::Scarce;
    let (_, changes) = world.batch(|batch| {
        for refused in [reserve(1, MINUTE), complete(1, DAY), renew(1, HOUR)] {
            let key = if matches!(refused, Command::Reserve(_)) { b"\x01ak" } else { ORDER };
            assert_eq!(batch.apply(key, &refused), Err(EngineError::Full), "{refused:?}");
        }
        // Nothing of it has happened, and who asks is told what is on record.
        let duplicate = batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        assert!(matches!(duplicate, (Decision::InProgress(_), false)));
        assert_eq!(batch.apply(OTHER_ORDER, &release(1)), Ok((Decision::Released, true)));
    });
    assert_eq!(words(&changes), ["put"]);

    world.setting.room = Room::Enough;
    let completed = world.apply(ORDER, &complete(1, DAY)).unwrap();
    assert!(matches!(completed, (Decision::Completed(_), true)));
    // Sent again, it changes nothing, and is answered where there is no room as well.
    world.setting.room = Room::Scarce;
    let again = world.apply(ORDER, &complete(1, DAY)).unwrap();
    assert!(matches!(again, (Decision::Completed(_), false)));
}

// The index.

#[test]
fn a_reservation_is_indexed_where_its_retention_is_over() {
    let world = World::after(&[reserve(1, MINUTE)]);
    assert_eq!(world.disk.index, BTreeSet::from([(NOW.plus(MINUTE).plus(DAY), ORDER.to_vec())]));
}

#[test]
fn a_completion_with_the_retention_of_its_reservation_writes_nothing_but_the_record() {
    for passed in [Span::default(), SECOND, MINUTE] {
        let mut world = World::after(&[reserve(1, MINUTE)]).later(passed);
        let (_, changes) = world.batch(|batch| batch.apply(ORDER, &complete(1, DAY)).unwrap());
        assert_eq!(words(&changes), ["put"], "{passed}");
    }
}

#[test]
fn a_renewal_and_a_release_write_nothing_but_the_record() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    for command in [renew(1, SECOND), renew(1, DAY), renew(1, MINUTE), release(1)] {
        world.setting.now = world.setting.now.plus(SECOND);
        let (_, changes) = world.batch(|batch| batch.apply(ORDER, &command).unwrap());
        assert_eq!(words(&changes), ["put"], "{command:?}");
    }
}

#[test]
fn a_completion_that_is_kept_much_shorter_moves_the_entry_to_where_it_ends() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    let (_, changes) = world.batch(|batch| batch.apply(ORDER, &complete(1, MINUTE)).unwrap());
    assert_eq!(words(&changes), ["unindex", "index", "put"]);
    assert_eq!(world.disk.index, BTreeSet::from([(NOW.plus(MINUTE), ORDER.to_vec())]));
}

#[test]
fn a_completion_that_is_kept_longer_leaves_the_entry_and_is_found_again_through_it() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    let ninety_days = Span::from_secs(90 * 24 * 60 * 60);
    let (_, changes) = world.batch(|batch| batch.apply(ORDER, &complete(1, ninety_days)).unwrap());
    assert_eq!(words(&changes), ["put"]);

    let due_at = NOW.plus(MINUTE).plus(DAY);
    world.setting.now = due_at;
    let (gone, changes) = world.batch(|batch| batch.follow(due_at, ORDER));
    assert_eq!(gone, Ok(false));
    assert_eq!(words(&changes), ["unindex", "index", "put"]);
    assert_eq!(world.disk.index, BTreeSet::from([(NOW.plus(ninety_days), ORDER.to_vec())]));
}

#[test]
fn a_purged_record_leaves_neither_record_nor_entry() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    let over_at = NOW.plus(MINUTE).plus(DAY);
    world.setting.now = over_at;
    assert_eq!(world.batch(|batch| batch.follow(over_at, ORDER)).0, Ok(true));
    assert_eq!((world.disk.records.len(), world.disk.index.len()), (0, 0));
}

#[test]
fn a_stale_entry_is_dropped_and_its_record_left_alone() {
    let world = World::after(&[reserve(1, MINUTE)]);
    let before = world.disk.clone();

    // Entries that no batch leaves behind; one of them points at no record.
    for (at, key) in [(NOW, ORDER), (NOW, OTHER_ORDER)] {
        let mut disk = before.clone();
        disk.index.insert((at, key.to_vec()));
        let mut batch = Batch::new(&disk, world.setting.clone());
        assert_eq!(batch.follow(at, key), Ok(false));
        let changes = batch.finish().changes;
        assert_eq!(changes, [Change::Unindex { at, record_key: key.to_vec() }]);
        disk.write(&changes);
        assert_eq!(disk, before);
    }
}

#[test]
fn an_entry_is_followed_right_whatever_else_the_batch_does_to_its_record() {
    let over_at = NOW.plus(MINUTE).plus(DAY);
    let reserved = || World::after(&[reserve(1, MINUTE)]).later(MINUTE).later(DAY);

    // The key was taken again before the sweeper came: nothing goes.
    let mut world = reserved();
    let (gone, _) = world.batch(|batch| {
        batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        batch.follow(over_at, ORDER)
    });
    assert_eq!(gone, Ok(false));
    assert_eq!(world.disk.records[ORDER].record.owner_token, owner(2));

    // The sweeper came first: the key is taken as if it had never been.
    let mut world = reserved();
    let (gone, _) = world.batch(|batch| {
        let gone = batch.follow(over_at, ORDER);
        batch.apply(ORDER, &reserve(2, MINUTE)).unwrap();
        gone
    });
    assert_eq!(gone, Ok(true));
    assert_eq!(world.disk.records[ORDER].record.owner_token, owner(2));

    // One entry is followed twice: the record goes once.
    let mut world = reserved();
    let (gone, _) = world.batch(|batch| [(); 2].map(|()| batch.follow(over_at, ORDER)));
    assert_eq!(gone, [Ok(true), Ok(false)]);
    assert_eq!(world.disk, Disk::default());
}

#[test]
fn random_sweeps_change_no_answer_and_in_the_end_everything_goes() {
    over_random_histories(|history| {
        let (mut swept, mut plain) = (World::new(), Plain::new());
        for round in history {
            swept.begin(round);
            plain.begin(round);

            // The sweeper comes in the middle of a batch, which the engine spares it.
            let due = swept.due(round.sweep_limit);
            let (before, after) = round.steps.split_at(round.steps.len() / 2);
            let (answers, _) = swept.batch(|batch| {
                let mut answers: Vec<_> = before.iter().map(|step| step.ask(batch)).collect();
                for (at, record_key) in &due {
                    batch.follow(*at, record_key).unwrap();
                }
                answers.extend(after.iter().map(|step| step.ask(batch)));
                answers
            });
            assert!(due.iter().all(|entry| !swept.disk.index.contains(entry)));

            let plainly: Vec<_> = round.steps.iter().map(|step| plain.ask(step)).collect();
            assert_eq!(answers, plainly);
            assert_eq!(swept.setting.next_fencing_token, plain.next_fencing_token);
        }

        // An entry may be early by as much as it likes, and late by its slack: two visits find
        // everything, the second a hundred days and an eighth of it after the last command.
        swept.sweep();
        swept.setting.now = swept.setting.now.plus(Span::from_secs(113 * 24 * 60 * 60));
        swept.sweep();
        assert_eq!(swept.disk, Disk::default());
    });
}

// The index of holds.

#[test]
fn a_hold_is_indexed_at_the_end_of_its_lease_and_moves_with_it() {
    let mut world = World::after(&[hold(1, MINUTE)]);
    assert_eq!(world.disk.holds, BTreeSet::from([(NOW.plus(MINUTE), ORDER.to_vec())]));

    let (_, changes) = world.batch(|batch| batch.apply(ORDER, &renew(1, HOUR)).unwrap());
    assert_eq!(words(&changes), ["unhold", "hold", "put"]);
    assert_eq!(world.disk.holds, BTreeSet::from([(NOW.plus(HOUR), ORDER.to_vec())]));
}

#[test]
fn a_hold_that_ends_is_not_indexed_and_a_takeover_never_was() {
    let seen = None;
    for (end, changes_of_end) in [
        (release(1), &["unhold", "put"][..]),
        (complete(1, DAY), &["unhold", "put"]),
        (Command::ForceRelease(ForceRelease { fencing_token: seen }), &["unhold", "put"]),
        (Command::Delete(Delete { fencing_token: seen }), &["unindex", "unhold", "delete"]),
    ] {
        let mut world = World::after(&[hold(1, MINUTE)]);
        let (_, changes) = world.batch(|batch| batch.apply(ORDER, &end).unwrap());
        assert_eq!(words(&changes), changes_of_end, "{end:?}");
        assert_eq!(world.disk.holds, BTreeSet::new(), "{end:?}");
    }
    let world = World::after(&[reserve(1, MINUTE)]);
    assert_eq!(world.disk.holds, BTreeSet::new());
}

#[test]
fn a_hold_that_an_outage_prolonged_keeps_its_place_until_it_is_written_again() {
    let mut world = World::after(&[hold(1, MINUTE)]);
    world.setting.now = UP_AT;
    world.setting.run = 2;
    world.setting.grace = Arc::from([WINDOW]);
    world.batch(|batch| batch.lookup(ORDER)).0.unwrap();
    assert_eq!(world.disk.holds, BTreeSet::from([(NOW.plus(MINUTE), ORDER.to_vec())]));

    // The sweeper writes it again, with the end that it has now.
    let at = world.disk.records[ORDER].indexed_at;
    world.batch(|batch| batch.follow(at, ORDER)).0.unwrap();
    assert_eq!(world.disk.holds, BTreeSet::from([(WINDOW.until, ORDER.to_vec())]));
}

#[test]
fn an_erase_takes_records_up_to_its_ceiling_and_spares_later_ones() {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    world.apply(OTHER_ORDER, &hold(1, MINUTE)).unwrap();
    let ceiling = FencingToken::FIRST;
    let (gone, _) = world.batch(|batch| {
        [ORDER, OTHER_ORDER, b"\x01ak"].map(|key| batch.erase(key, ceiling).unwrap())
    });
    assert_eq!(gone, [true, false, false]);
    assert_eq!(world.disk.records.keys().collect::<Vec<_>>(), [OTHER_ORDER]);

    // A key that is reserved anew before its turn comes is spared as well.
    let (gone, _) = world.batch(|batch| {
        batch.apply(OTHER_ORDER, &Command::Delete(Delete { fencing_token: None })).unwrap();
        batch.apply(OTHER_ORDER, &reserve(2, MINUTE)).unwrap();
        batch.erase(OTHER_ORDER, FencingToken::new(2).unwrap())
    });
    assert_eq!(gone, Ok(false));
}

// Grace after a restart.

/// The engine was down from `NOW` on, is up an hour later, and grants ten seconds.
const UP_AT: Moment = NOW.plus(HOUR);
const WINDOW: GraceWindow =
    GraceWindow { run: 2, from: NOW, until: UP_AT.plus(Span::from_secs(10)) };

#[test]
fn a_lease_that_ended_during_the_outage_ends_with_the_grace() {
    let a_moment = Span::from_millis(1);
    for lease_until in [NOW.plus(a_moment), NOW.plus(SECOND), UP_AT, UP_AT.plus(SECOND)] {
        assert_eq!(prolonged(1, lease_until, &[WINDOW]), WINDOW.until, "{lease_until:?}");
    }
}

#[test]
fn a_lease_that_lapsed_before_the_outage_stays_lapsed() {
    // At the last moment that was shown, it had lapsed: a lease ends when it no longer runs.
    for lease_until in [Moment::from_millis(NOW.as_millis() - 1), NOW] {
        assert_eq!(prolonged(1, lease_until, &[WINDOW]), lease_until);
    }
}

#[test]
fn a_lease_that_ends_after_the_grace_is_as_long_as_its_owner_was_told() {
    for lease_until in [WINDOW.until, WINDOW.until.plus(Span::from_millis(1))] {
        assert_eq!(prolonged(1, lease_until, &[WINDOW]), lease_until);
    }
}

#[test]
fn a_lease_that_was_given_after_the_restart_is_as_long_as_its_owner_was_told() {
    for run in [2, 3] {
        assert_eq!(prolonged(run, UP_AT.plus(SECOND), &[WINDOW]), UP_AT.plus(SECOND));
    }
}

#[test]
fn a_crash_within_the_grace_hands_its_leases_on_to_the_next() {
    // The second run ends a second after it began; the third begins a minute later.
    let up_again_at = UP_AT.plus(MINUTE);
    let again = GraceWindow { run: 3, from: UP_AT.plus(SECOND), until: up_again_at.plus(MINUTE) };
    assert_eq!(prolonged(1, NOW.plus(SECOND), &[WINDOW, again]), again.until);
    // What the second run granted knows the second outage only, and the third run's neither.
    assert_eq!(prolonged(2, UP_AT.plus(MINUTE), &[WINDOW, again]), again.until);
    assert_eq!(prolonged(2, UP_AT, &[WINDOW, again]), UP_AT);
    assert_eq!(prolonged(3, UP_AT.plus(MINUTE), &[WINDOW, again]), UP_AT.plus(MINUTE));
}

#[test]
fn a_lease_that_lapsed_after_the_grace_stays_lapsed_across_the_next_restart() {
    let again = GraceWindow { run: 3, from: UP_AT.plus(MINUTE), until: UP_AT.plus(HOUR) };
    assert_eq!(prolonged(1, NOW.plus(SECOND), &[WINDOW, again]), WINDOW.until);
}

#[test]
fn grace_concerns_reservations_only() {
    let mut world = World::after(&[reserve(1, MINUTE), release(1)]);
    let before = world.disk.records[ORDER].record.clone();
    world.setting.now = UP_AT;
    world.setting.run = 2;
    world.setting.grace = Arc::from([WINDOW]);
    assert_eq!(world.batch(|batch| batch.lookup(ORDER)).0, Ok(Some(before)));
}

#[test]
fn a_prolonged_lease_is_held_and_its_completion_is_not_late() {
    let mut world = World::after(&[reserve(1, MINUTE)]).later(HOUR);
    world.setting.run = 2;
    world.setting.grace = Arc::from([WINDOW]);

    let duplicate = world.apply(ORDER, &reserve(2, MINUTE)).unwrap().0;
    assert!(matches!(duplicate, Decision::InProgress(busy) if busy.lease_until == WINDOW.until));
    let again = world.apply(ORDER, &reserve(1, MINUTE)).unwrap().0;
    assert!(matches!(again, Decision::Granted(granted) if granted.lease_until == WINDOW.until));
    let completed = world.apply(ORDER, &complete(1, DAY)).unwrap().0;
    assert!(matches!(completed, Decision::Completed(completion) if !completion.late));
}

#[test]
fn a_window_is_stored_as_three_big_endian_numbers() {
    let window = GraceWindow {
        run: 0x0102,
        from: Moment::from_millis(0x0304),
        until: Moment::from_millis(0x0506),
    };
    let bytes = window.to_bytes();
    assert_eq!(bytes, *b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04\0\0\0\0\0\0\x05\x06");
    assert_eq!(GraceWindow::from_bytes(&bytes), Some(window));
}

#[test]
fn a_window_of_any_other_length_is_refused() {
    for length in (0..GraceWindow::STORED_BYTES).chain([25, 48]) {
        assert_eq!(GraceWindow::from_bytes(&vec![0; length]), None, "{length} bytes");
    }
}

/// When a lease that was stored as ending at `lease_until` ends under `windows`.
fn prolonged(stored_in_run: i64, lease_until: Moment, windows: &[GraceWindow]) -> Moment {
    let mut world = World::after(&[reserve(1, MINUTE)]);
    let stored = world.disk.records.get_mut(ORDER).unwrap();
    stored.run = stored_in_run;
    stored.record.state =
        State::Reserved { lease_until, lease_expiry_action: LeaseExpiryAction::Takeover };
    world.setting.run = 4;
    world.setting.grace = windows.into();
    let record = world.batch(|batch| batch.lookup(ORDER)).0.unwrap().unwrap();
    let State::Reserved { lease_until, .. } = record.state else { panic!("{record:?}") };
    lease_until
}

// The world around a batch.

/// The tables as maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Disk {
    records: BTreeMap<Vec<u8>, Stored>,
    index: BTreeSet<(Moment, Vec<u8>)>,
    usages: BTreeMap<Vec<u8>, Usage>,
    holds: BTreeSet<(Moment, Vec<u8>)>,
    unreadable: BTreeSet<Vec<u8>>,
}

impl Source for Disk {
    fn read(&self, record_key: &[u8]) -> Result<Found, EngineError> {
        if self.unreadable.contains(record_key) {
            return Err(EngineError::Corrupted);
        }
        let stored = self.records.get(record_key).cloned();
        Ok(stored.map(|stored| {
            let bytes = codec::encode(&stored).len();
            (stored, bytes)
        }))
    }

    fn read_together(&self, record_keys: &[&[u8]]) -> Vec<Option<Found>> {
        record_keys.iter().map(|record_key| self.read(record_key).ok()).collect()
    }

    fn usage(&self, namespace: &[u8]) -> Result<Usage, EngineError> {
        Ok(self.usages.get(namespace).copied().unwrap_or_default())
    }

    fn due(
        &self,
        from: &[u8],
        now: Moment,
        limit: usize,
    ) -> Result<Vec<(Moment, Vec<u8>)>, EngineError> {
        let due = self.index.iter().take_while(|(at, _)| *at <= now);
        let due = due.filter(|(at, key)| keys::expiry_key(*at, key).as_slice() >= from);
        Ok(due.take(limit).cloned().collect())
    }
}

impl Disk {
    /// Makes the changes in their order, and checks that the index and the counters are whole
    /// after them.
    fn write(&mut self, changes: &[Change]) {
        for change in changes.iter().cloned() {
            match change {
                Change::Put { record_key, stored } => {
                    self.records.insert(record_key, stored);
                }
                Change::Delete { record_key } => {
                    assert!(self.records.remove(&record_key).is_some(), "nothing to delete");
                }
                Change::Index { at, record_key } => {
                    assert!(self.index.insert((at, record_key)), "an entry is made twice");
                }
                Change::Unindex { at, record_key } => {
                    assert!(self.index.remove(&(at, record_key)), "there is no such entry");
                }
                Change::Count { namespace, usage } if usage == Usage::default() => {
                    assert!(self.usages.remove(&namespace).is_some(), "nothing was counted");
                }
                Change::Count { namespace, usage } => {
                    self.usages.insert(namespace, usage);
                }
                Change::Hold { at, record_key } => {
                    assert!(self.holds.insert((at, record_key)), "a hold is made twice");
                }
                Change::Unhold { at, record_key } => {
                    assert!(self.holds.remove(&(at, record_key)), "there is no such hold");
                }
            }
        }
        let wanted: BTreeSet<_> =
            self.records.iter().map(|(key, stored)| (stored.indexed_at, key.clone())).collect();
        assert_eq!(self.index, wanted, "each record has exactly one entry");
        let mut counted: BTreeMap<Vec<u8>, Usage> = BTreeMap::new();
        for (key, stored) in &self.records {
            let usage = counted.entry(keys::namespace_of(key).to_vec()).or_default();
            *usage = usage.with((key.len() + codec::encode(stored).len()) as u64);
        }
        assert_eq!(self.usages, counted, "the counters say what there is");
        let wanted: BTreeSet<_> = self
            .records
            .iter()
            .filter_map(|(key, stored)| Some((stored.record.in_doubt_from()?, key.clone())))
            .collect();
        assert_eq!(self.holds, wanted, "whatever comes in doubt has one entry, at that moment");
    }
}

/// What an engine does around its batches.
struct World {
    disk: Disk,
    setting: Setting,
}

impl World {
    fn new() -> Self {
        let setting = Setting {
            now: NOW,
            next_fencing_token: FencingToken::FIRST,
            run: 1,
            grace: Arc::default(),
            room: Room::Enough,
            quotas: Arc::default(),
            swept_to: Vec::new(),
        };
        Self { disk: Disk::default(), setting }
    }

    /// A world in which the namespace of `ORDER` has this quota.
    fn with_quota(quota: Quota) -> Self {
        let mut world = Self::new();
        world.setting.quotas = Arc::new([(Namespace::default(), quota)].into_iter().collect());
        world
    }

    /// A world in which `ORDER` has lived through `life`.
    fn after(life: &[Command]) -> Self {
        let mut world = Self::new();
        for command in life {
            world.apply(ORDER, command).unwrap();
        }
        world
    }

    fn later(mut self, passed: Span) -> Self {
        self.setting.now = self.setting.now.plus(passed);
        self
    }

    /// Decides one batch, writes it, and returns what was written as well.
    fn batch<T>(&mut self, fill: impl FnOnce(&mut Batch<'_, Disk>) -> T) -> (T, Vec<Change>) {
        let mut batch = Batch::new(&self.disk, self.setting.clone());
        let filled = fill(&mut batch);
        let Outcome { changes, next_fencing_token } = batch.finish();
        self.disk.write(&changes);
        for change in &changes {
            if let Change::Put { stored, .. } = change {
                self.check_placed(stored);
            }
        }
        self.setting.next_fencing_token = next_fencing_token;
        (filled, changes)
    }

    /// An entry is never due when it is written, nor later than the slack allows: a minute, or
    /// an eighth of the way.
    fn check_placed(&self, stored: &Stored) {
        let (now, until) = (self.setting.now, stored.record.retained_until());
        let eighth = Span::from_millis(until.since(now).as_millis() / 8);
        assert!(stored.indexed_at > now);
        assert!(stored.indexed_at <= until.plus(eighth.max(MINUTE)));
        assert_eq!(stored.run, self.setting.run);
    }

    fn apply(
        &mut self,
        record_key: &[u8],
        command: &Command,
    ) -> Result<(Decision, bool), EngineError> {
        self.batch(|batch| batch.apply(record_key, command)).0
    }

    fn records(&self) -> Vec<(&[u8], &Record, i64)> {
        let records = self.disk.records.iter();
        records.map(|(key, stored)| (key.as_slice(), &stored.record, stored.run)).collect()
    }

    fn begin(&mut self, round: &Round) {
        let down_since = self.setting.now;
        self.setting.now = down_since.plus(round.passed);
        self.setting.room = if round.disk_full { Room::Little } else { Room::Enough };
        if round.restarted {
            self.setting.run += 1;
            let until = self.setting.now.plus(GRACE);
            let window = GraceWindow { run: self.setting.run, from: down_since, until };
            self.setting.grace = self.setting.grace.iter().copied().chain([window]).collect();
        }
    }

    fn due(&self, limit: usize) -> Vec<(Moment, Vec<u8>)> {
        let due = self.disk.index.iter().take_while(|(at, _)| *at <= self.setting.now);
        due.take(limit).cloned().collect()
    }

    fn usage(&self) -> Usage {
        self.disk.usage(b"default").unwrap()
    }

    fn sweep(&mut self) {
        for (at, record_key) in self.due(usize::MAX) {
            self.batch(|batch| batch.follow(at, &record_key)).0.unwrap();
        }
        assert_eq!(self.due(usize::MAX), []);
    }
}

/// The same promises without overlay, index and purge.
struct Plain {
    records: BTreeMap<Vec<u8>, Record>,
    now: Moment,
    next_fencing_token: FencingToken,
    disk_full: bool,
    /// How many keys the namespace of `ORDER` may have.
    quota_keys: Option<usize>,
}

impl Plain {
    fn new() -> Self {
        let next_fencing_token = FencingToken::FIRST;
        Self {
            records: BTreeMap::new(),
            now: NOW,
            next_fencing_token,
            disk_full: false,
            quota_keys: None,
        }
    }

    /// Whether `key`, which is vacant, would be one too many.
    fn is_beyond_quota(&self, key: &[u8]) -> bool {
        let is_other = |(other, record): &(&Vec<u8>, &Record)| {
            other.starts_with(b"\x07default")
                && *other != key
                && phase_of(Some(record), self.now) != Phase::Vacant
        };
        let others = self.records.iter().filter(is_other).count();
        key.starts_with(b"\x07default") && self.quota_keys.is_some_and(|most| others >= most)
    }

    fn begin(&mut self, round: &Round) {
        let down_since = self.now;
        self.now = self.now.plus(round.passed);
        self.disk_full = round.disk_full;
        if !round.restarted {
            return;
        }
        let until = self.now.plus(GRACE);
        for record in self.records.values_mut() {
            if let State::Reserved { lease_until, .. } = &mut record.state
                && *lease_until > down_since
                && *lease_until < until
            {
                *lease_until = until;
            }
        }
    }

    fn ask(&mut self, step: &Step) -> Answer {
        let key = KEYS[step.key];
        let record = self.records.get(key);
        let Some(command) = &step.command else {
            let is_vacant = phase_of(record, self.now) == Phase::Vacant;
            return Answer::Record(Ok(record.filter(|_| !is_vacant).cloned()));
        };
        let transition = decide(record, command, self.now, self.next_fencing_token);
        let next = match transition.write {
            Write::Keep => return Answer::Decision(Ok((transition.decision, false))),
            Write::Delete => {
                self.records.remove(key);
                return Answer::Decision(Ok((transition.decision, true)));
            }
            Write::Put(next) => next,
        };
        if next.fencing_token == self.next_fencing_token {
            if self.disk_full {
                return Answer::Decision(Err(EngineError::Full));
            }
            if phase_of(record, self.now) == Phase::Vacant && self.is_beyond_quota(key) {
                let refusal = Refusal::QuotaExceeded(QuotaKind::Keys);
                return Answer::Decision(Ok((Decision::Refused(refusal), false)));
            }
            self.next_fencing_token = self.next_fencing_token.next();
        }
        self.records.insert(key.to_vec(), next);
        Answer::Decision(Ok((transition.decision, true)))
    }
}

// Random histories.

const KEYS: [&[u8]; 3] = [ORDER, OTHER_ORDER, b"\x06orders1"];
const GRACE: Span = Span::from_secs(10);

/// Some time passes, perhaps with a restart in it, and then a batch comes.
#[derive(Clone, Debug)]
struct Round {
    passed: Span,
    restarted: bool,
    disk_full: bool,
    sweep_limit: usize,
    steps: Vec<Step>,
}

/// A command, or a lookup where there is none.
#[derive(Clone, Debug)]
struct Step {
    key: usize,
    command: Option<Command>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Decision(Result<(Decision, bool), EngineError>),
    Record(Result<Option<Record>, EngineError>),
}

impl Answer {
    fn wrote(&self) -> bool {
        matches!(self, Self::Decision(Ok((_, true))))
    }
}

impl Step {
    fn ask(&self, batch: &mut Batch<'_, Disk>) -> Answer {
        let key = KEYS[self.key];
        match &self.command {
            Some(command) => Answer::Decision(batch.apply(key, command)),
            None => Answer::Record(batch.lookup(key)),
        }
    }
}

/// Tries `check` on many histories. `PROPTEST_RNG_SEED=…` repeats a run by its printed seed.
fn over_random_histories(check: impl Fn(&[Round])) {
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(RandomState::new().hash_one(())),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    println!("PROPTEST_RNG_SEED={rng_seed}");
    let histories = prop::collection::vec(round(), 1..24);
    let result = TestRunner::new(Config { rng_seed, ..config }).run(&histories, |history| {
        check(&history);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn round() -> impl Strategy<Value = Round> {
    let passed = select(vec![
        Span::default(),
        Span::from_millis(1),
        Span::from_millis(99),
        Span::from_millis(100),
        SECOND,
        GRACE,
        MINUTE,
        HOUR,
        DAY,
    ]);
    let steps = prop::collection::vec(step(), 0..12);
    (passed, prop::bool::weighted(0.2), prop::bool::weighted(0.1), 0..4_usize, steps).prop_map(
        |(passed, restarted, disk_full, sweep_limit, steps)| Round {
            passed,
            restarted,
            disk_full,
            sweep_limit,
            steps,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let command = prop_oneof![
        5 => any_reserve().prop_map(Some),
        3 => any_complete().prop_map(Some),
        2 => any_renew().prop_map(Some),
        2 => any_owner().prop_map(release).prop_map(Some),
        1 => any_force().prop_map(Some),
        1 => Just(None),
    ];
    (0..KEYS.len(), command).prop_map(|(key, command)| Step { key, command })
}

fn any_reserve() -> impl Strategy<Value = Command> {
    let action = select(vec![LeaseExpiryAction::Takeover, LeaseExpiryAction::Hold]);
    (any_owner(), prop::bool::weighted(0.9), any_span(), action, any_span(), any::<bool>())
        .prop_map(
            |(number, is_same_request, lease, lease_expiry_action, retention, retry_failed)| {
                Command::Reserve(Reserve {
                    fingerprint: fingerprint(if is_same_request { b"body" } else { b"other" }),
                    owner_token: owner(number),
                    lease,
                    lease_expiry_action,
                    retention,
                    retry_failed,
                    holder: format!("owner {number}"),
                })
            },
        )
}

fn any_complete() -> impl Strategy<Value = Command> {
    let result = select(vec![Ending::Succeeded, Ending::Failed]);
    (any_owner(), result, any_span())
        .prop_map(|(number, result, retention)| ending(number, result, retention))
}

/// What an operator sends, who has seen some record or none.
fn any_force() -> impl Strategy<Value = Command> {
    let seen = prop_oneof![2 => Just(None), 1 => (1..9_i64).prop_map(FencingToken::new)];
    (0..3, seen, any_complete()).prop_map(|(kind, fencing_token, complete)| {
        let Command::Complete(complete) = complete else { unreachable!("it completes") };
        match kind {
            0 => Command::ForceRelease(ForceRelease { fencing_token }),
            1 => Command::Delete(Delete { fencing_token }),
            _ => Command::ForceComplete(ForceComplete {
                fencing_token,
                result: complete.result,
                response: complete.response,
                response_omitted: complete.response_omitted,
                response_digest: complete.response_digest,
                response_size_bytes: complete.response_size_bytes,
                retention: complete.retention,
            }),
        }
    })
}

fn any_renew() -> impl Strategy<Value = Command> {
    let checkpoint = prop::option::of(select(vec![b"".to_vec(), b"page 7".to_vec()]));
    (any_owner(), any_span(), checkpoint).prop_map(|(number, lease, checkpoint)| {
        Command::Renew(Renew { owner_token: owner(number), lease, checkpoint })
    })
}

fn any_owner() -> impl Strategy<Value = u8> {
    1..5_u8
}

fn any_span() -> impl Strategy<Value = Span> {
    select(vec![Span::from_millis(100), SECOND, MINUTE, HOUR, DAY])
}

// Commands.

fn owner(number: u8) -> OwnerToken {
    OwnerToken::from_bytes([number; 16])
}

fn fingerprint(digest: &[u8]) -> Fingerprint {
    Fingerprint::new(digest.to_vec()).unwrap()
}

/// Asks for an attempt that keeps itself for a day, and tries again what failed.
fn reserve(number: u8, lease: Span) -> Command {
    Command::Reserve(Reserve {
        fingerprint: fingerprint(b"body"),
        owner_token: owner(number),
        lease,
        lease_expiry_action: LeaseExpiryAction::Takeover,
        retention: DAY,
        retry_failed: true,
        holder: format!("owner {number}"),
    })
}

/// The same, and nobody takes over.
fn hold(number: u8, lease: Span) -> Command {
    let Command::Reserve(reserve) = reserve(number, lease) else { unreachable!("it reserves") };
    Command::Reserve(Reserve { lease_expiry_action: LeaseExpiryAction::Hold, ..reserve })
}

fn complete(number: u8, retention: Span) -> Command {
    ending(number, Ending::Succeeded, retention)
}

fn fail(number: u8) -> Command {
    ending(number, Ending::Failed, DAY)
}

fn ending(number: u8, result: Ending, retention: Span) -> Command {
    Command::Complete(Complete {
        owner_token: owner(number),
        result,
        response: Response { payload: b"paid".to_vec(), ..Response::default() },
        response_omitted: false,
        response_digest: [7; 32],
        response_size_bytes: 4,
        retention,
    })
}

fn renew(number: u8, lease: Span) -> Command {
    Command::Renew(Renew { owner_token: owner(number), lease, checkpoint: None })
}

fn release(number: u8) -> Command {
    Command::Release(Release { owner_token: owner(number) })
}

/// What kinds of changes were made to records and their entries, in their order.
fn words(changes: &[Change]) -> Vec<&'static str> {
    let words = changes.iter().filter_map(|change| match change {
        Change::Put { .. } => Some("put"),
        Change::Delete { .. } => Some("delete"),
        Change::Index { .. } => Some("index"),
        Change::Unindex { .. } => Some("unindex"),
        Change::Hold { .. } => Some("hold"),
        Change::Unhold { .. } => Some("unhold"),
        Change::Count { .. } => None,
    });
    words.collect()
}

/// Whose records and entries were changed.
fn touched(changes: &[Change]) -> BTreeSet<Vec<u8>> {
    let keys = changes.iter().filter_map(|change| match change {
        Change::Put { record_key, .. }
        | Change::Delete { record_key }
        | Change::Index { record_key, .. }
        | Change::Unindex { record_key, .. }
        | Change::Hold { record_key, .. }
        | Change::Unhold { record_key, .. } => Some(record_key.clone()),
        Change::Count { .. } => None,
    });
    keys.collect()
}
