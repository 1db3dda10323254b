//! Spans of calls at a receiver that speaks OTLP, and callers that notice nothing of one that
//! does not.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use onced::config::{Settings, Sources};
use onced::pb::v1::{CompleteRequest, ReserveRequest, Result as OperationResult};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::scrape::scrape_until;
use crate::server::{TestServer, settings};

/// The smallest receiver that there can be.
struct Receiver(mpsc::UnboundedSender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let _ = self.0.send(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// What a receiver got.
struct Received {
    address: SocketAddr,
    exports: mpsc::UnboundedReceiver<ResourceSpans>,
    spans: Vec<Span>,
}

impl Received {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (spans, exports) = mpsc::unbounded_channel();
        let service = TraceServiceServer::new(Receiver(spans));
        let serving = Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, exports, spans: Vec::new() }
    }

    /// The next span of this method.
    async fn next(&mut self, method: &str) -> Span {
        loop {
            if let Some(at) = self.spans.iter().position(|span| span.name == method) {
                return self.spans.remove(at);
            }
            let patience = Duration::from_secs(60);
            let export =
                tokio::time::timeout(patience, self.exports.recv()).await.unwrap().unwrap();
            let mut about = export.resource.iter().flat_map(|resource| &resource.attributes);
            let name = about.find(|attribute| attribute.key == "service.name").unwrap();
            assert_eq!(text(name.value.as_ref().and_then(|it| it.value.as_ref())), "onced");
            self.spans.extend(export.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

/// An attribute of a span; empty where it has none of this name.
fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    found.map_or(String::new(), |found| text(found.value.as_ref().and_then(|it| it.value.as_ref())))
}

fn traced(endpoint: String, share: &str) -> Settings {
    let flags = vec![("otlp_endpoint", endpoint), ("otlp_sampling", share.to_owned())];
    let resolved = Settings::resolve(&Sources { flags, ..Sources::default() }).unwrap();
    let Settings { otlp_endpoint, otlp_sampling, .. } = resolved;
    Settings { otlp_endpoint, otlp_sampling, ..settings("memory:") }
}

fn order(key: &str) -> ReserveRequest {
    ReserveRequest {
        namespace: "orders".into(),
        key: key.into(),
        owner_token: Uuid::new_v4().into(),
        ..Default::default()
    }
}

/// A call that is part of a trace, as its caller says.
fn within<T>(message: T, traceparent: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", MetadataValue::from_static(traceparent));
    request
}

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-1bf7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_is_a_span_in_the_trace_of_its_caller() {
    let mut received = Received::start().await;
    // Of calls without a trace, none is sampled.
    let server = TestServer::start(traced(format!("http://{}", received.address), "0"));
    let mut client = server.client().await;
    let first = order("order-4711");
    client.reserve(first.clone()).await.unwrap();
    client.reserve(within(first.clone(), NOT_SAMPLED)).await.unwrap();
    client.reserve(within(first.clone(), SAMPLED)).await.unwrap();
    let nobodys = CompleteRequest {
        namespace: "orders".into(),
        key: "order-4712".into(),
        owner_token: first.owner_token.clone(),
        result: OperationResult::Succeeded.into(),
        ..Default::default()
    };
    client.complete(within(nobodys, SAMPLED)).await.unwrap_err();

    let span = received.next("Reserve").await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
    assert_eq!(span.kind(), SpanKind::Server);
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    assert_eq!(attribute(&span, "rpc.system"), "grpc");
    assert_eq!(attribute(&span, "rpc.service"), "onced.v1.IdempotencyService");
    assert_eq!(attribute(&span, "rpc.method"), "Reserve");
    assert_eq!(attribute(&span, "rpc.grpc.status_code"), "0");
    assert_eq!(attribute(&span, "onced.outcome"), "granted");
    assert_eq!(attribute(&span, "onced.namespace"), "orders");
    // The first eight bytes of what sha256sum says of order-4711.
    assert_eq!(attribute(&span, "onced.key"), "sha256:173d0ddbff034193");
    assert_eq!(attribute(&span, "onced.reason"), "");

    let span = received.next("Complete").await;
    assert_eq!(attribute(&span, "onced.outcome"), "refused");
    assert_eq!(attribute(&span, "onced.reason"), "RESERVATION_NOT_FOUND");
    assert_eq!(attribute(&span, "rpc.grpc.status_code"), "5");
    // It is not the server's fault.
    assert!(span.status.is_none_or(|status| status.code() == StatusCode::Unset));

    // There is nothing else: one call of its own trace and one that was not to be sampled.
    drop(client);
    server.stop().await.unwrap();
    assert!(received.spans.is_empty(), "{:?}", received.spans);
    assert!(received.exports.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_calls_without_a_trace_the_given_share_is_sampled_and_no_span_tells_a_secret() {
    let mut received = Received::start().await;
    let server = TestServer::start(traced(format!("http://{}", received.address), "1"));
    let mut client = server.client().await;
    let first = order("order-4711");
    client.reserve(first.clone()).await.unwrap();
    let span = received.next("Reserve").await;
    assert!(span.parent_span_id.is_empty());
    let shown = format!("{span:?}");
    assert!(!shown.contains("order-4711") && !shown.contains(&first.owner_token), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn spans_that_wait_are_exported_before_a_server_ends() {
    let mut received = Received::start().await;
    let server = TestServer::start(traced(format!("http://{}", received.address), "1"));
    let mut client = server.client().await;
    for number in 0..100 {
        client.reserve(order(&format!("order-{number}"))).await.unwrap();
    }
    drop(client);
    server.stop().await.unwrap();
    for _ in 0..100 {
        received.next("Reserve").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_receiver_that_is_down_or_silent_costs_spans_and_no_call() {
    // It accepts, and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    // Nobody listens there any more.
    let down = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), down] {
        let settings = Settings {
            // Nothing here may be slow.
            slow_call: Some(Duration::from_secs(5)),
            ..traced(format!("http://{address}"), "1")
        };
        let (server, metrics) = TestServer::watched(settings);
        let client = server.client().await;
        let calls = Arc::new(tokio::sync::Semaphore::new(64));
        let mut running = tokio::task::JoinSet::new();
        for number in 0..6_000 {
            let (mut client, calls) = (client.clone(), Arc::clone(&calls));
            running.spawn(async move {
                let _turn = calls.acquire().await.unwrap();
                client.reserve(order(&format!("order-{number}"))).await.unwrap();
            });
        }
        running.join_all().await;
        let samples = tokio::task::spawn_blocking(move || {
            scrape_until(metrics, |samples| {
                samples.value("onced_trace_spans_dropped_total", &[]) > 0.0
            })
        });
        let samples = samples.await.unwrap();
        assert_eq!(samples.value("onced_slow_calls_total", &[]), 0.0);
        assert_eq!(samples.value("onced_trace_spans_exported_total", &[]), 0.0);
        drop(client);
        server.stop().await.unwrap();
    }
    drop(silent);
}
