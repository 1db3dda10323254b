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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::encode;
    use crate::domain::{LeaseExpiryAction, Span};
    use crate::pb::v1;

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name.to_owned()).unwrap()
    }

    fn orders() -> Policy {
        let limits = Limits { max_response_bytes: 7, ..Limits::default() };
        let quota = Quota { keys: Some(5), bytes: None };
        Policy { limits, fingerprint_required: true, shadow: true, quota }
    }

    #[test]
    fn a_listed_namespace_has_its_own_policy_and_all_others_share_one() {
        let policies = Policies::new(Limits::default(), false, [(namespace("orders"), orders())]);
        assert_eq!(policies.of(&namespace("orders")), Some(&orders()));
        assert_eq!(policies.of(&namespace("mail")), Some(&Policy::default()));
        assert!(policies.shadow(&namespace("orders")).is_some());
        assert!(policies.shadow(&namespace("mail")).is_none());
    }

    #[test]
    fn a_strict_server_has_no_policy_for_others_and_describes_them_all_the_same() {
        let policies = Policies::new(Limits::default(), true, [(namespace("orders"), orders())]);
        assert_eq!(policies.of(&namespace("mail")), None);
        let described = Described { policy: Policy::default(), listed: false, served: false };
        assert_eq!(policies.describe(&namespace("mail")), described);
        let described = Described { policy: orders(), listed: true, served: true };
        assert_eq!(policies.describe(&namespace("orders")), described);
    }

    #[test]
    fn tallies_are_of_shadowed_namespaces_only_in_the_order_of_their_names() {
        let open = Policy { shadow: false, ..orders() };
        let listed = [("b", orders()), ("a", orders()), ("c", open)];
        let listed = listed.map(|(name, policy)| (namespace(name), policy));
        let policies = Policies::new(Limits::default(), false, listed);
        let names: Vec<_> =
            policies.shadow_tallies().into_iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_policy_is_described_on_the_wire_with_all_that_applies() {
        let policies = Policies::new(Limits::default(), true, [(namespace("orders"), orders())]);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let shortest = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
        let name = namespace("orders");
        assert_eq!(
            encode::policy(&name, policies.describe(&name)),
            v1::NamespacePolicy {
                namespace: "orders".into(),
                listed: true,
                served: true,
                lease_min: shortest,
                lease_default: seconds(30),
                lease_max: seconds(86_400),
                lease_expiry_action: v1::LeaseExpiryAction::Takeover.into(),
                retention_min: shortest,
                retention_default: seconds(86_400),
                retention_max: seconds(90 * 86_400),
                max_response_bytes: 7,
                fingerprint_required: true,
                shadow: true,
                quota_keys: Some(5),
                quota_bytes: None,
            }
        );
        let holds = Limits {
            lease_expiry_action: LeaseExpiryAction::Hold,
            lease: crate::domain::SpanBounds { min: Span::default(), ..Limits::default().lease },
            ..Limits::default()
        };
        let unlisted = Policies::from(holds);
        let told = encode::policy(&name, unlisted.describe(&name));
        assert_eq!(told.lease_expiry_action(), v1::LeaseExpiryAction::Hold);
        assert!(told.served && !told.listed && told.quota_keys.is_none());
    }
}
