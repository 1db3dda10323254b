//! How much room the disk under the store has, looked at now and then, and what is refused where
//! it has too little.
//!
//! # Why in two steps
//!
//! Whoever reserves can be told to come back later: nothing has been done. Whoever completes,
//! renews or releases has a reservation already, and the work of an owner should not have to
//! wait for a disk. So reservations are refused early, and the room that is left by then is kept
//! for those who were granted one. Only where that is nearly gone too, and RocksDB would fail
//! to write its tables, results and checkpoints are refused as well: that is certain to have not
//! happened, and the same call is taken once there is room, where a failed write would poison
//! the engine. What gives room back or takes next to none is never refused: releases, deletes and
//! the sweeper's work.

use std::path::{Path, PathBuf};

use tracing::warn;

use crate::domain::{Command, Moment, Span};

/// For how long a lack of room is remembered: what a compaction has written is gone once it has
/// failed, and then there is room again.
const REMEMBERED: Span = Span::from_secs(30);

/// How often the disk is looked at: what is written in between is a few megabytes at most.
const INTERVAL: Span = Span::from_millis(50);

/// How much of the room is kept for owners, at most; flushes that are larger have their own.
const KEPT_FOR_OWNERS: u64 = 256 << 20;

/// How much room a disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    #[default]
    Enough,
    /// Less than there should be: nobody is granted an attempt.
    Little,
    /// So little that tables may not be written: results and checkpoints are refused as well.
    Scarce,
}

impl Room {
    /// Whether `command` is refused, which may be about to be granted an attempt.
    pub fn refuses(self, command: &Command, is_grant: bool) -> bool {
        let is_large = match command {
            Command::Complete(_) | Command::ForceComplete(_) | Command::Renew(_) => true,
            Command::Reserve(_)
            | Command::Release(_)
            | Command::ForceRelease(_)
            | Command::Delete(_) => false,
        };
        match self {
            Self::Enough => false,
            Self::Little => is_grant,
            Self::Scarce => is_grant || is_large,
        }
    }
}

/// The disk under a store.
pub struct Disk {
    path: PathBuf,
    /// With less than so many bytes there is little room, and scarcely any.
    little: u64,
    scarce: u64,
    looked_at: Moment,
    room: Room,
    /// When there last was too little.
    tight_at: Option<Moment>,
    /// How many failures in the background were for want of room.
    excused: u64,
}

impl Disk {
    /// The one that `path` lies on. It is to have `min_free` bytes; two flushes of so many bytes
    /// are to fit into what is kept for owners, where that is large enough for it.
    pub fn under(path: &Path, min_free: u64, flush_bytes: usize) -> Self {
        let tables = (flush_bytes as u64).saturating_mul(2);
        Self {
            path: path.to_owned(),
            little: min_free,
            scarce: (min_free / 4).min(KEPT_FOR_OWNERS).max(tables).min(min_free / 2),
            looked_at: Moment::default(),
            room: Room::Enough,
            tight_at: None,
            excused: 0,
        }
    }

    /// How much room there is, as of not long before `now`.
    pub fn look(&mut self, now: Moment) -> Room {
        if now.since(self.looked_at) >= INTERVAL {
            self.looked_at = now;
            self.room = match free_bytes(&self.path) {
                Some(free) if free < self.scarce => Room::Scarce,
                Some(free) if free < self.little => Room::Little,
                Some(_) | None => Room::Enough,
            };
        }
        if self.is_nearly_full() {
            self.tight_at = Some(now);
        }
        self.room
    }

    /// Whether there is too little room for new attempts.
    pub fn is_nearly_full(&self) -> bool {
        self.room != Room::Enough
    }

    /// Whether a flush or a compaction failed, and not for want of room; until `now` there were so
    /// many `failures`. A compaction that found no room is tried again by RocksDB itself once
    /// there is some, and a flush that RocksDB cannot do without fails the next write.
    pub fn failed_in_background(&mut self, failures: u64, now: Moment) -> bool {
        if failures <= self.excused {
            return false;
        }
        if self.tight_at.is_none_or(|at| now.since(at) > REMEMBERED) {
            return true;
        }
        warn!(failures, "a flush or a compaction failed while the disk is nearly full");
        self.excused = failures;
        false
    }
}

/// How much room the disk under `path` has; `None` where it cannot be told.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scarce(min_free: u64, flush_bytes: usize) -> u64 {
        Disk::under(Path::new("/"), min_free, flush_bytes).scarce
    }

    #[test]
    fn what_is_kept_for_owners_has_room_for_tables() {
        assert_eq!(scarce(64 << 20, 16 << 20), 32 << 20);
        assert_eq!(scarce(64 << 20, 1 << 20), 16 << 20);
        assert_eq!(scarce(8 << 20, 16 << 20), 4 << 20);
        assert_eq!(scarce(0, 16 << 20), 0);
        assert_eq!(scarce(u64::MAX, 16 << 20), KEPT_FOR_OWNERS);
    }

    #[test]
    fn the_disk_is_looked_at_now_and_then() {
        let mut disk = Disk::under(Path::new("/"), u64::MAX, usize::MAX);
        let morning = Moment::from_millis(1_000_000);
        assert_eq!(disk.look(morning), Room::Scarce);
        (disk.little, disk.scarce) = (0, 0);
        assert_eq!(disk.look(morning.plus(Span::from_millis(49))), Room::Scarce);
        assert!(disk.is_nearly_full());
        assert_eq!(disk.look(morning.plus(INTERVAL)), Room::Enough);
    }

    #[test]
    fn what_fails_for_want_of_room_is_excused_once() {
        let mut disk = Disk::under(Path::new("/"), u64::MAX, 1 << 20);
        let noon = Moment::from_millis(1_000_000);
        assert!(disk.failed_in_background(1, noon), "nothing is known of the disk yet");
        disk.look(noon);
        assert!(!disk.failed_in_background(1, noon));
        (disk.little, disk.scarce) = (0, 0);
        let later = noon.plus(REMEMBERED);
        assert_eq!(disk.look(later), Room::Enough);
        assert!(!disk.failed_in_background(2, later), "it has room since it failed");
        let much_later = later.plus(Span::from_millis(1));
        assert!(!disk.failed_in_background(2, much_later), "that one was excused");
        assert!(disk.failed_in_background(3, much_later));
    }

    #[test]
    fn a_disk_of_which_nothing_is_known_has_room() {
        let mut disk = Disk::under(Path::new("/nowhere/at/all"), u64::MAX, 1 << 20);
        assert_eq!(disk.look(Moment::from_millis(1_000_000)), Room::Enough);
    }
}
