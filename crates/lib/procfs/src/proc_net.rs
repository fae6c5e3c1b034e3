//! The tables of sockets in `/proc/net`, for kernels that do not answer `sock_diag`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::sock_diag::TcpSocket;

/// `TCP_LISTEN` as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// `__SO_ACCEPTCON` as `/proc/net/unix` writes it.
const ACCEPTING: &[u8] = b"00010000";

/// The TCP sockets that listen. The tables do not say which of them refuse IPv4.
pub(crate) fn listening_tcp() -> io::Result<Vec<TcpSocket>> {
    let mut found = Vec::new();
    // The kernel lists listening sockets first; thousands of closed connections may follow, and printing them costs 10 to 28 ms
    // (measured).
    read_tcp(|socket| {
        let goes_on = socket.is_listening;
        found.extend(goes_on.then_some(socket));
        goes_on
    })?;
    Ok(found)
}

/// The socket from `local` to `remote`.
pub(crate) fn connection(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let mut found = None;
    read_tcp(|socket| {
        if socket.local == local && socket.remote == remote {
            found = Some(socket);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Paths and inodes of the unix sockets that listen.
pub(crate) fn listening_unix() -> io::Result<Vec<(PathBuf, u64)>> {
    // Paths need not be UTF-8.
    let table = fs::read("/proc/net/unix")?;
    Ok(table.split(|byte| *byte == b'\n').skip(1).filter_map(unix_socket).collect())
}

/// Gives each socket of both tables to `each`, until it returns false for the rest of a table.
fn read_tcp(mut each: impl FnMut(TcpSocket) -> bool) -> io::Result<()> {
    for (path, may_be_missing) in [("/proc/net/tcp", false), ("/proc/net/tcp6", true)] {
        let file = match fs::File::open(path) {
            // The kernel has no IPv6.
            Err(_) if may_be_missing => continue,
            file => file?,
        };
        for line in BufReader::with_capacity(4096, file).lines().skip(1) {
            if !tcp_socket(&line?).is_none_or(&mut each) {
                break;
            }
        }
    }
    Ok(())
}

fn tcp_socket(line: &str) -> Option<TcpSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let field = |index: usize| fields.get(index).copied();
    Some(TcpSocket {
        local: parse_socket(field(1)?)?,
        remote: parse_socket(field(2)?)?,
        v6_only: false,
        is_listening: field(3)? == LISTEN,
        user: field(7)?.parse().ok()?,
        inode: field(9)?.parse().ok()?,
    })
}

/// Reads `address: count protocol flags type state inode path`, where the path may contain anything but a line end.
fn unix_socket(line: &[u8]) -> Option<(PathBuf, u64)> {
    let mut rest = line;
    let mut fields = [&[][..]; 7];
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ')?;
        (*field, rest) = rest.split_at(end);
    }
    let inode = std::str::from_utf8(fields[6]).ok()?.parse().ok()?;
    (fields[3] == ACCEPTING).then(|| (OsStr::from_bytes(&rest[1..]).into(), inode))
}

/// Parses `0100007F:1F90`: the address as 32-bit words in the machine's byte order, and the port.
fn parse_socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = if address.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        let octets: [u8; 16] = words.concat().try_into().ok()?;
        IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_line_of_each_table_is_read() {
        let listens =
            "   1: 00000000:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100";
        let socket = tcp_socket(listens).expect("a socket");
        assert_eq!((socket.local, socket.inode, socket.is_listening), (([0, 0, 0, 0], 8002).into(), 222, true));
        let connected = "  2: 0000000000000000FFFF00000100007F:1F41 0000000000000000FFFF00000100007F:C350 01 \
            00000000:00000000 00:00000000 00000000  65534        0 333 1 0 100";
        let socket = tcp_socket(connected).expect("a socket");
        assert_eq!((socket.local, socket.remote), (([127, 0, 0, 1], 8001).into(), ([127, 0, 0, 1], 50_000).into()));
        assert_eq!((socket.user, socket.is_listening), (65_534, false));
        let unix = b"0000000000000000: 00000002 00000000 00010000 0001 01  4711 /run/with a blank/a.sock";
        assert_eq!(unix_socket(unix), Some((Path::new("/run/with a blank/a.sock").to_owned(), 4711)));
        for cut in 0..40 {
            assert_eq!((tcp_socket(&listens[..cut]), unix_socket(&unix[..cut])), (None, None));
        }
    }
}
