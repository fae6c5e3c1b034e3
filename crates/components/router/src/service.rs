//! One request, from its head to its answer.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use llama_warden_events::ServerId;
use llama_warden_http_server::{HttpService, Transport};
use llama_warden_server_link::SendError;
use llama_warden_traffic::{
    ConnectionSide, RetryCause, TrackedBody, TrackedHead, TrackedRequest, TrafficRoute, WaitedFor,
};
use tokio::time::{Instant, timeout_at};

use crate::admitting::Turn;
use crate::answers::{Fault, RouteFaultCode};
use crate::caller::{Caller, Reach, preflight};
use crate::early::WaitNotes;
use crate::listing;
use crate::relay::{AnswerBody, CutShort, ModelServer, StreamFault, StreamFaults, to_client};
use crate::shared::{Admitted, Shared};
use llama_warden_gates::QueueClient;
use llama_warden_held_body::{BodyFacts, BodyReader, HeldBody, ReadUntil};
use llama_warden_targets::{
    ErrorDialect, ModelChange, Named, NoServer, OwnPath, PathMeaning, RequestClass, changes_servers, query_value,
    traffic_route,
};

/// How often a request is sent again to a ready server that answers as if it were not. Then its answer passes.
const MOST_UNREADY: u32 = 5;

/// Launches that end before they take a request, one after the other. Then its client is told.
const MOST_UNTAKEN: u32 = 5;

/// What it says.
const LOADING: &[u8] = b"loading model";

/// Longest answer that may say so.
const LONGEST_UNREADY: u64 = 4096;

/// Longest time from the loss of a connection to the fact that its launch has ended.
const UNTIL_GONE: Duration = Duration::from_secs(5);

/// Answers the requests of a listener.
#[derive(Clone)]
pub(crate) struct RouterService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reach: Reach,
}

/// A request without its body.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    dialect: ErrorDialect,
    /// The client's id of the request, else ours.
    pub(crate) id: HeaderValue,
    pub(crate) begun: Instant,
    pub(crate) caller: Caller,
    pub(crate) client: QueueClient,
    pub(crate) route: TrafficRoute,
    pub(crate) tracked: Arc<TrackedRequest>,
    pub(crate) wait: WaitNotes,
    /// What is sent, where its client may be told that it waits.
    pub(crate) body: Mutex<Option<HeldBody>>,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The path with its query.
    fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

pub(crate) type RouterAnswer = Response<AnswerBody>;

impl HttpService for RouterService {
    type Body = TrackedBody<AnswerBody>;

    async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Response<Self::Body> {
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
            fault.response(asked.dialect, asked.id())
        });
        answer.headers_mut().entry("x-request-id").or_insert(asked.id.clone());
        self.permit_origin(&asked.parts, answer.headers_mut());
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
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = TrackedHead {
            id: "",
            method: &method,
            path: "",
            headers: &headers,
            route: TrafficRoute::Other,
            client: None,
        };
        let tracked = Arc::new(TrackedRequest::begin(&self.shared.traffic, &head));
        tracked.rejected(fault.code.as_str(), false);
        tracked.answer(fault.response(ErrorDialect::OpenAi, ""))
    }
}

impl RouterService {
    async fn answer_asked(
        &self,
        asked: &Arc<Asked>,
        route: PathMeaning,
        body: Incoming,
    ) -> Result<RouterAnswer, Fault> {
        if route == PathMeaning::Health {
            asked.tracked.ignore();
        } else if let Some(preflight) = self.check(asked)? {
            return Ok(preflight);
        }
        let no_path = |message| Fault::new(RouteFaultCode::PathNotFound, message);
        match route {
            PathMeaning::Health => Ok(listing::health()),
            PathMeaning::Body(class) => {
                let mut reader = self.reader(asked, body, class)?;
                read(asked, &mut reader, ReadUntil::Named).await?;
                let named = self.named(asked, reader.model())?;
                let held = held(asked, &named, reader).await?;
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
                let held = held(asked, &named, reader).await?;
                Box::pin(self.relay(asked, &named, (RequestClass::Inspection, asked.target()), held)).await
            }
            PathMeaning::Upstream { model, rest, class } => {
                let named = self.named(asked, Some(&model))?;
                let reader = self.reader(asked, body, class)?;
                let target = match asked.parts.uri.query() {
                    None | Some("") => rest,
                    Some(query) => format!("{rest}?{query}"),
                };
                let held = held(asked, &named, reader).await?;
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
    async fn change(&self, asked: &Arc<Asked>, change: ModelChange, body: Incoming) -> Result<RouterAnswer, Fault> {
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
        self.check_origin(&asked.parts)?;
        if let Some(preflight) = preflight(&asked.parts) {
            return Ok(Some(preflight));
        }
        asked.caller.check(&self.shared, changes_servers(&asked.parts.method, asked.path()))?;
        if let Some(key) = &asked.caller.key {
            asked.tracked.keyed(&key.name);
        }
        Ok(None)
    }

    pub(crate) async fn read(&self, asked: &Asked, body: Incoming) -> Result<(HeldBody, BodyFacts), Fault> {
        let mut reader = BodyReader::new(body, &asked.parts.headers, &self.shared.limits)?;
        read(asked, &mut reader, ReadUntil::End).await?;
        Ok(reader.finish())
    }

    fn reader(&self, asked: &Asked, body: Incoming, class: RequestClass) -> Result<BodyReader, Fault> {
        let reader = BodyReader::new(body, &asked.parts.headers, &self.shared.limits)?;
        // What only looks at a server wakes none, so that the server may say what it thinks of a body.
        Ok(if class == RequestClass::Inspection { reader } else { reader.strict() })
    }

    fn named(&self, asked: &Asked, name: Option<&str>) -> Result<Named, Fault> {
        let directory = self.shared.directory();
        let found = directory.find(name);
        if let Ok(named) = found {
            asked.tracked.named(&named.spec.id, name);
        }
        let (code, message) = match found {
            Ok(named) if asked.caller.may_use(named) => return Ok(named.clone()),
            Ok(named) => (
                RouteFaultCode::ModelNotAllowed,
                format!("this key may not use `{}`", name.unwrap_or(named.spec.id.as_str())),
            ),
            Err(NoServer::Missing) => (RouteFaultCode::ModelMissing, "the request names no model".to_owned()),
            Err(NoServer::Unknown(name)) => (RouteFaultCode::ModelNotFound, format!("there is no model `{name}`")),
        };
        let known: Vec<&str> = directory.shown(|named| asked.caller.may_use(named)).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) };
        Err(Fault::new(code, format!("{message}; {known}")))
    }

    /// Waits for the server and relays the request; once more where its first answer was lost before it began.
    pub(crate) async fn relay(
        &self,
        asked: &Asked,
        named: &Named,
        (class, target): (RequestClass, &str),
        (mut body, facts): (HeldBody, BodyFacts),
    ) -> Result<RouterAnswer, Fault> {
        if class != RequestClass::Inspection
            && let Some(in_use) = asked.caller.enter()?
        {
            asked.tracked.hold(in_use);
        }
        if named.edits() && facts.is_json {
            body = body.edited(&named.spec.router.strip, &named.set());
        }
        asked.keep(&body);
        let mut admitted = self.admit(asked, named, class, Turn::First).await?;
        // After the wait: what was restored meanwhile may be what it continues.
        if let Some(keeper) = &self.shared.keeper
            && named.spec.router.keeps_cache
            && class == RequestClass::Inference
            && facts.is_json
            && body.is_whole()
        {
            keeper.follow(&asked.tracked, &named.spec.id, &body.concatenated());
        }
        let for_launch = matches!(admitted.waited_for, Some(WaitedFor::Start | WaitedFor::Eviction));
        let loaded = for_launch.then(|| asked.wait.total());
        let may_replay = class != RequestClass::Inspection && body.is_whole();
        let (mut was_repeated, mut taken_by, mut crashes, mut untaken, mut unready) = (false, None, 0, 0, 0);
        let mut queued = None;
        loop {
            let Admitted { upstream, permit, .. } = admitted;
            let (server, incarnation) = (upstream.server.clone(), upstream.incarnation);
            let fault = || stream_fault(asked, &server, self.shared.settings.request_timeout);
            let place = Some((permit, &fault as &StreamFaults<'_>));
            let (method, headers) = (&asked.parts.method, &asked.parts.headers);
            let sent = asked.tracked.sent();
            let queued = *queued.get_or_insert_with(|| sent.saturating_sub(loaded.unwrap_or_default()));
            let relayed = async {
                let sent = AnswerBody::relay(upstream.clone(), (method, target), headers, &body, place);
                let mut answer = sent.await?;
                // What cannot be sent again is passed on as it comes.
                if may_replay {
                    answer.body_mut().begin().await?;
                    asked.tracked.answer_began();
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
                Ok(answer) => {
                    let mut answer = if may_replay && unready < MOST_UNREADY {
                        match still_loading(answer).await {
                            Some(answer) => answer,
                            None => {
                                tracing::debug!(%server, unready, "a ready server answered that it loads its model");
                                unready += 1;
                                self.shared.act(|gates, now| gates.doubt(&server, incarnation, now));
                                admitted = self.admit(asked, named, class, Turn::Again).await?;
                                continue;
                            }
                        }
                    } else {
                        answer
                    };
                    if let Some((_, until)) = limit {
                        answer.body_mut().end_at(until);
                    }
                    let told = ModelServer { server: named.spec.id.as_str(), request: &asked.id, queued, loaded };
                    to_client(answer.headers_mut(), &told);
                    return Ok(answer);
                }
                Err(lost) => lost,
            };
            if let Some(fault) = body.rest_fault() {
                return Err(fault.into());
            }
            tracing::debug!(%server, %error, crashes, was_repeated, "a request was lost");
            let was_taken = !matches!(error, SendError::NotTaken | SendError::Connect(_));
            if was_taken {
                taken_by = Some(incarnation);
            } else {
                // Whoever waits does not run into the same before it is known whether the launch has ended.
                self.shared.act(|gates, now| gates.doubt(&server, incarnation, now));
            }
            let is_there = self.shared.upstream(&server, incarnation).is_some();
            if let Some(permit) = permit.filter(|_| !was_repeated && is_there && (may_replay || !was_taken)) {
                was_repeated = true;
                asked.tracked.retried(if was_taken { RetryCause::Lost } else { RetryCause::Connection });
                admitted = Admitted { upstream, permit, waited_for: None };
                continue;
            }
            let fault = |what: &str| {
                Fault::new(
                    RouteFaultCode::ServerCrashed,
                    format!("`{server}` was lost before it answered{what}: {error}"),
                )
            };
            // What never reached a launch cannot be what ended it.
            let was_at_work = taken_by == Some(incarnation);
            *(if was_at_work { &mut crashes } else { &mut untaken }) += 1;
            if crashes == 2 {
                return Err(fault(" twice, the second time after a restart").never_again());
            }
            let is_gone = Box::pin(self.shared.is_gone(&upstream, UNTIL_GONE));
            if !may_replay || untaken > MOST_UNTAKEN || !is_gone.await {
                return Err(fault("").retry_when(self.shared.expected_wait(&server), 1));
            }
            asked.tracked.retried(RetryCause::Crash);
            let turn = if was_at_work { Turn::AfterLoss(incarnation) } else { Turn::Again };
            admitted = self.admit(asked, named, class, turn).await?;
        }
    }
}

async fn read(asked: &Asked, reader: &mut BodyReader, until: ReadUntil) -> Result<(), Fault> {
    reader.read(until).await?;
    asked.tracked.body_read(reader.length(), asked.begun.elapsed());
    Ok(())
}

/// The body for a server. What is to be changed has to be there as a whole.
async fn held(asked: &Asked, named: &Named, mut reader: BodyReader) -> Result<(HeldBody, BodyFacts), Fault> {
    if reader.is_at_end() {
        return Ok(reader.finish());
    }
    read(asked, &mut reader, if named.edits() { ReadUntil::End } else { ReadUntil::Begun }).await?;
    Ok(reader.finish())
}

/// The answer, unless it says that the model is being loaded.
async fn still_loading(answer: RouterAnswer) -> Option<RouterAnswer> {
    let is_short = answer.body().size_hint().exact().is_some_and(|length| length <= LONGEST_UNREADY);
    if answer.status() != StatusCode::SERVICE_UNAVAILABLE || !is_short {
        return Some(answer);
    }
    let (parts, body) = answer.into_parts();
    let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let says_so = text.to_ascii_lowercase().windows(LOADING.len()).any(|part| part == LOADING);
    (!says_so).then(|| Response::from_parts(parts, AnswerBody::whole(text)))
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
    // The kernel is asked each time.
    static PROCESS: LazyLock<u32> = LazyLock::new(std::process::id);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    HeaderValue::try_from(format!("lw-{:x}-{number:x}", *PROCESS)).unwrap_or(HeaderValue::from_static("lw"))
}
