//! Binds the addresses before anything else happens, so that an address in use fails the start and not a running daemon.

mod control;

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub use control::{BoundUnix, ControlSocket, admits};

/// Bound addresses. Dropping them closes both and removes the control socket.
#[derive(Debug)]
pub struct Listeners {
    /// The TCP address.
    pub tcp: Option<BoundTcp>,
    /// The control socket.
    pub control: ControlSocket,
    /// Sockets that replace the control socket.
    pub rebound: mpsc::Receiver<ControlSocket>,
    rebinder: ControlRebinder,
}

/// Binds the control socket of a running daemon again, where its file is gone.
#[derive(Debug, Clone)]
pub struct ControlRebinder {
    path: PathBuf,
    /// One is enough: another one waits for a removal of the first.
    sockets: mpsc::Sender<ControlSocket>,
}

impl ControlRebinder {
    /// Binds it, unless there is something at its path. Connections over the former one go on.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn rebind(&self) -> Result<(), BindError> {
        if self.path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let socket = ControlSocket::bind(&self.path)?;
            // Refused at the end of the daemon alone.
            let _ = self.sockets.try_send(socket);
        }
        Ok(())
    }
}

/// A TCP address on which connections wait.
#[derive(Debug)]
pub struct BoundTcp {
    /// The socket.
    pub listener: TcpListener,
    /// Its address, with the real port.
    pub address: SocketAddr,
    /// The host as configured; browsers send it in `Host`.
    pub host: String,
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refused the TCP address.
    #[error("cannot listen on {host}:{port}")]
    Tcp {
        /// The host as configured.
        host: String,
        /// The port as configured.
        port: u16,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The path is too long for a socket address.
    #[error("the path of the socket has {length} bytes, and the kernel allows 107: {path}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// An existing socket at the path belongs to another user.
    #[error("{path} belongs to user {owner}, and the daemon runs as user {user}")]
    ForeignOwner {
        /// The socket.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of the daemon.
        user: u32,
    },
    /// The path is a symbolic link, a file or a directory, which is never removed.
    #[error("{path} is {found}")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// The kind of file, with its article.
        found: &'static str,
    },
    /// Another daemon answers on the control socket.
    #[error("another daemon answers on {path}")]
    Answered {
        /// The path.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// The failed action, as a verb such as `bind`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl BindError {
    /// The next step for the user.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Tcp { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or set another `listen` in [daemon] (\"\" disables TCP)"
            }
            Self::Tcp { .. } => "set `listen` in [daemon] to an address of this machine, such as 127.0.0.1:9888",
            Self::PathTooLong { .. } => "set a shorter `state-dir` in [daemon]",
            Self::ForeignOwner { .. } | Self::InTheWay { .. } => "remove it, or set another `state-dir` in [daemon]",
            Self::Answered { .. } => "talk to it with `llama-warden status`, or end it with `llama-warden down`",
            Self::Io { .. } => "set `state-dir` in [daemon] to a directory that can be written",
        }
    }
}

impl Listeners {
    /// Binds the control socket and, unless `tcp` is `None`, a TCP address. Needs a tokio runtime.
    ///
    /// `tcp` is a host (a name or an IP address without brackets) and a port; port 0 binds a free one. `control` is the
    /// path of the control socket, at most 107 bytes, in a directory that no other user can write. The control socket comes
    /// first: if another daemon runs, that it answers there is the better message. `inherited` are sockets that listen already:
    /// one of them that listens at `tcp` is taken, the others are closed.
    ///
    /// # Errors
    /// If an address cannot be bound; the other one is closed again.
    pub fn bind(tcp: Option<(&str, u16)>, control: &Path, inherited: Vec<StdTcpListener>) -> Result<Self, BindError> {
        let path = control.to_owned();
        let control = ControlSocket::bind(control)?;
        let tcp = tcp.map(|(host, port)| BoundTcp::bind(host, port, inherited)).transpose()?;
        let (sockets, rebound) = mpsc::channel(1);
        Ok(Self { tcp, control, rebound, rebinder: ControlRebinder { path, sockets } })
    }

    /// Binds the control socket again, later.
    pub fn control_rebinder(&self) -> ControlRebinder {
        self.rebinder.clone()
    }

    /// Another descriptor of the TCP socket. `None` also where the kernel gives no more descriptors.
    pub fn tcp_copy(&self) -> Option<OwnedFd> {
        self.tcp.as_ref()?.listener.as_fd().try_clone_to_owned().ok()
    }

    /// The bound TCP address, with its real port.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.address)
    }
}

/// The socket of `inherited` that listens at an address of the host and port.
fn take_inherited(host: &str, port: u16, inherited: Vec<StdTcpListener>) -> io::Result<Option<StdTcpListener>> {
    let mut taken = None;
    for listener in inherited {
        let address = listener.local_addr()?;
        if taken.is_none() && (host, port).to_socket_addrs()?.any(|wanted| wanted == address) {
            taken = Some(listener);
        } else {
            tracing::warn!(%address, "a socket from systemd is closed: `listen` in [daemon] names another address");
        }
    }
    Ok(taken)
}

impl BoundTcp {
    /// Binds a host and a port, or takes the socket of `inherited` that listens there. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the kernel refuses the address.
    pub fn bind(host: &str, port: u16, inherited: Vec<StdTcpListener>) -> Result<Self, BindError> {
        let bound = take_inherited(host, port, inherited).and_then(|taken| match taken {
            Some(listener) => Ok(listener),
            None => StdTcpListener::bind((host, port)),
        });
        let bound = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener: TcpListener::from_std(listener)?, address, host: host.to_owned() })
        });
        bound.map_err(|source| BindError::Tcp { host: host.to_owned(), port, source })
    }
}
