//! Reads `/proc` of other processes.
//!
//! Every answer may be out of date when it is returned: callers pin a process (by a pidfd, or as a child that is not reaped)
//! before they act on it.

use std::fs;
use std::path::PathBuf;

use super::launch_tag::LaunchTag;

/// Fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// In clock ticks since the machine booted. Pid and start time together identify a process.
    pub(crate) start_ticks: u64,
    pub(crate) is_zombie: bool,
}

impl ProcStat {
    /// Reads the stat file of one process; `None` if the process is gone or its file cannot be read.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// The ids of all processes, in no order.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The name of a process's program: the file name of its executable, else its short name.
pub(crate) fn program(pid: u32) -> Option<String> {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let file_name = executable.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    file_name.or_else(|| Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned()))
}

/// Whether the environment that a process was started with contains `tag`.
///
/// `false` if its environment cannot be read: a process of ours runs as our own user.
pub(crate) fn has_tag(pid: u32, tag: &LaunchTag) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| tag.matches(entry))
}

/// The inodes of the sockets among the open files of a process.
pub(crate) fn socket_inodes(pid: u32) -> std::io::Result<Vec<u64>> {
    let files = fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd")))?;
    Ok(files
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect())
}

/// The program's name stands in parentheses and may contain any character, so that fields are counted from the last `)`.
fn parse_stat(text: &str) -> Option<ProcStat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(ProcStat {
        pid,
        is_zombie: matches!(field(3)?, "Z" | "X"),
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        start_ticks: field(22)?.trim_end().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) Z 7 40 40 0 -1 4228 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        let expected = ProcStat { pid: 42, parent: 7, group: 40, start_ticks: 98765, is_zombie: true };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn a_cut_off_stat_is_no_stat() {
        for text in ["", "42", "42 (a", "42 (a)", "42 (a) S 1"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let stat = ProcStat::of(std::process::id()).expect("we exist");
        assert_eq!(stat.pid, std::process::id());
        assert!(!stat.is_zombie && stat.start_ticks > 0);
        assert!(processes().any(|pid| pid == stat.pid));
        assert!(program(stat.pid).is_some_and(|name| name.contains("launcher")));
    }
}
