//! What a server did to its files, read from the journal that recorder.c wrote.

/// One change, in the order of their effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An existing file or folder was opened: this is its number from here on.
    Opened {
        path: String,
        file: u64,
    },
    /// A file was created, and its name with it.
    Created {
        path: String,
        file: u64,
    },
    Written {
        file: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Resized {
        file: u64,
        size: usize,
    },
    /// Blocks were allocated: the file has at least this size.
    Allocated {
        file: u64,
        size: usize,
    },
    /// A sync of a file or a folder began.
    Syncing {
        file: u64,
        sync: u64,
    },
    /// It returned well.
    Synced {
        sync: u64,
    },
    Renamed {
        from: String,
        to: String,
    },
    Unlinked {
        path: String,
    },
    Linked {
        from: String,
        to: String,
    },
    FolderMade {
        path: String,
    },
    FolderRemoved {
        path: String,
    },
}

/// All whole entries of a journal. The last one is cut short where the process was killed while
/// it wrote it.
pub fn read(mut bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some((change, rest)) = split(bytes) {
        changes.push(change);
        bytes = rest;
    }
    changes
}

fn split(bytes: &[u8]) -> Option<(Change, &[u8])> {
    let (head, rest) = bytes.split_at_checked(32)?;
    let small = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
    let large = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
    let (kind, file, at) = (small(0), large(8), large(16));
    let (path, rest) = rest.split_at_checked(small(4) as usize)?;
    let (data, rest) = rest.split_at_checked(usize::try_from(large(24)).unwrap())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (path, place) = (text(path), usize::try_from(at).unwrap());
    let change = match kind {
        1 => Change::Opened { path, file },
        2 => Change::Created { path, file },
        3 => Change::Written { file, at: place, bytes: data.to_vec() },
        4 => Change::Resized { file, size: place },
        5 => Change::Allocated { file, size: place },
        6 => Change::Syncing { file, sync: at },
        7 => Change::Synced { sync: at },
        8 => Change::Renamed { from: path, to: text(data) },
        9 => Change::Unlinked { path },
        10 => Change::Linked { from: path, to: text(data) },
        11 => Change::FolderMade { path },
        12 => Change::FolderRemoved { path },
        other => panic!("the journal has an entry of kind {other}"),
    };
    Some((change, rest))
}
