//! Asks the kernel about sockets over netlink: `sock_diag(7)`.
//!
//! The kernel answers with the sockets that are meant, so a question costs as much on a machine with thousands of connections as
//! on an idle one. Tables of `/proc/net` are printed whole.
//!
//! The layouts come from `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h` and `linux/unix_diag.h`. All are in the byte
//! order of the machine but addresses and ports, which are in that of the network.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// Type of a question (`SOCK_DIAG_BY_FAMILY`) and of each answer.
const BY_FAMILY: u16 = 20;
/// Type of the message that carries an error (`NLMSG_ERROR`).
const ERROR: u16 = 2;
/// Type of the message that ends a list (`NLMSG_DONE`).
const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_DUMP`: a list is asked for, not one socket.
const LIST: u16 = 0x300;
/// `TCP_LISTEN`, which unix sockets that listen have too.
const LISTEN: u8 = 10;
const FAMILY_UNIX: u8 = 1;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const PROTOCOL_TCP: u8 = 6;
/// The attribute that says whether an IPv6 socket refuses IPv4 (`INET_DIAG_SKV6ONLY`).
const V6_ONLY: u16 = 11;
/// The attribute with the path of a unix socket (`UNIX_DIAG_NAME`).
const NAME: u16 = 0;
/// `UDIAG_SHOW_NAME`.
const SHOW_NAME: u32 = 1;
/// Length of `nlmsghdr`.
const HEADER: usize = 16;
/// Length of `inet_diag_msg`, which the attributes follow.
const INET_MESSAGE: usize = 72;
/// Length of `unix_diag_msg`, which the attributes follow.
const UNIX_MESSAGE: usize = 16;
/// The kernel writes at most this much at once (`netlink_dump`).
const BUFFER: usize = 32 * 1024;

/// A TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Whether it is an IPv6 socket that refuses IPv4; only known of one that listens.
    pub(crate) v6_only: bool,
    pub(crate) is_listening: bool,
    /// 0 for a socket that no process has open.
    pub(crate) inode: u64,
    /// Meaningless if `inode` is 0.
    pub(crate) user: u32,
}

/// The TCP sockets that listen on `port`, or on any, of both families.
pub(crate) fn listening_tcp(port: Option<u16>) -> io::Result<Vec<TcpSocket>> {
    let diag = SockDiag::open()?;
    let mut found = Vec::new();
    for family in [FAMILY_V4, FAMILY_V6] {
        let question = inet_question(family, 1 << LISTEN, None, port.unwrap_or_default());
        let listed = diag.ask(&question, LIST, |message| found.extend(tcp_socket(message)));
        match listed {
            // A kernel without IPv6 has no such sockets.
            Err(error) if family == FAMILY_V6 && error.kind() == io::ErrorKind::NotFound => {}
            listed => listed?,
        }
    }
    // Kernels before 4.10 ignore the port in a list.
    found.retain(|socket| port.is_none_or(|port| socket.local.port() == port));
    Ok(found)
}

/// The socket from `local` to `remote`; `None` if there is none, or the kernel cannot look for it.
pub(crate) fn connection(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let family = if local.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 };
    let question = inet_question(family, u32::MAX, Some((local.ip(), remote)), local.port());
    let mut found = None;
    match SockDiag::open()?.ask(&question, 0, |message| found = tcp_socket(message)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        asked => asked?,
    }
    // Where there is no such connection, the kernel answers with a socket that listens on `local`.
    Ok(found.filter(|socket| !socket.is_listening && socket.remote.port() == remote.port()))
}

/// Paths and inodes of the unix sockets that listen.
pub(crate) fn listening_unix() -> io::Result<Vec<(PathBuf, u64)>> {
    let mut question = vec![FAMILY_UNIX, 0, 0, 0];
    for word in [1 << LISTEN, 0, SHOW_NAME, u32::MAX, u32::MAX] {
        question.extend(word.to_ne_bytes());
    }
    let mut found = Vec::new();
    SockDiag::open()?.ask(&question, LIST, |message| found.extend(unix_socket(message)))?;
    Ok(found)
}

/// `inet_diag_req_v2`.
fn inet_question(family: u8, states: u32, ends: Option<(IpAddr, SocketAddr)>, port: u16) -> Vec<u8> {
    let mut question = vec![family, PROTOCOL_TCP, 0, 0];
    question.extend(states.to_ne_bytes());
    question.extend(port.to_be_bytes());
    question.extend(ends.map_or(0, |(_, remote)| remote.port()).to_be_bytes());
    question.extend(ends.map_or([0; 16], |(local, _)| address_bytes(local)));
    question.extend(ends.map_or([0; 16], |(_, remote)| address_bytes(remote.ip())));
    // Any interface, and no cookie.
    for word in [0, u32::MAX, u32::MAX] {
        question.extend(word.to_ne_bytes());
    }
    question
}

fn address_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Reads an `inet_diag_msg` and its attributes.
fn tcp_socket(message: &[u8]) -> Option<TcpSocket> {
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(bytes(message, port)?);
        let ip = match message[0] {
            FAMILY_V4 => IpAddr::from(Ipv4Addr::from(bytes::<4>(message, address)?)),
            _ => IpAddr::from(Ipv6Addr::from(bytes::<16>(message, address)?)).to_canonical(),
        };
        Some(SocketAddr::new(ip, port))
    };
    let attributes = message.get(INET_MESSAGE..)?;
    Some(TcpSocket {
        local: end(4, 8)?,
        remote: end(6, 24)?,
        v6_only: attribute(attributes, V6_ONLY).is_some_and(|value| value.first() == Some(&1)),
        is_listening: message[1] == LISTEN,
        user: u32::from_ne_bytes(bytes(message, 64)?),
        inode: u32::from_ne_bytes(bytes(message, 68)?).into(),
    })
}

/// Reads a `unix_diag_msg` and its attributes; `None` for a socket without a path.
fn unix_socket(message: &[u8]) -> Option<(PathBuf, u64)> {
    let inode = u32::from_ne_bytes(bytes(message, 4)?);
    let name = attribute(message.get(UNIX_MESSAGE..)?, NAME)?;
    let path = name.strip_suffix(b"\0").unwrap_or(name);
    Some((OsStr::from_bytes(path).into(), inode.into()))
}

fn bytes<const N: usize>(message: &[u8], at: usize) -> Option<[u8; N]> {
    message.get(at..at + N)?.try_into().ok()
}

/// The value of the attribute `kind`. An attribute has its length with the header, its kind, and the value, padded to four bytes.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length: usize = u16::from_ne_bytes(bytes(attributes, 0)?).into();
        let found = u16::from_ne_bytes(bytes(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// A netlink socket for one question after the other. The kernel has the answer ready when `send` returns, so nothing waits.
struct SockDiag(OwnedFd);

impl SockDiag {
    fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // `INET_DIAG` is the older name of `SOCK_DIAG`.
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::INET_DIAG))?))
    }

    /// Sends a question and gives each socket of the answer to `each`.
    fn ask(&self, question: &[u8], flags: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let length = u32::try_from(HEADER + question.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(BY_FAMILY.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        // Sequence number and port, which tell answers apart where several questions are under way.
        message.extend([0; 8]);
        message.extend(question);
        send(&self.0, &message, SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (_, received) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = buffer.get(..received).unwrap_or_default();
            while let Some((kind, content, after)) = next_message(rest) {
                match kind {
                    DONE | ERROR => return outcome(content),
                    BY_FAMILY => each(content),
                    _ => {}
                }
                if flags != LIST {
                    return Ok(());
                }
                rest = after;
            }
        }
    }
}

/// The type and the content of the first message, and what follows it.
fn next_message(received: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes(received, 0)?)).ok()?;
    let kind = u16::from_ne_bytes(bytes(received, 4)?);
    let content = received.get(HEADER..length)?;
    Some((kind, content, received.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The result that ends an answer: 0, or a negative errno.
fn outcome(content: &[u8]) -> io::Result<()> {
    match bytes(content, 0).map(i32::from_ne_bytes) {
        Some(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_answer_is_no_answer() {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(DONE.to_ne_bytes());
        message.extend([0; 14]);
        assert_eq!(next_message(&message), Some((DONE, &[0; 4][..], &[][..])));
        for length in 0..message.len() {
            assert_eq!(next_message(&message[..length]), None);
        }
        for message in [vec![], vec![FAMILY_V4; 71], vec![0xff; 75]] {
            assert!(tcp_socket(&message).is_none_or(|socket| !socket.v6_only));
            assert_eq!(unix_socket(&message[..message.len().min(15)]), None);
        }
        assert_eq!(attribute(&[0, 0, 0, 0], NAME), None, "a length below its header");
    }
}
