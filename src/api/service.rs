//! `onced.v1.IdempotencyService` over an engine.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::decode::{self, Limits};
use super::{encode, status};
use crate::domain::{Command, Completion, Decision, RecordKey, State};
use crate::pb::v1::idempotency_service_server::IdempotencyService;
use crate::pb::v1::{self, reserve_response};
use crate::storage::{Decided, Engine, EngineError};

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

    /// `answer`, and how large it is.
    pub(super) fn with<T>(large: Option<Self>, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if let Some(large) = large {
            response.extensions_mut().insert(large);
        }
        response
    }
}

/// The service: stateless, one engine, one set of limits.
#[derive(Clone)]
pub struct IdempotencyApi {
    engine: Arc<dyn Engine>,
    limits: Limits,
}

impl IdempotencyApi {
    /// The service over `engine`, which holds requests to `limits`.
    pub fn new(engine: Arc<dyn Engine>, limits: Limits) -> Self {
        Self { engine, limits }
    }

    /// Applies a command. Refusals come back as statuses, everything else as a decision.
    async fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Decided<Decision>, Status> {
        // Kept for the refusal: the engine takes the key.
        let named = key.clone();
        let decided =
            self.engine.apply(key, command, deadline).await.map_err(status::unanswered)?;
        match decided.answer {
            Decision::Refused(refusal) => Err(status::refused(refusal, &named)),
            _ => Ok(decided),
        }
    }
}

/// When the caller stops to care, by its own word.
pub(super) fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    decode::timeout(request.metadata().get("grpc-timeout"))
        .and_then(|timeout| Instant::now().checked_add(timeout))
}

/// An engine answers a command with a decision of its kind; anything else is a bug in it.
pub(super) fn mismatched() -> Status {
    tracing::error!("the engine answered another command");
    Status::internal("the engine answered another command")
}

#[tonic::async_trait]
impl IdempotencyService for IdempotencyApi {
    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let deadline = deadline(&request);
        let (key, command) =
            decode::reserve(request.into_inner(), &self.limits).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        let large = match &answer {
            Decision::Replayed(end) => Some(LargeAnswer::of(end, EngineError::Overloaded)),
            _ => None,
        };
        let outcome = match answer {
            Decision::Granted(granted) => {
                reserve_response::Outcome::Granted(encode::granted(granted))
            }
            Decision::InProgress(in_progress) => {
                reserve_response::Outcome::InProgress(encode::in_progress(in_progress, decided_at))
            }
            Decision::Replayed(completion) => {
                reserve_response::Outcome::Completed(encode::completion(&completion))
            }
            Decision::InDoubt(in_doubt) => {
                reserve_response::Outcome::InDoubt(encode::in_doubt(in_doubt))
            }
            _ => return Err(mismatched()),
        };
        let answer = v1::ReserveResponse {
            outcome: Some(outcome),
            decide_time: Some(encode::timestamp(decided_at)),
        };
        Ok(LargeAnswer::with(large, answer))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let deadline = deadline(&request);
        let (key, command) =
            decode::complete(request.into_inner(), &self.limits).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        match answer {
            Decision::Completed(completion) => {
                // It is done: sent again, the call finds it so.
                let large = LargeAnswer::of(&completion, EngineError::OutcomeUnknown);
                let answer = v1::CompleteResponse {
                    completion: Some(encode::completion(&completion)),
                    decide_time: Some(encode::timestamp(decided_at)),
                };
                Ok(LargeAnswer::with(Some(large), answer))
            }
            _ => Err(mismatched()),
        }
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let deadline = deadline(&request);
        let (key, command) = decode::release(request.into_inner()).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        match answer {
            Decision::Released => Ok(Response::new(v1::ReleaseResponse {
                decide_time: Some(encode::timestamp(decided_at)),
            })),
            _ => Err(mismatched()),
        }
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let deadline = deadline(&request);
        let (key, command) =
            decode::renew(request.into_inner(), &self.limits).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        match answer {
            Decision::Renewed { lease_until } => Ok(Response::new(v1::RenewResponse {
                lease_expire_time: Some(encode::timestamp(lease_until)),
                decide_time: Some(encode::timestamp(decided_at)),
            })),
            _ => Err(mismatched()),
        }
    }

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let deadline = deadline(&request);
        let key = decode::lookup(request.into_inner()).map_err(status::invalid)?;
        let named = key.clone();
        let Decided { answer, decided_at } =
            self.engine.lookup(key, deadline).await.map_err(status::unanswered)?;
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
