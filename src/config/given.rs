//! From sources to given values: which setting each name means, and which names mean none.
//!
//! Values stay text here; `resolve.rs` reads them. What a file says of namespaces is taken
//! apart in `namespaces.rs`.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::namespaces::{self, GivenNamespace};
use super::sources::{ConfigFile, PREFIX, Sources};
use super::{Fault, Kind, SETTINGS, Setting};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the default.
    Default,
    /// It is the share of `memory_limit`.
    MemoryLimit,
    /// From a flag, named without its dashes.
    Flag(String),
    /// From the variable with this name.
    Environment(String),
    /// It is what the server has, for a namespace that says nothing else; and this is where
    /// the server has it from.
    Server(Box<Origin>),
    /// From a file.
    File {
        /// Where the file is.
        path: PathBuf,
        /// The line in it, from 1, where it is known.
        line: Option<usize>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::MemoryLimit => f.write_str("memory_limit"),
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Server(origin) => write!(f, "the server's ({origin})"),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// Everything that was given.
pub(super) struct AllGiven {
    /// The values, the strongest source first.
    pub values: Vec<Given>,
    /// What the file says of namespaces, in its order.
    pub namespaces: Vec<GivenNamespace>,
    /// The faults of names.
    pub faults: Vec<Fault>,
}

/// A value that was given.
pub(super) struct Given {
    pub setting: &'static Setting,
    pub origin: Origin,
    /// Its text, or what is wrong with it already.
    pub text: Result<String, String>,
}

/// Takes the sources apart.
pub(super) fn given(sources: &Sources) -> AllGiven {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    from_flags(sources, &mut values, &mut faults);
    from_environment(sources, &mut values, &mut faults);
    let namespaces = match &sources.file {
        Some(file) => from_file(file, &mut values, &mut faults),
        None => Vec::new(),
    };
    AllGiven { values, namespaces, faults }
}

fn from_flags(sources: &Sources, values: &mut Vec<Given>, faults: &mut Vec<Fault>) {
    for (name, text) in &sources.flags {
        let setting = Setting::named(name).expect("flags are made from the table");
        let origin = Origin::Flag(setting.flag());
        if values.iter().any(|given| given.setting == setting) {
            let problem = "is given more than once; give it once".to_owned();
            faults.push(Fault { setting: (*name).to_owned(), origin, problem });
            continue;
        }
        values.push(Given { setting, origin, text: Ok(text.clone()) });
    }
}

fn from_environment(sources: &Sources, values: &mut Vec<Given>, faults: &mut Vec<Fault>) {
    let mut variables: Vec<_> = sources.environment.iter().collect();
    variables.sort();
    for (variable, value) in variables {
        let origin = Origin::Environment(variable.clone());
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == *variable) else {
            if !is_known_elsewhere(variable, &value.to_string_lossy()) {
                let names = SETTINGS.iter().map(Setting::variable);
                let problem = format!("is no setting; {}", suggest(variable, names, HELP));
                faults.push(Fault { setting: variable.clone(), origin, problem });
            }
            continue;
        };
        let text = value.to_str().map(str::to_owned);
        let text = text.ok_or_else(|| "is not UTF-8".to_owned());
        values.push(Given { setting, origin, text });
    }
}

/// Whether a variable that is no setting has another reader, or a writer that cannot know
/// better: Kubernetes describes every service in the environment of its neighbours, and a
/// service called `onced` makes variables such as `ONCED_PORT_50051_TCP_ADDR`.
fn is_known_elsewhere(variable: &str, value: &str) -> bool {
    let name = variable.strip_prefix(PREFIX).unwrap_or(variable);
    match name {
        "CONFIG" | "SERVER" | "OWNER_TOKEN" | "REQUIRE_CLIENTS" => return true,
        // What clients show of themselves.
        "TOKEN" | "TOKEN_FILE" | "TLS_CA" | "CLIENT_CERT" | "CLIENT_KEY" => return true,
        // What `onced run` tells its command, which may be a server.
        "KEY" | "NAMESPACE" | "ATTEMPT" | "FENCING_TOKEN" | "TAKEOVER" => return true,
        _ if name.starts_with("TEST_") => return true,
        _ => {}
    }
    let name = format!("_{name}");
    let of_port = name.rsplit_once("_PORT_").is_some_and(|(_, port)| {
        let mut words = port.split('_');
        words.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    });
    of_port
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && value.contains("://")
}

/// Where the names of settings are listed.
const HELP: &str = "onced serve --help lists them";

/// The name that was probably meant, or else where the names are listed.
pub(crate) fn suggest(wrong: &str, names: impl Iterator<Item = String>, otherwise: &str) -> String {
    let near = names.map(|name| (strsim::damerau_levenshtein(wrong, &name), name));
    match near.min() {
        Some((distance, name)) if distance <= 3 => format!("did you mean {name}?"),
        _ => otherwise.to_owned(),
    }
}

fn from_file(
    file: &ConfigFile,
    values: &mut Vec<Given>,
    faults: &mut Vec<Fault>,
) -> Vec<GivenNamespace> {
    let text = match &file.text {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin::File { path: file.path.clone(), line: None };
            let problem = format!("cannot be read: {error}");
            faults.push(Fault { setting: String::new(), origin, problem });
            return Vec::new();
        }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = in_file(&file.path, text, error.span().map(|span| span.start));
        let problem = error.message().to_owned();
        faults.push(Fault { setting: String::new(), origin, problem });
    }
    let mut namespaces = Vec::new();
    for (key, value) in in_order(table.get_ref()) {
        let at = |place: usize| in_file(&file.path, text, Some(place));
        let origin = at(key.span().start);
        let key: &str = key.get_ref();
        match Setting::named(key) {
            Some(setting) => {
                let text = text_of(setting, value.get_ref());
                values.push(Given { setting, origin, text });
            }
            None if key == namespaces::TABLE => {
                namespaces = namespaces::given(value.get_ref(), origin, at, faults);
            }
            None => {
                let names = SETTINGS.iter().map(|setting| setting.name);
                let names = names.chain([namespaces::TABLE]).map(str::to_owned);
                let problem = format!("is no setting; {}", suggest(key, names, HELP));
                faults.push(Fault { setting: key.to_owned(), origin, problem });
            }
        }
    }
    namespaces
}

/// The entries of a table as the file has them one after another.
pub(crate) fn in_order<'t, 'f>(
    table: &'t DeTable<'f>,
) -> Vec<(&'t Spanned<DeString<'f>>, &'t Spanned<DeValue<'f>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The place in a file, as the line that it is on.
pub(crate) fn in_file(path: &Path, text: &str, at: Option<usize>) -> Origin {
    let before = at.and_then(|at| text.as_bytes().get(..at));
    let line = before.map(|before| before.iter().filter(|byte| **byte == b'\n').count() + 1);
    Origin::File { path: path.to_owned(), line }
}

/// The text of a value in a file, whose type has to suit the setting: a number in quotes is
/// refused, and so is a switch that is a number.
pub(super) fn text_of(setting: &Setting, value: &DeValue<'_>) -> Result<String, String> {
    let suits_number = matches!(
        setting.kind,
        Kind::Number
            | Kind::NumberOrOff
            | Kind::PerCore
            | Kind::Ratio
            | Kind::Size
            | Kind::SizeOrOff
    );
    let suits_string = !matches!(setting.kind, Kind::Number | Kind::Ratio | Kind::Switch);
    match value {
        DeValue::String(text) if suits_string => Ok(text.to_string()),
        DeValue::Integer(number) if suits_number => {
            let value = i64::from_str_radix(number.as_str(), number.radix());
            value.map(|value| value.to_string()).map_err(|_| "is out of bounds".to_owned())
        }
        DeValue::Float(number) if setting.kind == Kind::Ratio => Ok(number.as_str().to_owned()),
        DeValue::Boolean(switch) if setting.kind == Kind::Switch => Ok(switch.to_string()),
        DeValue::String(_) => Err("is a string; write it without quotes".to_owned()),
        DeValue::Integer(_) => Err("is a number; write it in quotes".to_owned()),
        other => Err(format!("has the wrong type, {}", other.type_str())),
    }
}
