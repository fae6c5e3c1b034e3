//! Where a daemon is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a daemon: `http://HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// Over TCP.
    Tcp {
        /// A name or a number, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through a control socket.
    Unix(PathBuf),
}

/// Why a text is no [`DaemonAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a daemon: use http://HOST:PORT or unix:PATH")]
pub struct InvalidDaemonAddress(String);

impl DaemonAddress {
    /// The port of a daemon that was not given another.
    pub const DEFAULT_PORT: u16 = 9888;

    /// What stands in the `Host` header.
    pub(super) fn host_header(&self) -> String {
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
            // Both `unix:/run/x` and the URL-like `unix:///run/x` are written by people.
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
            return if path.is_empty() { Err(invalid()) } else { Ok(Self::Unix(path.into())) };
        }
        let authority = text.strip_prefix("http://").ok_or_else(invalid)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or_else(invalid)? {
            "" => Self::DEFAULT_PORT,
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
            assert_eq!(written.parse(), Ok(address));
        }
        for text in [
            "",
            "127.0.0.1:9888",
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
            assert!(text.parse::<DaemonAddress>().is_err(), "{text:?} was taken");
        }
    }
}
