//! The memory that the kernel grants this process: the limits of its control group and of those
//! above it.

use std::fs;
use std::path::{Path, PathBuf};

/// A control group with a limit on memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlGroup {
    /// Where its limit stands.
    pub path: PathBuf,
    /// How many bytes its processes may have together.
    pub limit_bytes: u64,
}

impl ControlGroup {
    /// The tightest of those that this process is in; `None` where none has a limit, or where
    /// the kernel does not say.
    pub fn of_this_process() -> Option<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::tightest(&membership, Path::new("/sys/fs/cgroup"))
    }

    /// The tightest of those that `membership` names, as in /proc/self/cgroup, below `root`.
    fn tightest(membership: &str, root: &Path) -> Option<Self> {
        let found = membership.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.trim_start_matches('/');
            // Version 2 has one line and no controllers, and version 1 has one for each.
            if number == "0" && controllers.is_empty() {
                return Self::along(root, path, "memory.max");
            }
            let is_memory = controllers.split(',').any(|name| name == "memory");
            let root = root.join("memory");
            is_memory.then(|| Self::along(&root, path, "memory.limit_in_bytes")).flatten()
        });
        found.min_by_key(|group| group.limit_bytes)
    }

    /// The tightest on the way from `root` to `path`.
    fn along(root: &Path, path: &str, file: &str) -> Option<Self> {
        let folder = root.join(path);
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(root));
        let groups = folders.filter_map(|folder| {
            let path = folder.join(file);
            // A group without a limit says "max", or in version 1 a number without meaning.
            let limit_bytes = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
            (limit_bytes < 1 << 62).then_some(Self { path, limit_bytes })
        });
        groups.min_by_key(|group| group.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system of control groups with these limits.
    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limit(membership: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = groups(files);
        ControlGroup::tightest(membership, root.path()).map(|group| group.limit_bytes)
    }

    #[test]
    fn the_tightest_group_on_the_way_counts() {
        let files = [
            ("memory.max", "max\n"),
            ("system.slice/memory.max", "1000\n"),
            ("system.slice/onced.service/memory.max", "2000\n"),
            ("other/memory.max", "1\n"),
        ];
        assert_eq!(limit("0::/system.slice/onced.service\n", &files), Some(1_000));
        assert_eq!(limit("0::/\n", &files), None);
        // In a container the group is the root of what can be seen.
        assert_eq!(limit("0::/\n", &[("memory.max", "500\n")]), Some(500));
    }

    #[test]
    fn the_first_version_is_understood_as_well() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/abc/memory.limit_in_bytes", "3000\n"),
        ];
        assert_eq!(limit("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n", &files), Some(3_000));
        assert_eq!(limit("4:memory:/\n", &files), None);
        assert_eq!(limit("", &files), None);
    }
}
