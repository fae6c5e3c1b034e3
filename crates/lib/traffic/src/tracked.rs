//! One request on its way: what the router notes about it, and the body of its answer, which is looked at as it passes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, header};
use hyper::body::{Body, Frame, SizeHint};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_support::lock;
use memchr::memmem;
use tokio::time::Instant;

use crate::answer_ends::{AnswerEnds, AnswerFacts};
use crate::counters::{RouterTraffic, ServerTraffic};
use crate::finished::FinishedRequest;
use crate::words::{RequestOutcome, RetryCause, TokenKind, TrafficRoute, WaitedFor};

/// The head of a request.
#[derive(Debug)]
pub struct TrackedHead<'a> {
    /// The id that the client gave, else ours.
    pub id: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// What it is for.
    pub route: TrafficRoute,
    /// The client's address.
    pub client: Option<IpAddr>,
}

/// Longest text of a client that is kept, in bytes: a line of the log stays a line.
const LONGEST: usize = 256;

fn shortened(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
}

/// What only a log needs is kept only for one.
fn noted(traffic: &RouterTraffic, text: &str) -> String {
    if traffic.is_logged() { shortened(text) } else { String::new() }
}

/// A request, from its head to its last byte. Dropping it before that means that the client has left.
#[derive(Debug)]
pub struct TrackedRequest {
    traffic: Arc<RouterTraffic>,
    begun: Instant,
    /// Locked for a moment, by what serves the request and by the body of its answer, which may be one before the other has ended.
    notes: Mutex<RequestNotes>,
}

#[derive(Debug)]
struct RequestNotes {
    record: FinishedRequest,
    server: Arc<ServerTraffic>,
    /// How long the client's body was read.
    reading: Duration,
    answer_began: Option<Instant>,
    outcome: Option<RequestOutcome>,
    is_ignored: bool,
    /// Given back at the end of the request.
    held: Vec<Box<dyn std::any::Any + Send>>,
    at_end: Option<AtEnd>,
}

/// Gets what is known of a request at its end.
struct AtEnd(Box<dyn FnOnce(&FinishedRequest) + Send>);

impl std::fmt::Debug for AtEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtEnd")
    }
}

impl TrackedRequest {
    /// A request whose head was read just now.
    pub fn begin(traffic: &Arc<RouterTraffic>, head: &TrackedHead<'_>) -> Self {
        let parent = head.headers.get("traceparent").and_then(|value| value.to_str().ok()?.parse().ok());
        let record = FinishedRequest {
            id: noted(traffic, head.id),
            // Only logs and spans tell it.
            at: if traffic.is_logged() { SystemTime::now() } else { SystemTime::UNIX_EPOCH },
            took: Duration::ZERO,
            method: head.method.clone(),
            path: noted(traffic, head.path),
            route: head.route,
            client: head.client,
            key: None,
            model: None,
            server: None,
            incarnation: None,
            waited_for_launch: false,
            waited: Duration::ZERO,
            sent: None,
            first_token: None,
            retries: 0,
            status: None,
            outcome: RequestOutcome::Cancelled,
            code: None,
            bytes_in: 0,
            bytes_out: 0,
            tokens: None,
            answer: AnswerFacts::default(),
            parent,
        };
        let notes = RequestNotes {
            record,
            server: traffic.unnamed(),
            reading: Duration::ZERO,
            answer_began: None,
            outcome: None,
            is_ignored: false,
            held: Vec::new(),
            at_end: None,
        };
        Self { traffic: traffic.clone(), begun: Instant::now(), notes: Mutex::new(notes) }
    }

    /// When its head was read.
    pub const fn begun(&self) -> Instant {
        self.begun
    }

    fn note(&self, note: impl FnOnce(&mut RequestNotes)) {
        note(&mut lock(&self.notes));
    }

    /// Keeps a value until the request has ended.
    pub fn hold(&self, value: impl Send + 'static) {
        self.note(|notes| notes.held.push(Box::new(value)));
    }

    /// Calls this at its end, whatever that is.
    pub fn at_end(&self, call: impl FnOnce(&FinishedRequest) + Send + 'static) {
        self.note(|notes| notes.at_end = Some(AtEnd(Box::new(call))));
    }

    /// It is in no count and no log: a look whether the router is alive.
    pub fn ignore(&self) {
        self.note(|notes| notes.is_ignored = true);
    }

    /// Its client has a key.
    pub fn keyed(&self, name: &Arc<str>) {
        self.note(|notes| notes.record.key = Some(name.clone()));
    }

    /// Its body was read.
    pub fn body_read(&self, bytes: u64, took: Duration) {
        self.note(|notes| (notes.record.bytes_in, notes.reading) = (bytes, took));
    }

    /// It is for this server, by this name.
    pub fn named(&self, server: &ServerId, model: Option<&str>) {
        self.note(|notes| {
            notes.server = self.traffic.server(server);
            (notes.record.server, notes.record.model) =
                (Some(server.clone()), model.map(|model| noted(&self.traffic, model)));
        });
    }

    /// It has waited at the gate of its server for so long.
    pub fn waited(&self, time: Duration) {
        self.note(|notes| notes.record.waited += time);
    }

    /// It may go to this launch now.
    pub fn admitted(&self, incarnation: Incarnation, waited_for: Option<WaitedFor>) {
        self.note(|notes| {
            notes.record.incarnation = Some(incarnation);
            notes.record.waited_for_launch |= matches!(waited_for, Some(WaitedFor::Start | WaitedFor::Eviction));
        });
    }

    /// It is sent.
    /// Gives the time since its head was read.
    pub fn sent(&self) -> Duration {
        let sent = self.begun.elapsed();
        self.note(|notes| {
            if notes.record.sent.replace(sent).is_none() {
                self.traffic.overhead().observe(sent.saturating_sub(notes.reading + notes.record.waited));
            }
        });
        sent
    }

    /// It has to be sent again.
    pub fn retried(&self, cause: RetryCause) {
        self.note(|notes| {
            notes.record.retries += 1;
            notes.server.retry(cause);
        });
    }

    /// The first bytes of its answer are there.
    pub fn answer_began(&self) {
        self.note(|notes| notes.answer_began = Some(Instant::now()));
    }

    /// The router answers with an error of its own; `of_server` where the server is to blame.
    pub fn rejected(&self, code: &'static str, of_server: bool) {
        self.traffic.reject(code);
        let outcome = if of_server { RequestOutcome::ServerError } else { RequestOutcome::Rejected };
        self.note(|notes| (notes.record.code, notes.outcome) = (Some(code), Some(outcome)));
    }

    /// Its answer, whose body tells when it has ended.
    pub fn answer<B: Body<Data = Bytes>>(self: &Arc<Self>, answer: Response<B>) -> Response<TrackedBody<B>> {
        let status = answer.status();
        let is_plain = !answer.headers().contains_key(header::CONTENT_ENCODING);
        let media_type = answer.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
        let starts_with =
            |text: &str| media_type.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()));
        let is_stream = starts_with("text/event-stream");
        let notes = lock(&self.notes);
        let takes_slot = !matches!(notes.record.route, TrafficRoute::Light | TrafficRoute::Other);
        let by_router = notes.outcome.is_some();
        drop(notes);
        let looks = is_plain
            && status.is_success()
            && takes_slot
            && !by_router
            && (is_stream || starts_with("application/json"));
        let ended = match status.as_u16() {
            500.. => RequestOutcome::ServerError,
            400.. => RequestOutcome::ClientError,
            _ => RequestOutcome::Ok,
        };
        self.note(|notes| notes.record.status = Some(status.as_u16()));
        let (parts, body) = answer.into_parts();
        let ends = looks.then(|| Box::new(AnswerEnds::default()));
        Response::from_parts(parts, TrackedBody { body, request: self.clone(), ends, is_stream, ended, is_over: false })
    }
}

impl Drop for TrackedRequest {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let notes = self.notes.get_mut().unwrap_or_else(PoisonError::into_inner);
        notes.held.clear();
        if notes.is_ignored {
            return;
        }
        let (record, server) = (&mut notes.record, &notes.server);
        record.took = took;
        record.outcome = notes.outcome.unwrap_or(RequestOutcome::Cancelled);
        server.count(record.route, record.outcome, record.took);
        if let Some(first) = record.first_token {
            server.first_token().observe(first);
        }
        if let Some(tokens) = record.tokens {
            server.use_tokens(TokenKind::Input, tokens.input);
            server.use_tokens(TokenKind::Cached, tokens.cached);
            server.use_tokens(TokenKind::Output, tokens.output);
        }
        if let Some(AtEnd(call)) = notes.at_end.take() {
            call(record);
        }
        if self.traffic.is_logged() {
            self.traffic.finish(record.clone());
        }
    }
}

/// The body of an answer, which is looked at as it passes and never changed.
#[derive(Debug)]
pub struct TrackedBody<B: Body<Data = Bytes>> {
    body: B,
    request: Arc<TrackedRequest>,
    /// Where the answer may tell tokens.
    ends: Option<Box<AnswerEnds>>,
    is_stream: bool,
    /// What its whole end means.
    ended: RequestOutcome,
    is_over: bool,
}

impl<B: Body<Data = Bytes>> TrackedBody<B> {
    fn pass(&mut self, bytes: &[u8]) {
        let mut notes = lock(&self.request.notes);
        notes.record.bytes_out += bytes.len() as u64;
        // A comment is no token.
        if self.is_stream && notes.record.first_token.is_none() && memmem::find(bytes, b"data:").is_some() {
            notes.record.first_token = Some(self.request.begun.elapsed());
        }
        if let Some(began) = notes.answer_began.take() {
            self.request.traffic.overhead().observe(began.elapsed());
        }
        drop(notes);
        if let Some(ends) = &mut self.ends {
            ends.push(bytes);
        }
    }

    /// The answer has ended, whole or not.
    fn finish(&mut self, is_broken: bool) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let summary = self.ends.as_ref().map(|ends| ends.read(self.is_stream)).unwrap_or_default();
        let ends = self.ends.as_ref().filter(|_| self.request.traffic.is_logged());
        let facts = ends.map(|ends| ends.facts()).unwrap_or_default();
        let has_error = is_broken || summary.has_error_event;
        let ended = if has_error { RequestOutcome::StreamError } else { self.ended };
        let mut notes = lock(&self.request.notes);
        (notes.record.tokens, notes.record.answer) = (summary.tokens, facts);
        notes.outcome.get_or_insert(ended);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.pass(bytes);
                }
            }
            Some(Err(_)) => self.finish(true),
            None => self.finish(false),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body<Data = Bytes>> Drop for TrackedBody<B> {
    fn drop(&mut self) {
        // A body of known length is not asked again after its last byte, and that of an answer to HEAD never is.
        if self.body.is_end_stream() || lock(&self.request.notes).record.method == Method::HEAD {
            self.finish(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use http::HeaderValue;

    use super::*;
    use crate::finished::FinishedRequests;

    /// Frames, and whether they end in an error.
    struct Frames(VecDeque<Result<Frame<Bytes>, &'static str>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn frames(texts: &[&'static str]) -> Frames {
        Frames(texts.iter().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))).collect())
    }

    fn begin(headers: &HeaderMap) -> (Arc<RouterTraffic>, FinishedRequests, Arc<TrackedRequest>) {
        let (traffic, finished) = RouterTraffic::logged();
        let traffic = Arc::new(traffic);
        let head = TrackedHead {
            id: "r1",
            method: &Method::POST,
            path: "/v1/chat/completions",
            headers,
            route: TrafficRoute::Chat,
            client: None,
        };
        let request = TrackedRequest::begin(&traffic, &head);
        request.named(&ServerId::new("a").expect("valid"), Some("A"));
        (traffic, finished, Arc::new(request))
    }

    fn answer(status: u16, media_type: &'static str, body: Frames) -> Response<Frames> {
        let mut answer = Response::new(body);
        *answer.status_mut() = status.try_into().expect("a status");
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        answer
    }

    async fn next(body: &mut TrackedBody<Frames>) -> Option<Result<Frame<Bytes>, &'static str>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_counted_with_its_first_token_and_its_tokens() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_static(parent));
        let (traffic, mut finished, request) = begin(&headers);
        let usage = "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
        let body = frames(&[":\n\n", "data: {}\n\n", usage]);
        let mut body = request.answer(answer(200, "text/event-stream", body)).into_body();
        drop(request);
        tokio::time::advance(Duration::from_secs(1)).await;
        next(&mut body).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        while next(&mut body).await.is_some() {}
        drop(body);
        let record = finished.try_next().expect("finished");
        assert_eq!((record.outcome, record.first_token), (RequestOutcome::Ok, Some(Duration::from_secs(2))));
        assert_eq!(record.parent.map(|parent| parent.to_string()).as_deref(), Some(parent));
        let server = traffic.server(&ServerId::new("a").expect("valid"));
        assert_eq!([TokenKind::Input, TokenKind::Output].map(|kind| server.tokens(kind)), [3, 2]);
        assert_eq!(server.requests().collect::<Vec<_>>(), [(TrafficRoute::Chat, RequestOutcome::Ok, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_once_and_as_it_went() {
        let stream = "text/event-stream";
        for (status, media_type, texts, broken, read, expected) in [
            (200, "application/json", &["{}"][..], false, 2, RequestOutcome::Ok),
            (200, stream, &["data: 1\n\n"], false, 1, RequestOutcome::Cancelled),
            (200, stream, &["data: 1\n\n", "data: {\"error\":{}}\n\n"], false, 3, RequestOutcome::StreamError),
            (200, "application/json", &["{"], true, 3, RequestOutcome::StreamError),
            (404, "application/json", &["{}"], false, 2, RequestOutcome::ClientError),
            (500, "application/json", &["{}"], false, 2, RequestOutcome::ServerError),
        ] {
            let (traffic, mut finished, request) = begin(&HeaderMap::new());
            let mut body = frames(texts);
            body.0.extend(broken.then_some(Err("cut")));
            let mut body = request.answer(answer(status, media_type, body)).into_body();
            drop(request);
            for _ in 0..read {
                next(&mut body).await.transpose().unwrap_or_default();
            }
            drop(body);
            let record = finished.try_next().expect("finished");
            assert_eq!((record.outcome, record.status), (expected, Some(status)), "{texts:?}");
            assert!(finished.try_next().is_none());
            assert_eq!(traffic.server(&ServerId::new("a").expect("valid")).requests().count(), 1);
        }
        let (_traffic, mut finished, request) = begin(&HeaderMap::new());
        drop(request);
        let record = finished.try_next().expect("finished");
        assert_eq!((record.outcome, record.status), (RequestOutcome::Cancelled, None), "left while it waited");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_our_own_time_leaves_the_clients_and_the_servers_out() {
        let (traffic, _finished, request) = begin(&HeaderMap::new());
        tokio::time::advance(Duration::from_secs(7)).await;
        request.body_read(1, Duration::from_secs(2));
        request.waited(Duration::from_secs(4));
        request.admitted(Incarnation::new(1), Some(WaitedFor::Slot));
        request.sent();
        assert_eq!((traffic.overhead().read().count(), traffic.overhead().read().sum()), (1, 1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn finished_requests_that_nobody_reads_are_counted_as_lost() {
        let (traffic, mut finished, request) = begin(&HeaderMap::new());
        drop(request);
        let record = finished.try_next().expect("finished");
        (0..1030).for_each(|_| traffic.finish(record.clone()));
        assert_eq!((finished.newly_lost(), finished.newly_lost()), (6, 0));
        assert!(finished.try_next().is_some());
    }
}
