//! Finds out which process listens on a server's address.
//!
//! The kernel lists listening sockets with their inodes (`/proc/net`), and the open sockets of each process (`/proc/PID/fd`). A
//! server that shares its port with another process (SO_REUSEPORT, builds until 2025-08) does not own it: either may answer.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fs, io};

use llama_warden_events::ListenerOwner;

use super::launch_tag::LaunchTag;
use super::proc;
use super::server_address::ServerAddress;
use llama_warden_procfs::{ProcessStat, process_ids, program_name, socket_inodes};

/// `TCP_LISTEN` as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

/// `__SO_ACCEPTCON` as `/proc/net/unix` writes it.
const ACCEPTING: &str = "00010000";

/// The owner of the sockets that listen on any of `addresses`: the launch whose leader is `leader`, another process, or none.
///
/// Reads a handful of files if the leader itself listens, and the open files of every process otherwise.
pub(crate) fn identify(addresses: &[ServerAddress], leader: u32, tag: &LaunchTag) -> ListenerOwner {
    let mut unowned = match listening_inodes(addresses) {
        Ok(inodes) if inodes.is_empty() => return ListenerOwner::Nobody,
        Ok(inodes) => inodes,
        Err(error) => return ListenerOwner::Unreadable { detail: format!("cannot read /proc/net: {error}") },
    };
    let leader_sockets = socket_inodes(leader);
    for inode in leader_sockets.iter().flatten() {
        unowned.remove(inode);
    }
    if unowned.is_empty() {
        return ListenerOwner::Own;
    }
    for pid in process_ids() {
        let sockets: BTreeSet<u64> = socket_inodes(pid).unwrap_or_default().into_iter().collect();
        if sockets.is_disjoint(&unowned) {
            continue;
        }
        if !belongs(pid, leader, tag) {
            return ListenerOwner::Foreign { pid: Some(pid), program: program_name(pid) };
        }
        unowned.retain(|inode| !sockets.contains(inode));
    }
    if unowned.is_empty() {
        return ListenerOwner::Own;
    }
    if let Err(error) = leader_sockets {
        return ListenerOwner::Unreadable { detail: format!("cannot read the open files of {leader}: {error}") };
    }
    // A socket that was closed since the first search belongs to nobody. One that is still there belongs to a process whose
    // files we may not read.
    match listening_inodes(addresses) {
        Ok(still) if still.is_disjoint(&unowned) => ListenerOwner::Nobody,
        _ => ListenerOwner::Foreign { pid: None, program: None },
    }
}

/// Whether it is certain that nobody listens on a TCP address.
pub(crate) fn is_unused(address: &ServerAddress) -> bool {
    let listening = || listening_inodes(std::slice::from_ref(address));
    matches!(address, ServerAddress::Tcp(_)) && listening().is_ok_and(|inodes| inodes.is_empty())
}

/// Name and pid of the process that listens on `address`, if the kernel shows it to us.
pub(crate) fn describe_owner(address: &ServerAddress) -> Option<String> {
    let inodes = listening_inodes(std::slice::from_ref(address)).ok()?;
    let is_owner = |pid: &u32| socket_inodes(*pid).is_ok_and(|own| own.iter().any(|inode| inodes.contains(inode)));
    let pid = process_ids().find(is_owner)?;
    Some(format!("{} (pid {pid})", program_name(pid).unwrap_or_else(|| "a process".to_owned())))
}

/// Whether a process is in the leader's group, or has left it and carries the tag.
fn belongs(pid: u32, leader: u32, tag: &LaunchTag) -> bool {
    ProcessStat::of(pid).is_some_and(|stat| stat.group == leader) || proc::has_tag(pid, tag)
}

fn listening_inodes(addresses: &[ServerAddress]) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    if addresses.iter().any(|address| matches!(address, ServerAddress::Tcp(_))) {
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp")?, addresses));
        // The file does not exist if the kernel has no IPv6.
        inodes.extend(tcp_inodes(&listening_table("/proc/net/tcp6").unwrap_or_default(), addresses));
    }
    if addresses.iter().any(|address| matches!(address, ServerAddress::Unix(_))) {
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
mod tests;
