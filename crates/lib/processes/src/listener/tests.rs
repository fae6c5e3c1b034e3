//! Tests of listener identification, against real sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use llama_warden_events::{BootId, Incarnation, ServerId};

use super::*;

fn tag() -> LaunchTag {
    LaunchTag::new(&BootId::from_random(1), &ServerId::new("a").expect("valid"), Incarnation::new(1))
}

fn tcp(address: &str) -> SocketAddress {
    SocketAddress::Tcp(address.parse().expect("an address"))
}

#[test]
fn our_own_listeners_are_ours_on_every_kind_of_address() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("a.sock");
    let v4 = TcpListener::bind("127.0.0.1:0").expect("bind");
    let any = TcpListener::bind("0.0.0.0:0").expect("bind");
    let _unix = UnixListener::bind(&path).expect("bind");
    let leader = std::process::id();
    let address = |listener: &TcpListener| SocketAddress::Tcp(listener.local_addr().expect("bound"));
    for address in [address(&v4), address(&any), SocketAddress::Unix(path)] {
        assert_eq!(identify(std::slice::from_ref(&address), leader, &tag()), ListenerOwner::Own, "{address:?}");
        let described = describe_owner(&address).expect("visible");
        assert!(described.ends_with(&format!("(pid {leader})")), "{described}");
    }
}

#[test]
fn a_listener_of_another_process_is_foreign() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = SocketAddress::Tcp(listener.local_addr().expect("bound"));
    let mut leader = Command::new("sleep").arg("300").process_group(0).spawn().expect("runs");
    let owner = identify(&[address], leader.id(), &tag());
    leader.kill().and_then(|()| leader.wait()).expect("ours");
    assert!(
        matches!(owner, ListenerOwner::Foreign { pid: Some(pid), program: Some(_) } if pid == std::process::id()),
        "{owner:?}"
    );
}

#[test]
fn a_listener_of_a_descendant_is_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = SocketAddress::Tcp(listener.local_addr().expect("bound"));
    // We descend from the process that started the test; this says nothing of groups.
    let leader = std::os::unix::process::parent_id();
    assert_eq!(identify(&[address], leader, &tag()), ListenerOwner::Own);
}

#[test]
fn a_free_port_is_nobodys() {
    // Not a port that was just open: a child on its way to exec may still hold it.
    let address = tcp("127.83.12.9:1");
    assert_eq!(identify(&[address], u32::MAX, &tag()), ListenerOwner::Nobody);
}

#[test]
fn a_launch_that_listens_on_another_address_only_is_found_there() {
    let _listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let owner = identify(&[tcp("127.83.12.9:1")], std::process::id(), &tag());
    assert!(matches!(owner, ListenerOwner::Elsewhere { .. }), "{owner:?}");
}
