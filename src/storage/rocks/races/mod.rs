//! The hand-off between callers, leaders, the writer and the sync thread, under schedules that
//! shuttle chooses: which thread runs is decided anew at every mutex, condition variable,
//! channel and step of the disk.
//!
//! The files of the hand-off are compiled a second time here, over shuttle's primitives and a
//! disk in memory; the decisions and the state machine are the real ones. A call that is never
//! answered shows as a deadlock, which shuttle reports with the schedule that led to it.
//!
//! What is not shown: races inside RocksDB or tokio, and weak memory (the hand-off has none:
//! its atomics are an estimate and counters).

#[allow(clippy::duplicate_mod)]
#[path = "../../alarm.rs"]
mod alarm;
#[path = "schema.rs"]
mod schema;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../sweep.rs"]
mod sweep;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../sync.rs"]
mod sync;
mod threads;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../turn.rs"]
mod turn;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../unwritten.rs"]
mod unwritten;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../wait.rs"]
mod wait;
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "../writer.rs"]
mod writer;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::rand::Rng as _;
use shuttle::thread::{self, JoinHandle};
use tokio::sync::watch;

use self::alarm::Alarm;
use self::schema::Tables;
use self::sync::SyncQueue;
use self::threads::Mutex;
use self::turn::Lanes;
use self::wait::Waited;
use self::writer::Writer;
use super::together::{self, Together};
use super::{batch, disk};
use crate::clock::ManualClock;
use crate::domain::{
    Command, Complete, Decision, Fingerprint, LeaseExpiryAction, Moment, Outcome, OwnerToken,
    Record, Release, Reserve, Response, Span, State,
};
use crate::proof;
use crate::storage::admission::Admission;
use crate::storage::question::{Answer, Question};
use crate::storage::waiting::Tickets;
use crate::storage::{Condition, Decided, EngineError, Patience, StoreOptions};

/// What callers, turns and the sync thread share, as in the real engine.
struct Core {
    sweeping: Mutex<Together>,
    writer: Mutex<Writer>,
    writing: Mutex<()>,
    sync: Arc<SyncQueue>,
    lanes: Lanes,
    tickets: Tickets,
    alarm: Arc<Alarm>,
    condition: watch::Sender<Condition>,
}

/// An engine on a disk in memory.
struct Engine {
    core: Arc<Core>,
    tables: Arc<Tables>,
    clock: Arc<ManualClock>,
    admission: Arc<Admission>,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

type Answered = Result<Decided<Answer>, EngineError>;

impl Engine {
    fn open(tables: Tables) -> Arc<Self> {
        let tables = Arc::new(tables);
        let condition = watch::Sender::new(Condition::Serving);
        let alarm = Arc::new(Alarm::default());
        let sync = SyncQueue::new(condition.clone(), alarm.clone());
        let options = StoreOptions { min_free_disk_bytes: 0, ..StoreOptions::default() };
        let clock = Arc::new(ManualClock::at(Moment::from_millis(1_000_000)));
        let writer =
            Writer::recover(tables.clone(), Path::new("."), clock.clone(), &options).unwrap();
        let core = Arc::new(Core {
            sweeping: Mutex::new(Together::at_most(options.records_read_together.into())),
            writer: Mutex::new(writer),
            writing: Mutex::default(),
            sync: sync.clone(),
            // Two lanes: some callers share one, some do not.
            lanes: Lanes::new(2),
            tickets: Tickets::default(),
            alarm,
            condition,
        });
        let sync_thread = {
            let tables = tables.clone();
            thread::spawn(move || sync.run(&tables))
        };
        // Here, alarms ring and never go off by themselves.
        let wait_thread = {
            let core = core.clone();
            thread::spawn(move || core.look_after_lapses())
        };
        Arc::new(Self {
            core,
            tables,
            clock,
            admission: Admission::new(1_000, 1_000_000),
            threads: std::sync::Mutex::new(vec![sync_thread, wait_thread]),
        })
    }

    async fn ask(&self, key: &[u8], question: Question<Vec<u8>>) -> Answered {
        let permit = self.admission.admit(1, 1)?;
        let asker = asker(&question);
        let answered = self.core.queue(question, None, permit, None)?.answered().await;
        self.check(key, asker, &answered);
        answered
    }

    /// Asks, and waits for as long as `patience` lasts.
    async fn ask_waiting(
        &self,
        key: &[u8],
        question: Question<Vec<u8>>,
        patience: Patience,
    ) -> Answered {
        let permit = self.admission.admit(1, 1)?;
        let key = key.to_vec();
        let asker = asker(&question);
        match self.core.submit_waiting(&key, question, None, permit, patience).await {
            Waited::Answered(answered) => {
                self.check(&key, asker, &answered);
                answered
            }
            Waited::InVain(question) => self.ask(&key, question).await,
        }
    }

    fn check(&self, key: &[u8], asker: Option<OwnerToken>, answered: &Answered) {
        if let Ok(decided) = answered {
            let durable = self.tables.durable_records(key);
            let is_durable = shows(&decided.answer, asker, &durable);
            assert!(is_durable, "{:?} left while this was durable: {durable:?}", decided.answer);
        }
    }

    async fn apply(&self, key: &[u8], command: Command) -> Result<Decision, EngineError> {
        let answered = self.ask(key, Question::Apply(key.to_vec(), command)).await?;
        Ok(answered.answer.into_decision())
    }

    /// Asks for several keys in one call.
    async fn reserve_all(&self, keys: &[&[u8]], reserve: Command) -> Vec<Decision> {
        let commands = keys.iter().map(|key| (key.to_vec(), reserve.clone())).collect();
        let permit = self.admission.admit(keys.len(), 1).unwrap();
        let turn = self.core.queue(Question::ApplyAll(commands), None, permit, None).unwrap();
        let answered = turn.answered().await.unwrap();
        let Answer::Decisions(decisions) = answered.answer else { unreachable!("several asked") };
        let decisions = keys.iter().zip(decisions).map(|(key, decision)| {
            let decision = decision.unwrap();
            let (answer, decided_at) = (Answer::Decision(decision.clone()), answered.decided_at);
            self.check(key, None, &Ok(Decided { answer, decided_at }));
            decision
        });
        decisions.collect()
    }

    async fn look(&self, key: &[u8]) -> Answered {
        self.ask(key, Question::Lookup(key.to_vec())).await
    }

    async fn apply_waiting(
        &self,
        key: &[u8],
        command: Command,
        patience: Patience,
    ) -> Result<Decision, EngineError> {
        let question = Question::Apply(key.to_vec(), command);
        Ok(self.ask_waiting(key, question, patience).await?.answer.into_decision())
    }

    fn close(&self) {
        self.core.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// Who asks for a release.
fn asker(question: &Question<Vec<u8>>) -> Option<OwnerToken> {
    match question {
        Question::Apply(_, Command::Release(release)) => Some(release.owner_token),
        Question::Apply(..) | Question::ApplyAll(_) | Question::Lookup(_) => None,
    }
}

/// A caller that waits for ever.
fn for_ever() -> Patience {
    Box::pin(std::future::pending())
}

/// A caller that has lost its patience after so many looks.
fn for_looks(count: usize) -> Patience {
    let mut left = count;
    Box::pin(std::future::poll_fn(move |context| {
        if left == 0 {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }))
}

/// Promise 2: whether what is `durable` shows what an answer shows, or what came after it: the
/// changes of one batch to one record are written as one. `asker` released.
fn shows(answer: &Answer, asker: Option<OwnerToken>, durable: &[Record]) -> bool {
    let later = |fencing_token| durable.iter().any(|it| it.fencing_token > fencing_token);
    match answer {
        Answer::Record(None) => true,
        Answer::Record(Some(shown)) => durable.contains(shown) || later(shown.fencing_token),
        Answer::Decision(Decision::Granted(shown)) => durable.iter().any(|it| {
            it.owner_token == shown.owner_token && it.fencing_token == shown.fencing_token
        }),
        Answer::Decision(Decision::InProgress(shown)) => {
            durable.iter().any(|it| it.holder == shown.holder)
        }
        Answer::Decision(Decision::Replayed(shown) | Decision::Completed(shown)) => {
            durable.iter().any(|it| matches!(&it.state, State::Completed(it) if it == shown))
        }
        Answer::Decision(Decision::Released) => durable
            .iter()
            .filter(|it| Some(it.owner_token) == asker)
            .any(|it| matches!(it.state, State::Released { .. }) || later(it.fencing_token)),
        Answer::Decision(Decision::Refused(_)) => !durable.is_empty(),
        Answer::Decision(Decision::InDoubt(_) | Decision::Renewed { .. } | Decision::Forced(_))
        | Answer::Decisions(_) => {
            unreachable!(
                "nobody here holds, renews or forces, and decisions are held up one by one"
            )
        }
    }
}

/// One attempt of one caller at one operation.
fn reserve(caller: u8, attempt: u8) -> Command {
    Command::Reserve(Reserve {
        fingerprint: Fingerprint::default(),
        owner_token: token(caller, attempt),
        lease: Span::from_secs(30),
        lease_expiry_action: LeaseExpiryAction::Takeover,
        retention: Span::from_secs(3_600),
        retry_failed: false,
        holder: format!("caller {caller}, attempt {attempt}"),
    })
}

fn complete(caller: u8, attempt: u8) -> Command {
    Command::Complete(Complete {
        owner_token: token(caller, attempt),
        result: Outcome::Succeeded,
        response: Response::default(),
        response_omitted: false,
        response_digest: [caller; 32],
        response_size_bytes: 0,
        retention: Span::from_secs(3_600),
    })
}

fn release(caller: u8, attempt: u8) -> Command {
    Command::Release(Release { owner_token: token(caller, attempt) })
}

fn token(caller: u8, attempt: u8) -> OwnerToken {
    let mut bytes = [caller; 16];
    bytes[0] = attempt;
    OwnerToken::from_bytes(bytes)
}

/// Polls `call` so often, and leaves it then.
async fn leave_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    })
    .await
}

/// Starts `count` callers, waits for them all, and returns what they returned.
fn callers<T: Send + 'static>(
    count: u8,
    caller: impl AsyncFn(u8) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let threads: Vec<_> = (1..=count)
        .map(|number| {
            let caller = caller.clone();
            thread::spawn(move || shuttle::future::block_on(caller(number)))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Tries `story` under many schedules: random ones, and ones with few but well-placed
/// changes of thread (PCT), which find what random ones are unlikely to.
fn under_many_schedules(attack: &str, story: fn()) {
    let schedules = proof::effort(400, 20_000);
    let stories = Arc::new(AtomicU64::new(0));
    let counted = {
        let stories = stories.clone();
        move || {
            stories.fetch_add(1, Ordering::Relaxed);
            story();
        }
    };
    shuttle::check_random(counted.clone(), schedules);
    shuttle::check_pct(counted, schedules, 4);
    proof::Row {
        promise: "1, 2, 5, 6 hand-off without races",
        attack,
        times: &format!("{} schedules", stories.load(Ordering::Relaxed)),
        lost: 0,
    }
    .report();
}

#[test]
fn every_caller_is_answered_and_no_answer_is_early() {
    under_many_schedules("callers compete, complete, release and look up (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        let grants = callers(4, async move |caller| {
            let key = [b'k', caller % 2];
            let mut granted = 0;
            for attempt in 0..2 {
                let answer = shared.apply(&key, reserve(caller, attempt)).await.unwrap();
                if let Decision::Granted(_) = answer {
                    granted += 1;
                    let end = if attempt == 0 { release } else { complete };
                    shared.apply(&key, end(caller, attempt)).await.unwrap();
                }
                shared.look(&key).await.unwrap();
            }
            granted
        });
        assert!(grants.iter().sum::<u32>() >= 2, "somebody was granted each key");
        engine.close();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn of_all_who_ask_for_one_key_exactly_one_is_granted_it() {
    under_many_schedules("callers of several lanes ask for one key (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        let answers =
            callers(4, async move |caller| shared.apply(b"key", reserve(caller, 0)).await.unwrap());
        let granted = answers.iter().filter(|it| matches!(it, Decision::Granted(_))).count();
        assert_eq!(granted, 1, "{answers:?}");
        engine.close();
    });
}

#[test]
fn of_all_who_ask_for_several_keys_in_one_call_one_is_granted_each() {
    under_many_schedules("callers of several lanes ask for two keys in one call (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        // Each of them meets another caller's batch on its way into the log.
        let keys: [&[&[u8]]; 3] = [&[b"one", b"two"], &[b"two", b"three"], &[b"one", b"three"]];
        let answers = callers(3, async move |caller| {
            let keys = keys[usize::from(caller) - 1];
            shared.reserve_all(keys, reserve(caller, 0)).await
        });
        for key in [b"one".as_slice(), b"two", b"three"] {
            let asked =
                keys.iter().zip(&answers).flat_map(|(keys, answers)| keys.iter().zip(answers));
            let granted = asked
                .filter(|(asked, answer)| **asked == key && matches!(answer, Decision::Granted(_)));
            assert_eq!(granted.count(), 1, "{answers:?}");
        }
        engine.close();
    });
}

#[test]
fn a_caller_that_leaves_takes_nobodys_answer_along() {
    under_many_schedules("callers leave at any step, leaders too (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        callers(4, async move |caller| {
            let key = [b'k', caller];
            let call = shared.apply(&key, reserve(caller, 0));
            // Callers are dealt to the lanes in turn: each lane has one of either kind.
            if caller <= 2 {
                let polls = shuttle::rand::thread_rng().gen_range(0..5);
                leave_after(polls, call).await;
            } else {
                // Those who stay are answered.
                assert!(matches!(call.await.unwrap(), Decision::Granted(_)));
            }
        });
        engine.close();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn a_failed_sync_poisons_once_and_answers_everybody() {
    under_many_schedules("the n-th sync fails under load (shuttle)", || {
        let good_syncs = shuttle::rand::thread_rng().gen_range(1..5);
        everybody_is_answered_on(Tables::failing_after(good_syncs));
    });
}

#[test]
fn after_a_failed_write_nothing_is_written_and_everybody_is_answered() {
    under_many_schedules("the n-th write fails under load (shuttle)", || {
        let good_writes = shuttle::rand::thread_rng().gen_range(1..5);
        everybody_is_answered_on(Tables::full_after(good_writes));
    });
}

/// Callers on a disk that fails under them: nobody waits for ever, and nobody is told anything
/// once somebody was refused.
fn everybody_is_answered_on(tables: Tables) {
    let engine = Engine::open(tables);
    let shared = engine.clone();
    callers(3, async move |caller| {
        let key = [b'k', caller];
        let mut refused = false;
        for attempt in 0..4 {
            match shared.apply(&key, reserve(caller, attempt)).await {
                Ok(_) => assert!(!refused, "an answer after the failure"),
                Err(EngineError::OutcomeUnknown | EngineError::Unavailable) => refused = true,
                Err(error) => panic!("{error}"),
            }
        }
    });
    engine.close();
}

#[test]
fn closing_answers_what_was_accepted_and_refuses_the_rest() {
    under_many_schedules("the engine closes and the sweeper runs under load (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let (closing, sweeping) = (engine.clone(), engine.clone());
        let closer = thread::spawn(move || closing.close());
        let sweeper = thread::spawn(move || {
            let _ = sweeping.core.purge(8);
        });
        let shared = engine.clone();
        callers(3, async move |caller| {
            let key = [b'k', caller];
            for attempt in 0..2 {
                match shared.apply(&key, reserve(caller, attempt)).await {
                    Ok(_) | Err(EngineError::Closing) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        closer.join().unwrap();
        sweeper.join().unwrap();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn what_is_reserved_anew_is_not_swept() {
    under_many_schedules(
        "a key is reserved anew while the sweeper takes it away (shuttle)",
        || {
            let engine = Engine::open(Tables::default());
            let first = shuttle::future::block_on(engine.apply(b"key", reserve(1, 0)));
            assert!(matches!(first, Ok(Decision::Granted(_))));
            // The lease is over, and what is kept of it.
            engine.clock.advance(Span::from_secs(30 + 3_600));
            let sweeping = engine.clone();
            let sweeper = thread::spawn(move || {
                for _ in 0..2 {
                    sweeping.core.purge(8).unwrap();
                }
            });
            let shared = engine.clone();
            let grants = callers(2, async move |caller| {
                let answer = shared.apply(b"key", reserve(caller, 1)).await.unwrap();
                let Decision::Granted(_) = answer else { return 0 };
                let completed = shared.apply(b"key", complete(caller, 1)).await.unwrap();
                assert!(matches!(completed, Decision::Completed(_)), "{completed:?}");
                1
            });
            sweeper.join().unwrap();
            assert_eq!(grants.iter().sum::<u32>(), 1);
            let Answer::Record(Some(record)) =
                shuttle::future::block_on(engine.look(b"key")).unwrap().answer
            else {
                panic!("the record was swept");
            };
            assert!(matches!(record.state, State::Completed(_)));
            engine.close();
        },
    );
}

#[test]
fn whoever_waits_is_granted_the_key_in_turn_and_nobody_is_forgotten() {
    under_many_schedules("waiters, and owners that release or complete (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        // Each waits until it is granted the key, and gives it back; the last completes.
        let together = Arc::new(AtomicU64::new(0));
        let answers = callers(4, async move |caller| {
            let call = shared.apply_waiting(b"key", reserve(caller, 0), for_ever());
            let decision = call.await.unwrap();
            if let Decision::Granted(_) = decision {
                let owners = together.fetch_add(1, Ordering::SeqCst);
                assert_eq!(owners, 0, "two were granted the key at a time");
                together.fetch_sub(1, Ordering::SeqCst);
                let end = if caller == 1 { complete } else { release };
                shared.apply(b"key", end(caller, 0)).await.unwrap();
            }
            decision
        });
        // Whoever came before the completion was granted the key, all others learned of it.
        for answer in &answers {
            assert!(matches!(answer, Decision::Granted(_) | Decision::Replayed(_)), "{answers:?}");
        }
        assert!(matches!(answers[0], Decision::Granted(_)), "{answers:?}");
        engine.close();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn a_waiter_that_leaves_or_loses_patience_is_in_nobodys_way() {
    under_many_schedules("waiters leave and lose patience at any step (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        shuttle::future::block_on(async {
            let owner = shared.apply(b"key", reserve(9, 0)).await.unwrap();
            assert!(matches!(owner, Decision::Granted(_)));
        });
        let answers = callers(4, async move |caller| match caller {
            1 => {
                let call = shared.apply_waiting(b"key", reserve(1, 0), for_ever());
                leave_after(shuttle::rand::thread_rng().gen_range(0..6), call).await;
                // Once it has left, it is settled whether it was granted the key: it is not later.
                let left = shared.apply(b"key", release(1, 0)).await.unwrap();
                let is_settled = matches!(left, Decision::Released | Decision::Refused(_));
                assert!(is_settled, "{left:?}");
                None
            }
            2 => {
                let looks = shuttle::rand::thread_rng().gen_range(0..6);
                let call = shared.apply_waiting(b"key", reserve(2, 0), for_looks(looks));
                let decision = call.await.unwrap();
                // Not for ever, or the next one waits for ever.
                if let Decision::Granted(_) = decision {
                    shared.apply(b"key", release(2, 0)).await.unwrap();
                }
                Some(decision)
            }
            3 => {
                shared.apply(b"key", release(9, 0)).await.unwrap();
                None
            }
            _ => Some(shared.apply_waiting(b"key", reserve(4, 0), for_ever()).await.unwrap()),
        });
        assert!(matches!(answers[3], Some(Decision::Granted(_))), "{answers:?}");
        engine.close();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn when_a_lease_lapses_whoever_waits_takes_over_in_turn() {
    under_many_schedules("leases lapse while callers are parked (shuttle)", || {
        let engine = Engine::open(Tables::default());
        let shared = engine.clone();
        shuttle::future::block_on(async {
            shared.apply(b"key", reserve(9, 0)).await.unwrap();
        });
        let answers = callers(4, async move |caller| {
            if caller == 1 {
                shared.clock.advance(Span::from_secs(31));
                shared.core.alarm.ring();
                return 1;
            }
            let call = shared.apply_waiting(b"key", reserve(caller, 0), for_ever());
            let Decision::Granted(granted) = call.await.unwrap() else { panic!("not granted") };
            shared.apply(b"key", release(caller, 0)).await.unwrap();
            granted.attempt
        });
        let mut attempts = answers.clone();
        attempts.sort_unstable();
        assert_eq!(attempts, [1, 2, 3, 4], "each takes over once");
        engine.close();
        assert!(engine.tables.is_synced());
    });
}

#[test]
fn whoever_waits_when_the_engine_ends_is_told() {
    under_many_schedules("the engine closes or is poisoned under waiters (shuttle)", || {
        let is_poisoned = shuttle::rand::thread_rng().gen_range(0..2) == 0;
        let tables = if is_poisoned { Tables::failing_after(2) } else { Tables::default() };
        let engine = Engine::open(tables);
        let (shared, ending) = (engine.clone(), engine.clone());
        shuttle::future::block_on(async {
            shared.apply(b"key", reserve(9, 0)).await.unwrap();
        });
        let ender = thread::spawn(move || {
            if is_poisoned {
                let other = ending.apply(b"other", reserve(8, 0));
                shuttle::future::block_on(other).unwrap_err();
            } else {
                ending.close();
            }
        });
        let answers = callers(3, async move |caller| {
            shared.apply_waiting(b"key", reserve(caller, 0), for_ever()).await
        });
        ender.join().unwrap();
        for answer in answers {
            let error = answer.unwrap_err();
            assert!(matches!(error, EngineError::Closing | EngineError::Unavailable), "{error}");
        }
        engine.close();
    });
}
