//! Whether a server computes: the processor time of its process group and of what is below its leader, from `/proc`.
//!
//! All of them count, because the child of a wrapper script does the work, and `setsid` gives it a group of its own. Reading `/proc` takes no lock of the process,
//! so a process that hangs in the kernel does not block the reader, and it sends no request that could wake a sleeping server.

use llama_warden_events::Uptime;
use llama_warden_procfs::{ProcessTree, RunState, ticks_as_seconds};

/// Least share of one core that counts as computing. An idle llama-server needs none at all, and our questions need about
/// a millisecond each.
const BUSY_SHARE: f64 = 0.01;
/// Least processor time that counts as computing, in clock ticks: one tick may be the rounding of almost nothing.
const BUSY_TICKS: u64 = 2;

/// The leader of a server's process group. With its start time, the number names one process for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) pid: u32,
    /// In clock ticks since the machine booted.
    pub(crate) start_ticks: u64,
}

/// The processor time of a server's processes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuReading {
    /// User and system time, in clock ticks.
    pub ticks: u64,
    /// Whether the kernel lets the leader run.
    pub state: RunState,
    /// When it was read.
    pub at: Uptime,
}

impl CpuReading {
    /// Reads what belongs to a leader; none if the leader is gone.
    pub(crate) fn of(leader: Leader, at: Uptime) -> Option<Self> {
        let tree = ProcessTree::read();
        let members = tree.members(leader.pid);
        let own = members.first().filter(|stat| stat.start_ticks == leader.start_ticks)?;
        let ticks = members.iter().map(|stat| stat.cpu_ticks + stat.reaped_cpu_ticks).sum();
        Some(Self { ticks, state: own.state, at })
    }

    /// Whether the group computed between two readings.
    pub(crate) fn computed_since(self, earlier: Self) -> bool {
        self.computed_since_at(earlier, ticks_as_seconds(1))
    }

    fn computed_since_at(self, earlier: Self, seconds_per_tick: f64) -> bool {
        // A member that ended and that no other member waited for takes its time with it, so that the sum may shrink.
        let worked = self.ticks.saturating_sub(earlier.ticks);
        let passed = self.at.since(earlier.at).as_secs_f64() / seconds_per_tick;
        worked >= BUSY_TICKS && worked as f64 >= passed * BUSY_SHARE
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use llama_warden_procfs::{ProcessStat, descendants};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    fn reading(seconds: u64, ticks: u64) -> CpuReading {
        CpuReading { ticks, state: RunState::Live, at: Uptime::new(Duration::from_secs(seconds)) }
    }

    #[test]
    fn computing_is_a_share_of_a_core_and_more_than_a_rounding() {
        let cases = [
            (reading(10, 100), false),
            (reading(10, 101), false),
            (reading(1, 102), true),
            (reading(10, 109), false),
            (reading(10, 110), true),
            (reading(10, 90), false),
        ];
        for (later, computed) in cases {
            assert_eq!(later.computed_since_at(reading(0, 100), 0.01), computed, "{later:?}");
        }
    }

    #[test]
    fn the_work_of_a_child_counts_in_its_group_and_in_one_of_its_own() {
        use std::os::unix::process::CommandExt;
        // The leader sleeps in `wait`; its child computes until it is killed.
        for text in ["(while :; do :; done) & wait", "setsid -w sh -c 'while :; do :; done' & wait"] {
            let mut script = Command::new("/bin/sh");
            let mut leader = script.args(["-c", text]).process_group(0).spawn().expect("spawns");
            let stat = ProcessStat::of(leader.id()).expect("runs");
            let key = Leader { pid: leader.id(), start_ticks: stat.start_ticks };
            let began = Instant::now();
            let now = || Uptime::new(began.elapsed());
            let first = CpuReading::of(key, now()).expect("runs");
            let mut computed = false;
            while !computed && began.elapsed() < Duration::from_secs(20) {
                computed = CpuReading::of(key, now()).expect("runs").computed_since(first);
            }
            let all: Vec<u32> = descendants(leader.id()).chain([leader.id()]).collect();
            for pid in all {
                // An error means that it ended with its parent.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            leader.wait().expect("reaps");
            assert!(computed, "{text}");
            assert_eq!(CpuReading::of(key, now()), None, "a process that is gone has no reading");
        }
    }
}
