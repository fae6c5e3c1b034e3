//! Completions: a few words over and over, at the script's pace, whole or streamed.

use std::{
    hint, io, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    connection::{Connection, HttpRequest, HttpResponse},
    health::AfterAnswer,
    lines, routes,
    script::Wedge,
    state::Server,
};

const WORDS: [&str; 8] = ["all", " work", " and", " no", " play", " makes", " a", " llama"];
/// Tokens of a completion that names no number.
const DEFAULT_TOKENS: u64 = 8;
/// Tokens of a whole answer at most, so that one without an end is not held in memory.
const WHOLE_TOKENS: u64 = 10_000;

/// Answers a completion. The log comes first: a server whose log is not drained hangs here, as the real one does.
pub(crate) fn answer(
    server: &Server,
    request: &HttpRequest,
    connection: &mut Connection,
) -> io::Result<(AfterAnswer, Option<u16>)> {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        connection.respond(&HttpResponse::error(400, "parse error", "invalid_request_error"))?;
        return Ok((AfterAnswer::KeepOpen, Some(400)));
    };
    server.log.lines(server.lines.task_began());
    match server.script.wedge {
        Wedge::None => {}
        Wedge::Idle => {
            connection.await_hang_up();
            return Ok((AfterAnswer::Close, None));
        }
        Wedge::Busy => burn(Duration::from_secs(u64::from(server.script.max_life_s))),
    }
    let wanted = Wanted::of(&body, request);
    let pause = Duration::from_millis(server.script.token_ms);
    if wanted.streamed {
        stream(server, &wanted, pause, connection)?;
    } else {
        let tokens = wanted.tokens.unwrap_or(WHOLE_TOKENS).min(WHOLE_TOKENS);
        let text: String = (0..tokens).map(|at| word(at, pause)).collect();
        connection.respond(&HttpResponse::json(200, wanted.whole(server, &text, tokens).to_string()))?;
    }
    server.log.lines(server.lines.idle());
    Ok((AfterAnswer::KeepOpen, Some(200)))
}

fn stream(server: &Server, wanted: &Wanted, pause: Duration, connection: &mut Connection) -> io::Result<()> {
    let _guard = server.open_stream();
    connection.begin_events()?;
    let tokens = wanted.tokens.unwrap_or(u64::MAX);
    for at in 0..tokens {
        connection.event(&wanted.piece(server, word(at, pause)).to_string())?;
    }
    connection.event(&wanted.last_piece(server, tokens).to_string())?;
    if wanted.chat {
        connection.event("[DONE]")?;
    }
    connection.end_events()
}

/// The word at `at`, after the time that generating it argument.
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

/// What a client asks for.
struct Wanted {
    chat: bool,
    streamed: bool,
    /// None is without an end.
    tokens: Option<u64>,
}

impl Wanted {
    fn of(body: &Value, request: &HttpRequest) -> Self {
        let number = ["n_predict", "max_tokens"].iter().find_map(|key| body.get(key)?.as_i64());
        Self {
            chat: request.path.contains("chat"),
            streamed: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            tokens: match number {
                None => Some(DEFAULT_TOKENS),
                Some(number) => u64::try_from(number).ok(),
            },
        }
    }

    fn whole(&self, server: &Server, text: &str, tokens: u64) -> Value {
        let model = routes::model_id(server);
        if self.chat {
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
        }
    }

    fn piece(&self, server: &Server, word: &str) -> Value {
        if self.chat {
            self.chat_piece(server, json!({ "content": word }), Value::Null)
        } else {
            json!({ "index": 0, "content": word, "tokens": [], "stop": false, "id_slot": 0 })
        }
    }

    fn last_piece(&self, server: &Server, tokens: u64) -> Value {
        if self.chat { self.chat_piece(server, json!({}), json!("length")) } else { self.whole(server, "", tokens) }
    }

    fn chat_piece(&self, server: &Server, delta: Value, finish: Value) -> Value {
        json!({
            "choices": [{ "finish_reason": finish, "index": 0, "delta": delta }],
            "created": lines::unix_time(), "model": routes::model_id(server), "object": "chat.completion.chunk",
            "id": "chatcmpl-stand-in",
        })
    }
}
