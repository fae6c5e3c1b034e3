//! Lists processes, and reads the files of one other than its `stat`.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Read};

use crate::sockets::{SocketAddress, listening_inodes};

/// The numbers of all processes that exist, in no order. Empty if `/proc` cannot be read.
pub fn process_ids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The children of a process, their children, and so on, each before its own. Empty if the kernel does not list children
/// (`CONFIG_PROC_CHILDREN`); without a child that was adopted by another process because its parent ended.
pub fn descendants(pid: u32) -> impl Iterator<Item = u32> {
    let mut found = children(pid);
    std::iter::from_fn(move || {
        let next = found.pop_front()?;
        found.extend(children(next));
        Some(next)
    })
}

/// The children of a process; each of its threads has those that it started. Empty if the kernel does not list children.
pub fn children(pid: u32) -> VecDeque<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The program of a process, for people: the file name of its executable, or its short name (`comm`) where the
/// executable of another user cannot be read. `None` if the process is gone.
pub fn program_name(pid: u32) -> Option<String> {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let file_name = executable.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    file_name.or_else(|| {
        let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end().to_owned())
    })
}

/// Most bytes of an environment that are read. The kernel allows 6 MiB for arguments and environment (execve(2)).
const MOST_ENVIRONMENT: u64 = 8 << 20;

/// The environment that a process was started with: `NAME=value` entries, each ended by a NUL byte. Empty if the process
/// is gone or belongs to another user.
pub fn environment(pid: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ"));
    match read.and_then(|file| file.take(MOST_ENVIRONMENT).read_to_end(&mut entries)) {
        Ok(_) => entries,
        Err(_) => Vec::new(),
    }
}

/// The inodes of the sockets among the open files of a process, as `/proc/net` names them.
///
/// # Errors
/// If the process is gone or belongs to another user.
pub fn socket_inodes(pid: u32) -> io::Result<Vec<u64>> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let inode = |entry: io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(files.filter_map(inode).collect())
}

/// A process that listens on `address`, if the kernel shows it to us.
pub fn listener(address: &SocketAddress) -> Option<u32> {
    let inodes = listening_inodes(std::slice::from_ref(address)).ok().filter(|inodes| !inodes.is_empty())?;
    process_ids().find(|pid| has_socket(*pid, &inodes))
}

/// Whether a process listens on `address`, perhaps beside others that share the socket.
pub fn listens(pid: u32, address: &SocketAddress) -> bool {
    listening_inodes(std::slice::from_ref(address)).is_ok_and(|inodes| has_socket(pid, &inodes))
}

fn has_socket(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    socket_inodes(pid).is_ok_and(|own| own.iter().any(|inode| inodes.contains(inode)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_is_listed_with_its_program_and_its_environment() {
        let own = std::process::id();
        assert!(process_ids().any(|pid| pid == own));
        assert!(program_name(own).is_some_and(|name| name.contains("procfs")));
        assert_eq!(environment(own).is_empty(), std::env::vars_os().next().is_none());
    }

    #[test]
    fn children_and_their_children_are_listed() {
        let mut shell = Command::new("sh").args(["-c", "sleep 300 & echo $!; wait"]).stdout(Stdio::piped()).spawn();
        let shell = shell.as_mut().expect("a shell");
        let mut line = String::new();
        let _ = BufReader::new(shell.stdout.take().expect("is piped")).read_line(&mut line).expect("it prints");
        let sleeper: u32 = line.trim().parse().expect("a pid");
        let found: Vec<u32> = descendants(std::process::id()).collect();
        let at = |wanted: u32| found.iter().position(|pid| *pid == wanted).expect("is listed");
        assert!(at(shell.id()) < at(sleeper), "{found:?}");
        let killed = Command::new("kill").args(["-9", line.trim()]).status().expect("runs");
        assert!(killed.success() && shell.wait().is_ok());
    }

    #[test]
    fn an_open_socket_is_among_the_inodes() {
        let before = socket_inodes(std::process::id()).expect("ours");
        let _socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let after = socket_inodes(std::process::id()).expect("ours");
        assert!(after.iter().any(|inode| !before.contains(inode)));
    }
}
