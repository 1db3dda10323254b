//! A server at the other end of a channel, and the one loop that sends a call again.
//!
//! Every RPC of onced can be sent again with the same arguments, so a call that ended in
//! UNAVAILABLE, or in a broken connection, is: after the pause that the server asks for, or
//! else one that doubles, and only as long as the caller's time lasts. Each try tells the
//! server how much of that time is left.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use prost_types::Duration as WireDuration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::exit::is_transport_failure;
use super::failure::Failure;
use super::identity::{Bearer, IdentityArgs};
use super::{args, failure, print};
use crate::pb::v1::admin_service_client::AdminServiceClient;
use crate::pb::v1::idempotency_service_client::IdempotencyServiceClient;

/// The largest answer: a stored response may be as large as a request, which is 16 MiB.
const MAX_ANSWER_BYTES: usize = 17 << 20;
/// The first pause of a call that names none, and the shortest of all.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
/// Where pauses stop to double.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A channel whose calls say who they come from.
pub(super) type Link = InterceptedService<Channel, Bearer>;

/// The client of the API, over one channel.
pub(super) type Client = IdempotencyServiceClient<Link>;

/// The client of the API for operators, over one channel.
pub(super) type AdminClient = AdminServiceClient<Link>;

/// Which server to ask, and how long.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct RemoteArgs {
    /// The server
    #[arg(long, value_name = "URL", env = "ONCED_SERVER", value_parser = args::endpoint)]
    #[arg(default_value = "http://127.0.0.1:50051")]
    server: Endpoint,
    /// How long to wait for the answer, tries and pauses included
    #[arg(long, value_name = "DURATION", value_parser = args::timeout, default_value = "10s")]
    pub(super) timeout: Duration,
    #[command(flatten)]
    identity: IdentityArgs,
}

impl RemoteArgs {
    /// A channel to the server. It connects when it is used, and again when it broke. Files that
    /// it takes are read once.
    pub(super) fn channel(&self) -> Result<Link, Failure> {
        let channel = self.identity.secure(self.server.clone())?.connect_lazy();
        Ok(Link::new(channel, self.identity.bearer()?))
    }

    /// The server, ready to be called.
    pub(super) fn remote(&self) -> Result<Remote, Failure> {
        let client = Client::new(self.channel()?).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Remote { client, timeout: self.timeout, is_talkative: true })
    }

    /// The same server's other side, for operators.
    pub(super) fn admin(&self) -> Result<Remote<AdminClient>, Failure> {
        let client = AdminClient::new(self.channel()?).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Remote { client, timeout: self.timeout, is_talkative: true })
    }
}

/// A server that calls are sent to until it answers them or time is over.
#[derive(Clone)]
pub(super) struct Remote<C = Client> {
    client: C,
    timeout: Duration,
    /// Whether people are told when a call is sent again.
    is_talkative: bool,
}

impl<C: Clone> Remote<C> {
    /// How long a call may take, as `--timeout` says.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same server, of which nothing is said when a call is sent again.
    pub(super) fn silent(&self) -> Self {
        Self { is_talkative: false, ..self.clone() }
    }

    /// Sends `message` until it is answered, for as long as `--timeout` says.
    pub(super) async fn call<M: Clone, R>(
        &self,
        message: M,
        send: impl AsyncFn(C, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        self.call_within(self.timeout, message, send).await
    }

    /// Asks again and again for as long as the answer says that somebody else is at it, until
    /// `wait` is over. A server that parks the call answers when there is news; one that does
    /// not, because too many wait or because it drains, says how soon it is worth asking again.
    ///
    /// `ask` is told how long the server may wait and how long the call may take; `busy` reads
    /// from an answer how soon to ask again, where somebody is at it.
    pub(super) async fn wait<R>(
        &self,
        wait: Duration,
        ask: impl AsyncFn(&Self, WireDuration, Duration) -> Result<R, Status>,
        busy: impl Fn(&R) -> Option<Duration>,
    ) -> Result<R, Status> {
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let left = wait.saturating_sub(began.elapsed());
            let answer = ask(self, wire(left), self.timeout + left).await?;
            let Some(delay) = busy(&answer) else { return Ok(answer) };
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(answer);
            }
            // Whoever was parked for so long has waited already.
            tokio::time::sleep(delay.saturating_sub(asked.elapsed()).min(left)).await;
        }
    }

    /// Sends `message` until it is answered or `limit` is over.
    pub(super) async fn call_within<M: Clone, R>(
        &self,
        limit: Duration,
        message: M,
        send: impl AsyncFn(C, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let left = limit.saturating_sub(began.elapsed());
            let mut request = Request::new(message.clone());
            request.set_timeout(left);
            let answer = tokio::time::timeout(left, send(self.client.clone(), request)).await;
            let status = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                // The channel and the server watch the time as well, and may be first.
                Ok(Err(status)) if status.code() != Code::Cancelled => status,
                Ok(Err(status)) if began.elapsed() + SHORTEST_PAUSE < limit => status,
                Ok(Err(_)) | Err(_) => {
                    let limit = humantime::format_duration(whole_millis(limit));
                    return Err(Status::deadline_exceeded(format!("no answer within {limit}")));
                }
            };
            let Some(pause) = pause(&status, tries, uuid::Uuid::new_v4().as_u128()) else {
                return Err(status);
            };
            if began.elapsed() + pause >= limit {
                return Err(status);
            }
            if tries == 0 && self.is_talkative {
                let what = failure::describe(&status);
                print::complain(&format!("onced: {what}; trying again"));
            }
            tries += 1;
            tokio::time::sleep(pause).await;
        }
    }
}

/// How long to wait before a call that ended in `status` is sent again, if it is: as long
/// as the server asks for, or else twice as long as the last time, less up to a half so
/// that callers who failed together do not return together.
pub(super) fn pause(status: &Status, tries: u32, random: u128) -> Option<Duration> {
    let is_worth_it = status.code() == Code::Unavailable || is_transport_failure(status);
    if !is_worth_it || is_untrusted(status) {
        return None;
    }
    if let Some(pushback) = status.metadata().get("grpc-retry-pushback-ms") {
        // gRPC's retry design (A6): what is not a number of milliseconds says "do not".
        let millis = pushback.to_str().ok()?.parse::<u32>().ok()?;
        return Some(Duration::from_millis(millis.into()).max(SHORTEST_PAUSE));
    }
    if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        return Some(delay.max(SHORTEST_PAUSE));
    }
    let doubled = SHORTEST_PAUSE.saturating_mul(2 << tries.min(16)).min(LONGEST_PAUSE);
    let half = doubled / 2;
    Some(half + half.mul_f64((random % 1_000) as f64 / 1_000.0))
}

/// Whether TLS failed because one side does not trust the other, which no other try changes.
fn is_untrusted(status: &Status) -> bool {
    let mut cause: Option<&dyn Error> = status.source();
    while let Some(error) = cause {
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| within.and_then(|error| error.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) = tls {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `span` without what is shorter than a millisecond.
pub(super) fn whole_millis(span: Duration) -> Duration {
    Duration::new(span.as_secs(), span.subsec_millis() * 1_000_000)
}

/// A span as requests carry it.
pub(super) fn wire(span: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos().cast_signed(),
    }
}
