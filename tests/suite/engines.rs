//! The engines that are put to the test: how one is opened, restarted, killed and made to
//! fail, and a few words to speak to it with.
//!
//! A [`Lab`] has a clock that only the test moves and, where the engine stores on disk, a
//! directory of its own; [`Store`] is the engine while it is open. What is promised of an
//! engine is not here: see `conformance/`.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use onced::clock::ManualClock;
use onced::domain::{
    Command, Complete, Decision, Fingerprint, Granted, IdempotencyKey, LeaseExpiryAction, Moment,
    Namespace, Outcome, OwnerToken, Record, RecordKey, Release, Renew, Reserve, Response, Span,
};
use onced::storage::erase::{EraseOrder, Erasing};
use onced::storage::fault::{Fault, FaultPlan, Operation};
use onced::storage::list::{Listing, Page};
use onced::storage::memory::MemoryEngine;
use onced::storage::{
    Answering, Condition, Decided, Engine, EngineError, OpenError, Purged, StoreOptions, StoreUrl,
    Usage, open,
};
use tempfile::TempDir;
use tokio::runtime;
use tokio::task::JoinHandle;

/// What an engine answers.
pub type Answer = Result<Decided<Decision>, EngineError>;

/// The three callers of every story.
pub const ANN: OwnerToken = OwnerToken::from_bytes([0xa1; 16]);
pub const BOB: OwnerToken = OwnerToken::from_bytes([0xb2; 16]);
pub const CLEO: OwnerToken = OwnerToken::from_bytes([0xc3; 16]);

/// When every story begins.
pub const MORNING: Moment = Moment::from_millis(1_800_000_000_000);

/// The lease and the retention of commands that do not say otherwise.
pub const LEASE: Span = Span::from_secs(30);
pub const RETENTION: Span = Span::from_secs(24 * 60 * 60);

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Rocks,
}

/// Something that a promise needs to be put to the test, and that not every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Data that outlives the engine.
    Restart,
    /// A disk, which can fail or run full.
    Disk,
    /// Calls that wait for their turn.
    Queue,
}

/// How a test ends that did not fail: the promise was kept, or the engine lacks what the
/// test needs.
pub type Verdict = Result<(), Lacking>;

/// The engine does not have what the test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking(pub Need);

/// One engine with its surroundings. They outlive it, so that it can be opened again.
pub struct Lab {
    pub clock: Arc<ManualClock>,
    /// How the store is opened next.
    pub options: StoreOptions,
    kind: Kind,
    root: TempDir,
    generation: u32,
}

impl Lab {
    pub fn new(kind: Kind) -> Self {
        Self {
            clock: Arc::new(ManualClock::at(MORNING)),
            options: StoreOptions {
                memtable_bytes: 256 << 10,
                block_cache_bytes: 1 << 20,
                min_free_disk_bytes: 0,
                ..StoreOptions::default()
            },
            kind,
            root: tempfile::tempdir().unwrap(),
            generation: 0,
        }
    }

    /// Opens the store, for the first time or after the last one was dropped.
    pub fn open(&self) -> Store {
        self.try_open().unwrap_or_else(|error| panic!("cannot open: {error}"))
    }

    pub fn try_open(&self) -> Result<Store, OpenError> {
        let url = match self.kind {
            Kind::Memory => StoreUrl::Memory,
            Kind::Rocks => StoreUrl::RocksDb(self.path()),
        };
        Ok(Store::of(open(&url, self.clock.clone(), &self.options)?))
    }

    /// Opens a store that lies elsewhere.
    pub fn open_at(&self, path: &Path) -> Store {
        self.try_open_at(path).unwrap_or_else(|error| panic!("cannot open: {error}"))
    }

    pub fn try_open_at(&self, path: &Path) -> Result<Store, OpenError> {
        let url = StoreUrl::RocksDb(path.to_owned());
        Ok(Store::of(open(&url, self.clock.clone(), &self.options)?))
    }

    /// Opens a store on which Ann holds these reservations and which has no room for more.
    pub fn open_full(&mut self, keys: &[&str]) -> Store {
        let reserve_all = |store: &Store| {
            for key in keys {
                store.granted(key, reserve(ANN));
            }
        };
        match self.kind {
            Kind::Memory => {
                let engine = MemoryEngine::bounded(self.clock.clone(), &self.options, keys.len());
                let store = Store::of(Arc::new(engine));
                reserve_all(&store);
                store
            }
            Kind::Rocks => {
                let roomy = self.open();
                reserve_all(&roomy);
                drop(roomy);
                self.options.min_free_disk_bytes = u64::MAX;
                self.open()
            }
        }
    }

    /// Ends `store` in order and opens what it left.
    pub fn restart(&self, store: Store) -> Result<Store, Lacking> {
        self.restart_after(store, Span::default())
    }

    /// The same with an `outage` in between.
    pub fn restart_after(&self, store: Store, outage: Span) -> Result<Store, Lacking> {
        self.directory(Need::Restart)?;
        drop(store);
        self.clock.advance(outage);
        Ok(self.open())
    }

    /// Ends `store` abruptly and opens what it left: a copy of its files as they are while it
    /// runs. This shows recovery, and not what a power cut would leave.
    pub fn kill(&mut self, store: Store) -> Result<Store, Lacking> {
        self.kill_for(store, Span::default())
    }

    /// The same with an `outage` in between.
    pub fn kill_for(&mut self, store: Store, outage: Span) -> Result<Store, Lacking> {
        let copy = self.copy_what_is_there()?;
        drop(store);
        self.go_on_with(copy);
        self.clock.advance(outage);
        Ok(self.open())
    }

    /// The first step of a kill, for a store that others still use.
    pub fn copy_what_is_there(&self) -> Result<u32, Lacking> {
        let from = self.directory(Need::Restart)?;
        let copy = self.generation + 1;
        copy_files(&from, &self.root.path().join(copy.to_string()));
        Ok(copy)
    }

    /// The second step.
    pub fn go_on_with(&mut self, copy: u32) {
        self.generation = copy;
    }

    /// Opens a store of which the next `operation` can be made to fail, by the plan.
    pub fn open_fragile(&mut self) -> Result<(Store, Arc<FaultPlan>), Lacking> {
        self.directory(Need::Disk)?;
        let plan = Arc::new(FaultPlan::default());
        self.options.faults = Some(Arc::clone(&plan));
        Ok((self.open(), plan))
    }

    /// Where the store lies.
    pub fn directory(&self, need: Need) -> Result<PathBuf, Lacking> {
        match self.kind {
            Kind::Memory => Err(Lacking(need)),
            Kind::Rocks => Ok(self.path()),
        }
    }

    /// Which engine it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Passes only where calls wait for their turn.
    pub fn with_a_queue(&self) -> Verdict {
        match self.kind {
            Kind::Memory => Err(Lacking(Need::Queue)),
            Kind::Rocks => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join(self.generation.to_string())
    }
}

/// Copies a directory that is in use as it was at one moment: again and again, until no file
/// came, went or grew in the meantime. Logs may grow: they are right at any length.
pub fn copy_files(from: &Path, to: &Path) {
    let files = || -> BTreeMap<_, _> {
        let file = |file: std::io::Result<fs::DirEntry>| {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_log = name.ends_with(".log") || name.starts_with("LOG");
            let length = fs::metadata(from.join(&name)).map_or(0, |file| file.len());
            (name, if is_log { 0 } else { length })
        };
        fs::read_dir(from).unwrap().map(file).collect()
    };
    loop {
        let before = files();
        fs::create_dir(to).unwrap();
        let copied = before.keys().all(|name| fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && files() == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

/// The ways in which an operation on the disk can fail.
pub const FAULTS: [(Operation, Fault); 4] = [
    (Operation::Write, Fault::NotDone),
    (Operation::Write, Fault::DoneButReported),
    (Operation::Sync, Fault::NotDone),
    (Operation::Sync, Fault::DoneButReported),
];

/// An open engine, with a runtime of one thread to wait for it. Dropping it ends both.
pub struct Store {
    pub engine: Arc<dyn Engine>,
    pub runtime: Runtime,
}

impl Store {
    fn of(engine: Arc<dyn Engine>) -> Self {
        Self { engine, runtime: Runtime::single_threaded() }
    }

    /// Applies `command` and waits for the answer.
    pub fn ask(&self, key: &str, command: Command) -> Answer {
        self.ask_until(key, command, None)
    }

    pub fn ask_until(&self, key: &str, command: Command, deadline: Option<Instant>) -> Answer {
        self.runtime.block_on(self.engine.apply(key_of(key), command, deadline))
    }

    /// What `command` comes to.
    pub fn decide(&self, key: &str, command: Command) -> Decision {
        self.ask(key, command).unwrap().answer
    }

    /// What `command` is granted.
    pub fn granted(&self, key: &str, command: Command) -> Granted {
        granted(self.decide(key, command))
    }

    pub fn look(&self, key: &str) -> Result<Decided<Option<Record>>, EngineError> {
        self.runtime.block_on(self.engine.lookup(key_of(key), None))
    }

    /// What is on record.
    pub fn lookup(&self, key: &str) -> Option<Record> {
        self.look(key).unwrap().answer
    }

    /// The engine's time.
    pub fn now(&self) -> Moment {
        self.look("what time is it").unwrap().decided_at
    }

    /// Applies all `commands`, queued in this order before any is decided.
    pub fn together(&self, commands: Vec<(String, Command)>) -> Vec<Answer> {
        self.runtime.block_on(async {
            let calls: Vec<_> = commands
                .into_iter()
                .map(|(key, command)| {
                    let engine = Arc::clone(&self.engine);
                    tokio::spawn(async move { engine.apply(key_of(&key), command, None).await })
                })
                .collect();
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await.unwrap());
            }
            answers
        })
    }

    /// Applies all `commands` in one call.
    pub fn all(&self, commands: Vec<(&str, Command)>) -> Vec<Result<Decision, EngineError>> {
        self.runtime.block_on(self.engine.apply_all(batch(commands), None)).unwrap().answer
    }

    /// A call that moves only when it is told to.
    pub fn call(&self, key: &str, command: Command) -> Call<'_, Decision> {
        Call(self.engine.apply(key_of(key), command, None))
    }

    /// A call that waits for whoever is at it, as long as it takes.
    pub fn wait(&self, key: &str, command: Command) -> Call<'_, Decision> {
        let patience = Box::pin(std::future::pending());
        Call(self.engine.apply_waiting(key_of(key), command, None, patience))
    }

    /// The same, when it is parked.
    pub fn waits(&self, key: &str, command: Command) -> Call<'_, Decision> {
        self.waits_until(key, command, std::future::pending())
    }

    /// The same with a caller whose `patience` ends.
    pub fn waits_until(
        &self,
        key: &str,
        command: Command,
        patience: impl Future<Output = ()> + Send + 'static,
    ) -> Call<'_, Decision> {
        let patience = Box::pin(patience);
        Self::parked(self.engine.apply_waiting(key_of(key), command, None, patience))
    }

    /// A lookup that is parked.
    pub fn looks(&self, key: &str) -> Call<'_, Option<Record>> {
        let patience = Box::pin(std::future::pending());
        Self::parked(self.engine.lookup_waiting(key_of(key), None, patience))
    }

    /// A call that came in a tick of its own, and has to wait.
    pub fn parked<T>(call: Answering<'_, T>) -> Call<'_, T> {
        let mut call = Call(call);
        assert!(call.nudge().is_pending(), "it is queued");
        assert!(call.nudge().is_pending(), "it is decided, and parked");
        call
    }

    /// A page of records, as the engine shows it now.
    pub fn page(&self, listing: &Listing) -> Page {
        self.runtime.block_on(self.engine.list(listing.clone())).unwrap().answer
    }

    /// The keys on all pages of a listing, each with its namespace before it, and how many pages
    /// that took.
    pub fn list(&self, mut listing: Listing) -> (Vec<String>, usize) {
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.page(&listing);
            assert!(page.records.len() <= listing.limit);
            pages += 1;
            names.extend(page.records.iter().map(|listed| {
                format!("{}/{}", listed.key.namespace.as_str(), listed.key.key.as_str())
            }));
            if page.next.is_none() {
                return (names, pages);
            }
            listing.after = page.next;
        }
    }

    /// What a namespace has on record, as the engine counts it.
    pub fn usage(&self, namespace: &Namespace) -> Usage {
        let stats = self.runtime.block_on(self.engine.stats()).unwrap().answer;
        stats.usages.get(namespace.as_str().as_bytes()).copied().unwrap_or_default()
    }

    /// Asks for an erase, or how far it has come.
    pub fn erase(&self, order: &EraseOrder) -> Erasing {
        self.runtime.block_on(self.engine.erase(order.clone())).unwrap().answer
    }

    /// Takes steps until no erase runs, and counts what went.
    pub fn erase_all(&self, limit: usize) -> usize {
        let mut records = 0;
        loop {
            let step = self.engine.erase_step(limit).unwrap();
            records += step.records;
            if !step.more {
                return records;
            }
        }
    }

    /// Purges until there is nothing left to purge, and counts.
    pub fn purge_all(&self) -> usize {
        let mut records = 0;
        loop {
            let purged = self.engine.purge(100).unwrap();
            records += purged.records;
            if !purged.more {
                return records;
            }
        }
    }

    pub fn purge(&self, limit: usize) -> Purged {
        self.engine.purge(limit).unwrap()
    }

    pub fn condition(&self) -> Condition {
        *self.engine.condition().borrow()
    }
}

/// A call in the hands of a test.
pub struct Call<'a, T>(Answering<'a, T>);

impl<'a, T> Call<'a, T> {
    pub fn of(call: Answering<'a, T>) -> Self {
        Self(call)
    }

    /// Lets the call go as far as it can without waiting.
    pub fn nudge(&mut self) -> Poll<Result<Decided<T>, EngineError>> {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl<T> Future for Call<'_, T> {
    type Output = Result<Decided<T>, EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

/// A runtime that gives up on an answer that does not come, so that a test fails instead of
/// waiting for ever.
pub struct Runtime(runtime::Runtime);

impl Runtime {
    const PATIENCE: Duration = Duration::from_secs(30);

    pub fn single_threaded() -> Self {
        Self(runtime::Builder::new_current_thread().enable_time().build().unwrap())
    }

    pub fn multi_threaded() -> Self {
        let mut builder = runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(4).enable_time().build().unwrap())
    }

    pub fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        let answer = async { tokio::time::timeout(Self::PATIENCE, call).await };
        self.0.block_on(answer).expect("an answer should come")
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.spawn(call)
    }
}

/// Runs `caller` on as many threads, each with a runtime of its own, and waits for all.
pub fn on_threads<T: Send>(count: usize, caller: impl Fn(usize, &Runtime) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let caller = &caller;
        let threads: Vec<_> = (0..count)
            .map(|index| scope.spawn(move || caller(index, &Runtime::single_threaded())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A flag that is raised also where its thread panics, so that nobody waits for it for ever.
pub struct RaisedAtTheEnd<'a>(pub &'a AtomicBool);

impl Drop for RaisedAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub fn key_of(name: &str) -> RecordKey {
    key_in(Namespace::DEFAULT, name)
}

pub fn key_in(namespace: &str, name: &str) -> RecordKey {
    RecordKey {
        namespace: Namespace::new(namespace.to_owned()).unwrap(),
        key: IdempotencyKey::new(name.to_owned()).unwrap(),
    }
}

/// Commands for one call.
pub fn batch(commands: Vec<(&str, Command)>) -> Vec<(RecordKey, Command)> {
    commands.into_iter().map(|(key, command)| (key_of(key), command)).collect()
}

/// One of many owners.
pub fn owner(number: usize) -> OwnerToken {
    OwnerToken::from_bytes((number as u128 + 1).to_be_bytes())
}

pub fn reserve(owner_token: OwnerToken) -> Command {
    reserve_with(owner_token, |_| {})
}

pub fn reserve_with(owner_token: OwnerToken, change: impl FnOnce(&mut Reserve)) -> Command {
    let mut reserve = Reserve {
        fingerprint: Fingerprint::new(b"the same body".to_vec()).unwrap(),
        owner_token,
        lease: LEASE,
        lease_expiry_action: LeaseExpiryAction::Takeover,
        retention: RETENTION,
        retry_failed: false,
        holder: String::new(),
    };
    change(&mut reserve);
    Command::Reserve(reserve)
}

/// Reserves for `lease`.
pub fn reserve_for(owner_token: OwnerToken, lease: Span) -> Command {
    reserve_with(owner_token, |reserve| reserve.lease = lease)
}

/// Reserves for `lease`, after which nobody takes over.
pub fn hold_for(owner_token: OwnerToken, lease: Span) -> Command {
    reserve_with(owner_token, |reserve| {
        reserve.lease = lease;
        reserve.lease_expiry_action = LeaseExpiryAction::Hold;
    })
}

pub fn complete(owner_token: OwnerToken) -> Command {
    complete_with(owner_token, |_| {})
}

pub fn complete_with(owner_token: OwnerToken, change: impl FnOnce(&mut Complete)) -> Command {
    let payload = b"{\"paid\": true}".to_vec();
    let mut complete = Complete {
        owner_token,
        result: Outcome::Succeeded,
        response_size_bytes: payload.len() as u64,
        response: Response {
            payload,
            content_type: "application/json".into(),
            status_code: 201,
            metadata: [("location".to_owned(), "/orders/1".to_owned())].into(),
        },
        response_omitted: false,
        response_digest: [7; 32],
        retention: RETENTION,
    };
    change(&mut complete);
    Command::Complete(complete)
}

pub fn renew(owner_token: OwnerToken, lease: Span) -> Command {
    Command::Renew(Renew { owner_token, lease, checkpoint: None })
}

/// Renews and leaves `checkpoint` for whoever takes over.
pub fn leave(owner_token: OwnerToken, checkpoint: &str) -> Command {
    let checkpoint = Some(checkpoint.as_bytes().to_vec());
    Command::Renew(Renew { owner_token, lease: LEASE, checkpoint })
}

pub fn release(owner_token: OwnerToken) -> Command {
    Command::Release(Release { owner_token })
}

/// What was granted.
pub fn granted(decision: Decision) -> Granted {
    match decision {
        Decision::Granted(granted) => granted,
        other => panic!("not granted but {other:?}"),
    }
}
