//! What a path means: whether it takes a slot, where its model is named, and in which dialect its errors are written.

use std::borrow::Cow;

use http::Method;
use llama_warden_traffic::TrafficRoute;

/// The dialect of an error's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorDialect {
    /// OpenAI's, which llama-server has too.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

/// How a path is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMeaning {
    /// Relayed to the server that the body names.
    Body(RequestClass),
    /// Relayed to the server that the query names in `model`; starts nothing and is no use.
    Query,
    /// Relayed to the server that the path names, with the rest of the path.
    Upstream {
        /// As the path has it, decoded.
        model: String,
        /// The path for the server.
        rest: String,
        /// How the request is treated.
        class: RequestClass,
    },
    /// About streams that can be resumed; starts nothing and is no use.
    Streams(StreamQuestion),
    /// Changes which servers run.
    Manage(ModelChange),
    /// Answered with a redirect to the path with a slash at its end.
    Slash,
    /// Answered by the router itself, whoever asks: it listens.
    Health,
    /// Answered by the router itself with the stream of what happens to models.
    ModelEvents,
    /// Answered by the router itself.
    Own(OwnPath),
    /// Refused: its only protection is the check of the origin, which a proxy removes.
    Refused,
    /// No path of the router.
    Unknown,
}

/// A question about streams that can be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamQuestion {
    /// About the stream of this conversation.
    Of(Option<String>),
    /// Which of several there are, or all.
    List,
}

/// A change of what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// Start the server that the body names.
    Load,
    /// Stop it once its requests have ended.
    Unload,
    /// Stop every server so.
    UnloadAll,
    /// The same, asked for by a method that must not change anything.
    Misasked,
}

/// How a request is treated on its way to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestClass {
    /// It takes a slot, starts the server, and counts as its use.
    Inference,
    /// It bypasses the queue. It starts the server where a client asks for an answer of the model.
    Auxiliary,
    /// It bypasses the queue and never starts anything.
    Inspection,
}

/// A path of the router's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnPath {
    /// The list of models.
    Models,
    /// One of them, by its name.
    Model(String),
    /// Those that run, for clients of llama-swap.
    Running,
    /// What the router says of itself.
    Props,
}

const INFERENCE: &[&str] = &[
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/completions",
    "/completion",
    "/v1/responses",
    "/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/embeddings",
    "/embedding",
    "/v1/rerank",
    "/v1/reranking",
    "/rerank",
    "/reranking",
    "/infill",
    "/v1/audio/transcriptions",
    "/audio/transcriptions",
];

const AUXILIARY: &[&str] = &[
    "/v1/messages/count_tokens",
    "/messages/count_tokens",
    "/v1/chat/completions/input_tokens",
    "/chat/completions/input_tokens",
    "/v1/responses/input_tokens",
    "/responses/input_tokens",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/chat/completions/control",
];

const BY_QUERY: &[&str] = &["/props", "/slots", "/metrics", "/lora-adapters"];

impl ErrorDialect {
    /// The dialect of the errors of a path.
    pub fn of(path: &str) -> Self {
        let path = path.strip_prefix("/upstream/").and_then(|rest| rest.split_once('/')).map_or(path, |(_, rest)| rest);
        let is_messages = path.trim_start_matches('/').trim_start_matches("v1/").starts_with("messages");
        if is_messages { Self::Anthropic } else { Self::OpenAi }
    }
}

/// The route of a request. `query` is its query, without the question mark.
pub fn find(method: &Method, path: &str, query: &str) -> PathMeaning {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/health" | "/v1/health" if reads => return PathMeaning::Health,
        "/v1/models" | "/models" if reads => return PathMeaning::Own(OwnPath::Models),
        "/running" if reads => return PathMeaning::Own(OwnPath::Running),
        "/models/sse" if reads => return PathMeaning::ModelEvents,
        "/models/load" if *method == Method::POST => return PathMeaning::Manage(ModelChange::Load),
        "/models/unload" if *method == Method::POST => return PathMeaning::Manage(ModelChange::Unload),
        "/unload" if *method == Method::POST => return PathMeaning::Manage(ModelChange::UnloadAll),
        "/models/load" | "/models/unload" | "/unload" => return PathMeaning::Manage(ModelChange::Misasked),
        "/v1/streams" if reads => return PathMeaning::Streams(StreamQuestion::List),
        "/v1/streams/lookup" if *method == Method::POST => return PathMeaning::Streams(StreamQuestion::List),
        "/v1/stream" if reads || *method == Method::DELETE => {
            return PathMeaning::Streams(StreamQuestion::Of(query_value(query, "conv_id").filter(|id| !id.is_empty())));
        }
        "/props" if reads && !names_model(query) => return PathMeaning::Own(OwnPath::Props),
        "/tools" | "/cors-proxy" => return PathMeaning::Refused,
        _ => {}
    }
    if let Some(name) = path.strip_prefix("/v1/models/").or_else(|| path.strip_prefix("/models/")).filter(|_| reads) {
        return decoded(name).map_or(PathMeaning::Unknown, |name| PathMeaning::Own(OwnPath::Model(name)));
    }
    if let Some(id) = path.strip_prefix("/v1/stream/").filter(|_| reads || *method == Method::DELETE) {
        let of = |id| PathMeaning::Streams(StreamQuestion::Of(Some(id)));
        return decoded(id).map_or(PathMeaning::Unknown, of);
    }
    if let Some(rest) = path.strip_prefix("/upstream/") {
        return upstream(method, rest);
    }
    if *method == Method::POST && INFERENCE.contains(&path) {
        return PathMeaning::Body(RequestClass::Inference);
    }
    if *method == Method::POST && AUXILIARY.contains(&path) {
        return PathMeaning::Body(RequestClass::Auxiliary);
    }
    let is_slot = path.strip_prefix("/slots/").is_some_and(|slot| slot.bytes().all(|byte| byte.is_ascii_digit()));
    if BY_QUERY.contains(&path) || is_slot {
        return PathMeaning::Query;
    }
    if *method == Method::POST && path.starts_with("/v1/") {
        PathMeaning::Body(RequestClass::Inference)
    } else {
        PathMeaning::Unknown
    }
}

/// Whether a request changes a server beside its work, for which a key has to be an admin's.
pub fn changes_servers(method: &Method, path: &str) -> bool {
    let rest = path.strip_prefix("/upstream/").and_then(|rest| rest.split_once('/'));
    // As llama-server decodes it.
    let path = rest.map_or(Some(Cow::Borrowed(path)), |(_, rest)| decoded(&format!("/{rest}")).map(Cow::Owned));
    let Some(path) = path else { return true };
    let manages = rest.is_none() && matches!(&*path, "/models/load" | "/models/unload" | "/unload");
    !method.is_safe() && (manages || BY_QUERY.contains(&&*path) || path.starts_with("/slots/"))
}

/// What a request is counted as.
pub fn traffic_route(meaning: &PathMeaning, path: &str) -> TrafficRoute {
    let path = match meaning {
        PathMeaning::Body(RequestClass::Inference) => path,
        PathMeaning::Upstream { rest, class: RequestClass::Inference, .. } => rest,
        PathMeaning::Body(_) | PathMeaning::Query | PathMeaning::Streams(_) | PathMeaning::Upstream { .. } => {
            return TrafficRoute::Light;
        }
        _ => return TrafficRoute::Other,
    };
    match path.strip_prefix("/v1").unwrap_or(path) {
        "/chat/completions" => TrafficRoute::Chat,
        "/completions" | "/completion" => TrafficRoute::Completions,
        "/responses" => TrafficRoute::Responses,
        "/messages" => TrafficRoute::Messages,
        "/embeddings" | "/embedding" => TrafficRoute::Embeddings,
        "/rerank" | "/reranking" => TrafficRoute::Rerank,
        "/infill" => TrafficRoute::Infill,
        "/audio/transcriptions" => TrafficRoute::Audio,
        _ => TrafficRoute::Other,
    }
}

fn upstream(method: &Method, rest: &str) -> PathMeaning {
    if !rest.is_empty() && !rest.contains('/') {
        return PathMeaning::Slash;
    }
    let (model, rest) = rest.split_once('/').unwrap_or_default();
    let Some(model) = decoded(model).filter(|model| !model.is_empty()) else { return PathMeaning::Unknown };
    let rest = format!("/{rest}");
    // llama-server decodes the path before it looks for the route.
    let Some(meant) = decoded(&rest) else { return PathMeaning::Unknown };
    let class = match find(method, &meant, "") {
        PathMeaning::Body(class) => class,
        PathMeaning::Refused => return PathMeaning::Refused,
        // Assets of a user interface, and what only looks at the server.
        _ => RequestClass::Inspection,
    };
    PathMeaning::Upstream { model, rest, class }
}

fn names_model(query: &str) -> bool {
    query_value(query, "model").is_some_and(|model| !model.is_empty())
}

/// The value of a parameter in a query.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name { decoded(&value.replace('+', " ")) } else { None }
    })
}

/// A percent-encoded text; `None` where it is not UTF-8 or not encoded so.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (hex, after) = after.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = after;
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_a_request_is_to_its_server() {
        for (method, path, query, expected) in [
            ("POST", "/v1/chat/completions", "", PathMeaning::Body(RequestClass::Inference)),
            ("POST", "/v1/messages", "", PathMeaning::Body(RequestClass::Inference)),
            ("POST", "/v1/messages/count_tokens", "", PathMeaning::Body(RequestClass::Auxiliary)),
            ("POST", "/tokenize", "", PathMeaning::Body(RequestClass::Auxiliary)),
            ("POST", "/v1/something/new", "", PathMeaning::Body(RequestClass::Inference)),
            ("GET", "/v1/something/new", "", PathMeaning::Unknown),
            ("GET", "/slots", "model=a", PathMeaning::Query),
            ("POST", "/slots/3", "model=a", PathMeaning::Query),
            ("GET", "/props", "", PathMeaning::Own(OwnPath::Props)),
            ("GET", "/props", "model=a", PathMeaning::Query),
            ("GET", "/v1/models/org%2Fname:tag", "", PathMeaning::Own(OwnPath::Model("org/name:tag".into()))),
            ("GET", "/models/sse", "", PathMeaning::ModelEvents),
            ("POST", "/models/load", "", PathMeaning::Manage(ModelChange::Load)),
            ("POST", "/unload", "", PathMeaning::Manage(ModelChange::UnloadAll)),
            ("GET", "/unload", "", PathMeaning::Manage(ModelChange::Misasked)),
            ("GET", "/v1/stream", "conv_id=a%3A%3Ab", PathMeaning::Streams(StreamQuestion::Of(Some("a::b".into())))),
            ("DELETE", "/v1/stream/c", "", PathMeaning::Streams(StreamQuestion::Of(Some("c".into())))),
            ("GET", "/v1/stream", "", PathMeaning::Streams(StreamQuestion::Of(None))),
            ("POST", "/v1/streams/lookup", "", PathMeaning::Streams(StreamQuestion::List)),
            ("GET", "/health", "", PathMeaning::Health),
            ("GET", "/upstream/a", "", PathMeaning::Slash),
            ("GET", "/upstream/", "", PathMeaning::Unknown),
            ("GET", "/upstream//x", "", PathMeaning::Unknown),
            ("GET", "/upstream/%zz/", "", PathMeaning::Unknown),
            ("POST", "/tools", "", PathMeaning::Refused),
            ("POST", "/upstream/a/tools", "", PathMeaning::Refused),
            ("POST", "/upstream/a/%74ools", "", PathMeaning::Refused),
            ("DELETE", "/v1/chat/completions", "", PathMeaning::Unknown),
        ] {
            assert_eq!(find(&method.parse().expect("method"), path, query), expected, "{method} {path}?{query}");
        }
        let upstream = |path: &str, method: Method| match find(&method, path, "") {
            PathMeaning::Upstream { model, rest, class } => (model, rest, class),
            other => (format!("{other:?}"), String::new(), RequestClass::Inference),
        };
        assert_eq!(
            upstream("/upstream/a%2Fb/x.css", Method::GET),
            ("a/b".into(), "/x.css".into(), RequestClass::Inspection)
        );
        assert_eq!(
            upstream("/upstream/a/completion", Method::POST),
            ("a".into(), "/completion".into(), RequestClass::Inference)
        );
    }

    #[test]
    fn what_changes_a_server_is_known_however_its_path_is_written() {
        for (method, path, expected) in [
            ("POST", "/props", true),
            ("POST", "/slots/0", true),
            ("POST", "/lora-adapters", true),
            ("POST", "/upstream/a/props", true),
            ("POST", "/upstream/a/%70rops", true),
            ("POST", "/upstream/a/slots%2F0", true),
            ("POST", "/models/load", true),
            ("POST", "/unload", true),
            ("DELETE", "/v1/stream/c", false),
            ("GET", "/props", false),
            ("GET", "/upstream/a/slots", false),
            ("POST", "/v1/chat/completions", false),
            ("POST", "/upstream/a/completion", false),
        ] {
            assert_eq!(changes_servers(&method.parse().expect("method"), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_request_is_counted_by_what_it_is_for() {
        for (method, path, expected) in [
            ("POST", "/v1/chat/completions", TrafficRoute::Chat),
            ("POST", "/completion", TrafficRoute::Completions),
            ("POST", "/v1/messages", TrafficRoute::Messages),
            ("POST", "/v1/messages/count_tokens", TrafficRoute::Light),
            ("POST", "/upstream/a/v1/embeddings", TrafficRoute::Embeddings),
            ("GET", "/upstream/a/index.html", TrafficRoute::Light),
            ("GET", "/slots", TrafficRoute::Light),
            ("POST", "/v1/something/new", TrafficRoute::Other),
            ("GET", "/v1/models", TrafficRoute::Other),
            ("GET", "/nowhere", TrafficRoute::Other),
        ] {
            let meaning = find(&method.parse().expect("method"), path, "model=a");
            assert_eq!(traffic_route(&meaning, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn errors_are_written_in_the_dialect_of_the_path() {
        for (path, expected) in [
            ("/v1/messages", ErrorDialect::Anthropic),
            ("/v1/messages/count_tokens", ErrorDialect::Anthropic),
            ("/upstream/a/v1/messages", ErrorDialect::Anthropic),
            ("/v1/chat/completions", ErrorDialect::OpenAi),
        ] {
            assert_eq!(ErrorDialect::of(path), expected, "{path}");
        }
    }
}
