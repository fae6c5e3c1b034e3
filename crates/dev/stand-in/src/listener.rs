//! The listening socket: TCP or unix, with or without a shared port.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use nix::sys::{
    socket::{
        AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, shutdown,
        socket, sockopt,
    },
    time::TimeVal,
};

/// An idle connection is closed after this time.
const IDLE_LIMIT: TimeVal = TimeVal::new(30, 0);

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds `host`, which is the path of a unix socket if it ends in `.sock`. `shared` sets SO_REUSEPORT on a port.
    pub(crate) fn bind(host: &str, port: u16, shared: bool) -> io::Result<Self> {
        if host.ends_with(".sock") {
            return UnixListener::bind(host).map(Self::Unix);
        }
        let address = (host, port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{host} has no address")))?;
        let listener = if shared { bind_shared(address) } else { TcpListener::bind(address) };
        listener.map(Self::Tcp)
    }

    /// The bound port, which the kernel chooses for `--port 0`; 0 for a unix socket.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.port()).unwrap_or_default(),
            Self::Unix(_) => 0,
        }
    }

    /// A second descriptor of the socket, to close it or to pass it to a child.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Accepts a connection of either kind.
    pub(crate) fn accept(&self) -> io::Result<File> {
        let stream = match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                OwnedFd::from(stream)
            }
            Self::Unix(listener) => listener.accept()?.0.into(),
        };
        setsockopt(&stream, sockopt::ReceiveTimeout, &IDLE_LIMIT)?;
        Ok(stream.into())
    }
}

/// Stops listening, while a thread may be blocked in `accept`.
pub(crate) fn stop_listening(listener: &OwnedFd) {
    // On Linux this makes the blocked `accept` return EINVAL. An error means that the socket is closed already.
    let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
}

fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let descriptor = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
    setsockopt(&descriptor, sockopt::ReusePort, &true)?;
    bind(descriptor.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&descriptor, Backlog::new(128)?)?;
    Ok(TcpListener::from(descriptor))
}
