//! From a URL to an engine: the one place that lists what onced can store in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where records are kept, as the setting `store` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `rocksdb:PATH`: an embedded RocksDB in that directory.
    RocksDb(PathBuf),
    /// `memory:`: the memory of this process; gone with it.
    Memory,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("rocksdb", path)) if !path.is_empty() => Ok(Self::RocksDb(PathBuf::from(path))),
            _ => Err(StoreUrlError),
        }
    }
}

/// A URL that names no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUrlError;

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a store; give rocksdb:PATH or memory:")
    }
}

impl std::error::Error for StoreUrlError {}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RocksDb(path) => write!(f, "rocksdb:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}
