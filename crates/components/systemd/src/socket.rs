//! The socket on which systemd listens.
//!
//! Sending never waits: systemd may be slow to read, and the thread that sends runs the whole daemon.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};

/// systemd's end, and a socket of our own to send from.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    address: UnixAddr,
    socket: OwnedFd,
}

impl NotifySocket {
    /// `address` is an absolute path, or `@` and an abstract name.
    pub(crate) fn new(address: &[u8]) -> io::Result<Self> {
        let address = match address.strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name)?,
            None if address.starts_with(b"/") => UnixAddr::new(address)?,
            None => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name"));
            }
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self { address, socket: socket(AddressFamily::Unix, SockType::Datagram, flags, None)? })
    }

    /// Sends one message, with copies of `descriptors`.
    pub(crate) fn send(&self, fields: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &control[..] };
        let content = [IoSlice::new(fields.as_bytes())];
        sendmsg(self.socket.as_fd().as_raw_fd(), &content, control, MsgFlags::MSG_NOSIGNAL, Some(&self.address))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("llama-warden-test-{}", std::process::id());
        let abstract_address =
            <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
        let by_name = UnixDatagram::bind_addr(&abstract_address.expect("a name")).expect("bound");
        for (address, end) in [(path.to_str().expect("text").to_owned(), by_path), (format!("@{name}"), by_name)] {
            NotifySocket::new(address.as_bytes()).expect("an address").send("READY=1", &[]).expect("sent");
            let mut buffer = [0; 64];
            let length = end.recv(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"READY=1", "{address}");
        }
    }

    #[test]
    fn another_kind_of_address_is_refused() {
        assert!(NotifySocket::new(b"vsock:2:1234").is_err());
        assert!(NotifySocket::new(b"").is_err());
    }

    #[test]
    fn a_reader_that_never_reads_stops_nobody() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("notify");
        let _never_read = UnixDatagram::bind(&path).expect("bound");
        let socket = NotifySocket::new(path.to_str().expect("text").as_bytes()).expect("an address");
        let full = (0..100_000).map(|_| socket.send("WATCHDOG=1", &[])).find_map(Result::err).expect("it fills up");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
