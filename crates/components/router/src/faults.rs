//! Errors of the router, in the dialect of the path, with a `code` from a closed set.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use llama_warden_held_body::{BodyRefusal, BodyRefused};
use llama_warden_support::naming_program;
use llama_warden_targets::ErrorDialect;
use serde_json::{Value as Json, json};

/// The bounds of `Retry-After`, in seconds: OpenAI's clients obey it up to two minutes.
const SOONEST: u32 = 1;
const LATEST: u32 = 120;

/// Why the router itself answers with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: RouteFaultCode,
    pub(crate) message: String,
    /// Seconds after which another try is worth it.
    pub(crate) retry_after: Option<u32>,
    /// The same request would do the same harm again.
    is_final: bool,
}

/// The closed set of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteFaultCode {
    ModelMissing,
    ModelNotFound,
    ModelRunning,
    ModelNotRunning,
    PathNotFound,
    MethodNotAllowed,
    StreamMissing,
    StreamNotFound,
    ForeignOrigin,
    ForeignHost,
    RepeatedHost,
    KeysMissing,
    Unauthorized,
    ModelNotAllowed,
    NotAdmin,
    KeyLimit,
    BadHead,
    HeadTooLong,
    HeadTooSlow,
    BadBody,
    BodyTooSlow,
    BodyTooLarge,
    UnsupportedEncoding,
    QueueFull,
    QueueTimeout,
    Overloaded,
    ShuttingDown,
    ServerFailed,
    ServerNotReady,
    ServerStopped,
    NoMemory,
    ServerCrashed,
    UpstreamTimeout,
    TooManyConnections,
}

impl RouteFaultCode {
    /// Status, `code`, type in OpenAI's dialect, and type in Anthropic's.
    const fn shape(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        match self {
            Self::ModelMissing => (StatusCode::BAD_REQUEST, "model_missing", INVALID, INVALID),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, "model_not_found", INVALID, "not_found_error"),
            Self::ModelRunning => (StatusCode::BAD_REQUEST, "model_running", INVALID, INVALID),
            Self::ModelNotRunning => (StatusCode::BAD_REQUEST, "model_not_running", INVALID, INVALID),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", INVALID, INVALID),
            Self::StreamMissing => (StatusCode::BAD_REQUEST, "stream_missing", INVALID, INVALID),
            Self::StreamNotFound => (StatusCode::NOT_FOUND, "stream_not_found", INVALID, "not_found_error"),
            Self::PathNotFound => (StatusCode::NOT_FOUND, "path_not_found", INVALID, "not_found_error"),
            Self::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "foreign_origin", "authentication_error", "permission_error")
            }
            Self::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host", "authentication_error", "permission_error"),
            Self::RepeatedHost => (StatusCode::BAD_REQUEST, "repeated_host", INVALID, INVALID),
            Self::KeysMissing => (StatusCode::FORBIDDEN, "keys_missing", "authentication_error", "permission_error"),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "authentication_error", "authentication_error")
            }
            Self::ModelNotAllowed => {
                (StatusCode::FORBIDDEN, "model_not_allowed", "authentication_error", "permission_error")
            }
            Self::NotAdmin => (StatusCode::FORBIDDEN, "not_admin", "authentication_error", "permission_error"),
            Self::KeyLimit => (StatusCode::TOO_MANY_REQUESTS, "key_limit", "rate_limit_error", "rate_limit_error"),
            Self::BadHead => (StatusCode::BAD_REQUEST, "bad_head", INVALID, INVALID),
            Self::HeadTooLong => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_long", INVALID, INVALID),
            Self::HeadTooSlow => (StatusCode::REQUEST_TIMEOUT, "head_too_slow", INVALID, INVALID),
            Self::BadBody => (StatusCode::BAD_REQUEST, "bad_body", INVALID, INVALID),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", INVALID, INVALID),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", INVALID, "request_too_large"),
            Self::UnsupportedEncoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", INVALID, INVALID),
            Self::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full", "rate_limit_error", "rate_limit_error"),
            Self::QueueTimeout => (StatusCode::SERVICE_UNAVAILABLE, "queue_timeout", SERVER, "overloaded_error"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", SERVER, "overloaded_error"),
            Self::TooManyConnections => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", SERVER, "overloaded_error")
            }
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down", SERVER, "overloaded_error"),
            Self::ServerFailed => (StatusCode::SERVICE_UNAVAILABLE, "server_failed", SERVER, "api_error"),
            Self::ServerNotReady => (StatusCode::SERVICE_UNAVAILABLE, "server_not_ready", SERVER, "api_error"),
            Self::ServerStopped => (StatusCode::SERVICE_UNAVAILABLE, "server_stopped", SERVER, "api_error"),
            Self::NoMemory => (StatusCode::SERVICE_UNAVAILABLE, "no_memory", SERVER, "api_error"),
            Self::ServerCrashed => (StatusCode::BAD_GATEWAY, "server_crashed", SERVER, "api_error"),
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", SERVER, "api_error"),
        }
    }

    /// Its word in answers, metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        self.shape().1
    }

    /// Whether the server is to blame, and not what was asked or when.
    pub(crate) const fn is_of_server(self) -> bool {
        matches!(self, Self::ServerFailed | Self::ServerCrashed | Self::UpstreamTimeout)
    }

    /// Whether the same request, sent again at once, may succeed. Clients retry by themselves unless they are told not to.
    const fn may_retry(self) -> bool {
        matches!(
            self,
            Self::QueueFull
                | Self::KeyLimit
                | Self::QueueTimeout
                | Self::Overloaded
                | Self::TooManyConnections
                | Self::ShuttingDown
                | Self::ServerCrashed
                | Self::UpstreamTimeout
                | Self::HeadTooSlow
                | Self::BodyTooSlow
        )
    }
}

impl From<BodyRefused> for Fault {
    fn from(BodyRefused { because, message }: BodyRefused) -> Self {
        let code = match because {
            BodyRefusal::Broken => RouteFaultCode::BadBody,
            BodyRefusal::TooSlow => RouteFaultCode::BodyTooSlow,
            BodyRefusal::TooLong => RouteFaultCode::BodyTooLarge,
            BodyRefusal::Encoded => RouteFaultCode::UnsupportedEncoding,
            BodyRefusal::NoRoom => return Self::new(RouteFaultCode::Overloaded, message).retry_after(5),
        };
        Self::new(code, message)
    }
}

impl Fault {
    pub(crate) fn new(code: RouteFaultCode, message: impl Into<String>) -> Self {
        Self { code, message: naming_program(message.into()), retry_after: None, is_final: false }
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.clamp(SOONEST, LATEST));
        self
    }

    /// With the time after which a request is expected to go, else after so many seconds.
    #[must_use]
    pub(crate) fn retry_when(self, expected: Option<Duration>, unknown: u32) -> Self {
        // Up, since a moment too late is better than one too early.
        let seconds = expected.map(|time| u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(LATEST));
        self.retry_after(seconds.unwrap_or(unknown))
    }

    /// Tells clients not to send the request again.
    #[must_use]
    pub(crate) fn never_again(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// The error as a body in this dialect.
    pub(crate) fn body(&self, dialect: ErrorDialect, request: &str) -> Json {
        let (_, code, openai, anthropic) = self.code.shape();
        match dialect {
            ErrorDialect::OpenAi => {
                json!({ "error": { "message": self.message, "type": openai, "param": null, "code": code } })
            }
            ErrorDialect::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic, "message": self.message },
                "request_id": request,
            }),
        }
    }

    pub(crate) fn response(&self, dialect: ErrorDialect, request: &str) -> Response<String> {
        let (status, ..) = self.code.shape();
        let mut response = json_response(status, &self.body(dialect, request));
        let headers = response.headers_mut();
        if self.code == RouteFaultCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == RouteFaultCode::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_final || !self.code.may_retry() && self.retry_after.is_none() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    /// The events that end a stream whose first events the client has already, and the chunk that ends the body.
    pub(crate) fn stream_end(&self, path: &str, request: &str) -> Bytes {
        error_event(path, &self.body(ErrorDialect::of(path), request))
    }
}

/// An error of llama-server as the event that ends a stream whose head the client has already.
pub(crate) fn passed_on(path: &str, request: &str, status: StatusCode, body: &[u8]) -> Bytes {
    let parsed: Option<Json> = serde_json::from_slice(body).ok();
    let text = || json!({ "message": String::from_utf8_lossy(body), "type": "server_error", "code": status.as_u16() });
    let error = parsed.and_then(|body| body.get("error").cloned()).unwrap_or_else(text);
    if ErrorDialect::of(path) == ErrorDialect::OpenAi {
        return error_event(path, &json!({ "error": error }));
    }
    let kind = match status.as_u16() {
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let error = json!({ "type": kind, "message": error.get("message").unwrap_or(&error) });
    error_event(path, &json!({ "type": "error", "error": error, "request_id": request }))
}

fn error_event(path: &str, body: &Json) -> Bytes {
    let names_events = ErrorDialect::of(path) == ErrorDialect::Anthropic || path.ends_with("/responses");
    let event = if names_events { "event: error\n" } else { "" };
    format!("\n\n{event}data: {body}\n\n").into()
}

pub(crate) fn json_response(status: StatusCode, body: &Json) -> Response<String> {
    let mut response = Response::new(body.to_string());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of the design, row by row: status, types, and the headers that tell clients whether to come again.
    #[test]
    fn each_error_has_its_status_types_and_headers() {
        use RouteFaultCode::*;
        const INVALID: &str = "invalid_request_error";
        const AUTH: &str = "authentication_error";
        let fault = |code| Fault::new(code, "why");
        let soon = |code| Fault::new(code, "why").retry_after(7);
        let never = Some("false");
        for (fault, status, code, openai, anthropic, retry_after, should_retry) in [
            (fault(ModelMissing), 400, "model_missing", INVALID, INVALID, None, never),
            (fault(ModelNotFound), 404, "model_not_found", INVALID, "not_found_error", None, never),
            (fault(Unauthorized), 401, "unauthorized", AUTH, AUTH, None, never),
            (fault(ModelNotAllowed), 403, "model_not_allowed", AUTH, "permission_error", None, never),
            (fault(ForeignOrigin), 403, "foreign_origin", AUTH, "permission_error", None, never),
            (fault(ForeignHost), 403, "foreign_host", AUTH, "permission_error", None, never),
            (fault(BodyTooLarge), 413, "body_too_large", INVALID, "request_too_large", None, never),
            (fault(UnsupportedEncoding), 415, "unsupported_encoding", INVALID, INVALID, None, never),
            (soon(QueueFull), 429, "queue_full", "rate_limit_error", "rate_limit_error", Some("7"), None),
            (soon(KeyLimit), 429, "key_limit", "rate_limit_error", "rate_limit_error", Some("7"), None),
            (soon(QueueTimeout), 503, "queue_timeout", "server_error", "overloaded_error", Some("7"), None),
            (soon(Overloaded), 503, "overloaded", "server_error", "overloaded_error", Some("7"), None),
            (soon(ShuttingDown), 503, "shutting_down", "server_error", "overloaded_error", Some("7"), None),
            (soon(ServerFailed), 503, "server_failed", "server_error", "api_error", Some("7"), None),
            (fault(ServerFailed), 503, "server_failed", "server_error", "api_error", None, never),
            (soon(ServerNotReady), 503, "server_not_ready", "server_error", "api_error", Some("7"), None),
            (fault(ServerNotReady), 503, "server_not_ready", "server_error", "api_error", None, never),
            (fault(BadHead), 400, "bad_head", INVALID, INVALID, None, never),
            (fault(HeadTooLong), 431, "head_too_long", INVALID, INVALID, None, never),
            (fault(HeadTooSlow), 408, "head_too_slow", INVALID, INVALID, None, None),
            (fault(ServerStopped), 503, "server_stopped", "server_error", "api_error", None, never),
            (fault(NoMemory), 503, "no_memory", "server_error", "api_error", None, never),
            (soon(ServerCrashed), 502, "server_crashed", "server_error", "api_error", Some("7"), None),
            (fault(ServerCrashed).never_again(), 502, "server_crashed", "server_error", "api_error", None, never),
            (fault(UpstreamTimeout), 504, "upstream_timeout", "server_error", "api_error", None, None),
        ] {
            let answer = fault.response(ErrorDialect::OpenAi, "r1");
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(answer.status().as_u16(), status, "{code}");
            assert_eq!(header("retry-after").as_deref(), retry_after, "{code}");
            assert_eq!(header("x-should-retry").as_deref(), should_retry, "{code}");
            assert_eq!(header("www-authenticate").is_some(), status == 401, "{code}");
            let body = fault.body(ErrorDialect::OpenAi, "r1");
            let expected = json!({ "error": { "message": "why", "type": openai, "param": null, "code": code } });
            assert_eq!(body, expected);
            let body = fault.body(ErrorDialect::Anthropic, "r1");
            let error = json!({ "type": anthropic, "message": "why" });
            assert_eq!(body, json!({ "type": "error", "error": error, "request_id": "r1" }));
        }
    }

    #[test]
    fn the_time_of_another_try_is_rounded_up_and_within_what_clients_obey() {
        let seconds = |expected| Fault::new(RouteFaultCode::QueueFull, "why").retry_when(expected, 5).retry_after;
        for (milliseconds, expected) in [(0, 1), (1500, 2), (119_001, 120), (3_600_000, 120), (u64::MAX, 120)] {
            assert_eq!(seconds(Some(Duration::from_millis(milliseconds))), Some(expected), "{milliseconds} ms");
        }
        assert_eq!(seconds(None), Some(5), "nothing is known");
    }

    #[test]
    fn an_error_of_llama_server_ends_a_stream_in_the_dialect_of_the_path() {
        let error = br#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#;
        let event = |path, body: &[u8]| {
            let bytes = passed_on(path, "r1", StatusCode::BAD_REQUEST, body);
            String::from_utf8(bytes.to_vec()).expect("text").trim().to_owned()
        };
        let chat = event("/v1/chat/completions", error);
        assert!(chat.starts_with("data: {\"error\":{") && chat.contains("exceed_context_size_error"), "{chat}");
        let messages = event("/v1/messages", error);
        assert!(messages.starts_with("event: error\ndata: {"), "{messages}");
        assert!(messages.contains("\"type\":\"invalid_request_error\"") && messages.contains("too long"), "{messages}");
        assert!(event("/v1/responses", error).starts_with("event: error\ndata: {"));
        assert!(event("/v1/completions", b"Not Found").contains("Not Found"));
    }
}
