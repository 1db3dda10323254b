//! Where settings come from: flags, the environment and a file, as found. The only part of
//! the configuration that looks at the process and at the disk.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::{ControlGroup, Fault};

/// What every setting's variable begins with.
pub(super) const PREFIX: &str = "ONCED_";

/// Everything that was given, in the order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Flags: the name of the setting, and the text that was given.
    pub flags: Vec<(&'static str, String)>,
    /// Variables whose name begins with `ONCED_`.
    pub environment: Vec<(String, OsString)>,
    /// The file, where one was named.
    pub file: Option<ConfigFile>,
    /// The control group that bounds the memory of the process, where one does.
    pub control_group: Option<ControlGroup>,
}

/// A file that settings are read from.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text, or why it could not be read.
    pub text: Result<String, String>,
}

impl Sources {
    /// Gathers what was given: these flags, the environment of the process, and the file
    /// that `--config` or else `ONCED_CONFIG` names.
    pub fn gather(flags: Vec<(&'static str, String)>, config: Option<PathBuf>) -> Self {
        let environment = env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let path = config.or_else(|| env::var_os("ONCED_CONFIG").map(PathBuf::from));
        Self {
            flags,
            environment,
            file: path.map(ConfigFile::read),
            control_group: ControlGroup::of_this_process(),
        }
    }
}

/// What is in the file at `path` that `setting` names: at most 1 MiB, or it is at fault.
pub(crate) fn read_named(setting: &str, path: &Path) -> Result<Vec<u8>, Fault> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(Fault::of_file(setting, path, format!("cannot be read: {error}"))),
        Ok(count) if count as u64 > MAX_BYTES => {
            Err(Fault::of_file(setting, path, "is larger than 1MiB"))
        }
        Ok(_) => Ok(bytes),
    }
}

impl ConfigFile {
    /// Reads the file at `path`; a failure is kept for the message.
    pub fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        Self { path, text }
    }
}
