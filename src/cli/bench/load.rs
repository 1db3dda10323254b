//! The client of `onced bench`: gRPC by hand on h2, and as little else as possible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::{Method, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Workload;
use crate::pb::v1::batch_reserve_item::Result as Item;
use crate::pb::v1::reserve_response::Outcome;
use crate::pb::v1::{
    BatchReserveItem, BatchReserveRequest, BatchReserveResponse, CompleteRequest, CompleteResponse,
    LookupRequest, LookupResponse, ReserveRequest, ReserveResponse, Response,
    Result as OperationResult,
};

const NAMESPACE: &str = "bench";

/// How many keys a batch reserves.
pub(super) const BATCH_ITEMS: usize = 100;

/// How long the completions of a run are kept.
const RETENTION_SECONDS: i64 = 600;

/// What to do to a server.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub workload: Workload,
    pub connections: u32,
    pub in_flight: u32,
    pub duration: Duration,
    pub response_bytes: usize,
    pub address: SocketAddr,
}

/// What came of it.
pub(super) struct Measured {
    /// Of each call, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How long it was measured.
    pub took: Duration,
}

/// What all connections share.
struct Run {
    load: Load,
    /// Part of every key, so that no two runs share one.
    id: Uuid,
    next_key: AtomicU64,
    measuring: AtomicBool,
    ended: AtomicBool,
}

impl Load {
    /// Runs the load from as many threads as there are cores, and no more than connections.
    pub(super) fn run(self) -> anyhow::Result<Measured> {
        let run = Arc::new(Run {
            load: self,
            id: Uuid::new_v4(),
            next_key: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(self.connections as usize);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let run = Arc::clone(&run);
                let share = (self.connections as usize + threads - 1 - thread) / threads;
                std::thread::spawn(move || run.on_this_thread(share))
            })
            .collect();
        std::thread::sleep(self.duration / 10);
        run.measuring.store(true, Ordering::Relaxed);
        let began_at = Instant::now();
        // A worker that fails ends the run at once: its thread is done before its time.
        while began_at.elapsed() < self.duration
            && !workers.iter().any(|thread| thread.is_finished())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        run.measuring.store(false, Ordering::Relaxed);
        let took = began_at.elapsed();
        run.ended.store(true, Ordering::Relaxed);
        let mut latency = histogram()?;
        for worker in workers {
            let measured = worker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            latency.add(measured)?;
        }
        ensure!(!latency.is_empty(), "no call was answered while it was measured");
        Ok(Measured { latency, took })
    }
}

impl Run {
    fn on_this_thread(self: Arc<Self>, connections: usize) -> anyhow::Result<Histogram<u64>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut callers = JoinSet::new();
            for _ in 0..connections {
                let client = Client::connect(self.load.address).await?;
                for _ in 0..self.load.in_flight {
                    callers.spawn(Arc::clone(&self).caller(client.clone()));
                }
            }
            let mut latency = histogram()?;
            while let Some(measured) = callers.join_next().await {
                latency.add(measured??)?;
            }
            Ok(latency)
        })
    }

    /// One call after the other until the run ends.
    async fn caller(self: Arc<Self>, mut client: Client) -> anyhow::Result<Histogram<u64>> {
        let mut latency = histogram()?;
        let completed = match self.load.workload {
            Workload::Replay | Workload::Lookup => {
                let key = self.key();
                let token = self.reserve(&mut client, &key).await?;
                self.complete(&mut client, &key, token).await?;
                key
            }
            Workload::Duplicate => {
                let key = self.key();
                self.reserve(&mut client, &key).await?;
                key
            }
            Workload::Reserve | Workload::Cycle | Workload::Batch => String::new(),
        };
        while !self.ended.load(Ordering::Relaxed) {
            let began_at = Instant::now();
            match self.load.workload {
                Workload::Reserve => {
                    self.reserve(&mut client, &self.key()).await?;
                }
                Workload::Cycle => {
                    let key = self.key();
                    let token = self.reserve(&mut client, &key).await?;
                    self.note(&mut latency, began_at);
                    let began_at = Instant::now();
                    self.complete(&mut client, &key, token).await?;
                    self.note(&mut latency, began_at);
                    continue;
                }
                Workload::Batch => self.reserve_batch(&mut client).await?,
                Workload::Duplicate => {
                    let outcome = self.outcome(&mut client, &completed).await?;
                    ensure!(matches!(outcome, Some(Outcome::InProgress(_))), "not in progress");
                }
                Workload::Replay => {
                    let outcome = self.outcome(&mut client, &completed).await?;
                    ensure!(matches!(outcome, Some(Outcome::Completed(_))), "not completed");
                }
                Workload::Lookup => {
                    let request = LookupRequest {
                        namespace: NAMESPACE.into(),
                        key: completed.clone(),
                        wait_timeout: None,
                    };
                    let found: LookupResponse = client.call("Lookup", &request).await?;
                    ensure!(
                        found.record.is_some_and(|record| record.completion.is_some()),
                        "not found"
                    );
                }
            }
            self.note(&mut latency, began_at);
        }
        Ok(latency)
    }

    fn note(&self, latency: &mut Histogram<u64>, began_at: Instant) {
        if self.measuring.load(Ordering::Relaxed) {
            let nanos = u64::try_from(began_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latency.saturating_record(nanos);
        }
    }

    fn key(&self) -> String {
        format!("{}-{}", self.id.simple(), self.next_key.fetch_add(1, Ordering::Relaxed))
    }

    async fn outcome(&self, client: &mut Client, key: &str) -> anyhow::Result<Option<Outcome>> {
        let answer: ReserveResponse = client.call("Reserve", &request(key.to_owned())).await?;
        Ok(answer.outcome)
    }

    async fn reserve_batch(&self, client: &mut Client) -> anyhow::Result<()> {
        let items = (0..BATCH_ITEMS).map(|_| request(self.key())).collect();
        let answer: BatchReserveResponse =
            client.call("BatchReserve", &BatchReserveRequest { items }).await?;
        let is_granted = |item: &BatchReserveItem| match &item.result {
            Some(Item::Response(answer)) => matches!(answer.outcome, Some(Outcome::Granted(_))),
            _ => false,
        };
        let granted = answer.items.iter().filter(|item| is_granted(item)).count();
        ensure!(granted == BATCH_ITEMS, "{granted} of {BATCH_ITEMS} new keys were granted");
        Ok(())
    }

    /// Reserves a key and returns the owner token.
    async fn reserve(&self, client: &mut Client, key: &str) -> anyhow::Result<String> {
        match self.outcome(client, key).await? {
            Some(Outcome::Granted(granted)) => Ok(granted.owner_token),
            other => bail!("a new key was not granted: {other:?}"),
        }
    }

    async fn complete(
        &self,
        client: &mut Client,
        key: &str,
        owner_token: String,
    ) -> anyhow::Result<()> {
        let request = CompleteRequest {
            namespace: NAMESPACE.into(),
            key: key.to_owned(),
            owner_token,
            result: OperationResult::Succeeded.into(),
            response: Some(Response {
                payload: vec![b'x'; self.load.response_bytes],
                content_type: "text/plain".into(),
                ..Response::default()
            }),
            retention: Some(prost_types::Duration { seconds: RETENTION_SECONDS, nanos: 0 }),
        };
        let answer: CompleteResponse = client.call("Complete", &request).await?;
        ensure!(answer.completion.is_some(), "a completion is missing");
        Ok(())
    }
}

fn request(key: String) -> ReserveRequest {
    ReserveRequest {
        namespace: NAMESPACE.into(),
        key,
        fingerprint: vec![7; 32],
        ..ReserveRequest::default()
    }
}

/// One connection.
#[derive(Clone)]
struct Client {
    requests: SendRequest<Bytes>,
    authority: SocketAddr,
}

impl Client {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let socket =
            TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        socket.set_nodelay(true)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(socket)
            .await?;
        tokio::spawn(async move {
            // Its end shows in the calls on it.
            let _ = connection.await;
        });
        Ok(Self { requests, authority: address })
    }

    async fn call<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
    ) -> anyhow::Result<A> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.to_string())
            .path_and_query(format!("/onced.v1.IdempotencyService/{method}"))
            .build()?;
        let head = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        std::future::poll_fn(|cx| self.requests.poll_ready(cx)).await?;
        let (answer, mut body) = self.requests.send_request(head, false)?;
        body.send_data(framed(request), true)?;
        let answer = answer.await?;
        if let Some(status) = answer.headers().get("grpc-status")
            && status != "0"
        {
            bail!("{method} was answered with status {status:?}");
        }
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            bytes.extend_from_slice(&data);
        }
        body.trailers().await?;
        ensure!(bytes.len() >= 5, "{method} was answered with {} bytes", bytes.len());
        Ok(A::decode(&bytes[5..])?)
    }
}

/// A message as gRPC frames it: a flag for compression and the length in front.
fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a request has less than 4 GiB"));
    message.encode(&mut bytes).expect("there is room");
    bytes.freeze()
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    // From a microsecond to a minute, to a thousandth.
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
