//! Libraries in C that are preloaded into a server. RocksDB needs a C compiler, so there is one
//! wherever these tests are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source`, a path in this repository, into `folder`.
pub fn compile(source: &Path, folder: &Path) -> PathBuf {
    let library = folder.join("preload.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source))
        .args(["-ldl", "-lpthread"])
        .output()
        .expect("cc is there");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}
