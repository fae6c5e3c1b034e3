//! Where and how a server is asked, from its spec.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_config::{FlagValue, KeySource, ServerSpec, written_options};
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
    /// Gives the bearer token where a path asks for one.
    pub key: Option<KeySource>,
    /// The server speaks TLS, which we do not: it can only be believed by its lines.
    pub encrypted: bool,
}

impl Target {
    /// The target of a server that was given `port`.
    pub fn new(spec: &ServerSpec, port: u16) -> Self {
        let prefix = option(spec, "api-prefix").unwrap_or_default();
        Self {
            address: address(&spec.host, port),
            prefix: prefix.trim_end_matches('/').to_owned(),
            key: spec.key_sources().into_iter().next(),
            encrypted: ["ssl-cert-file", "ssl-key-file"].iter().any(|name| option(spec, name).is_some()),
        }
    }

    /// The first key; none when its file cannot be read, in which case the server was not started either.
    pub async fn read_key(&self) -> Option<String> {
        let source = self.key.clone()?;
        let read = blocking(move || source.read()).await.ok()?.ok()?;
        read.keys.into_iter().next()
    }
}

/// Names under which the right model may answer: what `--alias` was given, and the file.
pub fn model_names(spec: &ServerSpec) -> Vec<String> {
    let mut names = vec![spec.id.to_string(), spec.model.display().to_string()];
    names.extend(spec.model.file_name().map(|name| name.to_string_lossy().into_owned()));
    let aliases = spec.flags.get("alias").map(|flag| flag_texts(&flag.value)).unwrap_or_default();
    let written = written_options(&spec.args).filter(|option| matches!(option.name.as_str(), "a" | "alias"));
    for alias in aliases.into_iter().chain(written.filter_map(|option| option.value)) {
        // Builds until 2025 take a list for one name.
        names.push(alias.to_owned());
        names.extend(alias.split(',').map(|alias| alias.trim().to_owned()));
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
fn option<'a>(spec: &'a ServerSpec, name: &str) -> Option<&'a str> {
    spec.argument(&[name]).or_else(|| flag_texts(&spec.flags.get(name)?.value).into_iter().next())
}

fn flag_texts(value: &FlagValue) -> Vec<&str> {
    match value {
        FlagValue::Text(text) if !value.is_default() => vec![text],
        FlagValue::Many(texts) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_config::{ConfigSource, Configuration, Environment, HostEnvironment};

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

    fn spec(keys: &str) -> ServerSpec {
        let text = format!("[[servers]]\nid = 'a'\nmodel = '/m/tiny.gguf'\n{keys}\n");
        let configuration =
            Configuration::parse(&ConfigSource::text("/", text), &Environment::default()).expect("valid");
        let fleet = configuration.resolve(None, &HostEnvironment { cpus: 1 }).expect("no profile");
        ServerSpec::clone(fleet.get("a").expect("configured"))
    }

    #[test]
    fn a_server_is_known_by_every_name_that_the_user_gives_it() {
        for keys in [
            "args = ['-a', 'x,y']",
            "args = ['--alias=x,y']",
            "flags = { alias = 'x,y' }",
            "flags = { alias = ['x', 'y'] }",
        ] {
            let names = model_names(&spec(keys));
            for name in ["a", "/m/tiny.gguf", "tiny.gguf", "x", "y"] {
                assert!(names.iter().any(|known| known == name), "{keys}: {name} is not among {names:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_key_is_the_one_that_the_server_asks_for() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("keys");
        std::fs::write(&path, "# team keys\n\nsk-file\nsk-2\n").expect("write");
        let cases = [
            (format!("api-key-file = {path:?}"), Some("sk-file")),
            ("flags = { api-key = 'sk-1,sk-2' }".to_owned(), Some("sk-1")),
            ("flags = { api-key = ['sk-3', 'sk-4'] }".to_owned(), Some("sk-3")),
            ("flags = { api-key = 'default' }".to_owned(), None),
            ("args = ['--api_key', 'sk-5']".to_owned(), Some("sk-5")),
            ("env = { LLAMA_API_KEY = 'sk-6' }".to_owned(), Some("sk-6")),
            (String::new(), None),
        ];
        for (keys, key) in cases {
            assert_eq!(Target::new(&spec(&keys), 8001).read_key().await.as_deref(), key, "{keys}");
        }
    }
}
