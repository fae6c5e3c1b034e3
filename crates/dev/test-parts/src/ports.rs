//! Leases of TCP ports, so that tests and benchmarks that run at the same time, in one process or several, get different ones.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

use crate::error::{Error, OnPath};

/// A port, or a block of ports that begins with it, that nobody else leases from the same folder before this value is dropped.
#[derive(Debug)]
pub struct PortLease {
    first: u16,
    /// A locked file. The kernel unlocks it when the process ends, however it ends.
    _file: File,
}

impl PortLease {
    /// Leases `first` in a folder of the temporary directory; `None` if somebody has it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn take(folder: &str, first: u16) -> Result<Option<Self>, Error> {
        let folder = env::temp_dir().join(folder);
        fs::create_dir_all(&folder).on("create", &folder)?;
        let path = folder.join(first.to_string());
        let file = File::create(&path).on("write", &path)?;
        Ok(file.try_lock().is_ok().then_some(Self { first, _file: file }))
    }

    /// The port.
    pub const fn first(&self) -> u16 {
        self.first
    }
}

/// Whether any server can have this port of 127.0.0.1 now: nobody listens, and no connection that a server has closed keeps it for a
/// minute (`TIME_WAIT`). A listener of the standard library would get it in that minute (`SO_REUSEADDR`), but a llama-server before
/// 2025-08 would not.
pub fn is_free(port: u16) -> bool {
    bound(port).is_ok()
}

/// A port of 127.0.0.1 that any server can have, of the kernel's choice.
///
/// # Errors
/// The kernel has none left.
pub fn free_port() -> io::Result<u16> {
    Ok(getsockname::<SockaddrIn>(bound(0)?.as_raw_fd())?.port())
}

/// A socket that is bound to this port of 127.0.0.1, without the options by which it would share one.
fn bound(port: u16) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_is_leased_to_one_at_a_time() {
        let folder = format!("llama-warden-test-parts-{}", std::process::id());
        let lease = PortLease::take(&folder, 9).unwrap().unwrap();
        assert_eq!(lease.first(), 9);
        assert!(PortLease::take(&folder, 9).unwrap().is_none());
        assert!(PortLease::take(&folder, 10).unwrap().is_some());
        drop(lease);
        assert!(PortLease::take(&folder, 9).unwrap().is_some());
        fs::remove_dir_all(env::temp_dir().join(&folder)).unwrap();
    }

    #[test]
    fn a_port_is_free_when_nobody_listens_and_no_closed_connection_keeps_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_free(address.port()), "somebody listens");
        let mut client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop((client, listener));
        assert!(TcpListener::bind(address).is_ok(), "nobody listens");
        assert!(!is_free(address.port()), "the server has closed its connection first");
    }
}
