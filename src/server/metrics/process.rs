//! What the system says of this process, as far as Linux tells it in `/proc`: the figures that
//! every exporter has, under the names that they have everywhere.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// How many parts of a second the kernel counts CPU time in: fixed for what it shows programs.
const TICKS: f64 = 100.0;

/// This process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// The memory that it holds, in bytes.
    pub resident_bytes: Option<u64>,
    /// Its address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// How many files and sockets it has open.
    pub open_files: Option<u64>,
    /// How many it may have.
    pub max_files: Option<u64>,
    /// How much CPU it used, in seconds.
    pub cpu_seconds: Option<f64>,
    /// When it started, in seconds since 1970.
    pub started_at: Option<f64>,
    /// How many threads it has.
    pub threads: Option<u64>,
}

impl Process {
    /// As it is now. What cannot be read is left out.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program, in brackets, may have spaces; the third field comes after it.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = |field| number(field).map(|ticks| ticks as f64 / TICKS);
        Self {
            virtual_bytes: bytes("VmSize:"),
            resident_bytes: bytes("VmRSS:"),
            // The folder that is open for the count is one of them.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|it| it.count() as u64 - 1),
            max_files: getrlimit(Resource::Nofile).current,
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            started_at: ticks(22).zip(booted_at()).map(|(after, booted)| booted + after),
            threads: number(20),
        }
    }
}

/// When the system started, in seconds since 1970.
fn booted_at() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_how_large_and_how_old_it_is() {
        let process = Process::now();
        assert!(process.resident_bytes > Some(1 << 20));
        assert!(process.virtual_bytes > process.resident_bytes);
        assert!(process.open_files.unwrap() >= 3 && process.threads.unwrap() >= 1);
        assert!(process.max_files >= process.open_files);
        let (started_at, booted_at) = (process.started_at.unwrap(), booted_at().unwrap());
        assert!(started_at > booted_at && process.cpu_seconds.unwrap() >= 0.0);
    }
}
