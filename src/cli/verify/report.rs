//! What was found wrong with a store, counted and listed, as JSON and for people.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::api::encode::timestamp;
use crate::cli::{Exit, json, text};
use crate::domain::FencingToken;
use crate::storage::rocks::verify::{Finding, Index, Looked, names_of};

/// Every kind of fault, in the order in which they are counted.
const KINDS: [&str; 10] = [
    "unreadable_table",
    "damaged_record",
    "missing_entry",
    "stray_entry",
    "damaged_entry",
    "wrong_counter",
    "unknown_fencing_token",
    "from_the_future",
    "not_erased",
    "erase_astray",
];

/// What was found.
pub(super) struct Report {
    backup_id: Option<u32>,
    limit: usize,
    counts: [u64; KINDS.len()],
    listing: Vec<Value>,
    looked: Option<Looked>,
}

impl Report {
    pub(super) fn new(backup_id: Option<u32>, limit: usize) -> Self {
        Self { backup_id, limit, counts: [0; KINDS.len()], listing: Vec::new(), looked: None }
    }

    /// Counts a fault, and lists it if there is room.
    pub(super) fn take(&mut self, finding: &Finding<'_>) {
        let (kind, namespace, key, detail) = told(finding);
        let place = KINDS.iter().position(|known| *known == kind).expect("every kind has a name");
        self.counts[place] += 1;
        if self.listing.len() < self.limit {
            self.listing.push(json!({
                "fault": kind,
                "namespace": namespace,
                "key": key,
                "detail": detail,
            }));
        }
    }

    /// Notes what was looked at.
    pub(super) fn end(&mut self, looked: Looked) {
        self.looked = Some(looked);
    }

    fn faults(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn exit(&self) -> Exit {
        if self.faults() == 0 { Exit::Done } else { Exit::Refused }
    }

    fn summary(&self, path: &Path) -> Value {
        let counts = KINDS.iter().zip(&self.counts).filter(|(_, count)| **count > 0);
        let counts: Map<_, _> =
            counts.map(|(kind, count)| (kind.to_string(), json!(count))).collect();
        let mut summary = json!({
            "path": path.display().to_string(),
            "backup_id": self.backup_id,
        });
        if let Some(looked) = self.looked {
            let clock = looked.marks.clock_high_water.map(timestamp);
            summary["records"] = json!(looked.records);
            summary["bytes"] = json!(looked.bytes);
            summary["namespaces"] = json!(looked.namespaces);
            summary["expiry_entries"] = json!(looked.expiry_entries);
            summary["hold_entries"] = json!(looked.hold_entries);
            summary["erases"] = json!(looked.erases);
            summary["clock_high_water"] = json::moment(clock.as_ref());
            summary["fencing_high_water"] =
                json!(looked.marks.fencing_high_water.map(FencingToken::get));
        }
        summary["faults"] = json!(self.faults());
        summary["fault_counts"] = counts.into();
        summary
    }

    pub(super) fn to_json(&self, path: &Path) -> Value {
        let mut value = self.summary(path);
        value["listing"] = json!(self.listing);
        value
    }

    /// The summary, and under it one line for each fault.
    pub(super) fn to_text(&self, path: &Path) -> String {
        let mut page = text::table(&self.summary(path));
        if !self.listing.is_empty() {
            page.push('\n');
            page.push_str(&text::columns(&COLUMNS, &self.listing));
        }
        let listed = u64::try_from(self.listing.len()).unwrap_or(u64::MAX);
        let unlisted = self.faults().saturating_sub(listed);
        if unlisted > 0 {
            page.push_str(&format!("\n{unlisted} more; --limit lists more of them\n"));
        }
        page
    }
}

/// What people are shown of a fault.
const COLUMNS: [(&str, &str); 4] =
    [("FAULT", "fault"), ("NAMESPACE", "namespace"), ("KEY", "key"), ("DETAIL", "detail")];

/// The kind of a fault, the names that it concerns, and what there is to say of it.
fn told(finding: &Finding<'_>) -> (&'static str, Value, Value, String) {
    let of = |record_key: &[u8]| match names_of(record_key) {
        Some((namespace, key)) => (json!(namespace), json!(key)),
        // The bytes are all that there is of a key that cannot be read.
        None => (Value::Null, json!(json::hex(record_key))),
    };
    let named = |kind, record_key: &[u8], detail: String| {
        let (namespace, key) = of(record_key);
        (kind, namespace, key, detail)
    };
    let index_name = |index| match index {
        Index::Expiry => "expiry",
        Index::Holds => "holds",
    };
    match finding {
        Finding::Unreadable { what } => {
            let detail = format!("{what} cannot be read to the end");
            ("unreadable_table", Value::Null, Value::Null, detail)
        }
        Finding::DamagedRecord { record_key } => {
            named("damaged_record", record_key, "the record cannot be read".to_owned())
        }
        Finding::MissingEntry { index, at, record_key } => {
            let detail =
                format!("the index of {} has no entry at {}", index_name(*index), timestamp(*at));
            named("missing_entry", record_key, detail)
        }
        Finding::StrayEntry { index, at, record_key } => {
            let detail = format!(
                "no record has the entry at {} in the index of {}",
                timestamp(*at),
                index_name(*index)
            );
            named("stray_entry", record_key, detail)
        }
        Finding::DamagedEntry { index, entry } => {
            let detail =
                format!("an entry of the index of {} is {}", index_name(*index), json::hex(entry));
            ("damaged_entry", Value::Null, Value::Null, detail)
        }
        Finding::WrongCounter { namespace, found, counter } => {
            let detail = format!(
                "the counter says {} keys and {} bytes, and there are {} and {}",
                counter.keys, counter.bytes, found.keys, found.bytes
            );
            let namespace = json!(String::from_utf8_lossy(namespace));
            ("wrong_counter", namespace, Value::Null, detail)
        }
        Finding::UnknownFencingToken { record_key, fencing_token } => {
            let detail = format!("fencing token {} was never given out", fencing_token.get());
            named("unknown_fencing_token", record_key, detail)
        }
        Finding::FromTheFuture { record_key } => {
            let detail = "it is later than the marks of the store".to_owned();
            named("from_the_future", record_key, detail)
        }
        Finding::NotErased { record_key } => {
            named("not_erased", record_key, "an erase says that it is gone".to_owned())
        }
        Finding::EraseAstray { namespace } => {
            let detail = "its erase has come to another namespace".to_owned();
            ("erase_astray", json!(namespace), Value::Null, detail)
        }
    }
}
