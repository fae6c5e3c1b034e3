//! How much of the machine's memory is left for what this process starts.

use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_procfs::ProcessTree;

use crate::cgroup;

/// Available memory. It includes the file cache, and so the mapped weights of running servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// Bytes that can be used without swapping.
    pub bytes: u64,
    /// All bytes within the same limit, used or not.
    pub total: u64,
    /// The limit that determines the numbers.
    pub bound: Bound,
}

/// The limit of available memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The machine.
    Machine,
    /// The limit of a control group: its folder.
    Cgroup(PathBuf),
}

/// Reads the available memory: the kernel's own estimate for new programs (`MemAvailable`, without swapping), or less where a
/// control group limits this process. `root` is `/`, except in tests. `None` if the kernel does not report it.
pub fn available(root: &Path) -> Option<Available> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let machine = field(&meminfo, "MemAvailable")?;
    Some(match cgroup::tightest(root) {
        Some(room) if room.available < machine => {
            let folder = Path::new("/").join(room.group.strip_prefix(root).unwrap_or(&room.group));
            Available { bytes: room.available, total: room.limit, bound: Bound::Cgroup(folder) }
        }
        _ => {
            let total = field(&meminfo, "MemTotal").unwrap_or(machine);
            Available { bytes: machine, total, bound: Bound::Machine }
        }
    })
}

/// The anonymous and shared memory of a process and of what belongs to it in bytes, without mapped files: what their end certainly
/// frees. Behind a wrapper script, the child has it all. `None` if the process is gone.
pub(crate) fn resident(root: &Path, processes: &ProcessTree, pid: u32) -> Option<u64> {
    let members = processes.members(pid);
    members.iter().map(|stat| resident_alone(root, stat.pid)).reduce(|sum, more| {
        // One that has just ended has none.
        Some(sum?.saturating_add(more.unwrap_or(0)))
    })?
}

fn resident_alone(root: &Path, pid: u32) -> Option<u64> {
    let status = fs::read_to_string(root.join(format!("proc/{pid}/status"))).ok()?;
    Some(field(&status, "RssAnon")?.saturating_add(field(&status, "RssShmem").unwrap_or(0)))
}

/// A line `Name:   123 kB` of a file in `/proc`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24684104 kB\nMemFree:        19000000 kB\nMemAvailable:   20971520 kB\n";

    #[test]
    fn a_field_is_found_by_its_whole_name_and_read_in_kilobytes() {
        assert_eq!(field(MEMINFO, "MemAvailable"), Some(20 << 30));
        assert_eq!(field(MEMINFO, "Mem"), None);
        assert_eq!(field("RssAnon:\t 12 kB\n", "RssAnon"), Some(12 << 10));
        for garbage in ["", "A: x kB", "A: 5", "A: 99999999999999999999 kB", "A: 18446744073709551615 kB"] {
            assert_eq!(field(garbage, "A"), None, "{garbage}");
        }
    }

    #[test]
    fn a_limit_below_what_the_machine_has_is_what_is_left() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(path, text).expect("writable");
        };
        assert_eq!(available(root.path()), None);
        write("proc/meminfo", MEMINFO);
        assert_eq!(
            available(root.path()),
            Some(Available { bytes: 20 << 30, total: 24_684_104 << 10, bound: Bound::Machine })
        );
        write("proc/self/cgroup", "0::/svc\n");
        write("sys/fs/cgroup/svc/memory.max", "1000000\n");
        write("sys/fs/cgroup/svc/memory.current", "400000\n");
        let bound = Bound::Cgroup("/sys/fs/cgroup/svc".into());
        assert_eq!(available(root.path()), Some(Available { bytes: 600_000, total: 1_000_000, bound }));
        write("sys/fs/cgroup/svc/memory.max", "99000000000\n");
        assert_eq!(available(root.path()).map(|available| available.bound), Some(Bound::Machine));
    }

    #[test]
    fn this_machine_says_something() {
        assert!(available(Path::new("/")).is_some_and(|available| available.bytes > 0));
        assert!(resident(Path::new("/"), &ProcessTree::read(), std::process::id()).is_some_and(|bytes| bytes > 0));
    }
}
