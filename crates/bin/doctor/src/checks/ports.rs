//! The addresses that the servers and the daemon will listen on.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;

use llama_warden_builds::addresses::HostNames;
use llama_warden_config::{Fleet, RouterAddress, TcpAddress};
use llama_warden_inventory::LoadedConfig;
use llama_warden_procfs::{SocketAddress, listener, program_name};

use crate::finding::{Area, Finding};

/// The addresses of the API and of the router.
pub(crate) fn of_daemon(loaded: &LoadedConfig, names: &HostNames) -> Vec<Finding> {
    let router = loaded.configuration.router().listen.tcp();
    let api = loaded.configuration.daemon().listen.as_ref();
    let places = [("the daemon", "daemon.listen", api), ("the router", "router.listen", router)];
    let places = places.into_iter().filter_map(|(who, key, listen)| Some((who, key, listen?)));
    let look =
        |(who, key, TcpAddress { host, port }): (&str, &str, &TcpAddress)| match UnusablePort::of(names, host, *port) {
            Some(unusable) => Area::Ports.fault(
                format!("{who} cannot listen on {host}:{port}: {unusable}"),
                format!("end that program, or write another `{key}`"),
            ),
            None => Area::Ports.good(format!("{host}:{port} is free for {who}")),
        };
    places.map(look).collect()
}

/// The addresses of the servers, where no daemon answers (`names`): those of one that does are taken by its servers, or about to be.
pub(crate) fn of_servers(loaded: &LoadedConfig, fleet: &Fleet, names: Option<&HostNames>) -> Vec<Finding> {
    let router = loaded.configuration.router();
    let on_demand = router.listen != RouterAddress::Off && router.on_demand;
    let mut findings = Vec::new();
    let client_ports = ClientPorts::read();
    let mut exposed = BTreeMap::new();
    let mut free = 0_usize;
    for spec in fleet.iter().filter(|spec| (spec.enabled || on_demand) && !spec.host.ends_with(".sock")) {
        let (id, port) = (&spec.id, spec.port);
        if let Some(unusable) = names.and_then(|names| UnusablePort::of(names, &spec.host, port)) {
            findings.push(Area::Ports.fault(
                format!("`{id}` cannot listen on {}:{port}: {unusable}", spec.host),
                format!("end that program, or give `{id}` another `port`"),
            ));
            continue;
        }
        free += 1;
        if client_ports.has(port) {
            exposed.insert(port, id.as_str());
        }
    }
    findings.extend(client_ports.finding(&exposed));
    if free > 0 && findings.is_empty() && names.is_some() {
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
struct UnusablePort(String);

impl std::fmt::Display for UnusablePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl UnusablePort {
    fn of(names: &HostNames, host: &str, port: u16) -> Option<Self> {
        match names.addresses(host) {
            Ok(entries) => entries.into_iter().find_map(|addresses| Self::of_entry(&addresses, port)),
            Err(error) => Some(Self(format!("the name cannot be resolved: {error}"))),
        }
    }

    fn of_entry(addresses: &[IpAddr], port: u16) -> Option<Self> {
        let addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let error = TcpListener::bind(&*addresses).err()?;
        let held_by = addresses.iter().find_map(|address| listener(&SocketAddress::Tcp(*address)));
        Some(Self(match held_by {
            Some(pid) => format!("process {pid} ({}) does", program_name(pid).unwrap_or_else(|| "unknown".to_owned())),
            None => error.to_string(),
        }))
    }
}

/// The ports that the kernel chooses for clients.
#[derive(Debug, PartialEq)]
struct ClientPorts {
    range: RangeInclusive<u16>,
    /// Those of the range that it leaves out, as its setting says: `8001,9000-9009`.
    reserved: String,
}

impl ClientPorts {
    /// The settings of the kernel; no port where they cannot be read.
    fn read() -> Self {
        let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(name)).unwrap_or_default();
        Self::of(&setting("ip_local_port_range"), &setting("ip_local_reserved_ports"))
    }

    fn of(range: &str, reserved: &str) -> Self {
        let mut bounds = range.split_ascii_whitespace().map_while(|bound| bound.parse().ok());
        let range = bounds.next().zip(bounds.next());
        #[expect(clippy::reversed_empty_ranges, reason = "the empty range")]
        let range = range.map_or(1..=0, |(first, last)| first..=last);
        Self { range, reserved: reserved.trim().to_owned() }
    }

    /// Whether a client may get this port.
    fn has(&self, port: u16) -> bool {
        let reserves = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            matches!((first.parse::<u16>(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
        };
        self.range.contains(&port) && !self.reserved.split(',').any(reserves)
    }

    /// One finding for all of these servers: the kernel has one setting for all ports, which is written as a whole.
    fn finding(&self, exposed: &BTreeMap<u16, &str>) -> Option<Finding> {
        let named: Vec<_> = exposed.iter().map(|(port, id)| format!("{port} of `{id}`")).collect();
        let (noun, verb, may_have, place) = match named.len() {
            0 => return None,
            1 => ("port", "is", "a client may have it", "one below, or reserve it"),
            _ => ("ports", "are", "clients may have them", "some below, or reserve them"),
        };
        let (first, last) = (self.range.start(), self.range.end());
        let kept = Some(self.reserved.clone()).filter(|kept| !kept.is_empty());
        let reserved: Vec<_> = kept.into_iter().chain(exposed.keys().map(u16::to_string)).collect();
        Some(Area::Ports.warning(
            format!(
                "{noun} {} {verb} among those that the kernel gives to connections ({first} to {last}): {may_have} at the next \
                 start",
                named.join(", ")
            ),
            format!("choose {place}: `sysctl net.ipv4.ip_local_reserved_ports={}`", reserved.join(",")),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_kernel_was_told_to_reserve_is_not_for_clients() {
        let ports = ClientPorts::of("32768\t60999\n", "33000,34000-34009\n");
        for (port, expected) in
            [(32_767, false), (32_768, true), (60_999, true), (33_000, false), (34_005, false), (34_010, true)]
        {
            assert_eq!(ports.has(port), expected, "{port}");
        }
        for (range, reserved) in [("", ""), ("one two", ""), ("32768", "")] {
            assert!(!ClientPorts::of(range, reserved).has(40_000), "{range}");
        }
    }

    #[test]
    fn the_next_step_reserves_the_ports_of_all_servers_beside_those_that_are() {
        let exposed = BTreeMap::from([(40_001, "b"), (40_000, "a")]);
        let advice =
            |reserved: &str| ClientPorts::of("32768 60999", reserved).finding(&exposed).expect("a finding").next_step;
        assert!(advice("").expect("advice").ends_with("ip_local_reserved_ports=40000,40001`"));
        assert!(advice("33000-33009\n").expect("advice").ends_with("ip_local_reserved_ports=33000-33009,40000,40001`"));
        assert_eq!(ClientPorts::of("32768 60999", "").finding(&BTreeMap::new()), None);
    }
}
