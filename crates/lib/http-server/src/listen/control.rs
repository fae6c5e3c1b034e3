//! The control socket: a unix socket with mode 0600, for one user and root.
//!
//! An existing path is replaced only if it is a socket of our user on which no process answers. A process that can write the
//! directory could swap the path between the check and the removal, so the caller names a directory that no other user can write.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::BindError;

/// Longest path: `sun_path` of unix(7) has 108 bytes with the terminating zero.
const MAX_PATH: usize = 107;

/// A socket at a path, on which connections wait until a runtime accepts them.
#[derive(Debug)]
pub struct BoundUnix {
    listener: StdUnixListener,
    user: u32,
    file: SocketFile,
}

/// The socket in a runtime.
#[derive(Debug)]
pub struct ControlSocket {
    /// The socket.
    pub listener: UnixListener,
    /// The daemon's user.
    pub user: u32,
    _file: SocketFile,
}

/// The file of a socket. Dropping it removes it from the file system, unless another daemon has bound the path meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode number of our socket.
    inode: (u64, u64),
}

impl BoundUnix {
    /// Binds it at a path of 107 bytes at most, in a directory that no other user can write.
    ///
    /// # Errors
    /// If it cannot be bound, or something else is there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH {
            return Err(BindError::PathTooLong { path: path.to_owned(), length });
        }
        let user = nix::unistd::geteuid().as_raw();
        remove_stale_socket(path, user)?;
        let listener = StdUnixListener::bind(path).map_err(failed("bind", path))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("protect", path))?;
        let found = fs::symlink_metadata(path).map_err(failed("inspect", path))?;
        let file = SocketFile { path: path.to_owned(), inode: (found.dev(), found.ino()) };
        Ok(Self { listener, user, file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Gives it to the runtime that calls.
    ///
    /// # Errors
    /// If the runtime does not take it.
    pub fn start(self) -> Result<ControlSocket, BindError> {
        let Self { listener, user, file } = self;
        let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener = listener.map_err(failed("accept connections on", &file.path))?;
        Ok(ControlSocket { listener, user, _file: file })
    }
}

impl ControlSocket {
    /// Binds it, as [`BoundUnix::bind`] does. Needs a tokio runtime.
    ///
    /// # Errors
    /// If it cannot be bound, or something else is there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        BoundUnix::bind(path)?.start()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            // Harmless: the next start finds that no process answers and removes it.
            tracing::debug!(path = %self.path.display(), %error, "socket not removed");
        }
    }
}

/// Whether connections of `peer` are accepted: those of the daemon's own user, and of root.
pub const fn admits(user: u32, peer: u32) -> bool {
    peer == user || peer == 0
}

/// Removes a socket that a dead daemon left behind; refuses everything else.
fn remove_stale_socket(path: &Path, user: u32) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("inspect", path)(error)),
    };
    let kind = found.file_type();
    if !kind.is_socket() {
        let found = match kind {
            kind if kind.is_symlink() => "a symbolic link",
            kind if kind.is_dir() => "a directory",
            _ => "not a socket",
        };
        return Err(BindError::InTheWay { path: path.to_owned(), found });
    }
    check_owner(path, &found, user)?;
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::Answered { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove", path))
        }
        Err(error) => Err(failed("connect to", path)(error)),
    }
}

fn check_owner(path: &Path, found: &Metadata, user: u32) -> Result<(), BindError> {
    if found.uid() == user {
        return Ok(());
    }
    Err(BindError::ForeignOwner { path: path.to_owned(), owner: found.uid(), user })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_leaves_with_its_owner() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("control.sock");
        let socket = ControlSocket::bind(&path).expect("binds");
        let mode = fs::symlink_metadata(&path).expect("exists").mode() & 0o777;
        assert_eq!(mode, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_replaced() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("control.sock");
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "a dead daemon leaves its socket behind");
        let _socket = ControlSocket::bind(&path).expect("replaces it");
        UnixStream::connect(&path).expect("answers");
    }

    #[tokio::test]
    async fn a_socket_that_somebody_answers_on_is_left_alone() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("control.sock");
        let first = ControlSocket::bind(&path).expect("binds");
        let error = ControlSocket::bind(&path).expect_err("taken");
        assert!(matches!(error, BindError::Answered { .. }), "{error}");
        UnixStream::connect(&path).expect("the first one still answers");
        drop(first);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_refused_and_left_alone() {
        let root = tempfile::tempdir().expect("directory");
        let elsewhere = root.path().join("elsewhere.sock");
        let _other = UnixListener::bind(&elsewhere).expect("binds");
        let link = root.path().join("link.sock");
        std::os::unix::fs::symlink(&elsewhere, &link).expect("linked");
        let file = root.path().join("file.sock");
        fs::write(&file, "precious").expect("written");
        for path in [&link, &file] {
            let error = ControlSocket::bind(path).expect_err("refused");
            assert!(matches!(error, BindError::InTheWay { .. }), "{error}");
            assert!(fs::symlink_metadata(path).is_ok());
        }
    }

    #[tokio::test]
    async fn a_path_that_no_socket_address_holds_is_refused() {
        let root = tempfile::tempdir().expect("directory");
        let name = |length: usize| root.path().join("x".repeat(length - root.path().as_os_str().len() - 1));
        assert!(matches!(ControlSocket::bind(&name(108)), Err(BindError::PathTooLong { length: 108, .. })));
        ControlSocket::bind(&name(107)).expect("the longest fits");
    }

    #[tokio::test]
    async fn the_place_of_another_socket_is_not_removed() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("control.sock");
        let first = ControlSocket::bind(&path).expect("binds");
        fs::remove_file(&path).expect("removed");
        let _second = UnixListener::bind(&path).expect("binds");
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn the_daemons_user_and_root_are_admitted() {
        assert!(admits(1000, 1000) && admits(1000, 0));
        assert!(!admits(1000, 1001));
    }
}
