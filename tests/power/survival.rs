//! What must be true once the power is back: every answer that had arrived, looked up and then
//! tried: owners are still owners, completions are replayed byte for byte, spent owner tokens
//! stay spent, fencing tokens and the clock go on above everything that was shown.

use std::net::SocketAddr;
use std::sync::Arc;

use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{
    CompleteRequest, LookupRequest, Record, RecordState, ReserveResponse, Result as Ended,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::Client;
use crate::book::{Book, millis};
use crate::dice::Dice;
use crate::journal::Position;
use crate::load::{order, refusal};

const CONNECTIONS: usize = 2;
const CALLERS: usize = 8;

/// Of so many keys one is used again; all are looked up.
const USED: u64 = 3;

/// The store that a cut at `cut` left, with its server at `address`, against the book.
pub async fn check(address: SocketAddr, book: &Arc<Book>, cut: Position, dice: &mut Dice) {
    let clients = crate::connect(address, CONNECTIONS).await;
    let (fencing_token, decided_at) = book.high_water(cut);
    let dawn = Uuid::new_v4().to_string();
    let answer = clients[0].clone().reserve(order("dawn", &dawn)).await.unwrap().into_inner();
    assert!(
        millis(&answer.decide_time.unwrap()) >= decided_at,
        "the clock ran backwards: {answer:?} after {decided_at}"
    );
    assert_is_granted(&answer, fencing_token, "dawn");

    let mut keys: Vec<String> = book.keys.keys().cloned().collect();
    let mut callers = JoinSet::new();
    let share = keys.len().div_ceil(CALLERS);
    for number in 0..CALLERS {
        let caller = Survivor {
            client: clients[number % CONNECTIONS].clone(),
            book: book.clone(),
            cut,
            fencing_token,
            dice: Dice(dice.roll()),
        };
        let keys = keys.split_off(keys.len().saturating_sub(share));
        callers.spawn(caller.check(keys));
    }
    callers.join_all().await;
}

fn assert_is_granted(answer: &ReserveResponse, above: i64, key: &str) {
    let Some(Outcome::Granted(granted)) = &answer.outcome else { panic!("{key}: {answer:?}") };
    assert!(granted.fencing_token > above, "{key}: {granted:?} after fencing token {above}");
}

struct Survivor {
    client: Client,
    book: Arc<Book>,
    cut: Position,
    /// All later ones are above.
    fencing_token: i64,
    dice: Dice,
}

impl Survivor {
    async fn check(mut self, keys: Vec<String>) {
        for key in keys {
            let record = self.look_up(&key).await;
            if let Some(untruth) = self.book.untruth(&key, self.cut, record.as_ref()) {
                panic!("{key} after the cut at {}: {untruth}", self.cut);
            }
            if let Some(record) = record
                && self.dice.below(USED) == 0
            {
                self.is_what_it_says(&key, &record).await;
                self.former_owners_stay_out(&key, &record).await;
            }
        }
    }

    async fn look_up(&mut self, key: &str) -> Option<Record> {
        let request = LookupRequest { key: key.into(), ..Default::default() };
        match self.client.lookup(request).await {
            Ok(answer) => Some(answer.into_inner().record.unwrap()),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => panic!("{key}: {status:?}"),
        }
    }

    async fn reserve(&mut self, key: &str, token: &str) -> Result<ReserveResponse, Status> {
        self.client.reserve(order(key, token)).await.map(tonic::Response::into_inner)
    }

    async fn is_what_it_says(&mut self, key: &str, record: &Record) {
        let owner_token = self.book.owner_token(key, record.attempt).map(str::to_owned);
        let stranger = Uuid::new_v4().to_string();
        match (record.state(), owner_token) {
            (RecordState::Held, Some(owner_token)) => {
                let answer = self.reserve(key, &owner_token).await.unwrap();
                let Some(Outcome::Granted(granted)) = answer.outcome else {
                    // A short lease may have lapsed in between, and is in doubt then.
                    assert!(is_short(record), "{key}: {answer:?}");
                    return;
                };
                if !is_short(record) {
                    assert_eq!(granted.fencing_token, record.fencing_token, "{key}");
                    assert_eq!(granted.lease_expire_time, record.lease_expire_time, "{key}");
                    self.completes(key, &owner_token, record).await;
                }
            }
            (RecordState::Completed, _) => {
                let answer = self.reserve(key, &stranger).await.unwrap();
                assert_eq!(answer.outcome, record.completion.clone().map(Outcome::Completed));
            }
            (RecordState::Released, owner_token) => {
                if let Some(owner_token) = owner_token {
                    let refused = self.reserve(key, &owner_token).await.unwrap_err();
                    assert_eq!(refusal(&refused).as_deref(), Some("LEASE_LOST"), "{key}");
                }
                let answer = self.reserve(key, &stranger).await.unwrap();
                assert_is_granted(&answer, self.fencing_token, key);
            }
            (RecordState::Lapsed, _) => {
                let answer = self.reserve(key, &stranger).await.unwrap();
                assert_is_granted(&answer, self.fencing_token, key);
            }
            (RecordState::InDoubt, _) => {
                let answer = self.reserve(key, &stranger).await.unwrap();
                assert!(matches!(answer.outcome, Some(Outcome::InDoubt(_))), "{key}: {answer:?}");
            }
            (RecordState::Held, None) => {
                // Its Reserve was never answered: whoever asks is told that somebody is at it.
                let answer = self.reserve(key, &stranger).await.unwrap();
                let is_taken = matches!(answer.outcome, Some(Outcome::InProgress(_)));
                assert!(is_taken || is_short(record), "{key}: {answer:?}");
            }
            (RecordState::Unspecified, _) => panic!("{key}: {record:?}"),
        }
    }

    async fn completes(&mut self, key: &str, owner_token: &str, record: &Record) {
        let request = CompleteRequest {
            key: key.into(),
            owner_token: owner_token.into(),
            result: Ended::Succeeded.into(),
            ..Default::default()
        };
        let answer = self.client.complete(request).await.unwrap().into_inner();
        let completion = answer.completion.unwrap();
        assert_eq!(completion.fencing_token, record.fencing_token, "{key}");
        assert!(!completion.late, "{key}: {completion:?}");
    }

    /// Whoever lost a reservation before the cut has not got it back.
    async fn former_owners_stay_out(&mut self, key: &str, record: &Record) {
        for attempt in 1..record.attempt {
            let Some(token) = self.book.owner_token(key, attempt).map(str::to_owned) else {
                continue;
            };
            let request = CompleteRequest {
                key: key.into(),
                owner_token: token,
                result: Ended::Succeeded.into(),
                ..Default::default()
            };
            let refused = self.client.complete(request).await.unwrap_err();
            assert_eq!(refusal(&refused).as_deref(), Some("LEASE_LOST"), "{key}: {attempt}");
        }
    }
}

/// Whether the lease of `record` can lapse while a test looks at it.
fn is_short(record: &Record) -> bool {
    let until = record.lease_expire_time.as_ref().map_or(0, millis);
    until - record.create_time.as_ref().map_or(0, millis) < 60_000
}
