//! A principal: somebody who may call, with a role, in some namespaces.

use std::fmt;

use crate::domain::Namespace;

/// What a principal may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See what is on record for a key, and which policy a namespace has.
    Reader,
    /// Reserve, complete, release and renew as well.
    Writer,
    /// Everything, `onced.v1.AdminService` included.
    Operator,
}

impl Role {
    /// The role with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Reader, Self::Writer, Self::Operator].into_iter().find(|role| role.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Namespaces that a principal may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespacePattern {
    /// All of them: `*`.
    All,
    /// Those whose names begin like this: `mail.*`.
    Prefix(String),
    /// The one with this name.
    Exact(Namespace),
}

impl NamespacePattern {
    /// Reads `orders`, `mail.*` or `*`, or says what is wrong.
    pub fn read(text: &str) -> Result<Self, String> {
        let remedy = "give a name, a prefix such as mail.* or *";
        match text.strip_suffix('*') {
            Some("") => Ok(Self::All),
            Some(prefix) => match Namespace::new(prefix.to_owned()) {
                Ok(_) => Ok(Self::Prefix(prefix.to_owned())),
                Err(error) => Err(format!("{error}; {remedy}")),
            },
            None => match Namespace::new(text.to_owned()) {
                Ok(name) => Ok(Self::Exact(name)),
                Err(error) => Err(format!("{error}; {remedy}")),
            },
        }
    }

    fn matches(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => namespace.starts_with(prefix.as_str()),
            Self::Exact(name) => name.as_str() == namespace,
        }
    }
}

/// Somebody who may call.
#[derive(Debug, PartialEq, Eq)]
pub struct Principal {
    name: String,
    role: Role,
    namespaces: Vec<NamespacePattern>,
}

impl Principal {
    /// The length of the longest name, in characters.
    pub const MAX_NAME_CHARS: usize = 128;

    /// A principal whose name was checked.
    pub(super) fn new(name: String, role: Role, namespaces: Vec<NamespacePattern>) -> Self {
        Self { name, role, namespaces }
    }

    /// What is wrong with a name, if anything is: it stands in logs.
    pub fn check_name(name: &str) -> Result<(), String> {
        let count = name.chars().count();
        if !(1..=Self::MAX_NAME_CHARS).contains(&count) {
            return Err(format!("has {count} characters; must have 1 to {}", Self::MAX_NAME_CHARS));
        }
        match name.chars().position(|character| !matches!(character, '!'..='~')) {
            Some(at) => Err(format!("character {at} is a space or not printable ASCII")),
            None => Ok(()),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it may use the namespace that a request names. The name need not be a valid one:
    /// this is asked before anything else about the request is.
    pub fn reaches(&self, namespace: &str) -> bool {
        let namespace = if namespace.is_empty() { Namespace::DEFAULT } else { namespace };
        self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether it may use all namespaces.
    pub fn reaches_all(&self) -> bool {
        self.namespaces.contains(&NamespacePattern::All)
    }
}
