//! Backups: what is known of one, where they are kept, and why one was not made. How an engine
//! makes them is its own business: see `rocks/backup.rs`.

use std::path::PathBuf;

use super::EngineError;
use crate::domain::Moment;

/// Where backups are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// The directory, on the server's machine. Whoever asks for a backup does not choose it.
    pub dir: PathBuf,
    /// How many backups are kept, at least one: when there is one more, the oldest goes.
    pub keep: usize,
}

/// One backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its number; later backups have higher ones.
    pub id: u32,
    /// When it was made, on the clock of the machine and in whole seconds; `None` where that
    /// cannot be read.
    pub made_at: Option<Moment>,
    /// How many bytes it has, those included that it shares with other backups.
    pub bytes: u64,
    /// How many files it has.
    pub files: u32,
    /// Whether a file of it is missing. What else may be wrong with it shows when it is read.
    pub damaged: bool,
}

/// Why there is no backup. Nothing that is half-made ever counts as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Nobody said where to keep them, or the engine keeps nothing on disk.
    #[error("the server makes no backups: backup_dir is off")]
    Off,
    /// One is being made.
    #[error("another backup is being made")]
    Busy,
    /// The disk would become too full.
    #[error(
        "the disk of the backups has {free_bytes} bytes to spare, and this one may take {needed_bytes}"
    )]
    NoRoom {
        /// How many bytes it may take at most.
        needed_bytes: u64,
        /// How many there are, less what the store itself needs where it is the same disk.
        free_bytes: u64,
    },
    /// It could not be written.
    #[error("the backup could not be written: {cause}")]
    Failed {
        /// What the storage library or the system says.
        cause: String,
    },
    /// The engine answers nothing.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
