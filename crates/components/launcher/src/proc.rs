//! Whether another process belongs to a launch, read from `/proc`.
//!
//! A result may be out of date when it is returned: callers pin a process (a pidfd, or a child that is not reaped) before
//! they act on what they read.

pub(crate) use llama_warden_procfs::{
    ProcessStat as Stat, process_ids as processes, program_name as program, socket_inodes,
};

use crate::environment::Marker;

/// Whether the environment that a process was started with contains `marker`.
///
/// A process that cannot be read counts as not carrying it: only our own user's processes are ours.
pub(crate) fn carries(pid: u32, marker: &Marker) -> bool {
    llama_warden_procfs::environment(pid).split(|byte| *byte == 0).any(|entry| marker.matches(entry))
}
