//! A caller with a clock: it calls at a fixed rate, whether or not the last call is answered,
//! and measures from the moment at which each was due (an open loop, which is not blind to what
//! a stall delays).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onced::pb::v1::idempotency_service_client::IdempotencyServiceClient;
use onced::pb::v1::reserve_response::Outcome;
use onced::pb::v1::{CompleteRequest, ReserveRequest, Result as OperationResult};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use uuid::Uuid;

const INTERVAL: Duration = Duration::from_millis(5);

/// When a call was due, and how long after that it was answered.
pub type Latency = (Instant, Duration);

pub struct Probe {
    latencies: Arc<Mutex<Vec<Latency>>>,
    calling: JoinHandle<()>,
}

impl Probe {
    /// Begins to call.
    pub async fn start(address: SocketAddr) -> Self {
        let client = IdempotencyServiceClient::connect(format!("http://{address}")).await.unwrap();
        let latencies = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&latencies);
        let calling = tokio::spawn(async move {
            let began_at = Instant::now();
            for number in 0.. {
                let due_at = began_at + INTERVAL * number;
                tokio::time::sleep_until(due_at.into()).await;
                let (client, noted) = (client.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    operation(client, number).await;
                    noted.lock().unwrap().push((due_at, due_at.elapsed()));
                });
            }
        });
        Self { latencies, calling }
    }

    /// Ends, once every call is answered, and says how long each took.
    pub async fn stop(self) -> Vec<Latency> {
        self.calling.abort();
        let _ = self.calling.await;
        while Arc::strong_count(&self.latencies) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::mem::take(&mut *self.latencies.lock().unwrap())
    }
}

/// A Reserve, and every other time a Complete in its place, which is the last word.
async fn operation(mut client: IdempotencyServiceClient<Channel>, number: u32) {
    let order = ReserveRequest {
        namespace: "probe".into(),
        key: Uuid::new_v4().into(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    };
    let answer = client.reserve(order.clone()).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::Granted(_))), "{answer:?}");
    if number.is_multiple_of(2) {
        let end = CompleteRequest {
            namespace: order.namespace,
            key: order.key,
            owner_token: order.owner_token,
            result: OperationResult::Succeeded.into(),
            ..Default::default()
        };
        client.complete(end).await.unwrap();
    }
}
