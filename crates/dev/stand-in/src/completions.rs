//! The completion endpoints: they repeat a few words at the script's pace, as one response or as a stream.

use std::{
    hint, io,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    body_digest::BodyDigest,
    connection::{Connection, HttpRequest, HttpResponse},
    ending,
    eras::Era,
    health,
    lines::{self, Step},
    routes,
    script::Wedge,
    state::Server,
};

const WORDS: [&str; 8] = ["all", " work", " and", " no", " play", " makes", " a", " llama"];
/// The number of tokens where the request names none.
const DEFAULT_TOKENS: u64 = 8;
/// The most tokens of a response that is not streamed, since it is held in memory.
const WHOLE_TOKENS: u64 = 10_000;

/// Answers a completion. Returns as [`crate::health::answer`] does. The log line comes first: as in llama-server, a request
/// hangs while the log is not read.
pub(crate) fn answer(server: &Server, request: &HttpRequest, connection: &mut Connection) -> io::Result<Option<u16>> {
    if server.script.digest_bodies || request.digest.is_some() {
        let digest = request.digest.clone().unwrap_or_else(|| BodyDigest::of(&request.body));
        return connection.respond(&HttpResponse::json(200, json!({ "body_digest": digest.finish() }).to_string()));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return connection.respond(&HttpResponse::error(400, "parse error", "invalid_request_error"));
    };
    lines::print(server, Step::TaskBegan);
    if server.script.poison.as_deref().is_some_and(|poison| String::from_utf8_lossy(&request.body).contains(poison)) {
        thread::sleep(Duration::from_millis(server.script.token_ms));
        ending::die(Signal::SIGSEGV);
    }
    match server.script.wedge {
        Wedge::None => {}
        Wedge::Idle => {
            connection.await_hang_up();
            return Ok(None);
        }
        Wedge::Loading(first) if server.completions.fetch_add(1, Ordering::Relaxed) < first => {
            lines::print(server, Step::Idle);
            connection.respond(&health::loading_model())?;
            return Ok(Some(503));
        }
        Wedge::Loading(_) => {}
        Wedge::Busy => burn(Duration::from_secs(u64::from(server.script.max_life_s))),
    }
    let completion = Completion::of(&body, request).caching(server);
    let pause = Duration::from_millis(server.script.token_ms);
    let began = Instant::now();
    if let (true, Some(id), Era::B11669) = (completion.streamed, request.header("x-conversation-id"), server.script.era)
    {
        resumable_stream(server, &completion, (id, pause), connection)?;
        print_end(server, completion.tokens.unwrap_or_default(), began);
    } else if completion.streamed {
        stream(server, &completion, pause, connection)?;
        print_end(server, completion.tokens.unwrap_or_default(), began);
    } else {
        let tokens = completion.tokens.unwrap_or(WHOLE_TOKENS).min(WHOLE_TOKENS);
        let text: String = (0..tokens).map(|at| word(at, pause)).collect();
        print_end(server, tokens, began);
        connection.respond(&HttpResponse::json(200, completion.whole(server, &text, tokens).to_string()))?;
    }
    lines::print(server, Step::Idle);
    Ok(Some(200))
}

fn stream(server: &Server, completion: &Completion, pause: Duration, connection: &mut Connection) -> io::Result<()> {
    // A stop waits for counted streams, so count this one before its head is sent.
    let _guard = server.open_stream();
    connection.begin_events()?;
    let tokens = completion.tokens.unwrap_or(u64::MAX);
    for at in 0..tokens {
        connection.event(&completion.piece(server, word(at, pause)).to_string())?;
    }
    connection.event(&completion.last_piece(server, tokens).to_string())?;
    if completion.chat {
        connection.event("[DONE]")?;
    }
    connection.end_events()
}

/// Prints what the completion cost. It never takes less than a millisecond, so that a rate of it is finite.
fn print_end(server: &Server, tokens: u64, began: Instant) {
    let ms = began.elapsed().as_millis().max(1);
    lines::print_with(server, Step::TaskEnded, &[("ms", &format!("{ms}.00")), ("tokens", &tokens.to_string())]);
}

/// A stream that goes on without the client, until it is deleted.
fn resumable_stream(
    server: &Server,
    completion: &Completion,
    (id, pause): (&str, Duration),
    connection: &mut Connection,
) -> io::Result<()> {
    let _guard = server.open_stream();
    server.resumable.begin(id);
    let mut sent = connection.begin_events();
    let mut send = |data: &str| {
        let event = format!("data: {data}\n\n");
        if sent.is_ok() {
            sent = connection.chunk(event.as_bytes());
        }
        server.resumable.push(id, event.as_bytes())
    };
    let tokens = completion.tokens.unwrap_or(u64::MAX);
    let is_whole = (0..tokens).all(|at| send(&completion.piece(server, word(at, pause)).to_string()));
    if is_whole {
        send(&completion.last_piece(server, tokens).to_string());
        if completion.chat {
            send("[DONE]");
        }
    }
    server.resumable.end(id);
    sent.and_then(|()| connection.end_events())
}

/// Waits for `pause`, the time of one token, and returns the word at index `at`.
fn word(at: u64, pause: Duration) -> &'static str {
    thread::sleep(pause);
    WORDS[(at % WORDS.len() as u64) as usize]
}

fn burn(time: Duration) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        hint::spin_loop();
    }
}

/// The parameters of a completion request.
struct Completion {
    chat: bool,
    streamed: bool,
    /// `None`: the completion has no end.
    tokens: Option<u64>,
    /// The tokens of its prompt that were in the slot, and those that were not, where the script says so.
    cache: Option<(u64, u64)>,
}

impl Completion {
    fn of(body: &Value, request: &HttpRequest) -> Self {
        let number = ["n_predict", "max_tokens"].iter().find_map(|key| body.get(key)?.as_i64());
        Self {
            chat: request.path.contains("chat"),
            streamed: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            tokens: match number {
                None => Some(DEFAULT_TOKENS),
                Some(number) => u64::try_from(number).ok(),
            },
            cache: None,
        }
    }

    /// With what the slot holds of its prompt; afterwards it holds the answer too.
    fn caching(self, server: &Server) -> Self {
        let cache = server.script.slots.as_ref().map(|slots| {
            let prompt = slots.prompt_tokens;
            let held = server.slot_tokens.swap(prompt + self.tokens.unwrap_or(0), Ordering::Relaxed);
            let cached = held.min(prompt.saturating_sub(1));
            (cached, prompt - cached)
        });
        Self { cache, ..self }
    }

    /// Says in an answer what was cached.
    fn timed(&self, mut answer: Value, tokens: u64) -> Value {
        if let Some((cached, read)) = self.cache {
            answer["timings"] = json!({ "cache_n": cached, "prompt_n": read, "predicted_n": tokens });
        }
        answer
    }

    fn whole(&self, server: &Server, text: &str, tokens: u64) -> Value {
        let model = routes::model_id(server);
        let answer = if self.chat {
            let message = json!({ "role": "assistant", "content": text });
            json!({
                "choices": [{ "finish_reason": "length", "index": 0, "message": message }],
                "created": lines::unix_time(), "model": model, "object": "chat.completion",
                "usage": { "completion_tokens": tokens, "prompt_tokens": 4, "total_tokens": tokens + 4 },
                "id": "chatcmpl-stand-in",
            })
        } else {
            json!({
                "index": 0, "content": text, "tokens": [], "id_slot": 0, "stop": true, "model": model,
                "tokens_predicted": tokens, "tokens_evaluated": 4, "truncated": false, "stop_type": "limit",
            })
        };
        self.timed(answer, tokens)
    }

    fn piece(&self, server: &Server, word: &str) -> Value {
        if self.chat {
            self.chat_piece(server, json!({ "content": word }), Value::Null)
        } else {
            json!({ "index": 0, "content": word, "tokens": [], "stop": false, "id_slot": 0 })
        }
    }

    fn last_piece(&self, server: &Server, tokens: u64) -> Value {
        if self.chat {
            self.timed(self.chat_piece(server, json!({}), json!("length")), tokens)
        } else {
            self.whole(server, "", tokens)
        }
    }

    fn chat_piece(&self, server: &Server, delta: Value, finish: Value) -> Value {
        json!({
            "choices": [{ "finish_reason": finish, "index": 0, "delta": delta }],
            "created": lines::unix_time(), "model": routes::model_id(server), "object": "chat.completion.chunk",
            "id": "chatcmpl-stand-in",
        })
    }
}
