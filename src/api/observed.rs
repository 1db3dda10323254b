//! The services as they are served: each call is counted, timed, written down where it was slow,
//! and a span where it is traced.
//!
//! It stands around a service and knows only what goes in and comes out, so whatever is done
//! inside for speed or safety is measured as callers have it. What a server refuses before a
//! message is whole (messages that are no protobuf, that are too large, that find no room) never
//! comes here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status as SpanStatus};
use opentelemetry_sdk::trace::Span;
use tonic::{Code, Request, Response, Status};
use tonic_types::pb::Status as StatusMessage;

use super::calls::{CallMeters, End, Method};
use super::slow::{SlowCall, SlowLog};
use super::status;
use crate::domain::Namespace;
use crate::pb::v1;
use crate::pb::v1::admin_service_server::AdminService;
use crate::pb::v1::idempotency_service_server::IdempotencyService;
use crate::pb::v1::{batch_complete_item, batch_reserve_item, reserve_response};
use crate::trace::Traces;

/// The lengths of the longest names that a call is remembered by, in bytes. Longer ones are
/// refused, and need not be found again.
const MAX_NAMES: (usize, usize) = (63, 255);

/// What happens with what is seen of calls.
#[derive(Debug)]
pub struct Observer {
    /// Where they are counted.
    pub meters: CallMeters,
    /// Where slow ones are written down, if anywhere.
    pub slow: Option<SlowLog>,
    /// Where spans of them go, if anywhere.
    pub traces: Option<Arc<Traces>>,
    /// The longest wait that a call may ask for.
    pub wait_max: Duration,
}

/// A service whose calls are observed.
#[derive(Clone)]
pub struct Observed<S> {
    service: S,
    observer: Arc<Observer>,
}

impl<S> Observed<S> {
    /// `service`, as `observer` sees it.
    pub fn new(service: S, observer: Arc<Observer>) -> Self {
        Self { service, observer }
    }
}

/// What a request says of itself.
trait Asks {
    /// The namespace and the key, which may be empty; `None` where it is about no namespace alone.
    fn names(&self) -> Option<(&str, &str)> {
        None
    }

    /// How long it may be parked.
    fn wait(&self) -> Option<&prost_types::Duration> {
        None
    }
}

/// A call on its way. Dropped before its end, it is one that its caller left.
struct Call<'a> {
    observer: &'a Observer,
    method: Method,
    began_at: Instant,
    /// How long it was asked to wait at most.
    wait: Duration,
    place: usize,
    names: Option<Names>,
    span: Option<Box<Span>>,
    has_ended: bool,
}

/// The namespace and the key of a call, in one piece of memory.
struct Names {
    text: Box<str>,
    namespace: usize,
}

impl Names {
    /// `None` where they are longer than they may be.
    fn of((namespace, key): (&str, &str)) -> Option<Self> {
        if namespace.len() > MAX_NAMES.0 || key.len() > MAX_NAMES.1 {
            return None;
        }
        let mut text = String::with_capacity(namespace.len() + key.len());
        text.push_str(namespace);
        text.push_str(key);
        Some(Self { text: text.into_boxed_str(), namespace: namespace.len() })
    }

    fn namespace(&self) -> &str {
        match &self.text[..self.namespace] {
            "" => Namespace::DEFAULT,
            name => name,
        }
    }

    /// The part of the key's digest that stands for it; empty where there is none.
    fn key(&self) -> String {
        match &self.text[self.namespace..] {
            "" => String::new(),
            key => status::digest_name(key),
        }
    }
}

impl<'a> Call<'a> {
    fn begin<Q: Asks>(observer: &'a Observer, method: Method, request: &Request<Q>) -> Self {
        let names = request.get_ref().names();
        let traces = observer.traces.as_ref();
        let span = traces.and_then(|traces| traces.begin(method.name(), request.metadata()));
        // Of malformed waits nothing is known but that the call is refused.
        let wait = request.get_ref().wait().and_then(|wait| Duration::try_from(*wait).ok());
        // Nobody asks for them otherwise.
        let named = observer.slow.is_some() || span.is_some();
        Self {
            observer,
            method,
            began_at: Instant::now(),
            wait: wait.unwrap_or_default().min(observer.wait_max),
            place: names.map_or(usize::MAX, |(name, _)| observer.meters.place_of(name)),
            names: names.filter(|_| named).and_then(Names::of),
            span,
            has_ended: false,
        }
    }

    fn end<A>(mut self, answered: &Result<Response<A>, Status>, end: impl FnOnce(&A) -> End) {
        match answered {
            Ok(answer) => self.settle(end(answer.get_ref()), Code::Ok),
            Err(status) => self.settle(End::of(status), status.code()),
        }
    }

    fn settle(&mut self, end: End, code: Code) {
        self.has_ended = true;
        let Self { observer, method, .. } = *self;
        let took = self.began_at.elapsed();
        observer.meters.ended(method, end, took, self.wait > Duration::ZERO, self.place);
        if let Some(slow) = &observer.slow
            && took > slow.after + self.wait
        {
            self.tell_slow(slow, end, took);
        }
        if let Some(span) = self.span.take() {
            self.tell_span(*span, end, code);
        }
    }

    #[cold]
    fn tell_slow(&self, slow: &SlowLog, end: End, took: Duration) {
        self.observer.meters.slow(self.method);
        let span = self.span.as_ref();
        slow.write(&SlowCall {
            method: self.method,
            end,
            took,
            namespace: self.names.as_ref().map_or("", Names::namespace),
            key: &self.names.as_ref().map_or(String::new(), Names::key),
            trace_id: &span.map_or(String::new(), |it| it.span_context().trace_id().to_string()),
        });
    }

    #[cold]
    fn tell_span(&self, mut span: Span, end: End, code: Code) {
        span.set_attribute(KeyValue::new("rpc.system", "grpc"));
        span.set_attribute(KeyValue::new("rpc.service", self.method.service()));
        span.set_attribute(KeyValue::new("rpc.method", self.method.name()));
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        span.set_attribute(KeyValue::new("onced.outcome", end.outcome()));
        if !end.reason().is_empty() {
            span.set_attribute(KeyValue::new("onced.reason", end.reason()));
        }
        if let Some(names) = &self.names {
            span.set_attribute(KeyValue::new("onced.namespace", names.namespace().to_owned()));
            span.set_attribute(KeyValue::new("onced.key", names.key()));
        }
        if end.outcome() == "failed" {
            span.set_status(SpanStatus::error(end.reason()));
        }
        span.end();
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.settle(End::LEFT, Code::Cancelled);
        }
    }
}

/// Calls a method of the service inside, and observes that.
macro_rules! observe {
    ($self:ident, $method:ident: $call:ident($request:ident), $end:expr) => {{
        let call = Call::begin(&$self.observer, Method::$method, &$request);
        let answered = $self.service.$call($request).await;
        call.end(&answered, $end);
        answered
    }};
}

fn ok<A>(_: &A) -> End {
    End::OK
}

fn of_reserve(answer: &v1::ReserveResponse) -> End {
    match &answer.outcome {
        Some(reserve_response::Outcome::Granted(_)) => End::GRANTED,
        Some(reserve_response::Outcome::InProgress(_)) => End::IN_PROGRESS,
        Some(reserve_response::Outcome::Completed(_)) => End::COMPLETED,
        Some(reserve_response::Outcome::InDoubt(_)) | None => End::IN_DOUBT,
    }
}

fn of_message(status: &StatusMessage) -> End {
    End::of(&Status::with_details(
        Code::from(status.code),
        "",
        prost::Message::encode_to_vec(status).into(),
    ))
}

impl<S> Observed<S> {
    fn count_reserves(&self, answer: &v1::BatchReserveResponse) -> End {
        let ends = answer.items.iter().map(|item| match &item.result {
            Some(batch_reserve_item::Result::Response(response)) => of_reserve(response),
            Some(batch_reserve_item::Result::Status(status)) => of_message(status),
            None => End::OK,
        });
        self.observer.meters.items(Method::BatchReserve, ends);
        End::OK
    }

    fn count_completes(&self, answer: &v1::BatchCompleteResponse) -> End {
        let ends = answer.items.iter().map(|item| match &item.result {
            Some(batch_complete_item::Result::Status(status)) => of_message(status),
            Some(batch_complete_item::Result::Response(_)) | None => End::OK,
        });
        self.observer.meters.items(Method::BatchComplete, ends);
        End::OK
    }
}

#[tonic::async_trait]
impl<S: IdempotencyService> IdempotencyService for Observed<S> {
    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        observe!(self, Reserve: reserve(request), of_reserve)
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        observe!(self, Complete: complete(request), ok)
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        observe!(self, Release: release(request), ok)
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        observe!(self, Renew: renew(request), ok)
    }

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        observe!(self, Lookup: lookup(request), ok)
    }

    async fn batch_reserve(
        &self,
        request: Request<v1::BatchReserveRequest>,
    ) -> Result<Response<v1::BatchReserveResponse>, Status> {
        observe!(self, BatchReserve: batch_reserve(request), |answer| self.count_reserves(answer))
    }

    async fn batch_complete(
        &self,
        request: Request<v1::BatchCompleteRequest>,
    ) -> Result<Response<v1::BatchCompleteResponse>, Status> {
        observe!(self, BatchComplete: batch_complete(request), |answer| self.count_completes(answer))
    }
}

#[tonic::async_trait]
impl<S: AdminService> AdminService for Observed<S> {
    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        observe!(self, ListRecords: list_records(request), ok)
    }

    async fn force_release(
        &self,
        request: Request<v1::ForceReleaseRequest>,
    ) -> Result<Response<v1::ForceReleaseResponse>, Status> {
        observe!(self, ForceRelease: force_release(request), ok)
    }

    async fn force_complete(
        &self,
        request: Request<v1::ForceCompleteRequest>,
    ) -> Result<Response<v1::ForceCompleteResponse>, Status> {
        observe!(self, ForceComplete: force_complete(request), ok)
    }

    async fn delete_record(
        &self,
        request: Request<v1::DeleteRecordRequest>,
    ) -> Result<Response<v1::DeleteRecordResponse>, Status> {
        observe!(self, DeleteRecord: delete_record(request), ok)
    }

    async fn erase_namespace(
        &self,
        request: Request<v1::EraseNamespaceRequest>,
    ) -> Result<Response<v1::EraseNamespaceResponse>, Status> {
        observe!(self, EraseNamespace: erase_namespace(request), ok)
    }

    async fn describe_namespace(
        &self,
        request: Request<v1::DescribeNamespaceRequest>,
    ) -> Result<Response<v1::DescribeNamespaceResponse>, Status> {
        observe!(self, DescribeNamespace: describe_namespace(request), ok)
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        observe!(self, GetStats: get_stats(request), ok)
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        observe!(self, SetLogFilter: set_log_filter(request), ok)
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        observe!(self, CreateBackup: create_backup(request), ok)
    }

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        observe!(self, ListBackups: list_backups(request), ok)
    }
}

/// What requests with a key say of themselves.
macro_rules! asks_about_a_key {
    ($($request:ident)*) => {$(
        impl Asks for v1::$request {
            fn names(&self) -> Option<(&str, &str)> {
                Some((&self.namespace, &self.key))
            }
        }
    )*};
}

/// What requests about a namespace say of themselves.
macro_rules! asks_about_a_namespace {
    ($($request:ident)*) => {$(
        impl Asks for v1::$request {
            fn names(&self) -> Option<(&str, &str)> {
                Some((&self.namespace, ""))
            }
        }
    )*};
}

asks_about_a_key! {
    CompleteRequest ReleaseRequest RenewRequest
    ForceReleaseRequest ForceCompleteRequest DeleteRecordRequest
}
asks_about_a_namespace! { ListRecordsRequest EraseNamespaceRequest DescribeNamespaceRequest }

impl Asks for v1::ReserveRequest {
    fn names(&self) -> Option<(&str, &str)> {
        Some((&self.namespace, &self.key))
    }

    fn wait(&self) -> Option<&prost_types::Duration> {
        self.wait_timeout.as_ref()
    }
}

impl Asks for v1::LookupRequest {
    fn names(&self) -> Option<(&str, &str)> {
        Some((&self.namespace, &self.key))
    }

    fn wait(&self) -> Option<&prost_types::Duration> {
        self.wait_timeout.as_ref()
    }
}

impl Asks for v1::BatchReserveRequest {}
impl Asks for v1::BatchCompleteRequest {}
impl Asks for v1::GetStatsRequest {}
impl Asks for v1::SetLogFilterRequest {}
impl Asks for v1::CreateBackupRequest {}
impl Asks for v1::ListBackupsRequest {}

#[cfg(test)]
mod tests;
