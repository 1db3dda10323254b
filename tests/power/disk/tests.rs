//! The disk itself, on changes made by hand: what must survive does, and what need not, may not.

use super::*;

const LOG: u64 = 7;
const FOLDER: u64 = 8;

fn empty() -> Disk {
    let mut disk = Disk::of(&Image::from([(String::new(), None), ("/data".into(), None)]));
    disk.apply(Change::Opened { path: "/data".into(), file: FOLDER });
    disk
}

fn create(disk: &mut Disk, name: &str) {
    disk.apply(Change::Created { path: format!("/data/{name}"), file: LOG });
}

fn append(disk: &mut Disk, at: usize, text: &str) {
    disk.apply(Change::Written { file: LOG, at, bytes: text.into() });
}

fn sync(disk: &mut Disk, file: u64) {
    disk.apply(Change::Syncing { file, sync: 1 });
    disk.apply(Change::Synced { sync: 1 });
}

/// What a strict cut leaves in the folder.
fn left(disk: &Disk) -> Vec<(String, String)> {
    let image = disk.cut(Cut::Strict, &mut Dice(0));
    let files = image.into_iter().filter_map(|(path, bytes)| Some((path, bytes?)));
    files.map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
}

fn log(content: &str) -> Vec<(String, String)> {
    vec![("/data/log".to_owned(), content.to_owned())]
}

#[test]
fn what_was_synced_is_left_and_nothing_else() {
    let mut disk = empty();
    create(&mut disk, "log");
    append(&mut disk, 0, "paid");
    sync(&mut disk, FOLDER);
    assert_eq!(left(&disk), log(""));
    sync(&mut disk, LOG);
    append(&mut disk, 4, " twice");
    assert_eq!(left(&disk), log("paid"));
    assert_eq!(disk.current()["/data/log"].as_deref(), Some(&b"paid twice"[..]));
}

#[test]
fn a_sync_covers_what_came_before_it_began() {
    let mut disk = empty();
    create(&mut disk, "log");
    sync(&mut disk, FOLDER);
    append(&mut disk, 0, "before");
    disk.apply(Change::Syncing { file: LOG, sync: 5 });
    append(&mut disk, 6, " meanwhile");
    assert_eq!(left(&disk), log(""), "it has not returned");
    disk.apply(Change::Synced { sync: 5 });
    assert_eq!(left(&disk), log("before"));
}

#[test]
fn a_name_is_durable_with_its_folder() {
    let mut disk = empty();
    create(&mut disk, "log.tmp");
    append(&mut disk, 0, "paid");
    sync(&mut disk, LOG);
    assert_eq!(left(&disk), []);
    sync(&mut disk, FOLDER);
    disk.apply(Change::Renamed { from: "/data/log.tmp".into(), to: "/data/log".into() });
    assert_eq!(left(&disk), [("/data/log.tmp".to_owned(), "paid".to_owned())]);
    sync(&mut disk, FOLDER);
    assert_eq!(left(&disk), log("paid"));
    disk.apply(Change::Unlinked { path: "/data/log".into() });
    assert_eq!(left(&disk), log("paid"));
    sync(&mut disk, FOLDER);
    assert_eq!(left(&disk), []);
}

#[test]
fn a_folder_takes_with_it_what_it_holds() {
    let mut disk = Disk::of(&Image::from([(String::new(), None)]));
    disk.apply(Change::Opened { path: String::new(), file: 1 });
    disk.apply(Change::FolderMade { path: "/data".into() });
    disk.apply(Change::Opened { path: "/data".into(), file: FOLDER });
    create(&mut disk, "log");
    sync(&mut disk, FOLDER);
    assert_eq!(left(&disk), []);
    sync(&mut disk, 1);
    assert_eq!(left(&disk), log(""));
}

#[test]
fn a_number_that_is_used_again_is_another_file() {
    let mut disk = empty();
    create(&mut disk, "log");
    append(&mut disk, 0, "first");
    sync(&mut disk, LOG);
    sync(&mut disk, FOLDER);
    disk.apply(Change::Unlinked { path: "/data/log".into() });
    create(&mut disk, "other");
    append(&mut disk, 0, "second");
    sync(&mut disk, LOG);
    assert_eq!(left(&disk), log("first"));
}

#[test]
fn a_ragged_cut_keeps_all_that_was_synced_and_any_part_of_the_rest() {
    let mut disk = empty();
    create(&mut disk, "log");
    append(&mut disk, 0, "paid");
    sync(&mut disk, LOG);
    sync(&mut disk, FOLDER);
    append(&mut disk, 4, &"x".repeat(3 * SECTOR));
    disk.apply(Change::Created { path: "/data/more".into(), file: 9 });

    let cuts = (0..200).map(|seed| disk.cut(Cut::Ragged, &mut Dice(seed)));
    let mut kinds = [0; 4];
    for image in cuts {
        let content = image["/data/log"].as_deref().unwrap();
        assert_eq!(&content[..4], b"paid");
        kinds[0] += usize::from(content.len() == 4);
        kinds[1] += usize::from(content.len() == 4 + 3 * SECTOR && !content.contains(&0));
        kinds[2] += usize::from(content.contains(&0));
        kinds[3] += usize::from(image.contains_key("/data/more"));
    }
    assert!(kinds.iter().all(|kind| (5..195).contains(kind)), "{kinds:?}");
}
