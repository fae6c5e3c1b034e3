//! One request, from its head to its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_http_server::{HttpService, Transport, has_foreign_origin, is_loopback, names_served_hosts};
use tokio::time::{Instant, timeout_at};

use crate::answers::{Fault, RouteFaultCode};
use crate::body::{BodyFacts, HeldBody};
use crate::listing;
use crate::machine::{Arrival, QueueClient};
use crate::names::{Named, NoServer};
use crate::relay::{AnswerBody, CutShort, ModelServer, RelayError, StreamFault, to_client};
use crate::routes::{self, Burden, ErrorDialect, OwnPath, PathMeaning, query_value};
use crate::shared::{Admitted, NotAdmitted, Shared};

/// Bodies up to this length are sent again where their first answer was lost.
const LONGEST_REPLAYED: u64 = 16 << 20;

/// Longest time from the loss of a connection to the fact that its launch has ended.
const UNTIL_GONE: Duration = Duration::from_secs(5);

/// Who may call, as far as the listener decides.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// This machine alone: `Host` must name loopback, or the host that the configuration names.
    Loopback { host: String },
    /// Other machines too, and none of them has a key.
    Closed,
    /// Other machines too.
    Open,
    /// The daemon's user and root, over a unix socket.
    Local,
}

/// Answers the requests of a listener.
#[derive(Clone)]
pub(crate) struct RouterService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reach: Reach,
}

/// A request without its body.
struct Asked {
    parts: Parts,
    dialect: ErrorDialect,
    /// The client's id of the request, else ours.
    id: HeaderValue,
    begun: Instant,
    client: QueueClient,
}

impl Asked {
    fn path(&self) -> &str {
        self.parts.uri.path()
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

type Answer = Response<AnswerBody>;

impl HttpService for RouterService {
    type Body = AnswerBody;

    async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Answer {
        let (parts, body) = request.into_parts();
        let dialect = ErrorDialect::of(parts.uri.path());
        let id = parts.headers.get("x-request-id").cloned().unwrap_or_else(next_id);
        let client = match transport {
            Transport::Tcp(ends) => QueueClient::Address(ends.peer.ip().to_canonical()),
            Transport::Unix => QueueClient::Local,
        };
        let asked = Asked { parts, dialect, id, begun: Instant::now(), client };
        let answered = self.answer_asked(&asked, body).await;
        let mut answer = answered.unwrap_or_else(|fault| fault.response(asked.dialect, asked.id()));
        answer.headers_mut().entry("x-request-id").or_insert(asked.id.clone());
        self.permit_origin(&asked.parts, answer.headers_mut());
        answer
    }

    fn is_probe(&self, path: &str) -> bool {
        matches!(path, "/health" | "/v1/health")
    }

    fn too_many_connections(&self, limit: usize) -> Answer {
        let message = format!("{limit} connections are open, and only /health is answered beyond them");
        Fault::new(RouteFaultCode::TooManyConnections, message).retry_after(5).response(ErrorDialect::OpenAi, "")
    }
}

impl RouterService {
    async fn answer_asked(&self, asked: &Asked, body: Incoming) -> Result<Answer, Fault> {
        let query = asked.parts.uri.query().unwrap_or_default();
        let route = routes::find(&asked.parts.method, asked.path(), query);
        if route == PathMeaning::Own(OwnPath::Health) {
            return Ok(listing::health());
        }
        self.check_caller(&asked.parts)?;
        if let Some(preflight) = preflight(&asked.parts) {
            return Ok(preflight);
        }
        let no_path = |message| Fault::new(RouteFaultCode::PathNotFound, message);
        let path_and_query = asked.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        match route {
            PathMeaning::Own(path) => listing::own(&self.shared, &path),
            PathMeaning::Body(burden) => {
                let (held, facts) = HeldBody::read(body, &asked.parts.headers, &self.shared.limits).await?;
                let named = self.named(facts.model.as_deref())?;
                self.relay(asked, &named, (burden, path_and_query), (held, facts)).await
            }
            PathMeaning::Query => {
                let named = self.named(query_value(query, "model").as_deref())?;
                let held = HeldBody::read(body, &asked.parts.headers, &self.shared.limits).await?;
                self.relay(asked, &named, (Burden::Glance, path_and_query), held).await
            }
            PathMeaning::Upstream { model, rest, burden } => {
                let named = self.named(Some(&model))?;
                let held = HeldBody::read(body, &asked.parts.headers, &self.shared.limits).await?;
                let target = if query.is_empty() { rest } else { format!("{rest}?{query}") };
                self.relay(asked, &named, (burden, &target), held).await
            }
            PathMeaning::Slash => Ok(slash(asked.path())),
            PathMeaning::Refused => {
                Err(no_path(format!("`{}` is not served through the router: ask the server itself", asked.path())))
            }
            PathMeaning::Unknown => Err(no_path(format!("there is no {} {}", asked.parts.method, asked.path()))),
        }
    }

    fn named(&self, name: Option<&str>) -> Result<Named, Fault> {
        let directory = self.shared.directory();
        directory.find(name).cloned().map_err(|missing| {
            let known: Vec<&str> = directory.shown().collect();
            let known =
                if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) };
            match missing {
                NoServer::Missing => {
                    Fault::new(RouteFaultCode::ModelMissing, format!("the request names no model; {known}"))
                }
                NoServer::Unknown(name) => {
                    Fault::new(RouteFaultCode::ModelNotFound, format!("there is no model `{name}`; {known}"))
                }
            }
        })
    }

    /// Waits for the server and relays the request; once more where its first answer was lost before it began.
    async fn relay(
        &self,
        asked: &Asked,
        named: &Named,
        (burden, target): (Burden, &str),
        (mut body, facts): (HeldBody, BodyFacts),
    ) -> Result<Answer, Fault> {
        if named.edits() && facts.is_json {
            body = body.edited(&named.spec.router.strip, &named.set());
        }
        let mut admitted = self.admit(asked, named, burden, None).await?;
        let waited = asked.begun.elapsed();
        let may_replay = burden != Burden::Glance && body.len() <= LONGEST_REPLAYED;
        let (mut was_repeated, mut crashes) = (false, 0);
        loop {
            let Admitted { upstream, permit } = admitted;
            let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
            let place = Some((permit, stream_fault(asked, &server, self.shared.settings.request_timeout)));
            let (method, headers) = (&asked.parts.method, &asked.parts.headers);
            let relayed = async {
                let sent = AnswerBody::relay(upstream.clone(), (method, target), headers, body.clone(), place);
                let mut answer = sent.await?;
                // What cannot be sent again is passed on as it comes.
                if may_replay {
                    answer.body_mut().begin().await?;
                }
                Ok(answer)
            };
            let limit = self.shared.settings.request_timeout.map(|limit| (limit, Instant::now() + limit));
            let relayed = match limit {
                None => relayed.await,
                Some((limit, until)) => {
                    let too_long = |_| Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&server, Some(limit)));
                    timeout_at(until, relayed).await.map_err(too_long)?
                }
            };
            let (error, permit) = match relayed {
                Ok(mut answer) => {
                    if let Some((_, until)) = limit {
                        answer.body_mut().end_at(until);
                    }
                    let told = ModelServer { server: named.spec.id.as_str(), request: &asked.id, waited };
                    to_client(answer.headers_mut(), &told);
                    return Ok(answer);
                }
                Err(lost) => lost,
            };
            tracing::debug!(%server, %error, crashes, was_repeated, "a request was lost");
            let was_taken = !matches!(error, RelayError::NotTaken | RelayError::Connect(_));
            let is_there = self.shared.upstream(&server, incarnation).is_some();
            if let Some(permit) = permit.filter(|_| !was_repeated && is_there && (may_replay || !was_taken)) {
                was_repeated = true;
                admitted = Admitted { upstream, permit };
                continue;
            }
            let fault = |what: &str| {
                Fault::new(
                    RouteFaultCode::ServerCrashed,
                    format!("`{server}` was lost before it answered{what}: {error}"),
                )
            };
            crashes += 1;
            if crashes == 2 {
                return Err(fault(" twice, the second time after a restart").never_again());
            }
            if !may_replay || !self.shared.is_gone(&upstream, UNTIL_GONE).await {
                return Err(fault("").retry_after(1));
            }
            admitted = self.admit(asked, named, burden, Some(incarnation)).await?;
        }
    }

    async fn admit(
        &self,
        asked: &Asked,
        named: &Named,
        burden: Burden,
        lost_with: Option<Incarnation>,
    ) -> Result<Admitted, Fault> {
        let (spec, settings) = (&named.spec, &self.shared.settings);
        let router = &spec.router;
        let arrival = Arrival {
            works: burden == Burden::Work,
            concurrency: router.concurrency,
            queue: router.queue,
            priority: router.priority,
            client: asked.client,
            lost_with,
        };
        let refused = listing::not_waited_for(&self.shared, named, burden);
        // The restart after a crash is waited for, whether or not requests start servers.
        if let Some(fault) = refused.filter(|fault| lost_with.is_none() || fault.code == RouteFaultCode::ServerStopped)
        {
            return Err(fault);
        }
        let longest = settings.queue_timeout;
        let admitted = self.shared.admit(&spec.id, arrival, longest).await;
        admitted.map_err(|refused| match refused {
            NotAdmitted::Refused(fault) => fault,
            NotAdmitted::QueueFull => {
                let message =
                    format!("{} requests wait for `{}` already (`queue` of the router)", router.queue, spec.id);
                Fault::new(RouteFaultCode::QueueFull, message).retry_after(5)
            }
            NotAdmitted::TimedOut => {
                let message = format!("`{}` took no request within {longest:?} (`router.queue-timeout`)", spec.id);
                Fault::new(RouteFaultCode::QueueTimeout, message).retry_after(10)
            }
        })
    }

    fn check_caller(&self, request: &Parts) -> Result<(), Fault> {
        match &self.reach {
            Reach::Loopback { host } => {
                let is_served = |asked: &str| is_loopback(asked) || asked.eq_ignore_ascii_case(host);
                if !names_served_hosts(request, is_served) {
                    let message = "the Host header names no loopback address: a page may have rebound its name";
                    return Err(Fault::new(RouteFaultCode::ForeignHost, message));
                }
            }
            Reach::Closed => {
                let message = "other machines reach this address, and there is no `keys-file` in [router]; set it, or open = true";
                return Err(Fault::new(RouteFaultCode::KeysMissing, message));
            }
            Reach::Open | Reach::Local => {}
        }
        let origin = request.headers.get(header::ORIGIN);
        let is_allowed = origin.is_some_and(|origin| self.allows(origin));
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

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origins = &self.shared.settings.cors_origins;
        origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
    }

    /// Lets a page of an allowed origin read the answer.
    fn permit_origin(&self, request: &Parts, headers: &mut HeaderMap) {
        let Some(origin) = request.headers.get(header::ORIGIN).filter(|origin| self.allows(origin)) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// The answer to a browser that asks whether it may ask.
fn preflight(request: &Parts) -> Option<Answer> {
    const ASKED_HEADERS: HeaderName = header::ACCESS_CONTROL_REQUEST_HEADERS;
    let asks = request.method == Method::OPTIONS && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    asks.then(|| {
        let mut answer = Response::new(AnswerBody::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        let any = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, any);
        if let Some(asked) = request.headers.get(ASKED_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        answer
    })
}

fn slash(path: &str) -> Answer {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(to) = HeaderValue::try_from(format!("{path}/")) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

/// What the client of a stream gets where it ends early.
fn stream_fault(asked: &Asked, server: &ServerId, limit: Option<Duration>) -> StreamFault {
    let (path, id, server) = (asked.path().to_owned(), asked.id().to_owned(), server.clone());
    Box::new(move |why| {
        let fault = match why {
            CutShort::Lost(_) => {
                Fault::new(RouteFaultCode::ServerCrashed, format!("`{server}` was lost amid its answer"))
            }
            CutShort::TooLong => Fault::new(RouteFaultCode::UpstreamTimeout, too_long(&server, limit)),
        };
        fault.stream_end(&path, &id)
    })
}

fn too_long(server: &ServerId, limit: Option<Duration>) -> String {
    let limit = limit.unwrap_or_default();
    format!("the answer of `{server}` is not whole after {limit:?} (`router.request-timeout`)")
}

fn next_id() -> HeaderValue {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    HeaderValue::try_from(format!("lw-{:x}-{number:x}", std::process::id())).unwrap_or(HeaderValue::from_static("lw"))
}
