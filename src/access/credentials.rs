//! The file of credentials: which principals there are, and by what they are known.
//!
//! ```toml
//! [principals.shop]
//! role = "writer"                        # reader, writer or operator
//! namespaces = ["orders", "mail.*"]      # names, prefixes, or "*"
//! tokens = ["sha256:…"]                  # two while one replaces the other
//! certificates = ["URI:spiffe://example/shop"]
//! ```
//!
//! A file with any fault is refused as a whole, so that half a file lets nobody in and shuts
//! nobody out. Faults name lines and fields, and never quote what stands for a token: somebody may
//! have written the secret itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::token::without_secrets;
use super::{NamespacePattern, Principal, Role, SubjectName, TokenDigest};
use crate::config::{Fault, in_file, in_order, quoted, suggest};

/// The key that the tables stand under.
const TABLE: &str = "principals";

/// What a principal may have.
const FIELDS: [&str; 4] = ["role", "namespaces", "tokens", "certificates"];

/// Principals, and what proves them.
#[derive(Debug, Default)]
pub struct Credentials {
    by_token: HashMap<TokenDigest, Arc<Principal>>,
    by_name: HashMap<SubjectName, Arc<Principal>>,
    principals: usize,
}

impl Credentials {
    /// Reads `text`, the contents of the file at `path`, or says all that is wrong with it.
    /// Without `certificates` the server asks for none, and a principal cannot be known by one.
    pub fn read(path: &Path, text: &str, certificates: bool) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { path, text, certificates, faults: Vec::new() };
        let mut credentials = Self::default();
        reader.file(&mut credentials);
        match reader.faults.is_empty() {
            true => Ok(credentials),
            false => Err(reader.faults),
        }
    }

    /// How many principals there are.
    pub fn principals(&self) -> usize {
        self.principals
    }

    /// Who has this token.
    pub fn of_token(&self, token: &[u8]) -> Option<&Arc<Principal>> {
        self.by_token.get(&TokenDigest::of(token))
    }

    /// Who has a certificate with these names; nobody where they are those of several.
    pub fn of_certificate(&self, names: &[SubjectName]) -> Option<&Arc<Principal>> {
        let mut found = names.iter().filter_map(|name| self.by_name.get(name));
        let first = found.next()?;
        found.all(|other| Arc::ptr_eq(other, first)).then_some(first)
    }
}

/// A value in the file, and where it stands.
type Field<'t, 'f> = (&'t DeValue<'f>, usize);

/// Reads one file, and keeps every fault of it.
struct Reader<'f> {
    path: &'f Path,
    text: &'f str,
    certificates: bool,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, field: &str, at: Option<usize>, problem: String) {
        let origin = in_file(self.path, self.text, at);
        let (setting, problem) = (without_secrets(field), without_secrets(&problem));
        self.faults.push(Fault { setting, origin, problem });
    }

    fn file(&mut self, credentials: &mut Credentials) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().map(|span| span.start);
            self.fault("", at, error.message().to_owned());
        }
        for (key, value) in in_order(table.get_ref()) {
            let (key, at): (&str, _) = (key.get_ref(), key.span().start);
            match value.get_ref() {
                DeValue::Table(principals) if key == TABLE => {
                    for (name, value) in in_order(principals) {
                        self.principal(name.get_ref(), name.span().start, value, credentials);
                    }
                }
                other if key == TABLE => {
                    let remedy = "write tables such as [principals.shop]";
                    self.fault(TABLE, Some(at), format!("{}; {remedy}", wrong_type(other)));
                }
                _ => self.fault(key, Some(at), format!("is not {TABLE}, all that there is")),
            }
        }
        if credentials.principals == 0 && self.faults.is_empty() {
            let problem = "names no principal, so every call would be refused; write a table such \
                           as [principals.shop], which `onced token new shop` makes";
            self.fault("", None, problem.to_owned());
        }
    }

    fn principal(
        &mut self,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        credentials: &mut Credentials,
    ) {
        let whole = format!("{TABLE}.{}", quoted(name));
        if let Err(problem) = Principal::check_name(name) {
            self.fault(&whole, Some(at), problem);
        }
        let DeValue::Table(fields) = value.get_ref() else {
            let problem = format!("{}; write a table, [{whole}]", wrong_type(value.get_ref()));
            return self.fault(&whole, Some(at), problem);
        };
        for (key, _) in in_order(fields) {
            let name: &str = key.get_ref();
            if !FIELDS.contains(&name) {
                let all = format!("a principal has {}", FIELDS.join(", "));
                let near = suggest(name, FIELDS.map(str::to_owned).into_iter(), &all);
                let problem = format!("is nothing that a principal has; {near}");
                self.fault(&format!("{whole}.{name}"), Some(key.span().start), problem);
            }
        }
        let field = |name: &str| -> Option<Field<'_, '_>> {
            fields.get(name).map(|value| (value.get_ref(), value.span().start))
        };

        let role = self.role(&whole, at, field("role"));
        let namespaces =
            self.list(&whole, "namespaces", field("namespaces"), true, NamespacePattern::read);
        if field("namespaces").is_none() {
            let problem = "is missing; list names, prefixes such as mail.* or \"*\"";
            self.fault(&format!("{whole}.namespaces"), Some(at), problem.to_owned());
        }
        let tokens = self.list(&whole, "tokens", field("tokens"), false, TokenDigest::read);
        let certificates =
            self.list(&whole, "certificates", field("certificates"), true, SubjectName::read);
        match (field("tokens"), field("certificates")) {
            (None, None) => {
                let problem = "has neither tokens nor certificates, so nobody can be it; give one";
                self.fault(&whole, Some(at), problem.to_owned());
            }
            (_, Some((_, at))) if !self.certificates => {
                let problem = "are given, and the server asks callers for none; set tls_client_ca";
                self.fault(&format!("{whole}.certificates"), Some(at), problem.to_owned());
            }
            _ => {}
        }

        // Where something is at fault, this stands in for it until all else is read.
        let role = role.unwrap_or(Role::Reader);
        let namespaces = namespaces.into_iter().map(|(pattern, _)| pattern).collect();
        let principal = Arc::new(Principal::new(name.to_owned(), role, namespaces));
        credentials.principals += 1;
        self.all_new(&whole, "tokens", tokens, &mut credentials.by_token, &principal);
        self.all_new(&whole, "certificates", certificates, &mut credentials.by_name, &principal);
    }

    fn role(&mut self, whole: &str, at: usize, field: Option<Field<'_, '_>>) -> Option<Role> {
        let remedy = "give reader, writer or operator";
        let (at, problem) = match field {
            None => (at, format!("is missing; {remedy}")),
            Some((DeValue::String(text), at)) => match Role::named(text) {
                Some(role) => return Some(role),
                None => (at, format!("{text:?} is no role; {remedy}")),
            },
            Some((other, at)) => (at, format!("{}; {remedy}", wrong_type(other))),
        };
        self.fault(&format!("{whole}.role"), Some(at), problem);
        None
    }

    /// The texts in a list, read. What is wrong is quoted only where it cannot be a secret.
    fn list<T>(
        &mut self,
        whole: &str,
        name: &str,
        field: Option<Field<'_, '_>>,
        may_quote: bool,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(T, usize)> {
        let Some((value, at)) = field else { return Vec::new() };
        let path = format!("{whole}.{name}");
        let DeValue::Array(items) = value else {
            let problem = format!("{}; write a list, [\"…\"]", wrong_type(value));
            self.fault(&path, Some(at), problem);
            return Vec::new();
        };
        if items.is_empty() {
            self.fault(&path, Some(at), "is empty; list one or more, or leave it out".to_owned());
        }
        let mut values = Vec::new();
        for item in items {
            let at = item.span().start;
            match item.get_ref() {
                DeValue::String(text) => match read(text) {
                    Ok(value) => values.push((value, at)),
                    Err(problem) if may_quote => {
                        self.fault(&path, Some(at), format!("{text:?} {problem}"));
                    }
                    Err(problem) => self.fault(&path, Some(at), problem),
                },
                other => self.fault(&path, Some(at), wrong_type(other)),
            }
        }
        values
    }

    /// Enters what a principal is known by. What proves two of them proves neither.
    fn all_new<K: Hash + Eq>(
        &mut self,
        whole: &str,
        name: &str,
        proofs: Vec<(K, usize)>,
        known: &mut HashMap<K, Arc<Principal>>,
        principal: &Arc<Principal>,
    ) {
        for (proof, at) in proofs {
            match known.entry(proof) {
                Entry::Vacant(entry) => {
                    entry.insert(Arc::clone(principal));
                }
                Entry::Occupied(entry) => {
                    let problem =
                        format!("has one that {} has already", quoted(entry.get().name()));
                    self.fault(&format!("{whole}.{name}"), Some(at), problem);
                }
            }
        }
    }
}

fn wrong_type(value: &DeValue<'_>) -> String {
    format!("has the wrong type, {}", value.type_str())
}
