//! Binds the router's address before anything is launched, so that one in use fails the start, and connections wait from then on.

use std::io;
use std::net::TcpListener;

use llama_warden_config::{RouterAddress, RouterSettings};
use llama_warden_http_server::{BindError, BoundTcp, BoundUnix, ControlSocket};

/// Where the router listens, if it does.
#[derive(Debug)]
pub struct RouterListener(Option<ListeningPlace>);

#[derive(Debug)]
pub(crate) enum ListeningPlace {
    Tcp {
        /// The socket, not bound to a runtime yet.
        listener: TcpListener,
        /// The host as configured; browsers send it in `Host`.
        host: String,
    },
    /// On a unix socket, for the daemon's user and root.
    Unix(BoundUnix),
}

/// The router cannot listen as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum RouterUnavailable {
    /// The kernel refused the address.
    #[error("the router cannot listen on {host}:{port}")]
    Tcp {
        /// The host as configured.
        host: String,
        /// The port as configured.
        port: u16,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The socket cannot be bound at its path.
    #[error(transparent)]
    Unix(BindError),
}

impl RouterListener {
    /// Binds the address.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn bind(settings: &RouterSettings) -> Result<Self, RouterUnavailable> {
        match &settings.listen {
            RouterAddress::Off => Ok(Self(None)),
            RouterAddress::Unix(path) => {
                let socket = BoundUnix::bind(path).map_err(RouterUnavailable::Unix)?;
                Ok(Self(Some(ListeningPlace::Unix(socket))))
            }
            RouterAddress::Tcp(tcp) => {
                let bound = TcpListener::bind((tcp.host.as_str(), tcp.port)).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                let refused = |source| RouterUnavailable::Tcp { host: tcp.host.clone(), port: tcp.port, source };
                let listener = bound.map_err(refused)?;
                Ok(Self(Some(ListeningPlace::Tcp { listener, host: tcp.host.clone() })))
            }
        }
    }

    /// The host and the real port, or the path of the unix socket; `None` where it is off.
    pub fn place(&self) -> Option<(String, Option<u16>)> {
        match self.0.as_ref()? {
            ListeningPlace::Tcp { listener, host } => Some((host.clone(), Some(listener.local_addr().ok()?.port()))),
            ListeningPlace::Unix(socket) => Some((socket.path().display().to_string(), None)),
        }
    }

    /// The place, once; `None` where the router is off.
    pub(crate) const fn take_place(&mut self) -> Option<ListeningPlace> {
        self.0.take()
    }
}

impl ListeningPlace {
    /// Gives the socket to the runtime that calls.
    pub(crate) fn start(self) -> Result<StartedListener, BindError> {
        match self {
            Self::Tcp { listener, host } => {
                let port = listener.local_addr().map_or(0, |address| address.port());
                BoundTcp::bind(&host, port, vec![listener]).map(StartedListener::Tcp)
            }
            Self::Unix(socket) => socket.start().map(StartedListener::Unix),
        }
    }
}

/// A socket that accepts connections in the runtime of the router.
#[derive(Debug)]
pub(crate) enum StartedListener {
    Tcp(BoundTcp),
    Unix(ControlSocket),
}
