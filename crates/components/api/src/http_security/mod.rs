//! HTTP security checks: host, origin, token, content type, and size of the body. [`RequestPolicy::check`] is pure and reads
//! only the head of a request.
//!
//! The attacker on loopback is a web page in a browser on this machine. It can reach the loopback address, and by DNS
//! rebinding it can do so as "same origin". So on loopback the API serves only requests whose `Host` names loopback, refuses
//! a foreign `Origin`, and demands a content type that no form can send for requests that change state.
//!
//! Off loopback the attacker is any host of the network, and only the token protects guarded paths. A page that rebound its
//! name has no token, so `Host` is not checked there.

mod body;
mod host;
mod token;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

pub(crate) use body::read_empty_body;
use host::{bare_host, host_of_origin, is_loopback, named_hosts};
use http::uri::Authority;
use llama_warden_api_types::{Access, ApiProblem};
pub use token::{InvalidToken, Token};
use tokio::sync::watch;

/// The kind of listener that accepted the connection of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP, which any process that can reach the address may use.
    Tcp,
    /// The control socket, where the kernel reports the user of the peer.
    Unix,
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
    /// The token in force.
    token: watch::Receiver<Option<Token>>,
}

impl RequestPolicy {
    pub(crate) fn new(
        reach: ListenerReach,
        listen_host: Option<String>,
        token: watch::Receiver<Option<Token>>,
    ) -> Self {
        Self { reach, listen_host, token }
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    /// The first check that fails, as a problem for the client.
    pub(crate) fn check(&self, transport: Transport, access: Access, request: &Parts) -> Result<(), ApiProblem> {
        if transport == Transport::Tcp && self.reach == ListenerReach::Loopback {
            self.check_host(request)?;
        }
        check_origin(request)?;
        if transport == Transport::Tcp && access == Access::Guarded {
            self.check_token(&request.headers)?;
        }
        if !request.method.is_safe() {
            check_content_type(&request.headers)?;
        }
        body::check_length(&request.headers)
    }

    fn check_host(&self, request: &Parts) -> Result<(), ApiProblem> {
        let is_local = |authority: &Authority| {
            let host = bare_host(authority);
            self.listen_host.as_deref().is_some_and(|own| host.eq_ignore_ascii_case(own)) || is_loopback(host)
        };
        let hosts = named_hosts(request);
        if !hosts.is_empty() && hosts.iter().all(|host| host.as_ref().is_some_and(is_local)) {
            return Ok(());
        }
        let detail = "the Host header does not name this machine's loopback address or the address of `listen`";
        Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-host", "host not served", detail)
            .next_step("use http://127.0.0.1 or http://localhost with the daemon's port"))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let Some(token) = &*self.token.borrow() else {
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
    let mut origins = request.headers.get_all(header::ORIGIN).iter();
    let own = named_hosts(request);
    let foreign_origin = origins.any(|origin| {
        let origin = origin.to_str().ok().and_then(host_of_origin);
        origin.is_none() || !own.contains(&origin)
    });
    // Older browsers omit `Origin` from some requests; newer ones send `Sec-Fetch-Site` with every request. A link from
    // another site may be followed, so the header counts only for requests that change state.
    let foreign_site = !request.method.is_safe()
        && request.headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin" && site != "none");
    if !foreign_origin && !foreign_site {
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
