//! The fast suite: one binary, so that it links once. Each module is one kind of promise.
//! What needs the real binary, or minutes, lives elsewhere.

mod admin;
mod answers;
mod backups;
mod batches;
mod conformance;
mod decide_force;
mod decide_model;
mod decide_table;
#[path = "../harness/dice.rs"]
mod dice;
mod engines;
mod errors;
#[path = "../harness/http2.rs"]
mod http2;
mod lifecycle;
mod namespaces;
mod old_data;
#[path = "../harness/proof.rs"]
mod proof;
mod readme;
mod server;
mod stalled;
mod story;
mod waits;
