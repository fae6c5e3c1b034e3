//! Parses the hosts in `Host`, in an absolute request target, and in `Origin`.

use std::net::IpAddr;

use http::header;
use http::request::Parts;
use http::uri;

/// A host with an optional port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority(String);

impl Authority {
    /// Every host that the request names; `None` for one that cannot be parsed. A proper request names exactly one.
    pub(super) fn of_request(request: &Parts) -> Vec<Option<Self>> {
        let target = request.uri.authority().map(|authority| Self::parse(authority.as_str()));
        let hosts = request.headers.get_all(header::HOST).iter();
        target.into_iter().chain(hosts.map(|host| host.to_str().ok().and_then(Self::parse))).collect()
    }

    /// The host of an origin such as `http://localhost:9888`; `None` for the origin `null`.
    pub(super) fn of_origin(origin: &str) -> Option<Self> {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).and_then(Self::parse)
    }

    fn parse(text: &str) -> Option<Self> {
        let authority: uri::Authority = text.parse().ok()?;
        (!authority.as_str().contains('@')).then(|| Self(authority.as_str().to_ascii_lowercase()))
    }

    /// Whether the host, without its port, is `host`.
    pub(super) fn host_is(&self, host: &str) -> bool {
        self.host().eq_ignore_ascii_case(host)
    }

    /// Whether the host is a loopback address, or `localhost` or below it, which browsers never resolve elsewhere.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        host.parse::<IpAddr>().map_or(host == "localhost" || host.ends_with(".localhost"), |ip| ip.is_loopback())
    }

    fn host(&self) -> &str {
        let bracketed = self.0.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match bracketed {
            Some((host, _)) => host,
            None => self.0.split_once(':').map_or(&*self.0, |(host, _)| host),
        }
    }
}
