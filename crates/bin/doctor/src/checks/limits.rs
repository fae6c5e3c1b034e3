//! Checks the limits of this user, control group and process.

use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_config::{FlagValue, Fleet, ServerSpec};
use llama_warden_procfs::descriptor_limit;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::finding::{Area, Finding};

/// Descriptors that the daemon has for each server: its output, its parent, its process, and connections to it.
const PER_SERVER: u64 = 8;
/// Descriptors that it has for itself and for clients.
const FOR_ITSELF: u64 = 96;

/// Processes and threads that a server needs: llama-server has some for HTTP, and one for each core.
const TASKS_PER_SERVER: u64 = 32;

pub(crate) fn of_fleet(fleet: &Fleet) -> Vec<Finding> {
    let servers = fleet.iter().filter(|spec| spec.enabled).count() as u64;
    let findings: Vec<Finding> =
        [descriptors(servers), tasks(Path::new("/"), servers), locked_memory(fleet)].into_iter().flatten().collect();
    if findings.is_empty() {
        return vec![Area::Limits.good("descriptors, processes and locked memory suffice for the enabled servers")];
    }
    findings
}

fn descriptors(servers: u64) -> Option<Finding> {
    let (limit, needed) = (descriptor_limit()?, servers * PER_SERVER + FOR_ITSELF);
    (limit < needed).then(|| {
        Area::Limits.fault(
            format!("{limit} open files are allowed, and {servers} servers need about {needed}"),
            format!("`ulimit -n {needed}` before `llama-warden up`, or `LimitNOFILE={needed}` in its unit"),
        )
    })
}

/// The limit of the control groups above this process, which counts processes and threads. `root` is `/`, except in tests.
fn tasks(root: &Path, servers: u64) -> Option<Finding> {
    let needed = servers * TASKS_PER_SERVER;
    let (group, limit, used) = groups(root).into_iter().find_map(|group| {
        let read = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let (limit, used) = (read("pids.max")?, read("pids.current")?);
        (limit.saturating_sub(used) < needed).then_some((group, limit, used))
    })?;
    let message = format!(
        "the control group {} allows {limit} processes and threads, {used} exist, and {servers} servers need about {needed}",
        group.display()
    );
    let next_step = "raise `--pids-limit` of the container, or `TasksMax=` of the unit";
    Some(Area::Limits.fault(message, next_step))
}

/// The control groups that count the tasks of this process, the innermost first: of the unified hierarchy, or of the controller
/// `pids` in a hierarchy of its own.
fn groups(root: &Path) -> Vec<PathBuf> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let hierarchy = match controllers {
            "" => root.join("sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "pids") => root.join("sys/fs/cgroup/pids"),
            _ => continue,
        };
        let own = hierarchy.join(group.trim_start_matches('/'));
        found.extend(own.ancestors().take_while(|part| part.starts_with(&hierarchy)).map(Path::to_owned));
    }
    found
}

/// A model that is to be locked into memory needs the right to do so.
fn locked_memory(fleet: &Fleet) -> Option<Finding> {
    let spec = fleet.iter().find(|spec| locks_memory(spec)).filter(|_| !may_lock_any())?;
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    let size = fs::metadata(&spec.model).ok()?.len();
    (limit != RLIM_INFINITY && limit < size).then(|| {
        Area::Limits.warning(
            format!(
                "`{}` locks its model of {} MiB into memory, and {} MiB are allowed",
                spec.id,
                size >> 20,
                limit >> 20
            ),
            "`ulimit -l unlimited` before `llama-warden up`, or `LimitMEMLOCK=infinity` in its unit",
        )
    })
}

/// Whether this process, and so its servers, has `CAP_IPC_LOCK`: to it the limit does not apply (mlock(2)).
fn may_lock_any() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

fn locks_memory(spec: &ServerSpec) -> bool {
    let switched_on = spec.flags.get("mlock").is_some_and(|flag| flag.value != FlagValue::Switch(false));
    let mode = spec.flags.get("load-mode").map(|flag| &flag.value);
    switched_on || matches!(mode, Some(FlagValue::Text(mode)) if mode.contains("mlock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_control_group_above_counts_in_either_version() {
        for (membership, group) in
            [("0::/a/b\n", "sys/fs/cgroup/a"), ("5:cpu:/x\n4:rdma,pids:/a/b\n", "sys/fs/cgroup/pids/a")]
        {
            let root = tempfile::tempdir().expect("a temporary directory");
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
                fs::write(path, text).expect("writable");
            };
            write("proc/self/cgroup", membership);
            write(&format!("{group}/b/pids.max"), "max\n");
            write(&format!("{group}/b/pids.current"), "9\n");
            write(&format!("{group}/pids.max"), "100\n");
            write(&format!("{group}/pids.current"), "40\n");
            assert_eq!(tasks(root.path(), 1), None, "{membership}");
            let finding = tasks(root.path(), 2).expect("a fault");
            assert!(finding.message.contains("allows 100") && finding.message.contains(group), "{}", finding.message);
        }
    }
}
