//! The edge: which requests come in at all. [`RequestPolicy::check`] is pure and sees only the head of a request.
//!
//! A web page in a browser on this machine can reach the loopback address, and by rebinding a name of its own it can do
//! so as "same origin". So on loopback only loopback names are served, a foreign `Origin` is turned away, and what
//! changes something needs a content type that no form can send. Off loopback only a token opens the door; a page that
//! rebound its name has none, which is why the name does not matter there.

mod body;
mod host;
mod token;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

pub(crate) use body::take_body;
use host::Authority;
use llama_warden_api_types::ApiProblem;
pub use token::{InvalidToken, Token};

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over the network, if only over loopback.
    Tcp,
    /// Over the control socket: the kernel vouches for the user.
    Unix,
}

/// Who can reach the TCP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerReach {
    /// This machine.
    Loopback,
    /// Others.
    Network,
}

/// What a path asks of those who come over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: probes and scrapers have no token.
    Open,
    /// The token.
    Guarded,
}

/// What decides at the edge.
#[derive(Debug)]
pub(crate) struct RequestPolicy {
    reach: ListenerReach,
    /// The host that the listener was configured with.
    listen_host: Option<String>,
    token: Option<Token>,
}

impl RequestPolicy {
    pub(crate) fn new(reach: ListenerReach, listen_host: Option<String>, token: Option<Token>) -> Self {
        Self { reach, listen_host, token }
    }

    /// Lets the request in or says why not.
    pub(crate) fn check(&self, transport: Transport, access: Access, request: &Parts) -> Result<(), ApiProblem> {
        if transport == Transport::Tcp && self.reach == ListenerReach::Loopback {
            self.check_host(request)?;
        }
        check_origin(request)?;
        if transport == Transport::Tcp && access == Access::Guarded {
            self.check_token(&request.headers)?;
        }
        if changes_something(&request.method) {
            check_content_type(&request.headers)?;
        }
        body::check_length(&request.headers)
    }

    fn check_host(&self, request: &Parts) -> Result<(), ApiProblem> {
        let named = Authority::of_request(request);
        let ours = |authority: &Authority| {
            let listen = self.listen_host.as_deref().is_some_and(|host| authority.host_is(host));
            listen || authority.is_loopback()
        };
        if !named.is_empty() && named.iter().all(|authority| authority.as_ref().is_some_and(ours)) {
            return Ok(());
        }
        let detail = "the Host header does not name this machine's loopback address or the address of `listen`";
        Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-host", "host not served", detail)
            .next_step("use http://127.0.0.1 or http://localhost with the daemon's port"))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let Some(token) = &self.token else {
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
        if headers.get(header::AUTHORIZATION).is_some_and(|value| token.opens(value)) {
            return Ok(());
        }
        let detail = "the Authorization header does not carry the daemon's token";
        Err(ApiProblem::new(StatusCode::UNAUTHORIZED, "unauthorized", "token needed", detail)
            .next_step("send `Authorization: Bearer TOKEN` with the content of token-file"))
    }
}

/// A browser says with `Origin` which page asks. Only a page that we served ourselves may.
fn check_origin(request: &Parts) -> Result<(), ApiProblem> {
    let mut origins = request.headers.get_all(header::ORIGIN).iter();
    let own = Authority::of_request(request);
    let foreign_origin = origins.any(|origin| {
        let origin = origin.to_str().ok().and_then(Authority::of_origin);
        origin.is_none() || !own.contains(&origin)
    });
    // Older browsers leave `Origin` out of some requests, newer ones send this header with all.
    let foreign_site = changes_something(&request.method)
        && request.headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin" && site != "none");
    if !foreign_origin && !foreign_site {
        return Ok(());
    }
    let detail = "the request was made by a web page of another origin";
    Err(ApiProblem::new(StatusCode::FORBIDDEN, "foreign-origin", "origin not served", detail)
        .next_step("use the daemon's own pages, the command line, or a client that is no browser"))
}

/// Forms and `fetch` without a preflight can send three content types; JSON is none of them.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let acceptable = match headers.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().is_ok_and(is_json),
        None => !body::is_announced(headers),
    };
    if acceptable {
        return Ok(());
    }
    let detail = "a request that changes something has no body, or one of type application/json";
    Err(ApiProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "content type not taken", detail)
        .next_step("send no body: options go into the query"))
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

pub(crate) fn changes_something(method: &Method) -> bool {
    !method.is_safe()
}

#[cfg(test)]
mod tests;
