//! What is forced is written down, whether or not somebody waits for the answer.

use std::io::{self, Write};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Waker};

use super::*;
use crate::clock::SystemClock;
use crate::storage::fault::{Fault, FaultPlan, Operation};
use crate::storage::{StoreOptions, StoreUrl, open};

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that this thread logs from now on.
    fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn audit(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|it| it.contains("onced::audit")).map(str::to_owned).collect()
    }
}

fn api(url: &StoreUrl, options: &StoreOptions) -> AdminApi {
    let engine = open(url, Arc::new(SystemClock::new()), options).unwrap();
    AdminApi::new(engine, Arc::new(Policies::default()))
}

fn delete() -> Request<v1::DeleteRecordRequest> {
    Request::new(v1::DeleteRecordRequest {
        key: "order-1".into(),
        reason: "a test order".into(),
        operator: "olga".into(),
        ..Default::default()
    })
}

#[tokio::test]
async fn what_is_forced_by_a_caller_that_leaves_is_written_down() {
    let (log, _guard) = Log::of_this_thread();
    let api = api(&StoreUrl::Memory, &StoreOptions::default());
    let erase = Request::new(v1::EraseNamespaceRequest {
        namespace: "shop".into(),
        reason: "the tenant left".into(),
        operator: "olga".into(),
        ..Default::default()
    });
    {
        // Both are on their way, and their callers leave before anything has come of it.
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(api.delete_record(delete())).poll(&mut context).is_pending());
        assert!(pin!(api.erase_namespace(erase)).poll(&mut context).is_pending());
    }
    assert_eq!(log.audit(), Vec::<String>::new());
    while log.audit().len() < 2 {
        tokio::task::yield_now().await;
    }
    let lines = log.audit();
    assert!(lines[0].contains("action=\"delete_record\" outcome=\"deleted\""), "{lines:?}");
    assert!(lines[1].contains("action=\"erase_namespace\" outcome=\"begun\""), "{lines:?}");
}

#[tokio::test]
async fn what_may_have_been_forced_is_written_down_as_that() {
    let (log, _guard) = Log::of_this_thread();
    let root = tempfile::tempdir().unwrap();
    let faults = Arc::new(FaultPlan::default());
    let options = StoreOptions { faults: Some(Arc::clone(&faults)), ..Default::default() };
    let api = api(&StoreUrl::RocksDb(root.path().join("data")), &options);
    let key = crate::domain::RecordKey {
        namespace: Default::default(),
        key: crate::domain::IdempotencyKey::new("order-1".into()).unwrap(),
    };
    let reserve = Command::Reserve(crate::domain::Reserve {
        fingerprint: Default::default(),
        owner_token: crate::domain::OwnerToken::from_bytes([1; 16]),
        lease: crate::domain::Span::from_secs(30),
        lease_expiry_action: Default::default(),
        retention: crate::domain::Span::from_secs(30),
        retry_failed: false,
        holder: String::new(),
    });
    api.engine.apply(key, reserve, None).await.unwrap();

    faults.fail_next(Operation::Sync, Fault::NotDone);
    api.delete_record(delete()).await.unwrap_err();
    let lines = log.audit();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("action=\"delete_record\" outcome=\"unknown\""), "{lines:?}");
    // After that it is sure that nothing happens.
    api.delete_record(delete()).await.unwrap_err();
    assert_eq!(log.audit().len(), 1);
}
