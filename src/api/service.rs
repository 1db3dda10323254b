//! `onced.v1.IdempotencyService` over an engine.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::policy::Policies;
use super::shadow::Instead;
use super::{decode, encode, status};
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

    /// A completion that no record backs goes back as large as it came.
    fn of_shadow(completion: &v1::Completion) -> Self {
        let bytes = completion.response.as_ref().map_or(0, |response| response.payload.len());
        Self { bytes, otherwise: EngineError::OutcomeUnknown }
    }

    /// `answer`, and how large it is.
    fn with<T>(large: Option<Self>, answer: T) -> Response<T> {
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
    engine: Arc<dyn Engine>,
    policies: Arc<Policies>,
}

/// What a caller is told.
enum Told {
    /// What was decided.
    Decided(Decision),
    /// What lets it go on, in a shadowed namespace.
    Instead(Instead),
}

impl IdempotencyApi {
    /// The service over `engine`, which holds requests to `policies`.
    pub fn new(engine: Arc<dyn Engine>, policies: Arc<Policies>) -> Self {
        Self { engine, policies }
    }

    /// Applies a command. Refusals come back as statuses, everything else as what to tell.
    async fn apply(
        &self,
        key: RecordKey,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Decided<Told>, Status> {
        // Kept for the refusal: the engine takes the key, and the command.
        let named = key.clone();
        // What a shadowed caller is told may be made from the request, which is kept for it.
        let shadow = self.policies.shadow(&key.namespace).map(|counts| (counts, command.clone()));
        let Decided { answer, decided_at } =
            self.engine.apply(key, command, deadline).await.map_err(status::unanswered)?;
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

/// When the caller stops to care, by its own word.
fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    decode::timeout(request.metadata().get("grpc-timeout"))
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
        let deadline = deadline(&request);
        let (key, command) =
            decode::reserve(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        let large = match &answer {
            Told::Decided(Decision::Replayed(end)) => {
                Some(LargeAnswer::of(end, EngineError::Overloaded))
            }
            _ => None,
        };
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
            decode::complete(request.into_inner(), &self.policies).map_err(status::invalid)?;
        let Decided { answer, decided_at } = self.apply(key, command, deadline).await?;
        let (large, completion) = match answer {
            Told::Decided(Decision::Completed(completion)) => {
                // It is done: sent again, the call finds it so.
                let large = LargeAnswer::of(&completion, EngineError::OutcomeUnknown);
                (large, encode::completion(&completion))
            }
            Told::Instead(Instead::Completed(completion)) => {
                (LargeAnswer::of_shadow(&completion), completion)
            }
            _ => return Err(mismatched()),
        };
        let answer = v1::CompleteResponse {
            completion: Some(completion),
            decide_time: Some(encode::timestamp(decided_at)),
        };
        Ok(LargeAnswer::with(Some(large), answer))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let deadline = deadline(&request);
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
        let deadline = deadline(&request);
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
        let deadline = deadline(&request);
        let key = decode::lookup(request.into_inner(), &self.policies).map_err(status::invalid)?;
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
