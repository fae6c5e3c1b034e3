//! The HTTP endpoints: which exist in an era, which need a key, which answer while the model loads, and their responses.

use std::{io, sync::Arc, thread};

use serde_json::json;

use crate::{
    completions,
    connection::{Connection, HttpRequest, HttpResponse},
    eras::{Era, LATE_2024_TO_2025},
    health,
    lines::{self, Step},
    listener::Listener,
    metrics, slots,
    state::{Server, ServerPhase},
    wire,
};

/// Accepts connections until the socket is closed, and handles each in a thread of its own.
pub(crate) fn serve(server: &Arc<Server>, listener: &Listener) {
    while let Ok(stream) = listener.accept() {
        let server = Arc::clone(server);
        // If the system refuses a thread, the connection is dropped.
        let _ = thread::Builder::new().spawn(move || {
            // An error ends only the connection of this client.
            let connection = Connection::new(stream, requests_of_a_connection(server.script.era));
            let left = handle_connection(&server, connection).is_err_and(|error| !wire::is_fault(&error));
            if left && !server.script.faults.is_empty() {
                wire::left();
            }
        });
    }
}

fn handle_connection(server: &Server, mut connection: Connection) -> io::Result<()> {
    while let Some(mut request) = connection.request()? {
        let is_completion = Endpoint::of(server.script.era, &request) == Endpoint::Completion;
        if !is_completion {
            connection.read_body(&mut request, u64::MAX)?;
        } else if !wire::meet(server, &mut request, &mut connection)? {
            break;
        }
        // In mid 2024 the builds accept connections during the load, and answer them after it.
        if server.script.era == Era::July2024 {
            server.await_loaded();
        }
        let status = answer(server, &request, &mut connection)?;
        let Some(status) = status else { break };
        let values = [("method", &*request.method), ("path", &request.path), ("status", &status.to_string())];
        lines::print_with(server, Step::Answered, &values);
        if !request.keeps_alive() || !connection.goes_on() {
            break;
        }
    }
    Ok(())
}

/// How many requests a connection takes: five of a build of 2024, a hundred of those since (measured).
fn requests_of_a_connection(era: Era) -> u32 {
    if era < Era::August2025 { 5 } else { 100 }
}

fn answer(server: &Server, request: &HttpRequest, connection: &mut Connection) -> io::Result<Option<u16>> {
    let era = server.script.era;
    let endpoint = Endpoint::of(era, request);
    if !endpoint.is_public(era) && !is_authorised(server, request) {
        lines::print(server, Step::Unauthorized);
        return connection.respond(&HttpResponse::error(401, "Invalid API Key", "authentication_error"));
    }
    let answers_early = endpoint == Endpoint::Models && LATE_2024_TO_2025.contains(&era);
    match endpoint {
        Endpoint::Health => health::answer(server, connection),
        _ if server.phase() == ServerPhase::Loading && !answers_early => connection.respond(&health::loading_model()),
        Endpoint::Models => connection.respond(&models(server)),
        Endpoint::Props => connection.respond(&props(server)),
        Endpoint::Slots => connection.respond(&slots(server)),
        Endpoint::SlotAction => slots::answer(server, request, connection),
        Endpoint::Metrics => connection.respond(&metrics::answer(server)),
        Endpoint::Completion => completions::answer(server, request, connection),
        Endpoint::Stream if request.method == "DELETE" => connection.respond(&server.resumable.delete(request)),
        Endpoint::Stream => server.resumable.resume(request, connection),
        Endpoint::StreamLookup => connection.respond(&server.resumable.look_up(request)),
        Endpoint::Unknown => connection.respond(&HttpResponse::not_found()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Health,
    Models,
    Props,
    Slots,
    SlotAction,
    Metrics,
    Completion,
    /// Of streams that a client resumes.
    Stream,
    StreamLookup,
    Unknown,
}

impl Endpoint {
    fn of(era: Era, request: &HttpRequest) -> Self {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") if era > Era::December2023 => Self::Health,
            ("GET", "/v1/health") if era == Era::B11669 => Self::Health,
            ("GET", "/v1/models") => Self::Models,
            ("GET", "/models") if era >= Era::November2024 => Self::Models,
            ("GET", "/props") => Self::Props,
            ("GET", "/slots") if era > Era::December2023 => Self::Slots,
            ("POST", path) if path.starts_with("/slots/") && era > Era::December2023 => Self::SlotAction,
            ("GET", "/metrics") if era > Era::December2023 => Self::Metrics,
            ("POST", "/completion" | "/completions" | "/v1/completions") => Self::Completion,
            ("POST", "/v1/chat/completions" | "/chat/completions") => Self::Completion,
            ("GET" | "DELETE", "/v1/stream") if era == Era::B11669 => Self::Stream,
            ("POST", "/v1/streams/lookup") if era == Era::B11669 => Self::StreamLookup,
            _ => Self::Unknown,
        }
    }

    /// Whether the endpoint needs no API key.
    fn is_public(self, era: Era) -> bool {
        match self {
            Self::Health => true,
            Self::Models => era < Era::B11669,
            Self::Slots | Self::Metrics => era <= Era::July2024,
            Self::Props | Self::Completion | Self::Stream | Self::SlotAction | Self::StreamLookup | Self::Unknown => {
                false
            }
        }
    }
}

fn is_authorised(server: &Server, request: &HttpRequest) -> bool {
    let keys = &server.settings.api_keys;
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| request.header("x-api-key"));
    keys.is_empty() || given.is_some_and(|given| keys.iter().any(|key| key == given))
}

fn model_path(server: &Server) -> &str {
    server.script.model_path.as_deref().unwrap_or(&server.settings.model)
}

fn models(server: &Server) -> HttpResponse {
    let id = server.model_id();
    let entry = json!({ "id": id, "object": "model", "created": lines::unix_time(), "owned_by": "llamacpp" });
    HttpResponse::json(200, json!({ "object": "list", "data": [entry] }).to_string())
}

fn props(server: &Server) -> HttpResponse {
    let slots = server.settings.slots;
    let body = match server.script.era {
        Era::December2023 | Era::July2024 | Era::November2024 => {
            json!({ "default_generation_settings": { "n_ctx": context(server), "model": model_path(server) }, "total_slots": slots })
        }
        Era::August2025 => json!({
            "default_generation_settings": { "n_ctx": context(server) },
            "total_slots": slots,
            "model_path": model_path(server),
            "build_info": "b1-stand-in",
        }),
        Era::B11669 => json!({
            "default_generation_settings": { "n_ctx": context(server) },
            "total_slots": slots,
            "model_alias": server.model_id(),
            "model_path": model_path(server),
            "build_info": "b11669-stand-in",
            "is_sleeping": server.script.slots.as_ref().is_some_and(|slots| slots.is_sleeping),
        }),
    };
    HttpResponse::json(200, body.to_string())
}

fn slots(server: &Server) -> HttpResponse {
    let slots: Vec<_> = (0..server.settings.slots.min(1024))
        .map(|id| json!({ "id": id, "n_ctx": context(server), "speculative": false, "is_processing": false }))
        .collect();
    HttpResponse::json(200, json!(slots).to_string())
}

fn context(server: &Server) -> u64 {
    server.settings.context_size
}
