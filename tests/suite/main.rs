//! The fast suite: one binary, so that it links once. Each module is one kind of promise.
//! What needs the real binary, or minutes, lives elsewhere.

mod access;
mod admin;
mod answers;
mod backups;
mod batches;
#[path = "../harness/certificates.rs"]
mod certificates;
mod conformance;
mod decide_force;
mod decide_model;
mod decide_table;
mod deployed;
#[path = "../harness/dice.rs"]
mod dice;
mod engines;
mod errors;
#[path = "../harness/http2.rs"]
mod http2;
mod lifecycle;
mod metrics;
mod namespaces;
mod old_data;
#[path = "../harness/proof.rs"]
mod proof;
mod readme;
#[path = "../harness/scrape.rs"]
mod scrape;
mod server;
mod stalled;
mod story;
mod tls;
mod traces;
mod waits;
