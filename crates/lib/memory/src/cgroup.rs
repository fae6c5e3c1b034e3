//! The memory limits of the control groups that this process is in, from its own up to the root.
//!
//! Mounts are assumed to be where every distribution and container runtime has them: version 2 at `/sys/fs/cgroup` (or
//! `unified` below it if both are mounted), version 1's memory controller at `/sys/fs/cgroup/memory`. Inside a container the
//! path that the kernel reports may be the host's and not exist; the mount's root is the container's own group then, so it is
//! always read.

use std::fs;
use std::path::{Path, PathBuf};

/// A larger limit means no limit: version 1 writes the largest number of pages for it.
const NO_LIMIT: u64 = 1 << 62;

/// The available memory within one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupRoom {
    /// The group's folder.
    pub(crate) group: PathBuf,
    /// The limit in bytes.
    pub(crate) limit: u64,
    /// Bytes below the limit, file cache included.
    pub(crate) available: u64,
}

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The least that is left in any group on the way up; `None` where nothing limits this process.
pub(crate) fn tightest(root: &Path) -> Option<CgroupRoom> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let rooms = memberships.lines().filter_map(membership).flat_map(|(version, path)| rooms(root, version, path));
    rooms.min_by_key(|room| room.available)
}

/// The group that a line of `/proc/self/cgroup` names, where it is about memory.
fn membership(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    match (hierarchy, controllers) {
        ("0", "") => Some((Version::Two, path)),
        (_, controllers) if controllers.split(',').any(|name| name == "memory") => Some((Version::One, path)),
        _ => None,
    }
}

fn rooms(root: &Path, version: Version, path: &str) -> Vec<CgroupRoom> {
    let mounts: &[&str] = match version {
        Version::One => &["sys/fs/cgroup/memory"],
        Version::Two => &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    };
    let relative = Path::new(path.trim_start_matches('/'));
    let groups = mounts.iter().flat_map(|mount| relative.ancestors().map(move |group| root.join(mount).join(group)));
    groups.filter_map(|group| room(group, version)).collect()
}

fn room(group: PathBuf, version: Version) -> Option<CgroupRoom> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let (limit, used) = match version {
        // Above `high` a group is slowed down until it hardly moves.
        Version::Two => {
            let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min()?;
            (limit, number("memory.current")?)
        }
        Version::One => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
    };
    let available = limit.saturating_sub(used.saturating_sub(reclaimable(&stat, version)));
    (limit < NO_LIMIT).then_some(CgroupRoom { group, limit, available })
}

/// The file cache in a `memory.stat`, which the kernel gives up before a limit is hit. Mapped weights are in it.
fn reclaimable(stat: &str, version: Version) -> u64 {
    let wanted = match version {
        Version::One => ["total_inactive_file", "total_active_file"],
        Version::Two => ["inactive_file", "active_file"],
    };
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    fields.filter(|(name, _)| wanted.contains(name)).filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        root
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_counts_and_file_cache_is_no_use() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/a.slice/b.service\n"),
            ("sys/fs/cgroup/a.slice/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/a.slice/memory.current", "943718400\n"),
            ("sys/fs/cgroup/a.slice/memory.stat", "anon 7\ninactive_file 104857600\nactive_file 52428800\n"),
            ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
            ("sys/fs/cgroup/a.slice/b.service/memory.current", "1\n"),
        ]);
        let room = tightest(root.path()).expect("limited");
        assert_eq!(room.available, (1024 - 900 + 100 + 50) * MIB);
        assert!(room.group.ends_with("a.slice"));
    }

    #[test]
    fn what_slows_a_group_down_is_a_limit_too() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "2000\n"),
            ("sys/fs/cgroup/memory.high", "1500\n"),
            ("sys/fs/cgroup/memory.current", "1600\n"),
        ]);
        assert_eq!(tightest(root.path()).map(|room| room.available), Some(0));
    }

    #[test]
    fn version_one_is_read_too_and_its_largest_number_is_no_limit() {
        let root = machine(&[
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n"),
            // The path is the host's; the mount is the container's own group.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "900\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 50\ntotal_active_file 20\n"),
        ]);
        assert_eq!(tightest(root.path()).map(|room| room.available), Some(170));
        fs::write(root.path().join("sys/fs/cgroup/memory/memory.limit_in_bytes"), "9223372036854771712")
            .expect("writable");
        assert_eq!(tightest(root.path()), None);
    }

    #[test]
    fn a_machine_without_control_groups_limits_nothing() {
        assert_eq!(tightest(machine(&[]).path()), None);
        assert_eq!(tightest(machine(&[("proc/self/cgroup", "garbage\n0::\n::\n")]).path()), None);
    }
}
