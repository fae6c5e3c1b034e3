//! The HTTP endpoints: which exist in an era, which need a key, which answer while the model loads, and their responses.

use std::{io, sync::Arc, thread};

use serde_json::json;

use crate::{
    completions,
    connection::{Connection, HttpRequest, HttpResponse},
    eras::Era,
    health, lines,
    listener::Listener,
    metrics,
    state::{Server, ServerPhase},
};

/// Accepts connections until the socket is closed, and handles each in a thread of its own.
pub(crate) fn serve(server: &Arc<Server>, listener: &Listener) {
    while let Ok(stream) = listener.accept() {
        let server = Arc::clone(server);
        // If the system refuses a thread, the connection is dropped.
        let _ = thread::Builder::new().spawn(move || {
            // An error ends only the connection of this client.
            let _ = handle_connection(&server, Connection::new(stream));
        });
    }
}

fn handle_connection(server: &Server, mut connection: Connection) -> io::Result<()> {
    while let Some(request) = connection.request()? {
        if server.script.era.answers_after_load() {
            server.await_loaded();
        }
        let status = answer(server, &request, &mut connection)?;
        if let Some(line) = status.and_then(|status| server.lines.answered(&request.method, &request.path, status)) {
            server.log.line(&line);
        }
        if status.is_none() || !request.keeps_alive() {
            break;
        }
    }
    Ok(())
}

fn answer(server: &Server, request: &HttpRequest, connection: &mut Connection) -> io::Result<Option<u16>> {
    let endpoint = Endpoint::of(server.script.era, request);
    if !endpoint.is_public(server.script.era) && !is_authorised(server, request) {
        server.log.lines(server.lines.unauthorized());
        return connection.respond(&HttpResponse::error(401, "Invalid API Key", "authentication_error"));
    }
    if endpoint == Endpoint::Health {
        return health::answer(server, connection);
    }
    if server.phase() == ServerPhase::Loading {
        let early = endpoint == Endpoint::Models && server.script.era.lists_models_while_loading();
        if !early {
            return connection.respond(&health::loading_model());
        }
    }
    match endpoint {
        Endpoint::Health | Endpoint::Unknown => {
            connection.respond(&HttpResponse::error(404, "File Not Found", "not_found_error"))
        }
        Endpoint::Models => connection.respond(&models(server)),
        Endpoint::Props => connection.respond(&props(server)),
        Endpoint::Slots => connection.respond(&slots(server)),
        Endpoint::Metrics => connection.respond(&metrics::answer(server)),
        Endpoint::Completion | Endpoint::Chat => completions::answer(server, request, connection),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Health,
    Models,
    Props,
    Slots,
    Metrics,
    Completion,
    Chat,
    Unknown,
}

impl Endpoint {
    fn of(era: Era, request: &HttpRequest) -> Self {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") if era.has_health() => Self::Health,
            ("GET", "/v1/health") if era == Era::B11669 => Self::Health,
            ("GET", "/v1/models") => Self::Models,
            ("GET", "/models") if era >= Era::November2024 => Self::Models,
            ("GET", "/props") => Self::Props,
            ("GET", "/slots") if era > Era::December2023 => Self::Slots,
            ("GET", "/metrics") if era > Era::December2023 => Self::Metrics,
            ("POST", "/completion" | "/completions" | "/v1/completions") => Self::Completion,
            ("POST", "/v1/chat/completions" | "/chat/completions") => Self::Chat,
            _ => Self::Unknown,
        }
    }

    /// Whether the endpoint needs no API key.
    fn is_public(self, era: Era) -> bool {
        match self {
            Self::Health => true,
            Self::Models => era < Era::B11669,
            Self::Slots | Self::Metrics => era <= Era::July2024,
            Self::Props | Self::Completion | Self::Chat | Self::Unknown => false,
        }
    }
}

fn is_authorised(server: &Server, request: &HttpRequest) -> bool {
    let keys = &server.settings.api_keys;
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| request.header("x-api-key"));
    keys.is_empty() || given.is_some_and(|given| keys.iter().any(|key| key == given))
}

/// The id of the model in responses: by the script, else the alias, else the path.
pub(crate) fn model_id(server: &Server) -> &str {
    let settings = &server.settings;
    server.script.model_id.as_deref().or(settings.alias.as_deref()).unwrap_or(&settings.model)
}

fn model_path(server: &Server) -> &str {
    server.script.model_path.as_deref().unwrap_or(&server.settings.model)
}

fn models(server: &Server) -> HttpResponse {
    let id = model_id(server);
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
            "model_alias": model_id(server),
            "model_path": model_path(server),
            "build_info": "b11669-stand-in",
            "is_sleeping": false,
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
