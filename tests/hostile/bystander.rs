//! A caller who means well, and who is to notice nothing of the attacks of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{CompleteRequest, ReserveRequest, Response, Result as OperationResult};
use tokio::task::JoinHandle;
use tonic::Request;
use uuid::Uuid;

use std::net::SocketAddr;

/// Far longer than any call takes on a machine that is merely busy.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bystander {
    stop: Arc<AtomicBool>,
    working: JoinHandle<Served>,
}

/// How a caller was served; each operation rightly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// How many operations, of three calls each.
    pub operations: u64,
    /// How long the slowest of them took.
    pub slowest: Duration,
}

impl Served {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            slowest: self.slowest.max(other.slowest),
        }
    }
}

impl Bystander {
    /// Begins to call.
    pub async fn start(address: SocketAddr) -> Self {
        let client = IdempotencyServiceClient::connect(format!("http://{address}")).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let working = tokio::spawn(async move {
            let mut served = Served::default();
            loop {
                let began_at = Instant::now();
                life(client.clone()).await;
                served = served.and(Served { operations: 1, slowest: began_at.elapsed() });
                if seen.load(Ordering::Relaxed) {
                    return served;
                }
            }
        });
        Self { stop, working }
    }

    /// Ends, and says how it was served.
    pub async fn stop(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        self.working.await.unwrap()
    }
}

/// One operation from its reservation to its replay.
async fn life(mut client: IdempotencyServiceClient<tonic::transport::Channel>) {
    fn timed<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        request
    }
    let (key, owner_token) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let order = ReserveRequest { key: key.clone(), owner_token, ..Default::default() };
    let answer = client.reserve(timed(order.clone())).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::Granted(_))), "{answer:?}");
    let end = CompleteRequest {
        key,
        owner_token: order.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        response: Some(Response { payload: vec![7; 100], ..Default::default() }),
        ..Default::default()
    };
    let completion = client.complete(timed(end)).await.unwrap().into_inner().completion;
    let answer = client.reserve(timed(order)).await.unwrap().into_inner();
    assert_eq!(answer.outcome, completion.map(Outcome::Completed));
}
