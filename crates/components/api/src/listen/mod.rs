//! Taking the addresses, before anything else happens: an address in use is an error of the start, not of the run.

mod control;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

pub(crate) use control::{ControlSocket, PeerPolicy, SocketPath};

use crate::http_security::ListenerReach;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// Host (a name or a number without brackets) and port; port 0 takes a free one. `None`: the control socket alone.
    pub tcp: Option<(String, u16)>,
    /// The path of the control socket, at most 107 bytes. Its directory is made, or made private.
    pub control: PathBuf,
}

/// Bound addresses. Dropping them lets go of both and removes the control socket.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) tcp: Option<BoundTcp>,
    pub(crate) control: ControlSocket,
}

#[derive(Debug)]
pub(crate) struct BoundTcp {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
    /// As it was configured; browsers name it in `Host`.
    pub(crate) host: String,
}

/// Why an address could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The TCP address.
    #[error("cannot listen on {host}:{port}")]
    Tcp {
        /// The host as configured.
        host: String,
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path does not fit into a socket address.
    #[error("the path of the control socket has {length} bytes, and the kernel takes 107: {path}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory, or what stands in the socket's place, belongs to another user.
    #[error("{path} belongs to user {owner}, and the daemon runs as user {user}")]
    ForeignOwner {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Something that is no socket stands in the way: a symbolic link, a file, a directory.
    #[error("{path} is {found}")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What is there, with its article.
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
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    /// Whether somebody else holds the address.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Tcp { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::Answered { .. } => true,
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Tcp { .. } if self.is_taken() => {
                "another program listens there: stop it, or set another `listen` in [daemon] (\"\" is no TCP at all)"
            }
            Self::Tcp { .. } => "set `listen` in [daemon] to an address of this machine, such as 127.0.0.1:9888",
            Self::PathTooLong { .. } => "set a shorter `state-dir` in [daemon]",
            Self::ForeignOwner { .. } => "set `state-dir` in [daemon] to a directory of your own",
            Self::InTheWay { .. } => "remove it, or set another `state-dir` in [daemon]",
            Self::Answered { .. } => "talk to it with `llama-warden status`, or end it with `llama-warden down`",
            Self::Io { .. } => "set `state-dir` in [daemon] to a directory that can be written",
        }
    }
}

impl Listeners {
    /// Takes the addresses. The control socket comes first: that another daemon answers there is the better message.
    pub fn bind(settings: &ListenSettings) -> Result<Self, BindError> {
        let control = ControlSocket::bind(&settings.control)?;
        let tcp = settings.tcp.as_ref().map(|(host, port)| BoundTcp::bind(host, *port)).transpose()?;
        Ok(Self { tcp, control })
    }

    /// The TCP address that was taken, with its real port.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.address)
    }
}

impl BoundTcp {
    fn bind(host: &str, port: u16) -> Result<Self, BindError> {
        let bound = TcpListener::bind((host, port)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address, host: host.to_owned() })
        });
        bound.map_err(|source| BindError::Tcp { host: host.to_owned(), port, source })
    }

    pub(crate) fn reach(&self) -> ListenerReach {
        if self.address.ip().is_loopback() { ListenerReach::Loopback } else { ListenerReach::Network }
    }
}
