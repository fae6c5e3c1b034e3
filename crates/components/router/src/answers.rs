//! Errors of the router, in the dialect of the path, with a `code` from a closed set.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value as Json, json};

use crate::relay::AnswerBody;
use crate::routes::ErrorDialect;

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
    KeysMissing,
    Unauthorized,
    ModelNotAllowed,
    NotAdmin,
    KeyLimit,
    BadBody,
    BodyTooSlow,
    BodyTooLarge,
    UnsupportedEncoding,
    QueueFull,
    QueueTimeout,
    Overloaded,
    ShuttingDown,
    ServerFailed,
    ServerStopped,
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
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin", INVALID, "permission_error"),
            Self::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host", INVALID, "permission_error"),
            Self::KeysMissing => (StatusCode::FORBIDDEN, "keys_missing", "authentication_error", "permission_error"),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "authentication_error", "authentication_error")
            }
            Self::ModelNotAllowed => {
                (StatusCode::FORBIDDEN, "model_not_allowed", "authentication_error", "permission_error")
            }
            Self::NotAdmin => (StatusCode::FORBIDDEN, "not_admin", "authentication_error", "permission_error"),
            Self::KeyLimit => (StatusCode::TOO_MANY_REQUESTS, "key_limit", "rate_limit_error", "rate_limit_error"),
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
            Self::ServerStopped => (StatusCode::SERVICE_UNAVAILABLE, "server_stopped", SERVER, "api_error"),
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
                | Self::BodyTooSlow
        )
    }
}

impl Fault {
    pub(crate) fn new(code: RouteFaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None, is_final: false }
    }

    #[must_use]
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.clamp(1, 120));
        self
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

    pub(crate) fn response(&self, dialect: ErrorDialect, request: &str) -> Response<AnswerBody> {
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
        let dialect = ErrorDialect::of(path);
        let body = self.body(dialect, request);
        let names_events = dialect == ErrorDialect::Anthropic || path.ends_with("/responses");
        let event = if names_events { "event: error\n" } else { "" };
        format!("\n\n{event}data: {body}\n\n").into()
    }
}

pub(crate) fn json_response(status: StatusCode, body: &Json) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
