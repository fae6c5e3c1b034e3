//! The address of a daemon, parsed from what users write.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a daemon: `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// An HTTP address over TCP.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The TCP port; [`DaemonAddress::DEFAULT_PORT`] if the user gave none.
        port: u16,
    },
    /// The path of a control socket.
    Unix(PathBuf),
}

/// A string is not a [`DaemonAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a daemon: use http://HOST:PORT or unix:PATH")]
pub struct InvalidDaemonAddress(String);

impl DaemonAddress {
    /// The port that a daemon listens on unless it is configured otherwise.
    pub const DEFAULT_PORT: u16 = 9888;

    /// The value of the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for DaemonAddress {
    type Err = InvalidDaemonAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDaemonAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            // Users write both `unix:/run/x` and the URL-like `unix:///run/x`.
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
            return if path.is_empty() { Err(invalid()) } else { Ok(Self::Unix(path.into())) };
        }
        let url = text.strip_prefix("http://");
        let authority = url.map_or(text, |authority| authority.strip_suffix('/').unwrap_or(authority));
        let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or_else(invalid)? {
            // A word alone may be anything.
            "" if url.is_some() => Self::DEFAULT_PORT,
            text => text.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(invalid)?,
        };
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() { Err(invalid()) } else { Ok(Self::Tcp { host: host.to_owned(), port }) }
    }
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.host_header()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_alike() {
        for (text, written) in [
            ("http://127.0.0.1:9888", "http://127.0.0.1:9888"),
            ("http://gpu-box/", "http://gpu-box:9888"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("unix:/run/warden/control.sock", "unix:/run/warden/control.sock"),
            ("unix:///run/warden/control.sock", "unix:/run/warden/control.sock"),
            ("unix:control.sock", "unix:control.sock"),
        ] {
            let address: DaemonAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address.clone()));
            let short = written.strip_prefix("http://").unwrap_or(written);
            assert_eq!(short.parse(), Ok(address), "without a scheme");
        }
        for text in [
            "",
            "gpu-box",
            "gpu-box:9888/",
            "https://localhost:9888",
            "http://",
            "http://:80",
            "http://a:b",
            "unix:",
            "http://u@localhost",
            "http://localhost:",
            "http://localhost/api",
            "http://localhost:99999",
        ] {
            assert!(text.parse::<DaemonAddress>().is_err(), "{text:?} was accepted");
        }
    }
}
