//! Parses the hosts in `Host`, in an absolute request target, and in `Origin`.

use std::net::IpAddr;

use http::header;
use http::request::Parts;
use http::uri::Authority;

/// Every host that the request names; `None` for one that cannot be parsed. A proper request names exactly one.
pub fn named_hosts(request: &Parts) -> impl Iterator<Item = Option<Authority>> {
    let target = request.uri.authority().map(|authority| parse(authority.as_str()));
    let hosts = request.headers.get_all(header::HOST).iter();
    target.into_iter().chain(hosts.map(|host| host.to_str().ok().and_then(parse)))
}

/// Whether the request has several `Host` fields, also with one value (RFC 9112, 3.2): a proxy in front may go by another one than we do.
pub fn repeats_host(request: &Parts) -> bool {
    request.headers.get_all(header::HOST).iter().nth(1).is_some()
}

/// The host of an origin such as `http://localhost:9888`; `None` for the origin `null`.
pub fn host_of_origin(origin: &str) -> Option<Authority> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).and_then(parse)
}

/// Whether the request names a host, and each one that it names is a loopback address or one of these, whatever its case.
///
/// A page can rebind its name to a loopback address, and then it asks as "same origin"; its name in `Host` gives it away.
pub fn names_served_hosts<'a>(request: &Parts, served: impl Iterator<Item = &'a String> + Clone) -> bool {
    let is_served = |host: &str| served.clone().any(|own| host.eq_ignore_ascii_case(own)) || is_loopback(host);
    let mut hosts = named_hosts(request).peekable();
    hosts.peek().is_some() && hosts.all(|host| host.is_some_and(|host| is_served(bare_host(&host))))
}

/// Whether the origin in `Origin` is another than the host that the request names. Browsers send the origin of the page.
pub fn has_foreign_origin(request: &Parts) -> bool {
    let mut origins = request.headers.get_all(header::ORIGIN).iter().peekable();
    if origins.peek().is_none() {
        return false;
    }
    let own: Vec<_> = named_hosts(request).collect();
    origins.any(|origin| {
        let origin = origin.to_str().ok().and_then(host_of_origin);
        origin.is_none() || !own.contains(&origin)
    })
}

fn parse(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

/// The host without its port, and without the brackets of an IPv6 address.
pub fn bare_host(authority: &Authority) -> &str {
    authority.host().trim_matches(['[', ']'])
}

/// Whether `host` is a loopback address, or `localhost` or below it, which browsers never resolve elsewhere.
pub fn is_loopback(host: &str) -> bool {
    let is_name = || {
        let above = host.len().checked_sub("localhost".len()).and_then(|begin| host.split_at_checked(begin));
        above.is_some_and(|(above, last)| {
            last.eq_ignore_ascii_case("localhost") && (above.is_empty() || above.ends_with('.'))
        })
    };
    host.parse::<IpAddr>().map_or_else(|_| is_name(), |ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_what_is_below_it_is_loopback_in_any_case_of_letters() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost", true),
            ("a.LOCALHOST", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("xlocalhost", false),
            ("localhost.example", false),
            ("10.0.0.1", false),
            ("ü", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
