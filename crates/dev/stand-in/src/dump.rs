//! Writes what the process inherited from its parent as JSON, for tests of the launcher.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

/// Descriptors and signal masks at the start, before the stand-in itself opens files and blocks signals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    fds: BTreeMap<u32, String>,
    signals_blocked: u64,
    signals_ignored: u64,
}

impl Inherited {
    pub(crate) fn capture() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { fds: open_files(), signals_blocked: mask(&status, "SigBlk:"), signals_ignored: mask(&status, "SigIgn:") }
    }
}

#[derive(Serialize)]
struct Dump<'a> {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    /// The target of each descriptor, by number.
    fds: &'a BTreeMap<u32, String>,
    /// Signal numbers.
    signals_blocked: Vec<u32>,
    /// Signal numbers. Rust's runtime ignores SIGPIPE (13).
    signals_ignored: Vec<u32>,
    controlling_tty: bool,
    pid: u32,
    parent: u32,
    group: i32,
    session: i32,
    directory: String,
}

/// Writes the dump to `path` in one step.
pub(crate) fn write(inherited: &Inherited, path: &Path) -> std::io::Result<()> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let dump = Dump {
        argv: std::env::args_os().map(lossy).collect(),
        env: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
        fds: &inherited.fds,
        signals_blocked: numbers(inherited.signals_blocked),
        signals_ignored: numbers(inherited.signals_ignored),
        controlling_tty: has_controlling_tty(),
        pid: std::process::id(),
        parent: std::os::unix::process::parent_id(),
        group: nix::unistd::getpgrp().as_raw(),
        session: nix::unistd::getsid(None).map(nix::unistd::Pid::as_raw).unwrap_or_default(),
        directory: std::env::current_dir()?.display().to_string(),
    };
    crate::output::replace_file(path, &serde_json::to_string_pretty(&dump)?)
}

fn open_files() -> BTreeMap<u32, String> {
    let own = format!("/proc/{}/fd", std::process::id());
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            Some((entry.file_name().to_str()?.parse().ok()?, target))
        })
        .filter(|(_, target)| *target != own)
        .collect()
}

fn mask(status: &str, key: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or_default()
}

fn numbers(mask: u64) -> Vec<u32> {
    (1..=64).filter(|number| mask >> (number - 1) & 1 == 1).collect()
}

/// Whether field 7 of `/proc/self/stat` is not 0. The name in field 2 may contain spaces and parentheses.
fn has_controlling_tty() -> bool {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(4).is_some_and(|number| number != "0")
}
