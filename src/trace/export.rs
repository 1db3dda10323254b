//! From spans that have ended to the OTLP receiver: a bounded queue, and one task that empties it.
//!
//! No call waits for it. What finds the queue full is dropped and counted, and so is a batch that
//! the receiver does not take. The SDK's own batch processor does the same on a thread of its
//! own, but tells nobody how much it dropped until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::EXPORT_TIMEOUT;

/// How many spans may wait; about two megabytes.
const QUEUE: usize = 2_048;

/// How many go in one message.
const BATCH: usize = 512;

/// How long more spans are waited for after a message that was not full.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of spans.
#[derive(Debug, Default)]
pub struct Exported {
    exported: AtomicU64,
    overflowed: AtomicU64,
    failed: AtomicU64,
}

impl Exported {
    /// How many the receiver took.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// How many were dropped because too many waited.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// How many were dropped because the receiver did not take them.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Where spans wait.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    exported: Arc<Exported>,
}

/// The task that empties it.
pub(super) struct Export {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Queue {
    /// A queue that is emptied to `exporter` on the current runtime.
    pub(super) fn to(
        mut exporter: impl SpanExporter + 'static,
        resource: &Resource,
    ) -> (Self, Arc<Exported>, Export) {
        exporter.set_resource(resource);
        let (spans, waiting) = mpsc::channel(QUEUE);
        let (end, ends) = oneshot::channel();
        let exported = Arc::new(Exported::default());
        let task = tokio::spawn(export(exporter, waiting, ends, Arc::clone(&exported)));
        (Self { spans, exported: Arc::clone(&exported) }, exported, Export { end, task })
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.exported.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What waits is exported soon in any case; to wait for that here would block a caller.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// The task is ended by whoever started it.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Export {
    pub(super) async fn end(mut self) {
        drop(self.end);
        if tokio::time::timeout(EXPORT_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
            warn!("spans are lost: their export took too long");
        }
    }
}

async fn export(
    exporter: impl SpanExporter,
    mut waiting: mpsc::Receiver<SpanData>,
    mut ends: oneshot::Receiver<()>,
    exported: Arc<Exported>,
) {
    let mut failing = false;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let count = tokio::select! {
            count = waiting.recv_many(&mut batch, BATCH) => count,
            _ = &mut ends, if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        };
        if count == 0 {
            return;
        }
        match exporter.export(batch).await {
            Ok(()) => {
                exported.exported.fetch_add(count as u64, Ordering::Relaxed);
                if std::mem::take(&mut failing) {
                    info!("spans are exported again");
                }
            }
            Err(error) => {
                exported.failed.fetch_add(count as u64, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "spans cannot be exported, and are dropped");
                }
            }
        }
        if count < BATCH && !waiting.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = &mut ends => waiting.close(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
