//! What is wrong with the settings: all of it at once, each fault with the setting, where
//! its value came from, the problem, and what to give instead.

use std::fmt;
use std::path::Path;

use super::Origin;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, or the name that is none; empty where the file as a whole is at fault.
    pub setting: String,
    /// Where it was given.
    pub origin: Origin,
    /// What is wrong, and what to give instead.
    pub problem: String,
}

impl Fault {
    /// What is wrong with the file at `path`, as a whole, that `setting` names.
    pub fn of_file(setting: &str, path: &Path, problem: impl Into<String>) -> Self {
        let origin = Origin::File { path: path.to_owned(), line: None };
        Self { setting: setting.to_owned(), origin, problem: problem.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, origin, problem } = self;
        match setting.as_str() {
            "" => write!(f, "{origin}: {problem}"),
            setting => write!(f, "{setting} (from {origin}): {problem}"),
        }
    }
}

/// Everything that is wrong with the settings; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The faults: those of names and files first, then those of values.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("the settings have a fault:")?,
            many => write!(f, "the settings have {many} faults:")?,
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
