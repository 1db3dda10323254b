//! The log of what operators force: one structured line for each command, once what it came to
//! is durable, with the target `onced::audit`.
//!
//! It says who (the principal by its credentials, and the operator by its own word), what, why, and
//! what was there before. The key is named by a part of its
//! digest, as in every other message.

use std::time::Duration;

use tracing::info;

use super::access::Caller;
use super::decode::admin::Account;
use super::status;
use crate::domain::{FencingToken, Forced, ForcedOutcome, Phase, RecordKey, Refusal};
use crate::log::Changed;
use crate::storage::backup::{Backup, BackupError};
use crate::storage::erase::Erase;

/// Who forces something.
pub struct Actor {
    /// Who and why, in the caller's own words.
    pub account: Account,
    /// Who it is by its credentials, where the server asks for any.
    pub caller: Option<Caller>,
}

/// What a line says of the one who was asked for credentials. Where nobody was, it says nothing.
fn principal(caller: Option<&Caller>) -> Option<&str> {
    caller.map(|Caller(principal)| principal.name())
}

/// What every line says at its end.
const MESSAGE: &str = "an operator's command took effect";

/// Writes down what `action` came to.
pub fn forced(action: &'static str, key: &RecordKey, actor: &Actor, forced: &Forced) {
    let outcome = match &forced.outcome {
        ForcedOutcome::Released => "released",
        ForcedOutcome::Completed(_) => "completed",
        ForcedOutcome::Deleted => "deleted",
        ForcedOutcome::Refused(Refusal::NotFound) => "refused: RESERVATION_NOT_FOUND",
        ForcedOutcome::Refused(Refusal::AlreadyCompleted) => "refused: ALREADY_COMPLETED",
        ForcedOutcome::Refused(Refusal::ResultConflict) => "refused: RESULT_CONFLICT",
        ForcedOutcome::Refused(Refusal::RecordChanged) => "refused: RECORD_CHANGED",
        ForcedOutcome::Refused(
            Refusal::FingerprintMismatch | Refusal::LeaseLost | Refusal::QuotaExceeded(_),
        ) => {
            unreachable!("an operator needs no fingerprint, no owner token and no quota")
        }
    };
    let message = match &forced.outcome {
        ForcedOutcome::Refused(_) => "an operator's command was refused",
        _ => MESSAGE,
    };
    info!(
        target: "onced::audit",
        action,
        outcome,
        principal = principal(actor.caller.as_ref()),
        operator = actor.account.operator,
        reason = actor.account.reason,
        namespace = key.namespace.as_str(),
        key = status::key_name(key),
        phase_before = phase_name(forced.phase_before),
        fencing_token = forced.fencing_token.map_or(0, FencingToken::get),
        "{message}"
    );
}

/// Writes down that nobody knows what `action` came to: the commit failed half-way. Sent again
/// once the store is open anew, it tells.
pub fn unknown(action: &'static str, key: &RecordKey, actor: &Actor) {
    info!(
        target: "onced::audit",
        action,
        outcome = "unknown",
        principal = principal(actor.caller.as_ref()),
        operator = actor.account.operator,
        reason = actor.account.reason,
        namespace = key.namespace.as_str(),
        key = status::key_name(key),
        "an operator's command may have taken effect"
    );
}

/// Writes down that an erase began. The engine writes down how it ended.
pub fn erase_begun(erase: &Erase, caller: Option<&Caller>) {
    info!(
        target: "onced::audit",
        action = "erase_namespace",
        outcome = "begun",
        principal = principal(caller),
        operator = erase.order.operator,
        reason = erase.order.reason,
        namespace = erase.order.namespace.as_str(),
        erase_id = %erase.order.id,
        fencing_token_ceiling = erase.ceiling.map_or(0, FencingToken::get),
        "{MESSAGE}"
    );
}

/// Writes down that what is logged was changed, for a time or until the next change.
pub fn log_filter(actor: &Actor, changed: &Changed, ends_after: Option<Duration>) {
    info!(
        target: "onced::audit",
        action = "set_log_filter",
        outcome = "changed",
        principal = principal(actor.caller.as_ref()),
        operator = actor.account.operator,
        reason = actor.account.reason,
        before = changed.before,
        after = changed.after,
        ends_after = ends_after.map(tracing::field::debug),
        "{MESSAGE}"
    );
}

/// Writes down what became of a backup.
pub fn backup(actor: &Actor, made: &Result<Backup, BackupError>) {
    let (outcome, backup_id, size_bytes, message) = match made {
        Ok(Backup { id, bytes, .. }) => ("made", *id, *bytes, MESSAGE),
        Err(_) => ("failed", 0, 0, "an operator's command failed"),
    };
    info!(
        target: "onced::audit",
        action = "create_backup",
        outcome,
        principal = principal(actor.caller.as_ref()),
        operator = actor.account.operator,
        reason = actor.account.reason,
        backup_id,
        size_bytes,
        cause = made.as_ref().err().map(tracing::field::display),
        "{message}"
    );
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Vacant => "vacant",
        Phase::Held => "held",
        Phase::Lapsed => "lapsed",
        Phase::InDoubt => "in_doubt",
        Phase::Released => "released",
        Phase::Completed => "completed",
    }
}
