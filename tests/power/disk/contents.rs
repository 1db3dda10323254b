//! What files and folders hold, and how it changes.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::disk::Node;
use crate::layers::Content;

/// A disk writes so much or nothing.
pub const SECTOR_BYTES: usize = 512;

/// The content of a file.
#[derive(Clone, Default)]
pub struct Bytes(pub Vec<u8>);

#[derive(Clone)]
pub enum Change {
    Written { at: usize, data: bytes::Bytes },
    Truncated(usize),
    Extended(usize),
}

impl Content for Bytes {
    type Change = Change;

    fn apply(&mut self, change: &Change) {
        let file = &mut self.0;
        match change {
            Change::Written { at, data } => {
                let end = at + data.len();
                file.resize(file.len().max(end), 0);
                file[*at..end].copy_from_slice(data);
            }
            Change::Truncated(bytes) => file.resize(*bytes, 0),
            Change::Extended(bytes) => file.resize(file.len().max(*bytes), 0),
        }
    }

    /// Some of its sectors; and where the file grew, its length perhaps without its bytes.
    fn torn(change: &Change, dice: &mut Dice) -> Vec<Change> {
        let Change::Written { at, data } = change else { return Vec::new() };
        let end = at + data.len();
        let mut parts = Vec::new();
        if dice.below(2) == 0 {
            parts.push(Change::Extended(end));
        }
        let mut from = *at;
        while from < end {
            let to = end.min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
            if dice.below(2) == 0 {
                parts.push(Change::Written { at: from, data: data.slice(from - at..to - at) });
            }
            from = to;
        }
        parts
    }

    fn begun(change: &Change, dice: &mut Dice) -> Vec<Change> {
        let Change::Written { at, data } = change else { return Vec::new() };
        let bytes = dice.below(data.len() as u64 + 1) as usize;
        vec![Change::Written { at: *at, data: data.slice(..bytes) }]
    }
}

/// The content of a folder.
#[derive(Clone, Default)]
pub struct Names(pub BTreeMap<String, Node>);

#[derive(Clone)]
pub enum Naming {
    Added(String, Node),
    Renamed(String, String, Node),
    Removed(String),
}

impl Content for Names {
    type Change = Naming;

    fn apply(&mut self, naming: &Naming) {
        match naming {
            Naming::Added(name, node) => {
                self.0.insert(name.clone(), *node);
            }
            Naming::Renamed(from, to, node) => {
                self.0.remove(from);
                self.0.insert(to.clone(), *node);
            }
            Naming::Removed(name) => {
                self.0.remove(name);
            }
        }
    }

    /// A change of a name happens or it does not.
    fn torn(_: &Naming, _: &mut Dice) -> Vec<Naming> {
        Vec::new()
    }

    fn begun(_: &Naming, _: &mut Dice) -> Vec<Naming> {
        Vec::new()
    }
}
