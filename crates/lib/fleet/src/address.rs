//! Where the daemon and its router listen.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// `HOST:PORT`, or nothing: then only the unix socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenAddress(Option<TcpAddress>);

/// A host, by name or number, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpAddress {
    /// Name or number; an IPv6 number is without its brackets.
    pub host: String,
    /// 0 to 65535; 0 takes a free one.
    pub port: u16,
}

/// Where the router listens: `HOST:PORT`, the path of a unix socket that ends in `.sock`, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RouterAddress {
    /// The router is off.
    #[default]
    Off,
    /// A TCP address.
    Tcp(TcpAddress),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why a text is no [`ListenAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT")]
pub struct InvalidListenAddress(String);

impl RouterAddress {
    /// The TCP address, if it is one.
    pub const fn tcp(&self) -> Option<&TcpAddress> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix(_) | Self::Off => None,
        }
    }
}

impl ListenAddress {
    /// The TCP address; `None` for the unix socket alone.
    pub fn tcp(&self) -> Option<&TcpAddress> {
        self.0.as_ref()
    }
}

impl TcpAddress {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().map_or(self.host == "localhost", |address| address.is_loopback())
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let invalid = || InvalidListenAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(number) if number.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => number,
            None if is_host_name(host) => host,
            _ => return Err(invalid()),
        };
        Ok(Self(Some(TcpAddress { host: host.to_owned(), port })))
    }
}

impl FromStr for RouterAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.ends_with(".sock") {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        Ok(text.parse::<ListenAddress>()?.0.map_or(Self::Off, Self::Tcp))
    }
}

/// Whether a text is a host name or an IPv4 number: letters, digits, `.`, `-` and `_`, no dash first.
pub fn is_host_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(allowed)
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_or_nothing() {
        for (text, loopback) in [
            ("127.0.0.1:9888", true),
            ("[::1]:1", true),
            ("localhost:0", true),
            ("0.0.0.0:80", false),
            ("box.lan:9", false),
        ] {
            let address: ListenAddress = text.parse().expect(text);
            let tcp = address.tcp().expect("has an address");
            assert_eq!((tcp.to_string().as_str(), tcp.is_loopback()), (text, loopback));
        }
        assert_eq!("".parse::<ListenAddress>().map(|address| address.tcp().is_none()), Ok(true));
        for bad in ["9888", ":9888", "host:", "host:65536", "::1:80", "[::1]", "[host]:1", "a b:1", "-x:1"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad} was taken");
        }
    }
}
