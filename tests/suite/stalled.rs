//! A store that stays in recovery for as long as a test likes.
//!
//! RocksDB reads the file `CURRENT` first; here it is a pipe, which can be read to its end only
//! once the test has written to it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onced::clock::SystemClock;
use onced::storage::StoreOptions;
use onced::storage::rocks::RocksEngine;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// An empty store that can be opened so far and no further.
pub struct StalledStore {
    dir: TempDir,
    current: Vec<u8>,
}

impl StalledStore {
    /// A store that waits to be opened.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("CURRENT");
        let clock = Arc::new(SystemClock::new());
        drop(RocksEngine::open(dir.path(), clock, &StoreOptions::default()).unwrap());
        let current = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Self { dir, current }
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until the store is being opened. It is open some time after the answer is dropped.
    pub async fn is_being_opened(&self) -> Recovering<'_> {
        let path = self.dir.path().join("CURRENT");
        let (opened, is_open) = oneshot::channel();
        // A pipe can be opened for writing once somebody reads. Not on the runtime: where nobody
        // ever does, the test is to fail and not to wait.
        std::thread::spawn(move || opened.send(File::options().write(true).open(path).unwrap()));
        let pipe = tokio::time::timeout(Duration::from_secs(60), is_open).await.unwrap().unwrap();
        Recovering { store: self, pipe }
    }
}

/// A recovery that goes on when this is dropped.
pub struct Recovering<'a> {
    store: &'a StalledStore,
    pipe: File,
}

impl Drop for Recovering<'_> {
    fn drop(&mut self) {
        let (path, real) =
            (self.store.dir.path().join("CURRENT"), self.store.dir.path().join("CURRENT.real"));
        fs::write(&real, &self.store.current).unwrap();
        fs::rename(real, path).unwrap();
        // RocksDB opens it more than once. Between two times nobody reads from the pipe, and the
        // next one finds the file.
        match self.pipe.write_all(&self.store.current) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
            _ => {}
        }
    }
}
