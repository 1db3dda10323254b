//! Callers at work on a server, until it goes: they reserve, renew, complete, release, vanish,
//! ask about each other's keys, and write every answer into the book, with the length that the
//! journal had when it had arrived.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, LeaseExpiryAction, LookupRequest, ReleaseRequest, RenewRequest,
    ReserveRequest, Response, Result as OperationResult,
};
use prost_types::{Duration, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Status;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::Client;
use crate::book::{Book, Fact, Progress, Seen, Stage, checkpoint};
use crate::dice::Dice;
use crate::journal::Position;
use crate::recorder::Recording;

const CALLERS: usize = 16;
const CONNECTIONS: usize = 4;

/// How many of the latest keys are asked about.
const RECENT: usize = 40;

/// No such lease lapses in a test.
const LONG: Duration = Duration { seconds: 24 * 60 * 60, nanos: 0 };
/// Such a lease lapses while its owner still thinks.
const SHORT: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// What all callers share.
struct Shared {
    book: Mutex<Book>,
    recent: Mutex<VecDeque<String>>,
    recording: Recording,
    answers: Semaphore,
    /// Tells the lives of a store apart.
    life: u64,
}

/// How much work there is.
pub struct Load {
    /// So many answers, at least.
    pub answers: u32,
    /// Responses have up to so many bytes.
    pub bytes: u64,
    pub dice: Dice,
}

impl Load {
    /// Puts load on the server at `address` until there are enough answers, then calls `stop`
    /// and goes on until the server is gone; before that no call may fail. The book is that of this life of the store, which
    /// has a number.
    pub async fn work(
        mut self,
        address: SocketAddr,
        recording: &Recording,
        (book, life): (Book, u64),
        stop: impl FnOnce(),
    ) -> Result<Book, Status> {
        let mut inherited = attempts(&book);
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
            recent: Mutex::default(),
            recording: recording.clone(),
            answers: Semaphore::new(0),
            life,
        });
        let clients = crate::connect(address, CONNECTIONS).await;
        let mut callers = JoinSet::new();
        let share = inherited.len().div_ceil(CALLERS);
        for number in 0..CALLERS {
            let caller = Caller {
                client: clients[number % CONNECTIONS].clone(),
                shared: shared.clone(),
                dice: Dice(self.dice.roll()),
                bytes: self.bytes,
                renewals: (life * CALLERS as u64 + number as u64) * 1_000_000,
            };
            let inherited = inherited.split_off(inherited.len().saturating_sub(share));
            callers.spawn(caller.work(inherited));
        }
        tokio::select! {
            permits = shared.answers.acquire_many(self.answers) => permits.unwrap().forget(),
            Some(ended) = callers.join_next() => {
                return Err(ended.unwrap());
            }
        }
        stop();
        callers.join_all().await;
        let Ok(shared) = Arc::try_unwrap(shared) else { unreachable!("all callers have ended") };
        Ok(shared.book.into_inner().unwrap())
    }
}

/// An attempt whose owner lives on.
struct Attempt {
    key: String,
    owner_token: String,
    number: i32,
}

/// Those that the book leaves open.
fn attempts(book: &Book) -> Vec<Attempt> {
    let mut open = Vec::new();
    for (key, facts) in &book.keys {
        let Some(latest) = facts.iter().map(|fact| fact.stage).max() else { continue };
        if let Some(owner_token) = book.owner_token(key, latest.attempt)
            && latest.progress != Progress::Ended
        {
            let (key, owner_token) = (key.clone(), owner_token.to_owned());
            open.push(Attempt { key, owner_token, number: latest.attempt });
        }
    }
    open
}

/// A Reserve of `key` by whoever has the token.
pub fn order(key: &str, owner_token: &str) -> ReserveRequest {
    ReserveRequest {
        key: key.into(),
        fingerprint: Sha256::digest(key).to_vec(),
        owner_token: owner_token.into(),
        lease: Some(LONG),
        holder: "a caller in the dark".into(),
        ..Default::default()
    }
}

/// The reason of a refusal; none where the server is gone or going, so that the call may or
/// may not have happened.
pub fn refusal(status: &Status) -> Option<String> {
    let reason = status.get_details_error_info()?.reason;
    match reason.as_str() {
        "DRAINING" | "OUTCOME_UNKNOWN" => None,
        "LEASE_LOST"
        | "ALREADY_COMPLETED"
        | "RESULT_CONFLICT"
        | "FINGERPRINT_MISMATCH"
        | "RESERVATION_NOT_FOUND" => Some(reason),
        _ => panic!("{status:?}"),
    }
}

struct Caller {
    client: Client,
    shared: Arc<Shared>,
    dice: Dice,
    bytes: u64,
    /// The number of the latest renewal.
    renewals: u64,
}

/// The server is gone, or says that it is going.
struct Gone(Status);

/// The reason of a refusal that a caller may meet.
fn accepted(status: Status) -> Result<String, Gone> {
    refusal(&status).ok_or(Gone(status))
}

/// What comes of a call that nothing in its way can make fail.
fn refused_for_no_reason(key: &str, status: Status) -> Result<(), Gone> {
    accepted(status).map(|reason| panic!("{key}: {reason}"))
}

impl Caller {
    /// Works until the server goes, and returns how that showed.
    async fn work(mut self, inherited: Vec<Attempt>) -> Status {
        for attempt in inherited {
            // Some stay as they are until another night.
            if self.dice.below(2) == 0
                && let Err(Gone(status)) = self.go_on(attempt).await
            {
                return status;
            }
        }
        loop {
            if let Err(Gone(status)) = self.step().await {
                return status;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        match self.dice.below(10) {
            0 | 1 => self.look().await,
            2 => {
                let Some(key) = self.recent() else { return Ok(()) };
                self.reserve(&key, LONG).await
            }
            3 => self.mistake().await,
            4 => self.pass().await,
            5 => {
                let key = format!("contended-{}-{}", self.shared.life, self.dice.below(3));
                self.reserve(&key, LONG).await
            }
            6 => self.reserve(&self.fresh(), SHORT).await,
            _ => self.reserve(&self.fresh(), LONG).await,
        }
    }

    /// A key of which nobody has heard, and all may hear at once.
    fn fresh(&self) -> String {
        let key = Uuid::new_v4().to_string();
        let mut recent = self.shared.recent.lock().unwrap();
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(key.clone());
        key
    }

    fn recent(&mut self) -> Option<String> {
        let recent = self.shared.recent.lock().unwrap();
        let back = match self.dice.below(2) {
            // One that is being reserved at this moment.
            0 => self.dice.below(CALLERS as u64 / 2),
            _ => self.dice.below(RECENT as u64),
        };
        recent.iter().rev().nth(back as usize).cloned()
    }

    async fn reserve(&mut self, key: &str, lease: Duration) -> Result<(), Gone> {
        let action = match self.dice.below(2) {
            0 => LeaseExpiryAction::Takeover,
            _ => LeaseExpiryAction::Hold,
        };
        let mut order = order(key, &Uuid::new_v4().to_string());
        (order.lease, order.lease_expiry_action) = (Some(lease), action.into());
        let answer = self.client.reserve(order.clone()).await;
        let at = self.arrived();
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return refused_for_no_reason(key, status),
        };
        let (stage, seen) = match answer.outcome.unwrap() {
            Outcome::Granted(granted) => {
                let (stage, seen) = (Stage::granted(granted.attempt), Seen::granted(&granted));
                let decided_at = answer.decide_time.as_ref();
                self.note(key, Fact { at, stage, seen, is_overheard: false }, decided_at);
                let owner_token = order.owner_token;
                let attempt = Attempt { key: key.into(), owner_token, number: granted.attempt };
                return self.go_on(attempt).await;
            }
            Outcome::InProgress(progress) => {
                let lease_at_least = progress.lease_expire_time;
                let seen = Seen { lease_at_least, ..Seen::default() };
                (Stage::granted(progress.attempt), seen)
            }
            Outcome::Completed(completion) => {
                (Stage::ended(completion.attempt), Seen::completed(&completion))
            }
            Outcome::InDoubt(doubt) => {
                let stage = Stage::held(doubt.attempt, &doubt.checkpoint);
                let seen = Seen {
                    lease_until: doubt.lease_expire_time,
                    checkpoint: Some(doubt.checkpoint),
                    state: Some(onced::pb::v1::RecordState::InDoubt),
                    ..Seen::default()
                };
                (stage, seen)
            }
        };
        let fact = Fact { at, stage, seen, is_overheard: true };
        self.note(key, fact, answer.decide_time.as_ref());
        Ok(())
    }

    /// What an owner does: renew a few times, then complete or release, or vanish.
    async fn go_on(&mut self, attempt: Attempt) -> Result<(), Gone> {
        while self.dice.below(4) == 0 {
            self.renew(&attempt).await?;
        }
        match self.dice.below(10) {
            0 | 1 => Ok(()),
            2 | 3 => self.release(&attempt).await,
            _ => self.complete(&attempt).await,
        }
    }

    async fn renew(&mut self, attempt: &Attempt) -> Result<(), Gone> {
        self.renewals += 1;
        let filling = self.dice.bytes(200);
        let checkpoint = checkpoint(attempt.number, self.renewals, &filling);
        let request = RenewRequest {
            key: attempt.key.clone(),
            owner_token: attempt.owner_token.clone(),
            lease: Some(LONG),
            checkpoint: Some(checkpoint.clone()),
            ..Default::default()
        };
        let answer = self.client.renew(request).await;
        let at = self.arrived();
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let seen = Seen {
                    lease_until: answer.lease_expire_time,
                    checkpoint: Some(checkpoint.clone()),
                    ..Seen::default()
                };
                let stage = Stage::held(attempt.number, &checkpoint);
                self.note(
                    &attempt.key,
                    Fact { at, stage, seen, is_overheard: false },
                    answer.decide_time.as_ref(),
                );
                Ok(())
            }
            Err(status) => self.refused(attempt, at, status),
        }
    }

    async fn release(&mut self, attempt: &Attempt) -> Result<(), Gone> {
        let request = ReleaseRequest {
            key: attempt.key.clone(),
            owner_token: attempt.owner_token.clone(),
            ..Default::default()
        };
        let answer = self.client.release(request).await;
        let at = self.arrived();
        match answer {
            Ok(answer) => {
                let seen =
                    Seen { state: Some(onced::pb::v1::RecordState::Released), ..Seen::default() };
                let fact =
                    Fact { at, stage: Stage::ended(attempt.number), seen, is_overheard: false };
                self.note(&attempt.key, fact, answer.into_inner().decide_time.as_ref());
                Ok(())
            }
            Err(status) => self.refused(attempt, at, status),
        }
    }

    async fn complete(&mut self, attempt: &Attempt) -> Result<(), Gone> {
        let request = self.completion(&attempt.key, &attempt.owner_token);
        // Now and then the answer is asked for twice.
        for _ in 0..=u64::from(self.dice.below(5) == 0) {
            let answer = self.client.complete(request.clone()).await;
            let at = self.arrived();
            match answer {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let completion = answer.completion.unwrap();
                    assert_eq!(completion.response, request.response);
                    let seen = Seen::completed(&completion);
                    let fact =
                        Fact { at, stage: Stage::ended(attempt.number), seen, is_overheard: false };
                    self.note(&attempt.key, fact, answer.decide_time.as_ref());
                }
                Err(status) => return self.refused(attempt, at, status),
            }
        }
        Ok(())
    }

    fn completion(&mut self, key: &str, owner_token: &str) -> CompleteRequest {
        CompleteRequest {
            key: key.into(),
            owner_token: owner_token.into(),
            result: match self.dice.below(4) {
                0 => OperationResult::Failed.into(),
                _ => OperationResult::Succeeded.into(),
            },
            response: Some(Response {
                payload: self.dice.bytes(self.bytes),
                content_type: "application/octet-stream".into(),
                status_code: 200 + self.dice.below(400) as i32,
                metadata: [("request-id".to_owned(), Uuid::new_v4().to_string())].into(),
            }),
            ..Default::default()
        }
    }

    /// A refusal of the owner says that its attempt is over, one way or another.
    fn refused(&self, attempt: &Attempt, at: Position, status: Status) -> Result<(), Gone> {
        accepted(status)?;
        let stage = Stage::ended(attempt.number);
        let fact = Fact { at, stage, seen: Seen::default(), is_overheard: false };
        self.note(&attempt.key, fact, None);
        Ok(())
    }

    /// Somebody looks how far a key has come.
    async fn look(&mut self) -> Result<(), Gone> {
        let Some(key) = self.recent() else { return Ok(()) };
        let request = LookupRequest { key: key.clone(), ..Default::default() };
        let answer = self.client.lookup(request).await;
        let at = self.arrived();
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let record = answer.record.unwrap();
                let (stage, seen) = (Stage::of(&record), Seen::record(&record));
                let fact = Fact { at, stage, seen, is_overheard: true };
                self.note(&key, fact, answer.decide_time.as_ref());
                Ok(())
            }
            Err(status) => accepted(status).map(|_| ()),
        }
    }

    /// Somebody has another request under the same key, and learns at least that it is taken.
    async fn mistake(&mut self) -> Result<(), Gone> {
        let Some(key) = self.recent() else { return Ok(()) };
        // Where the key is vacant, this one would be granted, and bind it to its fingerprint.
        if !self.shared.book.lock().unwrap().keys.contains_key(&key) {
            return Ok(());
        }
        let order =
            ReserveRequest { fingerprint: vec![1; 32], ..order(&key, &Uuid::new_v4().to_string()) };
        let Err(status) = self.client.reserve(order).await else {
            panic!("{key} was granted for another request");
        };
        let at = self.arrived();
        assert_eq!(accepted(status)?, "FINGERPRINT_MISMATCH", "{key}");
        let stage = Stage::granted(1);
        let fact = Fact { at, stage, seen: Seen::default(), is_overheard: true };
        self.note(&key, fact, None);
        Ok(())
    }

    /// A key that is forgotten at once, and used again and again: the sweeper deletes it, and
    /// only the fencing tokens are remembered.
    async fn pass(&mut self) -> Result<(), Gone> {
        let key = format!("passing-{}-{}", self.shared.life, self.dice.below(20));
        let order = order(&key, &Uuid::new_v4().to_string());
        let answer = self.client.reserve(order.clone()).await;
        let at = self.arrived();
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return refused_for_no_reason(&key, status),
        };
        let Some(Outcome::Granted(granted)) = answer.outcome else { return Ok(()) };
        let mark = (granted.fencing_token, answer.decide_time.as_ref());
        self.shared.book.lock().unwrap().mark(at, mark.0, mark.1);
        let mut request = self.completion(&key, &order.owner_token);
        request.retention = Some(SHORT);
        match self.client.complete(request).await {
            Ok(_) => Ok(()),
            Err(status) => refused_for_no_reason(&key, status),
        }
    }

    fn note(&self, key: &str, fact: Fact, decided_at: Option<&Timestamp>) {
        let mut book = self.shared.book.lock().unwrap();
        book.mark(fact.at, fact.seen.fencing_token.unwrap_or(0), decided_at);
        book.note(key, fact);
    }

    /// Where the journal ends with the answer that has just arrived.
    fn arrived(&self) -> Position {
        let at = self.shared.recording.position();
        self.shared.answers.add_permits(1);
        at
    }
}
