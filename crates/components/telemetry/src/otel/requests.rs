//! Builds spans of finished requests: one of the router, and below it one of what the server did.
//!
//! The attributes are those of the semantic conventions for HTTP and for generative AI; never a prompt, a body or a key.

use std::time::SystemTime;

use llama_warden_events::ServerId;
use llama_warden_traffic::{FinishedRequest, RequestOutcome, TrafficRoute};
use opentelemetry::trace::{SpanKind, TraceId};

use super::context::SpanContext;
use super::span::Tracer;

/// Makes the spans of a request. `launch` is the start that it waited for.
pub(super) fn record(tracer: &Tracer, request: &FinishedRequest, launch: Option<SpanContext>) {
    let route = http_route(request);
    let method = request.method.as_str();
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut span = match request.parent {
        Some(parent) => tracer.child(parent.into(), &name, SpanKind::Server, request.at),
        None => tracer.root(TraceId::from(fastrand::u128(1..)), &name, SpanKind::Server, request.at),
    };
    span.describe("http.request.method", method);
    span.describe("url.path", &*request.path);
    span.describe("http.request.body.size", request.bytes_in);
    span.describe("http.response.body.size", request.bytes_out);
    span.describe("llama_warden.outcome", request.outcome.as_str());
    if let Some(route) = route {
        span.describe("http.route", route);
    }
    if let Some(client) = request.client {
        span.describe("client.address", &*client.to_string());
    }
    if let Some(status) = request.status {
        span.describe("http.response.status_code", i64::from(status));
    }
    if let Some(error) = error_type(request) {
        span.describe("error.type", &*error);
    }
    if let Some(launch) = launch {
        span.link(launch);
    }
    // What the client did wrong is no error of the one that serves it.
    let failed = matches!(request.outcome, RequestOutcome::ServerError | RequestOutcome::StreamError);
    if failed || request.status.is_some_and(|status| status >= 500) {
        span.fail(request.code.unwrap_or_default());
    }
    if let Some(sent) = request.sent {
        work(tracer, request, request.at + sent, span.context());
    }
    tracer.end(span, request.at + request.took);
}

/// The span of what the server did.
fn work(tracer: &Tracer, request: &FinishedRequest, sent: SystemTime, parent: SpanContext) {
    let server = request.server.as_ref().map(ServerId::as_str).unwrap_or_default();
    let operation = operation(request.route);
    let mut span = tracer.child(parent, &format!("{operation} {server}"), SpanKind::Client, sent);
    span.describe("gen_ai.operation.name", operation);
    span.describe("gen_ai.provider.name", "llama.cpp");
    span.describe("llama_warden.server.id", server);
    span.describe("llama_warden.wait_ms", request.waited.as_secs_f64() * 1000.0);
    span.describe("llama_warden.retries", i64::from(request.retries));
    for (key, text) in [
        ("gen_ai.request.model", &request.model),
        ("gen_ai.response.model", &request.answer.model),
        ("gen_ai.response.id", &request.answer.id),
    ] {
        if let Some(text) = text {
            span.describe(key, &**text);
        }
    }
    if let Some(reason) = &request.answer.finish_reason {
        span.describe_by_texts("gen_ai.response.finish_reasons", std::iter::once(&**reason));
    }
    if let Some(tokens) = request.tokens {
        // With those of the cache, as the conventions ask for.
        span.describe("gen_ai.usage.input_tokens", tokens.input + tokens.cached);
        span.describe("gen_ai.usage.output_tokens", tokens.output);
    }
    if let Some(incarnation) = request.incarnation {
        span.describe("llama_warden.server.incarnation", incarnation.get());
    }
    if let Some(error) = error_type(request) {
        span.describe("error.type", &*error);
    }
    if !matches!(request.outcome, RequestOutcome::Ok | RequestOutcome::Cancelled) {
        span.fail(request.code.unwrap_or_default());
    }
    tracer.end(span, request.at + request.took);
}

fn error_type(request: &FinishedRequest) -> Option<String> {
    Some(match (request.code, request.outcome) {
        (Some(code), _) => code.to_owned(),
        (None, RequestOutcome::Ok) => return None,
        (None, RequestOutcome::ClientError | RequestOutcome::ServerError) => request.status?.to_string(),
        (None, outcome) => outcome.as_str().to_owned(),
    })
}

/// The path, where it is one of few: the name of a span is to be one of few.
fn http_route(request: &FinishedRequest) -> Option<&str> {
    match (request.route, &*request.path) {
        (_, path) if path.starts_with("/upstream/") => Some("/upstream/{server}"),
        (_, path) if path.starts_with("/slots/") => Some("/slots/{slot}"),
        (TrafficRoute::Other, path) => ["/v1/models", "/models", "/running"].into_iter().find(|known| *known == path),
        (_, path) => Some(path),
    }
}

const fn operation(route: TrafficRoute) -> &'static str {
    match route {
        TrafficRoute::Chat | TrafficRoute::Responses | TrafficRoute::Messages => "chat",
        TrafficRoute::Completions | TrafficRoute::Infill => "text_completion",
        other => other.as_str(),
    }
}
