//! How much memory this process may use and uses, as its control group says, version 1 or 2.
//!
//! A limit binds everything below it, so all groups from the process's own up to the root count, and the tightest is
//! told. What the kernel can drop at once, file pages that are not in use, is not counted as used, as Kubernetes does.

use std::path::{Path, PathBuf};

/// Version 1 says this, or a little less, where there is no limit.
const UNLIMITED: u64 = 1 << 60;

/// Bytes in use, of as many that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use now.
    pub used: u64,
    /// Allowed; more means that the system kills.
    pub limit: u64,
}

/// Where the groups of this process lie.
#[derive(Debug)]
pub struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// What a version calls its files.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The key in `memory.stat` of what can be dropped.
    spare: &'static str,
}

const V1: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", spare: "total_inactive_file" };
const V2: Files = Files { limit: "memory.max", used: "memory.current", spare: "inactive_file" };

impl Memory {
    /// Used ÷ allowed; more than 1 for a moment.
    pub fn share(self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

impl Groups {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::find(&text, Path::new("/sys/fs/cgroup"))
    }

    /// From what `/proc/self/cgroup` says, below `mount`. In a container that text may name the path outside of it:
    /// then the root of what is mounted is the container's own group.
    fn find(text: &str, mount: &Path) -> Self {
        let mut groups = Vec::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let (root, files) = match controllers {
                "" => (mount.to_owned(), &V2),
                all if all.split(',').any(|name| name == "memory") => (mount.join("memory"), &V1),
                _ => continue,
            };
            let own = root.join(path.trim_start_matches('/'));
            let up = own.ancestors().take_while(|folder| folder.starts_with(&root));
            let has_limit = |folder: &&Path| folder.join(files.limit).exists();
            groups.extend(up.filter(has_limit).map(|folder| Group { folder: folder.to_owned(), files }));
        }
        Groups(groups)
    }

    /// The tightest of all; none where nothing is limited.
    pub fn read(&self) -> Option<Memory> {
        let all = self.0.iter().filter_map(Group::read);
        all.max_by(|one, other| one.share().total_cmp(&other.share()))
    }
}

impl Group {
    fn read(&self) -> Option<Memory> {
        let number = |name: &str| -> Option<u64> {
            std::fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
        };
        // `max` is no number.
        let limit = number(self.files.limit).filter(|limit| *limit > 0 && *limit < UNLIMITED)?;
        let used = number(self.files.used)?;
        let stat = std::fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let spare = stat.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            if key == self.files.spare { value.parse().ok() } else { None }
        });
        Some(Memory { used: used.saturating_sub(spare.unwrap_or(0)), limit })
    }
}

/// Resident bytes of this process.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn group(folder: &Path, files: &Files, limit: &str, used: u64, spare: u64) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(files.limit), format!("{limit}\n")).unwrap();
        fs::write(folder.join(files.used), format!("{used}\n")).unwrap();
        fs::write(folder.join("memory.stat"), format!("cache 5\n{} {spare}\nrss 7\n", files.spare)).unwrap();
    }

    #[test]
    fn both_versions_are_read_and_what_can_be_dropped_is_not_in_use() {
        let mount = tempfile::tempdir().unwrap();
        group(&mount.path().join("pod/own"), &V2, "1000", 700, 100);
        group(&mount.path().join("memory/pod/own"), &V1, "2000", 1900, 0);
        let v2 = Groups::find("0::/pod/own\n", mount.path());
        assert_eq!(v2.read(), Some(Memory { used: 600, limit: 1000 }));
        let v1 = Groups::find("3:cpu,cpuacct:/x\n4:memory:/pod/own\n0::/nowhere\n", mount.path());
        assert_eq!(v1.read(), Some(Memory { used: 1900, limit: 2000 }));
    }

    #[test]
    fn the_tightest_group_counts_and_no_limit_is_none() {
        let mount = tempfile::tempdir().unwrap();
        group(&mount.path().join("pod/own"), &V2, "max", 700, 0);
        group(&mount.path().join("pod"), &V2, "1000", 950, 0);
        group(mount.path(), &V2, "100000", 99_000, 98_000);
        let groups = Groups::find("0::/pod/own\n", mount.path());
        assert_eq!(groups.read(), Some(Memory { used: 950, limit: 1000 }));
        fs::write(mount.path().join("pod/memory.max"), "max").unwrap();
        fs::write(mount.path().join("memory.max"), "max").unwrap();
        assert_eq!(groups.read(), None);
        assert_eq!(Groups::find("", mount.path()).read(), None);
        let v1 = Groups::find("4:memory:/\n", mount.path());
        group(&mount.path().join("memory"), &V1, "9223372036854771712", 5, 0);
        assert_eq!(v1.read(), None);
    }

    #[test]
    fn in_a_container_the_root_of_the_mount_is_its_own_group() {
        let mount = tempfile::tempdir().unwrap();
        group(&mount.path().join("memory"), &V1, "64", 60, 0);
        let groups = Groups::find("4:memory:/kubepods/pod1/abc\n", mount.path());
        assert_eq!(groups.read(), Some(Memory { used: 60, limit: 64 }));
    }

    #[test]
    fn this_process_uses_some() {
        assert!(resident().unwrap() > 1 << 20);
    }
}
