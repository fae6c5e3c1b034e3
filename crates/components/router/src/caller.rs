//! Who asks: the checks of host, origin and key, and what the holder of a key may do.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use llama_warden_http_server::{Transport, has_foreign_origin, names_served_hosts, repeats_host};
use llama_warden_keys::{ClientKey, KeyInUse};

use crate::answer::{AnswerBody, RouterAnswer};
use crate::faults::{Fault, RouteFaultCode};
use crate::shared::Shared;
use llama_warden_gates::QueueClient;
use llama_warden_targets::{Directory, Named};

/// Who may call, as far as the listener decides.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// This machine alone: `Host` must name loopback, or a host that the configuration names.
    Loopback { hosts: Arc<[String]> },
    /// Other machines too, and none of them has a key.
    Closed,
    /// Other machines too.
    Open,
    /// The daemon's user and root, over a unix socket.
    Local,
}

/// The client of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Its key; `None` where it has none, which is refused where one is needed.
    pub(crate) key: Option<Arc<ClientKey>>,
}

impl Caller {
    pub(crate) fn of(shared: &Shared, headers: &HeaderMap) -> Self {
        Self { key: shared.key(headers) }
    }

    /// Whose turn its requests take.
    pub(crate) fn queue_client(&self, transport: Transport) -> QueueClient {
        match (&self.key, transport) {
            (Some(key), _) => QueueClient::Key(key.number()),
            (None, Transport::Tcp(ends)) => QueueClient::Address(ends.peer.ip().to_canonical()),
            (None, Transport::Unix) => QueueClient::Local,
        }
    }

    /// Refuses a client without a key where one is needed, and one whose key does not suffice.
    pub(crate) fn check(&self, shared: &Shared, changes_servers: bool) -> Result<(), Fault> {
        match &self.key {
            None if shared.needs_key() => {
                let message =
                    "this address needs a key: send it as `Authorization: Bearer KEY`, `x-api-key` or `api-key`";
                Err(Fault::new(RouteFaultCode::Unauthorized, message))
            }
            Some(key) if changes_servers && !key.is_admin => {
                let message = format!(
                    "the key `{}` may not change servers; `admin = true` in the file of keys lets it",
                    key.name
                );
                Err(Fault::new(RouteFaultCode::NotAdmin, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may use a server.
    pub(crate) fn may_use(&self, named: &Named) -> bool {
        self.key.as_ref().is_none_or(|key| key.allows(named.names()))
    }

    /// The server of this name, where it may use it.
    pub(crate) fn find<'a>(&self, directory: &'a Directory, name: &str) -> Option<&'a Named> {
        directory.find(Some(name)).ok().filter(|named| self.may_use(named))
    }

    /// Begins a request that takes one of the places of its key.
    pub(crate) fn enter(&self) -> Result<Option<KeyInUse>, Fault> {
        let Some(key) = &self.key else { return Ok(None) };
        key.enter().map(Some).ok_or_else(|| {
            let message =
                format!("{} requests of the key `{}` are under way, as many as may be", key.max_in_flight, key.name);
            Fault::new(RouteFaultCode::KeyLimit, message).retry_after(1)
        })
    }
}

impl Reach {
    /// Refuses what a page of a browser asks, unless the configuration allows its origin, and other machines where nothing does.
    pub(crate) fn check(&self, shared: &Shared, request: &Parts) -> Result<(), Fault> {
        if repeats_host(request) {
            return Err(Fault::new(RouteFaultCode::RepeatedHost, "the request has more than one `Host`"));
        }
        match self {
            // A page that has rebound its name has no key.
            Self::Loopback { hosts } if !shared.needs_key() => {
                if !names_served_hosts(request, hosts.iter()) {
                    let message = "there is no loopback address in `Host`: a page may have rebound its name; for a reverse proxy, add its \
                        name to `hosts` in [daemon]";
                    return Err(Fault::new(RouteFaultCode::ForeignHost, message));
                }
            }
            Self::Closed => {
                let message = "other machines reach this address, and there is no `keys-file` in [router]; set it, or open = true";
                return Err(Fault::new(RouteFaultCode::KeysMissing, message));
            }
            Self::Loopback { .. } | Self::Open | Self::Local => {}
        }
        let origin = request.headers.get(header::ORIGIN);
        let is_allowed = origin.is_some_and(|origin| allows(shared, origin));
        // A program that fetches sends no origin, and says of itself what a page would; only what a browser cannot leave out counts.
        let cross_site =
            origin.is_none() && request.headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site");
        let changes = !request.method.is_safe();
        if !is_allowed && (has_foreign_origin(request) || cross_site && changes) {
            let message = "a web page of another origin asks; name its origin in `cors-origins` of [router]";
            return Err(Fault::new(RouteFaultCode::ForeignOrigin, message));
        }
        Ok(())
    }
}

/// The answer to a browser that asks whether it may ask, and to anybody who asks for methods.
pub(crate) fn preflight(request: &Parts) -> Option<RouterAnswer> {
    const ASKED_HEADERS: HeaderName = header::ACCESS_CONTROL_REQUEST_HEADERS;
    (request.method == Method::OPTIONS).then(|| {
        let mut answer = Response::new(AnswerBody::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        let any = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
        headers.insert(header::ALLOW, any.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, any);
        if let Some(asked) = request.headers.get(ASKED_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        answer
    })
}

/// Lets a page of an allowed origin read the answer.
pub(crate) fn permit_origin(shared: &Shared, request: &Parts, headers: &mut HeaderMap) {
    let Some(origin) = request.headers.get(header::ORIGIN).filter(|origin| allows(shared, origin)) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

fn allows(shared: &Shared, origin: &HeaderValue) -> bool {
    let origins = &shared.settings.cors_origins;
    origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
}
