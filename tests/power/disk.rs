//! A disk that forgets: what a folder held, what was done to it, and what is left of that
//! after a power cut.
//!
//! A sync makes durable what was done to its file before it began; a sync of a folder, the
//! names in it. That is all that POSIX grants: the name of a file that was just created, or
//! a rename, is gone unless its folder was synced, however well the file itself was. Real file
//! systems are kinder, and a disk may keep more than it has to: a cut leaves either nothing
//! else, or any part of it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::dice::Dice;
use crate::journal::Change;

/// What lies in a folder, by path; `None` for folders.
pub type Image = BTreeMap<String, Option<Vec<u8>>>;

/// Everything below `root`.
pub fn image_of(root: &Path) -> Image {
    fn add(folder: &Path, name: &str, image: &mut Image) {
        image.insert(name.to_owned(), None);
        for entry in fs::read_dir(folder).unwrap() {
            let (path, file) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
            let name = format!("{name}/{}", file.to_str().unwrap());
            if path.is_dir() {
                add(&path, &name, image);
            } else {
                image.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut image = Image::new();
    add(root, "", &mut image);
    image
}

/// Makes `root` hold `image`.
pub fn write_out(image: &Image, root: &Path) {
    for (name, content) in image {
        let path = root.join(name.trim_start_matches('/'));
        match content {
            None => fs::create_dir(path).unwrap(),
            Some(bytes) => fs::write(path, bytes).unwrap(),
        }
    }
}

/// What a cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Strict,
    /// The names in their order up to some moment; of each file any of the changes, as a disk
    /// that reorders has it, the sectors of a write one by one.
    Ragged,
}

const SECTOR: usize = 512;

pub struct Disk {
    nodes: Vec<Node>,
    /// The file or folder that a number of the file system stands for.
    numbers: HashMap<u64, usize>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<(u64, Naming)>,
    /// Syncs that have not returned: of what, and since when.
    syncing: HashMap<u64, (usize, u64)>,
    /// Counts changes.
    at: u64,
}

/// A file, or a folder, of which only the path matters.
struct Node {
    folder: Option<String>,
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Writing)>,
}

/// A change to the content of a file.
#[derive(Clone)]
enum Writing {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
    Extend(usize),
}

/// A change to the names in one folder.
#[derive(Clone)]
enum Naming {
    Add { path: String, node: usize },
    Move { from: String, to: String, node: usize },
    Remove { path: String },
}

impl Disk {
    /// A disk that holds `image`, all of it durable.
    pub fn of(image: &Image) -> Self {
        let mut disk = Self {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            syncing: HashMap::new(),
            at: 0,
        };
        for (path, content) in image {
            let node = match content {
                None => disk.add(Some(path.clone()), Vec::new()),
                Some(bytes) => disk.add(None, bytes.clone()),
            };
            disk.names.insert(path.clone(), node);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    fn add(&mut self, folder: Option<String>, content: Vec<u8>) -> usize {
        self.nodes.push(Node { folder, durable: content.clone(), content, pending: Vec::new() });
        self.nodes.len() - 1
    }

    /// Does `change`.
    pub fn apply(&mut self, change: Change) {
        self.at += 1;
        match change {
            Change::Opened { path, file } => {
                self.numbers.insert(file, self.names[&path]);
            }
            Change::Created { path, file } => {
                let node = self.add(None, Vec::new());
                self.numbers.insert(file, node);
                self.name(Naming::Add { path, node });
            }
            Change::FolderMade { path } => {
                let node = self.add(Some(path.clone()), Vec::new());
                self.name(Naming::Add { path, node });
            }
            Change::Linked { from, to } => {
                let node = self.names[&from];
                self.name(Naming::Add { path: to, node });
            }
            Change::Renamed { from, to } => {
                assert_eq!(parent(&from), parent(&to), "a name moves to another folder");
                let node = self.names[&from];
                self.name(Naming::Move { from, to, node });
            }
            Change::Unlinked { path } | Change::FolderRemoved { path } => {
                self.name(Naming::Remove { path });
            }
            Change::Written { file, at, bytes } => self.write(file, Writing::Write { at, bytes }),
            Change::Resized { file, size } => self.write(file, Writing::Resize(size)),
            Change::Allocated { file, size } => self.write(file, Writing::Extend(size)),
            Change::Syncing { file, sync } => {
                self.syncing.insert(sync, (self.numbers[&file], self.at));
            }
            Change::Synced { sync } => {
                let (node, since) = self.syncing.remove(&sync).expect("a sync begins first");
                self.make_durable(node, since);
            }
        }
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push((self.at, naming));
    }

    fn write(&mut self, file: u64, writing: Writing) {
        let node = &mut self.nodes[self.numbers[&file]];
        writing.apply(&mut node.content);
        node.pending.push((self.at, writing));
    }

    /// What was done to `node` before the moment `since` is durable.
    fn make_durable(&mut self, node: usize, since: u64) {
        let Node { folder, durable, pending, .. } = &mut self.nodes[node];
        match folder {
            None => {
                let covered = pending.partition_point(|(at, _)| *at < since);
                for (_, writing) in pending.drain(..covered) {
                    writing.apply(durable);
                }
            }
            Some(folder) => {
                let durable_names = &mut self.durable_names;
                self.pending_names.retain(|(at, naming)| {
                    let covered = *at < since && naming.folder() == folder;
                    if covered {
                        naming.apply(durable_names);
                    }
                    !covered
                });
            }
        }
    }

    /// What a process sees that runs on.
    pub fn current(&self) -> Image {
        self.image(&self.names, |node| node.content.clone())
    }

    /// What a power cut leaves.
    pub fn cut(&self, cut: Cut, dice: &mut Dice) -> Image {
        match cut {
            Cut::Strict => self.image(&self.durable_names, |node| node.durable.clone()),
            Cut::Ragged => {
                let mut names = self.durable_names.clone();
                let kept = dice.below(self.pending_names.len() as u64 + 1) as usize;
                for (_, naming) in &self.pending_names[..kept] {
                    naming.apply(&mut names);
                }
                self.image(&names, |node| node.ragged(dice))
            }
        }
    }

    /// The files that can be reached by `names`.
    fn image(
        &self,
        names: &BTreeMap<String, usize>,
        mut content: impl FnMut(&Node) -> Vec<u8>,
    ) -> Image {
        let mut image = Image::new();
        // In the order of the paths, so that folders come before what they hold.
        for (path, node) in names {
            if path.is_empty() || image.get(parent(path)).is_some_and(Option::is_none) {
                let node = &self.nodes[*node];
                image.insert(path.clone(), node.folder.is_none().then(|| content(node)));
            }
        }
        image
    }
}

impl Node {
    fn ragged(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        let (all, until) = (dice.below(3) == 0, dice.below(self.pending.len() as u64 + 1) as usize);
        for (index, (_, writing)) in self.pending.iter().enumerate() {
            // Some files keep a prefix of their changes, others any of them.
            let kept = if all { index < until } else { dice.below(2) == 0 };
            match writing {
                _ if kept => writing.apply(&mut content),
                Writing::Write { at, bytes } if index == until => {
                    torn(*at, bytes, dice, &mut content);
                }
                _ => {}
            }
        }
        content
    }
}

/// Some of the sectors of a write.
fn torn(at: usize, bytes: &[u8], dice: &mut Dice, content: &mut Vec<u8>) {
    let mut from = 0;
    while from < bytes.len() {
        let until = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
        if dice.below(2) == 0 {
            let bytes = bytes[from..until].to_vec();
            Writing::Write { at: at + from, bytes }.apply(content);
        }
        from = until;
    }
}

impl Writing {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let until = at + bytes.len();
                if content.len() < until {
                    content.resize(until, 0);
                }
                content[*at..until].copy_from_slice(bytes);
            }
            Self::Resize(size) => content.resize(*size, 0),
            Self::Extend(size) => content.resize(content.len().max(*size), 0),
        }
    }
}

impl Naming {
    fn folder(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Remove { path } => parent(path),
            Self::Move { to, .. } => parent(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Move { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').expect("paths begin with a slash").0
}

#[cfg(test)]
mod tests;
