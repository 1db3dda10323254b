//! What each namespace has on record by a count of the records, held against what its counter
//! says.

use crate::storage::{Usage, Usages};

/// A count, and the counters.
#[derive(Debug)]
pub struct Census {
    found: Usages,
    /// `None`: the format has none.
    counters: Option<Usages>,
    /// Whether all records were counted.
    is_whole: bool,
}

impl Census {
    /// Nothing is counted yet; the counters say this, where the format has some.
    pub fn against(counters: Option<Usages>) -> Self {
        Self { found: Usages::new(), counters, is_whole: true }
    }

    /// Counts a record of so many bytes.
    pub fn count(&mut self, namespace: &[u8], bytes: u64) {
        let usage = match self.found.get_mut(namespace) {
            Some(usage) => usage,
            None => self.found.entry(namespace.to_vec()).or_default(),
        };
        usage.keys += 1;
        usage.bytes += bytes;
    }

    /// Damage ended the reading: what lies behind it is not known, and not held against anything.
    pub fn cut_short(&mut self) {
        self.is_whole = false;
    }

    /// Whether all records were counted.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What was found in a namespace.
    pub fn found(&self, namespace: &[u8]) -> Usage {
        self.found.get(namespace).copied().unwrap_or_default()
    }

    /// What its counter says; `None`: the format has none.
    pub fn counter(&self, namespace: &[u8]) -> Option<Usage> {
        let counters = self.counters.as_ref()?;
        Some(counters.get(namespace).copied().unwrap_or_default())
    }

    /// Whether the counter of a namespace says what was found in it; `None`: that cannot be told.
    pub fn is_right(&self, namespace: &[u8]) -> Option<bool> {
        let counters = self.counters.as_ref().filter(|_| self.is_whole)?;
        Some(counters.get(namespace) == self.found.get(namespace))
    }

    /// Every namespace that has a record or a counter, in the order of their names.
    pub fn namespaces(&self) -> Vec<&[u8]> {
        let counted = self.counters.iter().flat_map(Usages::keys);
        let mut names: Vec<_> = self.found.keys().chain(counted).map(Vec::as_slice).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Those whose counters say something else than what was found; `None`: that cannot be told.
    pub fn wrong(&self) -> Option<Vec<&[u8]>> {
        self.counters.as_ref().filter(|_| self.is_whole)?;
        let names = self.namespaces().into_iter();
        Some(names.filter(|name| self.is_right(name) == Some(false)).collect())
    }
}
