//! Callers who compete for few keys and write down what they sent and were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onced::pb::v1;
use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::calls::{Answer, Call, End, Meaning, Request, Window, find_windows, meaning};
use crate::dice::Dice;

const KEYS: u64 = 3;
const CALLERS: usize = 8;
const CONNECTIONS: usize = 3;
/// How many calls each of them makes until the break, and after it.
const CALLS: u64 = 24;
/// Owner tokens of one key, which all callers share: so each of them now and then is the
/// owner, was the owner, or never will be.
const TOKENS: usize = 4;
/// Most requests carry the first.
const FINGERPRINTS: [u8; 2] = [1, 2];

/// The retention of what ends without a Complete, in milliseconds: so short that keys become
/// vacant again while their callers are at it.
pub const RETENTION: i64 = 400;

/// The settings of a server that is put to the test.
pub fn settings() -> [&'static str; 8] {
    [
        "--retention-default",
        "400ms",
        "--restart-grace",
        "0s",
        "--drain-grace",
        "0s",
        "--drain-limit",
        "2s",
    ]
}

type Client = IdempotencyServiceClient<Channel>;

/// What came of calls that were made in one.
type Ends = Vec<Result<Answer, Status>>;

/// One set of keys and what was done to them.
pub struct Round {
    keys: Vec<Key>,
    dice: Dice,
    began_at: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    /// Who was granted each key last, as far as callers were told.
    owners: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Clone)]
struct Key {
    name: String,
    owner_tokens: Vec<String>,
}

impl Round {
    pub fn new(number: u64, seed: u64) -> Self {
        let key = |key| Key {
            name: format!("key-{number}-{key}"),
            owner_tokens: (0..TOKENS).map(|_| Uuid::new_v4().to_string()).collect(),
        };
        Self {
            keys: (0..KEYS).map(key).collect(),
            dice: Dice(seed),
            began_at: Instant::now(),
            calls: Arc::default(),
            owners: Arc::default(),
        }
    }

    /// Lets all callers work. When half of their calls are made, `strike` is called.
    pub async fn run(&mut self, address: SocketAddr, strike: impl FnOnce()) {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(connect(address).await);
        }
        let made = Arc::new(Semaphore::new(0));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let caller = self.caller(connections[number % CONNECTIONS].clone());
            callers.spawn(caller.work(Arc::clone(&made)));
        }
        let half = u32::try_from(CALLERS as u64 * CALLS / 2).unwrap();
        made.acquire_many(half).await.unwrap().forget();
        strike();
        callers.join_all().await;
    }

    /// Asks for every key once more. The answers say when they were decided, so that the
    /// refusals before them cannot be explained by what would have been true later.
    pub async fn ask_once_more(&mut self, address: SocketAddr) {
        let mut caller = self.caller(connect(address).await);
        for key in self.keys.clone() {
            for fingerprint in FINGERPRINTS {
                let owner_token = Uuid::new_v4().to_string();
                let request = caller.reserve(key.name.clone(), owner_token, fingerprint);
                assert!(!caller.call(Request::Reserve(request)).await, "the server is gone");
            }
        }
    }

    fn caller(&mut self, client: Client) -> Caller {
        Caller {
            client,
            keys: self.keys.clone(),
            dice: Dice(self.dice.roll()),
            began_at: self.began_at,
            calls: Arc::clone(&self.calls),
            owners: Arc::clone(&self.owners),
        }
    }

    /// The calls on each key.
    pub fn history(self) -> BTreeMap<String, Vec<Call>> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        find_windows(&mut calls);
        let mut history = BTreeMap::<_, Vec<_>>::new();
        for call in calls {
            history.entry(call.request.key().to_owned()).or_default().push(call);
        }
        history
    }
}

/// A status that came as a message.
fn status_of(message: &tonic_types::pb::Status) -> Status {
    let details = message.encode_to_vec().into();
    Status::with_details(Code::from(message.code), &message.message, details)
}

async fn connect(address: SocketAddr) -> Client {
    Client::connect(format!("http://{address}")).await.unwrap()
}

struct Caller {
    client: Client,
    keys: Vec<Key>,
    dice: Dice,
    began_at: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    owners: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Caller {
    /// Makes its calls, or leaves with the first that the server's end left without an answer:
    /// the next ones could only be like it.
    async fn work(mut self, made: Arc<Semaphore>) {
        for _ in 0..CALLS {
            let is_open = if self.dice.below(8) == 0 {
                self.call_together().await
            } else {
                let request = self.any_request();
                self.call(request).await
            };
            made.add_permits(1);
            if is_open {
                break;
            }
            if self.dice.below(3) == 0 {
                // So that leases lapse and retentions end in between.
                tokio::time::sleep(Duration::from_millis(self.dice.below(160))).await;
            }
        }
        // Whoever leaves early is not waited for.
        made.add_permits(CALLS as usize);
    }

    fn any_request(&mut self) -> Request {
        let key = self.keys[self.dice.below(KEYS) as usize].clone();
        self.request(&key)
    }

    /// Makes several calls in one, and writes each down as a call of its own, which was sent and
    /// answered with the others. Says whether they are open.
    async fn call_together(&mut self) -> bool {
        let (mut reserves, mut completes) = (Vec::new(), Vec::new());
        while reserves.len() < 3 && completes.len() < 3 {
            match self.any_request() {
                Request::Reserve(it) => {
                    reserves.push(v1::ReserveRequest { wait_timeout: None, ..it });
                }
                Request::Complete(it) => completes.push(it),
                Request::Release(_) | Request::Renew(_) | Request::Lookup(_) => {}
            }
        }
        let called_at = self.now();
        let (requests, ends) = if reserves.len() == 3 {
            let requests = reserves.iter().cloned().map(Request::Reserve).collect();
            (requests, self.send_reserves(reserves).await)
        } else {
            let requests = completes.iter().cloned().map(Request::Complete).collect();
            (requests, self.send_completes(completes).await)
        };
        let requests: Vec<Request> = requests;
        let ends = ends.unwrap_or_else(|status| vec![Err(status); requests.len()]);
        let mut is_open = false;
        for (request, end) in requests.into_iter().zip(ends) {
            is_open |= self.write_down(request, called_at, end);
        }
        is_open
    }

    async fn send_reserves(&mut self, items: Vec<v1::ReserveRequest>) -> Result<Ends, Status> {
        use v1::batch_reserve_item::Result as Item;
        let answer = self.client.batch_reserve(v1::BatchReserveRequest { items }).await?;
        let items = answer.into_inner().items.into_iter().map(|item| match item.result.unwrap() {
            Item::Response(answer) => Ok(Answer::Reserve(answer)),
            Item::Status(status) => Err(status_of(&status)),
        });
        Ok(items.collect())
    }

    async fn send_completes(&mut self, items: Vec<v1::CompleteRequest>) -> Result<Ends, Status> {
        use v1::batch_complete_item::Result as Item;
        let sent: Vec<_> = items.iter().map(|item| item.response.clone()).collect();
        let answer = self.client.batch_complete(v1::BatchCompleteRequest { items }).await?;
        let items = answer.into_inner().items.into_iter().zip(sent);
        let items = items.map(|(item, sent)| match item.result.unwrap() {
            Item::Response(mut answer) => {
                // It comes without the response, which was the same as on record or a conflict.
                let completion = answer.completion.as_mut().unwrap();
                assert_eq!(completion.response, None);
                completion.response = sent;
                Ok(Answer::Complete(answer))
            }
            Item::Status(status) => Err(status_of(&status)),
        });
        Ok(items.collect())
    }

    /// Makes one call and writes it down, unless it surely did nothing: an effect of such a
    /// call then has no cause in the history. Says whether it is open.
    async fn call(&mut self, request: Request) -> bool {
        let called_at = self.now();
        let end = self.send(request.clone()).await;
        self.write_down(request, called_at, end)
    }

    fn write_down(
        &mut self,
        request: Request,
        called_at: u64,
        end: Result<Answer, Status>,
    ) -> bool {
        let meaning = match end {
            Ok(answer) => Meaning::Answered(answer),
            Err(status) => meaning(&status),
        };
        let end = match meaning {
            Meaning::Answered(answer) => End::Answered { at: self.now(), answer },
            Meaning::Open => End::Open,
            Meaning::Nothing => return false,
        };
        if let End::Answered { answer, .. } = &end
            && let Some(granted) = answer.granted()
        {
            let owner_token = granted.owner_token.clone();
            self.owners.lock().unwrap().insert(request.key().to_owned(), owner_token);
        }
        let is_open = matches!(end, End::Open);
        let call = Call { request, called_at, end, decided: Window::default() };
        self.calls.lock().unwrap().push(call);
        is_open
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began_at.elapsed().as_nanos()).unwrap()
    }

    fn request(&mut self, key: &Key) -> Request {
        let any = key.owner_tokens[self.dice.below(TOKENS as u64) as usize].clone();
        let (namespace, key) = (String::new(), key.name.clone());
        let choice = self.dice.below(20);
        let owner_token = match self.owners.lock().unwrap().get(&key) {
            // Mostly the owner, as far as anybody knows: strangers change nothing.
            Some(owner) if choice >= 9 && self.dice.below(3) > 0 => owner.clone(),
            _ => any,
        };
        match choice {
            0..9 => {
                let fingerprint = FINGERPRINTS[usize::from(self.dice.below(12) == 0)];
                Request::Reserve(self.reserve(key, owner_token, fingerprint))
            }
            9..12 => Request::Complete(v1::CompleteRequest {
                namespace,
                key,
                owner_token,
                result: 1 + self.dice.below(2) as i32,
                response: Some(v1::Response {
                    payload: vec![self.dice.below(2) as u8; 9],
                    ..Default::default()
                }),
                retention: self.span(&[100, 100, 250, 700]),
            }),
            12..13 => Request::Release(v1::ReleaseRequest { namespace, key, owner_token }),
            13..16 => Request::Renew(v1::RenewRequest {
                namespace,
                key,
                owner_token,
                lease: self.span(&[100, 130]),
                checkpoint: (self.dice.below(2) == 0).then(|| self.dice.bytes(4)),
            }),
            _ => Request::Lookup(v1::LookupRequest { namespace, key, wait_timeout: self.wait() }),
        }
    }

    fn reserve(&mut self, key: String, owner_token: String, fingerprint: u8) -> v1::ReserveRequest {
        v1::ReserveRequest {
            namespace: String::new(),
            key,
            fingerprint: vec![fingerprint],
            holder: owner_token[..8].to_owned(),
            owner_token,
            lease: self.span(&[100, 100, 130, 200]),
            lease_expiry_action: if self.dice.below(3) == 0 { 2 } else { 1 },
            wait_timeout: self.wait(),
            retry_failed: self.dice.below(2) == 0,
        }
    }

    /// Every third caller waits, for longer than most leases last or less.
    fn wait(&mut self) -> Option<prost_types::Duration> {
        match self.dice.below(3) {
            0 => self.span(&[20, 60, 150, 300]),
            _ => None,
        }
    }

    fn span(&mut self, millis: &[i32]) -> Option<prost_types::Duration> {
        let millis = millis[self.dice.below(millis.len() as u64) as usize];
        Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 })
    }

    async fn send(&mut self, request: Request) -> Result<Answer, tonic::Status> {
        let client = &mut self.client;
        Ok(match request {
            Request::Reserve(it) => Answer::Reserve(client.reserve(it).await?.into_inner()),
            Request::Complete(it) => Answer::Complete(client.complete(it).await?.into_inner()),
            Request::Release(it) => Answer::Release(client.release(it).await?.into_inner()),
            Request::Renew(it) => Answer::Renew(client.renew(it).await?.into_inner()),
            Request::Lookup(it) => Answer::Lookup(client.lookup(it).await?.into_inner()),
        })
    }
}
