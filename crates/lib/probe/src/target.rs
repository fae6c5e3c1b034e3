//! Where and how a server is asked, from its spec.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_config::{FlagValue, ServerSpec};
use llama_warden_support::blocking;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAddress {
    /// On this host and port.
    Tcp {
        /// A name or an address, never an unspecified one.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// On a unix socket.
    Unix(PathBuf),
}

/// A server, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub address: ProbeAddress,
    /// Put before every path (`--api-prefix`); empty, or with a slash at its start only.
    pub prefix: String,
    /// Sent as a bearer token where a path asks for one.
    pub key: Option<Key>,
    /// The server speaks TLS, which we do not: it can only be believed by its lines.
    pub encrypted: bool,
}

/// Where the API key comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// The key itself.
    Text(String),
    /// The first line of this file that is not empty.
    File(PathBuf),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Target {
    /// The target of a server that was given `port`.
    pub fn new(spec: &ServerSpec, port: u16) -> Self {
        let key = spec.api_key_file.clone().map(Key::File).or_else(|| {
            let file = option(spec, "api-key-file").map(|file| Key::File(file.into()));
            // Several keys are separated by commas; any of them opens.
            let text = || option(spec, "api-key").map(|keys| first(&keys, ',').to_owned()).map(Key::Text);
            file.or_else(text)
        });
        let prefix = option(spec, "api-prefix").unwrap_or_default();
        Self {
            address: address(&spec.host, port),
            prefix: prefix.trim_end_matches('/').to_owned(),
            key,
            encrypted: ["ssl-cert-file", "ssl-key-file"].iter().any(|name| option(spec, name).is_some()),
        }
    }
}

impl Key {
    /// The key itself; none when its file cannot be read, in which case the server will not have started either.
    pub async fn read(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::File(path) => {
                let path = path.clone();
                let text = blocking(move || std::fs::read_to_string(path)).await.ok()?.ok()?;
                text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
            }
        }
    }
}

/// Names under which the right model may answer: what `--alias` was given, and the file.
pub fn model_names(spec: &ServerSpec) -> Vec<String> {
    let mut names = vec![spec.id.to_string(), spec.model.display().to_string()];
    names.extend(spec.model.file_name().map(|name| name.to_string_lossy().into_owned()));
    if let Some(aliases) = option(spec, "alias") {
        names.extend(aliases.split(',').map(|alias| alias.trim().to_owned()));
    }
    for name in ["model", "hf-repo", "model-url"] {
        names.extend(argument(spec, name));
    }
    names
}

fn address(host: &Arc<str>, port: u16) -> ProbeAddress {
    if Path::new(&**host).extension().is_some_and(|extension| extension == "sock") {
        return ProbeAddress::Unix((**host).into());
    }
    let host = match host.parse::<IpAddr>() {
        // A server that listens on every address also does on loopback.
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.to_string().into(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.to_string().into(),
        _ => host.clone(),
    };
    ProbeAddress::Tcp { host, port }
}

/// The value of an option, from the verbatim arguments, which come last and win, or from the flags.
fn option(spec: &ServerSpec, name: &str) -> Option<String> {
    argument(spec, name).or_else(|| match &spec.flags.get(name)?.value {
        FlagValue::Text(text) => Some(text.clone()),
        FlagValue::Many(texts) => texts.first().cloned(),
        _ => None,
    })
}

fn argument(spec: &ServerSpec, name: &str) -> Option<String> {
    let long = format!("--{name}");
    let at = spec.args.iter().rposition(|argument| *argument == long)?;
    spec.args.get(at + 1).cloned()
}

fn first(text: &str, separator: char) -> &str {
    text.split(separator).next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        for (host, asked) in
            [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7"), ("localhost", "localhost")]
        {
            assert_eq!(address(&host.into(), 8001), ProbeAddress::Tcp { host: asked.into(), port: 8001 });
        }
        assert_eq!(address(&"/run/a.sock".into(), 8001), ProbeAddress::Unix("/run/a.sock".into()));
    }
}
