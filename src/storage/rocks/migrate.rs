//! From an earlier format to the one of this build, once, when a data directory is opened for
//! writing: one pass over the records, in which everything is collected that the earlier
//! format did not have, and one atomic step that writes it together with the new format.
//!
//! A process that ends on the way leaves the earlier format, and the next one begins again.

use std::path::Path;

use tracing::info;

use super::schema::{DiskError, Tables};
use crate::storage::{EngineError, OpenError, Usages, keys};

/// Format 1 had no counters.
pub fn from_format_1(tables: &Tables, path: &Path) -> Result<(), OpenError> {
    info!(path = %path.display(), "the store has format 1: its records are counted, once");
    let mut counted = Usages::new();
    tables
        .scan(|record_key, bytes, _| {
            let usage = counted.entry(keys::namespace_of(record_key).to_vec()).or_default();
            *usage = usage.with((record_key.len() + bytes) as u64);
            true
        })
        .map_err(|error| {
            let (path, cause) = (path.to_owned(), "its records cannot be counted".to_owned());
            match error {
                EngineError::Corrupted => OpenError::Damaged { path, cause },
                _ => OpenError::Unavailable { path, cause },
            }
        })?;
    tables.begin_format(&counted).map_err(|DiskError| OpenError::Unavailable {
        path: path.to_owned(),
        cause: "it cannot be written".to_owned(),
    })?;
    info!(namespaces = counted.len(), "the store has format 2");
    Ok(())
}
