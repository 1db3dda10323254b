//! A disk as a power cut knows it: every file and every folder as it is, and as it is promised
//! to be once the power is back.
//!
//! - A sync that ended covers what had been done to that file or that folder when it began:
//!   bytes and length of a file (fdatasync too: a length that is needed to read the bytes is
//!   part of them), names in a folder. It covers nothing else; above all, the sync of a file
//!   does not cover the name of that file, though many file systems do that as well.
//! - A change of a name is atomic: a file that is renamed has the old name or the new one.
//! - What no sync covers is lost, or survives in part: see [`Survival`]. A write that survives
//!   while an earlier one does not leaves zeros, or what was there before; a write that is torn
//!   is torn between sectors of 512 bytes.
//! - The exception is RocksDB's MANIFEST, of which what survives is a beginning: its end may be
//!   missing, but not be there as zeros. RocksDB refuses to open a store whose MANIFEST ends in
//!   a damaged record, see the test that says so; how often a real disk leaves one is not known.
//! - What a sync covered is there for ever: a disk that forgets what it promised, or whose
//!   blocks rot, is another test.

mod contents;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::dice::Dice;
use crate::disk::contents::{Bytes, Change, Names, Naming};
use crate::journal::Operation;
use crate::layers::{Layers, Survival};

/// The number of a file or a folder in this model, never used again.
type Node = usize;

/// Everything below one folder.
#[derive(Clone)]
pub struct Disk {
    files: HashMap<Node, Layers<Bytes>>,
    folders: HashMap<Node, Layers<Names>>,
    /// Who has which inode at the moment: file systems use the numbers again.
    inodes: HashMap<u64, Node>,
    /// Syncs that began: of what, and when.
    syncing: HashMap<u64, (Node, u64)>,
    nodes: Node,
    /// How many operations there have been.
    now: u64,
}

/// What there is below a folder at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    File(Vec<u8>),
    Folder(BTreeMap<String, Tree>),
}

const ROOT: Node = 0;

impl Disk {
    /// A disk on which everything below `root` is durable.
    pub fn read(root: &Path) -> Self {
        let mut disk = Self {
            files: HashMap::new(),
            folders: HashMap::new(),
            inodes: HashMap::new(),
            syncing: HashMap::new(),
            nodes: ROOT,
            now: 0,
        };
        disk.read_folder(root);
        disk
    }

    fn read_folder(&mut self, path: &Path) -> Node {
        let node = self.node(inode_of(path));
        let mut names = Names::default();
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            let child = if entry.file_type().unwrap().is_dir() {
                self.read_folder(&entry.path())
            } else {
                let child = self.node(inode_of(&entry.path()));
                let bytes = Bytes(std::fs::read(entry.path()).unwrap());
                self.files.insert(child, Layers::durable(bytes));
                child
            };
            names.0.insert(entry.file_name().into_string().unwrap(), child);
        }
        self.folders.insert(node, Layers::durable(names));
        node
    }

    fn node(&mut self, inode: u64) -> Node {
        let node = self.nodes;
        self.nodes += 1;
        self.inodes.insert(inode, node);
        node
    }

    /// Does what was recorded.
    pub fn apply(&mut self, operation: &Operation) {
        self.now += 1;
        match operation {
            Operation::Created { path, inode } => {
                let node = self.node(*inode);
                self.files.insert(node, Layers::default());
                self.name(path, |name| Naming::Added(name, node));
            }
            Operation::MadeFolder { path, inode } => {
                let node = self.node(*inode);
                self.folders.insert(node, Layers::default());
                self.name(path, |name| Naming::Added(name, node));
            }
            Operation::Written { inode, at, data } => {
                self.write(*inode, Change::Written { at: *at, data: data.clone() });
            }
            Operation::Truncated { inode, to } => self.write(*inode, Change::Truncated(*to)),
            Operation::Extended { inode, to } => self.write(*inode, Change::Extended(*to)),
            Operation::SyncBegan { inode, ticket } => {
                self.syncing.insert(*ticket, (self.inodes[inode], self.now));
            }
            Operation::SyncEnded { ticket } => {
                let (node, began) = self.syncing.remove(ticket).unwrap();
                match self.files.get_mut(&node) {
                    Some(file) => file.sync(began),
                    None => self.folders.get_mut(&node).unwrap().sync(began),
                }
            }
            Operation::Renamed { from, to } => {
                let (old_folder, old) = self.folder_of(from);
                let (new_folder, new) = self.folder_of(to);
                assert_eq!(old_folder, new_folder, "{from} goes to another folder: {to}");
                let node = self.folders[&old_folder].current.0[&old];
                self.name(from, |_| Naming::Renamed(old, new, node));
            }
            Operation::Unlinked { path } | Operation::RemovedFolder { path } => {
                self.name(path, Naming::Removed);
            }
        }
    }

    fn write(&mut self, inode: u64, change: Change) {
        let file = self.files.get_mut(&self.inodes[&inode]).unwrap();
        file.change(self.now, change);
    }

    fn name(&mut self, path: &str, naming: impl FnOnce(String) -> Naming) {
        let (folder, name) = self.folder_of(path);
        self.folders.get_mut(&folder).unwrap().change(self.now, naming(name));
    }

    /// The folder that `path` is in, and its name there.
    fn folder_of(&self, path: &str) -> (Node, String) {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let step = |node: Node, name: &str| self.folders[&node].current.0[name];
        let parts = folders.split('/').filter(|part| !part.is_empty());
        (parts.fold(ROOT, step), name.to_owned())
    }

    /// What there is while the power is on.
    pub fn current(&self) -> Tree {
        self.tree("", ROOT, &mut |_, file| file.current.clone(), &mut |it| it.current.clone())
    }

    /// What there is when the power is back.
    pub fn remains(&self, survival: Survival, dice: &mut Dice) -> Tree {
        let dice = RefCell::new(dice);
        let of_file = |name: &str| match survival {
            Survival::Nothing => Survival::Nothing,
            _ if name.starts_with("MANIFEST") => Survival::Begun,
            survival => survival,
        };
        self.tree(
            "",
            ROOT,
            &mut |name, file| file.remains(of_file(name), &mut dice.borrow_mut()),
            &mut |folder| folder.remains(survival, &mut dice.borrow_mut()),
        )
    }

    fn tree(
        &self,
        name: &str,
        node: Node,
        bytes: &mut impl FnMut(&str, &Layers<Bytes>) -> Bytes,
        names: &mut impl FnMut(&Layers<Names>) -> Names,
    ) -> Tree {
        if let Some(file) = self.files.get(&node) {
            return Tree::File(bytes(name, file).0);
        }
        let below = names(&self.folders[&node]).0;
        let mut tree = BTreeMap::new();
        for (name, node) in below {
            let child = self.tree(&name, node, bytes, names);
            tree.insert(name, child);
        }
        Tree::Folder(tree)
    }
}

impl Tree {
    /// What there really is below `root`.
    pub fn read(root: &Path) -> Self {
        Disk::read(root).current()
    }

    /// Puts it below `root`, which is an empty folder or none.
    pub fn write(&self, root: &Path) {
        match self {
            Self::File(bytes) => std::fs::write(root, bytes).unwrap(),
            Self::Folder(below) => {
                std::fs::create_dir_all(root).unwrap();
                below.iter().for_each(|(name, tree)| tree.write(&root.join(name)));
            }
        }
    }

    /// The files and folders that are not as in `other`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (Self::Folder(ours), Self::Folder(theirs)) = (self, other) else {
            return if self == other { Vec::new() } else { vec![String::new()] };
        };
        let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let differences =
            names.into_iter().flat_map(|name| match (ours.get(name), theirs.get(name)) {
                (Some(ours), Some(theirs)) => ours
                    .differences(theirs)
                    .into_iter()
                    .map(|below| format!("{name}/{below}"))
                    .collect(),
                _ => vec![format!("{name} (there and not there)")],
            });
        differences.collect()
    }
}

fn inode_of(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path).unwrap())
}
