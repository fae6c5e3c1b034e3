//! The addresses that a server listens on: `host` and `port` of its specification, resolved.

use std::io;
use std::net::ToSocketAddrs;

use llama_warden_procfs::SocketAddress;

/// One entry of `host`, which is a comma-separated list in newer builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The entry as the user wrote it.
    pub text: String,
    /// The addresses of a name; a server binds the first that works.
    pub addresses: Vec<SocketAddress>,
}

/// Resolves each entry of `host`. May block on a name server.
///
/// # Errors
/// The first entry that cannot be resolved, with the cause.
pub fn resolve(host: &str, port: u16) -> Result<Vec<HostEntry>, (String, io::Error)> {
    host.split(',')
        .map(str::trim)
        .map(|text| {
            let addresses = if text.ends_with(".sock") {
                vec![SocketAddress::Unix(text.into())]
            } else {
                let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
                let resolved = (bare, port).to_socket_addrs().map_err(|error| (text.to_owned(), error))?;
                resolved.map(SocketAddress::Tcp).collect()
            };
            Ok(HostEntry { text: text.to_owned(), addresses })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host_is_resolved() {
        let tcp = |address: &str| SocketAddress::Tcp(address.parse().expect("an address"));
        let cases = [
            ("127.0.0.1", vec![tcp("127.0.0.1:8001")]),
            ("0.0.0.0", vec![tcp("0.0.0.0:8001")]),
            ("::1", vec![tcp("[::1]:8001")]),
            ("[::1]", vec![tcp("[::1]:8001")]),
            ("/run/a.sock", vec![SocketAddress::Unix("/run/a.sock".into())]),
            ("127.0.0.1, /run/a.sock", vec![tcp("127.0.0.1:8001"), SocketAddress::Unix("/run/a.sock".into())]),
        ];
        for (host, expected) in cases {
            let entries = resolve(host, 8001).expect(host);
            let addresses: Vec<SocketAddress> = entries.into_iter().flat_map(|entry| entry.addresses).collect();
            assert_eq!(addresses, expected, "{host}");
        }
        assert_eq!(resolve("127.0.0.1,no such host", 1).expect_err("no address").0, "no such host");
    }
}
