//! What applies in which namespace: the settings as the edge of the API needs them.
//!
//! Namespaces that are listed have a policy of their own; all others share one, or are refused
//! where the server is strict. The quotas are only described here: engines keep them.

use std::collections::HashMap;

use super::decode::Limits;
use super::shadow::{ShadowCounts, ShadowTally};
use crate::domain::Namespace;
use crate::storage::Quota;

/// What applies in one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What requests are held to.
    pub limits: Limits,
    /// Whether a Reserve without a fingerprint is refused.
    pub fingerprint_required: bool,
    /// Whether every Reserve is granted, whatever was decided.
    pub shadow: bool,
    /// How much may be on record.
    pub quota: Quota,
}

/// What applies in all namespaces.
#[derive(Debug, Default)]
pub struct Policies {
    unlisted: Policy,
    strict: bool,
    listed: HashMap<Namespace, Listed>,
}

#[derive(Debug)]
struct Listed {
    policy: Policy,
    /// What callers would have been told; there is one if the namespace is shadowed.
    shadow: Option<ShadowCounts>,
}

/// The same for every namespace.
impl From<Limits> for Policies {
    fn from(limits: Limits) -> Self {
        Self::new(limits, false, [])
    }
}

/// A policy, and how a namespace came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// What applies.
    pub policy: Policy,
    /// Whether the namespace has a policy of its own.
    pub listed: bool,
    /// Whether calls in the namespace are taken: not where it is unlisted and the server strict.
    pub served: bool,
}

impl Policies {
    /// Each namespace of `listed` has its own policy. All others are held to `unlisted`; where
    /// `strict` is true, they are refused.
    pub fn new(
        unlisted: Limits,
        strict: bool,
        listed: impl IntoIterator<Item = (Namespace, Policy)>,
    ) -> Self {
        let with_counts = |(name, policy): (Namespace, Policy)| {
            let shadow = policy.shadow.then(ShadowCounts::default);
            (name, Listed { policy, shadow })
        };
        Self {
            unlisted: Policy { limits: unlisted, ..Policy::default() },
            strict,
            listed: listed.into_iter().map(with_counts).collect(),
        }
    }

    /// What applies in `namespace`; `None` where it is refused.
    pub fn of(&self, namespace: &Namespace) -> Option<&Policy> {
        match self.listed.get(namespace) {
            Some(listed) => Some(&listed.policy),
            None if self.strict => None,
            None => Some(&self.unlisted),
        }
    }

    /// What applies where the namespace is refused or is none: the other fields of the request
    /// are held to it, so that all its faults are found.
    pub(super) fn of_others(&self) -> &Policy {
        &self.unlisted
    }

    /// What applies in `namespace`, also where it is refused.
    pub fn describe(&self, namespace: &Namespace) -> Described {
        let listed = self.listed.get(namespace);
        Described {
            policy: listed.map_or(self.unlisted, |listed| listed.policy),
            listed: listed.is_some(),
            served: listed.is_some() || !self.strict,
        }
    }

    /// Where to count what callers of `namespace` would have been told; `None` where it is not
    /// shadowed.
    pub fn shadow(&self, namespace: &Namespace) -> Option<&ShadowCounts> {
        self.listed.get(namespace)?.shadow.as_ref()
    }

    /// What callers of each shadowed namespace would have been told since the start of the
    /// server, in the order of their names.
    pub fn shadow_tallies(&self) -> Vec<(&Namespace, ShadowTally)> {
        let with_shadow =
            |(name, listed): (_, &Listed)| Some((name, listed.shadow.as_ref()?.tally()));
        let mut tallies: Vec<_> = self.listed.iter().filter_map(with_shadow).collect();
        tallies.sort_unstable_by_key(|(name, _)| *name);
        tallies
    }
}
