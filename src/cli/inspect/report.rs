//! What was found in a data directory, counted and listed, as JSON and for people.

use std::path::Path;

use serde_json::{Value, json};

use super::Selection;
use crate::api::encode::timestamp;
use crate::cli::{Exit, json, text};
use crate::domain::{LeaseExpiryAction, Moment, Outcome, Phase, Record, State, phase_of};
use crate::storage::Usages;
use crate::storage::rocks::census::Census;
use crate::storage::rocks::inspect::{Found, Marks};

/// Every phase that a stored record can be in, and its name in the order of a life.
const PHASES: [(Phase, &str); 6] = [
    (Phase::Held, "held"),
    (Phase::Lapsed, "lapsed"),
    (Phase::InDoubt, "in_doubt"),
    (Phase::Released, "released"),
    (Phase::Completed, "completed"),
    (Phase::Vacant, "vacant"),
];

fn name_of(phase: Phase) -> &'static str {
    PHASES.iter().find(|(named, _)| *named == phase).expect("every phase has a name").1
}

/// What was found.
pub(super) struct Report {
    marks: Marks,
    selection: Selection,
    limit: usize,
    /// How many records there are in each phase, in the order of [`PHASES`].
    counts: [u64; PHASES.len()],
    /// The first records, as they are shown.
    listing: Vec<Value>,
    damaged: u64,
    /// The first damaged entries, as they are shown.
    damaged_listing: Vec<Value>,
    /// What each namespace has on record, and what its counter says.
    census: Census,
}

impl Report {
    pub(super) fn new(
        marks: Marks,
        counters: Option<Usages>,
        selection: Selection,
        limit: usize,
    ) -> Self {
        Self {
            census: Census::against(counters),
            marks,
            selection,
            limit,
            counts: [0; PHASES.len()],
            listing: Vec::new(),
            damaged: 0,
            damaged_listing: Vec::new(),
        }
    }

    /// The moment that states are shown at. A store without one holds no records.
    fn moment(&self) -> Moment {
        self.marks.clock_high_water.unwrap_or_default()
    }

    /// Counts what was found, and lists it if there is room.
    pub(super) fn take(&mut self, found: Found<'_>) {
        match found {
            Found::Record { namespace, key, record, bytes } => {
                // Everything counts, selected or not: the counters know no selection.
                self.census.count(namespace.as_bytes(), bytes);
                if !self.selection.has(namespace, key) {
                    return;
                }
                let phase = phase_of(Some(&record), self.moment());
                for ((counted, _), count) in PHASES.iter().zip(&mut self.counts) {
                    *count += u64::from(*counted == phase);
                }
                if self.listing.len() < self.limit {
                    self.listing.push(listed(namespace, key, phase, &record));
                }
            }
            Found::Damaged { record_key, namespace, bytes } => {
                self.census.count(namespace, bytes);
                self.damaged += 1;
                if self.damaged_listing.len() < self.limit {
                    self.damaged_listing.push(json!({ "record_key": json::hex(record_key) }));
                }
            }
        }
    }

    /// Damage ended the reading: what lies behind it is not known.
    pub(super) fn cut_short(&mut self) {
        self.census.cut_short();
    }

    pub(super) fn exit(&self) -> Exit {
        let is_damaged =
            self.damaged > 0 || !self.census.is_whole() || self.wrong_counters() > Some(0);
        if is_damaged { Exit::Refused } else { Exit::Done }
    }

    /// How many counters say something else than what was found.
    fn wrong_counters(&self) -> Option<usize> {
        self.census.wrong().map(|names| names.len())
    }

    /// What the namespaces have, those with a wrong counter first.
    fn namespace_listing(&self) -> Vec<Value> {
        let is_selected = |name: &&[u8]| {
            self.selection.namespace.as_ref().is_none_or(|only| only.as_bytes() == *name)
        };
        let mut names: Vec<_> = self.census.namespaces().into_iter().filter(is_selected).collect();
        names.sort_by_key(|name| self.census.is_right(name) != Some(false));
        let listed = |name: &[u8]| {
            let (found, counter) = (self.census.found(name), self.census.counter(name));
            json!({
                "namespace": String::from_utf8_lossy(name),
                "keys": found.keys,
                "bytes": found.bytes,
                "counter_keys": counter.map(|usage| usage.keys),
                "counter_bytes": counter.map(|usage| usage.bytes),
                "counter_is_right": self.census.is_right(name),
            })
        };
        names.into_iter().take(self.limit).map(listed).collect()
    }

    fn summary(&self, path: &Path) -> Value {
        let mut records: Value = json!({});
        for ((_, name), count) in PHASES.iter().zip(&self.counts) {
            records[*name] = json!(count);
        }
        json!({
            "path": path.display().to_string(),
            "clock_high_water": json::moment(self.marks.clock_high_water.map(timestamp).as_ref()),
            "fencing_high_water": self.marks.fencing_high_water.map(|token| token.get()),
            "runs": self.marks.runs,
            "records": records,
            "damaged_records": self.damaged,
            "namespaces": self.census.namespaces().len(),
            "wrong_counters": self.wrong_counters(),
            "read_to_the_end": self.census.is_whole(),
        })
    }

    pub(super) fn to_json(&self, path: &Path) -> Value {
        let mut value = self.summary(path);
        value["damaged_listing"] = json!(self.damaged_listing);
        value["namespace_listing"] = json!(self.namespace_listing());
        value["listing"] = json!(self.listing);
        value
    }

    /// The summary, and under it one line for each record.
    pub(super) fn to_text(&self, path: &Path) -> String {
        let mut page = text::table(&self.summary(path));
        if !self.damaged_listing.is_empty() {
            page.push_str("\nDAMAGED, by the bytes of the stored key\n");
            for entry in &self.damaged_listing {
                page.push_str(&format!("{}\n", text::cell(&entry["record_key"])));
            }
        }
        for (rows, headings) in
            [(&self.namespace_listing(), &NAMESPACE_COLUMNS[..]), (&self.listing, &COLUMNS)]
        {
            if !rows.is_empty() {
                page.push('\n');
                page.push_str(&text::columns(headings, rows));
            }
        }
        let known: u64 = self.counts.iter().sum();
        let unlisted = known - u64::try_from(self.listing.len()).unwrap_or(known);
        if unlisted > 0 {
            page.push_str(&format!("\n{unlisted} more; --limit lists more of them\n"));
        }
        page
    }
}

/// One record as it is shown.
fn listed(namespace: &str, key: &str, phase: Phase, record: &Record) -> Value {
    let (lease, completion) = match &record.state {
        State::Reserved { lease_until, lease_expiry_action } => {
            (Some((*lease_until, *lease_expiry_action)), None)
        }
        State::Released { .. } => (None, None),
        State::Completed(completion) => (None, Some(completion)),
    };
    let moment = |moment: Option<Moment>| json::moment(moment.map(timestamp).as_ref());
    json!({
        "namespace": namespace,
        "key": key,
        "state": name_of(phase),
        "fingerprint": json::hex(record.fingerprint.as_bytes()),
        "attempt": record.attempt,
        "fencing_token": record.fencing_token.get(),
        "holder": record.holder,
        "create_time": moment(Some(record.created_at)),
        "lease_expire_time": moment(lease.map(|(until, _)| until)),
        "lease_expiry_action": lease.map(|(_, action)| match action {
            LeaseExpiryAction::Takeover => "takeover",
            LeaseExpiryAction::Hold => "hold",
        }),
        "checkpoint_size_bytes": record.checkpoint.len(),
        "complete_time": moment(completion.map(|completion| completion.completed_at)),
        "result": completion.map(|completion| match completion.result {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
        }),
        "status_code": completion.map(|completion| completion.response.status_code),
        "late": completion.map(|completion| completion.late),
        "response_omitted": completion.map(|completion| completion.response_omitted),
        "response_digest": completion.map(|completion| json::hex(&completion.response_digest)),
        "response_size_bytes": completion.map(|completion| completion.response_size_bytes),
        "expire_time": moment(Some(record.retained_until())),
    })
}

/// What people are shown of a record: the rest is in the JSON.
const COLUMNS: [(&str, &str); 9] = [
    ("STATE", "state"),
    ("NAMESPACE", "namespace"),
    ("KEY", "key"),
    ("ATTEMPT", "attempt"),
    ("FENCING", "fencing_token"),
    ("LEASE UNTIL", "lease_expire_time"),
    ("RESULT", "result"),
    ("RETAINED UNTIL", "expire_time"),
    ("HOLDER", "holder"),
];

/// What people are shown of a namespace.
const NAMESPACE_COLUMNS: [(&str, &str); 6] = [
    ("NAMESPACE", "namespace"),
    ("KEYS", "keys"),
    ("BYTES", "bytes"),
    ("COUNTER IS RIGHT", "counter_is_right"),
    ("COUNTER KEYS", "counter_keys"),
    ("COUNTER BYTES", "counter_bytes"),
];
