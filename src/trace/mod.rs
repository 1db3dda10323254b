//! Traces: one span for each call, exported over OTLP to whoever collects them.
//!
//! A caller's W3C `traceparent` makes the call a part of the caller's trace, and whoever began
//! that trace decided whether it is sampled; of calls that bring none, a share is. What a span
//! carries is for `api/observed.rs` to say; `export.rs` hands spans over without anybody waiting
//! for it.
//!
//! # Why not spans of the `tracing` crate
//!
//! A span of `tracing` passes every layer of the log as well, for each call, sampled or not. The
//! SDK's own span is made for calls that are sampled only, and where no traces are exported there
//! is nothing but an `Option` that is `None`.

mod export;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use tonic::metadata::{KeyRef, MetadataMap};

pub use self::export::Exported;
use self::export::{Export, Queue};

/// How long one attempt to export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes spans of calls.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    exported: Arc<Exported>,
}

/// The export of spans, for as long as it runs.
pub struct Exporting {
    provider: SdkTracerProvider,
    export: Export,
}

impl Traces {
    /// Exports spans to the OTLP receiver at `endpoint`, an `http://` URL; of calls that are part
    /// of no trace, this `share` from 0 to 1. Runs on the current runtime.
    ///
    /// # Errors
    ///
    /// If the endpoint is no URL. Whether anybody answers there is not looked at: a collector
    /// that is down stops nobody.
    pub fn start(endpoint: &str, share: f64) -> anyhow::Result<(Arc<Self>, Exporting)> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .with_context(|| {
                format!("cannot export traces to \"{endpoint}\"; give another `otlp_endpoint`")
            })?;
        let resource = Resource::builder()
            .with_service_name("onced")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let (queue, exported, export) = Queue::to(exporter, &resource);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("onced");
        let propagator = TraceContextPropagator::new();
        Ok((Arc::new(Self { tracer, propagator, exported }), Exporting { provider, export }))
    }

    /// Begins the span of a call that came with `metadata`; `None` where it is not sampled.
    pub fn begin(&self, name: &'static str, metadata: &MetadataMap) -> Option<Box<Span>> {
        let caller = self.propagator.extract_with_context(&Context::new(), &Headers(metadata));
        // What is decided already need not be looked at.
        let parent = caller.span().span_context().clone();
        if parent.is_valid() && !parent.is_sampled() {
            return None;
        }
        let builder = self.tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = builder.start_with_context(&self.tracer, &caller);
        span.is_recording().then(|| Box::new(span))
    }

    /// How many spans were exported, and how many were not.
    pub fn exported(&self) -> &Exported {
        &self.exported
    }
}

impl Exporting {
    /// Exports what is left, for as long as one attempt may take, and ends.
    pub async fn end(self) {
        self.export.end().await;
        drop(self.provider);
    }
}

/// Headers in which the W3C's are found.
struct Headers<'a>(&'a MetadataMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let ascii = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(ascii).collect()
    }
}
