//! From the wire to the engine and back.
//!
//! Whether its caller may use its namespace is asked first ([`access`]). A request is then decoded
//! into a command ([`decode`]: every fault is met there), the engine
//! decides, and the answer is encoded ([`encode`]) or mapped to a status ([`status`]: one
//! table). What applies in which namespace is one table as well ([`policy`]), and [`shadow`] is
//! what callers of shadowed ones are told. [`wait`] says how long a duplicate is parked, and
//! `batch` does all of it for several requests in one call. [`observed`] is what is seen of calls
//! from outside: counters ([`calls`]), slow ones ([`slow`]), spans. Nothing here knows which engine it
//! talks to, and nothing here decides.

pub mod access;
pub mod admin;
pub mod policy;

mod audit;
mod batch;
pub mod calls;
pub mod decode;
pub mod encode;
pub mod observed;
pub mod service;
pub mod shadow;
pub mod slow;
pub mod status;
mod told;
pub mod wait;

pub use access::{Access, Caller};
pub use admin::AdminApi;
pub use calls::CallMeters;
pub use decode::Limits;
pub use observed::{Observed, Observer};
pub use policy::{Policies, Policy};
pub use service::{IdempotencyApi, LargeAnswer};
pub use slow::SlowLog;
pub use wait::{WaitingPlaces, Waits};
