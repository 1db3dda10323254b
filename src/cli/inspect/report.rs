//! What was found in a data directory, counted and listed, as JSON and for people.

use std::path::Path;

use serde_json::{Value, json};

use super::Selection;
use crate::api::encode::timestamp;
use crate::cli::{Exit, json, text};
use crate::domain::{LeaseExpiryAction, Moment, Outcome, Phase, Record, State, phase_of};
use crate::storage::Usages;
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
    /// Whether damage ended the reading before the end.
    is_cut_short: bool,
    /// What each namespace has on record.
    usages: Usages,
    /// The same by the counters; `None` where the format has none.
    counters: Option<Usages>,
}

impl Report {
    pub(super) fn new(
        marks: Marks,
        counters: Option<Usages>,
        selection: Selection,
        limit: usize,
    ) -> Self {
        Self {
            usages: Usages::new(),
            counters,
            marks,
            selection,
            limit,
            counts: [0; PHASES.len()],
            listing: Vec::new(),
            damaged: 0,
            damaged_listing: Vec::new(),
            is_cut_short: false,
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
                self.count(namespace.as_bytes(), bytes);
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
                self.count(namespace, bytes);
                self.damaged += 1;
                if self.damaged_listing.len() < self.limit {
                    self.damaged_listing.push(json!({ "record_key": json::hex(record_key) }));
                }
            }
        }
    }

    /// Everything counts, selected or not: the counters know no selection.
    fn count(&mut self, namespace: &[u8], bytes: u64) {
        let usage = match self.usages.get_mut(namespace) {
            Some(usage) => usage,
            None => self.usages.entry(namespace.to_vec()).or_default(),
        };
        usage.keys += 1;
        usage.bytes += bytes;
    }

    /// Damage ended the reading: what lies behind it is not known.
    pub(super) fn cut_short(&mut self) {
        self.is_cut_short = true;
    }

    pub(super) fn exit(&self) -> Exit {
        let is_damaged = self.damaged > 0 || self.is_cut_short || self.wrong_counters() > Some(0);
        if is_damaged { Exit::Refused } else { Exit::Done }
    }

    /// The counters, where they can be held against what was found: all of it was read.
    fn comparable(&self) -> Option<&Usages> {
        self.counters.as_ref().filter(|_| !self.is_cut_short)
    }

    /// Whether the counter of a namespace says what was found in it.
    fn is_right(&self, namespace: &[u8]) -> Option<bool> {
        let counters = self.comparable()?;
        Some(counters.get(namespace) == self.usages.get(namespace))
    }

    /// Every namespace that has a record or a counter.
    fn namespaces(&self) -> Vec<&Vec<u8>> {
        let counted = self.counters.iter().flat_map(Usages::keys);
        let mut names: Vec<_> = self.usages.keys().chain(counted).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How many counters say something else than what was found.
    fn wrong_counters(&self) -> Option<usize> {
        self.comparable()?;
        let names = self.namespaces().into_iter();
        Some(names.filter(|name| self.is_right(name) == Some(false)).count())
    }

    /// What the namespaces have, those with a wrong counter first.
    fn namespace_listing(&self) -> Vec<Value> {
        let is_selected = |name: &&Vec<u8>| {
            self.selection.namespace.as_ref().is_none_or(|only| only.as_bytes() == name.as_slice())
        };
        let mut names: Vec<_> = self.namespaces().into_iter().filter(is_selected).collect();
        names.sort_by_key(|name| self.is_right(name) != Some(false));
        let listed = |name: &Vec<u8>| {
            let found = self.usages.get(name).copied().unwrap_or_default();
            let counters = self.counters.as_ref();
            let counter = counters.map(|counters| counters.get(name).copied().unwrap_or_default());
            json!({
                "namespace": String::from_utf8_lossy(name),
                "keys": found.keys,
                "bytes": found.bytes,
                "counter_keys": counter.map(|usage| usage.keys),
                "counter_bytes": counter.map(|usage| usage.bytes),
                "counter_is_right": self.is_right(name),
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
            "namespaces": self.namespaces().len(),
            "wrong_counters": self.wrong_counters(),
            "read_to_the_end": !self.is_cut_short,
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
