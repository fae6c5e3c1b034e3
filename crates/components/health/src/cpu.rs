//! Whether a server computes: the processor time of its process group, from `/proc`.
//!
//! The group and not the leader alone, since a wrapper script's child does the work. Reading takes no lock of the process,
//! so that one that hangs in the kernel holds up nobody, and is no request that could wake a sleeping server.

use std::fs;

use llama_warden_events::Uptime;

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

/// The processor time of a process group at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuReading {
    /// User and system time, in clock ticks.
    pub(crate) ticks: u64,
    pub(crate) run_state: RunState,
    pub(crate) at: Uptime,
}

/// Whether the kernel lets the leader run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Running,
    /// Stopped by a signal or by a debugger.
    Stopped,
}

impl CpuReading {
    /// Reads the group of a leader; none if the leader is gone.
    pub(crate) fn of(leader: Leader, at: Uptime) -> Option<Self> {
        let own = Stat::of(leader.pid).filter(|stat| stat.start_ticks == leader.start_ticks)?;
        let others: u64 = processes()
            .filter(|pid| *pid != leader.pid)
            .filter_map(Stat::of)
            .filter(|stat| stat.group == leader.pid)
            .map(|stat| stat.cpu_ticks)
            .sum();
        Some(Self { ticks: own.cpu_ticks + others, run_state: own.run_state, at })
    }

    /// Whether the group computed between two readings.
    pub(crate) fn computed_since(self, earlier: Self) -> bool {
        self.computed_since_at(earlier, rustix::param::clock_ticks_per_second() as f64)
    }

    fn computed_since_at(self, earlier: Self, ticks_per_second: f64) -> bool {
        // A member of the group that ended takes its time with it, so that the sum may shrink.
        let worked = self.ticks.saturating_sub(earlier.ticks);
        let passed = self.at.since(earlier.at).as_secs_f64() * ticks_per_second;
        worked >= BUSY_TICKS && worked as f64 >= passed * BUSY_SHARE
    }
}

struct Stat {
    group: u32,
    cpu_ticks: u64,
    start_ticks: u64,
    run_state: RunState,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields are numbered as in `proc_pid_stat(5)`; the name in parentheses may contain anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |index: usize| field(index)?.parse::<u64>().ok();
        Some(Self {
            run_state: if matches!(field(3)?, "T" | "t") { RunState::Stopped } else { RunState::Running },
            group: field(5)?.parse().ok()?,
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
        })
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn reading(seconds: u64, ticks: u64) -> CpuReading {
        CpuReading { ticks, run_state: RunState::Running, at: Uptime::new(Duration::from_secs(seconds)) }
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
            assert_eq!(later.computed_since_at(reading(0, 100), 100.0), computed, "{later:?}");
        }
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let tail = "T 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 4242 8192 3";
        let stat = Stat::parse(&format!("7 (evil) ) name) {tail}")).expect("well formed");
        assert_eq!((stat.group, stat.cpu_ticks, stat.start_ticks, stat.run_state), (7, 200, 4242, RunState::Stopped));
        assert!(Stat::parse("7 (x) S 1").is_none());
    }

    #[test]
    fn the_work_of_a_child_counts_for_its_group() {
        use std::os::unix::process::CommandExt;
        // The leader sleeps in `wait`; its child computes until it is killed.
        let mut script = Command::new("/bin/sh");
        let mut leader = script.args(["-c", "(while :; do :; done) & wait"]).process_group(0).spawn().expect("spawns");
        let stat = Stat::of(leader.id()).expect("runs");
        let key = Leader { pid: leader.id(), start_ticks: stat.start_ticks };
        let began = Instant::now();
        let now = || Uptime::new(began.elapsed());
        let first = CpuReading::of(key, now()).expect("runs");
        let mut computed = false;
        while !computed && began.elapsed() < Duration::from_secs(20) {
            computed = CpuReading::of(key, now()).expect("runs").computed_since(first);
        }
        let group = rustix::process::Pid::from_child(&leader);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("kills");
        leader.wait().expect("reaps");
        assert!(computed);
        assert_eq!(CpuReading::of(key, now()), None, "a process that is gone has no reading");
    }
}
