//! The model of a disk, on journals made by hand; and the recorder, on everything that it says
//! it understands.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::dice::Dice;
use crate::disk::{Disk, Tree};
use crate::journal::Operation;
use crate::layers::Survival;
use crate::recorder::{Recording, library};

const FOLDER: u64 = 1_000_001;
const FILE: u64 = 1_000_002;
const OTHER: u64 = 1_000_003;

fn created(path: &str, inode: u64) -> Operation {
    Operation::Created { path: path.into(), inode }
}

fn written(inode: u64, at: usize, data: &str) -> Operation {
    Operation::Written { inode, at, data: data.to_owned().into() }
}

fn renamed(from: &str, to: &str) -> Operation {
    Operation::Renamed { from: from.into(), to: to.into() }
}

fn began(inode: u64, ticket: u64) -> Operation {
    Operation::SyncBegan { inode, ticket }
}

fn ended(ticket: u64) -> Operation {
    Operation::SyncEnded { ticket }
}

/// A disk whose folder `data` is durable, and on which this was done below it.
fn below(operations: impl IntoIterator<Item = Operation>) -> Disk {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let mut disk = Disk::read(dir.path());
    let (folder, _) = disk.folder_of("data/file");
    disk.inodes.insert(FOLDER, folder);
    operations.into_iter().for_each(|operation| disk.apply(&operation));
    disk
}

/// What a cut leaves when nothing survives that was not synced.
fn left(disk: &Disk) -> Tree {
    disk.remains(Survival::Nothing, &mut Dice(0))
}

/// The file at `path`; `None` where its name is gone.
fn text(tree: &Tree, path: &str) -> Option<String> {
    let file = path.split('/').try_fold(tree, |tree, name| match tree {
        Tree::Folder(below) => below.get(name),
        Tree::File(_) => None,
    })?;
    let Tree::File(bytes) = file else { return None };
    Some(String::from_utf8(bytes.clone()).unwrap())
}

/// Everything that can be left of one file, over many cuts.
fn all_left(disk: &Disk, survival: Survival, path: &str) -> BTreeSet<Option<String>> {
    let mut dice = Dice(1);
    (0..2_000).map(|_| text(&disk.remains(survival, &mut dice), path)).collect()
}

fn all(texts: &[Option<&str>]) -> BTreeSet<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn a_sync_keeps_what_was_written_before_it_began() {
    let mut disk = below([
        created("data/file", FILE),
        began(FOLDER, 1),
        ended(1),
        written(FILE, 0, "early"),
        began(FILE, 2),
        written(FILE, 5, " late"),
    ]);
    assert_eq!(text(&left(&disk), "data/file").as_deref(), Some(""), "it has not ended");
    disk.apply(&ended(2));
    assert_eq!(text(&left(&disk), "data/file").as_deref(), Some("early"));
    assert_eq!(text(&disk.current(), "data/file").as_deref(), Some("early late"));
}

#[test]
fn a_sync_of_a_file_does_not_keep_its_name() {
    let disk =
        below([created("data/file", FILE), written(FILE, 0, "text"), began(FILE, 1), ended(1)]);
    assert_eq!(text(&left(&disk), "data/file"), None);
    assert_eq!(text(&disk.current(), "data/file").as_deref(), Some("text"));
}

#[test]
fn a_folder_whose_own_name_was_not_synced_is_lost_with_everything_in_it() {
    let mut disk = Disk::read(TempDir::new().unwrap().path());
    let all_synced = [
        Operation::MadeFolder { path: "data".into(), inode: FOLDER },
        created("data/file", FILE),
        began(FOLDER, 1),
        ended(1),
        written(FILE, 0, "text"),
        began(FILE, 2),
        ended(2),
    ];
    all_synced.iter().for_each(|operation| disk.apply(operation));
    assert_eq!(text(&disk.current(), "data/file").as_deref(), Some("text"));
    assert_eq!(left(&disk), Tree::Folder(Default::default()));
}

#[test]
fn a_rename_happens_or_does_not_and_what_it_replaced_comes_back() {
    let mut disk = below([
        created("data/file", FILE),
        created("data/other", OTHER),
        written(FILE, 0, "file"),
        written(OTHER, 0, "other"),
        began(FILE, 1),
        ended(1),
        began(OTHER, 2),
        ended(2),
        began(FOLDER, 3),
        ended(3),
        renamed("data/file", "data/other"),
    ]);
    assert_eq!(text(&left(&disk), "data/file").as_deref(), Some("file"));
    assert_eq!(text(&left(&disk), "data/other").as_deref(), Some("other"));
    for survival in [Survival::InOrder, Survival::Any] {
        let names = all_left(&disk, survival, "data/other");
        assert_eq!(names, all(&[Some("file"), Some("other")]));
    }
    disk.apply(&began(FOLDER, 4));
    disk.apply(&ended(4));
    assert_eq!(text(&left(&disk), "data/file"), None);
    assert_eq!(text(&left(&disk), "data/other").as_deref(), Some("file"));
}

#[test]
fn a_file_that_was_unlinked_comes_back_with_what_was_synced_though_its_inode_is_used_again() {
    let disk = below([
        created("data/file", FILE),
        written(FILE, 0, "old"),
        began(FILE, 1),
        ended(1),
        began(FOLDER, 2),
        ended(2),
        Operation::Unlinked { path: "data/file".into() },
        created("data/other", FILE),
        written(FILE, 0, "something else"),
        began(FILE, 3),
        ended(3),
    ]);
    assert_eq!(text(&left(&disk), "data/file").as_deref(), Some("old"));
    assert_eq!(text(&left(&disk), "data/other"), None);
}

#[test]
fn lengths_are_kept_with_the_bytes() {
    let disk = below([
        created("data/file", FILE),
        began(FOLDER, 1),
        ended(1),
        written(FILE, 0, "twelve bytes"),
        Operation::Truncated { inode: FILE, to: 6 },
        Operation::Extended { inode: FILE, to: 8 },
        Operation::Extended { inode: FILE, to: 2 },
        began(FILE, 2),
        ended(2),
        Operation::Truncated { inode: FILE, to: 0 },
    ]);
    assert_eq!(text(&left(&disk), "data/file").as_deref(), Some("twelve\0\0"));
    assert_eq!(text(&disk.current(), "data/file").as_deref(), Some(""));
}

#[test]
fn of_what_was_not_synced_the_first_part_or_any_part_survives() {
    let disk = below([
        created("data/file", FILE),
        began(FOLDER, 1),
        ended(1),
        written(FILE, 0, "a"),
        written(FILE, 1, "b"),
    ]);
    let in_order = all(&[Some(""), Some("a"), Some("ab"), Some("\0"), Some("a\0")]);
    assert_eq!(all_left(&disk, Survival::InOrder, "data/file"), in_order);
    let mut any = in_order;
    any.extend(all(&[Some("\0b"), Some("\0\0")]));
    assert_eq!(all_left(&disk, Survival::Any, "data/file"), any);
}

#[test]
fn a_torn_write_is_torn_between_sectors() {
    let disk = below([
        created("data/file", FILE),
        began(FOLDER, 1),
        ended(1),
        written(FILE, 0, &"-".repeat(1_500)),
        began(FILE, 2),
        ended(2),
        written(FILE, 500, &"x".repeat(700)),
    ]);
    let sectors = [(500, 512), (512, 1_024), (1_024, 1_200)];
    let mut found = BTreeSet::new();
    for text in all_left(&disk, Survival::Any, "data/file").into_iter().flatten() {
        assert_eq!(text.len(), 1_500);
        assert_eq!(text[..500].trim_matches('-'), "");
        assert_eq!(text[1_200..].trim_matches('-'), "");
        found.insert(sectors.map(|(from, to)| {
            let sector = &text[from..to];
            let is_written = sector.starts_with('x');
            let text = if is_written { "x" } else { "-" };
            assert_eq!(sector, text.repeat(to - from), "{from}");
            is_written
        }));
    }
    assert_eq!(found.len(), 8, "every combination is met: {found:?}");
}

#[test]
fn the_recorder_misses_nothing_that_a_program_does_to_its_files() {
    let dir = TempDir::new().unwrap();
    let exercise = dir.path().join("exercise");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/exercise.c");
    let compiled = Command::new("cc").arg("-o").args([&exercise, &source]).status();
    assert!(compiled.expect("cc is there").success());
    let (disk, real) = recorded(dir.path(), |root| {
        let mut command = Command::new(&exercise);
        command.arg(root);
        command
    });
    assert_eq!(disk.current().differences(&real), [""; 0]);
    assert!(text(&real, "data/renamed").is_some(), "it ended early: {real:?}");
    // Everything in the folder was synced but the last names and bytes; and nothing synced the
    // name of the folder.
    assert_eq!(left(&disk), Tree::Folder(Default::default()));
}

/// What the model says about a program that runs in a folder of its own, and what is there.
fn recorded(dir: &Path, command: impl FnOnce(&Path) -> Command) -> (Disk, Tree) {
    let dir = dir.canonicalize().unwrap();
    let recording = Recording { root: dir.join("disk"), journal: dir.join("journal") };
    std::fs::create_dir(&recording.root).unwrap();
    let mut disk = Disk::read(&recording.root);
    let status = recording.of(command(&recording.root), &library(&dir), 0).status().unwrap();
    assert!(status.success(), "{status}");
    recording.entries().iter().for_each(|entry| disk.apply(&entry.operation));
    (disk, Tree::read(&recording.root))
}
