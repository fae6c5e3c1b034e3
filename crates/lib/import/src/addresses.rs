//! The ports and unix sockets of servers, each of which one server has.

use std::collections::BTreeMap;

use crate::document::DocumentWriter;

/// What a configuration listens on by itself. The router's address is written into each file; the daemon's is the default.
const OWN_PORTS: [(u16, &str); 2] = [(8080, "the router of this file"), (9888, "the daemon")];

/// Longest path of a unix socket: `sun_path` has 108 bytes and ends in a NUL (`unix(7)`).
const LONGEST_SOCKET: usize = 107;

/// The addresses that are taken, and by whom.
#[derive(Debug)]
pub(crate) struct ServerAddresses {
    ports: BTreeMap<u16, String>,
    sockets: BTreeMap<String, String>,
}

impl Default for ServerAddresses {
    fn default() -> Self {
        Self { ports: OWN_PORTS.map(|(port, owner)| (port, owner.to_owned())).into(), sockets: BTreeMap::new() }
    }
}

impl ServerAddresses {
    /// The port, unless it is another's: a server without one gets a free one.
    pub(crate) fn take_port(&mut self, port: u16, place: &str, document: &mut DocumentWriter) -> Option<u16> {
        if let Some(first) = self.ports.get(&port) {
            let because = format!("{first} has this port already; this server gets a free one from llama-warden");
            document.leave_out(format!("{place}: --port {port}"), because);
            return None;
        }
        self.ports.insert(port, place.to_owned());
        Some(port)
    }

    /// The host, unless it is none, or a unix socket of another.
    pub(crate) fn take_host(&mut self, host: String, place: &str, document: &mut DocumentWriter) -> Option<String> {
        let because = if !host.ends_with(".sock") {
            if is_host(&host) {
                return Some(host);
            }
            "it is neither a host name, nor a number, nor a path that ends in .sock; this server listens on loopback"
                .to_owned()
        } else if host.len() > LONGEST_SOCKET {
            "the path of a unix socket has at most 107 bytes; this server listens on loopback".to_owned()
        } else if let Some(first) = self.sockets.get(&host) {
            format!("{first} has this socket already; this server listens on loopback")
        } else {
            self.sockets.insert(host.clone(), place.to_owned());
            return Some(host);
        };
        document.leave_out(format!("{place}: --host {}", host.escape_debug()), because);
        None
    }
}

/// Whether this is a name or a number of a host.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !text.is_empty() && !text.starts_with('-') && text.bytes().all(allowed);
    is_name || text.parse::<std::net::Ipv6Addr>().is_ok()
}
