//! HTTP security checks: host, origin, token, content type, and size of the body. [`RequestPolicy::check`] is pure and reads
//! only the head of a request.
//!
//! The attacker on loopback is a web page in a browser on this machine. It can reach the loopback address, and by DNS
//! rebinding it can do so as "same origin". So on loopback the API serves only requests whose `Host` names loopback, refuses
//! a foreign `Origin`, and demands a content type that no form can send for requests that change state.
//!
//! Off loopback the attacker is any host of the network, and only the token protects guarded paths. A page that rebound its
//! name has no token, so `Host` is not checked there.
//!
//! On loopback without a token, the other users of the machine are attackers too: `local_user` finds out whose process asks.

mod body;
mod local_user;
mod token;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

pub(crate) use body::read_empty_body;
use http::uri::Authority;
use llama_warden_api_types::{Access, ApiProblem};
use llama_warden_http_server::{
    BoundTcp, Transport, has_foreign_origin, is_loopback, named_hosts, names_served_hosts, repeats_host,
};
pub(crate) use local_user::check_local_user;
pub use token::{InvalidToken, Token, TokenInForce};

/// Who is served over TCP. The control socket serves the daemon's user and root.
#[derive(Debug, Clone, Default)]
pub(crate) struct TcpAccess {
    /// The token that clients must send; without one, clients off loopback are served open paths alone.
    pub(crate) token: TokenInForce,
    /// Further names, without port, that requests on loopback may have in `Host`: those of a reverse proxy.
    pub(crate) hosts: Vec<String>,
    /// The only user, beside root, who is served on loopback where there is no token; `None` serves every user of the machine.
    pub(crate) user: Option<u32>,
}

/// The machines that can reach the TCP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerReach {
    /// Only this machine: the listener is bound to a loopback address.
    Loopback,
    /// Other machines too.
    Network,
}

/// Decides whether a request is served.
#[derive(Debug)]
pub(crate) struct RequestPolicy {
    reach: ListenerReach,
    /// The host of `listen` as configured, which is served beside loopback names.
    listen_host: Option<String>,
    access: TcpAccess,
}

impl From<&BoundTcp> for ListenerReach {
    fn from(tcp: &BoundTcp) -> Self {
        if tcp.address.ip().is_loopback() { Self::Loopback } else { Self::Network }
    }
}

impl RequestPolicy {
    pub(crate) fn new(reach: ListenerReach, listen_host: Option<String>, access: TcpAccess) -> Self {
        Self { reach, listen_host, access }
    }

    /// The only user, beside root, whose processes may ask over TCP for a path of this `access`; `None` if any may.
    pub(crate) fn required_user(&self, access: Access) -> Option<u32> {
        let asks_for_none = self.reach == ListenerReach::Loopback && self.access.token.now().is_none();
        (asks_for_none && access == Access::Guarded).then_some(self.access.user).flatten()
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    /// The first check that fails, as a problem for the client.
    pub(crate) fn check(&self, transport: Transport, access: Access, request: &Parts) -> Result<(), ApiProblem> {
        if repeats_host(request) {
            let detail = "the request has more than one Host header";
            return Err(ApiProblem::new(StatusCode::BAD_REQUEST, "repeated-host", "ambiguous host", detail)
                .next_step("send one Host header, as every client does by itself"));
        }
        let is_tcp = matches!(transport, Transport::Tcp(_));
        if is_tcp && self.reach == ListenerReach::Loopback {
            self.check_host(request)?;
        }
        check_origin(request)?;
        if is_tcp && access == Access::Guarded {
            self.check_token(&request.headers)?;
        }
        if !request.method.is_safe() {
            check_content_type(&request.headers)?;
        }
        body::check_length(&request.headers)
    }

    fn check_host(&self, request: &Parts) -> Result<(), ApiProblem> {
        let served = || self.listen_host.iter().chain(&self.access.hosts);
        if names_served_hosts(request, served()) {
            return Ok(());
        }
        let hosts: Vec<_> = named_hosts(request).collect();
        let asked: Vec<_> =
            hosts.iter().map(|host| host.as_ref().map_or("one that cannot be read", Authority::as_str)).collect();
        let asked = if asked.is_empty() { "none".to_owned() } else { asked.join(", ") };
        let mut names = vec!["localhost", "loopback addresses"];
        names.extend(served().map(String::as_str).filter(|own| !is_loopback(own)));
        let detail = format!("the Host header names {asked}, and these are served: {}", names.join(", "));
        Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-host", "host not served", detail).next_step(
            "use http://127.0.0.1 or http://localhost with the daemon's port; for a reverse proxy, add the name to `hosts` in [daemon]",
        ))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let Some(token) = &*self.access.token.now() else {
            return match self.reach {
                ListenerReach::Loopback => Ok(()),
                ListenerReach::Network => Err(ApiProblem::new(
                    StatusCode::FORBIDDEN,
                    "token-not-configured",
                    "closed without a token",
                    "the daemon listens off loopback and has no token, so it only answers probes and scrapers here",
                )
                .next_step("set token-file in [daemon], or use the control socket in the state directory")),
            };
        };
        if headers.get(header::AUTHORIZATION).is_some_and(|value| token.matches(value)) {
            return Ok(());
        }
        let detail = "the Authorization header does not carry the daemon's token";
        Err(ApiProblem::new(StatusCode::UNAUTHORIZED, "unauthorized", "token needed", detail)
            .next_step("send `Authorization: Bearer TOKEN` with the token of the daemon's token-file; on the command line, name it with --token-file"))
    }
}

/// Refuses requests that a page of another origin makes. Browsers name the origin of the page in `Origin`.
fn check_origin(request: &Parts) -> Result<(), ApiProblem> {
    // Older browsers omit `Origin` from some requests; newer ones send `Sec-Fetch-Site` with every request. A link from
    // another site may be followed, so the header counts only for requests that change state.
    let foreign_site = !request.method.is_safe()
        && request.headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin" && site != "none");
    if !has_foreign_origin(request) && !foreign_site {
        return Ok(());
    }
    let detail = "the request was made by a web page of another origin";
    Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-origin", "origin not served", detail)
        .next_step("use the daemon's own pages, the command line, or a client that is not a browser"))
}

/// Refuses bodies that are not JSON. Without a preflight, forms and `fetch` can send three content types, and JSON is not
/// among them.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let acceptable = match headers.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().is_ok_and(is_json),
        None => !body::is_announced(headers),
    };
    if acceptable {
        return Ok(());
    }
    let detail = "a request that changes something has no body, or one of type application/json";
    Err(ApiProblem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "content type not accepted",
        detail,
    )
    .next_step("send no body: options go into the query"))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
