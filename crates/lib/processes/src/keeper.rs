//! What a shim keeps while no daemon is there: a socket for the next one, and the output of the program.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use llama_warden_events::StreamName;
use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;

use crate::wire::Keeping;

/// Most bytes of a stream that are kept.
const RING: usize = 64 * 1024;

/// The socket on which a shim waits for the next daemon. Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Doorway {
    path: PathBuf,
    listener: UnixListener,
}

impl Doorway {
    pub(crate) fn open(keeping: &Keeping) -> io::Result<Self> {
        let name = format!("{}.{}", keeping.name, std::process::id());
        let path = keeping.folder.join(&name);
        // An error is told by the next step, unless it is there already.
        let _ = fs::DirBuilder::new().mode(0o700).create(&keeping.folder);
        let folder = fs::File::open(&keeping.folder)?;
        let short = within(&folder, OsStr::new(&name));
        // One that a killed shim with the same id has left.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener })
    }

    pub(crate) fn socket(&self) -> &UnixListener {
        &self.listener
    }

    /// Whether a daemon can find it.
    pub(crate) fn is_reachable(&self) -> bool {
        // Any error but this one may pass.
        !matches!(self.path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The daemon that waits, if it is of this user or of root.
    pub(crate) fn accept(&self) -> Option<UnixStream> {
        let (socket, _) = self.listener.accept().ok()?;
        let peer = socket_peercred(&socket).ok()?.uid.as_raw();
        (peer == 0 || peer == geteuid().as_raw()).then_some(socket)
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        // An error means that somebody has removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

/// The path of a name in an open folder. A socket's own path has at most 107 bytes.
pub(crate) fn within(folder: &fs::File, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
}

/// A pipe of the program, and the end of what it gave while no daemon was there.
#[derive(Debug)]
pub(crate) struct KeptPipe {
    pub(crate) stream: StreamName,
    /// Kept open so that the program never writes into a closed pipe.
    pub(crate) pipe: PipeReader,
    is_ended: bool,
    bytes: VecDeque<u8>,
    dropped: Dropped,
}

/// What was dropped of a pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) bytes: u64,
    /// The line feeds among them.
    pub(crate) lines: u64,
}

impl KeptPipe {
    pub(crate) fn new(stream: StreamName, pipe: PipeReader) -> Self {
        Self { stream, pipe, is_ended: false, bytes: VecDeque::new(), dropped: Dropped::default() }
    }

    /// Whether there may be more to read.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_ended
    }

    /// Reads once from a pipe that is ready.
    pub(crate) fn drain(&mut self) {
        let mut chunk = [0; 16 * 1024];
        match self.pipe.read(&mut chunk) {
            Ok(0) => self.is_ended = true,
            Ok(read) => self.push(&chunk[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.is_ended = true,
        }
    }

    /// Adds bytes that come before those that are still in the pipe.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(RING);
        let lines = self.bytes.drain(..surplus).filter(|byte| *byte == b'\n').count();
        self.dropped.bytes += surplus as u64;
        self.dropped.lines += lines as u64;
    }

    /// Takes back what nobody has read.
    pub(crate) fn put_back(&mut self, bytes: &[u8], dropped: Dropped) {
        self.dropped = dropped;
        self.push(bytes);
    }

    /// What was read, and what was dropped before it. Frees the memory.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Dropped) {
        (std::mem::take(&mut self.bytes).into(), std::mem::take(&mut self.dropped))
    }

    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_the_others_are_counted() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut kept = KeptPipe::new(StreamName::Stderr, reader);
        kept.push(b"unread ");
        writer.write_all(b"and more").expect("written");
        kept.drain();
        assert_eq!(kept.take(), (b"unread and more".to_vec(), Dropped::default()));
        kept.push(b"1\n");
        kept.push(&[1; RING - 3]);
        kept.push(&[2; 4]);
        let (bytes, dropped) = kept.take();
        assert_eq!((bytes.len(), dropped), (RING, Dropped { bytes: 3, lines: 1 }));
        assert_eq!((bytes[0], &bytes[RING - 5..]), (1, &[1, 2, 2, 2, 2][..]));
        drop(writer);
        kept.drain();
        assert!(!kept.is_open() && kept.take() == (Vec::new(), Dropped::default()));
    }
}
