//! Chooses the ports of servers that name none.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;

use llama_warden_config::Configuration;
use llama_warden_events::ServerId;

use llama_warden_state_files::KeptServers;

/// A server that needs a port.
#[derive(Debug)]
pub struct PortSeeker<'a> {
    pub id: &'a ServerId,
    /// The address that it will bind.
    pub host: &'a str,
    pub port: Option<u16>,
}

/// There are fewer free ports than servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no free port from {first_port} to 65535 is left for {} servers, the first of them {}", .left.len(), .left.first().map_or("", ServerId::as_str))]
pub struct PortsExhausted {
    /// Where the search began.
    pub first_port: u16,
    /// The servers without a port.
    pub left: Vec<ServerId>,
}

/// Gives each server that has no port the lowest one from `first_port` up that is neither in `taken`, nor another
/// server's, nor refused by `is_free`. Servers are served in their order; a port that one has already stays.
///
/// # Errors
/// [`PortsExhausted`] names the servers that are left without; the others have theirs.
pub fn assign_ports(
    seekers: &mut [PortSeeker<'_>],
    first_port: u16,
    taken: &BTreeSet<u16>,
    mut is_free: impl FnMut(&str, u16) -> bool,
) -> Result<(), PortsExhausted> {
    let kept: BTreeSet<u16> = seekers.iter().filter_map(|seeker| seeker.port).collect();
    let mut unused = (first_port.max(1)..=u16::MAX).filter(|port| !taken.contains(port) && !kept.contains(port));
    let mut left = Vec::new();
    for seeker in seekers.iter_mut().filter(|seeker| seeker.port.is_none()) {
        seeker.port = unused.find(|port| is_free(seeker.host, *port));
        if seeker.port.is_none() {
            left.push(seeker.id.clone());
        }
    }
    if left.is_empty() { Ok(()) } else { Err(PortsExhausted { first_port, left }) }
}

/// Another port for a server whose port the configuration leaves open, and on whose present one somebody listens.
///
/// # Errors
/// Why the server keeps its port.
pub fn another_port(configuration: &Configuration, server: &ServerId, kept: &KeptServers) -> Result<u16, String> {
    let open = configuration.servers_without_port().find(|spec| spec.id == *server);
    let spec = open.ok_or_else(|| format!("the configuration names the port of {server}"))?;
    if is_free(&spec.host, spec.port) {
        return Err(format!("nobody listens on port {} any more", spec.port));
    }
    let daemon = configuration.daemon().listen.as_ref().map(|listen| listen.port);
    let others = configuration.servers().map(|spec| spec.port).chain(kept.values().map(|kept| kept.port));
    let mut seekers = [PortSeeker { id: server, host: &spec.host, port: None }];
    assign_ports(&mut seekers, configuration.first_port(), &others.chain(daemon).collect(), is_free)
        .map_err(|error| error.to_string())?;
    Ok(seekers[0].port.unwrap_or(spec.port))
}

/// Whether nobody listens there. What else keeps a server from listening, such as an address of another machine, its launch
/// says; a unix socket needs no port.
pub fn is_free(host: &str, port: u16) -> bool {
    let taken = |error: io::Error| matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    host.ends_with(".sock")
        || TcpListener::bind((host.trim_matches(['[', ']']), port)).map_or_else(|error| !taken(error), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<ServerId> {
        names.iter().map(|name| ServerId::new(name).expect("valid")).collect()
    }

    fn seekers<'a>(ids: &'a [ServerId], ports: &[Option<u16>]) -> Vec<PortSeeker<'a>> {
        ids.iter().zip(ports).map(|(id, port)| PortSeeker { id, host: "127.0.0.1", port: *port }).collect()
    }

    fn ports(seekers: &[PortSeeker<'_>]) -> Vec<Option<u16>> {
        seekers.iter().map(|seeker| seeker.port).collect()
    }

    #[test]
    fn taken_and_busy_ports_are_passed_over_and_a_port_that_a_server_has_stays() {
        let ids = ids(&["a", "b", "c"]);
        let mut seekers = seekers(&ids, &[None, Some(8001), None]);
        assign_ports(&mut seekers, 8001, &[8002].into(), |_, port| port != 8003).expect("enough");
        assert_eq!(ports(&seekers), [Some(8004), Some(8001), Some(8005)]);
    }

    #[test]
    fn servers_beyond_the_last_port_are_named() {
        let ids = ids(&["a", "b", "c"]);
        let mut seekers = seekers(&ids, &[None; 3]);
        let error = assign_ports(&mut seekers, u16::MAX, &BTreeSet::new(), |_, _| true).expect_err("too few");
        assert_eq!(ports(&seekers), [Some(u16::MAX), None, None]);
        assert_eq!(error.to_string(), "no free port from 65535 to 65535 is left for 2 servers, the first of them b");
    }

    #[test]
    fn only_a_port_on_which_somebody_listens_is_busy() {
        let held = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let busy = held.local_addr().expect("it is bound").port();
        assert!(!is_free("127.0.0.1", busy));
        for host in ["/run/a.sock", "192.0.2.1", "no-such-host.invalid"] {
            assert!(is_free(host, busy), "{host}");
        }
    }
}
