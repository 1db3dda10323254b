//! The other half of promise 4: purging only frees space.
//!
//! So a store that is purged all the time answers like one that never is; the walks at the
//! end hold two against each other. They print their seed, and `PROPTEST_RNG_SEED=… cargo test
//! purging` takes the same walk again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use onced::clock::Clock;
use onced::domain::{
    Command, Decision, LeaseExpiryAction, Moment, Outcome, Record, RecordKey, Span,
};
use onced::storage::erase::{EraseOrder, EraseStep, Erasing};
use onced::storage::list::{Listing, Page};
use onced::storage::measured::Measured;
use onced::storage::stats::Stats;
use onced::storage::{
    Answering, Condition, Decided, Engine, EngineError, Patience, Purged, Sweeper,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::sync::watch;

use crate::engines::{
    ANN, BOB, CLEO, Kind, Lab, Need, Store, Verdict, complete, complete_with, release, renew,
    reserve, reserve_with,
};

fn secs(secs: i64) -> Span {
    Span::from_secs(secs)
}

pub fn promise_4_a_purge_spares_what_is_still_retained(lab: Lab) -> Verdict {
    // Given records whose end was moved, after an engine may have noted where it was: by a
    // renewal, by a completion, by a second life of the key.
    let brief = |owner| {
        reserve_with(owner, |reserve| {
            (reserve.lease, reserve.retention) = (secs(1), secs(1));
        })
    };
    let store = lab.open();
    for key in ["renewed", "completed", "anew"] {
        store.granted(key, brief(ANN));
    }
    store.decide("renewed", renew(ANN, secs(3_600)));
    store.decide("completed", complete(ANN));
    lab.clock.advance(secs(2));
    store.granted("anew", reserve(BOB));

    // When the first end of each has come and gone.
    let keys = ["renewed", "completed", "anew"];
    let before = keys.map(|key| store.lookup(key));
    assert!(before.iter().all(Option::is_some));

    // Then a purge takes none of them, however often it comes,
    for _ in 0..3 {
        assert_eq!(store.purge_all(), 0);
        assert_eq!(keys.map(|key| store.lookup(key)), before);
        lab.clock.advance(Span::from_millis(1));
    }

    // and each of them once it is over.
    lab.clock.advance(secs(48 * 60 * 60));
    assert_eq!(store.purge_all(), 3);
    assert_eq!(store.purge_all(), 0);
    Ok(())
}

pub fn promise_4_a_purge_frees_what_is_over_step_by_step(lab: Lab) -> Verdict {
    // Given ten records that are over, and one that is not.
    let store = lab.open();
    for key in 0..10 {
        store.granted(
            &format!("{key}"),
            reserve_with(ANN, |reserve| reserve.retention = secs(key + 1)),
        );
    }
    store.granted("retained", reserve(ANN));
    lab.clock.advance(secs(60));

    // Then each step frees as many as it may, and says that there is more.
    let step = || {
        let Purged { records, more, .. } = store.purge(4);
        (records, more)
    };
    assert_eq!(step(), (4, true));
    assert_eq!(step(), (4, true));
    assert_eq!(step(), (2, false));
    assert_eq!(step(), (0, false));
    assert!(store.lookup("retained").is_some());
    Ok(())
}

pub fn promise_4_a_purge_takes_large_records_and_small_ones_for_what_they_are(lab: Lab) -> Verdict {
    // Given records whose first end comes at once, some large, some small, and of both kinds some
    // that their completion retains.
    let store = lab.open();
    let brief = reserve_with(ANN, |it| (it.lease, it.retention) = (secs(1), secs(1)));
    let is_large = |key| key % 5 == 4;
    let is_retained = |key| key % 3 == 2;
    for key in 0..90 {
        let completion = complete_with(ANN, |it| {
            it.response.payload = vec![7; if is_large(key) { 8 << 10 } else { 8 }];
            it.retention = secs(if is_retained(key) { 3_600 } else { 1 });
        });
        store.granted(&format!("{key}"), brief.clone());
        store.decide(&format!("{key}"), completion);
    }
    let before: Vec<_> = (0..90).map(|key| store.lookup(&format!("{key}"))).collect();
    lab.clock.advance(secs(60));

    // Then a purge takes those that are over, and no others.
    assert_eq!(store.purge_all(), 60);
    for (key, before) in before.into_iter().enumerate() {
        let retained = before.filter(|_| is_retained(key));
        assert_eq!(store.lookup(&format!("{key}")), retained, "{key}");
    }
    lab.clock.advance(secs(3_600));
    assert_eq!(store.purge_all(), 30);
    Ok(())
}

pub fn promise_4_the_sweeper_frees_what_is_over(lab: Lab) -> Verdict {
    // Given 1,000 records that are over.
    let store = lab.open();
    let brief = reserve_with(ANN, |reserve| reserve.retention = secs(1));
    let reserves = (0..1_000).map(|key| (format!("{key}"), brief.clone())).collect();
    assert!(store.together(reserves).iter().all(Result::is_ok));
    store.granted("retained", reserve(ANN));
    lab.clock.advance(secs(60));

    // When the sweeper runs, by itself.
    let (tell, told) = mpsc::channel();
    let watched = Watched { engine: Arc::clone(&store.engine), tell };
    let sweeper = Sweeper::start(Arc::new(watched)).unwrap();

    // Then it frees them, in steps.
    let mut steps = Vec::new();
    while steps.last().is_none_or(|step: &Purged| step.more) {
        steps.push(told.recv_timeout(Duration::from_secs(60)).unwrap());
    }
    drop(sweeper);
    assert_eq!(steps.iter().map(|step| step.records).sum::<usize>(), 1_000);
    assert!(steps.len() > 1, "all in one step: callers had to wait for it");
    assert_eq!(store.purge_all(), 0);
    assert!(store.lookup("retained").is_some());
    Ok(())
}

/// An engine that tells what is purged.
struct Watched {
    engine: Arc<dyn Engine>,
    tell: mpsc::Sender<Purged>,
}

impl Engine for Watched {
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Answering<'_, Decision> {
        self.engine.apply(key, command, deadline)
    }

    fn lookup(&self, key: RecordKey, deadline: Option<Instant>) -> Answering<'_, Option<Record>> {
        self.engine.lookup(key, deadline)
    }

    fn apply_waiting(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Decision> {
        self.engine.apply_waiting(key, command, deadline, patience)
    }

    fn apply_all(
        &self,
        commands: Vec<(RecordKey, Command)>,
        deadline: Option<Instant>,
    ) -> Answering<'_, Vec<Result<Decision, EngineError>>> {
        self.engine.apply_all(commands, deadline)
    }

    fn lookup_waiting(
        &self,
        key: RecordKey,
        deadline: Option<Instant>,
        patience: Patience,
    ) -> Answering<'_, Option<Record>> {
        self.engine.lookup_waiting(key, deadline, patience)
    }

    fn purge(&self, limit: usize) -> Result<Purged, EngineError> {
        let purged = self.engine.purge(limit)?;
        // The test has seen enough when it no longer listens.
        let _ = self.tell.send(purged);
        Ok(purged)
    }

    fn list(&self, listing: Listing) -> Answering<'_, Page> {
        self.engine.list(listing)
    }

    fn erase(&self, order: EraseOrder) -> Answering<'_, Erasing> {
        self.engine.erase(order)
    }

    fn erase_step(&self, limit: usize) -> Result<EraseStep, EngineError> {
        self.engine.erase_step(limit)
    }

    fn stats(&self) -> Answering<'_, Stats> {
        self.engine.stats()
    }

    fn measured(&self) -> Measured {
        self.engine.measured()
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.engine.condition()
    }

    fn close(&self) {
        self.engine.close();
    }
}

// Walks: two stores live through the same, and only one of them is ever purged.

const KEYS: [&str; 3] = ["one", "two", "three"];

#[derive(Clone, Debug)]
enum Step {
    Ask(&'static str, Command),
    Look(&'static str),
    Pass(Span),
    SetBack(Span),
    Restart,
    Kill,
}

/// Short spans and few keys, so that everything ends and begins anew all the time.
fn spans() -> impl Strategy<Value = Span> {
    select(vec![100, 999, 1_000, 2_500, 9_000, 70_000, 600_000]).prop_map(Span::from_millis)
}

fn asks() -> impl Strategy<Value = Step> {
    let keys = select(KEYS.to_vec());
    let owners = select(vec![ANN, BOB, CLEO]);
    let kinds = 0..5_u8;
    let choices = (any::<bool>(), any::<bool>());
    (keys, owners, kinds, choices, spans(), spans()).prop_map(
        |(key, owner, kind, (holds, fails), lease, retention)| {
            let command = match kind {
                0 | 1 => reserve_with(owner, |reserve| {
                    (reserve.lease, reserve.retention) = (lease, retention);
                    reserve.retry_failed = fails;
                    if holds {
                        reserve.lease_expiry_action = LeaseExpiryAction::Hold;
                    }
                }),
                2 => complete_with(owner, |complete| {
                    complete.retention = retention;
                    if fails {
                        complete.result = Outcome::Failed;
                    }
                }),
                3 => renew(owner, lease),
                _ => release(owner),
            };
            Step::Ask(key, command)
        },
    )
}

fn steps(pauses: impl Strategy<Value = Step>) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => asks(),
        3 => select(KEYS.to_vec()).prop_map(Step::Look),
        6 => pauses,
    ];
    prop::collection::vec(step, 1..=60)
}

/// Time passes, or the time of day steps back.
fn passing() -> impl Strategy<Value = Step> {
    prop_oneof![4 => spans().prop_map(Step::Pass), 1 => spans().prop_map(Step::SetBack)]
}

fn passing_with_restarts() -> impl Strategy<Value = Step> {
    prop_oneof![4 => passing(), 1 => Just(Step::Restart), 1 => Just(Step::Kill)]
}

pub fn promise_4_purging_changes_no_answer(lab: Lab) -> Verdict {
    walk_in_pairs(lab.kind(), 16, steps(passing()));
    Ok(())
}

pub fn promise_4_purging_changes_no_answer_across_restarts_either(lab: Lab) -> Verdict {
    lab.directory(Need::Restart)?;
    walk_in_pairs(lab.kind(), 8, steps(passing_with_restarts()));
    Ok(())
}

/// Takes walks with two stores, of which only one is ever purged, and sees that they answer
/// alike.
fn walk_in_pairs(kind: Kind, cases: u32, steps: impl Strategy<Value = Vec<Step>>) {
    let config = Config { failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    // What the environment says goes before what is quick.
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { cases };
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(RandomState::new().hash_one(())),
        RngSeed::Fixed(seed) => RngSeed::Fixed(seed),
    };
    println!("PROPTEST_RNG_SEED={rng_seed}");
    let walked = TestRunner::new(Config { cases, rng_seed, ..config }).run(&steps, |steps| {
        let (mut swept_lab, mut left_lab) = (Lab::new(kind), Lab::new(kind));
        let (mut swept, mut left) = (swept_lab.open(), left_lab.open());
        for step in steps {
            let (seen, also_seen);
            (swept, seen) = take(&mut swept_lab, swept, &step);
            (left, also_seen) = take(&mut left_lab, left, &step);
            prop_assert_eq!(seen, also_seen, "at {:?}", step);
            // Asking for the time may note it on disk, for after a kill: so both are asked.
            prop_assert_eq!(swept.now(), left.now());
            swept.purge_all();
        }
        Ok(())
    });
    walked.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What somebody outside sees of a step.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Decision(Decided<Decision>),
    Record(Decided<Option<Record>>),
    Nothing,
}

fn take(lab: &mut Lab, store: Store, step: &Step) -> (Store, Seen) {
    match step {
        Step::Ask(key, command) => {
            let decided = store.ask(key, command.clone()).unwrap();
            (store, Seen::Decision(decided))
        }
        Step::Look(key) => {
            let found = store.look(key).unwrap();
            (store, Seen::Record(found))
        }
        Step::Pass(span) => {
            lab.clock.advance(*span);
            (store, Seen::Nothing)
        }
        Step::SetBack(span) => {
            let earlier = lab.clock.wall().as_millis() - span.as_millis();
            lab.clock.step_to(Moment::from_millis(earlier));
            (store, Seen::Nothing)
        }
        Step::Restart => (lab.restart(store).unwrap(), Seen::Nothing),
        Step::Kill => (lab.kill(store).unwrap(), Seen::Nothing),
    }
}
