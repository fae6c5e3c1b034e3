//! Reads processes from `/proc`, independently of the daemon's own reader.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// The process id.
    pub pid: u32,
    /// The process id of the parent.
    pub parent: u32,
    /// The arguments, separated by spaces; the name in brackets where there are none, as for a zombie.
    pub command: String,
    /// Whether it has ended and its parent has not reaped it.
    pub is_zombie: bool,
}

impl ProcessInfo {
    /// Whether a process runs; a zombie does not.
    pub fn runs(pid: u32) -> bool {
        Self::of(pid).is_some_and(|process| !process.is_zombie)
    }

    /// Whether it makes and keeps the programs of a daemon.
    pub fn is_guardian_or_shim(&self) -> bool {
        self.command == "warden-guardian" || self.command == "[warden-guardian]" || self.command.starts_with("[shim ")
    }

    /// Reads a process; `None` where it does not exist.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in field 2 may contain spaces and parentheses, so the fields are counted from its end.
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned();
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let command = if line.is_empty() { format!("[{name}]") } else { line };
        Some(Self { pid, parent, command, is_zombie: matches!(state, "Z" | "X") })
    }
}

/// Whether a process ignores a signal, by the text of its `/proc/PID/status`.
///
/// # Panics
/// If it is no such text.
pub fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a number");
    mask & (1 << (signal as u32 - 1)) != 0
}

/// Every process that `/proc` shows.
fn processes() -> Vec<ProcessInfo> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(ProcessInfo::of).collect()
}

/// The processes that have `text` in their environment or command line, without this process and without zombies.
pub fn processes_with(text: &str) -> Vec<ProcessInfo> {
    let own = std::process::id();
    let has = |file: &str, pid: u32| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(text)
    };
    let mut found = processes();
    found.retain(|process| {
        let ProcessInfo { pid, is_zombie, .. } = *process;
        pid != own && !is_zombie && (has("environ", pid) || has("cmdline", pid))
    });
    found
}

/// The children of a process, their children, and so on, including zombies.
pub fn descendants(pid: u32) -> Vec<ProcessInfo> {
    let all = processes();
    let mut family = BTreeSet::from([pid]);
    let mut found: Vec<ProcessInfo> = Vec::new();
    // `/proc` lists processes by pid, and a child may have a smaller pid than its parent: repeat until nothing is added.
    loop {
        let known = found.len();
        for process in &all {
            if family.contains(&process.parent) && family.insert(process.pid) {
                found.push(process.clone());
            }
        }
        if found.len() == known {
            return found;
        }
    }
}

/// The descendants of a daemon without its guardian and the shims.
pub fn programs_of(daemon: u32) -> Vec<ProcessInfo> {
    descendants(daemon).into_iter().filter(|process| !process.is_guardian_or_shim()).collect()
}

/// Kills a daemon with its guardian and its shims: none sees the end of another.
pub fn kill_with_guardian_and_shims(daemon: u32) {
    let below: Vec<u32> =
        descendants(daemon).iter().filter(|process| process.is_guardian_or_shim()).map(|process| process.pid).collect();
    let all = || below.iter().chain([&daemon]).map(|pid| Pid::from_raw(i32::try_from(*pid).expect("a process id")));
    all().for_each(|pid| kill(pid, Signal::SIGSTOP).expect("ours"));
    all().for_each(|pid| kill(pid, Signal::SIGKILL).expect("ours"));
}

/// The resident memory of a process in bytes (VmRSS); 0 where it does not exist.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// The number of open file descriptors of a process; 0 where it does not exist.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
