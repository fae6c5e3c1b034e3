//! Finds the process that listens on an address, and the one at the other end of a connection.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::proc_net;
use crate::sock_diag::{self, TcpSocket};

/// An address that a socket can listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// The inodes of the sockets that listen on any of `addresses`. A TCP socket counts if a connection to the address may reach it, or
/// the reverse.
///
/// # Errors
/// If the kernel neither answers `sock_diag` nor has `/proc/net`.
pub fn listening_inodes(addresses: &[SocketAddress]) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for address in addresses {
        match address {
            SocketAddress::Tcp(wanted) => {
                let listening = sock_diag::listening_tcp(Some(wanted.port())).or_else(|_| proc_net::listening_tcp())?;
                let reached = listening.iter().filter(|socket| overlaps(socket, wanted));
                inodes.extend(reached.map(|socket| socket.inode));
            }
            SocketAddress::Unix(wanted) => {
                let listening = sock_diag::listening_unix().or_else(|_| proc_net::listening_unix())?;
                inodes.extend(listening.iter().filter(|(path, _)| path == wanted).map(|(_, inode)| *inode));
            }
        }
    }
    Ok(inodes)
}

/// The TCP addresses on which the sockets with these inodes listen.
///
/// # Errors
/// If the kernel neither answers `sock_diag` nor has `/proc/net`.
pub fn listening_addresses(inodes: &BTreeSet<u64>) -> io::Result<Vec<SocketAddr>> {
    let listening = sock_diag::listening_tcp(None).or_else(|_| proc_net::listening_tcp())?;
    Ok(listening.into_iter().filter(|socket| inodes.contains(&socket.inode)).map(|socket| socket.local).collect())
}

/// The user of the process that is connected from `peer` to `local`, an accepted connection of this process. `None` if no process has
/// the peer's socket open, or it belongs to another machine or network namespace.
///
/// Costs microseconds where the kernel answers `sock_diag`; otherwise it reads every connection of the machine.
///
/// # Errors
/// If the kernel neither answers `sock_diag` nor has `/proc/net`.
pub fn peer_user(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let [local, peer] = [local, peer].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    let mut found = sock_diag::connection(peer, local);
    // A kernel that cannot answer says "not found", as it does for a peer that is gone. Our own end is there for certain.
    if !matches!(found, Ok(Some(_))) && !matches!(sock_diag::connection(local, peer), Ok(Some(_))) {
        found = proc_net::connection(peer, local);
    }
    // The kernel calls root the user of a socket that no process has open any more.
    Ok(found?.filter(|socket| socket.inode != 0).map(|socket| socket.user))
}

/// Whether a connection to `wanted` may reach `socket`, or the reverse: a server that is told to listen on `[::]` takes the
/// connections of both families.
fn overlaps(socket: &TcpSocket, wanted: &SocketAddr) -> bool {
    let (local, wanted_ip) = (socket.local.ip(), wanted.ip().to_canonical());
    let shares_family = match (local, wanted_ip) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => true,
        (IpAddr::V6(local), IpAddr::V4(_)) => local.is_unspecified() && !socket.v6_only,
        (IpAddr::V4(_), IpAddr::V6(wanted)) => wanted.is_unspecified(),
    };
    let is_any = local.is_unspecified() || wanted_ip.is_unspecified();
    socket.local.port() == wanted.port() && shares_family && (is_any || local == wanted_ip)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;

    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

    use super::*;

    fn inodes(address: SocketAddr) -> BTreeSet<u64> {
        listening_inodes(&[SocketAddress::Tcp(address)]).expect("readable")
    }

    #[test]
    fn only_listening_sockets_that_a_connection_could_reach_count() {
        let socket = |local: &str, v6_only| {
            let local: SocketAddr = local.parse().expect("an address");
            TcpSocket { local, remote: local, v6_only, is_listening: true, inode: 1, user: 0 }
        };
        let cases = [
            (socket("127.0.0.1:1", false), ["127.0.0.1:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "[::]:1"].as_slice()),
            (socket("0.0.0.0:1", false), &["127.0.0.1:1", "10.0.0.1:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "[::]:1"]),
            (
                socket("[::]:1", false),
                &["127.0.0.1:1", "10.0.0.1:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "[::1]:1", "[::]:1"],
            ),
            (socket("[::]:1", true), &["[::1]:1", "[::]:1"]),
            (socket("[::1]:1", true), &["[::1]:1", "[::]:1"]),
        ];
        for (socket, reached) in cases {
            for wanted in
                ["127.0.0.1:1", "10.0.0.1:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "[::1]:1", "[::]:1", "127.0.0.1:2"]
            {
                let expected = reached.contains(&wanted);
                assert_eq!(overlaps(&socket, &wanted.parse().expect("an address")), expected, "{socket:?} {wanted}");
            }
        }
    }

    #[test]
    fn a_listener_of_one_port_is_found_in_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("connects");
        let of_port = |sockets: Vec<TcpSocket>| {
            sockets.into_iter().filter(|socket| socket.local == address).map(|socket| socket.inode).collect::<Vec<_>>()
        };
        let asked = of_port(sock_diag::listening_tcp(Some(address.port())).expect("the kernel answers"));
        assert_eq!(asked.len(), 1, "neither end of the connection counts");
        assert_eq!(of_port(proc_net::listening_tcp().expect("readable")), asked);
        assert_eq!(inodes(address), asked.iter().copied().collect());
        drop((listener, client));
        assert!(inodes(address).is_disjoint(&asked.into_iter().collect()));
    }

    #[test]
    fn a_listener_that_refuses_ipv4_is_told_from_one_that_takes_it() {
        for (v6_only, found) in [(true, 0), (false, 1)] {
            let listener = socket(AddressFamily::INET6, SocketType::STREAM, None).expect("the kernel has IPv6");
            sockopt::set_ipv6_v6only(&listener, v6_only).expect("settable");
            let any: SocketAddr = "[::]:0".parse().expect("an address");
            bind(&listener, &any).expect("binds");
            listen(&listener, 1).expect("listens");
            let listener = TcpListener::from(listener);
            let port = listener.local_addr().expect("bound").port();
            assert_eq!(inodes(([127, 0, 0, 1], port).into()).len(), found, "v6only {v6_only}");
            assert_eq!(inodes(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).len(), 1);
        }
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path_in_both_ways() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("with a blank.sock");
        let _listener = UnixListener::bind(&path).expect("binds");
        let of_path = |sockets: Vec<(PathBuf, u64)>| sockets.into_iter().filter(|(found, _)| *found == path).collect();
        let asked: Vec<_> = of_path(sock_diag::listening_unix().expect("the kernel answers"));
        let read: Vec<_> = of_path(proc_net::listening_unix().expect("readable"));
        assert_eq!((asked.len(), &asked), (1, &read));
    }

    /// Fault S29.
    #[test]
    fn the_user_of_a_peer_is_known_while_its_socket_is_open() {
        let own = std::fs::metadata("/proc/self").expect("readable").uid();
        let target = |listener: &TcpListener, mapped: bool| {
            let address = listener.local_addr().expect("bound");
            match address.ip() {
                IpAddr::V4(ip) if mapped => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
                _ => address,
            }
        };
        for (host, mapped) in [("127.0.0.1:0", false), ("127.0.0.1:0", true), ("[::1]:0", false)] {
            let listener = TcpListener::bind(host).expect("binds");
            let client = TcpStream::connect(target(&listener, mapped)).expect("connects");
            let (accepted, peer) = listener.accept().expect("waits");
            let local = accepted.local_addr().expect("connected");
            assert_eq!(peer_user(local, peer).expect("the kernel answers"), Some(own), "{host} {mapped}");
            let read = proc_net::connection(peer, local).expect("readable").expect("listed");
            assert_eq!((read.user, read.inode != 0), (own, true), "{host} {mapped}");
            drop(client);
            assert_eq!(peer_user(local, peer).expect("the kernel answers"), None, "{host} {mapped}");
        }
    }
}
