//! From an earlier format to the one of this build, once, when a data directory is opened for
//! writing and before anything else is done with it.
//!
//! Everything that the later format keeps beside the records follows from the records, so one
//! pass over them makes all of it. What the pass writes on its way is the same however often it
//! is begun; the rest of it, the counters and the format are one atomic step at its end. A
//! process that ends before that leaves the earlier format, and the next one begins again. A
//! build of the earlier format refuses the directory from the beginning of the pass on, since it
//! does not know all of its tables.

use std::path::Path;

use tracing::{error, info};

use super::batch::Change;
use super::schema::{DiskError, Meta, Tables};
use crate::storage::{EngineError, OpenError, Usages, keys};

/// How many entries are written in one step on the way.
const STEP: usize = 1_000;

/// Makes what format 2 has and format 1 has not: the index of holds, and the counters.
pub fn from_format_1(tables: &Tables, path: &Path) -> Result<(), OpenError> {
    info!(path = %path.display(), "the store has format 1: its records are read, once");
    let mut counted = Usages::new();
    let mut changes = Vec::new();
    let mut written = Ok(());
    tables
        .scan(|record_key, bytes, stored| {
            let usage = counted.entry(keys::namespace_of(record_key).to_vec()).or_default();
            *usage = usage.with((record_key.len() + bytes) as u64);
            match stored.map(|stored| stored.record.in_doubt_from()) {
                Ok(Some(at)) => changes.push(Change::Hold { at, record_key: record_key.to_vec() }),
                Ok(None) => {}
                // It takes space, so it counts. Whoever asks for it is told.
                Err(_) => error!("a record cannot be read and is left as it is"),
            }
            if changes.len() == STEP {
                written = tables.write(&std::mem::take(&mut changes), &Meta::default());
            }
            written.is_ok()
        })
        .map_err(|error| {
            let (path, cause) = (path.to_owned(), "its records cannot be read".to_owned());
            match error {
                EngineError::Corrupted => OpenError::Damaged { path, cause },
                _ => OpenError::Unavailable { path, cause },
            }
        })?;
    let namespaces = counted.len();
    changes
        .extend(counted.into_iter().map(|(namespace, usage)| Change::Count { namespace, usage }));
    written.and_then(|()| tables.begin_format(&changes)).map_err(|DiskError| {
        OpenError::Unavailable { path: path.to_owned(), cause: "it cannot be written".to_owned() }
    })?;
    info!(namespaces, "the store has format 2");
    Ok(())
}
