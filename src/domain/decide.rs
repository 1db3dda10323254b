//! The state machine, as one pure function over this table.
//!
//! |           | Reserve, same fingerprint | Complete / Renew / Release by the owner token on record | by any other |
//! |-----------|---------------------------|----------------------------------------------------------|--------------|
//! | vacant    | granted, attempt 1        | not found                                                | not found    |
//! | held      | same token: granted again, unchanged; else in progress | completed / renewed / released | lease lost |
//! | lapsed    | granted, attempt + 1, takeover | accepted; a completion is late                      | lease lost   |
//! | in doubt  | in doubt, for everyone    | accepted; a completion is late                           | lease lost   |
//! | released  | another token: granted, attempt + 1; the spent one: lease lost | Release again: released; the others: lease lost | lease lost |
//! | completed | replayed; failed and retry_failed and another token: granted, attempt + 1 | Complete alike: same answer, else result conflict; the others: already completed | lease lost |
//!
//! The fingerprint is compared before anything else, in every phase but vacant.
//!
//! What an operator may force, whoever owns the reservation:
//!
//! |           | ForceRelease      | ForceComplete                          | Delete  |
//! |-----------|-------------------|----------------------------------------|---------|
//! | vacant    | not found         | not found                              | deleted |
//! | held      | released          | completed                              | deleted |
//! | lapsed    | released          | completed, late                        | deleted |
//! | in doubt  | released          | completed, late                        | deleted |
//! | released  | released          | completed, late                        | deleted |
//! | completed | already completed | alike: same answer, else result conflict | deleted |
//!
//! An operator that names a fencing token has seen the record that carries it: in every phase
//! but vacant another token comes before anything else, and is refused as record changed.
//!
//! # Why a lapsed owner may still complete
//!
//! A lapsed lease makes a reservation claimable, not dead. As long as nobody took over,
//! refusing the owner would only manufacture a duplicate: the work is done.
//!
//! # Why tokens are spent
//!
//! A Reserve can be delayed on its way and arrive after its owner has moved on. If the
//! token still opened the key, that ghost would hold a reservation that nobody works on,
//! and with HOLD would leave it in doubt. So a token that released is refused, and one that
//! completed with a failure gets that failure replayed even if it says `retry_failed`:
//! callers mint a new token for each attempt. The record remembers the latest token alone, so
//! this reaches back one attempt; a ghost from further back costs the key one lease.
//!
//! # Why a lapsed owner that reserves again has a new attempt
//!
//! It has a new fencing token too, since it may have been silent for good reason: whatever
//! it did before the lapse may be half done. Should the call have been a ghost of its first
//! one, it can still complete, as an attempt that it does not know of.
//!
//! # What becomes of the owner when an operator steps in
//!
//! A forced release spends the owner's token as its own release would: if it was at work after
//! all, its Complete and its Renew find the lease lost, and only its own Release agrees with
//! what is on record. A forced completion leaves the token on record, so an owner that comes
//! back with the same result gets the same answer, and one with another result is told of the
//! conflict. A deletion forgets both.
//!
//! # Why a released key can be completed by force, and a completed one not released
//!
//! Whoever released said that it certainly did not happen; an operator who found that it did
//! must be able to correct that before the next attempt runs. A completion has been replayed
//! to callers who acted on it: taking it back is no release, and so needs the word delete.
//!
//! # Why the status code belongs to a completion's identity
//!
//! A Complete that is sent again has the same result, status code and payload. Content type
//! and metadata are left out of the comparison: they carry trace ids and dates, which
//! honest retries rebuild.

use std::sync::Arc;

use super::{
    Command, Complete, Completion, Decision, FencingToken, ForceComplete, Forced, ForcedOutcome,
    Granted, InDoubt, InProgress, Moment, Outcome, Phase, Record, Refusal, Release, Renew, Reserve,
    State, Transition, Write, phase_of,
};

/// Says what `command` comes to on `record` at the moment `now`.
///
/// `next_fencing_token` is the token that a grant of a new attempt carries. It is an
/// argument because it must rise for ever, also across purges, and so cannot come from the
/// record. The engine has used it up exactly if the write puts a record that carries it.
pub fn decide(
    record: Option<&Record>,
    command: &Command,
    now: Moment,
    next_fencing_token: FencingToken,
) -> Transition {
    let phase = phase_of(record, now);
    let record = match record {
        Some(record) if phase != Phase::Vacant => record,
        _ => return decide_vacant(command, now, next_fencing_token),
    };
    match command {
        Command::Reserve(reserve) => {
            decide_reserve(record, phase, reserve, now, next_fencing_token)
        }
        Command::Complete(complete) => decide_complete(record, phase, complete, now),
        Command::Renew(renew) => decide_renew(record, renew, now),
        Command::Release(release) => decide_release(record, release, now),
        Command::ForceRelease(force) => {
            on_sight(record, phase, force.fencing_token, || match &record.state {
                State::Reserved { .. } => {
                    (ForcedOutcome::Released, Write::Put(released(record, now)))
                }
                State::Released { .. } => (ForcedOutcome::Released, Write::Keep),
                State::Completed(_) => {
                    (ForcedOutcome::Refused(Refusal::AlreadyCompleted), Write::Keep)
                }
            })
        }
        Command::ForceComplete(force) => on_sight(record, phase, force.fencing_token, || {
            decide_force_complete(record, phase, force, now)
        }),
        Command::Delete(delete) => on_sight(record, phase, delete.fencing_token, || {
            (ForcedOutcome::Deleted, Write::Delete)
        }),
    }
}

/// Says whether a record goes at the moment `now`. Purging only frees space: a record whose
/// retention is over counts as vacant whether or not it has been purged.
pub fn purge(record: &Record, now: Moment) -> Write {
    match phase_of(Some(record), now) {
        Phase::Vacant => Write::Delete,
        Phase::Held | Phase::Lapsed | Phase::InDoubt | Phase::Released | Phase::Completed => {
            Write::Keep
        }
    }
}

fn decide_vacant(command: &Command, now: Moment, next_fencing_token: FencingToken) -> Transition {
    match command {
        Command::Reserve(reserve) => grant(first_attempt(reserve, now, next_fencing_token)),
        Command::Complete(_) | Command::Renew(_) | Command::Release(_) => refuse(Refusal::NotFound),
        Command::ForceRelease(_) | Command::ForceComplete(_) => {
            keep(forced_on_nothing(ForcedOutcome::Refused(Refusal::NotFound)))
        }
        Command::Delete(_) => keep(forced_on_nothing(ForcedOutcome::Deleted)),
    }
}

fn forced_on_nothing(outcome: ForcedOutcome) -> Decision {
    Decision::Forced(Forced { phase_before: Phase::Vacant, fencing_token: None, outcome })
}

/// What an operator's command comes to, provided that the record is the one it has seen.
fn on_sight(
    record: &Record,
    phase: Phase,
    seen: Option<FencingToken>,
    force: impl FnOnce() -> (ForcedOutcome, Write),
) -> Transition {
    let (outcome, write) = match seen {
        Some(seen) if seen != record.fencing_token => {
            (ForcedOutcome::Refused(Refusal::RecordChanged), Write::Keep)
        }
        _ => force(),
    };
    let fencing_token = Some(record.fencing_token);
    Transition {
        decision: Decision::Forced(Forced { phase_before: phase, fencing_token, outcome }),
        write,
    }
}

fn decide_reserve(
    record: &Record,
    phase: Phase,
    reserve: &Reserve,
    now: Moment,
    next_fencing_token: FencingToken,
) -> Transition {
    if record.fingerprint != reserve.fingerprint {
        return refuse(Refusal::FingerprintMismatch);
    }
    let is_owner = record.owner_token == reserve.owner_token;
    match &record.state {
        State::Reserved { lease_until, .. } => match phase {
            Phase::Held if is_owner => keep(Decision::Granted(granted(record, *lease_until))),
            Phase::Held => keep(Decision::InProgress(InProgress {
                lease_until: *lease_until,
                attempt: record.attempt,
                holder: record.holder.clone(),
            })),
            Phase::Lapsed => grant(next_attempt(record, reserve, true, now, next_fencing_token)),
            Phase::InDoubt => keep(Decision::InDoubt(InDoubt {
                lease_until: *lease_until,
                attempt: record.attempt,
                holder: record.holder.clone(),
                checkpoint: record.checkpoint.clone(),
            })),
            Phase::Vacant | Phase::Released | Phase::Completed => {
                unreachable!("a reservation is held, lapsed or in doubt")
            }
        },
        State::Released { .. } if is_owner => refuse(Refusal::LeaseLost),
        State::Released { .. } => {
            grant(next_attempt(record, reserve, false, now, next_fencing_token))
        }
        State::Completed(completion) => {
            let may_retry =
                completion.result == Outcome::Failed && reserve.retry_failed && !is_owner;
            if may_retry {
                grant(next_attempt(record, reserve, false, now, next_fencing_token))
            } else {
                keep(Decision::Replayed(Arc::clone(completion)))
            }
        }
    }
}

fn decide_complete(record: &Record, phase: Phase, complete: &Complete, now: Moment) -> Transition {
    if record.owner_token != complete.owner_token {
        return refuse(Refusal::LeaseLost);
    }
    match &record.state {
        State::Reserved { .. } => {
            let (completion, record) = completed(record, phase, complete, now);
            Transition { decision: Decision::Completed(completion), write: Write::Put(record) }
        }
        State::Released { .. } => refuse(Refusal::LeaseLost),
        State::Completed(completion) if is_same(completion, complete) => {
            keep(Decision::Completed(Arc::clone(completion)))
        }
        State::Completed(_) => refuse(Refusal::ResultConflict),
    }
}

fn decide_force_complete(
    record: &Record,
    phase: Phase,
    force: &ForceComplete,
    now: Moment,
) -> (ForcedOutcome, Write) {
    let complete = force.by(record.owner_token);
    match &record.state {
        State::Reserved { .. } | State::Released { .. } => {
            let (completion, record) = completed(record, phase, &complete, now);
            (ForcedOutcome::Completed(completion), Write::Put(record))
        }
        State::Completed(completion) if is_same(completion, &complete) => {
            (ForcedOutcome::Completed(Arc::clone(completion)), Write::Keep)
        }
        State::Completed(_) => (ForcedOutcome::Refused(Refusal::ResultConflict), Write::Keep),
    }
}

/// `record` with the end of its operation, and that end.
fn completed(
    record: &Record,
    phase: Phase,
    complete: &Complete,
    now: Moment,
) -> (Arc<Completion>, Record) {
    let completion = Arc::new(Completion {
        result: complete.result,
        response: complete.response.clone(),
        response_omitted: complete.response_omitted,
        response_digest: complete.response_digest,
        response_size_bytes: complete.response_size_bytes,
        completed_at: now,
        retained_until: now.plus(complete.retention),
        attempt: record.attempt,
        fencing_token: record.fencing_token,
        late: phase != Phase::Held,
    });
    let record = Record {
        // The operation is done: there is no next attempt to tell anything.
        checkpoint: Vec::new(),
        state: State::Completed(Arc::clone(&completion)),
        ..record.clone()
    };
    (completion, record)
}

/// Whether `complete` says what is on record already.
fn is_same(completion: &Completion, complete: &Complete) -> bool {
    completion.result == complete.result
        && completion.response_digest == complete.response_digest
        && completion.response.status_code == complete.response.status_code
}

fn decide_renew(record: &Record, renew: &Renew, now: Moment) -> Transition {
    if record.owner_token != renew.owner_token {
        return refuse(Refusal::LeaseLost);
    }
    match &record.state {
        State::Reserved { lease_expiry_action, .. } => {
            let lease_until = now.plus(renew.lease);
            let mut record = record.clone();
            record.state =
                State::Reserved { lease_until, lease_expiry_action: *lease_expiry_action };
            if let Some(checkpoint) = &renew.checkpoint {
                record.checkpoint.clone_from(checkpoint);
            }
            Transition { decision: Decision::Renewed { lease_until }, write: Write::Put(record) }
        }
        State::Released { .. } => refuse(Refusal::LeaseLost),
        State::Completed(_) => refuse(Refusal::AlreadyCompleted),
    }
}

fn decide_release(record: &Record, release: &Release, now: Moment) -> Transition {
    if record.owner_token != release.owner_token {
        return refuse(Refusal::LeaseLost);
    }
    match &record.state {
        State::Reserved { .. } => {
            Transition { decision: Decision::Released, write: Write::Put(released(record, now)) }
        }
        State::Released { .. } => keep(Decision::Released),
        State::Completed(_) => refuse(Refusal::AlreadyCompleted),
    }
}

/// `record`, given back.
fn released(record: &Record, now: Moment) -> Record {
    Record { state: State::Released { released_at: now }, ..record.clone() }
}

fn first_attempt(reserve: &Reserve, now: Moment, fencing_token: FencingToken) -> Record {
    Record {
        fingerprint: reserve.fingerprint.clone(),
        owner_token: reserve.owner_token,
        fencing_token,
        attempt: 1,
        takeover: false,
        holder: reserve.holder.clone(),
        created_at: now,
        checkpoint: Vec::new(),
        retention: reserve.retention,
        state: reserved(reserve, now),
    }
}

fn next_attempt(
    record: &Record,
    reserve: &Reserve,
    takeover: bool,
    now: Moment,
    fencing_token: FencingToken,
) -> Record {
    assert!(
        fencing_token > record.fencing_token,
        "an engine gave the fencing token {} to a record that has seen {}",
        fencing_token.get(),
        record.fencing_token.get(),
    );
    Record {
        attempt: record.attempt.saturating_add(1),
        takeover,
        created_at: record.created_at,
        checkpoint: record.checkpoint.clone(),
        ..first_attempt(reserve, now, fencing_token)
    }
}

fn reserved(reserve: &Reserve, now: Moment) -> State {
    State::Reserved {
        lease_until: now.plus(reserve.lease),
        lease_expiry_action: reserve.lease_expiry_action,
    }
}

/// What the owner of `record` is told; the same for the first grant and for a repeated one.
fn granted(record: &Record, lease_until: Moment) -> Granted {
    Granted {
        owner_token: record.owner_token,
        fencing_token: record.fencing_token,
        lease_until,
        attempt: record.attempt,
        takeover: record.takeover,
        checkpoint: record.checkpoint.clone(),
    }
}

fn grant(record: Record) -> Transition {
    let State::Reserved { lease_until, .. } = record.state else {
        unreachable!("a grant puts a reservation");
    };
    Transition {
        decision: Decision::Granted(granted(&record, lease_until)),
        write: Write::Put(record),
    }
}

fn keep(decision: Decision) -> Transition {
    Transition { decision, write: Write::Keep }
}

fn refuse(refusal: Refusal) -> Transition {
    keep(Decision::Refused(refusal))
}
