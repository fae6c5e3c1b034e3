//! Whether another process belongs to a launch, read from `/proc`.
//!
//! The answer may be out of date when it is returned: callers pin a process (by a pidfd, or as a child that is not reaped) before
//! they act on it.

use super::launch_tag::LaunchTag;

/// Whether the environment that a process was started with contains `tag`.
///
/// `false` if its environment cannot be read: a process of ours runs as our own user.
pub(crate) fn has_tag(pid: u32, tag: &LaunchTag) -> bool {
    llama_warden_procfs::environment(pid).split(|byte| *byte == 0).any(|entry| tag.matches(entry))
}
