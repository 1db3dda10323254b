//! A small disk of its own: a tmpfs that only a process holds, in a mount namespace of its own,
//! so that nothing is left of it when the test ends in whatever way.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A disk; it goes when this is dropped.
pub struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// A disk of this size; `None`, said aloud, where this user may not mount.
    pub fn new(mebibytes: u32) -> Option<Self> {
        let script =
            format!("mount -t tmpfs -o size={mebibytes}m tmpfs /mnt && echo ready && read end");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "ready\n" {
            println!("SKIPPED: this needs a user who may mount a tmpfs");
            let _ = holder.wait();
            return None;
        }
        // Another namespace's files are reached through its process.
        let path = Path::new("/proc").join(holder.id().to_string()).join("root").join("mnt");
        Some(Self { holder, path })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it until `left` bytes are left.
    pub fn fill_up_to(&self, left: u64) {
        let disk = rustix::fs::statvfs(&self.path).unwrap();
        let mut ballast = File::create(self.ballast()).unwrap();
        let block = vec![b'x'; 4096];
        for _ in 0..(disk.f_bavail * disk.f_frsize).saturating_sub(left) / 4096 {
            if ballast.write_all(&block).is_err() {
                return;
            }
        }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[b'x'; 512]).is_ok() {}
    }

    /// Makes room again.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Mounts it for reading only. No file on it may be open for writing.
    pub fn make_read_only(&self) {
        self.remount("ro");
    }

    /// Mounts it for writing again.
    pub fn make_writable(&self) {
        self.remount("rw");
    }

    fn remount(&self, mode: &str) {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        let remounted = Command::new("nsenter")
            .args([&namespace, "mount", "-o", &format!("remount,{mode}"), "/mnt"])
            .status()
            .unwrap();
        assert!(remounted.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
