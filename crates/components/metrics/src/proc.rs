//! What `/proc` says of a process.
//!
//! Everything about one process comes from one read of its `stat` file, which the kernel fills in one go: start time
//! and numbers cannot belong to two processes. Its memory is the same sum as in `statm`. Neither read takes a lock of
//! the process, so a process that hangs in the kernel does not hold up a scrape.

use std::fs;

/// One reading of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProcessReading {
    /// Start in clock ticks since the machine booted.
    pub(crate) start_ticks: u64,
    /// User and system time, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Address space, in bytes.
    pub(crate) virtual_bytes: u64,
    /// Resident memory, in bytes.
    pub(crate) resident_bytes: u64,
    /// Threads.
    pub(crate) threads: u64,
}

impl ProcessReading {
    /// Reads a process; none if it is gone, or if the number names one that started at another time.
    pub(crate) fn of(pid: u32, start_ticks: u64) -> Option<Self> {
        let reading = Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (reading.start_ticks == start_ticks).then_some(reading)
    }

    /// Reads the daemon itself.
    pub(crate) fn of_self() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// When the process started, in seconds since the Unix epoch.
    pub(crate) fn start_time_seconds(&self) -> Option<f64> {
        Some(machine_boot_seconds()? + ticks_as_seconds(self.start_ticks))
    }

    /// Reads the text of a `stat` file; fields are numbered as in `proc_pid_stat(5)`.
    fn parse(stat: &str) -> Option<Self> {
        // Field 2, the name, may itself contain spaces and parentheses.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            start_ticks: field(22)?,
            cpu_seconds: ticks_as_seconds(field(14)? + field(15)?),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as u64,
            threads: field(20)?,
        })
    }
}

/// Descriptors that the daemon has open.
pub(crate) fn open_fds() -> Option<usize> {
    // The descriptor of the directory itself is among the entries.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// Descriptors that the daemon may have open; none where the limit is off.
pub(crate) fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// When the machine booted, in seconds since the Unix epoch.
fn machine_boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn ticks_as_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let tail = "S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 4242 8192 3 184467";
        let reading = ProcessReading::parse(&format!("7 (evil) ) name) {tail}")).expect("well formed");
        assert_eq!(reading.start_ticks, 4242);
        assert_eq!(reading.threads, 9);
        assert_eq!(reading.virtual_bytes, 8192);
        assert_eq!(reading.resident_bytes, 3 * rustix::param::page_size() as u64);
        assert_eq!(reading.cpu_seconds, ticks_as_seconds(200));
    }

    #[test]
    fn a_cut_off_text_is_no_reading() {
        assert_eq!(ProcessReading::parse("7 (x) S 1 7"), None);
        assert_eq!(ProcessReading::parse(""), None);
    }

    #[test]
    fn the_own_process_is_read_plausibly() {
        let reading = ProcessReading::of_self().expect("readable");
        assert!(reading.resident_bytes > 100_000 && reading.resident_bytes < reading.virtual_bytes);
        assert!(reading.threads >= 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - reading.start_time_seconds().expect("readable");
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_process_of_another_start_time_is_not_ours() {
        let own = ProcessReading::of_self().expect("readable");
        let pid = std::process::id();
        assert!(ProcessReading::of(pid, own.start_ticks).is_some());
        assert_eq!(ProcessReading::of(pid, own.start_ticks + 1), None);
    }

    #[test]
    fn descriptors_are_counted_up_to_the_limit() {
        let before = open_fds().expect("readable");
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").expect("opens")).collect();
        let after = open_fds().expect("readable");
        // Other tests of this process open files too, but not that many.
        assert!(after >= before + held.len() / 2, "{before} then {after}");
        assert!(max_fds().expect("readable") >= after as u64);
    }
}
