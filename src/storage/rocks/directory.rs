//! The data directory itself: made, with its name on the disk, before anything is kept in it.
//!
//! RocksDB would create it too, and syncs the names in it. But a folder is reached by its own
//! name, which lies in its parent: where that was never synced, a power cut can take the whole
//! store and everything that was acknowledged from it.
//!
//! And RocksDB takes a directory without the file CURRENT for an empty one, whatever else lies
//! in it: a store that has lost that file would begin anew, and forget what it has answered.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::storage::OpenError;

/// The folder within a data directory that a backup is restored in.
pub const RESTORING: &str = "restoring";

/// Makes sure that the directory at `path` is there and stays there, and that it holds a whole
/// store or none.
pub fn make(path: &Path) -> Result<(), OpenError> {
    let fault = std::path::absolute(path).and_then(|absolute| {
        make_durably(&absolute)?;
        if absolute.join(RESTORING).try_exists()? {
            return Ok(Some("a restore into it was cut short"));
        }
        Ok(is_beheaded(&absolute)?.then_some("its file CURRENT is missing"))
    });
    let path = path.to_owned();
    match fault {
        Ok(None) => Ok(()),
        Ok(Some(cause)) => Err(OpenError::Damaged { path, cause: cause.into() }),
        Err(error) => Err(OpenError::Unavailable { path, cause: error.to_string() }),
    }
}

/// Whether there are logs or tables, and nothing that leads to them. A creation that was cut
/// short leaves neither: CURRENT comes before both.
fn is_beheaded(path: &Path) -> io::Result<bool> {
    if path.join("CURRENT").try_exists()? {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|it| it == "sst" || it == "log") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the directory at `path`, which is absolute, and all that lead to it, each with its name
/// on the disk.
pub fn make_durably(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match fs::create_dir(path) {
        Ok(()) => sync(parent),
        // It may be there since a start that was killed before this sync.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            match sync(parent) {
                // Then it was somebody else who made it, and who answers for it.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_durably(parent)?;
            make_durably(path)
        }
        Err(error) => Err(error),
    }
}

/// Puts the names in `folder` on the disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_with_all_that_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/lib/onced");
        make(&path).unwrap();
        assert!(path.is_dir());
        make(&path).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.clone(), path.join("data")] {
            let error = make(&path).unwrap_err();
            assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
        }
    }
}
