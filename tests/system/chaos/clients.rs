//! The clients of the chaos: each asks at random, judges its answers, and keeps a record of those that came to a server.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use http_body_util::BodyExt;
use llama_warden_tests::{Endpoint, RequestFailure, TestRequest, WAIT_LIMIT};
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// The codes of the router's own errors.
const CODES: &[&str] = &[
    "model_missing",
    "model_not_found",
    "path_not_found",
    "foreign_origin",
    "foreign_host",
    "keys_missing",
    "unauthorized",
    "model_not_allowed",
    "not_admin",
    "key_limit",
    "bad_body",
    "body_too_slow",
    "body_too_large",
    "unsupported_encoding",
    "queue_full",
    "queue_timeout",
    "overloaded",
    "shutting_down",
    "server_failed",
    "server_not_ready",
    "server_stopped",
    "no_memory",
    "server_crashed",
    "upstream_timeout",
    "too_many_connections",
];

/// What all clients have seen together.
#[derive(Debug, Default)]
pub struct Seen {
    pub whole: AtomicU32,
    pub left: AtomicU32,
    /// Errors, by their code.
    pub errors: Mutex<std::collections::BTreeMap<&'static str, u32>>,
    pub records: Mutex<Vec<AskedRecord>>,
    /// Answers that are neither whole nor an error of the closed set.
    pub violations: Mutex<Vec<String>>,
}

/// A request for a server, as its client saw it.
#[derive(Debug)]
pub struct AskedRecord {
    pub server: String,
    pub begun: SystemTime,
    /// When the first and the last data of its stream came.
    pub data: Option<(SystemTime, SystemTime)>,
    pub ended: SystemTime,
    /// It ended with `server_crashed`.
    pub is_lost: bool,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Whole,
    Stream,
    /// A stream that goes on where its client leaves.
    ResumableStream,
    Light,
    Listing,
    UnknownModel,
}

/// How an answer came to an end.
enum Answered {
    Whole,
    Error(&'static str),
}

/// One client.
pub struct ChaosClient {
    pub router: Endpoint,
    pub servers: Vec<String>,
    pub seen: Arc<Seen>,
    pub rng: Rng,
}

impl ChaosClient {
    /// Asks until it is told to end.
    pub async fn run(mut self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::Relaxed) {
            let ask = match self.rng.u8(..20) {
                0..=5 => Ask::Whole,
                6..=12 => Ask::Stream,
                13 => Ask::ResumableStream,
                14..=16 => Ask::Light,
                17..=18 => Ask::Listing,
                _ => Ask::UnknownModel,
            };
            let server = self.servers[self.rng.usize(..self.servers.len())].clone();
            let request = self.request(ask, &server);
            let begun = SystemTime::now();
            let mut data = None;
            // Some leave, at any moment.
            let patience = match self.rng.u8(..5) {
                0 => Duration::from_millis(self.rng.u64(..400)),
                _ => WAIT_LIMIT,
            };
            let answered = timeout(patience, answer(request, &self.router, &mut data)).await;
            let is_lost = match &answered {
                Ok(Ok(Answered::Whole)) => {
                    self.seen.whole.fetch_add(1, Ordering::Relaxed);
                    false
                }
                Ok(Ok(Answered::Error(code))) => {
                    *lock(&self.seen.errors).entry(code).or_default() += 1;
                    *code == "server_crashed"
                }
                Ok(Err(problem)) => {
                    lock(&self.seen.violations).push(format!("{ask:?} of {server}: {problem}"));
                    false
                }
                Err(_) if patience < WAIT_LIMIT => {
                    self.seen.left.fetch_add(1, Ordering::Relaxed);
                    false
                }
                Err(_) => {
                    lock(&self.seen.violations).push(format!("{ask:?} of {server} is not answered"));
                    false
                }
            };
            if !matches!(ask, Ask::Listing | Ask::UnknownModel) {
                let ended = SystemTime::now();
                lock(&self.seen.records).push(AskedRecord { server, begun, data, ended, is_lost });
            }
            // await: the pause is part of the randomness, not a wait for something.
            sleep(Duration::from_millis(self.rng.u64(..60))).await;
        }
    }

    fn request(&mut self, ask: Ask, server: &str) -> TestRequest {
        let tokens = self.rng.u32(1..40);
        let chat = |model: &str, stream: bool| {
            let body = format!(r#"{{"messages": [], "max_tokens": {tokens}, "stream": {stream}, "model": "{model}"}}"#);
            TestRequest::post("/v1/chat/completions").header("content-type", "application/json").body(body)
        };
        match ask {
            Ask::Whole => chat(server, false),
            Ask::Stream => chat(server, true),
            Ask::ResumableStream => chat(server, true).header("x-conversation-id", "chaos"),
            Ask::Light => TestRequest::get(format!("/props?model={server}")),
            Ask::Listing => TestRequest::get(["/v1/models", "/running", "/health"][self.rng.usize(..3)]),
            Ask::UnknownModel => chat("nobody", self.rng.bool()),
        }
    }
}

/// Reads an answer to its end and judges it. `data` is when the first and the last data of a stream came.
async fn answer(
    request: TestRequest,
    router: &Endpoint,
    data: &mut Option<(SystemTime, SystemTime)>,
) -> Result<Answered, String> {
    let answer = request.open(router).await.map_err(|failure| match failure {
        RequestFailure::Connect(error) => format!("no connection: {error}"),
        other => format!("no answer: {other:?}"),
    })?;
    let (parts, mut body) = answer.into_parts();
    let is_stream =
        parts.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            format!("{} and a body that breaks off ({error}): {}", parts.status, String::from_utf8_lossy(&text))
        })?;
        let now = SystemTime::now();
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
        *data = data.map(|(first, _)| (first, now)).or(Some((now, now)));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let ended = match is_stream {
        true => judge_stream(&text),
        false => judge_whole(parts.status.as_u16(), &text),
    };
    ended.ok_or_else(|| format!("{} with {text}", parts.status))
}

fn judge_stream(text: &str) -> Option<Answered> {
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back()?;
    match last {
        "[DONE]" => Some(Answered::Whole),
        error => code_of(error).map(Answered::Error),
    }
}

fn judge_whole(status: u16, text: &str) -> Option<Answered> {
    if status == 200 {
        return serde_json::from_str::<Value>(text).ok().map(|_| Answered::Whole);
    }
    code_of(text).map(Answered::Error)
}

/// The code of an error of the router, if it is of the closed set.
fn code_of(error: &str) -> Option<&'static str> {
    let error: Value = serde_json::from_str(error).ok()?;
    let code = error["error"]["code"].as_str()?;
    CODES.iter().find(|known| **known == code).copied()
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
