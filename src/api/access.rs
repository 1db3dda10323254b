//! Whether whoever makes a call may use the namespace that it names: asked before anything else
//! about the request is, so that who may not learns nothing of what is there.
//!
//! Who makes the call, and whether such a principal may make it at all, was asked before, in
//! `server/gate.rs`.

use std::sync::Arc;

use tonic::{Extensions, Status};

use super::status;
use crate::access::{Guard, Principal};

/// Goes with a call whose caller is known.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Principal>);

/// Whether callers have to be known.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// They need not: everybody may do everything.
    #[default]
    Open,
    /// They have to be, and this counts what they may not.
    Guarded(Arc<Guard>),
}

impl Access {
    /// What whoever makes a call may use, by the `extensions` that it came with. One that should
    /// have a caller and has none came around the gate, and is refused.
    pub(super) fn of<'c>(&'c self, extensions: &'c Extensions) -> Result<Reach<'c>, Status> {
        let Self::Guarded(guard) = self else { return Ok(Reach(None)) };
        match extensions.get::<Caller>() {
            Some(caller) => Ok(Reach(Some((caller, guard)))),
            None => Err(status::unauthenticated(crate::access::Unknown::Nothing)),
        }
    }

    /// Refuses a call by the `extensions` that it came with, unless it may use `namespace`.
    pub(super) fn to(&self, extensions: &Extensions, namespace: &str) -> Result<(), Status> {
        self.of(extensions)?.to(namespace)
    }
}

/// The namespaces that a caller may use: all of them where nobody is asked.
#[derive(Clone, Copy)]
pub(super) struct Reach<'c>(Option<(&'c Caller, &'c Arc<Guard>)>);

impl Reach<'_> {
    /// Refuses, unless the caller may use the namespace that a request names.
    pub(super) fn to(self, namespace: &str) -> Result<(), Status> {
        self.granted(|principal| principal.reaches(namespace))
    }

    /// Refuses, unless the caller may use all namespaces.
    pub(super) fn to_all(self) -> Result<(), Status> {
        self.granted(Principal::reaches_all)
    }

    fn granted(self, may: impl Fn(&Principal) -> bool) -> Result<(), Status> {
        let Some((Caller(principal), guard)) = self.0 else { return Ok(()) };
        if may(principal) {
            return Ok(());
        }
        guard.counts().add_denied();
        Err(status::namespace_denied(principal))
    }

    /// Who the caller is, for the log; nobody where nobody is asked.
    pub(super) fn caller(self) -> Option<Caller> {
        self.0.map(|(caller, _)| caller.clone())
    }
}
