//! Who may call, and what: principals, the credentials that prove them, and the role that each
//! call needs.
//!
//! Credentials ([`Credentials`]) are read from a file and exchanged as a whole while the server
//! runs; a [`Guard`] holds those in force and says who a [`Visitor`] is; [`right`] is the table of
//! calls. Nothing here knows gRPC: how a call is refused is said in `api/status.rs`, and where it
//! is stopped in `server/gate.rs`.
//!
//! # Why tokens are kept as plain digests
//!
//! A token is 256 random bits and not a word that somebody chose, so there is no dictionary to try
//! against a digest that leaked: SHA-256 is as hard to turn around as the token is to guess. Slow
//! hashes (bcrypt, Argon2) make up for weak secrets; here they would add nothing but tens of
//! milliseconds of CPU that any stranger could have the server spend with each call.

mod counts;
mod credentials;
mod guard;
mod principal;
pub mod right;
mod subject;
mod throttle;
mod token;

pub use counts::AccessCounts;
pub use credentials::Credentials;
pub use guard::{Guard, Unknown, Visitor};
pub use principal::{NamespacePattern, Principal, Role};
pub use subject::SubjectName;
pub use token::{Token, TokenDigest};

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
