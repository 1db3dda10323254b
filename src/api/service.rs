//! `onced.v1.IdempotencyService` over an engine.

use std::sync::Arc;
use std::time::Instant;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::policy::Policies;
use super::shadow::Instead;
use super::wait::Waits;
use super::{decode, encode, status};
use crate::domain::{Command, Completion, Decision, Moment, RecordKey, State};
use crate::pb::v1::idempotency_service_server::IdempotencyService;
use crate::pb::v1::{self, reserve_response};
use crate::storage::{Decided, Engine, EngineError, Patience};

/// Goes with an answer that carries a stored response, for whoever bounds what answers hold.
#[derive(Clone, Copy, Debug)]
pub struct LargeAnswer {
    /// The size of the response in bytes.
    pub bytes: usize,
    /// What the caller is told where there is no room for it.
    pub otherwise: EngineError,
}

impl LargeAnswer {
    fn of(completion: &Completion, otherwise: EngineError) -> Self {
        Self { bytes: completion.response.payload.len(), otherwise }
    }

    /// A completion that no record backs goes back as large as it came.
    fn of_shadow(completion: &v1::Completion) -> Self {
        let bytes = completion.response.as_ref().map_or(0, |response| response.payload.len());
        Self { bytes, otherwise: EngineError::OutcomeUnknown }
    }

    /// `answer`, and how large it is.
    pub(super) fn with<T>(large: Option<Self>, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if let Some(large) = large {
            response.extensions_mut().insert(large);
        }
        response
    }
}

/// The service: one engine, and what applies in each namespace.
#[derive(Clone)]
pub struct IdempotencyApi {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) policies: Arc<Policies>,
    waits: Waits,
}

/// What a caller is told.
pub(super) enum Told {
    /// What was decided.
    Decided(Decision),
    /// What lets it go on, in a shadowed namespace.
    Instead(Instead),
}

impl IdempotencyApi {
    /// The service over `engine`, which holds requests to `policies` and lets them wait as `waits`
    /// says.
    pub fn new(engine: Arc<dyn Engine>, policies: Arc<Policies>, waits: Waits) -> Self {
        Self { engine, policies, waits }
    }

    /// Applies a command. Refusals come back as statuses, everything else as what to tell.
    async fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Decided<Told>, Status> {
        self.apply_patiently(key, command, deadline, None).await
    }

    /// The same for a caller that may have the patience to wait.
    async fn apply_patiently(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
        patience: Option<Patience>,
    ) -> Result<Decided<Told>, Status> {
        // Kept for the refusal: the engine takes the key, and the command.
        let named = key.clone();
        // What a shadowed caller is told may be made from the request, which is kept for it.
        let shadow = self.policies.shadow(&key.namespace).map(|counts| (counts, command.clone()));
        let deciding = match patience {
            // What somebody else does is nothing that a shadowed caller waits for.
            Some(patience) if shadow.is_none() => {
                self.engine.apply_waiting(key, command, deadline, patience)
            }
            _ => self.engine.apply(key, command, deadline),
        };
        let Decided { answer, decided_at } = deciding.await.map_err(status::unanswered)?;
        if let Some((counts, command)) = shadow
            && let Some(instead) = counts.instead(&named.namespace, command, &answer, decided_at)
        {
            return Ok(Decided { answer: Told::Instead(instead), decided_at });
        }
        match answer {
            Decision::Refused(refusal) => Err(status::refused(refusal, &named)),
            answer => Ok(Decided { answer: Told::Decided(answer), decided_at }),
        }
    }
}

/// The answer to a Reserve.
pub(super) fn reserve_response(
    answer: Told,
    decided_at: Moment,
) -> Result<v1::ReserveResponse, Status> {
    let outcome = match answer {
        Told::Decided(Decision::Granted(granted)) => {
            reserve_response::Outcome::Granted(encode::granted(granted))
        }
        Told::Decided(Decision::InProgress(in_progress)) => {
            reserve_response::Outcome::InProgress(encode::in_progress(in_progress, decided_at))
        }
        Told::Decided(Decision::Replayed(completion)) => {
            reserve_response::Outcome::Completed(encode::completion(&completion))
        }
        Told::Decided(Decision::InDoubt(in_doubt)) => {
            reserve_response::Outcome::InDoubt(encode::in_doubt(in_doubt))
        }
        Told::Instead(Instead::Granted(granted)) => reserve_response::Outcome::Granted(granted),
        _ => return Err(mismatched()),
    };
    let decide_time = Some(encode::timestamp(decided_at));
    Ok(v1::ReserveResponse { outcome: Some(outcome), decide_time })
}

/// The answer to a Complete.
pub(super) fn complete_response(
    answer: Told,
    decided_at: Moment,
) -> Result<v1::CompleteResponse, Status> {
    let completion = match answer {
        Told::Decided(Decision::Completed(completion)) => encode::completion(&completion),
        Told::Instead(Instead::Completed(completion)) => completion,
        _ => return Err(mismatched()),
    };
    let decide_time = Some(encode::timestamp(decided_at));
    Ok(v1::CompleteResponse { completion: Some(completion), decide_time })
}

/// When the caller stops to care, by its own word.
fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    decode::timeout(metadata.get("grpc-timeout"))
        .and_then(|timeout| Instant::now().checked_add(timeout))
}

/// An engine answers a command with a decision of its kind; anything else is a bug in it.
fn mismatched() -> Status {
    tracing::error!("the engine answered another command");
    Status::internal("the engine answered another command")
}

#[tonic::async_trait]
impl IdempotencyService for IdempotencyApi {
    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let deadline = deadline(&metadata);
        let (key, command, wait) =
            decode::reserve(request, &self.policies).map_err(status::invalid)?;
        let patience = self.waits.patience(wait, deadline, &extensions);
        let Decided { answer, decided_at } =
            self.apply_patiently(key, command, deadline, patience).await?;
        let large = match &answer {
            Told::Decided(Decision::Replayed(end)) => {
                Some(LargeAnswer::of(end, EngineError::Overloaded))
            }
            _ => None,
        };
        Ok(LargeAnswer::with(large, reserve_response(answer, decided_at)?))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let deadline = deadline(request.metadata());
        let (key, command) =
            decode::complete(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        let large = match &answer {
            // It is done: sent again, the call finds it so.
            Told::Decided(Decision::Completed(completion)) => {
                Some(LargeAnswer::of(completion, EngineError::OutcomeUnknown))
            }
            Told::Instead(Instead::Completed(completion)) => {
                Some(LargeAnswer::of_shadow(completion))
            }
            _ => None,
        };
        Ok(LargeAnswer::with(large, complete_response(answer, decided_at)?))
    }

    async fn batch_reserve(
        &self,
        request: Request<v1::BatchReserveRequest>,
    ) -> Result<Response<v1::BatchReserveResponse>, Status> {
        let deadline = deadline(request.metadata());
        self.reserve_all(request.into_inner(), deadline).await
    }

    async fn batch_complete(
        &self,
        request: Request<v1::BatchCompleteRequest>,
    ) -> Result<Response<v1::BatchCompleteResponse>, Status> {
        let deadline = deadline(request.metadata());
        self.complete_all(request.into_inner(), deadline).await
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let deadline = deadline(request.metadata());
        let (key, command) =
            decode::release(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        match answer {
            Told::Decided(Decision::Released) | Told::Instead(Instead::Released) => {
                Ok(Response::new(v1::ReleaseResponse {
                    decide_time: Some(encode::timestamp(decided_at)),
                }))
            }
            _ => Err(mismatched()),
        }
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let deadline = deadline(request.metadata());
        let (key, command) =
            decode::renew(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        match answer {
            Told::Decided(Decision::Renewed { lease_until })
            | Told::Instead(Instead::Renewed { lease_until }) => {
                Ok(Response::new(v1::RenewResponse {
                    lease_expire_time: Some(encode::timestamp(lease_until)),
                    decide_time: Some(encode::timestamp(decided_at)),
                }))
            }
            _ => Err(mismatched()),
        }
    }

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let deadline = deadline(&metadata);
        let (key, wait) = decode::lookup(request, &self.policies).map_err(status::invalid)?;
        let named = key.clone();
        let looking = match self.waits.patience(wait, deadline, &extensions) {
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
