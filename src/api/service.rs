//! `onced.v1.IdempotencyService` over an engine.

use std::sync::Arc;
use std::time::Instant;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::access::Access;
use super::decode::Violation;
use super::policy::Policies;
use super::told::Told;
use super::wait::{WaitingPlaces, Waits};
use super::{decode, encode, status};
use crate::domain::{Command, Completion, Decision, RecordKey, State};
use crate::pb::v1;
use crate::pb::v1::idempotency_service_server::IdempotencyService;
use crate::storage::{Answering, Decided, Engine, EngineError, Patience};

/// Goes with an answer that carries a stored response, for whoever bounds what answers hold.
#[derive(Clone, Copy, Debug)]
pub struct LargeAnswer {
    /// The size of the response in bytes.
    pub bytes: usize,
    /// What the caller is told where there is no room for it.
    pub otherwise: EngineError,
}

impl LargeAnswer {
    /// What an answer may carry without a word, in bytes: no more than what every answer may have.
    pub const SMALL_BYTES: usize = 8 << 10;

    fn of(completion: &Completion, otherwise: EngineError) -> Self {
        Self { bytes: completion.response.payload.len(), otherwise }
    }

    /// `answer`, and how large it is where it is not small.
    pub(super) fn with<T>(large: Option<Self>, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if let Some(large) = large
            && large.bytes > Self::SMALL_BYTES
        {
            response.extensions_mut().insert(large);
        }
        response
    }
}

/// The service: one engine, what applies in each namespace, and when waits end.
#[derive(Clone)]
pub struct IdempotencyApi {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) policies: Arc<Policies>,
    pub(super) access: Access,
    waits: Waits,
}

impl IdempotencyApi {
    /// The service over `engine`, which holds requests to `policies` and lets them wait as
    /// `waits` says.
    pub fn new(engine: Arc<dyn Engine>, policies: Arc<Policies>, waits: Waits) -> Self {
        Self { engine, policies, access: Access::Open, waits }
    }

    /// The same for callers with this `access`; without it, for everybody.
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// The same for the calls of one connection, which share `places` to wait.
    #[must_use]
    pub fn on_connection(&self, places: WaitingPlaces) -> Self {
        Self { waits: self.waits.within(places), ..self.clone() }
    }

    /// Begins to apply a command, at once or with `patience`.
    fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Option<Patience>,
    ) -> Applying<'_> {
        let kept = self.kept(&key, &command);
        let decided = match patience {
            // A shadowed caller goes on as if nobody else were at it.
            Some(patience) if kept.shadowed.is_none() => {
                self.engine.apply_waiting(key, command, deadline, patience)
            }
            _ => self.engine.apply(key, command, deadline),
        };
        Applying { policies: &self.policies, kept, decided }
    }

    /// Begins to apply, at once, the command that `decode` finds in a request.
    fn apply_at_once<R>(
        &self,
        request: Request<R>,
        decode: impl FnOnce(R, &Policies) -> Result<(RecordKey, Command), Vec<Violation>>,
    ) -> Result<Applying<'_>, Status> {
        let deadline = deadline(request.metadata());
        let decoded = decode(request.into_inner(), &self.policies);
        let (key, command) = decoded.map_err(status::invalid)?;
        Ok(self.apply(key, command, deadline, None))
    }

    pub(super) fn kept(&self, key: &RecordKey, command: &Command) -> Kept {
        let shadowed = self.policies.shadow(&key.namespace).map(|_| Box::new(command.clone()));
        Kept { key: key.clone(), shadowed }
    }
}

/// What is needed for the answer beside the decision, since the engine takes the key and the
/// command: the name for a refusal, and in a shadowed namespace the command.
pub(super) struct Kept {
    pub key: RecordKey,
    pub shadowed: Option<Box<Command>>,
}

/// A command on its way. Small, since there is one for each open call; what it is made from goes out
/// of scope before anybody waits for it, because a future keeps room for all that is in scope.
struct Applying<'a> {
    policies: &'a Policies,
    kept: Kept,
    decided: Answering<'a, Decision>,
}

impl Applying<'_> {
    /// What to tell its caller; of a refusal, a status.
    async fn told(mut self) -> Result<Decided<Told>, Status> {
        let decided = (&mut self.decided).await.map_err(status::unanswered)?;
        let Decided { answer, decided_at } = decided;
        let answer = Told::of(self.policies, self.kept, answer, decided_at)?;
        Ok(Decided { answer, decided_at })
    }
}

/// When the caller stops to care, by its own word.
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    decode::timeout(metadata.as_ref()).and_then(|timeout| Instant::now().checked_add(timeout))
}

#[tonic::async_trait]
impl IdempotencyService for IdempotencyApi {
    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let applying = {
            let deadline = deadline(request.metadata());
            let (key, command, wait) =
                decode::reserve(request.into_inner(), &self.policies).map_err(status::invalid)?;
            let patience = self.waits.patience(wait, deadline);
            self.apply(key, command, deadline, patience)
        };
        let Decided { answer, decided_at } = applying.told().await?;
        Ok(LargeAnswer::with(answer.large(), answer.reserved(decided_at)?))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let applying = self.apply_at_once(request, decode::complete)?;
        let Decided { answer, decided_at } = applying.told().await?;
        Ok(LargeAnswer::with(answer.large(), answer.completed(decided_at)?))
    }

    async fn batch_reserve(
        &self,
        request: Request<v1::BatchReserveRequest>,
    ) -> Result<Response<v1::BatchReserveResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        self.reserve_all(request, reach, deadline(&metadata)).await
    }

    async fn batch_complete(
        &self,
        request: Request<v1::BatchCompleteRequest>,
    ) -> Result<Response<v1::BatchCompleteResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        self.complete_all(request, reach, deadline(&metadata)).await
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let applying = self.apply_at_once(request, decode::release)?;
        let Decided { answer, decided_at } = applying.told().await?;
        Ok(Response::new(answer.released(decided_at)?))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let applying = self.apply_at_once(request, decode::renew)?;
        let Decided { answer, decided_at } = applying.told().await?;
        Ok(Response::new(answer.renewed(decided_at)?))
    }

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let deadline = deadline(request.metadata());
        let (key, wait) =
            decode::lookup(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let named = key.clone();
        let looking = match self.waits.patience(wait, deadline) {
            Some(patience) => self.engine.lookup_waiting(key, deadline, patience),
            None => self.engine.lookup(key, deadline),
        };
        let Decided { answer, decided_at } = looking.await.map_err(status::unanswered)?;
        let record = answer.ok_or_else(|| status::not_found(&named))?;
        let large = match &record.state {
            State::Completed(end) => Some(LargeAnswer::of(end, EngineError::Overloaded)),
            State::Reserved { .. } | State::Released { .. } => None,
        };
        let answer = v1::LookupResponse {
            record: Some(encode::record(record, decided_at)),
            decide_time: Some(encode::timestamp(decided_at)),
        };
        Ok(LargeAnswer::with(large, answer))
    }
}
