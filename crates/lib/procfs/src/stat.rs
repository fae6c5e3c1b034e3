//! `/proc/PID/stat`: identity, place and use of resources of one process.
//!
//! The kernel fills the file in one read, so the fields of one [`ProcessStat`] always belong to one process.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The last field of the file that is read.
const LAST_FIELD: usize = 24;

/// The fields of `/proc/PID/stat` that the daemon uses; numbered in the source as in `proc_pid_stat(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The process number (field 1).
    pub pid: u32,
    /// Whether it can run (field 3).
    pub state: RunState,
    /// The number of its parent (field 4); 0 for a process that the kernel started.
    pub parent: u32,
    /// Its process group (field 5).
    pub group: u32,
    /// User and system time in clock ticks (fields 14 and 15), without children.
    pub cpu_ticks: u64,
    /// User and system time of children that have ended and were waited for (fields 16 and 17), in clock ticks.
    pub reaped_cpu_ticks: u64,
    /// Its threads (field 20).
    pub threads: u64,
    /// Its start in clock ticks since the machine booted (field 22). With `pid` it names a process for good.
    pub start_ticks: u64,
    /// Its address space in bytes (field 23).
    pub virtual_bytes: u64,
    /// Its resident memory in pages (field 24).
    pub resident_pages: u64,
}

/// Whether the kernel lets a process run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It runs, sleeps or waits for a device.
    Live,
    /// A signal or a debugger stopped it (`T`, `t`).
    Stopped,
    /// It has ended and is not reaped (`Z`), or is just being removed (`X`).
    Zombie,
}

impl ProcessStat {
    /// Reads the stat of one process; `None` if the process is gone or the file cannot be read.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(format!("/proc/{pid}/stat").as_ref())
    }

    /// Reads the stat of this process, whatever number a process namespace gives it.
    pub fn of_self() -> Option<Self> {
        Self::read("/proc/self/stat".as_ref())
    }

    /// Whether the process has ended and is not reaped.
    pub fn is_zombie(&self) -> bool {
        self.state == RunState::Zombie
    }

    /// User and system time in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        ticks_as_seconds(self.cpu_ticks)
    }

    /// Resident memory in bytes, as in `/proc/PID/statm`.
    pub fn resident_bytes(&self) -> u64 {
        self.resident_pages.saturating_mul(rustix::param::page_size() as u64)
    }

    /// How long ago the process started; `None` if `/proc/uptime` cannot be read.
    pub fn age_seconds(&self) -> Option<f64> {
        let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
        Some((uptime - ticks_as_seconds(self.start_ticks)).max(0.0))
    }

    /// When the process started, in seconds since the Unix epoch; `None` if `/proc/stat` cannot be read.
    pub fn start_time_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(boot + ticks_as_seconds(self.start_ticks))
    }

    fn read(path: &Path) -> Option<Self> {
        // One read into a buffer that holds any stat: names have 64 bytes at most, numbers 20 digits. A metrics page reads a thousand
        // of them, and `fs::read` takes twice as many calls of the kernel.
        let mut buffer = [0; 2048];
        let length = File::open(path).and_then(|mut file| file.read(&mut buffer)).ok()?;
        Self::parse(&buffer[..length])
    }

    /// Field 2, the name, is in parentheses and may have any bytes: spaces, `)`, or invalid UTF-8. Every later
    /// field is a number or a letter, so the last `)` ends the name, and only what follows it is read as text.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
        let after_name = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
        let mut fields = [""; LAST_FIELD - 2];
        let mut present = after_name.split_ascii_whitespace();
        fields.iter_mut().for_each(|field| *field = present.next().unwrap_or_default());
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |index: usize| field(index)?.parse::<u64>().ok();
        let pid = stat.split(|byte| *byte == b' ').next()?;
        Some(Self {
            pid: std::str::from_utf8(pid).ok()?.parse().ok()?,
            state: match field(3)? {
                "Z" | "X" => RunState::Zombie,
                "T" | "t" => RunState::Stopped,
                _ => RunState::Live,
            },
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            cpu_ticks: number(14)?.saturating_add(number(15)?),
            reaped_cpu_ticks: number(16)?.saturating_add(number(17)?),
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// Clock ticks of the kernel (usually a hundredth of a second each) as seconds.
pub fn ticks_as_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    const AFTER_NAME: &str = "T 7 40 40 0 -1 4194304 100 0 0 0 150 50 6 1 20 0 9 0 4242 8192 3 18446744073709551615";

    #[test]
    fn a_name_of_any_bytes_shifts_no_field() {
        let expected = ProcessStat {
            pid: 42,
            state: RunState::Stopped,
            parent: 7,
            group: 40,
            cpu_ticks: 200,
            reaped_cpu_ticks: 7,
            threads: 9,
            start_ticks: 4242,
            virtual_bytes: 8192,
            resident_pages: 3,
        };
        for name in [&b"sh"[..], b"", b"a b (c)", b"evil) ) name", b") Z 1 1", b"\xff\xfe", b"line\nbreak"] {
            let text = [b"42 (", name, b") ", AFTER_NAME.as_bytes(), b"\n"].concat();
            assert_eq!(ProcessStat::parse(&text), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn the_letter_of_the_state_tells_the_dead_and_the_stopped_from_the_others() {
        let state = |letter| {
            let text = format!("1 (a) {letter}{}", AFTER_NAME.trim_start_matches('T'));
            ProcessStat::parse(text.as_bytes()).map(|stat| stat.state)
        };
        assert_eq!(["Z", "X"].map(state), [Some(RunState::Zombie); 2]);
        assert_eq!(["T", "t"].map(state), [Some(RunState::Stopped); 2]);
        assert_eq!(["R", "S", "D", "I"].map(state), [Some(RunState::Live); 4]);
    }

    #[test]
    fn a_cut_off_stat_is_no_stat() {
        for text in ["", "42", "42 (a", "42 (a)", "42 (a) S 1", "x (a) S 1 2"] {
            assert_eq!(ProcessStat::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_read_plausibly() {
        let stat = ProcessStat::of(std::process::id()).expect("we exist");
        assert_eq!((stat.pid, stat.state), (std::process::id(), RunState::Live));
        assert_eq!(ProcessStat::of_self().map(|own| own.start_ticks), Some(stat.start_ticks));
        assert!(stat.resident_bytes() > 100_000 && stat.resident_bytes() < stat.virtual_bytes && stat.threads >= 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - stat.start_time_seconds().expect("readable");
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_process_that_is_gone_has_no_stat() {
        let mut ended = std::process::Command::new("true").spawn().expect("spawns");
        ended.wait().expect("reaped");
        assert_eq!(ProcessStat::of(ended.id()), None);
    }
}
