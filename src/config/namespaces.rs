//! What a file says of namespaces, taken apart: tables such as `[namespaces.orders]`, whose
//! keys are settings that hold in that namespace alone. Only a file can say it: a flag or a
//! variable has no place for the name.
//!
//! Values stay text here; `resolve.rs` reads them, and takes what a table does not say from
//! the server's settings.

use toml::de::DeValue;

use super::given::{Given, in_order, suggest, text_of};
use super::table::namespace_settings;
use super::{Fault, Origin};
use crate::domain::{LeaseExpiryAction, Namespace, SpanBounds};
use crate::storage::Quota;

/// The key that the tables stand under.
pub(super) const TABLE: &str = "namespaces";

/// Everything that is set about one namespace, checked; what its table does not say is the
/// server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// What the lease of a request is held to.
    pub lease: SpanBounds,
    /// What the retention of a request is held to.
    pub retention: SpanBounds,
    /// What becomes of a reservation whose lease ends, where the request does not say.
    pub lease_expiry_action: LeaseExpiryAction,
    /// The largest response that is stored, in bytes, 0 to 8 MiB.
    pub max_response_bytes: usize,
    /// Whether a Reserve without a fingerprint is refused. Default: no.
    pub fingerprint_required: bool,
    /// Whether every Reserve is granted, whatever was decided. Default: no.
    pub shadow: bool,
    /// How much may be on record; each bound is at least 1. Default: anything.
    pub quota: Quota,
}

/// What a file says of one namespace.
pub(super) struct GivenNamespace {
    /// Its name as it was given.
    pub given: String,
    /// Its name, if it is one. The values of one without are read all the same, so that all
    /// faults are found.
    pub name: Option<Namespace>,
    pub values: Vec<Given>,
}

/// How a fault names a setting of a namespace: as the file would have it on one line.
pub(super) fn path_of(name: &str, setting: &str) -> String {
    let quoted = quoted(name);
    match setting {
        "" => format!("{TABLE}.{quoted}"),
        setting => format!("{TABLE}.{quoted}.{setting}"),
    }
}

/// A name as a key in a file, in quotes where it needs them.
pub(crate) fn quoted(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}

/// Takes apart what stands under [`TABLE`]. `at` says where a place in the file is.
pub(super) fn given(
    value: &DeValue<'_>,
    origin: Origin,
    at: impl Fn(usize) -> Origin,
    faults: &mut Vec<Fault>,
) -> Vec<GivenNamespace> {
    let DeValue::Table(tables) = value else {
        let problem = format!("{}; write tables such as [namespaces.orders]", wrong_type(value));
        faults.push(Fault { setting: TABLE.to_owned(), origin, problem });
        return Vec::new();
    };
    let mut namespaces = Vec::new();
    for (name, value) in in_order(tables) {
        let origin = at(name.span().start);
        let name: &str = name.get_ref();
        let mut fault = |problem| {
            faults.push(Fault { setting: path_of(name, ""), origin: origin.clone(), problem });
        };
        let given = name.to_owned();
        let checked = match Namespace::new(given.clone()) {
            Ok(checked) => Some(checked),
            Err(error) => {
                fault(format!("is no name of a namespace: {error}"));
                None
            }
        };
        let DeValue::Table(entries) = value.get_ref() else {
            fault(format!(
                "{}; write a table, [{}]",
                wrong_type(value.get_ref()),
                path_of(name, "")
            ));
            continue;
        };
        let mut values = Vec::new();
        for (key, value) in in_order(entries) {
            let origin = at(key.span().start);
            let key: &str = key.get_ref();
            match namespace_settings().find(|setting| setting.name == key) {
                Some(setting) => {
                    let text = text_of(setting, value.get_ref());
                    values.push(Given { setting, origin, text });
                }
                None => {
                    let problem = unknown(name, key, value.get_ref());
                    faults.push(Fault { setting: path_of(name, key), origin, problem });
                }
            }
        }
        namespaces.push(GivenNamespace { given, name: checked, values });
    }
    namespaces
}

fn wrong_type(value: &DeValue<'_>) -> String {
    format!("has the wrong type, {}", value.type_str())
}

/// What is wrong with a key that is none. A table in the place of a value is most likely the
/// rest of a name with dots, which TOML takes for a path.
fn unknown(name: &str, key: &str, value: &DeValue<'_>) -> String {
    if let DeValue::Table(_) = value {
        let whole = path_of(&format!("{name}.{key}"), "");
        return format!("is a table; write a name with dots in quotes, [{whole}]");
    }
    let names = || namespace_settings().map(|setting| setting.name.to_owned());
    let all = format!("a namespace has {}", names().collect::<Vec<_>>().join(", "));
    format!("is no setting of a namespace; {}", suggest(key, names(), &all))
}
