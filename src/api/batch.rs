//! Several requests in one call: each decoded, decided and answered on its own, in their order,
//! and those that are right in one commit.
//!
//! An item gets the outcome that its request would have got alone, or that request's status,
//! details included, as a message. The call itself fails only where nothing is known of any
//! item.

use std::time::Instant;

use prost::Message as _;
use tonic::{Code, Response, Status};
use tonic_types::pb::Status as StatusMessage;

use super::access::Reach;
use super::decode::{self, Violation};
use super::service::{IdempotencyApi, LargeAnswer};
use super::status;
use super::told::Told;
use crate::domain::{Command, Decision, Moment, RecordKey};
use crate::pb::v1::{self, batch_complete_item, batch_reserve_item};
use crate::storage::{Decided, EngineError};

/// How many items a batch has at most.
const MAX_ITEMS: usize = 1_000;

/// What became of one item.
type Settled = Result<Told, Status>;

impl IdempotencyApi {
    /// `BatchReserve`.
    pub(super) async fn reserve_all(
        &self,
        request: v1::BatchReserveRequest,
        reach: Reach<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<v1::BatchReserveResponse>, Status> {
        bounded(request.items.len())?;
        let decoded = request.items.into_iter().map(|item| {
            reach.to(&item.namespace)?;
            decode::batched_reserve(item, &self.policies).map_err(status::invalid)
        });
        let (settled, decided_at) = self.settle_all(decoded, deadline).await?;
        let large = replayed(&settled);
        let items = settled.into_iter().map(|item| {
            let result = match item.and_then(|told| told.reserved(decided_at)) {
                Ok(response) => batch_reserve_item::Result::Response(response),
                Err(status) => batch_reserve_item::Result::Status(message(&status)),
            };
            v1::BatchReserveItem { result: Some(result) }
        });
        Ok(LargeAnswer::with(Some(large), v1::BatchReserveResponse { items: items.collect() }))
    }

    /// `BatchComplete`.
    pub(super) async fn complete_all(
        &self,
        request: v1::BatchCompleteRequest,
        reach: Reach<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<v1::BatchCompleteResponse>, Status> {
        bounded(request.items.len())?;
        let decoded = request.items.into_iter().map(|item| {
            reach.to(&item.namespace)?;
            decode::complete(item, &self.policies).map_err(status::invalid)
        });
        let (settled, decided_at) = self.settle_all(decoded, deadline).await?;
        let items = settled.into_iter().map(|item| {
            let result = match item.and_then(|told| told.completed(decided_at)) {
                Ok(mut answer) => {
                    // The engine left it away; an empty one would read as if that were stored.
                    if let Some(completion) = &mut answer.completion {
                        completion.response = None;
                    }
                    batch_complete_item::Result::Response(answer)
                }
                Err(status) => batch_complete_item::Result::Status(message(&status)),
            };
            v1::BatchCompleteItem { result: Some(result) }
        });
        Ok(Response::new(v1::BatchCompleteResponse { items: items.collect() }))
    }

    /// Lets the engine decide what could be decoded and may be, and says what became of each item.
    async fn settle_all(
        &self,
        decoded: impl ExactSizeIterator<Item = Result<(RecordKey, Command), Status>>,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Settled>, Moment), Status> {
        let mut right = Vec::with_capacity(decoded.len());
        let mut asked = Vec::with_capacity(decoded.len());
        for item in decoded {
            asked.push(item.map(|(key, command)| {
                let kept = self.kept(&key, &command);
                right.push((key, command));
                kept
            }));
        }
        let Decided { answer, decided_at } = match right.is_empty() {
            true => Decided { answer: Vec::new(), decided_at: Moment::default() },
            false => self.engine.apply_all(right, deadline).await.map_err(status::unanswered)?,
        };
        let mut decisions = answer.into_iter();
        let settled = asked.into_iter().map(|item| {
            let kept = item?;
            let decided = decisions.next().expect("an engine answers every command");
            let decision = decided.map_err(status::unanswered)?;
            Told::of(&self.policies, kept, decision, decided_at)
        });
        Ok((settled.collect(), decided_at))
    }
}

/// Refuses a batch of no items or of too many.
fn bounded(items: usize) -> Result<(), Status> {
    if (1..=MAX_ITEMS).contains(&items) {
        return Ok(());
    }
    let description = format!("has {items} items; must have 1 to {MAX_ITEMS}");
    Err(status::invalid(vec![Violation { field: "items", description }]))
}

/// How much stored data an answer carries, and what its caller is told where there is no room
/// for it: where somebody was granted something, that it is to ask again and will find it so.
fn replayed(settled: &[Settled]) -> LargeAnswer {
    let mut large = LargeAnswer { bytes: 0, otherwise: EngineError::Overloaded };
    for told in settled.iter().flatten() {
        large.bytes += told.stored_bytes();
        if let Told::Decided(Decision::Granted(_)) = told {
            large.otherwise = EngineError::OutcomeUnknown;
        }
    }
    large
}

/// A status as a message: what a call's trailer carries.
fn message(status: &Status) -> StatusMessage {
    StatusMessage::decode(status.details()).ok().filter(|it| it.code != Code::Ok as i32).unwrap_or(
        StatusMessage {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        },
    )
}
