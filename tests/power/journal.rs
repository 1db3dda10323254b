//! What the recorder wrote: every operation on the disk, in the order of their effects. The
//! layout is that of `recorder.c`; what an operation means is said in `disk.rs`.

use std::path::Path;

use bytes::Bytes;

/// How many bytes of the journal there are: the unit in which this suite tells time. What was
/// noted by then had happened by then.
pub type Position = u64;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file appeared.
    Created { path: String, inode: u64 },
    /// A folder appeared.
    MadeFolder { path: String, inode: u64 },
    /// Bytes were written over what was there, or behind it.
    Written { inode: u64, at: usize, data: Bytes },
    /// A file was cut off, or made longer with zeros.
    Truncated { inode: u64, to: usize },
    /// A file became at least this long, with zeros.
    Extended { inode: u64, to: usize },
    /// A sync of a file or a folder began.
    SyncBegan { inode: u64, ticket: u64 },
    /// It ended well.
    SyncEnded { ticket: u64 },
    /// A name was changed, and what had the second name lost it.
    Renamed { from: String, to: String },
    /// A file lost its name.
    Unlinked { path: String },
    /// A folder went.
    RemovedFolder { path: String },
}

/// An operation, and where the journal ends with it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub end: Position,
    pub operation: Operation,
}

/// The size of the fixed part of an entry.
const HEAD_BYTES: usize = 32;

/// Everything in the journal at `path`.
pub fn read(path: &Path) -> Vec<Entry> {
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let (mut at, mut entries) = (0, Vec::new());
    while at < bytes.len() {
        let number = |from: usize, size: usize| {
            let field = &bytes[at + from..at + from + size];
            field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let (kind, names_bytes) = (number(0, 4), number(4, 4) as usize);
        let (inode, value, data_bytes) = (number(8, 8), number(16, 8), number(24, 8) as usize);
        let names = at + HEAD_BYTES;
        let data = names + names_bytes;
        let end = data + data_bytes;
        let path = String::from_utf8(bytes[names..data].to_vec()).unwrap();
        let data = bytes.slice(data..end);
        entries.push(Entry { end: end as u64, operation: named(kind, inode, value, path, data) });
        at = end;
    }
    entries
}

fn named(kind: u64, inode: u64, value: u64, path: String, data: Bytes) -> Operation {
    let size = value as usize;
    match kind {
        1 => Operation::Created { path, inode },
        2 => Operation::MadeFolder { path, inode },
        3 => Operation::Written { inode, at: size, data },
        4 => Operation::Truncated { inode, to: size },
        5 => Operation::Extended { inode, to: size },
        6 => Operation::SyncBegan { inode, ticket: value },
        7 => Operation::SyncEnded { ticket: value },
        8 => {
            let (from, to) = path.split_once('\0').unwrap();
            Operation::Renamed { from: from.into(), to: to.into() }
        }
        9 => Operation::Unlinked { path },
        10 => Operation::RemovedFolder { path },
        unknown => panic!("the journal has an entry of kind {unknown}"),
    }
}
