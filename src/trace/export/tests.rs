//! Receivers that hang, refuse or take their time, and callers that notice nothing of it.

use std::sync::Mutex;

use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::sync::Semaphore;

use super::*;

/// A receiver that takes a batch for each permit, and refuses where it is told to.
#[derive(Clone, Debug)]
struct Receiver {
    permits: Arc<Semaphore>,
    refuses: bool,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn with(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), refuses: false, taken: Arc::default() }
    }
}

impl SpanExporter for Receiver {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.permits.acquire().await.unwrap().forget();
        if self.refuses {
            return Err(OTelSdkError::InternalFailure("refused".to_owned()));
        }
        self.taken.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
        Ok(())
    }
}

/// A tracer whose spans go to `receiver`.
fn tracer(receiver: &Receiver) -> (SdkTracer, Arc<Exported>, Export) {
    let (queue, exported, export) = Queue::to(receiver.clone(), &Resource::builder().build());
    let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
    (provider.tracer("test"), exported, export)
}

async fn until(reached: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_finds_the_queue_full_is_dropped_and_counted_and_nobody_waits() {
    let receiver = Receiver::with(0);
    let (tracer, exported, export) = tracer(&receiver);
    // Some of these are with the receiver, which hangs; the queue has room for the next.
    let begun = QUEUE + 2 * BATCH;
    for _ in 0..begun {
        tracer.start("span").end();
    }
    tokio::task::yield_now().await;
    for _ in 0..begun {
        tracer.start("span").end();
    }
    assert!(exported.overflowed() >= (2 * begun - QUEUE - BATCH - QUEUE) as u64);

    receiver.permits.add_permits(Semaphore::MAX_PERMITS >> 1);
    drop(tracer);
    export.end().await;
    let taken = receiver.taken.lock().unwrap().len() as u64;
    assert_eq!(exported.exported(), taken);
    assert_eq!(exported.exported() + exported.overflowed(), 2 * begun as u64);
}

#[tokio::test]
async fn what_the_receiver_does_not_take_is_counted_and_the_next_is_tried() {
    let receiver = Receiver { refuses: true, ..Receiver::with(Semaphore::MAX_PERMITS >> 1) };
    let (tracer, exported, export) = tracer(&receiver);
    tracer.start("first").end();
    until(|| exported.failed() == 1).await;
    tracer.start("second").end();
    until(|| exported.failed() == 2).await;
    assert_eq!((exported.exported(), exported.overflowed()), (0, 0));
    export.end().await;
}

#[tokio::test]
async fn the_end_exports_what_is_left() {
    let receiver = Receiver::with(Semaphore::MAX_PERMITS >> 1);
    let (tracer, exported, export) = tracer(&receiver);
    for name in ["a", "b", "c"] {
        tracer.start(name).end();
    }
    export.end().await;
    assert_eq!(*receiver.taken.lock().unwrap(), ["a", "b", "c"]);
    assert_eq!(exported.exported(), 3);
    // From now on there is nobody to take any.
    tracer.start("late").end();
    assert_eq!(exported.overflowed(), 1);
}
