//! Finds out who listens where a server was told to listen.
//!
//! The kernel names the listening sockets by inode (`/proc/net`), and each process its open ones (`/proc/PID/fd`). A
//! server that shares its port with a stranger (SO_REUSEPORT, builds until 2025-08) does not own it: answers may come
//! from either.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fs, io};

use llama_warden_events::ListenerOwner;

use super::launch_tag::LaunchTag;
use super::proc::{self, ProcStat};
use super::server_address::ServerAddress;

/// `TCP_LISTEN` as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// `__SO_ACCEPTCON` as `/proc/net/unix` writes it.
const ACCEPTING: &str = "00010000";

/// Says who listens on any of `addresses`: the launch whose leader is `leader`, or somebody else.
///
/// Reads a handful of files where the leader itself listens, and those of every process otherwise.
pub(crate) fn identify(addresses: &[ServerAddress], leader: u32, tag: &LaunchTag) -> ListenerOwner {
    let mut unowned = match listening_inodes(addresses) {
        Ok(inodes) if inodes.is_empty() => return ListenerOwner::Nobody,
        Ok(inodes) => inodes,
        Err(error) => return ListenerOwner::Unreadable { detail: format!("cannot read /proc/net: {error}") },
    };
    let leader_sockets = proc::socket_inodes(leader);
    for inode in leader_sockets.iter().flatten() {
        unowned.remove(inode);
    }
    if unowned.is_empty() {
        return ListenerOwner::Own;
    }
    for pid in proc::processes() {
        let sockets: BTreeSet<u64> = proc::socket_inodes(pid).unwrap_or_default().into_iter().collect();
        if sockets.is_disjoint(&unowned) {
            continue;
        }
        if !belongs(pid, leader, tag) {
            return ListenerOwner::Foreign { pid: Some(pid), program: proc::program(pid) };
        }
        unowned.retain(|inode| !sockets.contains(inode));
    }
    if unowned.is_empty() {
        return ListenerOwner::Own;
    }
    if let Err(error) = leader_sockets {
        return ListenerOwner::Unreadable { detail: format!("cannot read the open files of {leader}: {error}") };
    }
    // A socket that was closed between the two looks is nobody's any more; one that is still there is a stranger's whose
    // files we may not read.
    match listening_inodes(addresses) {
        Ok(still) if still.is_disjoint(&unowned) => ListenerOwner::Nobody,
        _ => ListenerOwner::Foreign { pid: None, program: None },
    }
}

/// Whether surely nobody listens on a TCP address.
pub(crate) fn is_nobodys(address: &ServerAddress) -> bool {
    let listening = || listening_inodes(std::slice::from_ref(address));
    matches!(address, ServerAddress::Tcp(_)) && listening().is_ok_and(|inodes| inodes.is_empty())
}

/// The process that listens on `address`, for people, if the kernel lets us see it.
pub(crate) fn describe_owner(address: &ServerAddress) -> Option<String> {
    let inodes = listening_inodes(std::slice::from_ref(address)).ok()?;
    let is_owner =
        |pid: &u32| proc::socket_inodes(*pid).is_ok_and(|own| own.iter().any(|inode| inodes.contains(inode)));
    let pid = proc::processes().find(is_owner)?;
    Some(format!("{} (pid {pid})", proc::program(pid).unwrap_or_else(|| "a process".to_owned())))
}

/// The group of the leader, and whoever left it with the tag.
fn belongs(pid: u32, leader: u32, tag: &LaunchTag) -> bool {
    ProcStat::of(pid).is_some_and(|stat| stat.group == leader) || proc::has_tag(pid, tag)
}

fn listening_inodes(addresses: &[ServerAddress]) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    if addresses.iter().any(|address| matches!(address, ServerAddress::Tcp(_))) {
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp")?, addresses));
        // Absent where the kernel has no IPv6.
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp6").unwrap_or_default(), addresses));
    }
    if addresses.iter().any(|address| matches!(address, ServerAddress::Unix(_))) {
        // Paths are bytes.
        let table = fs::read("/proc/net/unix")?;
        inodes.extend(unix_inodes(&String::from_utf8_lossy(&table), addresses));
    }
    Ok(inodes)
}

/// The head of a table up to its first socket that does not listen. The kernel lists listening sockets first, and
/// thousands of closed connections may follow, which cost 10 to 28 ms to print (measured).
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

fn tcp_inodes(table: &str, addresses: &[ServerAddress]) -> Vec<u64> {
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (*state == LISTEN).then_some((parse_socket(local)?, inode.parse().ok()?))
    });
    let is_wanted = |local: &SocketAddr| {
        addresses.iter().any(|address| matches!(address, ServerAddress::Tcp(wanted) if overlaps(local, wanted)))
    };
    listening.filter(|(local, _)| is_wanted(local)).map(|(_, inode)| inode).collect()
}

fn unix_inodes(table: &str, addresses: &[ServerAddress]) -> Vec<u64> {
    let is_wanted =
        |path: &str| addresses.iter().any(|address| *address == ServerAddress::Unix(Path::new(path).into()));
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let (flags, inode, path) = (fields.get(3)?, fields.get(6)?, fields.get(7)?);
        (*flags == ACCEPTING && is_wanted(path)).then_some(inode.parse().ok()?)
    });
    listening.collect()
}

/// Whether a connection to `wanted` may reach a socket that is bound to `local`, or the other way round.
fn overlaps(local: &SocketAddr, wanted: &SocketAddr) -> bool {
    let (local_ip, wanted_ip) = (local.ip().to_canonical(), wanted.ip().to_canonical());
    let is_any = local_ip.is_unspecified() || wanted_ip.is_unspecified();
    local.port() == wanted.port() && (is_any || local_ip == wanted_ip)
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's byte order, the port as a number.
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
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use llama_warden_events::{BootId, Incarnation, ServerId};

    use super::*;

    fn tag() -> LaunchTag {
        LaunchTag::new(&BootId::from_random(1), &ServerId::new("a").expect("valid"), Incarnation::new(1))
    }

    fn tcp(address: &str) -> ServerAddress {
        ServerAddress::Tcp(address.parse().expect("an address"))
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

    #[test]
    fn our_own_listeners_are_ours_on_every_kind_of_address() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("a.sock");
        let v4 = TcpListener::bind("127.0.0.1:0").expect("bind");
        let any = TcpListener::bind("0.0.0.0:0").expect("bind");
        let _unix = UnixListener::bind(&path).expect("bind");
        let leader = std::process::id();
        let address = |listener: &TcpListener| ServerAddress::Tcp(listener.local_addr().expect("bound"));
        for address in [address(&v4), address(&any), ServerAddress::Unix(path)] {
            assert_eq!(identify(std::slice::from_ref(&address), leader, &tag()), ListenerOwner::Own, "{address:?}");
            let described = describe_owner(&address).expect("visible");
            assert!(described.ends_with(&format!("(pid {leader})")), "{described}");
        }
    }

    #[test]
    fn a_listener_of_another_process_is_foreign() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = ServerAddress::Tcp(listener.local_addr().expect("bound"));
        // Process 1 exists and is not of our group.
        let owner = identify(&[address], 1, &tag());
        assert!(
            matches!(owner, ListenerOwner::Foreign { pid: Some(pid), program: Some(_) } if pid == std::process::id()),
            "{owner:?}"
        );
    }

    #[test]
    fn a_free_port_is_nobodys() {
        // A port that was open a moment ago may still be held by a child on its way to exec.
        let address = tcp("127.83.12.9:1");
        assert_eq!(identify(&[address], std::process::id(), &tag()), ListenerOwner::Nobody);
    }
}
