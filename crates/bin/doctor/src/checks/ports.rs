//! The addresses that the servers and the daemon will listen on.

use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::RangeInclusive;

use llama_warden_config::{Fleet, RouterAddress, TcpAddress};
use llama_warden_inventory::LoadedConfig;
use llama_warden_procfs::{SocketAddress, listener, program_name};

use crate::finding::{Area, Finding};

/// The addresses of the API and of the router.
pub(crate) fn of_daemon(loaded: &LoadedConfig) -> Vec<Finding> {
    let router = match &loaded.configuration.router().listen {
        RouterAddress::Tcp(listen) => Some(listen),
        RouterAddress::Unix(_) | RouterAddress::Off => None,
    };
    let api = loaded.configuration.daemon().listen.as_ref();
    let places = [("the daemon", "daemon.listen", api), ("the router", "router.listen", router)];
    let places = places.into_iter().filter_map(|(who, key, listen)| Some((who, key, listen?)));
    let look = |(who, key, TcpAddress { host, port }): (&str, &str, &TcpAddress)| match Unusable::of(host, *port) {
        Some(unusable) => Area::Ports.fault(
            format!("{who} cannot listen on {host}:{port}: {unusable}"),
            format!("end that program, or write another `{key}`"),
        ),
        None => Area::Ports.good(format!("{host}:{port} is free for {who}")),
    };
    places.map(look).collect()
}

/// The addresses of the servers. Those of a daemon that runs are taken by its own servers.
pub(crate) fn of_servers(loaded: &LoadedConfig, fleet: &Fleet, daemon_answers: bool) -> Vec<Finding> {
    let router = loaded.configuration.router();
    let on_demand = router.listen != RouterAddress::Off && router.on_demand;
    let mut findings = Vec::new();
    let for_clients = client_ports();
    let mut free = 0_usize;
    for spec in fleet.iter().filter(|spec| (spec.enabled || on_demand) && !spec.host.ends_with(".sock")) {
        let (id, port) = (&spec.id, spec.port);
        if let Some(unusable) = Unusable::of(&spec.host, port).filter(|_| !daemon_answers) {
            findings.push(Area::Ports.fault(
                format!("`{id}` cannot listen on {}:{port}: {unusable}", spec.host),
                format!("end that program, or give `{id}` another `port`"),
            ));
            continue;
        }
        free += 1;
        if for_clients.as_ref().is_some_and(|range| range.contains(&port)) {
            let range = for_clients.as_ref().map(|range| format!("{} to {}", range.start(), range.end()));
            findings.push(Area::Ports.warning(
                format!(
                    "port {port} of `{id}` is among those that the kernel gives to connections ({}): a client may have it at \
                     the next start",
                    range.unwrap_or_default()
                ),
                format!("choose one below, or reserve it: `sysctl net.ipv4.ip_local_reserved_ports={port}`"),
            ));
        }
    }
    if free > 0 && findings.is_empty() && !daemon_answers {
        let ports = match (free, on_demand) {
            (1, _) => "the port of the enabled server is",
            (_, false) => "the ports of the enabled servers are",
            (_, true) => "the ports of the servers, which requests start, are",
        };
        findings.push(Area::Ports.good(format!("{ports} free")));
    }
    findings
}

/// Why nobody can listen on an address.
struct Unusable(String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Unusable {
    fn of(host: &str, port: u16) -> Option<Self> {
        let host = host.trim_matches(['[', ']']);
        let addresses: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(error) => return Some(Self(format!("the name cannot be resolved: {error}"))),
        };
        let error = TcpListener::bind(&*addresses).err()?;
        let held_by = addresses.iter().find_map(|address| listener(&SocketAddress::Tcp(*address)));
        Some(Self(match held_by {
            Some(pid) => format!("process {pid} ({}) does", program_name(pid).unwrap_or_else(|| "unknown".to_owned())),
            None => error.to_string(),
        }))
    }
}

/// The ports that the kernel chooses for clients.
fn client_ports() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_ascii_whitespace().map(str::parse);
    Some(bounds.next()?.ok()?..=bounds.next()?.ok()?)
}
