//! `[peers]`: the daemons of other machines whose servers are shown too.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{ListenAddress, TcpAddress};

/// The daemon of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSettings {
    /// Its name here.
    pub name: String,
    /// Where it answers.
    pub url: PeerUrl,
    /// The file with its token, absolute.
    pub token_file: Option<PathBuf>,
}

/// `http://HOST:PORT`, the address of a daemon's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUrl(TcpAddress);

/// Why a text is no [`PeerUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeerUrl {
    /// It begins with `https://`.
    #[error("asks for TLS, which llama-warden does not speak")]
    Tls,
    /// It has a name or a password.
    #[error("has a name or a password in it")]
    Credentials,
    /// It has a path, a query or a fragment.
    #[error("has a path, and the API of a daemon has none in front of it")]
    Path,
    /// It is something else.
    #[error("is not http://HOST:PORT")]
    Other,
}

impl PeerUrl {
    /// The port of a daemon, where a URL names none.
    pub const DEFAULT_PORT: u16 = 9888;

    /// Host and port.
    pub const fn address(&self) -> &TcpAddress {
        &self.0
    }
}

impl InvalidPeerUrl {
    /// What to write instead.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Tls => {
                "write http://HOST:PORT; where the network between is not trusted, take the address of a tunnel such as `ssh -L` or WireGuard"
            }
            Self::Credentials => "write http://HOST:PORT, and the token into the file that `token-file` names",
            Self::Path | Self::Other => {
                "write the address that the other daemon listens on, such as \"http://gpu2:9888\""
            }
        }
    }
}

impl FromStr for PeerUrl {
    type Err = InvalidPeerUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
        if has_scheme("https://") {
            return Err(InvalidPeerUrl::Tls);
        }
        if !has_scheme("http://") {
            return Err(InvalidPeerUrl::Other);
        }
        let rest = &text["http://".len()..];
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(InvalidPeerUrl::Path);
        }
        if authority.contains('@') {
            return Err(InvalidPeerUrl::Credentials);
        }
        let has_port = !authority.ends_with(']') && authority.contains(':');
        let written = if has_port { authority.to_owned() } else { format!("{authority}:{}", Self::DEFAULT_PORT) };
        let listen: ListenAddress = written.parse().map_err(|_| InvalidPeerUrl::Other)?;
        // Port 0 is a free one for who listens, and none for who asks.
        let address = listen.tcp().filter(|address| address.port != 0).cloned();
        address.map(Self).ok_or(InvalidPeerUrl::Other)
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_peer_is_a_host_and_a_port() {
        for (text, expected) in [
            ("http://gpu2:9999", Ok("http://gpu2:9999")),
            ("HTTP://gpu2.lan/", Ok("http://gpu2.lan:9888")),
            ("http://[fd00::1]", Ok("http://[fd00::1]:9888")),
            ("http://[fd00::1]:1", Ok("http://[fd00::1]:1")),
            ("http://10.0.0.2:9888/", Ok("http://10.0.0.2:9888")),
            ("https://gpu2", Err(InvalidPeerUrl::Tls)),
            ("http://u:p@gpu2:1", Err(InvalidPeerUrl::Credentials)),
            ("http://gpu2:1/warden", Err(InvalidPeerUrl::Path)),
            ("http://gpu2:1?all=1", Err(InvalidPeerUrl::Path)),
            ("gpu2:9888", Err(InvalidPeerUrl::Other)),
            ("unix:/run/x", Err(InvalidPeerUrl::Other)),
            ("http://", Err(InvalidPeerUrl::Other)),
            ("http://:80", Err(InvalidPeerUrl::Other)),
            ("http://gpu2:0", Err(InvalidPeerUrl::Other)),
            ("http://gpu2:", Err(InvalidPeerUrl::Other)),
            ("http://gpu2:99999", Err(InvalidPeerUrl::Other)),
            ("http://a b", Err(InvalidPeerUrl::Other)),
            ("http://é", Err(InvalidPeerUrl::Other)),
            ("httpé//x", Err(InvalidPeerUrl::Other)),
        ] {
            let read = text.parse::<PeerUrl>().map(|url| url.to_string());
            assert_eq!(read.as_deref(), expected.as_ref().copied(), "{text}");
        }
    }
}
