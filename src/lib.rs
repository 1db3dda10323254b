//! onced: one shared authority that tells any service whether an operation may run, is
//! running, or has run already, and hands back the stored answer.
//!
//! # The idea in one breath
//!
//! A request becomes a [command](domain::Command). An [engine](storage::Engine) loads the
//! record, calls one pure function ([`domain::decide`]), stores what it says, and answers
//! with the [decision](domain::Decision) once that is durable. Everything else is
//! translation.
//!
//! # The code, in reading order
//!
//! | module | what lives there |
//! |--------|------------------|
//! | [`domain`] | keys, records, commands, and the table that decides; std only |
//! | [`clock`] | the only reader of the system clock; a clock that never runs backwards |
//! | [`measure`] | histograms and shards: how things are counted while they happen |
//! | [`storage`] | what every engine promises, numbered; the engines in memory and on RocksDB |
//! | [`access`] | who may call, and what: principals, credentials, rights |
//! | [`tls`] | what the server proves itself with, and whose certificates it takes |
//! | [`log`] | the log, and what of it is written while the server runs |
//! | [`trace`] | spans of calls, and how they are exported |
//! | [`api`] | from the wire to a command, from a decision to an answer or a status |
//! | [`server`] | the composition root: connections, runtimes, health, metrics, the drain |
//! | [`config`] | one table of settings, and how flags, environment and file become one |
//! | [`cli`] | what can be typed |
//! | [`pb`] | the generated protobuf types |
//!
//! Knowledge points one way: `cli → server → { api, tls, storage::open, config }`,
//! `api → { access, domain, storage's trait, log, trace, pb }`, `tls → config`,
//! `access → { config, domain }`, engines → `{ storage, domain, clock, measure }`, and
//! `domain` → std. `tests/tidy.rs` checks it.
//!
//! # What must always hold
//!
//! - Whoever completes, renews or releases proves that it owns the reservation. What an operator
//!   forces instead is a service of its own, needs a reason, and is one line of the log.
//! - No answer leaves before the state that it rests on is on disk, refusals included.
//! - A fencing token is never given out twice, and rises, across restarts and restores too.
//! - Time is an argument, read when a command is applied. Nothing relies on the sweeper.
//! - What failed says whether it may have happened; the same call sent again is right.
//!
//! The seven promises of an engine are in [`storage`], the state machine is the table in
//! `domain/decide.rs`, and what callers see is `proto/onced/v1/idempotency.proto` (operators:
//! `admin.proto`).

pub mod domain;

pub mod clock;

pub mod measure;

pub mod storage;

pub mod access;

pub mod tls;

pub mod log;

pub mod trace;

pub mod api;

pub mod server;

pub mod config;

pub mod cli;

pub mod pb;

#[cfg(test)]
mod fuzz;

#[cfg(test)]
#[path = "../tests/harness/proof.rs"]
mod proof;
