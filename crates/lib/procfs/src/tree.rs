//! All processes of a moment, and those that belong to a server.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::process_ids;
use crate::stat::ProcessStat;

/// The stat of every process, read once for all questions.
#[derive(Debug, Clone, Default)]
pub struct ProcessTree {
    processes: BTreeMap<u32, ProcessStat>,
    /// The children of each parent.
    children: BTreeMap<u32, Vec<u32>>,
    /// The members of each group.
    groups: BTreeMap<u32, Vec<u32>>,
}

impl ProcessTree {
    /// Reads `/proc`. Empty if it cannot be read.
    pub fn read() -> Self {
        Self::of(process_ids().filter_map(ProcessStat::of))
    }

    fn of(stats: impl IntoIterator<Item = ProcessStat>) -> Self {
        let mut tree = Self::default();
        for stat in stats {
            tree.children.entry(stat.parent).or_default().push(stat.pid);
            tree.groups.entry(stat.group).or_default().push(stat.pid);
            tree.processes.insert(stat.pid, stat);
        }
        tree
    }

    /// A process, its group if it leads one, and all that is below these; the process itself first. Empty if it is gone. Behind a
    /// wrapper script the child does the work, `setsid` gives it a group of its own, and a child whose parent has ended is left
    /// in the group.
    pub fn members(&self, leader: u32) -> Vec<&ProcessStat> {
        let mut seen = BTreeSet::new();
        let mut members = Vec::new();
        let group = self.groups.get(&leader).into_iter().flatten().copied();
        let mut open: Vec<u32> = group.chain([leader]).collect();
        while let Some(pid) = open.pop() {
            if let Some(stat) = self.processes.get(&pid)
                && seen.insert(pid)
            {
                members.push(stat);
                open.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        // A group outlives its leader, and its number then names nobody else.
        if members.first().is_some_and(|first| first.pid == leader) { members } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunState;

    fn process(pid: u32, parent: u32, group: u32) -> ProcessStat {
        ProcessStat {
            pid,
            state: RunState::Live,
            parent,
            group,
            cpu_ticks: 0,
            reaped_cpu_ticks: 0,
            threads: 1,
            start_ticks: 0,
            virtual_bytes: 0,
            resident_pages: 0,
        }
    }

    #[test]
    fn a_wrapper_its_group_and_everything_below_belong_together() {
        let tree = ProcessTree::of([
            process(1, 0, 1),
            process(10, 1, 10),
            // A child, one in a session of its own, and the child of that.
            process(11, 10, 10),
            process(12, 10, 12),
            process(13, 12, 12),
            // In the group, though its parent has ended.
            process(14, 1, 10),
            process(20, 1, 20),
        ]);
        let members = |leader| {
            let mut pids: Vec<u32> = tree.members(leader).iter().map(|stat| stat.pid).collect();
            assert!(pids.first().is_none_or(|first| *first == leader), "{pids:?}");
            pids.sort_unstable();
            pids
        };
        assert_eq!(members(10), [10, 11, 12, 13, 14]);
        assert_eq!(members(20), [20]);
        assert_eq!(members(99), [0; 0]);
        assert!(ProcessTree::read().members(std::process::id()).len() == 1, "this test starts nothing");
    }
}
