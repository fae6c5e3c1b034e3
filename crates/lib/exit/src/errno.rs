//! The next step for a failed system call, by its errno.

use std::io;

use nix::errno::Errno;

/// The next step for an error of the kernel that has the same cause wherever it comes; `None` if it depends on the place.
pub fn next_step_for(error: &io::Error) -> Option<&'static str> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::ENOSPC | Errno::EDQUOT => {
            Some("the disk or a quota is full: free some of it, or name another folder as daemon.state-dir")
        }
        Errno::EROFS => {
            Some("the file system is read-only: name a writable folder as daemon.state-dir, or mount it writable")
        }
        Errno::EACCES | Errno::EPERM => {
            Some("give it to the user who runs llama-warden, or name another folder as daemon.state-dir")
        }
        Errno::EMFILE => Some("this process has all the files open that it may: raise the limit (`ulimit -n`)"),
        Errno::ENFILE => Some("the machine has all the files open that it may: raise fs.file-max"),
        Errno::EAGAIN => Some("this user has all the processes that it may: raise the limit (`ulimit -u`, pids.max)"),
        Errno::ENOMEM => Some("free some memory"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_fits_the_errno() {
        let step = |errno: Errno| next_step_for(&errno.into()).unwrap_or_default();
        assert!(step(Errno::ENOSPC).contains("full"));
        assert!(step(Errno::EROFS).contains("read-only"));
        assert!(step(Errno::EACCES).contains("user"));
        assert!(step(Errno::EMFILE).contains("ulimit -n"));
        assert_eq!(step(Errno::EISDIR), "");
    }
}
