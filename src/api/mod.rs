//! From the wire to the engine and back.
//!
//! A request is decoded into a command ([`decode`]: every fault is met there), the engine
//! decides, and the answer is encoded ([`encode`]) or mapped to a status ([`status`]: one
//! table). Nothing here knows which engine it talks to, and nothing here decides.

pub mod admin;
mod audit;
pub mod decode;
pub mod encode;
pub mod service;
pub mod status;

pub use admin::AdminApi;
pub use decode::Limits;
pub use service::{IdempotencyApi, LargeAnswer};
