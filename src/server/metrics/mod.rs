//! Metrics and probes on an HTTP port of its own: `/metrics`, `/livez`, `/readyz`.
//!
//! It runs on the acceptor's runtime, beside the runtimes that serve calls. What is counted while
//! calls are served is only read here; what has to be asked of the store is asked when somebody
//! looks ([`look`]), and never for long: a store that does not answer must not take its metrics
//! with it. `exposition.rs` is what the figures are called, `census.rs` how records are counted
//! by phase, `process.rs` what the system says of this process.

mod census;
mod exposition;
mod look;
mod process;

use std::convert::Infallible;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

pub use self::exposition::Format;
pub use self::look::{Sources, State, Watch};

/// How many connections there are at a time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 16;

/// The size of the largest request, in bytes.
const MAX_REQUEST_BYTES: usize = 16 << 10;

/// How many headers it has at most.
const MAX_HEADERS: usize = 64;

/// How long a request may take to come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last in all. Each serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the port rests when the system gives it no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves what `watch` sees on `listener`, for as long as the runtime runs.
///
/// # Errors
///
/// If the listener cannot be handed to the runtime.
pub fn serve(listener: StdTcpListener, watch: Arc<Watch>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(accept(listener, watch));
    Ok(())
}

async fn accept(listener: TcpListener, watch: Arc<Watch>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let watch = Arc::clone(&watch);
                tokio::spawn(async move {
                    let _place = place;
                    if tokio::time::timeout(CONNECTION_TIMEOUT, answer(socket, watch))
                        .await
                        .is_err()
                    {
                        debug!("a connection for metrics took too long");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one request.
async fn answer(socket: TcpStream, watch: Arc<Watch>) {
    let service = service_fn(|request| {
        let watch = Arc::clone(&watch);
        async move { Ok::<_, Infallible>(respond(&request, &watch).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_REQUEST_BYTES)
        .max_headers(MAX_HEADERS)
        // A connection that is not kept need not be watched.
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    if let Err(error) = served.await {
        debug!(%error, "a connection for metrics failed");
    }
}

async fn respond<B>(request: &Request<B>, watch: &Watch) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let accepted = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = Format::for_whoever_accepts(accepted.unwrap_or_default());
            let Some(body) = exposition::render(watch, &watch.look().await, format) else {
                return text(StatusCode::INTERNAL_SERVER_ERROR, "cannot be rendered\n");
            };
            let mut rendered = Response::new(Full::new(Bytes::from(body)));
            let content_type = HeaderValue::from_static(format.content_type());
            rendered.headers_mut().insert(CONTENT_TYPE, content_type);
            rendered
        }
        // What a restart would mend, and nothing else: whoever probes this restarts.
        "/livez" => match watch.state() {
            State::Poisoned => text(StatusCode::SERVICE_UNAVAILABLE, "poisoned\n"),
            _ => text(StatusCode::OK, "ok\n"),
        },
        "/readyz" => match watch.state() {
            State::Serving => text(StatusCode::OK, "ok\n"),
            state => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", state.name())),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n"),
    }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
