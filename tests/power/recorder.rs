//! The recorder, compiled and preloaded into a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::preload::compile;
use crate::process::onced;

/// The compiled library.
pub struct Recorder {
    library: PathBuf,
    _dir: TempDir,
}

impl Recorder {
    /// Compiles it.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { library: compile(Path::new("tests/power/recorder.c"), dir.path()), _dir: dir }
    }

    /// The server, which writes down in `journal` what it does below `root`.
    pub fn record(&self, root: &Path, journal: &Path) -> Command {
        let mut command = onced();
        command
            .env("LD_PRELOAD", &self.library)
            .env("ONCED_TEST_RECORD_ROOT", root)
            .env("ONCED_TEST_RECORD_JOURNAL", journal);
        command
    }
}
