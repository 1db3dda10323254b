//! `onced.v1.AdminService` over an engine: what an operator may see and force.
//!
//! It decides nothing itself. Every command goes the way of every other, and is written down
//! in the log of operators' doings once its answer is there.

use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::access::{Access, Caller};
use super::audit::Actor;
use super::decode::Violations;
use super::decode::admin::{self as decode, Account};
use super::policy::Policies;
use super::service::{LargeAnswer, deadline};
use super::told::mismatched;
use super::{audit, encode, status};
use crate::domain::{Command, Decision, Forced, ForcedOutcome, Moment, RecordKey};
use crate::log::LogControl;
use crate::pb::v1;
use crate::pb::v1::admin_service_server::AdminService;
use crate::storage::backup::BackupError;
use crate::storage::{Condition, Decided, Engine, EngineError};

/// The service: one engine, what applies in which namespace, and the moment since which it is up.
#[derive(Clone)]
pub struct AdminApi {
    engine: Arc<dyn Engine>,
    policies: Arc<Policies>,
    access: Access,
    up_since: Instant,
    log: Option<LogControl>,
}

impl AdminApi {
    /// The service over `engine`, which holds what is forced to `policies`. It is up from now on.
    pub fn new(engine: Arc<dyn Engine>, policies: Arc<Policies>) -> Self {
        Self { engine, policies, access: Access::Open, up_since: Instant::now(), log: None }
    }

    /// The same for callers with this `access`; without it, for everybody.
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// The same, for a process whose log operators may change.
    #[must_use]
    pub fn with_log(self, log: Option<LogControl>) -> Self {
        Self { log, ..self }
    }

    /// Applies an operator's command and writes down what it came to.
    async fn force(
        &self,
        action: &'static str,
        deadline: Option<Instant>,
        caller: Option<Caller>,
        decoded: Result<(RecordKey, (Command, Account)), Violations>,
    ) -> Result<(Forced, Moment), Status> {
        let (key, (command, account)) = decoded.map_err(status::invalid)?;
        let actor = Actor { account, caller };
        let (engine, named) = (Arc::clone(&self.engine), key.clone());
        let answered = to_its_end(async move {
            let answered = engine.apply(key.clone(), command, deadline).await;
            match &answered {
                Ok(Decided { answer: Decision::Forced(forced), .. }) => {
                    audit::forced(action, &key, &actor, forced);
                }
                Err(EngineError::OutcomeUnknown) => audit::unknown(action, &key, &actor),
                Ok(_) | Err(_) => {}
            }
            answered
        });
        let Decided { answer, decided_at } = answered.await?;
        let Decision::Forced(forced) = answer else { return Err(mismatched()) };
        match forced.outcome {
            ForcedOutcome::Refused(refusal) => Err(status::refused(refusal, &named)),
            _ => Ok((forced, decided_at)),
        }
    }
}

/// Sees `work` through to its end, also where the caller leaves: what was forced is written
/// down, whoever is still there to be told.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(work).await {
        Ok(answered) => answered.map_err(status::unanswered),
        // It panicked, or the runtime ends: the engine may have heard of it.
        Err(_) => Err(status::unanswered(EngineError::OutcomeUnknown)),
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        match request.namespace.as_str() {
            decode::ALL_NAMESPACES => reach.to_all()?,
            namespace => reach.to(namespace)?,
        }
        let listing = decode::list(request).map_err(status::invalid)?;
        let asked = listing.clone();
        let Decided { answer: page, decided_at } =
            self.engine.list(listing).await.map_err(status::unanswered)?;
        let next = page.next.as_ref().map(|place| decode::page_token(&asked, place));
        let answer = v1::ListRecordsResponse {
            records: page
                .records
                .into_iter()
                .map(|listed| v1::ListedRecord {
                    namespace: listed.key.namespace.as_str().to_owned(),
                    key: listed.key.key.as_str().to_owned(),
                    record: Some(encode::record(listed.record, decided_at)),
                })
                .collect(),
            next_page_token: next.unwrap_or_default(),
            unreadable_records: i32::try_from(page.unreadable).unwrap_or(i32::MAX),
            decide_time: Some(encode::timestamp(decided_at)),
        };
        // A page of long names and holders is about a megabyte.
        let bytes = answer.encoded_len();
        let large = LargeAnswer { bytes, otherwise: EngineError::Overloaded };
        Ok(LargeAnswer::with(Some(large), answer))
    }

    async fn force_release(
        &self,
        request: Request<v1::ForceReleaseRequest>,
    ) -> Result<Response<v1::ForceReleaseResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        reach.to(&request.namespace)?;
        let deadline = deadline(&metadata);
        let decoded = decode::force_release(request);
        let (forced, decided_at) =
            self.force("force_release", deadline, reach.caller(), decoded).await?;
        Ok(Response::new(v1::ForceReleaseResponse {
            state_before: encode::state(forced.phase_before).into(),
            fencing_token: encode::fencing_token(forced.fencing_token),
            decide_time: Some(encode::timestamp(decided_at)),
        }))
    }

    async fn force_complete(
        &self,
        request: Request<v1::ForceCompleteRequest>,
    ) -> Result<Response<v1::ForceCompleteResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        reach.to(&request.namespace)?;
        let deadline = deadline(&metadata);
        let decoded = decode::force_complete(request, &self.policies);
        let (forced, decided_at) =
            self.force("force_complete", deadline, reach.caller(), decoded).await?;
        let ForcedOutcome::Completed(completion) = &forced.outcome else {
            return Err(mismatched());
        };
        Ok(Response::new(v1::ForceCompleteResponse {
            completion: Some(encode::completion(&completion.without_body())),
            state_before: encode::state(forced.phase_before).into(),
            decide_time: Some(encode::timestamp(decided_at)),
        }))
    }

    async fn delete_record(
        &self,
        request: Request<v1::DeleteRecordRequest>,
    ) -> Result<Response<v1::DeleteRecordResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        reach.to(&request.namespace)?;
        let deadline = deadline(&metadata);
        let decoded = decode::delete_record(request);
        let (forced, decided_at) =
            self.force("delete_record", deadline, reach.caller(), decoded).await?;
        Ok(Response::new(v1::DeleteRecordResponse {
            state_before: encode::state(forced.phase_before).into(),
            fencing_token: encode::fencing_token(forced.fencing_token),
            decide_time: Some(encode::timestamp(decided_at)),
        }))
    }

    async fn erase_namespace(
        &self,
        request: Request<v1::EraseNamespaceRequest>,
    ) -> Result<Response<v1::EraseNamespaceResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        reach.to(&request.namespace)?;
        let caller = reach.caller();
        let order = decode::erase_namespace(request).map_err(status::invalid)?;
        let engine = Arc::clone(&self.engine);
        let answered = to_its_end(async move {
            let answered = engine.erase(order).await;
            if let Ok(Decided { answer: erasing, .. }) = &answered
                && erasing.is_new
            {
                audit::erase_begun(&erasing.erase, caller.as_ref());
            }
            answered
        });
        let Decided { answer: erasing, decided_at } = answered.await?;
        Ok(Response::new(v1::EraseNamespaceResponse {
            erase: Some(encode::erase(erasing.erase)),
            decide_time: Some(encode::timestamp(decided_at)),
        }))
    }

    async fn describe_namespace(
        &self,
        request: Request<v1::DescribeNamespaceRequest>,
    ) -> Result<Response<v1::DescribeNamespaceResponse>, Status> {
        self.access.to(request.extensions(), &request.get_ref().namespace)?;
        let namespace =
            decode::describe_namespace(request.into_inner()).map_err(status::invalid)?;
        let policy = encode::policy(&namespace, self.policies.describe(&namespace));
        Ok(Response::new(v1::DescribeNamespaceResponse { policy: Some(policy) }))
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        // It holds every namespace that there is.
        reach.to_all()?;
        let account = decode::create_backup(request).map_err(status::invalid)?;
        let actor = Actor { account, caller: reach.caller() };
        let engine = Arc::clone(&self.engine);
        // Seen through to its end: what was made is written down, whoever is left to be told.
        let making = tokio::spawn(async move {
            let made = engine.back_up().await;
            audit::backup(&actor, &made);
            made
        });
        let made = making
            .await
            .unwrap_or(Err(BackupError::Engine(EngineError::OutcomeUnknown)))
            .map_err(status::not_backed_up)?;
        Ok(Response::new(v1::CreateBackupResponse { backup: Some(encode::backup(made)) }))
    }

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        self.access.of(request.extensions())?.to_all()?;
        let backups = self.engine.backups().await.map_err(status::not_backed_up)?;
        let backups = backups.into_iter().map(encode::backup).collect();
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        // They name every namespace that there is.
        self.access.of(request.extensions())?.to_all()?;
        let stats = match self.engine.stats().await {
            Ok(Decided { answer, decided_at }) => {
                Some(encode::stats(answer, &self.policies, decided_at))
            }
            // That is what somebody wants to be told who asks how the store is.
            Err(EngineError::Unavailable) => None,
            Err(error) => return Err(status::unanswered(error)),
        };
        let condition = match (*self.engine.condition().borrow(), &stats) {
            (Condition::Poisoned, _) | (_, None) => v1::StoreCondition::Unavailable,
            (Condition::Serving, Some(_)) => v1::StoreCondition::Serving,
            (Condition::Full, Some(_)) => v1::StoreCondition::Full,
        };
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
        Ok(Response::new(v1::GetStatsResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: format!("{profile} {arch}-{system}"),
            uptime: Some(encode::elapsed(self.up_since.elapsed())),
            condition: condition.into(),
            store: stats,
            shadows: encode::shadows(&self.policies),
        }))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let reach = self.access.of(&extensions)?;
        // What is logged is of every namespace that there is.
        reach.to_all()?;
        let (filter, account) = decode::set_log_filter(request).map_err(status::invalid)?;
        let actor = Actor { account, caller: reach.caller() };
        let log = self.log.clone().ok_or_else(status::log_not_changeable)?;
        // The directives were checked, so all that can be wrong is the log.
        let changed = log.set(&filter.directives).ok().flatten();
        let changed = changed.ok_or_else(status::log_not_changeable)?;
        audit::log_filter(&actor, &changed, filter.duration);
        let answer = v1::SetLogFilterResponse {
            filter: changed.after.clone(),
            filter_before: changed.before.clone(),
            duration: filter.duration.map(encode::elapsed),
        };
        if let Some(duration) = filter.duration {
            tokio::spawn(async move { log.end(changed, duration).await });
        }
        Ok(Response::new(answer))
    }
}

#[cfg(test)]
mod tests;
