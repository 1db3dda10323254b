//! Where it is measured: the disk that the data lies on, and the machine around it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::contestant::is_root;

/// Where data goes if the target directory will not do; a disk, since what is there outlives a
/// restart of the machine.
const FOR_EVERYBODY: &str = "/var/tmp";

/// The directory that all data goes to.
pub struct Place {
    pub directory: PathBuf,
    file_system: String,
    /// Where the system counts what the disk was asked to do.
    counters: PathBuf,
    /// Removes the directory in the end, where nothing else would.
    _temporary: Option<TempDir>,
}

impl Place {
    /// A place that all servers can reach: `chosen`, or else in the target directory if that will do.
    pub fn of_all_servers(chosen: Option<&Path>, target: &Path) -> anyhow::Result<Self> {
        let directory = path::absolute(chosen.unwrap_or(&target.join("bench-data")))?;
        let Some(closed) = closed_to_others(&directory) else { return Self::new(&directory) };
        ensure!(
            chosen.is_none(),
            "PostgreSQL does not run as root, and others may not enter {}; give --data elsewhere",
            closed.display()
        );
        let mut builder = tempfile::Builder::new();
        builder.prefix("onced-bench-").permissions(Permissions::from_mode(0o755));
        let temporary = builder.tempdir_in(FOR_EVERYBODY)?;
        let (closed, open) = (closed.display(), temporary.path().display());
        eprintln!("Others may not enter {closed}, so data goes to {open}");
        let place = Self::new(temporary.path())?;
        Ok(Self { _temporary: Some(temporary), ..place })
    }

    /// Makes the directory, and makes sure that it is on a disk: on tmpfs a sync costs nothing.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let file_system = output("findmnt", &["-n", "-o", "FSTYPE", "-T", text(&directory)])?;
        ensure!(
            !["tmpfs", "ramfs", "overlay"].contains(&&*file_system),
            "{} is on {file_system}, where a sync costs nothing; give --data on a disk",
            directory.display()
        );
        let device = fs::metadata(&directory)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let counters = format!("/sys/dev/block/{major}:{minor}/stat").into();
        Ok(Self { directory, file_system, counters, _temporary: None })
    }

    /// How often the disk has been told to keep what it was given; `None` where the system does
    /// not count that.
    pub fn flushes(&self) -> Option<u64> {
        fs::read_to_string(&self.counters).ok()?.split_whitespace().nth(15)?.parse().ok()
    }

    /// What one small write and its fdatasync take on this disk: the median, in microseconds.
    /// The file was written before, like a recycled log, so that nothing else has to be synced.
    pub fn fdatasync_micros(&self, length: Duration) -> anyhow::Result<f64> {
        const FILE_BYTES: usize = 4 << 20;
        const WRITE_BYTES: usize = 256;
        let path = self.directory.join("fdatasync");
        let file = File::create(&path)?;
        file.write_all_at(&vec![1; FILE_BYTES], 0)?;
        file.sync_all()?;
        let mut latency = Histogram::<u64>::new(3)?;
        let began_at = Instant::now();
        for at in (0..FILE_BYTES - WRITE_BYTES).step_by(WRITE_BYTES).cycle() {
            let began_one_at = Instant::now();
            if began_one_at - began_at >= length {
                break;
            }
            file.write_all_at(&[2; WRITE_BYTES], at as u64)?;
            file.sync_data()?;
            latency.record(u64::try_from(began_one_at.elapsed().as_nanos())?)?;
        }
        fs::remove_file(path)?;
        Ok(latency.value_at_quantile(0.5) as f64 / 1_000.0)
    }

    /// Date, commit, machine and disk.
    pub fn facts(&self) -> anyhow::Result<Value> {
        let processor = fs::read_to_string("/proc/cpuinfo")?
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned());
        Ok(json!({
            "date": output("date", &["--utc", "+%F"])?,
            "commit": output("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
            "processor": processor,
            "cores": std::thread::available_parallelism()?.get(),
            "kernel": without_build(&output("uname", &["-sr"])?),
            "file_system": self.file_system,
        }))
    }
}

/// For root, whose PostgreSQL runs as another user: what of `path` is there and others may not enter.
fn closed_to_others(path: &Path) -> Option<&Path> {
    let is_closed = |it: &&Path| fs::metadata(it).is_ok_and(|found| found.mode() & 0o001 == 0);
    path.ancestors().find(is_closed).filter(|_| is_root())
}

/// `Linux 6.18` of `Linux 6.18.44-cloud`: whoever built it says nothing about a figure.
fn without_build(kernel: &str) -> String {
    kernel.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// What a command prints, without the line break at its end.
pub fn output(command: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(command).args(arguments).output();
    let output = output.with_context(|| format!("{command} cannot be run"))?;
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command} {arguments:?} failed: {problem}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of a benchmark are text")
}
