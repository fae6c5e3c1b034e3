//! Lists processes, and reads the files of one other than its `stat`.

use std::{fs, io};

use crate::sockets::{SocketAddress, listening_inodes};

/// The numbers of all processes that exist, in no order. Empty if `/proc` cannot be read.
pub fn process_ids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
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

/// The environment that a process was started with: `NAME=value` entries, each ended by a NUL byte. Empty if the process
/// is gone or belongs to another user.
pub fn environment(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
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
    process_ids().find(|pid| socket_inodes(*pid).is_ok_and(|own| own.iter().any(|inode| inodes.contains(inode))))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_listed_with_its_program_and_its_environment() {
        let own = std::process::id();
        assert!(process_ids().any(|pid| pid == own));
        assert!(program_name(own).is_some_and(|name| name.contains("procfs")));
        assert_eq!(environment(own).is_empty(), std::env::vars_os().next().is_none());
    }

    #[test]
    fn an_open_socket_is_among_the_inodes() {
        let before = socket_inodes(std::process::id()).expect("ours");
        let _socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let after = socket_inodes(std::process::id()).expect("ours");
        assert!(after.iter().any(|inode| !before.contains(inode)));
    }
}
