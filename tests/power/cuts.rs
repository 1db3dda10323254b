//! The lives of one store: each is a server under load from its start to its orderly end, on
//! what a cut left of the life before; and cuts at chosen points of each life.
//!
//! One life stands for every life that is cut off within it: the journal says what the disk
//! had been promised at any point. So no server is killed, and each one serves for many cuts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::book::Book;
use crate::dice::Dice;
use crate::disk::{Disk, Tree};
use crate::journal::{Entry, Operation, Position};
use crate::layers::Survival;
use crate::load::Load;
use crate::process::{Process, onced};
use crate::recorder::{Recording, library};
use crate::survival;

/// Memtables so small that they are flushed all the time; and no grace, so that leases are after
/// the cut what they were before.
const SETTINGS: [&str; 6] =
    ["--memtable-bytes", "256KiB", "--restart-grace", "0s", "--drain-grace", "0s"];

/// A store that lives through power cuts.
pub struct Store {
    dir: TempDir,
    library: PathBuf,
    dice: Dice,
    lives: u64,
    /// What the latest cut left, and what is true about it.
    left: Tree,
    book: Book,
    pub counted: Counted,
}

/// How often stores were attacked.
#[derive(Default)]
pub struct Counted {
    /// Cuts, by what survived.
    pub cuts: [usize; 3],
    /// Answers that had to be true, over all those cuts.
    pub answers: [usize; 3],
    /// Tables that were written in the lives that were cut, and logs that were written over.
    pub tables: usize,
    pub recycled_logs: usize,
}

/// What a server did from its start to its end.
pub struct Life {
    before: Disk,
    entries: Vec<Entry>,
    book: Arc<Book>,
}

pub const SURVIVALS: [Survival; 3] = [Survival::Nothing, Survival::InOrder, Survival::Any];

impl Store {
    /// A disk without anything on it. Equal seeds make equal choices.
    pub fn new(seed: u64) -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            library: library(dir.path()),
            dir,
            dice: Dice(seed),
            lives: 0,
            left: Tree::Folder(Default::default()),
            book: Book::default(),
            counted: Counted::default(),
        }
    }

    /// Begins with an empty disk again.
    pub fn forget(&mut self) {
        self.left = Tree::Folder(Default::default());
        self.book = Book::default();
    }

    /// Where the server keeps its data on a disk at `root`: the folder above is not there yet
    /// either when the first server starts.
    fn data(root: &Path) -> PathBuf {
        root.join("var").join("onced")
    }

    /// Lets a server work until so many answers have arrived, and end in good order. Responses
    /// have up to so many bytes.
    pub async fn live(&mut self, answers: u32, bytes: u64) -> Life {
        self.lives += 1;
        let folder = self.dir.path().canonicalize().unwrap().join(format!("life-{}", self.lives));
        let recording = Recording { root: folder.join("disk"), journal: folder.join("journal") };
        self.left.write(&recording.root);
        let before = Disk::read(&recording.root);

        // Slow disks give wrong answers time to leave, fast ones give batches time to queue.
        let sync_micros = 100 + self.dice.below(2_000);
        let command = recording.of(onced(), &self.library, sync_micros);
        let server = Process::start(command, &Self::data(&recording.root), &SETTINGS);
        let opened_at = recording.position();
        let book = (std::mem::take(&mut self.book), self.lives);
        let stop = || server.signal(Signal::TERM);
        let load = Load { answers, bytes, dice: Dice(self.dice.roll()) };
        let worked = load.work(server.address, &recording, book, stop).await;
        if worked.is_err() {
            server.signal(Signal::TERM);
        }
        let (status, log) = server.wait();
        let book = worked.unwrap_or_else(|failed| panic!("{failed:?}: {status}, {log}"));
        assert_eq!(status.code(), Some(0), "{log}");

        let entries = recording.entries();
        let mut disk = before.clone();
        entries.iter().for_each(|entry| disk.apply(&entry.operation));
        let differences = disk.current().differences(&Tree::read(&recording.root));
        assert_eq!(differences, [""; 0], "the recorder missed something");
        self.counted.tables += count(&entries, |it| match it {
            Operation::Created { path, .. } => path.ends_with(".sst"),
            _ => false,
        });
        self.counted.recycled_logs += count(&entries, |it| match it {
            Operation::Renamed { from, .. } => from.ends_with(".log"),
            _ => false,
        });
        println!(
            "life {}: {} answers, {} overheard, {} operations, {} MiB, syncs of {sync_micros} µs, opened at \
             {opened_at}",
            self.lives,
            book.answered().len(),
            book.overheard().len(),
            entries.len(),
            recording.position() >> 20,
        );
        std::fs::remove_dir_all(folder).unwrap();
        Life { before, entries, book: Arc::new(book) }
    }

    /// Cuts a life off at so many points, and goes on with what one of them left.
    pub async fn cut(&mut self, life: &Life, cuts: usize) {
        let mut points: Vec<Position> = (0..cuts).map(|_| life.point(&mut self.dice)).collect();
        points.sort_unstable();
        // Early cuts leave little to inherit.
        let heir = cuts / 2 + self.dice.below(cuts.div_ceil(2) as u64) as usize;
        let mut disk = life.before.clone();
        let mut entries = life.entries.iter().peekable();
        for (number, point) in points.into_iter().enumerate() {
            while let Some(entry) = entries.next_if(|entry| entry.end <= point) {
                disk.apply(&entry.operation);
            }
            let which = (number + self.lives as usize) % SURVIVALS.len();
            let left = disk.remains(SURVIVALS[which], &mut self.dice);
            let answers = life.book.answered_by(point);
            println!(
                "cut at {point}: {:?} of the unsynced survives, {answers} answers",
                SURVIVALS[which]
            );
            self.check(&left, &life.book, point).await;
            self.counted.cuts[which] += 1;
            self.counted.answers[which] += answers;
            if number == heir {
                (self.left, self.book) = (left, life.book.kept(point));
            }
        }
    }

    /// Cuts a life off where its first answer had just arrived; only what was synced survives.
    pub async fn cut_at_first_answer(&mut self, life: &Life) {
        let first = life.book.answered()[0];
        let mut disk = life.before.clone();
        for entry in life.entries.iter().filter(|entry| entry.end <= first) {
            disk.apply(&entry.operation);
        }
        let left = disk.remains(Survival::Nothing, &mut self.dice);
        self.check(&left, &life.book, first).await;
    }

    /// A server on what is left, and every answer that had arrived by the cut.
    async fn check(&mut self, left: &Tree, book: &Arc<Book>, cut: Position) {
        let root = self.dir.path().join("cut");
        left.write(&root);
        let server = Process::serve(&Self::data(&root), &SETTINGS);
        survival::check(server.address, book, cut, &mut self.dice).await;
        drop(server);
        std::fs::remove_dir_all(root).unwrap();
    }
}

fn count(entries: &[Entry], wanted: impl Fn(&Operation) -> bool) -> usize {
    entries.iter().filter(|entry| wanted(&entry.operation)).count()
}

impl Life {
    /// A point to cut it off: where an answer has just arrived, perhaps of one who was told of
    /// what another did; beside an operation that has to do with durability; before the first answer, after the last, or anywhere.
    fn point(&self, dice: &mut Dice) -> Position {
        let mut one_of = |points: &[Position]| match points.len() as u64 {
            0 => 0,
            many => points[dice.below(many) as usize],
        };
        let answered = self.book.answered();
        let ends = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<Position> {
            self.entries.iter().filter(|entry| wanted(entry)).map(|entry| entry.end).collect()
        };
        let (first, last) = (answered.first().copied(), answered.last().copied());
        match one_of(&[0, 0, 1, 2, 2, 3, 4, 5, 5, 5]) {
            0 => one_of(&answered),
            1 => one_of(&ends(&|entry| Some(entry.end) < first)),
            2 => one_of(&ends(&|entry| !matches!(entry.operation, Operation::Written { .. }))),
            3 => one_of(&ends(&|entry| {
                !matches!(
                    entry.operation,
                    Operation::Written { .. }
                        | Operation::SyncBegan { .. }
                        | Operation::SyncEnded { .. }
                )
            })),
            4 => one_of(&ends(&|entry| Some(entry.end) > last)),
            5 => one_of(&self.book.overheard()),
            _ => unreachable!("these are all"),
        }
    }
}
