//! The head and comments of a stream whose request waits: some clients and proxies give up on a server that says nothing.
//!
//! Comments are no events, so that they are in no answer. Once the head is out, an error can only be an event of the stream. A request
//! whose client wants no stream, or could resume it by the number of its bytes, waits in silence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use llama_warden_body_scan::asks_for_stream;
use llama_warden_config::Progress;
use llama_warden_events::ServerId;
use llama_warden_state::Phase;
use llama_warden_support::lock;
use tokio::time::Instant;

use crate::answer::{AnswerBody, EarlyBody, ModelServer, RouterAnswer, is_event_stream, to_client};
use crate::faults::{Fault, passed_on};
use crate::request::{Asked, RouterService};
use crate::shared::Shared;
use llama_warden_held_body::{BodyFacts, HeldBody};
use llama_warden_targets::{Named, RequestClass};

/// How often the progress is looked at. A request that is refused before the first look has a status of its own.
const LOOK: Duration = Duration::from_secs(1);

/// Longest error of a llama-server that is passed on as an event.
const LONGEST_ERROR: usize = 64 << 10;

/// What is said to a client that waits.
struct Comments {
    shared: Arc<Shared>,
    asked: Arc<Asked>,
    server: ServerId,
    tells_progress: bool,
    ping_after: Option<Duration>,
    said: String,
    said_at: Instant,
}

impl Comments {
    /// `None` where the client is told nothing.
    fn new(shared: &Arc<Shared>, asked: &Arc<Asked>, named: &Named, class: RequestClass) -> Option<Self> {
        let is_told = class == RequestClass::Inference && asked.may_be_told();
        let tells_progress = named.spec.router.progress == Progress::Comments;
        let ping_after = shared.settings.ping_after;
        (is_told && (tells_progress || ping_after.is_some())).then(|| Self {
            shared: shared.clone(),
            asked: asked.clone(),
            server: named.spec.id.clone(),
            tells_progress,
            ping_after,
            said: String::new(),
            said_at: asked.begun,
        })
    }

    fn every(&self) -> Duration {
        if self.tells_progress { LOOK } else { self.ping_after.unwrap_or(LOOK) }
    }

    /// What is to be said now.
    fn next(&mut self) -> Option<Bytes> {
        let waits = self.asked.wait.is_waiting();
        let text = if waits { self.state() } else { "working".to_owned() };
        let is_new = self.tells_progress && waits && text != self.said;
        let is_due = self.ping_after.is_some_and(|ping| self.said_at.elapsed() >= ping);
        if !is_new && !is_due {
            return None;
        }
        let comment = format!(": {text}\n\n").into();
        (self.said, self.said_at) = (text, Instant::now());
        Some(comment)
    }

    /// What a request that waits waits for.
    fn state(&self) -> String {
        let snapshot = self.shared.bus.snapshot();
        match snapshot.servers.get(&self.server).map(|record| &record.phase) {
            Some(Phase::Loading { progress: Some(done) }) => format!("loading {:.0} %", done * 100.0),
            Some(Phase::Launching | Phase::Starting | Phase::Loading { .. }) => "loading".to_owned(),
            Some(Phase::Ready { .. } | Phase::Unready { .. }) => "waiting for a slot".to_owned(),
            _ => "waiting for the start".to_owned(),
        }
    }
}

impl RouterService {
    /// Relays a request, and keeps the client of a stream company while it waits.
    pub(crate) async fn respond(
        &self,
        asked: &Arc<Asked>,
        named: Named,
        (class, target): (RequestClass, &str),
        held: (HeldBody, BodyFacts),
    ) -> Result<RouterAnswer, Fault> {
        let Some(mut comments) = Comments::new(&self.shared, asked, &named, class) else {
            return Box::pin(self.relay(asked, &named, (class, target), held)).await;
        };
        let server = named.spec.id.clone();
        let (service, owned, target) = (self.clone(), asked.clone(), target.to_owned());
        let mut relaying = Box::pin(async move { service.relay(&owned, &named, (class, &target), held).await });
        let first = loop {
            match tokio::time::timeout(comments.every(), &mut relaying).await {
                Ok(answered) => return answered,
                Err(_) => {
                    if let Some(first) = comments.next() {
                        break first;
                    }
                }
            }
        };
        let body = lock(&asked.body).take();
        if !body.is_some_and(|body| asks_for_stream(&body.concatenated())) {
            return relaying.await;
        }
        let every = comments.every();
        let asked = asked.clone();
        let told =
            ModelServer { server: server.as_str(), request: &asked.id, queued: asked.begun.elapsed(), loaded: None };
        let mut answer = Response::new(());
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        to_client(headers, &told);
        let rest = async move { rest_of(&asked, relaying.await).await };
        let body = EarlyBody::new(first, (Box::new(move || comments.next()), every), rest);
        Ok(answer.map(|()| AnswerBody::early(body)))
    }
}

/// What follows the comments: the answer, or the events that end the stream.
async fn rest_of(asked: &Asked, answered: Result<RouterAnswer, Fault>) -> Result<AnswerBody, Bytes> {
    let answer = match answered {
        Ok(answer) => answer,
        Err(fault) => {
            asked.tracked.rejected(fault.code.as_str(), fault.code.is_of_server());
            return Err(fault.stream_end(asked.path(), asked.id()));
        }
    };
    let (parts, body) = answer.into_parts();
    // The head that is out names no encoding.
    let is_plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
    if parts.status == StatusCode::OK && is_event_stream(&parts.headers) && is_plain {
        return Ok(body);
    }
    let text = Limited::new(body, LONGEST_ERROR).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Err(passed_on(asked.path(), asked.id(), parts.status, &text))
}
