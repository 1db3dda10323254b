//! The recorder, compiled and preloaded into a server. RocksDB needs a C compiler, so there is
//! one wherever these tests are.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::onced;

/// The compiled library.
pub struct Recorder {
    dir: TempDir,
}

impl Recorder {
    /// Compiles it.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/recorder.c");
        let recorder = Self { dir };
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
            .arg(recorder.library())
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("cc is there");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        recorder
    }

    /// The server, which writes down in `journal` what it does below `root`.
    pub fn record(&self, root: &Path, journal: &Path) -> Command {
        let mut command = onced();
        command
            .env("LD_PRELOAD", self.library())
            .env("ONCED_TEST_RECORD_ROOT", root)
            .env("ONCED_TEST_RECORD_JOURNAL", journal);
        command
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("recorder.so")
    }
}
