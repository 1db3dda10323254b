//! The preloaded library: compiled from `recorder.c`, given to a command, and asked how much
//! it has noted.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::journal::{self, Entry, Position};
use crate::preload;

/// Compiles the library into `folder`.
pub fn library(folder: &Path) -> PathBuf {
    preload::compile(Path::new("tests/power/recorder.c"), folder)
}

/// A disk that is recorded, and the journal about it.
#[derive(Clone)]
pub struct Recording {
    pub root: PathBuf,
    pub journal: PathBuf,
}

impl Recording {
    /// Makes `command` note what it does below the root. A sync takes `sync_micros`.
    pub fn of(&self, mut command: Command, library: &Path, sync_micros: u64) -> Command {
        command
            .env("LD_PRELOAD", library)
            .env("POWER_ROOT", &self.root)
            .env("POWER_JOURNAL", &self.journal)
            .env("POWER_SYNC_MICROS", sync_micros.to_string());
        command
    }

    /// Where the journal ends at this moment.
    pub fn position(&self) -> Position {
        std::fs::metadata(&self.journal).unwrap().len()
    }

    pub fn entries(&self) -> Vec<Entry> {
        journal::read(&self.journal)
    }
}
