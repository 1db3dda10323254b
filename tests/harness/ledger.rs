//! What callers were told, and what has to be true of it after any crash.
//!
//! Callers work without pause until the server is gone. Each keeps an entry per key: what was
//! acknowledged, or what was sent and has no answer. After the restart each entry is checked:
//! what was acknowledged is as it was told, and what has no answer is sent again, which must
//! come to the same as if it had been answered the first time.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, Completion, Granted, ReleaseRequest, RenewRequest, ReserveRequest, Response,
    Result as OperationResult,
};
use prost_types::Duration;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::dice::Dice;

const CALLERS: usize = 24;
const CONNECTIONS: usize = 6;

/// Keys that all callers compete for. All others have one caller each.
const CONTENDED_KEYS: u64 = 4;

/// No lease of these callers ever lapses.
const LEASE: Duration = Duration { seconds: 24 * 60 * 60, nanos: 0 };

type Client = IdempotencyServiceClient<Channel>;

/// Everything that the callers know.
pub struct Ledger {
    entries: Vec<Vec<Entry>>,
    dice: Dice,
    /// What a server may say that goes away or fails.
    last_words: &'static [&'static str],
    told: Arc<Told>,
}

/// What the callers know together.
struct Told {
    grants: Mutex<Grants>,
    answers: Semaphore,
    answered: AtomicU64,
}

#[derive(Default)]
struct Grants {
    owners: HashMap<i64, String>,
    highest: HashMap<String, i64>,
}

/// What one caller knows of one key.
struct Entry {
    contended: bool,
    order: ReserveRequest,
    /// The grant before this one.
    before: Option<Granted>,
    known: Known,
}

enum Known {
    /// A Reserve was sent, or is about to be.
    Reserving,
    /// The latest answer to Reserve or Renew.
    Held(Granted),
    /// A Renew was sent.
    Renewing(Granted, RenewRequest),
    /// A Complete was sent.
    Completing(Granted, CompleteRequest),
    Completed(Completion),
    /// A Release was sent.
    Releasing(Granted),
    Released(Granted),
}

impl Ledger {
    /// An empty one. Equal seeds make equal choices.
    pub fn new(seed: u64) -> Self {
        Self {
            entries: (0..CALLERS).map(|_| Vec::new()).collect(),
            dice: Dice(seed),
            last_words: &["DRAINING"],
            told: Arc::new(Told {
                grants: Mutex::new(Grants::default()),
                answers: Semaphore::new(0),
                answered: AtomicU64::new(0),
            }),
        }
    }

    /// One whose callers also stop where a server refuses for one of these reasons.
    pub fn of_a_server_that_says(seed: u64, last_words: &'static [&'static str]) -> Self {
        Self { last_words, ..Self::new(seed) }
    }

    /// Lets all callers work until the server is gone. After a random number of answers,
    /// `strike` is called.
    pub async fn work(&mut self, address: SocketAddr, strike: impl FnOnce()) {
        let clients = connect(address).await;
        let mut callers = JoinSet::new();
        for (number, entries) in self.entries.drain(..).enumerate() {
            let caller = Caller {
                client: clients[number % CONNECTIONS].clone(),
                told: self.told.clone(),
                dice: Dice(self.dice.roll()),
            };
            callers.spawn(caller.work(entries, self.last_words));
        }
        let answers = 200 + self.dice.below(6_000);
        tokio::select! {
            permits = self.told.answers.acquire_many(u32::try_from(answers).unwrap()) => {
                permits.unwrap().forget();
            }
            Some(ended) = callers.join_next() => {
                ended.unwrap();
                panic!("the server went away by itself");
            }
        }
        strike();
        self.entries = callers.join_all().await;
        self.told.answers.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Checks every entry, and settles those without an answer.
    pub async fn check(&mut self, address: SocketAddr) {
        let clients = connect(address).await;
        let mut callers = JoinSet::new();
        for (number, entries) in self.entries.drain(..).enumerate() {
            let caller = Caller {
                client: clients[number % CONNECTIONS].clone(),
                told: self.told.clone(),
                dice: Dice(self.dice.roll()),
            };
            callers.spawn(caller.check(entries));
        }
        self.entries = callers.join_all().await;
    }

    /// Every completion that was acknowledged, which nothing changes any more.
    pub fn completions(&self) -> Vec<(ReserveRequest, Completion)> {
        let entries = self.entries.iter().flatten();
        let completed = entries.filter_map(|entry| match &entry.known {
            Known::Completed(completion) => Some((entry.order.clone(), completion.clone())),
            _ => None,
        });
        completed.collect()
    }

    /// Checks that a server tells all of `completions`.
    pub async fn are_replayed(address: SocketAddr, completions: &[(ReserveRequest, Completion)]) {
        let client = connect(address).await.remove(0);
        let (told, dice) = (Self::new(0).told, Dice(0));
        let mut caller = Caller { client, told, dice };
        for (order, completion) in completions {
            caller.is_replayed(order, completion).await;
        }
    }

    /// The largest fencing token that anybody was given.
    pub fn highest_fencing_token(&self) -> i64 {
        self.told.grants.lock().unwrap().owners.keys().copied().max().unwrap_or(0)
    }

    /// How many answers the callers have had at work.
    pub fn answered(&self) -> u64 {
        self.told.answered.load(Ordering::Relaxed)
    }

    /// What there is to lose, for the output of the test.
    pub fn summary(&self) -> String {
        let count = |wanted: fn(&Known) -> bool| {
            self.entries.iter().flatten().filter(|entry| wanted(&entry.known)).count()
        };
        format!(
            "{} completed, {} held, {} released, {} without an answer, {} fencing tokens",
            count(|known| matches!(known, Known::Completed(_))),
            count(|known| matches!(known, Known::Held(_))),
            count(|known| matches!(known, Known::Released(_))),
            count(|known| {
                matches!(
                    known,
                    Known::Reserving
                        | Known::Renewing(..)
                        | Known::Completing(..)
                        | Known::Releasing(_)
                )
            }),
            self.told.grants.lock().unwrap().owners.len(),
        )
    }
}

async fn connect(address: SocketAddr) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(format!("http://{address}")).await.unwrap());
    }
    clients
}

/// One caller at work.
struct Caller {
    client: Client,
    told: Arc<Told>,
    dice: Dice,
}

impl Caller {
    async fn work(mut self, mut entries: Vec<Entry>, last_words: &[&str]) -> Vec<Entry> {
        loop {
            let at = self.next(&mut entries);
            if let Err(status) = self.step(&mut entries[at]).await {
                is_one_of(last_words, &status);
                return entries;
            }
            self.told.answers.add_permits(1);
            self.told.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Goes on with a key that is held or released, or begins with another one.
    fn next(&mut self, entries: &mut Vec<Entry>) -> usize {
        if !entries.is_empty() && self.dice.below(3) > 0 {
            // The latest ones: the others stay as they are until the next crash.
            let latest = self.dice.below(entries.len().min(8) as u64) as usize;
            let at = entries.len() - 1 - latest;
            match entries[at].known {
                Known::Completed(_) => {}
                _ => return at,
            }
        }
        let contended = self.dice.below(8) == 0;
        let key = match contended {
            true => format!("contended-{}", self.dice.below(CONTENDED_KEYS)),
            false => Uuid::new_v4().to_string(),
        };
        entries.push(Entry {
            contended,
            order: ReserveRequest {
                namespace: "orders".into(),
                fingerprint: Sha256::digest(&key).to_vec(),
                key,
                owner_token: Uuid::new_v4().into(),
                lease: Some(LEASE),
                holder: "a caller that lives on".into(),
                ..Default::default()
            },
            before: None,
            known: Known::Reserving,
        });
        entries.len() - 1
    }

    /// Does what comes next in the life of a key. Where that fails, the entry says what was
    /// sent.
    async fn step(&mut self, entry: &mut Entry) -> Result<(), Status> {
        if let Known::Released(granted) = &entry.known {
            entry.order.owner_token = Uuid::new_v4().into();
            entry.before = Some(granted.clone());
            entry.known = Known::Reserving;
        } else if let Known::Held(granted) = &entry.known {
            entry.known = self.ending(entry, granted.clone());
        }
        self.send(entry).await
    }

    /// What a holder does next. A contended key is only ever given back.
    fn ending(&mut self, entry: &Entry, granted: Granted) -> Known {
        let ReserveRequest { namespace, key, owner_token, .. } = entry.order.clone();
        match self.dice.below(10) {
            _ if entry.contended => Known::Releasing(granted),
            0 => {
                let checkpoint = Some(self.dice.bytes(100));
                let lease = Some(LEASE);
                Known::Renewing(
                    granted,
                    RenewRequest { namespace, key, owner_token, lease, checkpoint },
                )
            }
            1 | 2 => Known::Releasing(granted),
            _ => {
                let result = match self.dice.below(4) {
                    0 => OperationResult::Failed,
                    _ => OperationResult::Succeeded,
                };
                let response = Response {
                    payload: self.dice.bytes(2_000),
                    content_type: "application/octet-stream".into(),
                    status_code: 200 + self.dice.below(400) as i32,
                    metadata: [("request-id".to_owned(), Uuid::new_v4().to_string())].into(),
                };
                let request = CompleteRequest {
                    namespace,
                    key,
                    owner_token,
                    result: result.into(),
                    response: Some(response),
                    retention: None,
                };
                Known::Completing(granted, request)
            }
        }
    }

    /// Sends what the entry says is to be sent, for the first time or again.
    async fn send(&mut self, entry: &mut Entry) -> Result<(), Status> {
        let ReserveRequest { namespace, key, owner_token, .. } = entry.order.clone();
        entry.known = match &entry.known {
            Known::Reserving => {
                let Some(granted) = self.reserve(entry).await? else {
                    // Somebody else is at it; the entry stays, and is sent another time.
                    return Ok(());
                };
                Known::Held(granted)
            }
            Known::Renewing(granted, request) => {
                let renewed = self.client.renew(request.clone()).await?.into_inner();
                Known::Held(Granted {
                    lease_expire_time: renewed.lease_expire_time,
                    checkpoint: request.checkpoint.clone().unwrap(),
                    ..granted.clone()
                })
            }
            Known::Completing(granted, request) => {
                let answer = self.client.complete(request.clone()).await?.into_inner();
                let completion = answer.completion.unwrap();
                assert_eq!(
                    (completion.result, &completion.response),
                    (request.result, &request.response)
                );
                assert_eq!(completion.fencing_token, granted.fencing_token);
                Known::Completed(completion)
            }
            Known::Releasing(granted) => {
                let request = ReleaseRequest { namespace, key, owner_token };
                self.client.release(request).await?;
                Known::Released(granted.clone())
            }
            Known::Held(_) | Known::Completed(_) | Known::Released(_) => {
                unreachable!("there is nothing to send")
            }
        };
        Ok(())
    }

    async fn reserve(&mut self, entry: &Entry) -> Result<Option<Granted>, Status> {
        let key = &entry.order.key;
        let above = self.told.grants.lock().unwrap().highest.get(key).copied().unwrap_or(0);
        let answer = self.client.reserve(entry.order.clone()).await?.into_inner();
        let granted = match answer.outcome.unwrap() {
            Outcome::Granted(granted) => granted,
            Outcome::InProgress(_) if entry.contended => return Ok(None),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(granted.owner_token, entry.order.owner_token);
        assert!(granted.fencing_token > above, "{key}: {granted:?} after {above}");
        assert!(!granted.takeover);
        if let Some(before) = &entry.before
            && !entry.contended
        {
            assert_eq!(granted.attempt, before.attempt + 1);
            assert_eq!(granted.checkpoint, before.checkpoint);
        }
        self.told.note(key, &granted);
        Ok(Some(granted))
    }

    async fn check(mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        for entry in &mut entries {
            match &entry.known {
                Known::Completed(completion) => self.is_replayed(&entry.order, completion).await,
                Known::Held(granted) => self.is_held(&entry.order, granted).await,
                // Another owner may have come and gone since.
                Known::Released(_) if entry.contended => {}
                Known::Released(_) => self.is_spent(&entry.order).await,
                Known::Releasing(granted) if entry.contended => {
                    // Sent again, it may find another owner: then the first one has arrived.
                    let released = Known::Released(granted.clone());
                    if let Err(status) = self.send(entry).await {
                        assert_eq!(status.code(), Code::Aborted, "{status:?}");
                        entry.known = released;
                    }
                }
                _ => self.send(entry).await.unwrap(),
            }
        }
        // One caller may still hold a contended key, and others wait for it: all give back.
        for entry in entries.iter_mut().filter(|entry| entry.contended) {
            if let Known::Held(_) = entry.known {
                self.step(entry).await.unwrap();
            }
        }
        entries
    }

    /// Whoever asks is told the end of the operation, byte for byte.
    async fn is_replayed(&mut self, order: &ReserveRequest, completion: &Completion) {
        let stranger = ReserveRequest { owner_token: String::new(), ..order.clone() };
        let answer = self.client.reserve(stranger).await.unwrap().into_inner();
        assert_eq!(answer.outcome.as_ref(), Some(&Outcome::Completed(completion.clone())));
    }

    /// The owner still is the owner, with the same fencing token, lease and checkpoint.
    async fn is_held(&mut self, order: &ReserveRequest, granted: &Granted) {
        let answer = self.client.reserve(order.clone()).await.unwrap().into_inner();
        assert_eq!(answer.outcome.as_ref(), Some(&Outcome::Granted(granted.clone())));
    }

    /// The owner gave it back, and its token does not come to life again.
    async fn is_spent(&mut self, order: &ReserveRequest) {
        let refused = self.client.reserve(order.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    }
}

impl Told {
    /// No two grants ever share a fencing token, whatever their keys.
    fn note(&self, key: &str, granted: &Granted) {
        let mut grants = self.grants.lock().unwrap();
        let highest = grants.highest.entry(key.to_owned()).or_default();
        *highest = granted.fencing_token.max(*highest);
        let owner = grants.owners.insert(granted.fencing_token, granted.owner_token.clone());
        let same = owner.as_ref().is_none_or(|owner| *owner == granted.owner_token);
        assert!(same, "fencing token {} was given out twice", granted.fencing_token);
    }
}

/// A server that goes away says nothing wrong on its way.
fn is_one_of(last_words: &[&str], status: &Status) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    assert!(reason.as_deref().is_none_or(|reason| last_words.contains(&reason)), "{status:?}");
}
