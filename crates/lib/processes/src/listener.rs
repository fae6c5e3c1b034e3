//! Finds out which process listens on a server's address.
//!
//! The kernel lists listening sockets with their inodes (`sock_diag`), and the open sockets of each process (`/proc/PID/fd`). A
//! server that shares its port with another process (SO_REUSEPORT, builds until 2025-08) does not own it: either may answer.

use std::collections::BTreeSet;

use llama_warden_events::ListenerOwner;
use llama_warden_procfs::{
    ProcessStat, SocketAddress, descendants, listener, listening_addresses, listening_inodes, process_ids,
    program_name, socket_inodes,
};

use super::launch_tag::LaunchTag;

/// The owner of the sockets that listen on any of `addresses`: the launch whose leader is `leader`, another process, or none. Of a
/// launch that listens on another address only, that address.
///
/// Reads the open files of the leader, then of its descendants, and of every process only if none of these listens.
pub fn identify(addresses: &[SocketAddress], leader: u32, tag: &LaunchTag) -> ListenerOwner {
    let mut unowned = match listening_inodes(addresses) {
        Ok(inodes) if inodes.is_empty() => return elsewhere(leader),
        Ok(inodes) => inodes,
        Err(error) => {
            return ListenerOwner::Unreadable { detail: format!("cannot list the sockets that listen: {error}") };
        }
    };
    let leader_sockets = socket_inodes(leader);
    for inode in leader_sockets.iter().flatten() {
        unowned.remove(inode);
    }
    // Behind a wrapper it is a descendant that listens.
    let mut descendants = descendants(leader);
    while let Some(pid) = (!unowned.is_empty()).then(|| descendants.next()).flatten() {
        for inode in socket_inodes(pid).unwrap_or_default() {
            unowned.remove(&inode);
        }
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
    // A socket that was closed since the first search has no owner. One that is still open belongs to a process whose files we
    // may not read.
    match listening_inodes(addresses) {
        Ok(still) if still.is_disjoint(&unowned) => ListenerOwner::Nobody,
        _ => ListenerOwner::Foreign { pid: None, program: None },
    }
}

/// Where the launch listens, although not on its address: an option, a preset or a wrapper gave it another one.
fn elsewhere(leader: u32) -> ListenerOwner {
    let members = std::iter::once(leader).chain(descendants(leader));
    let sockets = members.filter_map(|pid| socket_inodes(pid).ok()).flatten().collect();
    match listening_addresses(&sockets).unwrap_or_default().first() {
        Some(address) => ListenerOwner::Elsewhere { address: address.to_string() },
        None => ListenerOwner::Nobody,
    }
}

/// Whether it is certain that no process listens on a TCP address.
pub fn is_unused(address: &SocketAddress) -> bool {
    let listening = || listening_inodes(std::slice::from_ref(address));
    matches!(address, SocketAddress::Tcp(_)) && listening().is_ok_and(|inodes| inodes.is_empty())
}

/// Name and pid of the process that listens on `address`, if the kernel shows it to us.
pub fn describe_owner(address: &SocketAddress) -> Option<String> {
    let pid = listener(address)?;
    Some(format!("{} (pid {pid})", program_name(pid).unwrap_or_else(|| "a process".to_owned())))
}

/// Whether a process is in the leader's group, or has left it and carries the tag.
fn belongs(pid: u32, leader: u32, tag: &LaunchTag) -> bool {
    ProcessStat::of(pid).is_some_and(|stat| stat.group == leader) || tag.is_of(pid)
}

#[cfg(test)]
mod tests;
