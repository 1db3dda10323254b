//! Brings a store of an earlier format to the format of this build, when it is opened and
//! before anything else is done with it.
//!
//! Everything that a later format keeps beside the records follows from the records, so one
//! pass over them makes it. What the pass writes is the same however often it is begun, and
//! the format is raised last: a migration that is cut short is done again from its beginning.
//! An older build refuses the store from the first step on, since it does not know the tables.

use tracing::{error, info};

use super::batch::Change;
use super::schema::{DiskError, Meta, Tables};
use crate::storage::codec::Stored;

/// How many changes are written in one step.
const STEP: usize = 1_000;

/// Makes what format 2 has and format 1 has not: the index of holds.
pub fn migrate(tables: &Tables) -> Result<(), ()> {
    let mut step = Vec::new();
    let mut records = 0_u64;
    let mut failed = false;
    let scanned = tables.scan(|record_key, stored| {
        let Ok(stored) = stored else {
            // Nothing follows from it. Whoever asks for it is told.
            error!("a record cannot be read and is left as it is");
            return true;
        };
        records += 1;
        step.extend(follows(record_key, &stored));
        if step.len() >= STEP {
            failed = write(tables, &mut step).is_err();
        }
        !failed
    });
    if scanned.is_err() || failed {
        return Err(());
    }
    // The format is durable no earlier than what it stands for: they are in one log.
    write(tables, &mut step)
        .and_then(|()| tables.write_format())
        .and_then(|()| tables.sync())
        .map_err(|DiskError| ())?;
    info!(records, "the store is migrated");
    Ok(())
}

/// What is kept beside the record `stored`.
fn follows(record_key: &[u8], stored: &Stored) -> Option<Change> {
    let at = stored.record.in_doubt_from()?;
    Some(Change::Hold { at, record_key: record_key.to_vec() })
}

fn write(tables: &Tables, step: &mut Vec<Change>) -> Result<(), DiskError> {
    tables.write(step, &Meta::default())?;
    step.clear();
    Ok(())
}
