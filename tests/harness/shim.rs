//! The switches of shim.c, and servers that obey them.

// Each test binary takes the part that it needs.
#![allow(dead_code)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::preload::compile;
use crate::process::{onced, without_settings};

/// No space left on the device, an I/O error, a file system that has become read-only.
pub const ENOSPC: i64 = 28;
pub const EIO: i64 = 5;
pub const EROFS: i64 = 30;

/// One set of switches, for one server after another.
pub struct Shim {
    library: PathBuf,
    switches: File,
    dir: TempDir,
}

impl Shim {
    /// Everything is in order.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let library = compile(Path::new("tests/harness/shim.c"), dir.path());
        let switches = dir.path().join("switches");
        let options = File::options().create_new(true).read(true).write(true).open(&switches);
        let shim = Self { library, switches: options.unwrap(), dir };
        shim.switches.set_len(40).unwrap();
        shim
    }

    /// A server that obeys.
    pub fn onced(&self) -> Command {
        self.preload(onced())
    }

    /// Another build of it.
    pub fn preloaded_into(&self, binary: &Path) -> Command {
        self.preload(without_settings(Command::new(binary)))
    }

    fn preload(&self, mut command: Command) -> Command {
        let switches = self.dir.path().join("switches");
        command.env("LD_PRELOAD", &self.library).env("ONCED_TEST_FAULTS", switches);
        command
    }

    /// Every write to a file fails with this number; 0 for none.
    pub fn fail_writes(&self, error: i64) {
        self.set(0, error);
    }

    /// Every sync of a file fails with this number; 0 for none.
    pub fn fail_syncs(&self, error: i64) {
        self.set(1, error);
    }

    /// Syncs take as long as this is true.
    pub fn stall_syncs(&self, stalled: bool) {
        self.set(2, stalled.into());
    }

    /// The clock is this far ahead of the real one.
    pub fn set_clock(&self, seconds: i64) {
        self.set(3, seconds);
    }

    /// How many calls failed.
    pub fn failed(&self) -> i64 {
        let mut bytes = [0; 8];
        self.switches.read_exact_at(&mut bytes, 32).unwrap();
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, number: u64, value: i64) {
        self.switches.write_all_at(&value.to_ne_bytes(), number * 8).unwrap();
    }
}
