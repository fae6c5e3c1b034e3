//! How often the kernel has killed a process because memory ran out.
//!
//! Version 2 of control groups counts in `memory.events`, version 1 in `memory.oom_control`, and `/proc/vmstat` counts for the
//! whole machine. The kernel shows the group of a zombie in version 2 only; in version 1 a zombie seems to be in the root
//! (`proc_cgroup_show`). Mounts are where every distribution and container runtime has them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Counts of kills for want of memory: of a control group, and of the machine. Only their growth matters, so that they wrap:
/// there is one of these per running server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomKills {
    group: u16,
    machine: u16,
}

impl OomKills {
    /// The counts of this process' group, which its children are born in, and of the machine.
    pub fn now() -> Self {
        Self::within(Path::new("/"))
    }

    /// Whether the kernel has killed a process since `before` in the groups that one which has ended was in: `memberships` is its
    /// `/proc/PID/cgroup`, read before it was reaped. `explained` kills are known to be of other processes;
    /// [`OomKills::without`] takes those off that came before.
    pub fn happened_in(memberships: &str, before: Self, explained: u16) -> bool {
        Self::happened(Path::new("/"), memberships, before, explained)
    }

    /// These counts, of which `explained` are left out: as if so many more kills had been seen later.
    #[must_use]
    pub const fn without(self, explained: u16) -> Self {
        Self { group: self.group.wrapping_sub(explained), machine: self.machine.wrapping_sub(explained) }
    }

    fn within(root: &Path) -> Self {
        let group = own_group(root).and_then(|group| group.kills());
        Self { group: group.unwrap_or(0), machine: of_machine(root) }
    }

    fn happened(root: &Path, memberships: &str, before: Self, explained: u16) -> bool {
        let rose = |now: u16, before: u16| now.wrapping_sub(before).wrapping_sub(explained).cast_signed() > 0;
        match (group_of(root, memberships), own_group(root)) {
            // Only a wrapper moves a server to a group, which is new.
            (Some(MemoryGroup::Two(own)), ours) if Some(&own) != ours.as_ref().and_then(MemoryGroup::two) => {
                MemoryGroup::Two(own).kills().map_or_else(|| rose(of_machine(root), before.machine), |kills| kills > 0)
            }
            (Some(group @ MemoryGroup::Two(_)), _) if group.kills().is_some() => {
                rose(group.kills().unwrap_or(0), before.group)
            }
            // The group of a zombie is not known: either count may tell.
            (_, ours) => {
                let ours = ours.and_then(|group| group.kills()).unwrap_or(0);
                rose(ours, before.group) || rose(of_machine(root), before.machine)
            }
        }
    }
}

/// The memory control group of a process, as a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MemoryGroup {
    One(PathBuf),
    Two(PathBuf),
}

impl MemoryGroup {
    const fn two(&self) -> Option<&PathBuf> {
        match self {
            Self::One(_) => None,
            Self::Two(folder) => Some(folder),
        }
    }

    fn kills(&self) -> Option<u16> {
        match self {
            Self::One(folder) => count(&folder.join("memory.oom_control")),
            Self::Two(folder) => count(&folder.join("memory.events")),
        }
    }
}

/// The group of this process.
fn own_group(root: &Path) -> Option<MemoryGroup> {
    group_of(root, &fs::read_to_string(root.join("proc/self/cgroup")).ok()?)
}

/// The group of a process by its `/proc/PID/cgroup`. Where both versions are mounted, the one that has the memory controller.
fn group_of(root: &Path, memberships: &str) -> Option<MemoryGroup> {
    let mut two = None;
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // Inside a container the path may be the host's; the mount is the container's own group then.
        let folder = |mount: &str| {
            let mount = root.join(mount);
            let inner = mount.join(path.trim_start_matches('/'));
            if inner.is_dir() { inner } else { mount }
        };
        if hierarchy == "0" && controllers.is_empty() {
            two = Some(MemoryGroup::Two(folder("sys/fs/cgroup")));
        } else if controllers.split(',').any(|name| name == "memory") {
            return Some(MemoryGroup::One(folder("sys/fs/cgroup/memory")));
        }
    }
    two
}

fn of_machine(root: &Path) -> u16 {
    count(&root.join("proc/vmstat")).unwrap_or(0)
}

/// The value of the line `oom_kill N`. Read in one piece where it fits: the kernel sums up anew for each piece of `vmstat`.
fn count(path: &Path) -> Option<u16> {
    let mut text = String::with_capacity(8 * 1024);
    fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    value.trim().parse::<u64>().ok().map(|count| count as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        write(&root, files);
        root
    }

    fn write(root: &tempfile::TempDir, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(path, text).expect("writable");
        }
    }

    #[test]
    fn a_kill_is_told_by_the_group_and_one_of_another_group_is_not_ours() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/a.service\n"),
            ("proc/vmstat", "nr_free_pages 1\noom_kill 5\n"),
            ("sys/fs/cgroup/a.service/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n"),
            ("sys/fs/cgroup/run.scope/memory.events", "oom_kill 0\n"),
        ]);
        let before = OomKills::within(root.path());
        assert_eq!(before, OomKills { group: 3, machine: 5 });
        let happened = |memberships, explained| OomKills::happened(root.path(), memberships, before, explained);
        let (ours, moved) = ("0::/a.service\n", "0::/run.scope\n");
        assert!(!happened(ours, 0) && !happened(moved, 0));
        write(&root, &[("proc/vmstat", "oom_kill 6\n")]);
        assert!(!happened(ours, 0), "a process of another group");
        write(&root, &[("sys/fs/cgroup/a.service/memory.events", "oom_kill 4\n")]);
        assert!(happened(ours, 0) && !happened(ours, 1) && !happened(moved, 0));
        write(&root, &[("sys/fs/cgroup/run.scope/memory.events", "oom_kill 1\n")]);
        assert!(happened(moved, 0), "a wrapper had moved it to a group of its own");
    }

    #[test]
    fn a_kill_is_told_by_version_1_and_by_the_machine() {
        let root = machine(&[
            ("proc/self/cgroup", "4:memory:/x\n0::/\n"),
            ("proc/vmstat", "oom_kill 0\n"),
            ("sys/fs/cgroup/memory/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
        ]);
        let before = OomKills::within(root.path());
        let happened = || OomKills::happened(root.path(), "4:memory:/\n0::/\n", before, 0);
        assert!(!happened());
        write(&root, &[("proc/vmstat", "oom_kill 1\n")]);
        assert!(happened());
        write(&root, &[("proc/vmstat", "oom_kill 0\n")]);
        write(&root, &[("sys/fs/cgroup/memory/x/memory.oom_control", "oom_kill 1\n")]);
        assert!(happened());
        assert!(!OomKills::happened(machine(&[]).path(), "", before, 0), "nothing is known");
    }
}
