//! One request, from its head to its answer.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use llama_warden_http_server::{HeadFault, HttpService, RefusedLine, RequestBody, Transport};
use llama_warden_traffic::{ConnectionSide, TrackedBody, TrackedHead, TrackedRequest, TrafficRoute};

use crate::answer::{AnswerBody, RouterAnswer};
use crate::caller::{Caller, permit_origin, preflight};
use crate::faults::{Fault, RouteFaultCode};
use crate::listing;
use crate::refusals::shutting_down;
use crate::request::{Asked, RouterService, WaitNotes};
use llama_warden_held_body::ReadUntil;
use llama_warden_targets::{
    ErrorDialect, ModelChange, OwnPath, PathMeaning, RequestClass, changes_servers, query_value, traffic_route,
};

/// The method of what has none, as spans call one that they do not know.
static NO_METHOD: LazyLock<Method> = LazyLock::new(|| Method::from_bytes(b"_OTHER").unwrap_or_default());

impl HttpService for RouterService {
    type Body = TrackedBody<AnswerBody>;

    async fn answer(&self, request: Request<RequestBody>, transport: Transport) -> Response<Self::Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let dialect = ErrorDialect::of(path);
        let id = parts.headers.get("x-request-id").cloned().unwrap_or_else(next_id);
        let meaning = llama_warden_targets::find(&parts.method, path, parts.uri.query().unwrap_or_default());
        let caller = Caller::of(&self.shared, &parts.headers);
        let client = caller.queue_client(transport);
        let route = traffic_route(&meaning, path);
        let head = TrackedHead {
            id: id.to_str().unwrap_or_default(),
            method: &parts.method,
            path,
            headers: &parts.headers,
            route,
            client: match transport {
                Transport::Tcp(ends) => Some(ends.peer.ip().to_canonical()),
                Transport::Unix => None,
            },
        };
        let tracked = Arc::new(TrackedRequest::begin(&self.shared.traffic, &head));
        let (begun, wait, kept) = (tracked.begun(), WaitNotes::default(), Mutex::default());
        let asked = Arc::new(Asked { parts, dialect, id, begun, caller, client, route, tracked, wait, body: kept });
        let answered = self.answer_asked(&asked, meaning, body).await;
        let mut answer = answered.unwrap_or_else(|fault| {
            asked.tracked.rejected(fault.code.as_str(), fault.code.is_of_server());
            fault.response(asked.dialect, asked.id()).map(AnswerBody::whole)
        });
        answer.headers_mut().entry("x-request-id").or_insert(asked.id.clone());
        permit_origin(&self.shared, &asked.parts, answer.headers_mut());
        asked.tracked.answer(answer)
    }

    fn connected(&self) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.shared.traffic.connect(ConnectionSide::Client)))
    }

    fn is_probe(&self, path: &str) -> bool {
        matches!(path, "/health" | "/v1/health")
    }

    fn too_many_connections(&self, limit: usize) -> Response<Self::Body> {
        let message = format!("{limit} connections are open, and only /health is answered beyond them");
        let fault = Fault::new(RouteFaultCode::TooManyConnections, message).retry_after(5);
        self.refuse_unread(&fault, &Method::GET, "")
    }

    fn refused_head(&self, fault: HeadFault, line: &RefusedLine) -> Response<Self::Body> {
        let code = match fault {
            HeadFault::Malformed => RouteFaultCode::BadHead,
            HeadFault::TooLong => RouteFaultCode::HeadTooLong,
            HeadFault::TooSlow => RouteFaultCode::HeadTooSlow,
        };
        let method = line.method.as_ref().unwrap_or(&*NO_METHOD);
        self.refuse_unread(&Fault::new(code, fault.message()), method, &line.path)
    }
}

impl RouterService {
    /// The answer to a request of which no more is known than this. The path may be empty.
    fn refuse_unread(&self, fault: &Fault, method: &Method, path: &str) -> Response<TrackedBody<AnswerBody>> {
        let (id, headers) = (next_id(), HeaderMap::new());
        let name = id.to_str().unwrap_or_default();
        let route = TrafficRoute::Other;
        let head = TrackedHead { id: name, method, path, headers: &headers, route, client: None };
        let tracked = Arc::new(TrackedRequest::begin(&self.shared.traffic, &head));
        tracked.rejected(fault.code.as_str(), fault.code.is_of_server());
        let mut answer = fault.response(ErrorDialect::of(path), name).map(AnswerBody::whole);
        answer.headers_mut().insert("x-request-id", id.clone());
        tracked.answer(answer)
    }

    async fn answer_asked(
        &self,
        asked: &Arc<Asked>,
        route: PathMeaning,
        body: RequestBody,
    ) -> Result<RouterAnswer, Fault> {
        if route == PathMeaning::Health {
            asked.tracked.ignore();
        } else if let Some(preflight) = self.check(asked)? {
            return Ok(preflight);
        } else if self.shared.ending.is_cancelled() {
            return Err(shutting_down());
        }
        let no_path = |message| Fault::new(RouteFaultCode::PathNotFound, message);
        match route {
            PathMeaning::Health => Ok(listing::health()),
            PathMeaning::Body(class) => {
                let mut reader = self.reader(asked, body, class)?;
                self.read_until(ReadUntil::Named, asked, &mut reader).await?;
                let named = self.named(asked, reader.model())?;
                let held = self.held(asked, &named, reader).await?;
                self.respond(asked, named, (class, asked.target()), held).await
            }
            // Futures in boxes are those of rare requests, so that the others need less memory.
            PathMeaning::ModelEvents => Ok(self.model_events(&asked.caller)),
            PathMeaning::Own(path) => {
                let lists = matches!(path, OwnPath::Models | OwnPath::Model(_));
                let asleep = if lists { Box::pin(self.asleep(&asked.caller)).await } else { BTreeSet::new() };
                listing::own(&self.shared, &path, &asked.caller, &asleep)
            }
            PathMeaning::Query => {
                let query = asked.parts.uri.query().unwrap_or_default();
                let named = self.named(asked, query_value(query, "model").as_deref())?;
                let reader = self.reader(asked, body, RequestClass::Inspection)?;
                let held = self.held(asked, &named, reader).await?;
                Box::pin(self.relay(asked, &named, (RequestClass::Inspection, asked.target()), held)).await
            }
            PathMeaning::Upstream { model, rest, class } => {
                let named = self.named(asked, Some(&model))?;
                let reader = self.reader(asked, body, class)?;
                let target = match asked.parts.uri.query() {
                    None | Some("") => rest,
                    Some(query) => format!("{rest}?{query}"),
                };
                let held = self.held(asked, &named, reader).await?;
                Box::pin(self.respond(asked, named, (class, &target), held)).await
            }
            PathMeaning::Streams(question) => Box::pin(self.answer_stream(asked, question, body)).await,
            PathMeaning::Manage(ModelChange::UnloadAll) => Box::pin(self.unload_all(&asked.caller)).await,
            PathMeaning::Manage(ModelChange::Misasked) => {
                let message = format!("{} changes which models run: send POST", asked.path());
                Err(Fault::new(RouteFaultCode::MethodNotAllowed, message))
            }
            PathMeaning::Manage(change) => Box::pin(self.change(asked, change, body)).await,
            PathMeaning::Slash => Ok(slash(&asked.parts)),
            PathMeaning::Refused => {
                Err(no_path(format!("`{}` is not served through the router: ask the server itself", asked.path())))
            }
            PathMeaning::Unknown => Err(no_path(format!("there is no {} {}", asked.parts.method, asked.path()))),
        }
    }

    /// Has a server started or stopped.
    async fn change(&self, asked: &Arc<Asked>, change: ModelChange, body: RequestBody) -> Result<RouterAnswer, Fault> {
        let (_, facts) = self.read(asked, body).await?;
        let missing = || Fault::new(RouteFaultCode::ModelMissing, "the request names no model");
        let named = self.named(asked, Some(&facts.model.ok_or_else(missing)?))?;
        match change {
            ModelChange::Load => self.load(&named, asked.client),
            _ => self.unload(&named).await,
        }
    }

    /// Refuses who may not ask; the answer to a browser that asks whether it may.
    fn check(&self, asked: &Asked) -> Result<Option<RouterAnswer>, Fault> {
        self.reach.check(&self.shared, &asked.parts)?;
        if let Some(preflight) = preflight(&asked.parts) {
            return Ok(Some(preflight));
        }
        asked.caller.check(&self.shared, changes_servers(&asked.parts.method, asked.path()))?;
        if let Some(key) = &asked.caller.key {
            asked.tracked.keyed(&key.name);
        }
        Ok(None)
    }
}

fn slash(request: &Parts) -> RouterAnswer {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let query = request.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    if let Ok(to) = HeaderValue::try_from(format!("{}/{query}", request.uri.path())) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

fn next_id() -> HeaderValue {
    static LAST: AtomicU64 = AtomicU64::new(0);
    // The kernel is asked each time.
    static PROCESS: LazyLock<u32> = LazyLock::new(std::process::id);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    HeaderValue::try_from(format!("lw-{:x}-{number:x}", *PROCESS)).unwrap_or(HeaderValue::from_static("lw"))
}
